"""Processes that trade in the same account at once take nothing twice, lose nothing and see no deadlock.

All are real processes with an interpreter and a store of their own. They are 8, and the crowd trades in 2 threads of
each for 4 seconds, since 16 interpreters would take longer to start than to race; with MEDALION_RACE_SECONDS they are
16, and the crowd trades for that long in one thread of each.
"""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import polars as pl
import pytest

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.enums import PositionStatus
from medalion.core.errors import ConflictError, MedalionError
from medalion.store.store import Store
from tests.machines.ledger_books import Connection, check_against_venue, connect, total
from tests.support.observed import START
from tests.support.server import libpq

T = TypeVar("T")
DEPOSIT = Decimal(1_000_000)
SYMBOLS = [f"RACE{number:02}" for number in range(20)]
SECONDS = os.environ.get("MEDALION_RACE_SECONDS")
PROCESSES, THREADS = (8, 2) if SECONDS is None else (16, 1)


def _race(asked: Pipe) -> None:
    """Do what is asked, one after the other; each work waits at its gate until all are there."""

    def gate() -> None:
        asked.send("here")
        asked.recv()

    while True:
        work, number, given = asked.recv()
        try:
            asked.send((work(number, gate, *given), None))
        except Exception as error:
            asked.send((None, f"{type(error).__name__}: {error}"))


class Racers:
    """Processes that are started once for all races."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(PROCESSES)]
        self._pipes = [ours for ours, _ in pairs]
        self._processes = [context.Process(target=_race, args=(theirs,)) for _, theirs in pairs]
        for process in self._processes:
            process.start()

    def together(self, work: Callable[..., T], *given: Any) -> list[T]:
        """What each of the processes returned, which pass the gate at the same moment."""
        for number, pipe in enumerate(self._pipes):
            pipe.send((work, number, given))
        assert [pipe.recv() for pipe in self._pipes] == ["here"] * PROCESSES
        for pipe in self._pipes:
            pipe.send("go")
        done = [pipe.recv() for pipe in self._pipes]
        assert [error for _, error in done if error is not None] == []
        return [result for result, _ in done]

    def leave(self) -> None:
        for process in self._processes:
            process.terminate()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join()
            pipe.close()


@pytest.fixture(scope="module")
def racers() -> Iterator[Racers]:
    racers = Racers()
    yield racers
    racers.leave()


@pytest.fixture
def books(database_url: str) -> Iterator[Connection]:
    with connect(libpq(database_url)) as connection:
        yield connection


@pytest.fixture
def account_id(store: Store) -> UUID:
    """An account with money in a store where all symbols are quoted."""
    for symbol in SYMBOLS:
        store.assets.create(symbol=symbol, name=symbol)
    prices = [Decimal(1000 + 7 * number) / 8 for number in range(len(SYMBOLS))]
    store.write(
        STOCK_QUOTES,
        pl.DataFrame(
            {
                "symbol": SYMBOLS,
                "ts": [START] * len(SYMBOLS),
                "bid_price": [price - Decimal("0.01") for price in prices],
                "ask_price": [price + Decimal("0.02") for price in prices],
                "bid_size": [Decimal(100)] * len(SYMBOLS),
                "ask_size": [Decimal(100)] * len(SYMBOLS),
            }
        ),
    )
    account = store.accounts.create(name="contested")
    store.trading.deposit(account, DEPOSIT)
    return UUID(str(account.id))


def _closes_unit_by_unit(number: int, gate: Callable[[], None], url: str, data_dir: Path, position_id: UUID) -> int:
    """How many units were closed before nothing was left."""
    with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
        trading = store.trading
        gate()
        for closed in range(100):
            try:
                trading.partially_close_position(position_id, 1)
            except ConflictError as error:
                if "nothing is left" in str(error) or "on their way" in str(error):
                    return closed
                raise
    raise AssertionError("a hundred units were closed")


def test_each_unit_of_a_position_is_closed_by_one_of_all_processes(
    racers: Racers, store: Store, database_url: str, data_dir: Path, books: Connection, account_id: UUID
) -> None:
    held = store.trading.open_position(account=account_id, symbol=SYMBOLS[0], quantity=20)
    closed = racers.together(_closes_unit_by_unit, database_url, data_dir, held.id)
    assert sum(closed) == 20
    (position,) = store.trading.get_positions_by_asset(SYMBOLS[0])
    assert (position.id, position.status, position.remaining_quantity) == (held.id, PositionStatus.CLOSED, Decimal(0))
    assert position.realized_pnl == 20 * Decimal("-0.03")
    found = check_against_venue(books, account_id, DEPOSIT)
    assert len(found.trades) == 21
    assert total(found.cash.values()) == DEPOSIT + 20 * Decimal("-0.03")


def _closes_all(number: int, gate: Callable[[], None], url: str, data_dir: Path, position_id: UUID) -> bool:
    with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
        trading = store.trading
        gate()
        try:
            trading.close_position(position_id)
        except ConflictError as error:
            if "nothing is left" in str(error) or "on their way" in str(error):
                return False
            raise
    return True


def test_a_position_is_closed_by_one_of_all_processes_and_never_turned_over(
    racers: Racers, store: Store, database_url: str, data_dir: Path, books: Connection, account_id: UUID
) -> None:
    held = store.trading.open_position(account=account_id, symbol=SYMBOLS[0], quantity=20)
    assert sum(racers.together(_closes_all, database_url, data_dir, held.id)) == 1
    assert not store.trading.get_open_positions(account=account_id)
    assert len(check_against_venue(books, account_id, DEPOSIT).trades) == 2


def _trades(
    number: int, gate: Callable[[], None], url: str, data_dir: Path, account_id: UUID, seconds: float
) -> tuple[int, list[str]]:
    """How many orders were placed, and every error."""
    with (
        medalion.open(url, data_dir=data_dir, mirror_background=False) as store,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        trading = store.trading
        ready = threading.Barrier(THREADS)

        def trade(thread: int) -> tuple[int, list[str]]:
            chance, placed, wrong = random.Random(f"{number}/{thread}"), 0, []
            if ready.wait(60) == 0:
                gate()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                symbol, side = chance.choice(SYMBOLS), chance.choice(("buy", "sell"))
                quantity = Decimal(chance.randint(1, 4 * 10**8)).scaleb(-8)
                try:
                    trading.execute_market_order(account=account_id, symbol=symbol, side=side, quantity=quantity)
                    placed += 1
                except MedalionError as error:
                    wrong.append(f"{type(error).__name__}: {error}")
            return placed, wrong

        counts, errors = zip(*pool.map(trade, range(THREADS)), strict=True)
    return sum(counts), [error for each in errors for error in each]


@pytest.mark.timeout(300)
def test_a_crowd_in_one_account_leaves_exact_books_and_sees_no_error(
    racers: Racers,
    store: Store,
    database_url: str,
    data_dir: Path,
    books: Connection,
    account_id: UUID,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    outcome = racers.together(_trades, database_url, data_dir, account_id, float(SECONDS or 4))
    placed = sum(count for count, _ in outcome)
    record_testsuite_property("orders", placed)
    assert [error for _, errors in outcome for error in errors] == []
    found = check_against_venue(books, account_id, DEPOSIT)
    assert len(found.trades) == len(found.fills) == placed
    assert {trade["status"] for trade in found.trades} == {"filled"}
    store.trading.mark_to_market(account=account_id)
    summary = store.trading.get_portfolio_summary(account_id)
    assert summary.market_value is not None
    assert summary.net_pnl is not None
    assert summary.equity == summary.cash + summary.market_value == summary.deposits + summary.net_pnl
    assert store.audit.verify() == []
