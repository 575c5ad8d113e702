"""What a request means, step by step, before any venue is asked: resolve → check → look → build.

Each step is a value that the next is handed: whose order of what (`ResolvedOrder`), which side, how much and at which
prices (`OrderTerms`), what the market shows (`Look`), and the pending trade with the order that says so (`Intent`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import PositionSide, SignalType, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import checked
from medalion.market.instrument import Instrument
from medalion.market.lookup import account_of, amount, chosen, instrument_behind, instrument_of, strategy_of, watched
from medalion.market.quotes import Look, look
from medalion.positions.holding import value_of
from medalion.trading.checks import Prices, check_not_ended, check_quantity, is_below_minimum, prices_of
from medalion.trading.desk import Desk
from medalion.trading.requests import CreateTradeRequest
from medalion.trading.risk import refusal
from medalion.venues.base import Order
from medalion.venues.states import WORKING
from oltp.entities.base import uuid7
from oltp.entities.trading import Account, Position, Strategy, Trade, TradingSignal
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated
from oltp.statements import trades
from oltp.statements.base import insert

_LONGEST_ID = 100  # as long as the audit's correlation id
_SIDES = {
    SignalType.BUY: TradeSide.BUY,
    SignalType.STRONG_BUY: TradeSide.BUY,
    SignalType.SELL: TradeSide.SELL,
    SignalType.STRONG_SELL: TradeSide.SELL,
}


@dataclass(frozen=True, slots=True)
class ResolvedOrder:
    """A request whose names are found: whose order, of what, under which id, when, and what a decision looks at."""

    request: CreateTradeRequest
    client_order_id: str
    at: datetime
    account: Account
    strategy: Strategy | None
    signal: TradingSignal | None
    instrument: Instrument
    event_id: UUID | None
    watched: tuple[Instrument, ...]

    @property
    def is_now(self) -> bool:
        """Whether the decision is about the market as it is, and not as it was at a time."""
        return self.request.at is None

    async def open_position(self, unit: UnitOfWork) -> Position | None:
        """The one that account and strategy have in the instrument; None if there is none."""
        return await unit.positions.find_open(
            account=self.account, strategy=self.strategy, instrument_id=self.instrument.instrument_id
        )

    def owns(self, position: Position) -> bool:
        """Whether the position is of the order's account, strategy and instrument."""
        strategy_id = None if self.strategy is None else self.strategy.id
        mine = (self.account.id, strategy_id, self.instrument.instrument_id)
        return mine == (position.account_id, position.strategy_id, position.instrument_id)


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What is ordered: the type, the side, the quantity in units or contracts, and the prices."""

    trade_type: TradeType
    side: TradeSide
    quantity: Decimal
    prices: Prices


@dataclass(frozen=True, slots=True)
class Intent:
    """A trade that is stored, and what its venue is to be asked; `look` is what the decision saw, unless resumed."""

    trade: Trade
    account: Account
    order: Order
    watched: tuple[Instrument, ...]
    look: Look | None = None


def client_order_id_of(request: CreateTradeRequest) -> str:
    """The caller's, else the signal's, else a new one.

    Raises:
        InputError: an empty one, or one longer than 100 characters.
    """
    if request.client_order_id is None:
        return f"trade-{uuid7()}" if request.signal is None else f"signal-{id_of(request.signal)}"
    if not 0 < len(request.client_order_id) <= _LONGEST_ID:
        raise InputError(
            f"client_order_id has {len(request.client_order_id)} characters; give 1 to {_LONGEST_ID}",
            given=request.client_order_id,
        )
    return request.client_order_id


async def intend(
    unit: UnitOfWork, desk: Desk, request: CreateTradeRequest, client_order_id: str, at: datetime
) -> Intent:
    """The trade, in this unit of work: only once that is committed may the venue be asked, and only if it is pending.
    What a limit of its strategy forbids is rejected here, with the reason; an order made before under this id is that
    one again.

    Raises:
        InputError, NotFoundError: the request cannot be understood, or asks what its instrument cannot do.
        ConflictError: account, strategy, signal or instrument may not trade, the position has not so much left, or the
            id is that of another order.
    """
    account = await account_of(unit, request.account)
    desk.venue_of(account)
    is_named = request.client_order_id is not None or request.signal is not None
    if is_named and (trade := await _existing(unit, account, request, client_order_id)) is not None:
        return await resumed(unit, trade, account, at)
    resolved = await _resolved(unit, account, request, client_order_id, at)
    terms = await _checked(unit, resolved)
    seen = await look(desk.market, resolved.watched, at, is_now=resolved.is_now)
    return await _built(unit, resolved, terms, seen)


async def resumed(unit: UnitOfWork, trade: Trade, account: Account, at: datetime) -> Intent:
    """The intent of a trade that was stored before; a venue that has seen it knows it by its id."""
    instrument = await instrument_behind(unit, trade)
    seen = await watched(unit, instrument, trade.polymarket_event_id)
    return Intent(trade, account, order_of(trade, instrument, at), seen)


def order_of(trade: Trade, instrument: Instrument, at: datetime) -> Order:
    """What a venue is asked to do for a trade."""
    return Order(
        account_id=trade.account_id,
        client_order_id=trade.client_order_id,
        instrument=replace(instrument, multiplier=trade.multiplier),
        side=trade.side,
        quantity=trade.quantity,
        trade_type=trade.trade_type,
        at=at,
        limit_price=trade.limit_price,
        stop_price=trade.stop_price,
        trail_price=trade.trail_price,
        trail_percent=trade.trail_percent,
    )


async def _existing(unit: UnitOfWork, account: Account, request: CreateTradeRequest, name: str) -> Trade | None:
    """The trade already made under this client order id; None if there is none.

    Raises:
        ConflictError: it is another order than the one asked for.
    """
    trade = await unit.run(trades.find, account.id, name)
    if trade is None:
        return None
    asked = {
        "trade_type": chosen(TradeType, request.trade_type, name="trade_type"),
        "side": None if request.side is None else chosen(TradeSide, request.side, name="side"),
        "quantity": request.quantity,
        "limit_price": request.limit_price,
        "stop_price": request.stop_price,
        "trail_price": request.trail_price,
        "trail_percent": request.trail_percent,
        "instrument_id": None
        if request.symbol is None
        else (await instrument_of(unit, request.symbol, request.asset_type)).instrument_id,
    }
    for field, value in asked.items():
        if value is not None and value != getattr(trade, field):
            raise ConflictError(
                f"client order id {name!r} is that of trade {trade.id}, whose {field} is {getattr(trade, field)}, not "
                f"{value}; give every order its own id"
            )
    return trade


async def _resolved(
    unit: UnitOfWork, account: Account, request: CreateTradeRequest, client_order_id: str, at: datetime
) -> ResolvedOrder:
    """The names of the request as what they mean; what it leaves out is the signal's."""
    signal = None if request.signal is None else await unit.signals.get(id_of(request.signal))
    which = request.strategy if request.strategy is not None or signal is None else signal.strategy_id
    strategy = None if which is None else await strategy_of(unit, which)
    if request.symbol is not None:
        instrument = await instrument_of(unit, request.symbol, request.asset_type)
    elif signal is not None:
        instrument = await instrument_behind(unit, signal)
    else:
        raise InputError("nothing to trade was given; give symbol= or signal=", expected="symbol or signal")
    event_id = instrument.polymarket_event_id or (None if signal is None else signal.polymarket_event_id)
    seen = await watched(unit, instrument, event_id)
    return ResolvedOrder(request, client_order_id, at, account, strategy, signal, instrument, event_id, seen)


