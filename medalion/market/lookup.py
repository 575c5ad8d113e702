"""Names and ids → the accounts, strategies and instruments they mean, and what a trade in one of them looks at."""

from dataclasses import replace
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from medalion.core.enums import AssetType, InstrumentKind, PositionSide, TradeSide, TradeType
from medalion.core.errors import InputError, NotFoundError
from medalion.core.money import checked
from medalion.market.instrument import Instrument
from medalion.market.names import AccountLike, StrategyLike, Tradable
from oltp.entities.reference import INSTRUMENTS, Asset, OptionContract, PolymarketMarket, PolymarketOutcome
from oltp.entities.trading import Account, Position, Strategy, Trade, TradingSignal
from oltp.hot.instruments import creation
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated
from oltp.statements import accounts, assets

_SUGGESTED_FROM = 10_000
Choice = TypeVar("Choice", TradeSide, TradeType, PositionSide, AssetType)


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


async def account_of(unit: UnitOfWork, which: AccountLike) -> Account:
    """The account of that id or name; raises NotFoundError with the nearest names."""
    known = _id(which)
    found = await unit.run(accounts.find, str(which) if known is None else known)
    if found is not None:
        return found
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
        InputError: assets of several types share the symbol and `asset_type` is not given.
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
    return await _by_symbol(
        unit, symbol, None if asset_type is None else chosen(AssetType, asset_type, name="asset_type")
    )


async def _by_symbol(unit: UnitOfWork, symbol: str, asset_type: AssetType | None) -> Instrument:
    """Assets are looked up first: most orders are for one, and no contract symbol or token id is also a ticker."""
    found = await unit.run(assets.named, symbol, asset_type)
    if len(found) == 1:
        return _of_asset(found[0])
    if found:
        types = " and ".join(sorted(asset.asset_type for asset in found))
        raise InputError(f"{symbol!r} is {types}; give asset_type, or the asset itself", given=symbol, expected=types)
    listed = sa.true() if asset_type is None else INSTRUMENTS.c.kind == asset_type
    with translated():
        named = sa.select(INSTRUMENTS.c.kind, INSTRUMENTS.c.entity_id).where(INSTRUMENTS.c.symbol == symbol, listed)
        listing = (await unit.session.execute(named)).first()
        if listing is None:
            known = await unit.session.scalars(sa.select(INSTRUMENTS.c.symbol).where(listed).limit(_SUGGESTED_FROM))
            kind = "instrument" if asset_type is None else f"{asset_type} symbol"
            made = creation(InstrumentKind(asset_type or InstrumentKind.STOCK), symbol)
            raise NotFoundError(kind, symbol, known=list(known), hint=f"create it first: {made}")
    return await _by_id(unit, InstrumentKind(listing.kind), listing.entity_id)


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
    market = outcome.market
    is_resolved = outcome.winner is not None or market.resolved_at is not None
    return replace(
        _of_outcome(outcome, market.polymarket_event_id),
        is_tradable=market.is_active and not market.is_closed and not is_resolved,
        is_resolved=is_resolved,
        tick_size=market.tick_size,
        min_order_size=market.min_order_size,
    )


def _of_asset(asset: Asset) -> Instrument:
    return Instrument(
        InstrumentKind(asset.asset_type),
        asset.instrument_id,
        asset.symbol,
        asset_id=asset.id,
        is_tradable=asset.is_tradable,
    )


def _of_contract(contract: OptionContract) -> Instrument:
    return Instrument(
        InstrumentKind.OPTION,
        contract.instrument_id,
        contract.symbol,
        multiplier=contract.multiplier,
        option_contract_id=contract.id,
        is_tradable=contract.is_tradable,
        expiration_date=contract.expiration_date,
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
