"""Busts, corrections and late fills leave the books as if every execution had been reported in time, and right."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from medalion.core.enums import CashMovementType, PositionStatus, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from medalion.venues.base import FillReport
from oltp.repositories.unit_of_work import acting_as
from tests.support.ledger import agreement
from tests.support.trading_floor import NOON, Board, Floor, floor

pytestmark = pytest.mark.anyio
FEE = Decimal("0.10")


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        opened.board.show("AAPL", "500")
        yield opened
        await agreement(opened)


class Exchange:
    """Orders of the account, and what a venue of the test's own reports of their executions."""

    def __init__(self, desk: Floor) -> None:
        self.desk = desk
        self.venue = str(uuid4())

    async def order(self, quantity: int) -> Any:
        """A limit order that the board does not reach; negative is a sale."""
        side, limit = ("buy", 1) if quantity > 0 else ("sell", 900)
        return await self.desk.service.execute_limit_order(
            account=self.desk.account, symbol="AAPL", side=side, quantity=abs(quantity), limit_price=limit
        )

    def execution(self, trade: Any, name: str, quantity: int, price: int, minute: int, **terms: Any) -> FillReport:
        return FillReport(
            venue=self.venue,
            account_id=self.desk.account.id,
            client_order_id=trade.client_order_id,
            execution_id=name,
            side=trade.side,
            quantity=Decimal(abs(quantity)),
            price=Decimal(price),
            commission=terms.get("commission", FEE),
            executed_at=NOON + timedelta(minutes=minute),
        )

    async def fill(self, name: str, quantity: int, price: int, minute: int) -> Any:
        """The position that an execution of a whole order led to."""
        trade = await self.order(quantity)
        return await self.desk.service.record_fill(self.execution(trade, name, quantity, price, minute))

    async def bust(self, name: str) -> Any:
        return await self.desk.service.bust_fill(name, venue=self.venue)


@pytest.fixture
def exchange(desk: Floor) -> Exchange:
    return Exchange(desk)


async def positions(desk: Any) -> list[Any]:
    """Side, status, what remains and realized P&L of each that stands, in the order of opening."""
    held = await desk.service.get_positions_by_asset("AAPL", account=desk.account)
    standing = [position for position in held if position.status is not PositionStatus.CANCELLED]
    return [
        (position.side.value, position.status, position.remaining_quantity, position.realized_pnl)
        for position in sorted(standing, key=lambda position: position.opened_at)
    ]


OPEN, PARTLY, CLOSED = PositionStatus.OPEN, PositionStatus.PARTIALLY_CLOSED, PositionStatus.CLOSED


async def test_a_bust_of_the_only_fill_leaves_nothing(desk: Any, exchange: Exchange) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    trade = await exchange.bust("a")
    assert (trade.status, trade.filled_quantity, trade.total_value) == (TradeStatus.CANCELLED, 0, 0)
    assert (trade.average_price, trade.executed_at) == (None, None)
    assert "undid execution a" in trade.status_reason
    cancelled = await desk.service.get_position(held.id)
    assert (cancelled.status, cancelled.remaining_quantity, cancelled.cost_basis) == (PositionStatus.CANCELLED, 0, 0)
    assert await desk.service.get_open_positions(account=desk.account) == []
    summary = await desk.service.get_portfolio_summary(desk.account)
    assert (summary.cash, summary.net_pnl, summary.open_positions_count) == (Decimal(100_000), 0, 0)


async def test_what_was_paid_comes_back_with_the_commission(desk: Any, exchange: Exchange) -> None:
    await exchange.fill("a", 10, 100, 1)
    at = NOON + timedelta(days=2)
    await desk.service.bust_fill("a", venue=exchange.venue, at=at)
    async with desk.unit() as unit:
        (fill,) = await unit.fills.find(account_id=desk.account.id)
        moved = await unit.cash_movements.find(fill_id=fill.id)
    assert fill.busted_at == at
    assert [(m.movement_type, m.amount) for m in moved if m.occurred_at == at] == [
        (CashMovementType.TRADE, Decimal(1000)),
        (CashMovementType.COMMISSION, FEE),
    ]
    assert sum(movement.amount for movement in moved) == 0


