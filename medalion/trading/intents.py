"""What a request means: whose order, of what, how much; and the trade that says so before any venue is asked."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import PositionSide, SignalType, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import checked
from medalion.market.instrument import Instrument
from medalion.market.lookup import amount, chosen, instrument_behind, instrument_of, strategy_of, watched
from medalion.market.quotes import Market, viewed
from medalion.positions.holding import value_of
from medalion.trading.checks import check_not_ended, check_quantity, is_below_minimum, prices_of
from medalion.trading.requests import CreateTradeRequest
from medalion.trading.risk import refusal
from medalion.venues.base import Order
from medalion.venues.states import WORKING
from oltp.entities.base import uuid7
from oltp.entities.trading import Account, Position, Strategy, Trade, TradingSignal
from oltp.repositories.base import id_of
from oltp.repositories.rows import rows_of, run
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated

_LONGEST_ID = 100  # as long as the audit's correlation id
_SIDES = {
    SignalType.BUY: TradeSide.BUY,
    SignalType.STRONG_BUY: TradeSide.BUY,
    SignalType.SELL: TradeSide.SELL,
    SignalType.STRONG_SELL: TradeSide.SELL,
}


@dataclass(frozen=True, slots=True)
class Intent:
    """A trade that is stored, and what its venue is to be asked; `watched` is what its snapshots show."""

    trade: Trade
    account: Account
    order: Order
    watched: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class _Owned:
    """Whose order, of what: the three that a position is kept for."""

    account: Account
    strategy: Strategy | None
    instrument: Instrument

    async def position(self, unit: UnitOfWork) -> Position | None:
        """The open one; None if there is none."""
        return await unit.positions.find_open(
            account=self.account, strategy=self.strategy, instrument_id=self.instrument.instrument_id
        )

    def owns(self, position: Position) -> bool:
        strategy_id = None if self.strategy is None else self.strategy.id
        mine = (self.account.id, strategy_id, self.instrument.instrument_id)
        return mine == (position.account_id, position.strategy_id, position.instrument_id)


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


async def existing(unit: UnitOfWork, account: Account, request: CreateTradeRequest, name: str) -> Trade | None:
    """The trade already made under this client order id; None if there is none.

    Raises:
        ConflictError: it is another order than the one asked for.
    """
    trade = await unit.trades.first(account_id=account.id, client_order_id=name)
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


async def resumed(unit: UnitOfWork, trade: Trade, account: Account, at: datetime) -> Intent:
    """The intent of a trade that was stored before; a venue that has seen it knows it by its id."""
    instrument = await instrument_behind(unit, trade)
    seen = await watched(unit, instrument, trade.polymarket_event_id)
    return Intent(trade, account, order_of(trade, instrument, at), seen)


async def intend(
    unit: UnitOfWork, account: Account, request: CreateTradeRequest, name: str, market: Market, at: datetime
) -> Intent:
    """The trade, in this unit of work; only once that is committed may the venue be asked, and only if it is pending:
    what a limit of its strategy forbids is rejected here, with the reason.

    Raises:
        InputError, NotFoundError: the request cannot be understood, or asks what its instrument cannot do.
        ConflictError: account, strategy, signal or instrument may not trade, or the position has not so much left.
    """
    trade_type = chosen(TradeType, request.trade_type, name="trade_type")
    signal = None if request.signal is None else await unit.signals.get(id_of(request.signal))
    which = request.strategy if request.strategy is not None or signal is None else signal.strategy_id
    strategy = None if which is None else await strategy_of(unit, which)
    instrument = await _instrument(unit, request, signal)
    check_not_ended(instrument, at)
    if request.position_id is None:
        _may_trade(account, strategy, signal, instrument, at)
    event_id = instrument.polymarket_event_id or (None if signal is None else signal.polymarket_event_id)
    seen = await watched(unit, instrument, event_id)
    view = await viewed(market, seen, at)
    owned = _Owned(account, strategy, instrument)
    if request.position_id is None:
        side, quantity = _side_and_quantity(request, signal)
        closes_all = is_below_minimum(instrument, quantity) and await _closes_all(unit, owned, side, quantity)
    else:
        side, quantity, closes_all = await _closing(unit, owned, request.position_id, request.quantity)
    if not closes_all:
        check_quantity(instrument, quantity)
    prices = prices_of(request, signal, side, instrument)
    for price in (prices.limit, prices.stop):
        if price is not None:
            checked(value_of(quantity, price, instrument.multiplier), name="value of the order")
    if request.is_entry:
        await _check_entry(unit, owned, side)
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
        trade_type=trade_type,
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
        extra={"risk": prices.risk} if prices.risk else None,
    )
    order = order_of(trade, instrument, at)
    if strategy is not None and request.position_id is None:
        reason = await refusal(unit, strategy, order, prices.stop_loss, market=market)
        if reason is not None:
            trade.status, trade.status_reason = TradeStatus.REJECTED, reason
    if signal is not None and not signal.was_acted_upon:
        signal.was_acted_upon = True
    await run(unit.session, rows_of(Trade).insertion(trade))
    return Intent(trade, account, order, seen)


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


async def _check_entry(unit: UnitOfWork, owned: _Owned, side: TradeSide) -> None:
    held = await owned.position(unit)
    if held is not None and (held.side is PositionSide.LONG) != (side is TradeSide.BUY):
        raise ConflictError(
            f"{owned.account.name!r} is {held.side} {held.remaining_quantity} {held.symbol}; close position {held.id} "
            "first"
        )


async def _closes_all(unit: UnitOfWork, owned: _Owned, side: TradeSide, quantity: Decimal) -> bool:
    held = await owned.position(unit)
    return held is not None and held.signed_quantity == -quantity * side.sign


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


def _side_and_quantity(request: CreateTradeRequest, signal: TradingSignal | None) -> tuple[TradeSide, Decimal]:
    side, quantity = request.side, request.quantity
    if signal is not None:
        side = side if side is not None else _SIDES.get(signal.signal_type)
        quantity = quantity if quantity is not None else signal.suggested_quantity
    if side is None or quantity is None:
        raise InputError("side and quantity are needed; the signal, if any, has none", given=(side, quantity))
    return chosen(TradeSide, side, name="side"), amount(quantity, name="quantity")


async def _closing(
    unit: UnitOfWork, owned: _Owned, position_id: UUID, quantity: Decimal | int | None
) -> tuple[TradeSide, Decimal, bool]:
    """The side that reduces the position, how much, and whether nothing is left then; the lock keeps two closes from
    taking the same units.

    Raises:
        InputError: the order is of another account, strategy or instrument than the position.
        ConflictError: it is closed, or less is left than asked for once the orders on their way have filled.
    """
    position = await unit.positions.get(position_id, lock=True)
    if not owned.owns(position):
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
    wanted = position.remaining_quantity if quantity is None else amount(quantity, name="quantity")
    if wanted > left:
        raise ConflictError(
            f"{wanted} of {position.symbol} cannot be closed: {position.remaining_quantity} are held and orders to "
            f"close {on_the_way} are on their way"
        )
    return side, wanted, wanted == left
