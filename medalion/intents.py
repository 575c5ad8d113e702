"""What a request means: whose order, of what, how much; and the trade that says so before any venue is asked."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from medalion.dtos import AccountLike, CreateTradeRequest, StrategyLike, Tradable
from medalion.errors import ConflictError, InputError, NotFoundError
from medalion.market import Instrument, Market, Row
from medalion.orders import WORKING
from medalion.portfolio import checked, value_of
from medalion.types import AssetType, InstrumentKind, PositionSide, SignalType, TradeSide, TradeType
from medalion.venues.base import Order
from oltp.base import uuid7
from oltp.reference import INSTRUMENTS, Asset, OptionContract, PolymarketMarket, PolymarketOutcome
from oltp.repository import id_of
from oltp.trading import Account, Position, Strategy, Trade, TradingSignal
from oltp.translation import translated
from oltp.unit_of_work import UnitOfWork

_SUGGESTED_FROM = 10_000
_LONGEST_ID = 100  # as long as the audit's correlation id
_SIDES = {
    SignalType.BUY: TradeSide.BUY,
    SignalType.STRONG_BUY: TradeSide.BUY,
    SignalType.SELL: TradeSide.SELL,
    SignalType.STRONG_SELL: TradeSide.SELL,
}
Choice = TypeVar("Choice", TradeSide, PositionSide, AssetType)


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


def chosen(kind: type[Choice], value: Choice | str, *, name: str) -> Choice:
    """The member that `value` names.

    Raises:
        InputError: there is none.
    """
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(kind)
        raise InputError(f"{name} is {value!r}; give one of {known}", given=value, expected=known) from error


def amount(value: Decimal | int, *, name: str) -> Decimal:
    """`value` above zero, as decimal(18,8) holds it; raises InputError otherwise."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return checked(Decimal(value) if is_whole else value, name=name, positive=True)  # type: ignore[arg-type]


def client_order_id(request: CreateTradeRequest) -> str:
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


async def account_of(unit: UnitOfWork, which: AccountLike) -> Account:
    """The account of that id or name; raises NotFoundError with the nearest names."""
    known = _id(which)
    return await (unit.accounts.by_name(str(which)) if known is None else unit.accounts.get(known))


async def strategy_of(unit: UnitOfWork, which: StrategyLike) -> Strategy:
    """The strategy of that id, or the newest of that name; raises NotFoundError with the nearest names."""
    known = _id(which)
    return await (unit.strategies.by_name(str(which)) if known is None else unit.strategies.get(known))


def _id(which: AccountLike | StrategyLike) -> UUID | None:
    """The id that was given; None for a name."""
    if not isinstance(which, str):
        return id_of(which)
    try:
        return UUID(which)
    except ValueError:
        return None


async def instrument_of(unit: UnitOfWork, symbol: Tradable, asset_type: AssetType | str | None = None) -> Instrument:
    """The instrument that a ticker, contract symbol or token id names, or that an entity is.

    Raises:
        NotFoundError: there is none; names the nearest.
        InputError: instruments of several kinds share the symbol and `asset_type` is not given.
    """
    match symbol:
        case Instrument():
            return symbol
        case Asset():
            return _of_asset(symbol)
        case OptionContract():
            return _of_contract(symbol)
        case PolymarketOutcome():
            return await _by_id(unit, InstrumentKind.OUTCOME, symbol.id)
    kind = None if asset_type is None else InstrumentKind(chosen(AssetType, asset_type, name="asset_type"))
    named = INSTRUMENTS.c.symbol == symbol if kind is None else sa.and_(
        INSTRUMENTS.c.symbol == symbol, INSTRUMENTS.c.kind == kind
    )
    with translated():
        found = (await unit.session.execute(sa.select(INSTRUMENTS.c.kind, INSTRUMENTS.c.entity_id).where(named))).all()
        if not found:
            names = sa.select(INSTRUMENTS.c.symbol).limit(_SUGGESTED_FROM)
            known = list(await unit.session.scalars(names if kind is None else names.where(INSTRUMENTS.c.kind == kind)))
            raise NotFoundError(
                "instrument" if kind is None else f"{kind} symbol", symbol, known=known, hint="create it first"
            )
    if len(found) > 1:
        kinds = " and ".join(sorted(row.kind for row in found))
        raise InputError(f"{symbol!r} is {kinds}; give asset_type, or the entity itself", given=symbol, expected=kinds)
    return await _by_id(unit, InstrumentKind(found[0].kind), found[0].entity_id)


