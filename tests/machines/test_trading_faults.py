"""Whatever is killed in the middle of an order, processes or PostgreSQL, the books are whole once `reconcile` has run.

Processes are killed 60 times at random moments; MEDALION_KILLS says how often instead. They are forked from one that
has imported what trading needs and opened nothing, so that each costs no start of an interpreter.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from uuid import UUID

import pytest
from anyio import to_thread
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import TradeStatus
from medalion.core.errors import StoreUnavailableError
from medalion.services.trading import TradingService
from medalion.trading import booking
from medalion.venues.base import Order, OrderReport
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.schema import migrate
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import parse_url
from tests.machines.ledger_books import Books, Connection, books_of, check_against_venue, connect, venue_orders
from tests.support.lengths import examples
from tests.support.programs import context
from tests.support.server import libpq
from tests.support.server_processes import await_that, postmasters, short_folder
from tests.support.trading_floor import Board, Floor, floor

pytestmark = pytest.mark.server

KILLS = int(os.environ.get("MEDALION_KILLS", str(examples(60))))
DEPOSIT = Decimal(100_000)
FEES = CommissionSchedule(bps=Decimal(5), per_unit=Decimal("0.005"), minimum=Decimal("0.35"))
PRICES = {"AAPL": ("189.98", "190.02"), "MSFT": ("410.11", "410.27"), "TSLA": ("33.33333333", "33.33333334")}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingVenue(PaperVenue):
    """A paper venue that takes the process with it: before the order arrives, or after."""

    dies: str | None = None

    async def submit(self, order: Order) -> OrderReport:
        if self.dies == "before the venue has the order":
            _die()
        report = await super().submit(order)
        if self.dies == "after the venue has filled it":
            _die()
        return report


async def _trade(url: str, account_id: UUID, name: str, dies: str | None, told: Pipe) -> None:
    """Orders of all kinds for ever, or one market order in the course of which the process dies."""
    engine = create_async_engine(parse_url(url))
    made, board = sessions(engine), Board()
    venue = DyingVenue(made, board, commission=FEES)
    service = TradingService(lambda: UnitOfWork(made), venue, board)
    chance, number = random.Random(name), 0
    for symbol, (bid, ask) in PRICES.items():
        board.show(symbol, bid, ask)
    await service.get_portfolio_summary(account_id)
    venue.dies = dies
    if dies == "before the books are committed":
        _die_before_the_commit()
    while True:
        told.send(number)
        number += 1
        symbol, side = chance.choice(list(PRICES)), chance.choice(("buy", "sell"))
        quantity, order = Decimal(chance.randint(1, 4 * 10**8)).scaleb(-8), f"{name}/{number}"
        kind = "market" if dies else chance.choice(("market", "market", "market", "limit", "cancelled", "close"))
        held = await service.get_open_positions(account=account_id) if kind == "close" else []
        if held:
            await service.close_position(chance.choice(held).id, client_order_id=order)
        elif kind in ("limit", "cancelled"):
            price = Decimal(1) if side == "buy" else Decimal(1000)
            resting = await service.execute_limit_order(
                account=account_id,
                symbol=symbol,
                side=side,
                quantity=quantity,
                limit_price=price,
                client_order_id=order,
            )
            if kind == "limit":
                board.show(symbol, str(price))
                await service.advance()
                board.show(symbol, *PRICES[symbol])
            else:
                await service.cancel_trade(resting.id)
        else:
            await service.execute_market_order(
                account=account_id, symbol=symbol, side=side, quantity=quantity, client_order_id=order
            )


def _die_before_the_commit() -> None:
    record = booking.record

    def recorded(*given: object, **named: object) -> None:
        record(*given, **named)  # type: ignore[arg-type]  # whatever it takes
        _die()

    booking.record = recorded  # type: ignore[assignment]  # it never returns


def _child(url: str, account_id: UUID, name: str, dies: str | None, told: Pipe) -> None:
    asyncio.run(_trade(url, account_id, name, dies, told))


class Bench:
    """A floor whose account other processes trade in, and the books as PostgreSQL holds them."""

    def __init__(self, url: str, runner: asyncio.Runner, desk: Floor, books: Connection) -> None:
        self.url = parse_url(url).update_query_dict({"application_name": "mortal"}).render_as_string(False)
        self.runner, self.desk, self.books = runner, desk, books
        self.numbers = iter(range(10**6))

    def start(self, dies: str | None = None) -> tuple[BaseProcess, Pipe]:
        """A process that trades, and where it tells before each order how many it has placed."""
        hears, tells = context.Pipe(duplex=False)
        given = (self.url, self.desk.account.id, f"process {next(self.numbers)}", dies, tells)
        process = context.Process(target=_child, args=given)
        process.start()
        tells.close()
        return process, hears

    def until_gone(self, process: BaseProcess) -> None:
        """The process has ended, and PostgreSQL has ended what it was doing for it."""
        process.join()
        assert process.exitcode == -signal.SIGKILL
        alive = "SELECT FROM pg_stat_activity WHERE application_name = 'mortal' AND datname = current_database()"
        await_that(lambda: not self.books.execute(alive).fetchall())

    def left_behind(self) -> str:
        """At which step of an order the process was killed, by what it left."""
        books, orders = books_of(self.books, self.desk.account.id), venue_orders(self.books, self.desk.account.id)
        for trade in books.trades:
            order = orders.get(trade["client_order_id"])
            if order is None:
                return "before the venue"
            if (order["status"], order["filled_quantity"]) != (trade["status"], trade["filled_quantity"]):
                return "before the books"
        return "between orders"

    def reconcile(self) -> Books:
        self.runner.run(self.desk.service.reconcile(account=self.desk.account))
        return check_against_venue(self.books, self.desk.account.id, DEPOSIT)


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    stack = AsyncExitStack()
    with asyncio.Runner() as runner, connect(libpq(database_url)) as books:
        desk = runner.run(stack.enter_async_context(floor(database_url, commission=FEES)))
        runner.run(_list_shares(desk))
        yield Bench(database_url, runner, desk, books)
        runner.run(stack.aclose())


async def _list_shares(desk: Floor) -> None:
    async with desk.unit() as unit:
        for symbol in PRICES:
            if not await unit.assets.any(symbol=symbol):
                await unit.assets.create(symbol=symbol, name=symbol)
    for symbol, (bid, ask) in PRICES.items():
        desk.board.show(symbol, bid, ask)


@pytest.mark.parametrize(
    "step", ["before the venue has the order", "after the venue has filled it", "before the books are committed"]
)
def test_an_order_is_booked_once_after_a_kill_at_any_step(bench: Bench, step: str) -> None:
    process, hears = bench.start(step)
    bench.until_gone(process)
    hears.close()
    (trade,) = books_of(bench.books, bench.desk.account.id).trades
    assert trade["status"] == "pending"
    assert bench.left_behind() == ("before the venue" if step.startswith("before the venue") else "before the books")
    (trade,) = bench.reconcile().trades
    assert trade["status"] == "filled"
    assert bench.reconcile().trades == [trade]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_execution_is_booked_once_wherever_its_process_was_killed(
    bench: Bench, record_testsuite_property: Callable[[str, object], None]
) -> None:
    chance, left, latencies = random.Random(KILLS), Counter[str](), [0.02]
    for _ in range(KILLS):
        process, hears = bench.start()
        wanted = chance.randint(0, 3)
        started = time.perf_counter()
        while hears.recv() < wanted:
            latencies.append(time.perf_counter() - started)
            started = time.perf_counter()
        time.sleep(chance.uniform(0, 1.5) * median(latencies))
        process.kill()
        bench.until_gone(process)
        hears.close()
        left[bench.left_behind()] += 1
        bench.reconcile()
    for step, times in left.items():
        record_testsuite_property(f"killed {step}", times)
    assert left.total() == KILLS
    assert left["before the venue"] + left["before the books"] > 0


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses."""
    place = short_folder()
    with EmbeddedPostgres.start(place / "data", report=lambda _: None) as server:
        migrate.upgrade(server.url)
        yield server
    shutil.rmtree(place)


