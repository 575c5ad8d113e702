"""The limits of a strategy: why one of them forbids an order.

They bind what opens or adds to a position; an order that only reduces one is never refused. Amounts are in quote
currency, and a limit that is null binds nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import InstrumentKind, PositionSide, TradeSide
from medalion.core.money import ZERO, exact
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote
from medalion.trading.checks import check_stop_loss, plain
from medalion.venues.base import Order
from medalion.venues.states import WORKING
from oltp.entities.trading import Fill, Position, Settlement, Strategy, Trade
from oltp.repositories.books import OPEN
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated

_DAY = timedelta(days=1)
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a strategy has in an instrument when an order comes, seen from the order's side.

    `held` is negative for a position on the other side, whose closing takes as much; `size` is its cost basis without
    sign. `working` are the orders of this side that may still fill: what is unfilled of each, and its price.
    """

    held: Decimal = ZERO
    size: Decimal = ZERO
    working: tuple[tuple[Decimal, Decimal | None], ...] = ()

    def opened_by(self, quantity: Decimal) -> Decimal:
        """What is left of an order for `quantity` once it has closed what no working order closes already.

        >>> Exposure(held=Decimal(-10), working=((Decimal(4), None),)).opened_by(Decimal(8))
        Decimal('2')
        """
        with exact():
            closing = sum((unfilled for unfilled, _ in self.working), ZERO)
            return quantity - min(quantity, max(-self.held - closing, ZERO))


def size_after(
    exposure: Exposure, quantity: Decimal, price: Decimal, *, shown: Decimal | None, multiplier: Decimal = _ONE
) -> Decimal | None:
    """The cost basis once the working orders and one more are filled; None if it cannot be known.

    A working order without a price fills at what the market has `shown`. If a position is closed on the way, then by
    the cheapest of them, which leaves the most.
    """
    priced = [(shown if at is None else at, unfilled) for unfilled, at in exposure.working]
    known = sorted([(at, unfilled) for at, unfilled in priced if at is not None] + [(price, quantity)])
    if len(known) <= len(priced):
        return None
    with exact():
        size = exposure.size if exposure.held > 0 else ZERO
        closes = max(-exposure.held, ZERO)
        for at, unfilled in known:
            closed = min(closes, unfilled)
            closes -= closed
            size += (unfilled - closed) * at * multiplier
        return size


def loss_of(
    instrument: Instrument, side: TradeSide, opened: Decimal, price: Decimal, stop_loss: Decimal | None
) -> Decimal | None:
    """What units opened at `price` lose if the stop loss is reached, without one at worst; None if without bound."""
    with exact():
        units = opened * instrument.multiplier
        if stop_loss is not None:
            return units * abs(price - stop_loss)
        if side is TradeSide.BUY:
            return units * price
        return units * (_ONE - price) if instrument.kind is InstrumentKind.OUTCOME else None


async def refusal(
    unit: UnitOfWork, strategy: Strategy, order: Order, stop_loss: Decimal | None, *, quote: Quote | None
) -> str | None:
    """Why a limit forbids the order; None if none does. Until this unit of work ends the strategy's next orders wait,
    so that of two which only together go beyond a limit, one does. `quote` is what the market shows.

    Raises:
        InputError: the stop loss is on the wrong side of what the market shows.
    """
    needs_price = strategy.max_position_size is not None or strategy.max_loss_per_trade is not None
    if not needs_price and strategy.max_daily_loss is None:
        return None
    shown = _shown(quote, order) if needs_price else None
    await _take_turn(unit, order.account_id, strategy)
    exposure = await _exposure(unit, strategy, order)
    opened = exposure.opened_by(order.quantity)
    if not opened:
        return None
    reason = _beyond_prices(strategy, order, stop_loss, exposure, opened, shown) if needs_price else None
    if reason is None and strategy.max_daily_loss is not None:
        result = await result_of_day(unit, order.account_id, strategy, order.at)
        if -result >= strategy.max_daily_loss:
            reason = (
                f"max_daily_loss of strategy {strategy.name!r} is {plain(strategy.max_daily_loss)}: on "
                f"{order.at.astimezone(UTC).date()} (UTC) it has realized {plain(result)}; until the next day it may "
                "only reduce"
            )
    return reason