async def test_a_bust_again_changes_nothing(desk: Any, exchange: Exchange) -> None:
    await exchange.fill("a", 10, 100, 1)
    once = await exchange.bust("a")
    assert await exchange.bust("a") == once
    with pytest.raises(NotFoundError, match="nobody's"):
        await exchange.bust("nobody's")
    with pytest.raises(NotFoundError, match="elsewhere"):
        await desk.service.bust_fill("a", venue="elsewhere")


async def test_a_bust_of_the_opening_moves_the_opening(desk: Any, exchange: Exchange) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    await exchange.fill("b", 5, 110, 2)
    await exchange.bust("a")
    (left,) = await desk.service.get_open_positions(account=desk.account)
    assert (left.id, left.opened_at) == (held.id, NOON + timedelta(minutes=2))
    assert (left.quantity, left.cost_basis, left.commissions) == (Decimal(5), Decimal(550), FEE)
    trades = await desk.service.get_trades_by_position(left.id)
    assert [trade.filled_quantity for trade in trades if trade.filled_quantity] == [5]


async def test_a_bust_of_the_close_opens_the_position_again(desk: Any, exchange: Exchange) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    await exchange.fill("b", -4, 110, 2)
    await exchange.fill("c", -6, 120, 3)
    assert await positions(desk) == [("long", CLOSED, 0, 160)]
    await exchange.bust("c")
    again = await desk.service.get_position(held.id)
    assert (again.status, again.closed_at, again.remaining_quantity, again.realized_pnl) == (PARTLY, None, 6, 40)
    await exchange.fill("d", -6, 90, 5)
    assert await positions(desk) == [("long", CLOSED, 0, -20)]


async def test_a_bust_before_the_crossing_of_zero_moves_the_crossing(desk: Any, exchange: Exchange) -> None:
    long = await exchange.fill("a", 4, 100, 1)
    await exchange.fill("b", 6, 100, 2)
    short = await exchange.fill("c", -15, 110, 3)
    assert await positions(desk) == [("long", CLOSED, 0, 100), ("short", OPEN, 5, 0)]
    await exchange.bust("b")
    assert await positions(desk) == [("long", CLOSED, 0, 40), ("short", OPEN, 11, 0)]
    assert {held.id for held in await desk.service.get_positions_by_asset("AAPL", account=desk.account)} == {
        long.id,
        short.id,
    }
    await exchange.bust("a")
    assert await positions(desk) == [("short", OPEN, 15, 0)]
    (left,) = await desk.service.get_open_positions(account=desk.account)
    assert [trade.quantity for trade in await desk.service.get_trades_by_position(left.id)] == [15]


async def test_a_bust_of_the_crossing_leaves_what_was_held(desk: Any, exchange: Exchange) -> None:
    long = await exchange.fill("a", 10, 100, 1)
    await exchange.fill("b", -15, 110, 2)
    await exchange.bust("b")
    (left,) = await desk.service.get_open_positions(account=desk.account)
    assert (left.id, left.remaining_quantity, left.realized_pnl, left.commissions) == (long.id, 10, 0, FEE)


@pytest.mark.parametrize(
    ("quantity", "price", "status", "basis"),
    [(10, 101, TradeStatus.FILLED, 1010), (7, 100, TradeStatus.CANCELLED, 700)],
    ids=["another price", "less"],
)
async def test_a_corrected_fill_stands_instead(
    desk: Any, exchange: Exchange, quantity: int, price: int, status: TradeStatus, basis: int
) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    (trade,) = await desk.service.get_trades_by_position(held.id)
    corrected = exchange.execution(trade, "a2", quantity, price, 1)
    for _ in range(2):
        after = await desk.service.correct_fill("a", corrected)
        assert (after.status, after.filled_quantity, after.commission) == (status, quantity, FEE)
        (left,) = await desk.service.get_open_positions(account=desk.account)
        assert (left.quantity, left.remaining_quantity, left.cost_basis) == (quantity, quantity, basis)


