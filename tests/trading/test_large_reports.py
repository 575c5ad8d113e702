"""A report of thousands of executions is booked in one call, in order and late, to the last digit."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from medalion.core.enums import TradeStatus
from medalion.trading import orders
from medalion.trading.views import TradeDto
from medalion.venues.base import FillReport, OrderReport
from tests.support.ledger import agreement
from tests.support.trading_floor import NOON, Floor, floor

pytestmark = pytest.mark.anyio
FILLS = 2_000


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        opened.board.show("AAPL", "500")
        yield opened
        await agreement(opened)


def filled(trade: TradeDto, venue: str, *, first: int = 0) -> OrderReport:
    """The order, filled a share at a time, a second apart, each dearer by a cent."""
    fills = tuple(
        FillReport(
            venue=venue,
            account_id=trade.account_id,
            client_order_id=trade.client_order_id,
            execution_id=f"{n:06}",
            side=trade.side,
            quantity=Decimal(1),
            price=Decimal(100) + Decimal(n) / 100,
            commission=Decimal("0.01"),
            executed_at=NOON + timedelta(seconds=n),
        )
        for n in range(first, FILLS)
    )
    return OrderReport(trade.account_id, trade.client_order_id, "theirs", TradeStatus.FILLED, NOON, fills=fills)


async def ordered(desk: Floor) -> TradeDto:
    return await desk.service.execute_limit_order(
        account=desk.account, symbol="AAPL", side="buy", quantity=FILLS, limit_price=1
    )


async def test_two_thousand_fills_are_booked_in_one_call(desk: Floor) -> None:
    trade, venue = await ordered(desk), str(uuid4())
    report = filled(trade, venue)
    booked = await orders.book(desk.service._desk, report)
    assert (booked.status, booked.filled_quantity) == (TradeStatus.FILLED, Decimal(FILLS))
    assert booked.filled_value == sum((fill.price for fill in report.fills), Decimal(0))
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert (position.remaining_quantity, position.cost_basis) == (Decimal(FILLS), booked.filled_value)
    assert position.commissions == Decimal("0.01") * FILLS
    again = await orders.book(desk.service._desk, report)
    assert again.filled_quantity == FILLS


async def test_the_first_of_them_may_come_last(desk: Floor) -> None:
    trade, venue = await ordered(desk), str(uuid4())
    await orders.book(desk.service._desk, filled(trade, venue, first=1_000))
    booked = await orders.book(desk.service._desk, filled(trade, venue))
    assert (booked.status, booked.filled_quantity) == (TradeStatus.FILLED, Decimal(FILLS))
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert (position.remaining_quantity, position.opened_at) == (Decimal(FILLS), NOON)


async def test_the_trade_shows_what_the_market_showed_at_the_last_of_them(desk: Floor) -> None:
    trade, venue = await ordered(desk), str(uuid4())
    booked = await orders.book(desk.service._desk, filled(trade, venue))
    last = (NOON + timedelta(seconds=FILLS - 1)).isoformat()
    assert (booked.alpaca_market_data_snapshot or {})["fill"]["at"] in (last, NOON + timedelta(seconds=FILLS - 1))
