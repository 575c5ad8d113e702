"""The embedded server: shared, stopped by the last one out, and fooled by nothing that a crash leaves behind."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from medalion.errors import InputError, StoreError, StoreUnavailableError
from oltp import embedded_place
from oltp.embedded import EmbeddedPostgres
from oltp.embedded_place import binaries

ROOT = Path(__file__).parents[1]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes user")

CLIENT = """
import os, sys
from pathlib import Path
import oltp.embedded
if sys.argv[2:]:
    os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[2]))
with oltp.embedded.EmbeddedPostgres.start(Path(sys.argv[1])) as server:
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


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = short_folder()
    monkeypatch.setattr(embedded_place, "SHARED_PLACE", place / "shared")
    yield place
    kill_all(place)
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data folder that was used and closed: initdb takes a second."""
    place = short_folder()
    with EmbeddedPostgres.start(place / "data"):
        pass
    yield place / "data"
    shutil.rmtree(place)


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """A data folder without a server, for tests that leave it whole."""
    yield made
    kill_all(made)


@pytest.fixture
def copy(made: Path, place: Path) -> Path:
    """A data folder of its own for a test that damages it."""
    return copied(made, place / "data")


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


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(data_dir: Path, *user: int) -> Client:
        clients.append(Client(data_dir, *user))
        return clients[-1]

    yield start
    for one in clients:
        if one.process.poll() is None:
            one.kill()


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


def test_two_processes_share_one_server_and_the_last_one_out_stops_it(
    data_dir: Path, client: Callable[..., Client]
) -> None:
    other = client(data_dir)
    url = other.url()
    with EmbeddedPostgres.start(data_dir) as server:
        assert server.url == url
        (postmaster,) = postmasters(data_dir)
        assert other.leave() == ""
        assert postmasters(data_dir) == [postmaster]
        assert answers(server)
    assert processes(data_dir) == {}


def test_two_shares_in_one_process_are_two_and_stopping_twice_counts_once(data_dir: Path) -> None:
    first, second = EmbeddedPostgres.start(data_dir), EmbeddedPostgres.start(data_dir)
    first.stop()
    first.stop()
    assert len(postmasters(data_dir)) == 1
    second.stop()
    assert processes(data_dir) == {}


def test_a_killed_user_is_not_waited_for_by_the_last_one_out(data_dir: Path, client: Callable[..., Client]) -> None:
    other = client(data_dir)
    other.url()
    server = EmbeddedPostgres.start(data_dir)
    other.kill()
    assert answers(server)
    server.stop()
    assert processes(data_dir) == {}


def test_a_server_whose_users_were_all_killed_is_found_and_stopped_by_the_next(
    data_dir: Path, client: Callable[..., Client]
) -> None:
    other = client(data_dir)
    other.url()
    other.kill()
    (orphaned,) = postmasters(data_dir)
    with EmbeddedPostgres.start(data_dir):
        assert postmasters(data_dir) == [orphaned]
    assert processes(data_dir) == {}


def test_ctrl_c_in_the_terminal_of_its_starter_does_not_reach_the_server(
    data_dir: Path, client: Callable[..., Client]
) -> None:
    other = client(data_dir)
    other.url()
    with EmbeddedPostgres.start(data_dir) as server:
        other.kill(signal.SIGINT)
        write_row(server)
        assert has_row(server)


def test_committed_rows_survive_a_killed_postmaster_even_while_an_orphaned_backend_still_works(data_dir: Path) -> None:
    before = EmbeddedPostgres.start(data_dir)
    write_row(before)
    busy = connect(before)
    loop = """DO $$ DECLARE until timestamptz := clock_timestamp() + interval '1.5 s';
              BEGIN WHILE clock_timestamp() < until LOOP END LOOP; END $$"""

    def work() -> None:
        # The orphan finishes what it does, or notices in time; either is well.
        with suppress(psycopg.OperationalError):
            busy.execute(loop)

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.2)
    begun = time.monotonic()
    os.kill(postmasters(data_dir)[0], signal.SIGKILL)
    with EmbeddedPostgres.start(data_dir) as after:
        assert time.monotonic() - begun > 0.8, "two servers must never share a data folder"
        assert has_row(after)
        before.stop()
        assert has_row(after)
    worker.join()
    busy.close()
    assert processes(data_dir) == {}


@pytest.mark.parametrize("program", ["sleep", "true"], ids=["reused pid", "zombie"])
def test_a_stale_pid_file_fools_nobody(data_dir: Path, program: str) -> None:
    pgdata = data_dir / "postgres"
    other = subprocess.Popen([program, "60"], cwd="/", **server_user(pgdata))  # type: ignore[call-overload]
    (pgdata / "postmaster.pid").write_text(f"{other.pid}\n{pgdata}\n1\n5432\n{pgdata}\n\n  1 1\nready\n")
    with EmbeddedPostgres.start(data_dir) as server:
        assert answers(server)
    assert processes(data_dir) == {}
    if program == "sleep":
        assert other.poll() is None
        other.kill()
    other.wait()


def test_deleted_lock_files_do_not_lead_to_a_second_server(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir):
        (running,) = postmasters(data_dir)
        (data_dir / "postgres.server").unlink()
        with EmbeddedPostgres.start(data_dir):
            assert postmasters(data_dir) == [running]
    assert processes(data_dir) == {}


def test_six_processes_at_once_get_one_server_also_after_a_start_that_was_killed_inside_initdb(
    place: Path, client: Callable[..., Client]
) -> None:
    data_dir = place / "data"
    killed = client(data_dir)
    await_that(lambda: list(data_dir.glob("postgres.init-*/base")))
    killed.kill()
    assert not (data_dir / "postgres").exists()
    clients = [client(data_dir) for _ in range(6)]
    urls = {one.url() for one in clients}
    assert len(urls) == 1
    assert "host=" in urls.pop()
    assert len(postmasters(place)) == 1
    for one in clients:
        one.leave()
        assert one.process.returncode == 0
    assert processes(place) == {}
    names = {path.name for path in data_dir.iterdir()}
    assert names == {"postgres", "postgres.gate", "postgres.log", "postgres.server", "postgres.users"}


def test_a_forked_child_neither_stops_the_server_nor_keeps_it_alive(data_dir: Path) -> None:
    server = EmbeddedPostgres.start(data_dir)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        server.stop()
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    time.sleep(0.3)
    assert answers(server)
    other = EmbeddedPostgres.start(data_dir)
    server.stop()
    other.stop()
    assert processes(data_dir) == {}
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", ["x" * 90, "a,b"], ids=["long", "comma"])
def test_a_path_that_no_socket_can_have_gets_a_private_folder_that_goes_with_the_server(
    made: Path, place: Path, name: str
) -> None:
    data_dir = copied(made, place / name)
    with EmbeddedPostgres.start(data_dir) as server, connect(server) as connection:
        host = Path(connection.info.host)
        assert stat.S_IMODE(host.stat().st_mode) == 0o700
        assert host.stat().st_uid == (data_dir / "postgres").stat().st_uid
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not host.exists()


def test_a_socket_folder_that_somebody_else_put_there_is_not_trusted(data_dir: Path, place: Path) -> None:
    pgdata, planted = data_dir / "postgres", place / "planted"
    planted.mkdir()
    planted.chmod(0o777)
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(planted / ".s.PGSQL.5432"))
        trap.listen()
        (place / "link").symlink_to(planted)
        (pgdata / "postmaster.pid").write_text(f"1\n{pgdata}\n1\n5432\n{place / 'link'}\n\n  1 1\nready\n")
        with EmbeddedPostgres.start(data_dir) as server:
            assert "link" not in server.url
    assert planted.exists()


def test_only_private_folders_and_no_network(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as server, connect(server) as connection:
        expected = {"listen_addresses": "", "fsync": "on", "synchronous_commit": "on", "jit": "off"}
        expected |= {"TimeZone": "UTC", "server_encoding": "UTF8", "data_checksums": "on"}
        shown = connection.execute("SELECT name, setting FROM pg_settings").fetchall()
        assert {name: setting for name, setting in shown if name in expected} == expected
        assert connection.info.dbname == "medalion"
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "postgres" / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert data_dir.stat().st_mode & 0o067 == 0
        for file in data_dir.glob("postgres.*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_variables_meant_for_another_server_change_nothing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "1",
        "PGDATA": "/nowhere",
        "PGDATABASE": "x",
        "PGUSER": "x",
        "TZ": "Asia/Tokyo",
    }.items():
        monkeypatch.setenv(name, value)
    with EmbeddedPostgres.start(data_dir) as server:
        engine = sa.create_engine(server.url)
        with engine.connect() as connection:
            assert connection.execute(sa.text("SELECT current_user, current_database()")).one() == ("medalion",) * 2
        engine.dispose()


def test_a_long_recovery_is_waited_for_with_a_message_and_a_timeout_leaves_it_going(copy: Path) -> None:
    pgdata = copy / "postgres"
    with EmbeddedPostgres.start(copy) as server:
        write_row(server)
    with (pgdata / "postgresql.conf").open("a") as configuration:
        configuration.write("restore_command = 'sleep 0.8; false'\nhot_standby = off\n")
    (pgdata / "recovery.signal").touch()
    with pytest.raises(StoreUnavailableError, match=r"gave up after 0\.3 s.*recovers"):
        EmbeddedPostgres.start(copy, timeout=0.3)
    (recovering,) = postmasters(copy)
    messages: list[str] = []
    with EmbeddedPostgres.start(copy, report=messages.append) as server:
        assert postmasters(copy) == [recovering]
        assert has_row(server)
    assert len(messages) == 1
    assert str(pgdata) in messages[0]
    assert "recover" in messages[0]
    assert processes(copy) == {}


def test_a_server_that_cannot_start_is_an_error_with_the_end_of_its_log(copy: Path) -> None:
    with (copy / "postgres" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(StoreError, match="no_such_setting"):
        EmbeddedPostgres.start(copy)
    assert processes(copy) == {}


def test_another_major_version_is_refused_and_not_touched(copy: Path) -> None:
    (copy / "postgres" / "PG_VERSION").write_text("17\n")
    before = {path: path.stat().st_mtime_ns for path in (copy / "postgres").rglob("*")}
    with pytest.raises(StoreError, match=r"PostgreSQL 17, this is 18.*pg_dumpall"):
        EmbeddedPostgres.start(copy)
    assert {path: path.stat().st_mtime_ns for path in (copy / "postgres").rglob("*")} == before


def test_a_folder_that_is_no_database_is_refused(place: Path) -> None:
    (place / "data" / "postgres").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(place / "data" / "postgres", 1, 1)
    with pytest.raises(StoreError, match="no PostgreSQL data folder"):
        EmbeddedPostgres.start(place / "data")


def test_the_server_of_a_deleted_data_folder_ends(copy: Path) -> None:
    server = EmbeddedPostgres.start(copy)
    shutil.rmtree(copy)
    server.stop()
    await_that(lambda: processes(copy) == {})


def test_a_data_folder_that_cannot_be_made_is_an_input_error(place: Path) -> None:
    (place / "file").write_text("")
    for given in (place / "file", place / "file" / "data"):
        with pytest.raises(InputError, match="a folder that this user may create") as caught:
            EmbeddedPostgres.start(given)
        assert caught.value.given == given


def test_without_the_extra_the_error_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    with pytest.raises(StoreUnavailableError, match=r"pip install 'medalion\[embedded\]'"):
        EmbeddedPostgres.start(place / "data")


@as_root
def test_root_gets_a_server_that_is_not_root_and_changes_no_folder_outside(place: Path) -> None:
    before = modes(place)
    with EmbeddedPostgres.start(place / "deep" / "data") as server:
        write_row(server)
        owner = (place / "deep" / "data" / "postgres").stat().st_uid
        assert owner != 0
        (postmaster,) = postmasters(place)
        assert Path(f"/proc/{postmaster}").stat().st_uid == owner
    assert modes(place) == before
    assert processes(place) == {}


@as_root
def test_a_data_folder_in_roots_closed_home_points_to_where_the_server_can_reach(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    data_dir = home / "project" / "data"
    data_dir.mkdir(parents=True)
    before = modes(home, data_dir.parent)
    messages: list[str] = []
    with EmbeddedPostgres.start(data_dir, report=messages.append) as server:
        write_row(server)
    location = Path((data_dir / "postgres.location").read_text().strip())
    assert location.parent == place / "shared"
    assert stat.S_IMODE(location.stat().st_mode) == 0o700
    assert [str(location) in message for message in messages] == [True]
    with EmbeddedPostgres.start(data_dir) as server:
        assert has_row(server)
    assert modes(home, data_dir.parent) == before
    shutil.rmtree(data_dir)
    with EmbeddedPostgres.start(data_dir, report=messages.append) as server:
        assert not has_row(server), "a new folder of the same name is a new store"
    shutil.rmtree((data_dir / "postgres.location").read_text().strip())
    with pytest.raises(StoreError, match=r"restore that folder, or remove postgres\.location"):
        EmbeddedPostgres.start(data_dir)
    assert processes(place) == {}


@as_root
def test_programs_in_roots_closed_home_are_copied_to_where_the_server_can_run_them(
    place: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = place / "home" / "site-packages"
    site.mkdir(parents=True)
    (place / "home").chmod(0o700)
    installed = binaries(None).parents[1]
    for part in (installed, installed.with_name(f"{installed.name}.libs")):
        shutil.copytree(part, site / part.name, ignore=shutil.ignore_patterns("pginstall"))
    for path in site.rglob("*"):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    monkeypatch.syspath_prepend(site)
    with EmbeddedPostgres.start(data_dir) as server:
        assert answers(server)
        (running,) = processes(data_dir).values()
        assert running.startswith(f"{place}/shared/bin-")
    assert not list((place / "shared").glob("*.copy-*"))


@as_root
def test_a_shared_place_that_others_may_write_is_refused(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    (place / "shared").mkdir()
    (place / "shared").chmod(0o777)
    with pytest.raises(StoreError, match="nobody else may write"):
        EmbeddedPostgres.start(home / "data")
    assert not (home / "data" / "postgres.location").exists()


@as_root
def test_an_ordinary_user_has_his_own_server_which_root_may_share(place: Path, client: Callable[..., Client]) -> None:
    user = pwd.getpwnam("nobody")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, user.pw_uid, user.pw_gid)
    other = client(home / "data", user.pw_uid, user.pw_gid)
    url = other.url()
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
    with EmbeddedPostgres.start(home / "data") as server:
        assert server.url == url
        assert other.leave() == ""
    with EmbeddedPostgres.start(home / "data"):
        again = client(home / "data", user.pw_uid, user.pw_gid)
        assert again.url() == url
    assert again.leave() == ""
    assert {path.stat().st_uid for path in (home / "data").rglob("*")} == {user.pw_uid}
    assert processes(place) == {}


@as_root
def test_a_folder_without_write_permission_is_refused_before_anything_is_made(
    place: Path, client: Callable[..., Client]
) -> None:
    (place / "data").mkdir()
    user = pwd.getpwnam("nobody")
    for given in (place / "data", place / "missing"):
        said = client(given, user.pw_uid, user.pw_gid).leave()
        assert f"InputError: {'user' if given.exists() else 'cannot make'}" in said
        assert str(given) in said
    assert [*place.rglob("*")] == [place / "data"]
