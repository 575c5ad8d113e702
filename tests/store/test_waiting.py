"""No call waits without end: for a server that is silent, a process that was stopped, or a query that never ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import InputError, StoreError, StoreUnavailableError
from medalion.store.store import Store
from oltp.ledger import batches
from oltp.server import engine
from oltp.server.engine import Postgres
from tests.support.observed import instruments, rows_at

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i > 0) SELECT count(*) FROM n"
_LEADER = """
import sys, time
from medalion.core.datasets import STOCK_QUOTES
from oltp.ledger import batches
from oltp.server.engine import Postgres
postgres = Postgres(sys.argv[1])
postgres.open()
with postgres.connection() as connection, batches.maintaining(connection, STOCK_QUOTES):
    with batches.leading(connection, STOCK_QUOTES):
        print("leads", flush=True)
        time.sleep(600)
"""
_WAITING: dict[str, Callable[[Store], object]] = {
    "run": lambda store: store.mirror.run([STOCK_QUOTES]),
    "verify": lambda store: store.mirror.verify([STOCK_QUOTES]),
    "heal": lambda store: store.mirror.verify([STOCK_QUOTES], heal=True),
    "import": lambda store: store.import_history(STOCK_QUOTES, rows_at(90)),
    "compact": lambda store: store.mirror.compact([STOCK_QUOTES]),
    "vacuum": lambda store: store.mirror.vacuum([STOCK_QUOTES]),
    "retain": lambda store: store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta()),
    "rebind": lambda store: store.mirror.rebind([STOCK_QUOTES]),
    "fold": lambda store: store.mirror.fold([STOCK_QUOTES], older_than=timedelta()),
}


@pytest.fixture
def hurried(database_url: str, data_dir: Path) -> Iterator[Store]:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, lock_timeout=0.3) as store:
        instruments(store, STOCK_QUOTES.kind)
        store.write(STOCK_QUOTES, rows_at(0))
        store.mirror.run()
        yield store


def test_a_leader_that_was_stopped_is_named_and_not_waited_for(hurried: Store, database_url: str) -> None:
    command = [sys.executable, "-c", _LEADER, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:
        try:
            assert leader.stdout is not None
            assert leader.stdout.readline() == "leads\n"
            leader.send_signal(signal.SIGSTOP)
            for name, call in _WAITING.items():
                started = time.monotonic()
                with pytest.raises(StoreUnavailableError, match=rf"session \d+ \(medalion, process {leader.pid} of"):
                    call(hurried)
                assert time.monotonic() - started < 10, name
            hurried.write(STOCK_QUOTES, rows_at(20))
            assert hurried.read(STOCK_QUOTES).height == 8
            assert hurried.mirror.run([STOCK_QUOTES], wait=False).rows == 0
            assert hurried.mirror.prune([STOCK_QUOTES]) == 0
        finally:
            leader.kill()
    assert hurried.mirror.run([STOCK_QUOTES]).rows == 4
    assert hurried.mirror.verify().is_empty()


def test_a_server_that_takes_connections_and_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CONNECT_SECONDS", 2)  # the least that the driver takes
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        url = f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/none"
        for use in (Postgres(url).open, lambda: medalion.open(url), lambda: Postgres(url).arrow().__enter__()):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                use()
            assert time.monotonic() - started < 10


def test_a_query_is_stopped_when_its_time_is_up(store: Store) -> None:
    relation = store.sql(_ENDLESS, timeout=0.3)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"stopped after 0\.3 s"):
        relation.fetchall()
    assert time.monotonic() - started < 10
    assert store.sql("SELECT 1", timeout=60).fetchall() == [(1,)]
    for wrong in (0, -1, float("nan"), float("inf"), "1"):
        with pytest.raises(InputError, match="timeout"):
            store.sql("SELECT 1", timeout=wrong)  # type: ignore[arg-type]


def test_a_query_ends_at_ctrl_c(store: Store) -> None:
    relation = store.sql(_ENDLESS)
    # Of a program in the background the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -INT {os.getpid()}"]):
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                relation.fetchall()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 10
    assert store.sql("SELECT 1").fetchall() == [(1,)]


def test_a_run_tells_what_another_had_claimed(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    with store._parts.postgres.connection() as connection:
        assert batches.claim(connection, STOCK_QUOTES, number=1, rows=100) is not None
    run = store.mirror.run()
    assert (run.batches, run.rows, run.files) == (1, 4, 1)


def test_a_message_is_cut_however_long_the_cell_is_that_is_wrong(store: Store) -> None:
    with pytest.raises(InputError) as refused:
        store.write(STOCK_QUOTES, rows_at(0).with_columns(bid_price=pl.lit("x" * 50_000_000)))
    assert len(str(refused.value)) <= 2_000