@pytest.mark.parametrize("others", [1, 0])
async def test_a_position_outlives_the_correction_of_its_opening(desk: Any, exchange: Exchange, others: int) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    if others:
        await exchange.fill("b", 5, 110, 2)
    await desk.service.update_position_risk_parameters(held.id, stop_loss=90)
    (trade, *_) = await desk.service.get_trades_by_position(held.id)
    await desk.service.correct_fill("a", exchange.execution(trade, "a2", 10, 101, 1))
    (left,) = await desk.service.get_open_positions(account=desk.account)
    assert (left.id, left.stop_loss, left.opened_at) == (held.id, Decimal(90), held.opened_at)


async def test_a_fill_is_corrected_although_without_it_a_split_would_leave_a_fraction(
    desk: Any, exchange: Exchange
) -> None:
    await exchange.fill("a", 10, 100, 1)
    held = await exchange.fill("b", -13, 110, 2)
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        split = await unit.corporate_actions.create(
            asset_id=asset.id,
            action_type="split",
            ex_date=(NOON + timedelta(days=1)).date(),
            new_shares=1,
            old_shares=3,
        )
    await desk.service.settle_corporate_action(split.id, account=desk.account)
    with pytest.raises(ConflictError, match="fraction"):
        await exchange.bust("b")
    (trade,) = await desk.service.get_trades_by_position(held.id)
    await desk.service.correct_fill("b", exchange.execution(trade, "b2", -13, 120, 2))
    (_, (side, _, remaining, _)) = await positions(desk)
    assert (side, remaining) == ("short", 1)


