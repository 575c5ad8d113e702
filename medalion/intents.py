"""What a request means: whose order, of what, how much; and the trade that says so before any venue is asked."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from medalion.dtos import CreateTradeRequest
from medalion.errors import ConflictError, InputError
from medalion.instruments import amount, chosen, instrument_behind, instrument_of, strategy_of, watched
from medalion.market import Instrument, Market, Row
from medalion.orders import WORKING, price_fault
from medalion.portfolio import checked, value_of
from medalion.types import InstrumentKind, PositionSide, SignalType, TradeSide
from medalion.venues.base import Order
from oltp.base import uuid7
from oltp.repository import id_of
from oltp.trading import Account, Strategy, Trade, TradingSignal
from oltp.translation import translated
from oltp.unit_of_work import UnitOfWork

_ALL = Decimal(100)
_LONGEST_ID = 100  # as long as the audit's correlation id
_SIDES = {
    SignalType.BUY: TradeSide.BUY,
    SignalType.STRONG_BUY: TradeSide.BUY,
    SignalType.SELL: TradeSide.SELL,
    SignalType.STRONG_SELL: TradeSide.SELL,
}


@dataclass(frozen=True, slots=True)
class MarketView:
    """What each feed showed of the instruments a decision rested on; None where none of them is that feed's."""

    alpaca: Row | None
    polymarket: Row | None


@dataclass(frozen=True, slots=True)
class Intent:
    """A trade that is stored, and what its venue is to be asked; `watched` is what its snapshots show."""

    trade: Trade
    account: Account
    order: Order
    watched: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class _Prices:
    limit: Decimal | None
    stop: Decimal | None
    trail: Decimal | None
    trail_percent: Decimal | None


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


async def viewed(market: Market, instruments: tuple[Instrument, ...], at: datetime) -> MarketView:
    """What the feeds showed of the instruments, by symbol; null for one of which nothing is stored."""
    rows: dict[bool, Row] = {}
    for instrument in instruments:
        is_outcome = instrument.kind is InstrumentKind.OUTCOME
        rows.setdefault(is_outcome, {})[instrument.symbol] = await market.snapshot(instrument, at)
    alpaca, polymarket = ({"at": at, "seen": rows[feed]} if feed in rows else None for feed in (False, True))
    return MarketView(alpaca, polymarket)


