"""How positions end without a trade: options that are exercised, assigned or expire, markets that are resolved.

An option that is exercised or assigned ends at a price of 0, and its underlying changes hands at the strike, as brokers
book it: what was paid for the option is realized there, and the shares cost the strike.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from medalion import corporate
from medalion.dtos import AccountLike, PositionDto
from medalion.errors import ConflictError, InputError, NotFoundError
from medalion.instruments import account_of, amount, instrument_of
from medalion.lines import Line
from medalion.ordering import Ordering
from medalion.orders import WORKING
from medalion.portfolio import ZERO, checked, value_of
from medalion.portfolios import Which
from medalion.refolding import refold, settle
from medalion.settling import Delivery, Ending, Settling
from medalion.types import OptionType, PositionSide, SettlementType, exact
from oltp.base import uuid7
from oltp.reference import Asset, OptionContract, PolymarketMarket, PolymarketOutcome
from oltp.repository import id_of
from oltp.rows import run
from oltp.trading import Position, Trade
from oltp.unit_of_work import UnitOfWork

_EXCHANGE_ZONE = ZoneInfo("America/New_York")
_CLOSE = time(16)
_IN_THE_MONEY = Decimal("0.01")
"""From which on the clearing house exercises an option at expiry that its holder says nothing about."""


class Settlements(Ordering):
    """Ends and changes positions by events; every method is a unit of work of its own, and done again changes nothing.

    Where `account=` may be left out, every account is meant.
    """

    async def settle_corporate_action(self, action: Which, *, account: AccountLike) -> list[PositionDto]:
        """The account's positions that a split or dividend changed; settled before, none.

        See `medalion.corporate.settle_corporate_action`, also for what it raises.
        """
        async with self._units() as unit:
            known = await unit.corporate_actions.get(action)
            changed = await corporate.settle_corporate_action(unit, known, await account_of(unit, account))
            return [PositionDto.of(position) for position in changed]

    async def exercise_option(
        self,
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
        return await self._deliver(position, quantity, SettlementType.EXERCISE, reference, self._at(at))

    async def assign_option(
        self,
        position: Which,
        quantity: Decimal | int | None = None,
        *,
        reference: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The short option position after `quantity` contracts of it, by default all, were assigned.

        The underlying is sold (call) or bought (put) at the strike. Else as `exercise_option`, also for what it raises.
        """
        return await self._deliver(position, quantity, SettlementType.ASSIGNMENT, reference, self._at(at))

    async def settle_expired_options(
        self,
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
        moment = self._at(at)
        async with self._units() as unit:
            owner = None if account is None else (await account_of(unit, account)).id
            held = await _expired(unit, moment, owner)
            ends: dict[UUID, tuple[OptionContract, Decimal]] = {}
            for contract in {contract.id: contract for _, contract in held}.values():
                ends[contract.id] = (contract, await self._price_at_expiry(unit, contract, prices or {}))
        await self._cancel_working([position.instrument_id for position, _ in held], moment, owner)
        ended = [await self._expire(position, *ends[contract.id]) for position, contract in held]
        return list({position.id: position for positions in ended for position in positions}.values())

    async def resolve_market(
        self,
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
        moment = self._at(at)
        async with self._units() as unit:
            found = await _market(unit, market)
            paid = _payouts(found, winner, payouts)
            numbers = [outcome.instrument_id for outcome in found.outcomes]
        await self._cancel_working(numbers, moment, None)
        async with self._units() as unit:
            found = await _market(unit, found.id, lock=True)
            resolved_at = _resolve(found, paid, moment)
            await unit.session.flush()
            events: dict[int, Settling] = {
                outcome.instrument_id: Ending(
                    at=resolved_at,
                    event=f"resolution/{found.id}",
                    kind=SettlementType.RESOLUTION,
                    details={"condition_id": found.condition_id, "outcome": outcome.outcome},
                    price=paid[outcome.id],
                )
                for outcome in found.outcomes
            }
            return [PositionDto.of(position) for position in await settle(unit, events)]

    async def _deliver(
        self, which: Which, quantity: Decimal | int | None, kind: SettlementType, reference: str | None, at: datetime
    ) -> PositionDto:
        wanted = None if quantity is None else amount(quantity, name="quantity")
        event = f"{kind}/{uuid7() if reference is None else reference}"

        async def deliver() -> PositionDto:
            async with self._units() as unit:
                known = id_of(which)
                if await unit.settlements.any(position_id=known, event=event):
                    return PositionDto.of(await unit.positions.get(known))
                return PositionDto.of(await _exchange(unit, known, wanted, kind, event, at))

        return await self._retrying(deliver)

    async def _expire(self, position: Position, contract: OptionContract, price: Decimal) -> list[PositionDto]:
        event, at = f"expiry/{contract.id}", expired_at(contract)
        with exact():
            gain = price - contract.strike_price
            worth = gain if contract.option_type is OptionType.CALL else -gain
        kind = SettlementType.EXERCISE if position.side is PositionSide.LONG else SettlementType.ASSIGNMENT
        async with self._units() as unit:
            if worth >= _IN_THE_MONEY:
                return [PositionDto.of(await _exchange(unit, position.id, None, kind, f"{event}/{position.id}", at))]
            ending = Ending(at=at, event=event, kind=SettlementType.EXPIRY, price=ZERO)
            ended = await settle(unit, {position.instrument_id: ending}, account_id=position.account_id)
            return [PositionDto.of(each) for each in ended]

    async def _price_at_expiry(
        self, unit: UnitOfWork, contract: OptionContract, prices: Mapping[str, Decimal]
    ) -> Decimal:
        symbol = contract.underlying_symbol
        if symbol in prices:
            return checked(prices[symbol], name=f"price of {symbol}")
        underlying = await instrument_of(unit, await unit.assets.get(contract.asset_id))
        quote = await self._market.quote(underlying, expired_at(contract))
        day = contract.expiration_date
        if quote is None or quote.mark is None or _day(quote.ts) != day:
            raise InputError(
                f"no price of {symbol} on {day}, when {contract.symbol} expired, is stored; give it as "
                f"prices={{{symbol!r}: …}}",
                given=symbol,
                expected="a price of the expiration day",
            )
        return quote.mark

    async def _cancel_working(self, instruments: list[int], at: datetime, account_id: UUID | None) -> None:
        """Nothing that has ended can be filled any more."""
        whose = () if account_id is None else (Trade.account_id == account_id,)
        async with self._units() as unit:
            working = await unit.trades.find(
                Trade.instrument_id.in_(instruments), Trade.status.in_(WORKING), *whose, order=(Trade.id,)
            )
        for trade in working:
            await self.cancel_trade(trade.id, at=at)


def expired_at(contract: OptionContract) -> datetime:
    """The close of the New York session of the expiration day."""
    return datetime.combine(contract.expiration_date, _CLOSE, _EXCHANGE_ZONE)


def _day(moment: datetime) -> date:
    return moment.astimezone(_EXCHANGE_ZONE).date()


async def _expired(unit: UnitOfWork, at: datetime, account_id: UUID | None) -> list[tuple[Position, OptionContract]]:
    """Open positions in contracts that have expired, in one order for all that lock several."""
    wanted = (
        sa.select(Position, OptionContract)
        .join(OptionContract, OptionContract.id == Position.option_contract_id)
        .where(Position.remaining_quantity > 0, OptionContract.expiration_date <= _day(at))
        .order_by(Position.instrument_id, Position.id)
    )
    if account_id is not None:
        wanted = wanted.where(Position.account_id == account_id)
    found = await unit.session.execute(wanted)
    return [(position, contract) for position, contract in found if expired_at(contract) <= at]


async def _contract(unit: UnitOfWork, position: Position) -> OptionContract:
    if position.option_contract_id is None:
        raise InputError(f"{position.symbol} is no option; only options are exercised or assigned", given=position)
    return await unit.option_contracts.get(position.option_contract_id)


async def _exchange(
    unit: UnitOfWork, which: UUID, quantity: Decimal | None, kind: SettlementType, event: str, at: datetime
) -> Position:
    """The option position, of which so many contracts, by default all, ended at 0; the underlying went at the strike.

    Raises:
        ConflictError: it is on the other side, or has not so many contracts left.
    """
    position = await unit.positions.get(which)
    contract = await _contract(unit, position)
    account = await unit.accounts.get(position.account_id)
    option = Line.of(position, account.base_currency)
    shares = _underlying(option, await unit.assets.get(contract.asset_id))
    # In the order of instruments, as everyone who locks several lines.
    for line in sorted((option, shares), key=lambda line: line.instrument_id):
        await run(unit.session, line.lock)
    position = await unit.positions.get(which, lock=True)
    is_exercised = kind is SettlementType.EXERCISE
    if (position.side is PositionSide.LONG) != is_exercised:
        raise ConflictError(
            f"a {position.side} option is not settled by {kind}: long ones are exercised, short ones assigned"
        )
    contracts = position.remaining_quantity if quantity is None else quantity
    if not 0 < contracts <= position.remaining_quantity:
        raise ConflictError(
            f"{contracts} of {position.symbol} cannot be settled; {position.remaining_quantity} are held"
        )
    units = value_of(contracts, position.multiplier)
    is_bought = is_exercised == (contract.option_type is OptionType.CALL)
    details = {"contract": contract.symbol}
    ended = -contracts if is_exercised else contracts
    options = Delivery(at=at, event=event, kind=kind, details=details, quantity=ended, price=ZERO)
    bought = units if is_bought else -units
    delivered = Delivery(at=at, event=event, kind=kind, details=details, quantity=bought, price=contract.strike_price)
    await refold(unit, option, at, settling=[options])
    await refold(unit, shares, at, settling=[delivered])
    return await unit.positions.get(which, lock=True)


def _underlying(option: Line, asset: Asset) -> Line:
    return replace(
        option,
        instrument_id=asset.instrument_id,
        symbol=asset.symbol,
        asset_id=asset.id,
        option_contract_id=None,
        multiplier=Decimal(1),
    )


async def _market(unit: UnitOfWork, which: PolymarketMarket | Which, *, lock: bool = False) -> PolymarketMarket:
    """The market with its outcomes, by itself, its id or its condition id."""
    if isinstance(which, str) and not _is_id(which):
        which = await unit.polymarket_markets.by_condition_id(which)
    if lock:
        await unit.polymarket_markets.get(id_of(which), lock=True)
    return await unit.polymarket_markets.with_outcomes(id_of(which))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return not text.startswith("0x")


def _payouts(
    market: PolymarketMarket, winner: PolymarketOutcome | str | None, payouts: Mapping[str, Decimal] | None
) -> dict[UUID, Decimal]:
    """What each outcome's token pays, by the outcome's id."""
    if (winner is None) == (payouts is None):
        raise InputError("give the winner of the market, or the payouts of its outcomes", expected="winner or payouts")
    if payouts is None:
        name = winner.token_id if isinstance(winner, PolymarketOutcome) else str(winner)
        payouts = {name: Decimal(1)}
    known = {name: outcome for outcome in market.outcomes for name in (outcome.token_id, outcome.outcome)}
    paid = {outcome.id: ZERO for outcome in market.outcomes}
    for name, payout in payouts.items():
        if name not in known:
            raise NotFoundError("outcome of the market", name, known=[outcome.outcome for outcome in market.outcomes])
        paid[known[name].id] = checked(payout, name=f"payout of {name}")
    if min(paid.values()) < 0 or sum(paid.values()) != 1:
        raise InputError(f"the payouts add up to {sum(paid.values())}; of a market they are 1 together", given=payouts)
    return paid


def _resolve(market: PolymarketMarket, paid: Mapping[UUID, Decimal], at: datetime) -> datetime:
    """When the market was resolved; its outcomes say how."""
    said = {outcome.id: (outcome.extra or {}).get("payout") for outcome in market.outcomes}
    wanted = {outcome.id: str(paid[outcome.id]) for outcome in market.outcomes}
    if market.resolved_at is not None and said != wanted:
        raise ConflictError(f"market {market.question!r} was resolved otherwise at {market.resolved_at.isoformat()}")
    market.resolved_at = market.resolved_at or at
    market.is_closed = True
    for outcome in market.outcomes:
        outcome.price = paid[outcome.id]
        outcome.winner = paid[outcome.id] == 1
        outcome.extra = {**(outcome.extra or {}), "payout": str(paid[outcome.id])}
    return market.resolved_at
