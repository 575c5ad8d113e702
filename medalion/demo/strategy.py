"""A moving-average cross, bar by bar: what it has seen is all it knows (pure).

Splits are known from their ex-date on. `split` restates the closes seen so far in the new shares, so that a halved
price is no crash. Restating the whole past by one factor scales both averages alike and never changes which is the
larger: the crosses are those of a series adjusted with every split there ever was, though no later split was known.
"""

from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction

from medalion.core.enums import TradeSide
from medalion.core.errors import InputError
from medalion.core.money import cash, exact

_RESERVE = Decimal("0.95")


@dataclass(frozen=True, slots=True)
class Cross:
    """The fast average crossed the slow one at a close; averages are per share of that day, to 8 places."""

    side: TradeSide
    fast: Decimal
    slow: Decimal

    @property
    def strength(self) -> Decimal:
        """How far apart the averages are, in percent of the slow one, at most 100."""
        with exact():
            return min(cash(abs(self.fast - self.slow) / self.slow * 100), Decimal(100))


@dataclass
class MovingAverageCross:
    """Two simple moving averages of the closes of one instrument, `fast` and `slow` bars long.

    >>> cross = MovingAverageCross(fast=1, slow=2)
    >>> [found.side.value for close in (3, 2, 4, 1) if (found := cross.close(Decimal(close)))]
    ['buy', 'sell']
    """

    fast: int = 20
    slow: int = 50
    _closes: deque[Fraction] = field(init=False)
    _sums: list[Fraction] = field(init=False)
    _above: bool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if not 0 < self.fast < self.slow:
            raise InputError(
                f"averages of {self.fast} and {self.slow} bars were asked; the fast one must be the shorter",
                given=(self.fast, self.slow),
                expected="0 < fast < slow",
            )
        self._closes, self._sums = deque(maxlen=self.slow), [Fraction(0), Fraction(0)]

    def close(self, price: Decimal) -> Cross | None:
        """The cross that the close of another bar makes, if it makes one.

        The first time that both averages are known is no cross, whichever is the larger; equal averages change nothing.
        """
        for which, length in enumerate((self.fast, self.slow)):
            if len(self._closes) >= length:
                self._sums[which] -= self._closes[-length]
            self._sums[which] += Fraction(price)
        self._closes.append(Fraction(price))
        if len(self._closes) < self.slow:
            return None
        fast, slow = self._sums[0] / self.fast, self._sums[1] / self.slow
        before = self._above
        if fast != slow:
            self._above = fast > slow
        if before is None or self._above is before:
            return None
        return Cross(TradeSide.BUY if self._above else TradeSide.SELL, _rounded(fast), _rounded(slow))

    def split(self, ratio: Fraction) -> None:
        """Restate what was seen in new shares, `ratio` for one old."""
        self._closes = deque((close / ratio for close in self._closes), maxlen=self.slow)
        self._sums = [total / ratio for total in self._sums]


def shares_for(*, equity: Decimal, cash_held: Decimal, fraction: Decimal, price: Decimal) -> Decimal:
    """Whole shares that a `fraction` of the equity buys at the price known, 0 if none.

    Of the cash held one twentieth is left, because tomorrow's open may be above today's close.
    """
    with exact():
        budget = min(equity * fraction, cash_held * _RESERVE)
        return max((budget / price).to_integral_value(ROUND_FLOOR), Decimal(0))


def _rounded(value: Fraction) -> Decimal:
    with exact():
        return cash(Decimal(value.numerator) / value.denominator)
