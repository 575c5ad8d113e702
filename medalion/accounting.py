"""A fill in the books: the trade's status, the position it changes, and the cash that moves."""

from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from medalion.errors import ConflictError, NotFoundError
from medalion.intents import MarketView
from medalion.orders import after_report
from medalion.portfolio import ZERO, Holding, Step, value_of
from medalion.types import CashMovementType, PositionSide, PositionStatus, exact
from medalion.venues.base import FillReport, OrderReport
from oltp.base import uuid7
from oltp.trading import CashMovement, Fill, Position, Trade
from oltp.translation import translated
from oltp.unit_of_work import UnitOfWork


async def record(unit: UnitOfWork, report: OrderReport, views: dict[str, MarketView]) -> Trade:
    """The trade once the report is booked: each execution once, however often it is reported.

    `views` has what the market showed at each execution, by execution id.

    Raises:
        NotFoundError: no trade has the report's client order id.
        ConflictError: the report contradicts the books.
    """
    trade = await _locked(unit, report.account_id, report.client_order_id)
    known = {} if trade.executed_at is None else await _booked(unit, report.fills)
    for fill in report.fills:
        if fill.execution_id in known:
            _check_same(known[fill.execution_id], fill, trade)
        else:
            await _book(unit, trade, fill, views.get(fill.execution_id))
    status = after_report(trade.status, report.status, ordered=trade.quantity, filled=trade.filled_quantity)
    if report.venue_order_id is not None and trade.external_trade_id is None:
        trade.external_trade_id, trade.submitted_at = report.venue_order_id, report.at
    if status is not trade.status:
        trade.status, trade.status_reason = status, report.reason
    return await unit.trades.update(trade)


async def position_after(unit: UnitOfWork, fill: FillReport) -> UUID:
    """The position that a booked execution led to: where it crossed zero, the one it opened."""
    booked = await unit.fills.first(venue=fill.venue, execution_id=fill.execution_id)
    if booked is None or booked.extra is None:
        raise NotFoundError("fill", fill.execution_id)
    return UUID(booked.extra["positions"][-1])


async def _locked(unit: UnitOfWork, account_id: UUID, client_order_id: str) -> Trade:
    """The trade with its account; nobody else books to it before this unit of work ends."""
    wanted = (
        sa.select(Trade)
        .where(Trade.account_id == account_id, Trade.client_order_id == client_order_id)
        .options(orm.joinedload(Trade.account, innerjoin=True))
        .with_for_update(of=Trade)
        .execution_options(populate_existing=True)
    )
    with translated():
        trade = await unit.session.scalar(wanted)
    if trade is None:
        raise NotFoundError("trade with client order id", client_order_id, hint=f"in account {account_id}")
    return trade


async def _booked(unit: UnitOfWork, fills: tuple[FillReport, ...]) -> dict[str, Fill]:
    if not fills:
        return {}
    named = Fill.execution_id.in_([fill.execution_id for fill in fills])
    return {fill.execution_id: fill for fill in await unit.fills.find(named, venue=fills[0].venue)}


def _check_same(booked: Fill, fill: FillReport, trade: Trade) -> None:
    was = (booked.trade_id, booked.side, booked.quantity, booked.price, booked.commission)
    if was != (trade.id, fill.side, fill.quantity, fill.price, fill.commission):
        raise ConflictError(
            f"{fill.venue} reports execution {fill.execution_id} again, as {fill.side} {fill.quantity} at {fill.price} "
            f"of {trade.client_order_id!r}; booked is {booked.side} {booked.quantity} at {booked.price}"
        )


async def _book(unit: UnitOfWork, trade: Trade, fill: FillReport, view: MarketView | None) -> None:
    if fill.side is not trade.side:
        raise ConflictError(f"{fill.venue} reports a {fill.side} for {trade.side} order {trade.client_order_id!r}")
    position = await _open_position(unit, trade)
    held = Holding(multiplier=trade.multiplier) if position is None else holding_of(position)
    changed: list[Position] = []
    for step in held.apply(fill.side, fill.quantity, fill.price, commission=fill.commission):
        if position is None:
            position = _opened(trade, fill, step, view)
        _apply(position, fill, step, view)
        # One at a time: of two open positions in one flush, the new one would be inserted before the old one closes.
        await unit.positions.add(position)
        changed.append(position)
        position = None
    booked = Fill(
        id=uuid7(),
        trade_id=trade.id,
        account_id=trade.account_id,
        instrument_id=trade.instrument_id,
        venue=fill.venue,
        execution_id=fill.execution_id,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        commission=fill.commission,
        executed_at=fill.executed_at,
        extra={"positions": [position.id for position in changed]},
    )
    await unit.fills.add(booked)
    await unit.cash_movements.add_many(_cash(trade, fill, booked.id))
    with exact():
        trade.filled_quantity += fill.quantity
        trade.filled_value += value_of(fill.quantity, fill.price, trade.multiplier)
        trade.commission += fill.commission
    trade.position_id = trade.position_id or changed[0].id
    trade.executed_at = max(trade.executed_at or fill.executed_at, fill.executed_at)
    if view is not None:
        trade.alpaca_market_data_snapshot = _with_fill(trade.alpaca_market_data_snapshot, view.alpaca)
        trade.polymarket_data_snapshot = _with_fill(trade.polymarket_data_snapshot, view.polymarket)


