"""What the books say: trades, positions, and an account as a whole; and the marks that positions are valued at."""

from datetime import datetime
from decimal import Decimal
from types import EllipsisType
from typing import TypeAlias
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import AssetType, CashMovementType, InstrumentKind
from medalion.core.errors import ConflictError
from medalion.core.time import Instant, TimeRange
from medalion.market.instrument import Instrument
from medalion.market.lookup import account_of, amount, instrument_of
from medalion.market.names import AccountLike, Tradable
from medalion.stats.trades import TradeStatistics
from medalion.trading import summary
from medalion.trading.desk import Desk
from medalion.trading.views import PortfolioPerformanceDto, PortfolioSummaryDto, PositionDto, TradeDto
from oltp.entities.reference import INSTRUMENTS
from oltp.entities.trading import Fill, Position, Trade
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated
from oltp.statements import positions

Which: TypeAlias = UUID | str


async def get_trade(desk: Desk, trade: Which) -> TradeDto:
    """The trade of that id; raises NotFoundError."""
    async with desk.units() as unit:
        return TradeDto.of(await unit.trades.get(trade))


async def get_trades_by_position(desk: Desk, position: Which) -> list[TradeDto]:
    """The trades whose fills made the position what it is, in the order they were placed."""
    async with desk.units() as unit:
        held = await unit.positions.get(position)
        # A trade that crossed zero closed the position it belongs to, and opened this one with its last fill.
        opening = sa.select(Fill.trade_id).where(
            Fill.instrument_id == held.instrument_id,
            Fill.executed_at == held.opened_at,
            Fill.extra["positions"].contains([str(held.id)]),
        )
        belongs = sa.or_(Trade.position_id == held.id, Trade.id.in_(opening))
        return [TradeDto.of(trade) for trade in await unit.trades.find(belongs, order=(Trade.id,))]


async def get_trades_by_date_range(
    desk: Desk, start: Instant, end: Instant, *, account: AccountLike | None = None
) -> list[TradeDto]:
    """The trades executed in `[start, end)`, newest first."""
    async with desk.units() as unit:
        owner = None if account is None else await account_of(unit, account)
        return [TradeDto.of(trade) for trade in await unit.trades.by_date_range(start, end, account=owner)]


async def get_position(desk: Desk, position: Which) -> PositionDto:
    """The position of that id; raises NotFoundError."""
    async with desk.units() as unit:
        return PositionDto.of(await unit.positions.get(position))


async def get_open_positions(desk: Desk, *, account: AccountLike | None = None) -> list[PositionDto]:
    """The positions that still hold something, partially closed ones too, newest first."""
    async with desk.units() as unit:
        owner = None if account is None else await account_of(unit, account)
        return [PositionDto.of(position) for position in await unit.positions.open(account=owner)]


async def get_positions_by_asset(
    desk: Desk, symbol: Tradable, *, asset_type: AssetType | str | None = None, account: AccountLike | None = None
) -> list[PositionDto]:
    """The positions, open and closed, in one instrument, newest first."""
    async with desk.units() as unit:
        instrument = await instrument_of(unit, symbol, asset_type)
        meant = [Position.instrument_id == instrument.instrument_id]
        if account is not None:
            meant.append(Position.account_id == (await account_of(unit, account)).id)
        found = await unit.positions.find(*meant)
        return [PositionDto.of(position) for position in found]


async def update_position_risk_parameters(
    desk: Desk,
    position: Which,
    *,
    stop_loss: Decimal | int | EllipsisType | None = ...,
    take_profit: Decimal | int | EllipsisType | None = ...,
) -> PositionDto:
    """The open position with these prices; what is left out stays, None removes it.

    Raises:
        ConflictError: the position is closed.
    """
    given = {"stop_loss": stop_loss, "take_profit": take_profit}
    changes = {
        name: None if price is None else amount(price, name=name)
        for name, price in given.items()
        if not isinstance(price, EllipsisType)
    }
    async with desk.units() as unit:
        held = _still_open(await unit.positions.get(position, lock=True))
        return PositionDto.of(await unit.positions.update(held, **changes))


