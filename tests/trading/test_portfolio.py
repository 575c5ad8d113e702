"""What positions and summaries promise: partial closes, crossing zero, marks, and identities to the last digit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncCursor

from medalion.core.enums import PositionSide, PositionStatus, TradeSide
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.venues.paper.venue import CommissionSchedule
from tests.support.trading_floor import NOON, Floor, floor, identities

pytestmark = pytest.mark.anyio
FEES = CommissionSchedule(bps=Decimal(5), per_unit=Decimal("0.005"), minimum=Decimal("0.35"))


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    """A floor with an account of its own, on which AAPL stands at 189.98 and 190.02."""
    async with floor(url, commission=FEES) as opened:
        opened.board.show("AAPL", "189.98", "190.02")
        yield opened


async def test_partial_closes_can_be_closed_further_and_then_fully(desk: Floor) -> None:
    opened = await desk.service.open_position(
        account=desk.account, symbol="AAPL", quantity=3, stop_loss=Decimal(180), take_profit=Decimal(210)
    )
    assert (opened.stop_loss, opened.take_profit) == (Decimal(180), Decimal(210))
    desk.board.show("AAPL", "193.33")
    first = await desk.service.partially_close_position(opened.id, 1)
    assert (first.status, first.remaining_quantity, first.quantity) == (
        PositionStatus.PARTIALLY_CLOSED,
        Decimal(2),
        Decimal(3),
    )
    assert [held.id for held in await desk.service.get_open_positions(account=desk.account)] == [opened.id]
    with pytest.raises(ConflictError, match="orders to close 0 are on their way"):
        await desk.service.partially_close_position(opened.id, 3)
    second = await desk.service.partially_close_position(opened.id, Decimal("0.5"))
    assert second.realized_pnl == Decimal("3.31") * Decimal("1.5")
    closed = await desk.service.close_position(opened.id, client_order_id="the end")
    assert (closed.status, closed.remaining_quantity, closed.cost_basis) == (
        PositionStatus.CLOSED,
        Decimal(0),
        Decimal(0),
    )
    assert closed.realized_pnl == Decimal("3.31") * 3
    assert len(await desk.service.get_trades_by_position(opened.id)) == 4
    assert await desk.service.close_position(opened.id, client_order_id="the end") == closed
    with pytest.raises(ConflictError, match="nothing is left"):
        await desk.service.close_position(opened.id)
    await identities(desk)


async def test_crossing_zero_closes_one_position_and_opens_the_other_side(desk: Floor) -> None:
    long = await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=3)
    with pytest.raises(ConflictError, match=f"close position {long.id} first"):
        await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=1, side=PositionSide.SHORT)
    trade = await desk.service.execute_market_order(account=desk.account, symbol="AAPL", side="sell", quantity=5)
    closed = await desk.service.get_position(long.id)
    (short,) = await desk.service.get_open_positions(account=desk.account)
    assert (closed.status, closed.realized_pnl) == (PositionStatus.CLOSED, Decimal("-0.12"))
    assert (short.side, short.remaining_quantity, short.cost_basis) == (
        PositionSide.SHORT,
        Decimal(2),
        Decimal("-379.96"),
    )
    assert closed.commissions + short.commissions - long.commissions == trade.commission
    for position in (closed, short):
        assert trade.id in [found.id for found in await desk.service.get_trades_by_position(position.id)]
    await identities(desk)
    covered = await desk.service.close_position(short.id)
    assert covered.status is PositionStatus.CLOSED
    await identities(desk)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    orders=st.lists(
        st.tuples(
            st.sampled_from(TradeSide),
            st.decimals("0.00000001", 9, places=8),
            st.decimals("0.00000001", 999, places=8),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_cash_and_market_value_agree_with_the_fills_to_the_last_digit(
    url: str, orders: list[tuple[TradeSide, Decimal, Decimal]]
) -> None:
    async def trade() -> None:
        async with floor(url, commission=FEES, slippage_bps=Decimal(3)) as desk:
            for side, quantity, price in orders:
                desk.board.show("AAPL", str(price))
                await desk.service.execute_market_order(
                    account=desk.account, symbol="AAPL", side=side, quantity=quantity
                )
            await identities(desk)
            desk.board.show("AAPL", "123.45678901")
            await desk.service.mark_to_market(account=desk.account)
            await identities(desk)
            for position in await desk.service.get_open_positions(account=desk.account):
                await desk.service.close_position(position.id)
            await identities(desk)
            summary = await desk.service.get_portfolio_summary(desk.account)
            statistics = await desk.service.get_trade_statistics(desk.account)
            assert summary.market_value == 0
            assert statistics.net_profit == summary.net_pnl
            assert statistics.total_trades == summary.closed_positions_count

    asyncio.run(trade())


async def test_of_closes_at_the_same_time_exactly_one_takes_each_unit(desk: Floor) -> None:
    opened = await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=2)
    closing = [desk.service.partially_close_position(opened.id, 1) for _ in range(4)]
    results = await asyncio.gather(*closing, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError"] * 2 + ["PositionDto"] * 2
    assert (await desk.service.get_position(opened.id)).status is PositionStatus.CLOSED
    await identities(desk)


async def test_marks_move_what_positions_are_worth_but_never_backwards_in_time(desk: Floor) -> None:
    opened = await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=10)
    desk.board.show("AAPL", "194.98", "195.02")
    (marked,) = await desk.service.mark_to_market(account=desk.account)
    assert (marked.current_price, marked.market_value, marked.unrealized_pnl) == (
        Decimal(195),
        Decimal(1950),
        Decimal("49.8"),
    )
    late = await desk.service.update_position_market_data(opened.id, 150, at=NOON)
    assert late.current_price == 195
    by_hand = await desk.service.update_position_market_data(opened.id, 196)
    assert by_hand.current_price == 196
    changed = await desk.service.update_position_risk_parameters(opened.id, stop_loss=Decimal(185))
    changed = await desk.service.update_position_risk_parameters(opened.id, take_profit=Decimal(205))
    assert (changed.stop_loss, changed.take_profit) == (Decimal(185), Decimal(205))
    changed = await desk.service.update_position_risk_parameters(opened.id, stop_loss=None)
    assert (changed.stop_loss, changed.take_profit) == (None, Decimal(205))
    await identities(desk)


async def test_a_summary_counts_closed_positions_and_an_empty_account_has_one(desk: Floor) -> None:
    empty = await desk.service.get_portfolio_summary(desk.account)
    assert (empty.cash, empty.equity, empty.total_positions) == (Decimal(100_000), Decimal(100_000), 0)
    assert (empty.net_pnl, empty.return_on_deposits) == (Decimal(0), Decimal(0))
    opened = await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=10)
    desk.board.show("AAPL", "200")
    await desk.service.close_position(opened.id)
    await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=1)
    summary = await desk.service.get_portfolio_summary(desk.account)
    assert (summary.total_positions, summary.open_positions_count, summary.closed_positions_count) == (2, 1, 1)
    assert summary.realized_pnl == Decimal("99.8")
    assert [held.symbol for held in summary.open_positions] == ["AAPL"]
    performance = await desk.service.get_portfolio_performance(desk.account, NOON, NOON + timedelta(days=1))
    assert (performance.opened_positions, performance.closed_positions, performance.win_rate) == (2, 1, 1.0)
    assert performance.realized_pnl == Decimal("99.8")
    assert performance.net_pnl == performance.realized_pnl - performance.total_commissions
    earlier = await desk.service.get_portfolio_performance(desk.account, NOON - timedelta(days=1), NOON)
    assert (earlier.closed_positions, earlier.win_rate, earlier.return_on_deposits) == (0, None, None)


async def test_a_summary_is_two_statements_however_many_positions(desk: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk.unit() as unit:
        symbols = [f"S{uuid4().hex[:8]}" for _ in range(5)]
        for symbol in symbols:
            await unit.assets.create(symbol=symbol, name="")
    for symbol in symbols:
        desk.board.show(symbol, "10")
        await desk.service.open_position(account=desk.account, symbol=symbol, quantity=1)
    statements: list[object] = []
    execute = AsyncCursor.execute

    async def noted(cursor: AsyncCursor[Any], statement: Any, *given: Any, **options: Any) -> AsyncCursor[Any]:
        statements.append(statement)
        return await execute(cursor, statement, *given, **options)

    monkeypatch.setattr(AsyncCursor, "execute", noted)
    summary = await desk.service.get_portfolio_summary(desk.account)
    monkeypatch.undo()
    assert len(summary.open_positions) == 5
    assert len(statements) == 2  # the account, and all that is in it


async def test_trades_are_found_by_date_and_positions_by_asset(desk: Floor) -> None:
    trade = await desk.service.execute_market_order(account=desk.account, symbol="AAPL", side="buy", quantity=2)
    assert trade.executed_at is not None
    found = await desk.service.get_trades_by_date_range(NOON, trade.executed_at, account=desk.account)
    assert found == []
    found = await desk.service.get_trades_by_date_range(
        trade.executed_at, NOON + timedelta(days=1), account=desk.account
    )
    assert found == [trade]
    held = await desk.service.get_positions_by_asset("AAPL", account=desk.account)
    assert [position.id for position in held] == [trade.position_id]
    with pytest.raises(NotFoundError):
        await desk.service.get_trade(uuid4())


async def test_a_ticker_of_several_types_needs_the_type(desk: Floor) -> None:
    symbol = f"T{uuid4().hex[:8]}"
    async with desk.unit() as unit:
        made = [await unit.assets.create(symbol=symbol, name="", asset_type=kind) for kind in ("stock", "crypto")]
    desk.board.show(symbol, "10")
    with pytest.raises(InputError, match="is crypto and stock; give asset_type"):
        await desk.service.open_position(account=desk.account, symbol=symbol, quantity=1)
    by_type = await desk.service.open_position(account=desk.account, symbol=symbol, quantity=1, asset_type="crypto")
    by_entity = await desk.service.open_position(account=desk.account, symbol=made[0], quantity=1)
    assert (by_type.asset_id, by_entity.asset_id) == (made[1].id, made[0].id)