async def _checked(unit: UnitOfWork, resolved: ResolvedOrder) -> OrderTerms:
    """What is ordered, if account, strategy, signal and instrument may trade it; a position to close is locked."""
    request, signal, instrument = resolved.request, resolved.signal, resolved.instrument
    trade_type = chosen(TradeType, request.trade_type, name="trade_type")
    check_not_ended(instrument, resolved.at)
    if request.position_id is None:
        _check_may_trade(resolved)
        side, quantity = _side_and_quantity(request, signal)
        closes_all = is_below_minimum(instrument, quantity) and await _closes_all(unit, resolved, side, quantity)
    else:
        side, quantity, closes_all = await _closing(unit, resolved, request.position_id)
    if not closes_all:
        check_quantity(instrument, quantity)
    prices = prices_of(request, signal, side, instrument)
    for price in (prices.limit, prices.stop):
        if price is not None:
            checked(value_of(quantity, price, instrument.multiplier), name="value of the order")
    if request.is_entry:
        await _check_entry(unit, resolved, side)
    return OrderTerms(trade_type, side, quantity, prices)


async def _built(unit: UnitOfWork, resolved: ResolvedOrder, terms: OrderTerms, seen: Look) -> Intent:
    """The trade, stored in this unit of work: pending, or rejected where a limit of its strategy forbids it."""
    trade = _trade(resolved, terms, seen)
    order = replace(order_of(trade, resolved.instrument, resolved.at), quote=seen.quote)
    if resolved.strategy is not None and resolved.request.position_id is None:
        reason = await refusal(unit, resolved.strategy, order, terms.prices.stop_loss, quote=seen.quote)
        if reason is not None:
            trade.status, trade.status_reason = TradeStatus.REJECTED, reason
    signal = resolved.signal
    if signal is not None and not signal.was_acted_upon:
        signal.was_acted_upon = True
    await unit.run(insert, [trade])
    return Intent(trade, resolved.account, order, resolved.watched, seen)


