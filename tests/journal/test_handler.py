"""What is logged reaches the database, all of it or with a word about what did not; the program never waits for it."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import medalion
from medalion.core.enums import LogLevel
from medalion.journal.handler import DatabaseLogHandler
from medalion.store.store import Store
from oltp.repositories.unit_of_work import acting_as
from oltp.server.engine import Postgres
from tests.support.commands import ROOT
from tests.support.postgres import admin_url
from tests.support.server import libpq


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of the test's own, which passes nothing on."""
    made = logging.Logger(f"bot.{uuid4().hex}")
    yield made
    for handler in made.handlers:
        handler.close()


@pytest.fixture
def nowhere() -> Iterator[Postgres]:
    """A server's address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        postgres = Postgres(f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nothing")
        postgres._pool.open()
        yield postgres
        postgres.close()


def messages(url: str) -> list[str]:
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute("SELECT message FROM application_logs ORDER BY id").fetchall()
    return [message for (message,) in rows]


def test_nothing_of_a_burst_is_lost(store: Store, database_url: str, logger: logging.Logger) -> None:
    logger.addHandler(store.journal.handler())

    def speak(thread: int) -> None:
        for number in range(625):
            logger.info("%d of %d", number, thread)

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.handlers[0].flush()
    assert sorted(messages(database_url)) == sorted(f"{n} of {thread}" for n in range(625) for thread in range(8))


def test_a_record_keeps_all_that_was_known(store: Store, logger: logging.Logger) -> None:
    logger.addHandler(store.journal.handler())
    with acting_as("bot", correlation_id="run-7"):
        try:
            raise ValueError("bad tick")
        except ValueError:
            logger.exception("late by %d ms", 12, extra={"price": Decimal("1.10"), "path": [1, {"a": None}]})
    logger.handlers[0].flush()
    (line,) = store.journal.recent_logs()
    assert (line.log_level, line.category, line.message) == (LogLevel.ERROR, logger.name, "late by 12 ms")
    assert line.exception == "ValueError: bad tick"
    assert line.stack_trace is not None
    assert 'raise ValueError("bad tick")' in line.stack_trace
    assert line.correlation_id == "run-7"
    assert line.additional_data == {"price": "1.10", "path": [1, {"a": None}]}
    assert line.source is not None
    assert line.source.startswith("test_handler.test_a_record_keeps_all_that_was_known:")
    assert abs(line.log_timestamp.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("number", "level"),
    [(5, "trace"), (10, "debug"), (20, "information"), (25, "information"), (30, "warning"), (40, "error")],
)
def test_levels_are_those_of_the_journal(store: Store, logger: logging.Logger, number: int, level: str) -> None:
    logger.addHandler(store.journal.handler(logging.NOTSET))
    logger.log(number, "said")
    logger.handlers[0].flush()
    assert [line.log_level for line in store.journal.recent_logs()] == [level]


def test_what_is_below_the_level_is_left_out(store: Store, database_url: str, logger: logging.Logger) -> None:
    logger.addHandler(store.journal.handler(logging.WARNING))
    logger.info("no")
    logger.warning("yes")
    logger.handlers[0].flush()
    assert messages(database_url) == ["yes"]


class Mute:
    """Fails whenever it is to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not now")


def test_what_cannot_be_shown_or_stored_is_logged_all_the_same(
    store: Store, database_url: str, logger: logging.Logger
) -> None:
    logger.addHandler(store.journal.handler())
    endless: list[object] = []
    endless.append(endless)
    logger.info("%d", "word")
    logger.info("%s", Mute())
    logger.info(
        "a\x00b \ud83d", extra={"a\x00b": "\ud83d\x00", "mute": Mute(), "endless": endless, "nan": float("nan")}
    )
    logger.info("x" * 200_000, extra={"huge": 10**5000, "keys": {Mute(): 1}})
    logger.handlers[0].flush()
    first, second, third, fourth = messages(database_url)
    assert first == "<TypeError when this was to be shown>"
    assert second == "<RuntimeError when this was to be shown>"
    assert third == "a�b ?"
    assert fourth.endswith("… (200000 long)")
    assert store.journal.recent_logs()[0].additional_data == {"unreadable": True}


