"""The resolution of a prediction market: which market is meant, what its outcomes pay, and what they say then."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.core.money import ZERO, checked
from medalion.trading.portfolio import Which
from oltp.entities.reference import PolymarketMarket, PolymarketOutcome
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork


async def market_of(unit: UnitOfWork, which: PolymarketMarket | Which, *, lock: bool = False) -> PolymarketMarket:
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


def payouts_of(
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


def resolve(market: PolymarketMarket, paid: Mapping[UUID, Decimal], at: datetime) -> datetime:
    """When the market was resolved; its outcomes say how."""
    for outcome in market.outcomes:
        known = _known_payout(outcome)
        if known is not None and known != paid[outcome.id]:
            how = f"{outcome.outcome} pays {known}, not {paid[outcome.id]}"
            raise ConflictError(f"market {market.question!r} was resolved otherwise: {how}")
    market.resolved_at = market.resolved_at or at
    market.is_closed = True
    for outcome in market.outcomes:
        outcome.price = paid[outcome.id]
        outcome.winner = paid[outcome.id] == 1
        outcome.extra = {**(outcome.extra or {}), "payout": str(paid[outcome.id])}
    return market.resolved_at


def _known_payout(outcome: PolymarketOutcome) -> Decimal | None:
    """What the token pays, by an earlier resolution or by the market's own feed; None before either."""
    payout = (outcome.extra or {}).get("payout")
    if payout is not None:
        return Decimal(payout)
    return None if outcome.winner is None else Decimal(outcome.winner)
