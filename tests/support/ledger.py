"""What tests of the ledger do again and again, and what must agree in the books of an account after all of it."""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from medalion.core.enums import CashMovementType, SettlementType, TradeStatus
from medalion.core.money import exact
from medalion.venues.base import FillReport
from tests.support.trading_floor import NOON, Floor

_BY_EVENT = (CashMovementType.SETTLEMENT, CashMovementType.DIVIDEND)


async def agreement(desk: Floor) -> None:
    """Cash, positions, fills, settlements and trades of the account say the same, to the last digit."""
    summary = await desk.service.get_portfolio_summary(desk.account)
    async with desk.unit() as unit:
        positions = await unit.positions.find(account_id=desk.account.id)
        fills = await unit.fills.find(account_id=desk.account.id, busted_at=None)
        settlements = await unit.settlements.find(account_id=desk.account.id)
        trades = await unit.trades.find(account_id=desk.account.id)
        movements = await unit.cash_movements.by_account(desk.account)
    held, booked = defaultdict[int, Decimal](Decimal), defaultdict[int, Decimal](Decimal)
    with exact():
        for position in positions:
            held[position.instrument_id] += position.signed_quantity
        for fill in fills:
            booked[fill.instrument_id] += fill.quantity * fill.side.sign
        for settlement in settlements:
            booked[settlement.instrument_id] += settlement.quantity
        assert {number: units for number, units in held.items() if units} == {n: u for n, u in booked.items() if u}
        moved = defaultdict[CashMovementType, Decimal](Decimal)
        for movement in movements:
            moved[movement.movement_type] += movement.amount
        assert sum(moved[kind] for kind in _BY_EVENT) == sum(settlement.cash for settlement in settlements)
        assert -moved[CashMovementType.TRADE] == sum(trade.filled_value * trade.side.sign for trade in trades)
        for rows in (fills, trades):
            assert -moved[CashMovementType.COMMISSION] == sum(row.commission for row in rows)
        realized = sum(row.realized_pnl for rows in (fills, settlements) for row in rows)
        assert summary.realized_pnl == realized
        assert summary.cash == summary.deposits - summary.cost_basis + realized - summary.total_commissions
        for trade in trades:
            own = [fill for fill in fills if fill.trade_id == trade.id]
            assert trade.filled_quantity == sum(fill.quantity for fill in own)


async def hold(desk: Floor, symbol: str, quantity: int, price: str = "5.20") -> Any:
    """The position after a trade at the price; a negative quantity is sold."""
    desk.board.show(symbol, price)
    side = "buy" if quantity > 0 else "sell"
    trade = await desk.service.execute_market_order(
        account=desk.account, symbol=symbol, side=side, quantity=abs(quantity)
    )
    assert trade.position_id is not None
    return await desk.service.get_position(trade.position_id)


async def rest(desk: Floor, symbol: str, quantity: int = 1, **order: Any) -> Any:
    """A limit order far from the market."""
    desk.board.show(symbol, "0.90" if quantity > 0 else "0.10")
    side, limit = ("buy", Decimal("0.01")) if quantity > 0 else ("sell", Decimal("0.99"))
    trade = await desk.service.execute_limit_order(
        account=desk.account, symbol=symbol, side=side, quantity=abs(quantity), limit_price=limit, **order
    )
    assert trade.status is TradeStatus.SUBMITTED
    return trade


def late_fill(trade: Any, price: str = "0.01") -> FillReport:
    """An execution before the end, of which the venue tells after it."""
    return FillReport(
        venue="elsewhere",
        account_id=trade.account_id,
        client_order_id=trade.client_order_id,
        execution_id=str(uuid4()),
        side=trade.side,
        quantity=trade.quantity,
        price=Decimal(price),
        commission=Decimal("0.10"),
        executed_at=NOON + timedelta(hours=1),
    )


async def settlements(desk: Floor) -> list[tuple[SettlementType, Decimal, Decimal | None, Decimal, Decimal]]:
    async with desk.unit() as unit:
        found = await unit.settlements.find(account_id=desk.account.id)
    return [(row.settlement_type, row.quantity, row.price, row.cash, row.realized_pnl) for row in found]


async def cash(desk: Floor) -> Decimal:
    return (await desk.service.get_portfolio_summary(desk.account)).cash
