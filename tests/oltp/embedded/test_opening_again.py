"""Whatever a crash of processes, containers or the machine leaves behind, the server opens again, each time."""

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oltp.server.embedded import EmbeddedPostgres
from oltp.server.process import PORT
from tests.support.server_processes import Client, answers, has_row, postmasters, processes, server_user, write_row

TIMES = int(os.environ.get("MEDALION_OPENINGS", "8"))


def left_behind(pgdata: Path, pid: int) -> None:
    """What a server of that pid leaves when it has no time to remove anything."""
    (pgdata / "postmaster.pid").write_text(f"{pid}\n{pgdata}\n1\n{PORT}\n{pgdata}\n\n  1 1\nready\n")
    lock = pgdata / f".s.PGSQL.{PORT}.lock"
    lock.write_text(f"{pid}\n{pgdata}\n1\n{PORT}\n{pgdata}\n")
    owner = pgdata.stat()
    for path in (lock, pgdata / "postmaster.pid"):
        os.chown(path, owner.st_uid, owner.st_gid)


def test_user_and_server_killed_together_and_opened_at_once(data_dir: Path, client: Callable[..., Client]) -> None:
    for _ in range(TIMES):
        user = client(data_dir)
        user.url()
        os.kill(postmasters(data_dir)[0], signal.SIGKILL)
        user.kill()
        with EmbeddedPostgres.start(data_dir) as server:
            write_row(server)
        assert processes(data_dir) == {}
    with EmbeddedPostgres.start(data_dir) as server:
        assert has_row(server)


@pytest.mark.parametrize("program", ["sleep", "true"], ids=["a living process", "a zombie nobody reaps"])
def test_every_file_of_a_dead_server_may_name_a_pid_that_was_given_away(data_dir: Path, program: str) -> None:
    pgdata = data_dir / "postgres"
    other = subprocess.Popen([program, "60"], cwd="/", **server_user(pgdata))  # type: ignore[call-overload]
    if program == "true":
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    left_behind(pgdata, other.pid)
    with EmbeddedPostgres.start(data_dir) as server:
        assert answers(server)
    other.kill()
    other.wait()


def test_after_a_boot_the_sockets_are_gone_and_pids_are_those_of_others(copy: Path) -> None:
    with EmbeddedPostgres.start(copy) as server:
        write_row(server)
        killed = list(processes(copy))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
    pgdata = copy / "postgres"
    left_behind(pgdata, 1)
    (pgdata / f".s.PGSQL.{PORT}").unlink(missing_ok=True)
    for name in ("postgres.gate", "postgres.users", "postgres.server"):
        assert (copy / name).exists()
    with EmbeddedPostgres.start(copy) as server:
        assert has_row(server)


@pytest.mark.parametrize(
    ("name", "kind", "limit"),
    [
        ("Max open files", resource.RLIMIT_NOFILE, 40),
        ("Max file size", resource.RLIMIT_FSIZE, 4096),
        ("Max cpu time", resource.RLIMIT_CPU, 1000),
        ("Max core file size", resource.RLIMIT_CORE, 0),
    ],
)
def test_the_server_has_limits_of_its_own(data_dir: Path, name: str, kind: int, limit: int) -> None:
    before = resource.getrlimit(kind)
    if kind == resource.RLIMIT_NOFILE:
        limit = max(limit, len(list(Path("/proc/self/fd").iterdir())) + 20)  # the tests before have some open
    resource.setrlimit(kind, (limit, before[1]))
    try:
        server = EmbeddedPostgres.start(data_dir)
        assert resource.getrlimit(kind) == (limit, before[1]), "the opener keeps its own"
    finally:
        resource.setrlimit(kind, before)
    with server:
        (postmaster,) = postmasters(data_dir)
        listed = Path(f"/proc/{postmaster}/limits").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in listed if line.startswith(name))
        soft, hard = line.removeprefix(name).split()[:2]
        assert soft == hard
        write_row(server)
