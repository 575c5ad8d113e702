"""What happens to a holding without a trade: splits, dividends, and the end of options and prediction markets.

Each says its terms only; what it does follows from what is held when it takes effect, so that a late fill or a bust
before it is handled by folding again, like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

from medalion.core.enums import SettlementType, TradeSide
from medalion.core.money import ZERO, exact
from medalion.positions.holding import Holding, Step, restated, value_of
from medalion.positions.round_trips import EventOrder
from oltp.entities.trading import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class _SettlementTerms:
    """An event by its id, unique among those of an account and instrument, and when it takes effect."""

    at: datetime
    event: str
    kind: SettlementType
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def place(self) -> EventOrder:
        return self.at, 0, self.event

    @property
    def per_unit(self) -> Decimal | None:
        """The price or payment per unit; None if it has none."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split(_SettlementTerms):
    """`ratio` new units for each old one; what they cost stays as it is."""

    kind: SettlementType = SettlementType.SPLIT
    ratio: Fraction

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """What it does to that holding; nothing if that is flat."""
        if holding.is_flat:
            return ()
        after = replace(holding, quantity=restated(holding.quantity, self.ratio))
        with exact():
            return (Step(after, after.quantity - holding.quantity, ZERO, ZERO, ZERO, self.ratio),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dividend(_SettlementTerms):
    """`each` in cash for every unit held, paid by whoever is short; it is realized."""

    kind: SettlementType = SettlementType.DIVIDEND
    each: Decimal

    @property
    def per_unit(self) -> Decimal | None:
        """What is paid for one unit."""
        return self.each

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """What it does to that holding; nothing if that is flat."""
        if holding.is_flat:
            return ()
        paid = value_of(holding.quantity, self.each, holding.multiplier)
        with exact():
            return (Step(replace(holding, realized_pnl=holding.realized_pnl + paid), ZERO, -paid, paid, ZERO),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(_SettlementTerms):
    """Everything held ends at `price` per unit: 0 for an option that expires, 0 to 1 for an outcome."""

    price: Decimal

    @property
    def per_unit(self) -> Decimal | None:
        """What is paid for one unit."""
        return self.price

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """What it does to that holding; nothing if that is flat."""
        if holding.is_flat:
            return ()
        return holding.apply(_side(-holding.quantity), abs(holding.quantity), self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(_SettlementTerms):
    """`quantity` units, signed, change hands at `price`, as when an option is exercised."""

    quantity: Decimal
    price: Decimal

    @property
    def per_unit(self) -> Decimal | None:
        """What is paid for one unit."""
        return self.price

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """The steps that buying or selling the units makes, also where nothing was held."""
        return holding.apply(_side(self.quantity), abs(self.quantity), self.price)


SettlementEvent: TypeAlias = Split | Dividend | Ending | Delivery


def event_of(rows: Sequence[Settlement]) -> SettlementEvent:
    """The event of these settlements, which are all of one event and line."""
    first = rows[0]
    at, event, kind, details = first.occurred_at, first.event, first.settlement_type, first.details or {}
    price = ZERO if first.price is None else first.price
    match kind:
        case SettlementType.SPLIT:
            ratio = Fraction(details["new_shares"]) / Fraction(details["old_shares"])
            return Split(at=at, event=event, details=details, ratio=ratio)
        case SettlementType.DIVIDEND:
            return Dividend(at=at, event=event, details=details, each=price)
        case SettlementType.EXPIRY | SettlementType.RESOLUTION:
            return Ending(at=at, event=event, kind=kind, details=details, price=price)
        case SettlementType.EXERCISE | SettlementType.ASSIGNMENT:
            with exact():
                delivered = sum((row.quantity for row in rows), ZERO)
            return Delivery(at=at, event=event, kind=kind, details=details, quantity=delivered, price=price)


def _side(quantity: Decimal) -> TradeSide:
    return TradeSide.BUY if quantity > 0 else TradeSide.SELL