async def instrument_behind(unit: UnitOfWork, what: Trade | Position | TradingSignal) -> Instrument:
    """The instrument that a trade, position or signal refers to.

    Raises:
        InputError: a signal on a whole event, which cannot be traded.
    """
    if what.option_contract_id is not None:
        return await _by_id(unit, InstrumentKind.OPTION, what.option_contract_id)
    if what.outcome_id is not None:
        return await _by_id(unit, InstrumentKind.OUTCOME, what.outcome_id)
    if what.asset_id is None:
        raise InputError("the signal is on an event as a whole; give the outcome to trade as symbol", given=what)
    return _of_asset(await unit.assets.get(what.asset_id))


async def _by_id(unit: UnitOfWork, kind: InstrumentKind, which: UUID) -> Instrument:
    if kind is InstrumentKind.OPTION:
        return _of_contract(await unit.option_contracts.get(which))
    if kind is not InstrumentKind.OUTCOME:
        return _of_asset(await unit.assets.get(which))
    event = orm.joinedload(PolymarketOutcome.market, innerjoin=True)
    with translated():
        outcome = await unit.session.scalar(
            sa.select(PolymarketOutcome).where(PolymarketOutcome.id == which).options(event)
        )
    if outcome is None:
        raise NotFoundError("PolymarketOutcome", which)
    return _of_outcome(outcome, outcome.market.polymarket_event_id)


def _of_asset(asset: Asset) -> Instrument:
    return Instrument(InstrumentKind(asset.asset_type), asset.instrument_id, asset.symbol, asset_id=asset.id)


def _of_contract(contract: OptionContract) -> Instrument:
    return Instrument(
        InstrumentKind.OPTION,
        contract.instrument_id,
        contract.symbol,
        multiplier=contract.multiplier,
        option_contract_id=contract.id,
    )


def _of_outcome(outcome: PolymarketOutcome, event_id: UUID) -> Instrument:
    return Instrument(
        InstrumentKind.OUTCOME,
        outcome.instrument_id,
        outcome.token_id,
        outcome_id=outcome.id,
        polymarket_event_id=event_id,
    )


async def watched(unit: UnitOfWork, instrument: Instrument, event_id: UUID | None) -> tuple[Instrument, ...]:
    """What a trade's snapshots show: the instrument, an option's underlying, the outcomes of a linked event."""
    seen = [instrument]
    if instrument.option_contract_id is not None:
        contract = await unit.option_contracts.get(instrument.option_contract_id)
        seen.append(_of_asset(await unit.assets.get(contract.asset_id)))
    if event_id is not None and instrument.outcome_id is None:
        of_event = PolymarketOutcome.market.has(PolymarketMarket.polymarket_event_id == event_id)
        seen += [_of_outcome(outcome, event_id) for outcome in await unit.polymarket_outcomes.find(of_event)]
    return tuple(seen)


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
    _may_trade(account, strategy, signal, at)
    instrument = await _instrument(unit, request, signal)
    event_id = instrument.polymarket_event_id or (None if signal is None else signal.polymarket_event_id)
    seen = await watched(unit, instrument, event_id)
    view = await viewed(market, seen, at)
    limit = None if request.limit_price is None else amount(request.limit_price, name="limit_price")
    side, quantity = await _side_and_quantity(unit, request, signal)
    if limit is not None:
        checked(value_of(quantity, limit, instrument.multiplier), name="value of the order")
    risk = {"stop_loss": request.stop_loss, "take_profit": request.take_profit}
    if signal is not None:
        risk = {field: price if price is not None else getattr(signal, field) for field, price in risk.items()}
        if not signal.was_acted_upon:
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
        limit_price=limit,
        alpaca_market_data_snapshot=view.alpaca and {"decision": view.alpaca},
        polymarket_data_snapshot=view.polymarket and {"decision": view.polymarket},
        notes=request.notes,
        extra={"risk": risk} if any(price is not None for price in risk.values()) else None,
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


def _may_trade(account: Account, strategy: Strategy | None, signal: TradingSignal | None, at: datetime) -> None:
    if not account.is_active:
        raise ConflictError(f"account {account.name!r} is not active; activate it to trade")
    if strategy is not None and not strategy.is_active:
        raise ConflictError(f"strategy {strategy.name!r} {strategy.version} is not active; activate it to trade")
    if signal is not None and signal.expires_at is not None and signal.expires_at <= at:
        raise ConflictError(f"signal {signal.id} expired at {signal.expires_at.isoformat()}")


async def _instrument(unit: UnitOfWork, request: CreateTradeRequest, signal: TradingSignal | None) -> Instrument:
    if request.symbol is not None:
        if isinstance(request.symbol, Asset | OptionContract) and not request.symbol.is_tradable:
            raise ConflictError(f"{request.symbol.symbol} is not tradable")
        instrument = await instrument_of(unit, request.symbol, request.asset_type)
    elif signal is not None:
        instrument = await instrument_behind(unit, signal)
    else:
        raise InputError("nothing to trade was given; give symbol= or signal=", expected="symbol or signal")
    return instrument


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