def _beyond_prices(
    strategy: Strategy,
    order: Order,
    stop_loss: Decimal | None,
    exposure: Exposure,
    opened: Decimal,
    shown: Decimal | None,
) -> str | None:
    """Why the limits that take a price forbid to open so much: one that cannot be checked is not kept."""
    whose, symbol = f"of strategy {strategy.name!r}", order.instrument.symbol
    own = order.stop_price if order.limit_price is None else order.limit_price
    price = shown if own is None else own
    if price is None:
        return f"the limits {whose} cannot be checked: the market shows no price of {symbol}"
    check_stop_loss(order.side, price, stop_loss)
    if strategy.max_position_size is not None:
        size = size_after(exposure, order.quantity, price, shown=shown, multiplier=order.instrument.multiplier)
        if size is None:
            return f"max_position_size {whose} cannot be checked: the market shows no price of {symbol}"
        if size > strategy.max_position_size:
            return (
                f"max_position_size {whose} is {plain(strategy.max_position_size)}: with this order and those on "
                f"their way it would hold {symbol} for {plain(size)}"
            )
    if strategy.max_loss_per_trade is not None:
        loss = loss_of(order.instrument, order.side, opened, price, stop_loss)
        if loss is None or loss > strategy.max_loss_per_trade:
            most = "any amount" if loss is None else plain(loss)
            at = "without a stop_loss; give one" if stop_loss is None else f"at its stop_loss {plain(stop_loss)}"
            return (
                f"max_loss_per_trade {whose} is {plain(strategy.max_loss_per_trade)}: opened at {plain(price)}, "
                f"{plain(opened)} of {symbol} may lose {most} {at}"
            )
    return None


async def result_of_day(unit: UnitOfWork, account_id: UUID, strategy: Strategy, at: datetime) -> Decimal:
    """What the strategy realized in the account on the UTC day of `at`, less commissions; fills that were undone, and
    their commissions, do not count.
    """
    start = datetime.combine(at.astimezone(UTC).date(), time(), UTC)
    filled = (
        sa.select(sa.func.coalesce(sa.func.sum(Fill.realized_pnl - Fill.commission), ZERO))
        .join(Trade, Trade.id == Fill.trade_id)
        .where(
            Fill.account_id == account_id,
            Fill.executed_at >= start,
            Fill.executed_at < start + _DAY,
            Fill.busted_at.is_(None),
            Trade.strategy_id == strategy.id,
        )
        .scalar_subquery()
    )
    settled = (
        sa.select(sa.func.coalesce(sa.func.sum(Settlement.realized_pnl), ZERO))
        .join(Position, Position.id == Settlement.position_id)
        .where(
            Settlement.account_id == account_id,
            Settlement.occurred_at >= start,
            Settlement.occurred_at < start + _DAY,
            Position.strategy_id == strategy.id,
        )
        .scalar_subquery()
    )
    with translated():
        return (await unit.session.execute(sa.select(filled + settled))).scalar_one()


def _shown(quote: Quote | None, order: Order) -> Decimal | None:
    """What an order of that side meets in the market, else the mark."""
    if quote is None:
        return None
    met = quote.price_for(order.side)
    return quote.mark if met is None else met


async def _take_turn(unit: UnitOfWork, account_id: UUID, strategy: Strategy) -> None:
    key = f"risk/{account_id}/{strategy.id}"
    with translated():
        await unit.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(key, 0))))


async def _exposure(unit: UnitOfWork, strategy: Strategy, order: Order) -> Exposure:
    """In one statement: between two, a fill could leave the working orders before it has reached the position."""
    position = sa.and_(
        Position.account_id == order.account_id,
        Position.strategy_id == strategy.id,
        Position.instrument_id == order.instrument.instrument_id,
        Position.status.in_(OPEN),
    )
    working = sa.and_(
        Trade.account_id == order.account_id,
        Trade.strategy_id == strategy.id,
        Trade.instrument_id == order.instrument.instrument_id,
        Trade.side == order.side,
        Trade.status.in_(WORKING),
    )
    wanted = (
        sa.select(
            Position.side,
            Position.remaining_quantity,
            Position.cost_basis,
            (Trade.quantity - Trade.filled_quantity).label("unfilled"),
            sa.func.coalesce(Trade.limit_price, Trade.stop_price).label("price"),
        )
        .select_from(sa.select(sa.literal(1)).subquery("always"))
        .outerjoin(Position, position)
        .outerjoin(Trade, working)
    )
    with translated():
        rows = (await unit.session.execute(wanted)).all()
    first = rows[0]
    is_same_side = (first.side is PositionSide.LONG) == (order.side is TradeSide.BUY)
    held = first.remaining_quantity or ZERO
    return Exposure(
        held=held if is_same_side else -held,
        size=abs(first.cost_basis or ZERO),
        working=tuple((row.unfilled, row.price) for row in rows if row.unfilled is not None),
    )
