"""How many statements a call sends does not grow with what is stored."""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

import medalion
from medalion.core.enums import TradeStatus
from medalion.services.statistics import Statistics
from medalion.services.trading import TradingService
from medalion.store.store import AsyncStore
from oltp.entities.base import uuid7
from oltp.entities.trading import Fill
from tests.support.entities import fill_of, holding_of, order_of
from tests.support.trading_floor import NOON, Board

pytestmark = pytest.mark.anyio
DAY = timedelta(days=1)
SPAN = (NOON - DAY, NOON + DAY)
MANY = 50


class Counted:
    """The statements that were given to psycopg, by SQLAlchemy or directly; one for many rows counts once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def watch(self, patch: pytest.MonkeyPatch, kind: type, method: str) -> None:
        """Note every call of that method of a cursor."""
        original = getattr(kind, method)

        def noted(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
            self.texts.append(str(query))
            return original(cursor, query, *arguments, **named)

        patch.setattr(kind, method, noted)

    async def by(self, call: Callable[[], Awaitable[Any]]) -> int:
        self.texts.clear()
        await call()
        return len(self.texts)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    for kind in (psycopg.AsyncCursor, psycopg.Cursor):
        for method in ("execute", "executemany"):
            made.watch(monkeypatch, kind, method)
    return made


class Desk:
    """An account that holds so many positions, each in an asset of its own with an order and its fill."""

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.board = Board()
        self.service = store.backtest(self.board)
        self.held = 0

    async def grow(self, to: int) -> None:
        async with self.store._parts.units() as unit:
            account = await unit.accounts.by_name("book")
            for number in range(self.held, to):
                asset = await unit.assets.create(symbol=f"S{number}", name="")
                self.board.show(asset.symbol, "11")
                for closed in (True, False):
                    ended = {"remaining_quantity": Decimal(0), "status": "closed", "closed_at": NOON + DAY / 2}
                    position = await unit.positions.add(holding_of(account, asset, **(ended if closed else {})))
                    trade = order_of(
                        account, asset, position_id=position.id, status=TradeStatus.FILLED, executed_at=NOON
                    )
                    await unit.trades.add(trade)
                    fill: Fill = fill_of(trade, str(uuid7()))
                    await unit.fills.add(fill)
                self.position, self.trade = position.id, trade.id
        self.held = to


@pytest.fixture
async def desk(database_url: str, data_dir: Any) -> AsyncIterator[Desk]:
    async with medalion.open_async(database_url, data_dir=data_dir, mirror_background=False) as store:
        await store.accounts.create(name="book")
        made = Desk(store)
        await made.service.deposit("book", 1_000_000, at=NOON)
        await made.grow(1)
        yield made


READS: dict[str, Callable[[Desk], Awaitable[Any]]] = {
    "trading.get_trade": lambda desk: desk.service.get_trade(desk.trade),
    "trading.get_trades_by_position": lambda desk: desk.service.get_trades_by_position(desk.position),
    "trading.get_trades_by_date_range": lambda desk: desk.service.get_trades_by_date_range(*SPAN, account="book"),
    "trading.get_position": lambda desk: desk.service.get_position(desk.position),
    "trading.get_open_positions": lambda desk: desk.service.get_open_positions(account="book"),
    "trading.get_positions_by_asset": lambda desk: desk.service.get_positions_by_asset("S0"),
    "trading.get_portfolio_summary": lambda desk: desk.service.get_portfolio_summary("book"),
    "trading.get_portfolio_performance": lambda desk: desk.service.get_portfolio_performance("book"),
    "trading.get_trade_statistics": lambda desk: desk.service.get_trade_statistics("book"),
    "stats.equity": lambda desk: desk.store.stats.equity("book", end=NOON + DAY),
    "stats.performance": lambda desk: desk.store.stats.performance("book", end=NOON + DAY),
    "stats.report": lambda desk: desk.store.stats.report(
        "book", desk.store._settings.data_dir / "report.html", end=NOON + DAY
    ),
    "stats.summary": lambda desk: desk.store.stats.summary("book", end=NOON + DAY),
    "stats.trades": lambda desk: desk.store.stats.trades("book"),
}
MOST = 16
"""Statements of one market order: whose and of what, the trade, the venue's own books, and the report in ours."""


async def test_the_count_sees_statements_of_both_ways(desk: Desk, counted: Counted) -> None:
    assert await counted.by(lambda: desk.store.accounts.by_name("book")) >= 1
    await desk.service.execute_market_order(account="book", symbol="S0", side="buy", quantity=1)
    inserted = {table for text in counted.texts for table in re.findall(r'INSERT INTO "?(\w+)', text)}
    assert {"trades", "fills", "cash_movements"} <= inserted


def test_every_read_is_counted_here() -> None:
    reads = [("trading", TradingService, "get_"), ("stats", Statistics, "")]
    found = {
        f"{name}.{method}"
        for name, kind, begins in reads
        for method, _ in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if method.startswith(begins) and method[0] != "_"
    }
    assert found == set(READS)


async def test_no_read_sends_more_statements_for_more_rows(desk: Desk, counted: Counted) -> None:
    few = {name: await counted.by(lambda: read(desk)) for name, read in READS.items()}  # noqa: B023
    await desk.grow(MANY)
    many = {name: await counted.by(lambda: read(desk)) for name, read in READS.items()}  # noqa: B023
    assert {name: (few[name], count) for name, count in many.items() if count > few[name]} == {}
    assert len(await desk.service.get_open_positions(account="book")) == MANY


async def test_marking_sends_no_more_statements_for_more_positions(desk: Desk, counted: Counted) -> None:
    few = await counted.by(lambda: desk.service.mark_to_market(account="book"))
    await desk.grow(MANY)
    many = await counted.by(lambda: desk.service.mark_to_market(account="book"))
    assert {position.current_price for position in await desk.service.get_open_positions()} == {Decimal(11)}
    assert many == few


@pytest.mark.parametrize("held", [1, MANY])
async def test_an_order_sends_a_bounded_number_of_statements(desk: Desk, counted: Counted, held: int) -> None:
    await desk.grow(held)
    for side in ("buy", "sell", "sell", "sell"):  # adds, reduces, closes and opens the other side
        sent = await counted.by(
            lambda: desk.service.execute_market_order(account="book", symbol="S0", side=side, quantity=1)  # noqa: B023
        )
        assert 0 < sent <= MOST