@pytest.mark.timeout(300)
def test_every_call_succeeds_or_says_that_postgresql_is_gone_and_nothing_stays_half_done(
    own_server: EmbeddedPostgres, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """The server is shut down at once, three times, while four tasks trade; it recovers from its log."""
    kept, account_id, refused = asyncio.run(_trade_through_restarts(own_server))
    record_testsuite_property("refused while PostgreSQL was gone", refused)
    with connect(libpq(own_server.url)) as connection:
        books = check_against_venue(connection, account_id, DEPOSIT)
    found = {trade["client_order_id"]: trade["status"] for trade in books.trades}
    assert {found[name] for name in kept} == {"filled"}


async def _trade_through_restarts(server: EmbeddedPostgres) -> tuple[list[str], UUID, int]:
    """The orders that were acknowledged, in which account, and how many calls were refused."""
    acknowledged = asyncio.Queue[str]()
    refused = 0
    ends = False

    async def trade(desk: Floor, task: int) -> None:
        nonlocal refused
        chance, number = random.Random(task), 0
        while not ends:
            number += 1
            symbol, side = chance.choice(list(PRICES)), chance.choice(("buy", "sell"))
            name, quantity = f"task {task}/{number}", Decimal(chance.randint(1, 4 * 10**8)).scaleb(-8)
            try:
                done = await desk.service.execute_market_order(
                    account=desk.account.id, symbol=symbol, side=side, quantity=quantity, client_order_id=name
                )
            except StoreUnavailableError:
                refused += 1
                await asyncio.sleep(0.005)
            else:
                assert done.status is TradeStatus.FILLED
                acknowledged.put_nowait(name)

    async with floor(server.url, commission=FEES) as desk:
        await _list_shares(desk)
        kept: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            for task in range(4):
                tasks.create_task(trade(desk, task))
            try:
                for restarts in range(4):
                    if restarts:
                        await to_thread.run_sync(_restart, server)
                    kept += [await acknowledged.get() for _ in range(40)]
            finally:
                ends = True
        kept += [acknowledged.get_nowait() for _ in range(acknowledged.qsize())]
        await desk.service.reconcile(account=desk.account)
        again = await desk.service.reconcile(account=desk.account)
        assert (again.asked, again.unknown) == ((), ())
        return kept, desk.account.id, refused


def _restart(server: EmbeddedPostgres) -> None:
    """Shut the server down as a crash would; one that comes next starts it again."""
    (postmaster,) = postmasters(server.data_dir)
    os.kill(postmaster, signal.SIGQUIT)
    await_that(lambda: not Path(f"/proc/{postmaster}/fd").exists() or not postmasters(server.data_dir))
    EmbeddedPostgres.start(server.data_dir, report=lambda _: None).stop()
    assert postmasters(server.data_dir)
