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
from fractions import Fraction
from typing import Protocol, TypeAlias

from medalion.core.enums import PositionSide, TradeSide
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import ZERO, cash, checked, exact
from medalion.core.time import utc


@dataclass(frozen=True, slots=True)
class Holding:
    """What fills of one instrument add up to; negative quantity is short.

    `cost_basis` is what the quantity held cost, with the quantity's sign: for a short, minus what its sale brought.
    `realized_pnl` is gross and accumulates. `multiplier` is units per contract: 100 for a stock option, else 1.
    """

    quantity: Decimal = ZERO
    cost_basis: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    multiplier: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        checked(self.quantity, name="quantity")
        checked(self.multiplier, name="multiplier", positive=True)

    @property
    def is_flat(self) -> bool:
        return not self.quantity

    @property
    def side(self) -> PositionSide | None:
        """None when flat."""
        if not self.quantity:
            return None
        return PositionSide.LONG if self.quantity > 0 else PositionSide.SHORT

    @property
    def average_entry_price(self) -> Decimal | None:
        """Cost basis per unit, half-even to 8 places and therefore only for display; None when flat."""
        if not self.quantity:
            return None
        with exact():
            return cash(self.cost_basis / (self.quantity * self.multiplier))

    def market_value(self, mark: Decimal) -> Decimal:
        """What closing at `mark` would bring, before commission; negative for a short."""
        return value_of(self.quantity, mark, self.multiplier)

    def unrealized_pnl(self, mark: Decimal) -> Decimal:
        """Gain if closed at `mark`, before commission, in quote currency."""
        with exact():
            return self.market_value(mark) - self.cost_basis

    def apply(
        self, side: TradeSide, quantity: Decimal, price: Decimal, *, commission: Decimal = ZERO
    ) -> tuple["Step", ...]:
        """What a fill of `quantity` (> 0) at `price` (>= 0) does: one step, or two where it crosses zero.

        The first step changes this holding; it is flat after it if the fill closes it. A second step is a new holding
        on the other side, with its own realized P&L from zero. The commission (negative for a rebate) is split between
        the two by quantity, and the parts of quantity, cost and commission add up to those of the fill exactly.

        Raises:
            InputError: a number that is no Decimal or does not fit decimal(18,8), a quantity not above zero, a
                negative price, or a holding that grows beyond decimal(18,8).

        >>> long = Holding().apply(TradeSide.BUY, Decimal(3), Decimal("10.33"))[0].holding
        >>> [(step.holding.quantity, step.realized_pnl) for step in long.apply(TradeSide.SELL, Decimal(5), Decimal(11))]
        [(Decimal('0'), Decimal('2.01000000')), (Decimal('-2'), Decimal('0'))]
        """
        checked(quantity, name="quantity", positive=True)
        checked(commission, name="commission")
        if checked(price, name="price") < 0:
            raise InputError(f"price {price} is negative", given=price, expected=">= 0")
        with exact():
            signed = quantity * side.sign
            cost = value_of(signed, price, self.multiplier)
            if self.quantity * signed >= 0:
                return (self._increase(signed, cost, commission),)
            if quantity <= abs(self.quantity):
                return (self._reduce(signed, cost, commission),)
            closing = -self.quantity
            closing_cost = value_of(closing, price, self.multiplier)
            closing_commission = cash(commission * abs(closing) / quantity)
            return (
                self._reduce(closing, closing_cost, closing_commission),
                Holding(multiplier=self.multiplier)._increase(
                    signed - closing, cost - closing_cost, commission - closing_commission
                ),
            )

    def _increase(self, signed: Decimal, cost: Decimal, commission: Decimal) -> "Step":
        holding = replace(self, quantity=self.quantity + signed, cost_basis=self.cost_basis + cost)
        return Step(holding, signed, cost, ZERO, commission)

    def _reduce(self, signed: Decimal, cost: Decimal, commission: Decimal) -> "Step":
        """`signed` has the sign opposite to the quantity held, and is no larger."""
        remaining = self.quantity + signed
        released = cash(self.cost_basis * -signed / self.quantity) if remaining else self.cost_basis
        realized = -cost - released
        holding = replace(
            self,
            quantity=remaining,
            cost_basis=self.cost_basis - released,
            realized_pnl=self.realized_pnl + realized,
        )
        return Step(holding, signed, cost, realized, commission)


def value_of(quantity: Decimal, price: Decimal, multiplier: Decimal = Decimal(1)) -> Decimal:
    """Worth of `quantity` units or contracts at `price`, as cash; negative for a negative quantity."""
    with exact():
        return cash(quantity * price * multiplier)


@dataclass(frozen=True, slots=True)
class Step:
    """What a fill, its part on one side of zero, or a settlement did to one holding.

    `quantity` and `cost` are the part's own and signed: both are negative for a sale, whose cash flow is `-cost`.
    `ratio` is what earlier quantities are restated by: 1 but for a split.
    """

    holding: Holding
    quantity: Decimal
    cost: Decimal
    realized_pnl: Decimal
    commission: Decimal
    ratio: Fraction = Fraction(1)

    @property
    def closes(self) -> bool:
        """Whether the holding is flat after it."""
        return self.holding.is_flat


Place: TypeAlias = tuple[datetime, int, str]
"""Where an entry stands among those of its instrument; of one time, settlements come before executions."""


class Entry(Protocol):
    """What changes a holding: an execution, or one of `medalion.settling`."""

    @property
    def at(self) -> datetime: ...
    @property
    def place(self) -> Place: ...
    def applied(self, holding: Holding) -> tuple[Step, ...]:
        """What it does to that holding, as `Holding.apply`; nothing where it does not concern it."""
        ...


@dataclass(frozen=True, slots=True)
class Execution:
    """A fill as the venue reported it; `execution_id` is unique among the fills folded together."""

    executed_at: datetime
    execution_id: str
    side: TradeSide
    quantity: Decimal
    price: Decimal
    commission: Decimal = ZERO

    def __post_init__(self) -> None:
        utc(self.executed_at, name="executed_at")

    @property
    def at(self) -> datetime:
        return self.executed_at

    @property
    def place(self) -> Place:
        return self.executed_at, 1, self.execution_id

    def applied(self, holding: Holding) -> tuple[Step, ...]:
        return holding.apply(self.side, self.quantity, self.price, commission=self.commission)


@dataclass(frozen=True, slots=True)
class Part:
    """What one entry did to one round trip."""

    entry: Entry
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


def fold(entries: Iterable[Entry], *, multiplier: Decimal = Decimal(1)) -> RoundTrips:
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


def restated(quantity: Decimal, ratio: Fraction) -> Decimal:
    """The quantity in the units after a split of that ratio, new units for one old.

    Raises:
        ConflictError: a fraction of a unit that 8 decimals cannot say.
    """
    with exact():
        units = rescaled(quantity, ratio)
        if units * ratio.denominator != quantity * ratio.numerator:
            raise ConflictError(
                f"{quantity} units split {ratio.numerator} for {ratio.denominator} leave a fraction that 8 decimals "
                "cannot say; sell what makes it before, as the broker does when it pays cash in lieu"
            )
        return units


def rescaled(quantity: Decimal, ratio: Fraction) -> Decimal:
    """The same of a quantity that is no longer held, half-even to 8 places."""
    with exact():
        return cash(quantity * ratio.numerator / ratio.denominator)


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