async def existing(unit: UnitOfWork, account: Account, request: CreateTradeRequest, name: str) -> Trade | None:
    """The trade already made under this client order id; None if there is none.

    Raises:
        ConflictError: it is another order than the one asked for.
    """
    trade = await unit.trades.first(account_id=account.id, client_order_id=name)
    if trade is None:
        return None
    asked = {
        "trade_type": request.trade_type,
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


async def resumed(unit: UnitOfWork, trade: Trade, account: Account, at: datetime) -> Intent:
    """The intent of a trade that was stored before; a venue that has seen it knows it by its id."""
    instrument = await instrument_behind(unit, trade)
    seen = await watched(unit, instrument, trade.polymarket_event_id)
    return Intent(trade, account, order_of(trade, instrument, at), seen)


async def intend(
    unit: UnitOfWork, account: Account, request: CreateTradeRequest, name: str, market: Market, at: datetime
) -> Intent:
    """The trade, pending, in this unit of work; only once that is committed may the venue be asked.

    Raises:
        InputError, NotFoundError: the request cannot be understood.
        ConflictError: account, strategy, signal or instrument may not trade, or the position has not so much left.
    """
    signal = None if request.signal is None else await unit.signals.get(id_of(request.signal))
    which = request.strategy if request.strategy is not None or signal is None else signal.strategy_id
    strategy = None if which is None else await strategy_of(unit, which)
    instrument = await _instrument(unit, request, signal)
    if request.position_id is None:
        _may_trade(account, strategy, signal, instrument, at)
    event_id = instrument.polymarket_event_id or (None if signal is None else signal.polymarket_event_id)
    seen = await watched(unit, instrument, event_id)
    view = await viewed(market, seen, at)
    side, quantity = await _side_and_quantity(unit, request, signal)
    prices = _prices(request, side)
    for price in (prices.limit, prices.stop):
        if price is not None:
            checked(value_of(quantity, price, instrument.multiplier), name="value of the order")
    if request.is_entry:
        await _check_entry(unit, account, strategy, instrument, side)
    if signal is not None and not signal.was_acted_upon:
        signal.was_acted_upon = True
    trade = Trade(
        id=uuid7(),
        account_id=account.id,
        strategy_id=None if strategy is None else strategy.id,
        signal_id=None if signal is None else signal.id,
        position_id=request.position_id,
        instrument_id=instrument.instrument_id,
        symbol=instrument.symbol,
        asset_id=instrument.asset_id,
        option_contract_id=instrument.option_contract_id,
        outcome_id=instrument.outcome_id,
        polymarket_event_id=event_id,
        client_order_id=name,
        trade_type=request.trade_type,
        side=side,
        quantity=quantity,
        multiplier=instrument.multiplier,
        limit_price=prices.limit,
        stop_price=prices.stop,
        trail_price=prices.trail,
        trail_percent=prices.trail_percent,
        alpaca_market_data_snapshot=view.alpaca and {"decision": view.alpaca},
        polymarket_data_snapshot=view.polymarket and {"decision": view.polymarket},
        notes=request.notes,
        extra=_risk(request, signal),
    )
    await unit.trades.add(trade)
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


def _prices(request: CreateTradeRequest, side: TradeSide) -> _Prices:
    """The prices of the order.

    Raises:
        InputError: they are not those of its type, one is not above zero, or they make no sense on that side.
    """
    fault = price_fault(request)
    if fault is not None:
        raise InputError(fault, given=request.trade_type)
    prices = _Prices(
        limit=None if request.limit_price is None else amount(request.limit_price, name="limit_price"),
        stop=None if request.stop_price is None else amount(request.stop_price, name="stop_price"),
        trail=None if request.trail_price is None else amount(request.trail_price, name="trail_price"),
        trail_percent=None if request.trail_percent is None else amount(request.trail_percent, name="trail_percent"),
    )
    if prices.trail_percent is not None and prices.trail_percent >= _ALL:
        raise InputError(
            f"trail_percent {prices.trail_percent} is not below 100; give percent, 5 for 5 %",
            given=prices.trail_percent,
        )
    if prices.stop is not None and prices.limit is not None and (prices.limit - prices.stop) * side.sign < 0:
        raise InputError(
            f"a {side} with stop {prices.stop} and limit {prices.limit} could not fill when it triggers; give a limit "
            f"at the stop or {'above' if side is TradeSide.BUY else 'below'} it",
            given=prices.limit,
        )
    return prices


def _risk(request: CreateTradeRequest, signal: TradingSignal | None) -> Row | None:
    """The prices at which a position that the trade opens is to be closed; None without any."""
    risk = {}
    for field in ("stop_loss", "take_profit"):
        asked = getattr(request, field)
        advised = None if signal is None else getattr(signal, field)
        if (price := advised if asked is None else amount(asked, name=field)) is not None:
            risk[field] = price
    return {"risk": risk} if risk else None


async def _check_entry(
    unit: UnitOfWork, account: Account, strategy: Strategy | None, instrument: Instrument, side: TradeSide
) -> None:
    held = await unit.positions.find_open(account=account, strategy=strategy, instrument_id=instrument.instrument_id)
    if held is not None and (held.side is PositionSide.LONG) != (side is TradeSide.BUY):
        raise ConflictError(
            f"{account.name!r} is {held.side} {held.remaining_quantity} {held.symbol}; close position {held.id} first"
        )


def _may_trade(
    account: Account, strategy: Strategy | None, signal: TradingSignal | None, instrument: Instrument, at: datetime
) -> None:
    if not instrument.is_tradable:
        raise ConflictError(f"{instrument.kind} {instrument.symbol!r} is not tradable")
    if not account.is_active:
        raise ConflictError(f"account {account.name!r} is not active; activate it to trade")
    if strategy is not None and not strategy.is_active:
        raise ConflictError(f"strategy {strategy.name!r} {strategy.version} is not active; activate it to trade")
    if signal is not None and signal.expires_at is not None and signal.expires_at <= at:
        raise ConflictError(f"signal {signal.id} expired at {signal.expires_at.isoformat()}")


async def _instrument(unit: UnitOfWork, request: CreateTradeRequest, signal: TradingSignal | None) -> Instrument:
    if request.symbol is not None:
        return await instrument_of(unit, request.symbol, request.asset_type)
    if signal is None:
        raise InputError("nothing to trade was given; give symbol= or signal=", expected="symbol or signal")
    return await instrument_behind(unit, signal)


async def _side_and_quantity(
    unit: UnitOfWork, request: CreateTradeRequest, signal: TradingSignal | None
) -> tuple[TradeSide, Decimal]:
    if request.position_id is not None:
        return await _closing(unit, request.position_id, request.quantity)
    side, quantity = request.side, request.quantity
    if signal is not None:
        side = side if side is not None else _SIDES.get(signal.signal_type)
        quantity = quantity if quantity is not None else signal.suggested_quantity
    if side is None or quantity is None:
        raise InputError("side and quantity are needed; the signal, if any, has none", given=(side, quantity))
    return chosen(TradeSide, side, name="side"), amount(quantity, name="quantity")


async def _closing(unit: UnitOfWork, position_id: UUID, quantity: Decimal | int | None) -> tuple[TradeSide, Decimal]:
    """The side that reduces the position and how much; the lock keeps two closes from taking the same units.

    Raises:
        ConflictError: it is closed, or less is left than asked for once the orders on their way have filled.
    """
    position = await unit.positions.get(position_id, lock=True)
    side = TradeSide.SELL if position.side is PositionSide.LONG else TradeSide.BUY
    if not position.remaining_quantity:
        raise ConflictError(f"position {position.id} in {position.symbol} is {position.status}; nothing is left of it")
    unfilled = sa.select(sa.func.sum(Trade.quantity - Trade.filled_quantity)).where(
        Trade.position_id == position.id, Trade.side == side, Trade.status.in_(WORKING), sa.not_(Trade.is_deleted)
    )
    with translated():
        on_the_way = await unit.session.scalar(unfilled) or Decimal(0)
    left = position.remaining_quantity - on_the_way
    wanted = position.remaining_quantity if quantity is None else amount(quantity, name="quantity")
    if wanted > left:
        raise ConflictError(
            f"{wanted} of {position.symbol} cannot be closed: {position.remaining_quantity} are held and orders to "
            f"close {on_the_way} are on their way"
        )
    return side, wanted