def test_a_full_queue_gives_up_the_oldest_and_says_so(store: Store, database_url: str, logger: logging.Logger) -> None:
    postgres = store._parts.postgres
    handler = DatabaseLogHandler(postgres, capacity=10, batch=100, interval=60)
    logger.addHandler(handler)
    for number in range(25):
        logger.info("%d", number)
    handler.flush()
    assert handler.lost == 15
    assert messages(database_url) == [
        *map(str, range(15, 25)),
        "15 log records were lost: more came than could be written",
    ]
    (line,) = store.journal.recent_logs(level="warning")
    assert (line.category, line.additional_data) == ("medalion.journal.handler", {"lost": 15})


def test_without_a_server_nothing_waits_and_nothing_is_raised(
    nowhere: Postgres, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    handler = DatabaseLogHandler(nowhere, capacity=100, interval=0.01)
    logger.addHandler(handler)
    for number in range(1_000):  # were each to wait for the server, the test would run out of time
        logger.info("%d", number)
    handler.close(timeout=0.3)
    assert handler.lost == 1_000
    assert caplog.text.count("rows of application_logs wait") <= 1
    assert "rows of application_logs are lost" in caplog.text


def test_records_wait_for_a_server_that_comes_back(store: Store, database_url: str, logger: logging.Logger) -> None:
    handler = DatabaseLogHandler(store._parts.postgres, interval=0.05)
    logger.addHandler(handler)
    logger.info("before")
    handler.flush()
    name = sql.Identifier(str(store._parts.postgres.url.database))
    with psycopg.connect(libpq(admin_url().render_as_string(hide_password=False)), autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name.as_string()[1:-1],)
            )
            logger.info("meanwhile")
            handler.flush(timeout=0.5)
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    handler.flush(timeout=30)
    assert messages(database_url) == ["before", "meanwhile"]


def test_closing_the_store_writes_what_waits(database_url: str, data_dir: object, logger: logging.Logger) -> None:
    with medalion.open(database_url, data_dir=str(data_dir), mirror_background=False) as store:
        logger.addHandler(store.journal.handler())
        for number in range(1_200):
            logger.info("%d", number)
    assert messages(database_url) == [str(number) for number in range(1_200)]
    logger.info("too late")
    logger.handlers[0].flush()
    assert len(messages(database_url)) == 1_200


def test_writing_is_not_logged_about(store: Store, database_url: str) -> None:
    handler = store.journal.handler(logging.NOTSET)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    try:
        logging.getLogger("psycopg.pool").warning("about the pool")
        logging.getLogger("bot").info("about the bot")
        handler.flush()
        handler.flush()
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert [m for m in messages(database_url) if m.startswith("about")] == ["about the bot"]


_INTERRUPTED = """
import logging, signal, sys
import medalion

def interrupt(*_):
    logger.info("alarm")
    signal.setitimer(signal.ITIMER_REAL, 0.001)  # the next one only now: on a slow machine they would pile up

with medalion.open(sys.argv[1], data_dir=sys.argv[2], mirror_background=False) as store:
    logger = logging.Logger("bot.signals")
    handler = store.journal.handler()
    logger.addHandler(handler)
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    for number in range(5_000):
        logger.info("%d", number)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    handler.flush(60.0)
    sys.exit(handler.lost)
"""


def test_a_record_made_while_another_is_queued_waits_for_nothing(database_url: str, data_dir: object) -> None:
    # In a process of its own: coverage has a lock too, and an interrupted program would wait for itself at that.
    command = [sys.executable, "-c", _INTERRUPTED, database_url, str(data_dir)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=100)
    said = messages(database_url)
    assert [m for m in said if m != "alarm"] == [str(number) for number in range(5_000)]
    assert "alarm" in said


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_neither_writes_nor_hangs(store: Store, database_url: str, logger: logging.Logger) -> None:
    logger.addHandler(store.journal.handler())
    logger.info("parent")
    child = os.fork()
    if child == 0:
        logger.info("child")
        logger.handlers[0].flush()
        logger.handlers[0].close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    logger.handlers[0].flush()
    assert messages(database_url) == ["parent"]
