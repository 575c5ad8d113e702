"""How positions end without a trade: options that are exercised, assigned or expire, markets that are resolved.

An option that is exercised or assigned ends at a price of 0, and its underlying changes hands at the strike, as brokers
book it: what was paid for the option is realized there, and the shares cost the strike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import OptionType, PositionSide, SettlementType
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import ZERO, checked, exact
from medalion.core.time import EXCHANGE_ZONE, MICROSECOND
from medalion.market.calendar import close_of
from medalion.market.lookup import account_of, amount, instrument_of
from medalion.market.names import AccountLike
from medalion.positions.events import Delivery, Ending, SettlementEvent
from medalion.positions.holding import value_of
from medalion.positions.line import Line
from medalion.positions.refold import refold, settle
from medalion.trading import corporate_actions
from medalion.trading.desk import Desk, retrying
from medalion.trading.orders import cancel_trade
from medalion.trading.portfolio import Which
from medalion.trading.resolutions import market_of, payouts_of, resolve
from medalion.trading.views import PositionDto
from medalion.venues.states import WORKING
from oltp.entities.base import uuid7
from oltp.entities.reference import Asset, OptionContract, PolymarketMarket, PolymarketOutcome
from oltp.entities.trading import Position, Trade
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated
from oltp.statements import lines, settlements

OfOption = TypeVar("OfOption", Position, Trade)
_IN_THE_MONEY = Decimal("0.01")
"""From which on the clearing house exercises an option at expiry that its holder says nothing about."""


async def settle_corporate_action(desk: Desk, action: Which, *, account: AccountLike) -> list[PositionDto]:
    """The account's positions that a split or dividend changed; settled before, none.

    See `medalion.trading.corporate_actions.settle_corporate_action`, also for what it raises.
    """

    async def settled() -> list[PositionDto]:
        async with desk.units() as unit:
            known = await unit.corporate_actions.get(action)
            changed = await corporate_actions.settle_corporate_action(unit, known, await account_of(unit, account))
            return [PositionDto.of(position) for position in changed]

    return await retrying(settled)


async def exercise_option(
    desk: Desk,
    position: Which,
    quantity: Decimal | int | None = None,
    *,
    reference: str | None = None,
    at: datetime | None = None,
) -> PositionDto:
    """The long option position after `quantity` contracts of it, by default all, were exercised.

    The underlying is bought (call) or sold (put) at the strike, on the line of the same account and strategy. With
    a `reference`, the same again is the same exercise, once.

    Raises:
        ConflictError: it is short, or has not so many contracts left.
        InputError: it is no position in an option.
    """
    return await _deliver(desk, position, quantity, SettlementType.EXERCISE, reference, desk.at(at))


async def assign_option(
    desk: Desk,
    position: Which,
    quantity: Decimal | int | None = None,
    *,
    reference: str | None = None,
    at: datetime | None = None,
) -> PositionDto:
    """The short option position after `quantity` contracts of it, by default all, were assigned.

    The underlying is sold (call) or bought (put) at the strike. Else as `exercise_option`, also for what it raises.
    """
    return await _deliver(desk, position, quantity, SettlementType.ASSIGNMENT, reference, desk.at(at))


async def settle_expired_options(
    desk: Desk,
    *,
    account: AccountLike | None = None,
    prices: Mapping[str, Decimal] | None = None,
    at: datetime | None = None,
) -> list[PositionDto]:
    """The option positions that ended because their contracts had expired by then; working orders are cancelled.

    Options in the money by 0.01 or more are exercised if long and assigned if short, others end worthless. The
    price of an underlying at expiry is that in `prices`, by symbol, else a quote of the expiration day.

    Raises:
        InputError: no price of an underlying on the day of expiry is known; give it in `prices`.
    """
    moment = desk.at(at)
    async with desk.units() as unit:
        owner = None if account is None else (await account_of(unit, account)).id
        held = await _expired(unit, Position, Position.remaining_quantity > 0, moment, owner)
        working = await _expired(unit, Trade, Trade.status.in_(WORKING), moment, owner)
        ends: dict[UUID, tuple[OptionContract, Decimal]] = {}
        for contract in {contract.id: contract for _, contract in held}.values():
            ends[contract.id] = (contract, await _price_at_expiry(desk, unit, contract, prices or {}))
    await _cancel(desk, [trade for trade, _ in working], moment)
    return [ended for position, contract in held for ended in await _expire(desk, position.id, *ends[contract.id])]


async def resolve_market(
    desk: Desk,
    market: PolymarketMarket | Which,
    *,
    winner: PolymarketOutcome | str | None = None,
    payouts: Mapping[str, Decimal] | None = None,
    at: datetime | None = None,
) -> list[PositionDto]:
    """The positions of all accounts that ended because the market was resolved: the winning token pays 1, others 0.

    `winner` is the outcome, its token id or its name. A market that pays otherwise gives `payouts` by token id or
    name instead, which add up to 1. Outcomes, market and positions are settled together, after working orders are
    cancelled; resolved again, what has been booked since is settled too.

    Raises:
        NotFoundError: there is no such market or outcome.
        ConflictError: it was resolved otherwise before.
    """
    moment = desk.at(at)
    async with desk.units() as unit:
        found = await market_of(unit, market)
        paid = payouts_of(found, winner, payouts)
        ending = Trade.outcome_id.in_([outcome.id for outcome in found.outcomes])
        working = await unit.trades.find(ending, Trade.status.in_(WORKING), order=(Trade.id,))
    await _cancel(desk, working, moment)

    async def resolved() -> list[PositionDto]:
        async with desk.units() as unit:
            known = await market_of(unit, found.id, lock=True)
            resolved_at = resolve(known, paid, moment)
            await unit.session.flush()
            events: dict[int, SettlementEvent] = {
                outcome.instrument_id: Ending(
                    at=resolved_at,
                    event=f"resolution/{found.id}",
                    kind=SettlementType.RESOLUTION,
                    details={"condition_id": found.condition_id, "outcome": outcome.outcome},
                    price=paid[outcome.id],
                )
                for outcome in found.outcomes
            }
            changed = await unit.run(settle, events)
            held = Position.instrument_id.in_(list(events)), Position.remaining_quantity > 0
            for position in await unit.positions.find(*held, order=(Position.instrument_id, Position.id)):
                # What was bought after the resolution ends as soon as it is held.
                number, after = position.instrument_id, position.opened_at + MICROSECOND
                late = replace(events[number], at=after, event=f"{events[number].event}/{position.id}")
                changed += await unit.run(settle, {number: late}, account_id=position.account_id)
            return [PositionDto.of(position) for position in changed]

    return await retrying(resolved)


async def _deliver(
    desk: Desk, which: Which, quantity: Decimal | int | None, kind: SettlementType, reference: str | None, at: datetime
) -> PositionDto:
    wanted = None if quantity is None else _contracts(quantity)
    known = id_of(which)
    # Without the position in it, options of one underlying that share a reference would be delivered only once.
    event = f"{kind}/{known}/{uuid7() if reference is None else reference}"

    async def deliver() -> PositionDto:
        async with desk.units() as unit:
            option = await _locked(unit, known)
            if not await unit.run(settlements.is_booked, known, event):
                _check_held(option, wanted, kind, at)
                await _exchange(unit, option, wanted, kind, event, at)
            return PositionDto.of(await unit.positions.get(known, lock=True))

    return await retrying(deliver)


async def _expire(desk: Desk, which: UUID, contract: OptionContract, price: Decimal) -> list[PositionDto]:
    """The position, if it still held something."""
    with exact():
        gain = price - contract.strike_price
        worth = gain if contract.option_type is OptionType.CALL else -gain

    async def expire() -> list[PositionDto]:
        async with desk.units() as unit:
            option = await _locked(unit, which)
            if not option.position.remaining_quantity:
                return []
            # What was bought after the close ends as soon as it is held.
            at = max(expired_at(contract), option.position.opened_at + MICROSECOND)
            # A name of its own each time: a late fill may leave something that an earlier run could not deliver.
            event = f"{SettlementType.EXPIRY}/{contract.id}/{uuid7()}"
            if worth >= _IN_THE_MONEY:
                is_long = option.position.side is PositionSide.LONG
                kind = SettlementType.EXERCISE if is_long else SettlementType.ASSIGNMENT
                await _exchange(unit, option, None, kind, event, at)
            else:
                details = {"contract": contract.symbol}
                ending = Ending(at=at, event=event, kind=SettlementType.EXPIRY, details=details, price=ZERO)
                await unit.run(refold, option.line, at, settling=[ending])
            return [PositionDto.of(await unit.positions.get(which, lock=True))]

    return await retrying(expire)


async def _price_at_expiry(
    desk: Desk, unit: UnitOfWork, contract: OptionContract, prices: Mapping[str, Decimal]
) -> Decimal:
    symbol = contract.underlying_symbol
    if symbol in prices:
        return checked(prices[symbol], name=f"price of {symbol}")
    underlying = await instrument_of(unit, await unit.assets.get(contract.asset_id))
    quote = await desk.market.at(underlying, expired_at(contract))
    day = contract.expiration_date
    if quote is None or quote.mark is None or _day(quote.ts) != day:
        raise InputError(
            f"no price of {symbol} on {day}, when {contract.symbol} expired, is stored; give it as "
            f"prices={{{symbol!r}: …}}",
            given=symbol,
            expected="a price of the expiration day",
        )
    return quote.mark


async def _cancel(desk: Desk, working: Sequence[Trade], at: datetime) -> None:
    """Nothing that has ended can be filled any more."""
    for trade in working:
        await cancel_trade(desk, trade.id, at=at)


def expired_at(contract: OptionContract) -> datetime:
    """The close of its last session in New York, which a half day has at 13:00."""
    return close_of(contract.expiration_date)


def _day(moment: datetime) -> date:
    return moment.astimezone(EXCHANGE_ZONE).date()


async def _expired(
    unit: UnitOfWork, kind: type[OfOption], still: sa.ColumnElement[bool], at: datetime, account_id: UUID | None
) -> list[tuple[OfOption, OptionContract]]:
    """Positions or orders in contracts that have expired, in one order for all that lock several."""
    wanted = (
        sa.select(kind, OptionContract)
        .join(OptionContract, OptionContract.id == kind.option_contract_id)
        .where(still, OptionContract.expiration_date <= _day(at))
        .order_by(kind.instrument_id, kind.id)
    )
    if account_id is not None:
        wanted = wanted.where(kind.account_id == account_id)
    with translated():
        found = await unit.session.execute(wanted)
    return [(each, contract) for each, contract in found if expired_at(contract) <= at]


async def _contract(unit: UnitOfWork, position: Position) -> OptionContract:
    if position.option_contract_id is None:
        raise InputError(f"{position.symbol} is no option; only options are exercised or assigned", given=position)
    return await unit.option_contracts.get(position.option_contract_id)


@dataclass(frozen=True, slots=True)
class _Option:
    """A position in an option, and the lines of it and of its underlying, all locked."""

    position: Position
    contract: OptionContract
    line: Line
    shares: Line


async def _locked(unit: UnitOfWork, which: UUID) -> _Option:
    position = await unit.positions.get(which)
    contract = await _contract(unit, position)
    account = await unit.accounts.get(position.account_id)
    line = Line.of(position, account.base_currency)
    shares = _underlying(line, await unit.assets.get(contract.asset_id))
    await unit.run(lines.lock, line.key, shares.key)
    return _Option(await unit.positions.get(which, lock=True), contract, line, shares)


def _contracts(quantity: Decimal | int) -> Decimal:
    contracts = amount(quantity, name="quantity")
    if contracts != contracts.to_integral_value():
        raise InputError(f"quantity {contracts} is no whole number of contracts; give one", given=quantity)
    return contracts


def _check_held(option: _Option, contracts: Decimal | None, kind: SettlementType, at: datetime) -> None:
    position = option.position
    if (position.side is PositionSide.LONG) != (kind is SettlementType.EXERCISE):
        raise ConflictError(f"no {kind} of a {position.side} option: long ones are exercised, short ones assigned")
    if not 0 < (position.remaining_quantity if contracts is None else contracts) <= position.remaining_quantity:
        raise ConflictError(
            f"{'all' if contracts is None else contracts} of {position.symbol} cannot be settled; "
            f"{position.remaining_quantity} are held"
        )
    if at <= position.opened_at:
        raise ConflictError(f"{position.symbol} is held since {position.opened_at.isoformat()}; give a later time")


async def _exchange(
    unit: UnitOfWork, option: _Option, quantity: Decimal | None, kind: SettlementType, event: str, at: datetime
) -> None:
    """So many contracts, by default all, end at 0, and the underlying goes at the strike."""
    contract, is_exercised = option.contract, kind is SettlementType.EXERCISE
    contracts = option.position.remaining_quantity if quantity is None else quantity
    units = value_of(contracts, option.line.multiplier)
    is_bought = is_exercised == (contract.option_type is OptionType.CALL)
    details = {"contract": contract.symbol}
    ended = -contracts if is_exercised else contracts
    options = Delivery(at=at, event=event, kind=kind, details=details, quantity=ended, price=ZERO)
    bought = units if is_bought else -units
    delivered = Delivery(at=at, event=event, kind=kind, details=details, quantity=bought, price=contract.strike_price)
    await unit.run(refold, option.line, at, settling=[options])
    await unit.run(refold, option.shares, at, settling=[delivered])


def _underlying(option: Line, asset: Asset) -> Line:
    return replace(
        option,
        instrument_id=asset.instrument_id,
        symbol=asset.symbol,
        asset_id=asset.id,
        option_contract_id=None,
        multiplier=Decimal(1),
    )