async def update_position_market_data(
    desk: Desk, position: Which, price: Decimal | int, *, at: datetime | None = None
) -> PositionDto:
    """The open position marked at `price`, unless a later mark is known.

    Raises:
        ConflictError: the position is closed.
    """
    mark, moment = amount(price, name="price"), desk.at(at)
    async with desk.units() as unit:
        held = _still_open(await unit.positions.get(position, lock=True))
        return PositionDto.of(await unit.positions.update(held, **_marks(held, mark, moment)))


async def mark_to_market(
    desk: Desk, *, account: AccountLike | None = None, at: datetime | None = None
) -> list[PositionDto]:
    """The open positions, each marked at the middle of its quote; one without a quote keeps its mark."""
    moment = desk.at(at)
    async with desk.units() as unit:
        owner = None if account is None else await account_of(unit, account)
        held = await unit.positions.open(account=owner)
        instruments = await _instruments(unit, {position.instrument_id for position in held})
    marks: dict[int, Decimal] = {}
    for instrument in instruments:
        quote = await (desk.market.now(instrument) if at is None else desk.market.at(instrument, moment))
        if quote is not None and quote.mark is not None:
            marks[instrument.instrument_id] = quote.mark
    async with desk.units() as unit:
        marked = await unit.run(positions.mark, [position.id for position in held], marks, moment)
        return [PositionDto.of(position) for position in marked]


async def deposit(
    desk: Desk, account: AccountLike, quantity: Decimal | int, *, at: datetime | None = None, note: str | None = None
) -> Decimal:
    """The account's cash after `quantity` of its base currency came in."""
    return await _move(desk, account, CashMovementType.DEPOSIT, amount(quantity, name="deposit"), at, note)


async def withdraw(
    desk: Desk, account: AccountLike, quantity: Decimal | int, *, at: datetime | None = None, note: str | None = None
) -> Decimal:
    """The account's cash after `quantity` of its base currency went out."""
    return await _move(desk, account, CashMovementType.WITHDRAWAL, -amount(quantity, name="withdrawal"), at, note)


async def _move(
    desk: Desk, account: AccountLike, kind: CashMovementType, moved: Decimal, at: datetime | None, note: str | None
) -> Decimal:
    async with desk.units() as unit:
        owner = await account_of(unit, account)
        await unit.cash_movements.create(
            account_id=owner.id,
            movement_type=kind,
            amount=moved,
            currency=owner.base_currency,
            occurred_at=desk.at(at),
            note=note,
        )
        return await unit.cash_movements.balance(owner)


async def get_portfolio_summary(desk: Desk, account: AccountLike) -> PortfolioSummaryDto:
    """Cash, positions and P&L of the account at the last marks, all of one moment."""
    async with desk.units() as unit:
        return await summary.summary(unit, await account_of(unit, account))


async def get_portfolio_performance(
    desk: Desk, account: AccountLike, start: Instant | None = None, end: Instant | None = None
) -> PortfolioPerformanceDto:
    """What the account did in `[start, end)`, by the positions closed in it."""
    during = TimeRange.of(start, end)
    async with desk.units() as unit:
        return await summary.performance(unit, await account_of(unit, account), during)


async def get_trade_statistics(
    desk: Desk, account: AccountLike, start: Instant | None = None, end: Instant | None = None
) -> TradeStatistics:
    """Statistics of the account's positions closed in `[start, end)`."""
    during = TimeRange.of(start, end)
    async with desk.units() as unit:
        return await summary.statistics(unit, await account_of(unit, account), during)


def _still_open(position: Position) -> Position:
    if not position.remaining_quantity:
        raise ConflictError(f"position {position.id} in {position.symbol} is {position.status}")
    return position


def _marks(position: Position, mark: Decimal, at: datetime) -> dict[str, Decimal | datetime]:
    """What to change; nothing where a later mark is known."""
    is_newer = position.marked_at is None or at >= position.marked_at
    return {"current_price": mark, "marked_at": at} if is_newer else {}


async def _instruments(unit: UnitOfWork, numbers: set[int]) -> list[Instrument]:
    """The instruments of these numbers, without the entities they stand for, in the order of numbers."""
    columns = INSTRUMENTS.c
    wanted = sa.select(columns.kind, columns.instrument_id, columns.symbol).where(columns.instrument_id.in_(numbers))
    with translated():
        rows = await unit.session.execute(wanted.order_by(columns.instrument_id))
        return [Instrument(InstrumentKind(kind), number, symbol) for kind, number, symbol in rows]