async def test_a_fill_is_corrected_up_to_what_was_ordered(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(10)
    await desk.service.record_fill(exchange.execution(trade, "a", 6, 100, 1))
    after = await desk.service.correct_fill("a", exchange.execution(trade, "a2", 8, 100, 1))
    assert (after.status, after.filled_quantity) == (TradeStatus.PARTIALLY_FILLED, 8)
    with pytest.raises(ConflictError, match="of an order for 10"):
        await desk.service.correct_fill("a2", exchange.execution(trade, "a3", 11, 100, 1))
    assert (await desk.service.get_trade(trade.id)).filled_quantity == 8
    with pytest.raises(NotFoundError, match="nobody's"):
        await desk.service.correct_fill("nobody's", exchange.execution(trade, "a4", 1, 100, 1))
    with pytest.raises(InputError, match="negative"):
        await desk.service.correct_fill("a2", exchange.execution(trade, "a5", 8, 100, 1, commission=Decimal(-1)))
    assert await positions(desk) == [("long", OPEN, 8, 0)]


async def test_what_is_undone_of_a_working_order_is_worked_on(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(10)
    await desk.service.record_fill(exchange.execution(trade, "a", 4, 100, 1))
    assert (await exchange.bust("a")).status is TradeStatus.SUBMITTED
    await desk.service.record_fill(exchange.execution(trade, "b", 10, 100, 2))
    assert (await desk.service.get_trade(trade.id)).status is TradeStatus.FILLED


async def test_what_a_venue_confirms_may_be_more_than_was_ordered(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(10)
    more = exchange.execution(trade, "a", 12, 100, 1)
    with pytest.raises(ConflictError, match="of an order for 10"):
        await desk.service.record_fill(more)
    held = await desk.service.record_fill(more, overfill=True)
    after = await desk.service.get_trade(trade.id)
    assert (held.remaining_quantity, after.status, after.filled_quantity) == (12, TradeStatus.FILLED, 12)


async def test_a_negative_commission_is_refused(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(10)
    with pytest.raises(InputError, match="negative"):
        await desk.service.record_fill(exchange.execution(trade, "a", 10, 100, 1, commission=Decimal("-0.01")))
    assert (await desk.service.get_trade(trade.id)).status is TradeStatus.SUBMITTED
    assert await positions(desk) == []


async def test_a_fill_before_the_opening_becomes_the_opening(desk: Any, exchange: Exchange) -> None:
    held = await exchange.fill("b", 5, 110, 2)
    await desk.service.update_position_risk_parameters(held.id, stop_loss=90, take_profit=200)
    early = await exchange.fill("a", 10, 100, 1)
    (left,) = await desk.service.get_open_positions(account=desk.account)
    assert early == left
    assert (left.id, left.opened_at, left.quantity) == (held.id, NOON + timedelta(minutes=1), 15)
    assert (left.cost_basis, left.stop_loss, left.take_profit) == (Decimal(1550), Decimal(90), Decimal(200))
    assert len(await desk.service.get_trades_by_position(left.id)) == 2


async def test_a_fill_between_two_round_trips_is_one_of_its_own(desk: Any, exchange: Exchange) -> None:
    for name, quantity, price, minute in (("a", 5, 100, 1), ("b", -5, 110, 2), ("e", 5, 120, 5), ("f", -5, 130, 6)):
        await exchange.fill(name, quantity, price, minute)
    before = {held.id for held in await desk.service.get_positions_by_asset("AAPL", account=desk.account)}
    await exchange.fill("c", 2, 100, 3)
    await exchange.fill("d", -2, 90, 4)
    assert await positions(desk) == [("long", CLOSED, 0, 50), ("long", CLOSED, 0, -20), ("long", CLOSED, 0, 50)]
    after = await desk.service.get_positions_by_asset("AAPL", account=desk.account)
    standing = {held.id: held for held in after if held.status is not PositionStatus.CANCELLED}
    assert before <= set(standing)
    for position in standing.values():
        trades = await desk.service.get_trades_by_position(position.id)
        assert sum(trade.filled_quantity * trade.side.sign for trade in trades) == 0
        assert {trade.position_id for trade in trades} == {position.id}


async def test_a_late_fill_may_make_one_round_trip_of_two(desk: Any, exchange: Exchange) -> None:
    first = await exchange.fill("a", 5, 100, 1)
    await exchange.fill("b", -5, 110, 2)
    second = await exchange.fill("d", 5, 120, 4)
    await exchange.fill("e", -6, 130, 5)
    await exchange.fill("c", 1, 100, 0)
    assert await positions(desk) == [("long", CLOSED, 0, 130)]
    statuses = {
        held.id: held.status for held in await desk.service.get_positions_by_asset("AAPL", account=desk.account)
    }
    assert statuses.pop(first.id) is CLOSED
    assert statuses[second.id] is PositionStatus.CANCELLED
    assert set(statuses.values()) == {PositionStatus.CANCELLED}
    assert len(await desk.service.get_trades_by_position(first.id)) == 5
    assert await desk.service.get_trades_by_position(second.id) == []


async def test_fills_of_one_order_may_arrive_in_any_order(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(9)
    for name, price, minute in (("c", 130, 3), ("a", 100, 1), ("b", 110, 2)):
        await desk.service.record_fill(exchange.execution(trade, name, 3, price, minute))
    (held,) = await desk.service.get_open_positions(account=desk.account)
    after = await desk.service.get_trade(trade.id)
    assert (held.opened_at, held.cost_basis, held.current_price) == (NOON + timedelta(minutes=1), 1020, 130)
    assert (after.status, after.position_id, after.average_price) == (
        TradeStatus.FILLED,
        held.id,
        Decimal("113.33333333"),
    )
    assert after.executed_at == NOON + timedelta(minutes=3)


async def test_who_undid_what_is_in_the_audit(desk: Any, exchange: Exchange) -> None:
    held = await exchange.fill("a", 10, 100, 1)
    with acting_as("clearing desk", correlation_id="case 12"):
        trade = await exchange.bust("a")
    async with desk.unit() as unit:
        (fill,) = await unit.fills.find(account_id=desk.account.id)
        for table, which in (("fills", fill.id), ("trades", trade.id), ("positions", held.id)):
            last = (await unit.audit_logs.history(table, which))[-1]
            assert (last.performed_by, last.correlation_id) == ("clearing desk", "case 12")
        cancelled = (await unit.audit_logs.history("positions", held.id))[-1]
    assert cancelled.previous_state is not None
    assert cancelled.new_state is not None
    assert (cancelled.previous_state["status"], cancelled.new_state["status"]) == ("open", "cancelled")


@pytest.fixture
def trading(store: Store) -> BlockingTradingService:
    """A service in whose account one round trip of two stands, and each of its halves was undone once."""
    board = Board()
    store.assets.create(symbol="AAPL", name="Apple")
    account = store.accounts.create(name="book")
    service = store.backtest(board)
    service.deposit("book", 10_000, at=NOON)
    traded = (("buy", "100", 1), ("sell", "110", 2), ("buy", "100", 3), ("sell", "90", 4))
    for side, price, minute in traded:
        board.show("AAPL", price)
        at = NOON + timedelta(minutes=minute)
        service.execute_market_order(account="book", symbol="AAPL", side=side, quantity=5, at=at)
    for fill in store.fills.find(account_id=account.id)[2:]:
        service.bust_fill(fill.execution_id, venue=fill.venue, at=NOON + timedelta(hours=1))
    return service


def test_after_busts_the_record_is_whole_and_the_value_right(store: Store, trading: BlockingTradingService) -> None:
    assert trading.get_portfolio_summary("book").cash == Decimal(10_050)
    assert store.stats.equity("book", end="2024-03-02")["value"].to_list()[-1] == Decimal(10_050)
    statistics = store.stats.trades("book")
    assert (statistics.winning_trades, statistics.net_profit) == (1, Decimal(50))
    assert store.audit.verify() == []


def test_a_position_that_is_cancelled_counts_nowhere(store: Store, trading: BlockingTradingService) -> None:
    summary, performance = trading.get_portfolio_summary("book"), trading.get_portfolio_performance("book")
    assert (summary.total_positions, summary.closed_positions_count) == (1, 1)
    assert (performance.opened_positions, performance.closed_positions) == (1, 1)
    assert store.stats.trades("book").total_trades == 1


async def test_what_was_replaced_before_is_not_replaced_by_another(desk: Any, exchange: Exchange) -> None:
    trade = await exchange.order(10)
    first, second, third = (exchange.execution(trade, name, 4, 100 + n, n) for n, name in enumerate(("x0", "x1", "x2")))
    await desk.service.record_fill(first)
    await desk.service.correct_fill("x0", second)
    with pytest.raises(ConflictError, match="x0 was replaced by x1 before, and not by x2"):
        await desk.service.correct_fill("x0", third)
    again = await desk.service.correct_fill("x0", second)
    assert (again.filled_quantity, again.average_price) == (Decimal(4), Decimal(101))
    await desk.service.bust_fill("x1", venue=exchange.venue)
    with pytest.raises(ConflictError, match="x1, which is to replace x0, is itself undone"):
        await desk.service.correct_fill("x0", second)
    # A venue may tell of a correction as of a bust first.
    assert (await desk.service.correct_fill("x1", third)).filled_quantity == Decimal(4)


async def test_an_execution_is_not_replaced_by_one_of_another_order(desk: Any, exchange: Exchange) -> None:
    mine, other = await exchange.order(10), await exchange.order(-10)
    await desk.service.record_fill(exchange.execution(mine, "x0", 4, 100, 0))
    with pytest.raises(ConflictError, match="a correction is of the same order and account"):
        await desk.service.correct_fill("x0", exchange.execution(other, "x1", 4, 100, 1))
    assert (await desk.service.get_trade(mine.id)).filled_quantity == Decimal(4)
    assert (await desk.service.get_trade(other.id)).filled_quantity == Decimal(0)
