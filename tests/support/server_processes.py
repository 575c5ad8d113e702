"""The embedded server seen from outside: its processes, other users of it, and what it holds."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import sqlalchemy as sa

from oltp.server.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]

CLIENT = """
import os, sys
from pathlib import Path
import oltp.server.embedded
if sys.argv[2:]:
    os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[2]))
with oltp.server.embedded.EmbeddedPostgres.start(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.readline()
"""


def processes(place: Path) -> dict[int, str]:
    """The live processes whose command line names `place`, but for zombies."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = (line.split(None, 2) for line in listed.stdout.splitlines())
    return {int(pid): args for pid, state, args in rows if str(place) in args and not state.startswith("Z")}


def postmasters(place: Path) -> list[int]:
    return [pid for pid, args in processes(place).items() if "/postgres -D" in args]


def await_that(holds: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def kill_all(place: Path) -> None:
    # Backends and an initdb's children do not name the folder; they end when they find their parent dead.
    for pid in processes(place):
        os.kill(pid, signal.SIGKILL)


def short_folder() -> Path:
    """A folder with a short path that other users may pass through, which pytest's own is not for root."""
    place = Path(tempfile.mkdtemp(prefix="embedded-"))
    place.chmod(0o755)
    return place


def copied(made: Path, data_dir: Path) -> Path:
    subprocess.run(["cp", "-a", str(made), str(data_dir)], check=True)
    return data_dir


class Client:
    """Another process that uses the server until told to leave."""

    def __init__(self, data_dir: Path, *user: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(data_dir), *map(str, user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> str:
        return self.process.communicate("\n", timeout=30)[1]

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.killpg(self.process.pid, number)
        self.process.communicate(timeout=30)


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    url = sa.make_url(server.url).set(drivername="postgresql")
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def answers(server: EmbeddedPostgres) -> bool:
    with connect(server) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


def write_row(server: EmbeddedPostgres) -> None:
    with connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")


def has_row(server: EmbeddedPostgres) -> bool:
    with connect(server) as connection:
        if connection.execute("SELECT to_regclass('kept')").fetchone() == (None,):
            return False
        return connection.execute("SELECT value FROM kept").fetchone() == (42,)


def server_user(pgdata: Path) -> dict[str, object]:
    """Arguments that start a process as the server's user."""
    owner = pgdata.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}


def modes(*folders: Path) -> list[tuple[Path, int, int, int]]:
    everything = [path for folder in folders for path in (folder, *folder.parents)]
    return [(path, stat.S_IMODE((s := path.stat()).st_mode), s.st_uid, s.st_gid) for path in everything]
