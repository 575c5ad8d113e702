"""What fills of one instrument add up to."""

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from medalion.core.enums import PositionSide, TradeSide
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import ZERO, cash, checked, exact


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
        """Whether nothing is held."""
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