def _with_fill(snapshot: dict[str, object] | None, seen: dict[str, object] | None) -> dict[str, object] | None:
    return snapshot if seen is None else {**(snapshot or {}), "fill": seen}


def _cash(trade: Trade, fill: FillReport, fill_id: UUID) -> list[CashMovement]:
    """What was paid or received, and apart from it the commission."""
    amounts = {CashMovementType.TRADE: -value_of(fill.quantity * fill.side.sign, fill.price, trade.multiplier)}
    if fill.commission:
        amounts[CashMovementType.COMMISSION] = -fill.commission
    return [
        CashMovement(
            account_id=trade.account_id,
            movement_type=movement,
            amount=amount,
            currency=trade.account.base_currency,
            occurred_at=fill.executed_at,
            trade_id=trade.id,
            fill_id=fill_id,
        )
        for movement, amount in amounts.items()
    ]


async def _open_position(unit: UnitOfWork, trade: Trade) -> Position | None:
    """The position that a fill of the trade changes, locked; None if it opens one, which then nobody else does."""

    async def find() -> Position | None:
        return await unit.positions.find_open(
            account=trade.account_id, strategy=trade.strategy_id, instrument_id=trade.instrument_id, lock=True
        )

    if (found := await find()) is not None:
        return found
    # There is no row to lock yet, and one that was opened meanwhile is only seen by a new statement.
    key = f"position/{trade.account_id}/{trade.strategy_id}/{trade.instrument_id}"
    with translated():
        await unit.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(key, 0))))
    return await find()


def holding_of(position: Position) -> Holding:
    """What the position holds, for the arithmetic."""
    return Holding(position.signed_quantity, position.cost_basis, position.realized_pnl, position.multiplier)


def _opened(trade: Trade, fill: FillReport, step: Step, view: MarketView | None) -> Position:
    """A position that holds nothing yet."""
    risk = (trade.extra or {}).get("risk", {})
    stop_loss, take_profit = risk.get("stop_loss"), risk.get("take_profit")
    return Position(
        id=uuid7(),
        account_id=trade.account_id,
        strategy_id=trade.strategy_id,
        instrument_id=trade.instrument_id,
        symbol=trade.symbol,
        asset_id=trade.asset_id,
        option_contract_id=trade.option_contract_id,
        outcome_id=trade.outcome_id,
        polymarket_event_id=trade.polymarket_event_id,
        side=PositionSide.LONG if step.quantity > 0 else PositionSide.SHORT,
        quantity=ZERO,
        remaining_quantity=ZERO,
        multiplier=trade.multiplier,
        realized_pnl=ZERO,
        commissions=ZERO,
        opened_at=fill.executed_at,
        stop_loss=None if stop_loss is None else Decimal(stop_loss),
        take_profit=None if take_profit is None else Decimal(take_profit),
        alpaca_open_snapshot=None if view is None else view.alpaca,
        polymarket_open_snapshot=None if view is None else view.polymarket,
    )


def _apply(position: Position, fill: FillReport, step: Step, view: MarketView | None) -> None:
    holding = step.holding
    is_entry = (step.quantity > 0) == (position.side is PositionSide.LONG)
    with exact():
        if is_entry:
            position.quantity += abs(step.quantity)
        position.commissions += step.commission
    position.remaining_quantity = abs(holding.quantity)
    position.cost_basis, position.realized_pnl = holding.cost_basis, holding.realized_pnl
    if position.marked_at is None or fill.executed_at >= position.marked_at:
        position.current_price, position.marked_at = fill.price, fill.executed_at
    if step.closes:
        position.status, position.closed_at = PositionStatus.CLOSED, fill.executed_at
        if view is not None:
            position.alpaca_close_snapshot, position.polymarket_close_snapshot = view.alpaca, view.polymarket
    elif position.remaining_quantity < position.quantity:
        position.status = PositionStatus.PARTIALLY_CLOSED
    else:
        position.status = PositionStatus.OPEN
