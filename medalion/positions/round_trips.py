"""Fills → holdings, round trips, realized and unrealized P&L; exact to the last digit.

The primitive is the **cost basis**, not an average price: 31 paid for 3 units is 31, while three times the rounded
average is not. Reducing a holding releases a share of its basis, and that one rounded number is both the cost released
and what the realized P&L is reckoned from, so that for any fills

    cost_basis - realized_pnl == sum of what the fills cost        (a sale costs a negative amount)
    quantity                  == sum of the fills' signed quantities

Amounts are in quote currency. P&L is gross; commissions are kept apart and subtracted once, in `RoundTrip.net_pnl`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol, Self, TypeAlias

from medalion.core.enums import PositionSide, TradeSide
from medalion.core.errors import InputError
from medalion.core.money import ZERO, cash, exact
from medalion.core.time import utc
from medalion.positions.holding import Holding, Step, rescaled

EventOrder: TypeAlias = tuple[datetime, int, str]
"""Where an entry stands among those of its instrument; of one time, settlements come before executions."""


class BookEntry(Protocol):
    """What changes a holding: an execution, or one of `medalion.positions.events`."""

    @property
    def at(self) -> datetime:
        """When it happened."""

    @property
    def place(self) -> EventOrder:
        """Where it stands among the entries of its instrument."""

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """What it does to that holding, as `Holding.apply`; nothing where it does not concern it."""
        ...


class Executed(Protocol):
    """An execution as it was reported, or as it is booked."""

    @property
    def executed_at(self) -> datetime:
        """When it happened, UTC."""

    @property
    def execution_id(self) -> str:
        """The venue's id of it."""

    @property
    def side(self) -> TradeSide:
        """Bought or sold."""

    @property
    def quantity(self) -> Decimal:
        """In units or contracts, without a sign."""

    @property
    def price(self) -> Decimal:
        """Per unit, in quote currency."""

    @property
    def commission(self) -> Decimal:
        """What it cost apart, in quote currency."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill as the venue reported it; `execution_id` is unique among the fills folded together."""

    executed_at: datetime
    execution_id: str
    side: TradeSide
    quantity: Decimal
    price: Decimal
    commission: Decimal = ZERO

    @classmethod
    def of(cls, fill: Executed) -> Self:
        """What of the fill is folded."""
        return cls(fill.executed_at, fill.execution_id, fill.side, fill.quantity, fill.price, fill.commission)

    def __post_init__(self) -> None:
        utc(self.executed_at, name="executed_at")

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.executed_at

    @property
    def place(self) -> EventOrder:
        """Where it stands among the entries of its instrument."""
        return self.executed_at, 1, self.execution_id

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """The steps that buying or selling so much makes: one, or two where it crosses zero."""
        return holding.apply(self.side, self.quantity, self.price, commission=self.commission)


@dataclass(frozen=True, slots=True)
class Part:
    """What one entry did to one round trip."""

    entry: BookEntry
    step: Step


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One position from flat to flat, or to now.

    `quantity` is the largest held, `entered` the sum of the entries, both in units after the last split and therefore
    rounded to 8 places by one; `cost` is what the entries cost. All are without sign. An execution that crossed zero
    stands in two round trips, each with its own part of quantity and commission.
    """

    side: PositionSide
    opened_at: datetime
    closed_at: datetime | None
    quantity: Decimal
    entered: Decimal
    cost: Decimal
    commission: Decimal
    holding: Holding
    parts: tuple[Part, ...]

    @property
    def is_open(self) -> bool:
        """Whether something of it is held still."""
        return self.closed_at is None

    @property
    def executions(self) -> tuple[Execution, ...]:
        """Its executions, each with its part of quantity and commission."""
        return tuple(
            replace(part.entry, quantity=abs(part.step.quantity), commission=part.step.commission)
            for part in self.parts
            if isinstance(part.entry, Execution)
        )

    @property
    def realized_pnl(self) -> Decimal:
        """Gross: before commissions."""
        return self.holding.realized_pnl

    @property
    def net_pnl(self) -> Decimal:
        """Realized P&L less all commissions so far."""
        with exact():
            return self.realized_pnl - self.commission

    @property
    def average_entry_price(self) -> Decimal:
        """Over all entries, also those already closed; half-even to 8 places, for display."""
        with exact():
            return cash(self.cost / (self.entered * self.holding.multiplier))


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """The closed round trips in the order of their closing, and the one still open."""

    closed: tuple[RoundTrip, ...] = ()
    open: RoundTrip | None = None

    def __iter__(self) -> Iterator[RoundTrip]:
        yield from self.closed
        if self.open is not None:
            yield self.open


def fold(entries: Iterable[BookEntry], *, multiplier: Decimal = Decimal(1)) -> RoundTrips:
    """The round trips that the entries of one instrument add up to, whatever order they are given in.

    Executions are taken by (executed_at, execution_id), so that a bust or a late fill is handled by folding again;
    settlements of the same time come before them.

    Raises:
        InputError: an execution id given twice, or a number that `Holding.apply` refuses.
        ConflictError: a split that leaves a fraction of a unit which 8 decimals cannot say.
    """
    seen: set[tuple[int, str]] = set()
    closed: list[RoundTrip] = []
    parts: list[Part] = []
    for entry in sorted(entries, key=lambda entry: entry.place):
        if (place := entry.place[1:]) in seen:
            raise InputError(
                f"execution id {entry.place[2]!r} is given twice; pass each fill once",
                given=entry.place[2],
                expected="unique execution ids",
            )
        seen.add(place)
        before = parts[-1].step.holding if parts else Holding(multiplier=multiplier)
        for step in entry.applied(before):
            parts.append(Part(entry, step))
            if step.closes:
                closed.append(_round_trip(parts))
                parts = []
    return RoundTrips(tuple(closed), _round_trip(parts) if parts else None)


def _round_trip(parts: list[Part]) -> RoundTrip:
    first, last = parts[0], parts[-1]
    largest = entered = cost = commission = ZERO
    with exact():
        for part in parts:
            step = part.step
            largest = max(rescaled(largest, step.ratio), abs(step.holding.quantity))
            entered, commission = rescaled(entered, step.ratio), commission + step.commission
            if step.ratio == 1 and step.quantity * first.step.quantity > 0:
                entered, cost = entered + abs(step.quantity), cost + abs(step.cost)
    return RoundTrip(
        side=PositionSide.LONG if first.step.quantity > 0 else PositionSide.SHORT,
        opened_at=first.entry.at,
        closed_at=last.entry.at if last.step.closes else None,
        quantity=largest,
        entered=entered,
        cost=cost,
        commission=commission,
        holding=last.step.holding,
        parts=tuple(parts),
    )