def _trade(resolved: ResolvedOrder, terms: OrderTerms, seen: Look) -> Trade:
    instrument, prices = resolved.instrument, terms.prices
    return Trade(
        id=uuid7(),
        account_id=resolved.account.id,
        strategy_id=None if resolved.strategy is None else resolved.strategy.id,
        signal_id=None if resolved.signal is None else resolved.signal.id,
        position_id=resolved.request.position_id,
        instrument_id=instrument.instrument_id,
        symbol=instrument.symbol,
        asset_id=instrument.asset_id,
        option_contract_id=instrument.option_contract_id,
        outcome_id=instrument.outcome_id,
        polymarket_event_id=resolved.event_id,
        client_order_id=resolved.client_order_id,
        trade_type=terms.trade_type,
        side=terms.side,
        quantity=terms.quantity,
        multiplier=instrument.multiplier,
        limit_price=prices.limit,
        stop_price=prices.stop,
        trail_price=prices.trail,
        trail_percent=prices.trail_percent,
        alpaca_market_data_snapshot=seen.alpaca and {"decision": seen.alpaca},
        polymarket_data_snapshot=seen.polymarket and {"decision": seen.polymarket},
        notes=resolved.request.notes,
        extra={"risk": prices.risk} if prices.risk else None,
    )


async def _check_entry(unit: UnitOfWork, resolved: ResolvedOrder, side: TradeSide) -> None:
    held = await resolved.open_position(unit)
    if held is not None and (held.side is PositionSide.LONG) != (side is TradeSide.BUY):
        raise ConflictError(
            f"{resolved.account.name!r} is {held.side} {held.remaining_quantity} {held.symbol}; close position "
            f"{held.id} first"
        )


async def _closes_all(unit: UnitOfWork, resolved: ResolvedOrder, side: TradeSide, quantity: Decimal) -> bool:
    held = await resolved.open_position(unit)
    return held is not None and held.signed_quantity == -quantity * side.sign


def _check_may_trade(resolved: ResolvedOrder) -> None:
    instrument, account, strategy, signal = resolved.instrument, resolved.account, resolved.strategy, resolved.signal
    if not instrument.is_tradable:
        raise ConflictError(f"{instrument.kind} {instrument.symbol!r} is not tradable")
    if not account.is_active:
        raise ConflictError(f"account {account.name!r} is not active; activate it to trade")
    if strategy is not None and not strategy.is_active:
        raise ConflictError(f"strategy {strategy.name!r} {strategy.version} is not active; activate it to trade")
    if signal is not None and signal.expires_at is not None and signal.expires_at <= resolved.at:
        raise ConflictError(f"signal {signal.id} expired at {signal.expires_at.isoformat()}")


def _side_and_quantity(request: CreateTradeRequest, signal: TradingSignal | None) -> tuple[TradeSide, Decimal]:
    side, quantity = request.side, request.quantity
    if signal is not None:
        side = side if side is not None else _SIDES.get(signal.signal_type)
        quantity = quantity if quantity is not None else signal.suggested_quantity
    if side is None or quantity is None:
        raise InputError("side and quantity are needed; the signal, if any, has none", given=(side, quantity))
    return chosen(TradeSide, side, name="side"), amount(quantity, name="quantity")


async def _closing(unit: UnitOfWork, resolved: ResolvedOrder, position_id: UUID) -> tuple[TradeSide, Decimal, bool]:
    """The side that reduces the position, how much, and whether nothing is left then; the lock keeps two closes from
    taking the same units.

    Raises:
        InputError: the order is of another account, strategy or instrument than the position.
        ConflictError: it is closed, or less is left than asked for once the orders on their way have filled.
    """
    position = await unit.positions.get(position_id, lock=True)
    if not resolved.owns(position):
        raise InputError(
            f"position {position.id} in {position.symbol} is not of the order's account, strategy and instrument; give "
            "those of the position",
            given=position_id,
        )
    side = TradeSide.SELL if position.side is PositionSide.LONG else TradeSide.BUY
    if not position.remaining_quantity:
        raise ConflictError(f"position {position.id} in {position.symbol} is {position.status}; nothing is left of it")
    unfilled = sa.select(sa.func.sum(Trade.quantity - Trade.filled_quantity)).where(
        Trade.position_id == position.id, Trade.side == side, Trade.status.in_(WORKING), sa.not_(Trade.is_deleted)
    )
    with translated():
        on_the_way = await unit.session.scalar(unfilled) or Decimal(0)
    left = position.remaining_quantity - on_the_way
    quantity = resolved.request.quantity
    wanted = position.remaining_quantity if quantity is None else amount(quantity, name="quantity")
    if wanted > left:
        raise ConflictError(
            f"{wanted} of {position.symbol} cannot be closed: {position.remaining_quantity} are held and orders to "
            f"close {on_the_way} are on their way"
        )
    return side, wanted, wanted == left
