"""The embedded server is shared, stopped by the last one out, and fooled by nothing that a crash leaves behind."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from oltp.server.embedded import EmbeddedPostgres
from tests.support.server_processes import (
    Client,
    answers,
    await_that,
    connect,
    has_row,
    postmasters,
    processes,
    server_user,
    write_row,
)


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
