"""Amounts that are exact, and the one named rounding."""

from contextlib import AbstractContextManager
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext

from medalion.core.errors import InputError

CASH_PLACES = Decimal("1E-8")

# Three factors of 18 digits have 54 and the default context keeps 28. With 100 a quotient of such numbers can also not
# be rounded onto a tie of the 8th place that it only comes near.
_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


def exact() -> AbstractContextManager[Context]:
    """A decimal context wide enough for sums and products of our money, prices and sizes to be exact."""
    return localcontext(_EXACT)


def cash(amount: Decimal) -> Decimal:
    """`amount` in quote currency, half-even to 8 places: the one named rounding.

    >>> cash(Decimal(31) / 3)
    Decimal('10.33333333')
    """
    return amount.quantize(CASH_PLACES, context=_EXACT)


ZERO = Decimal(0)

_LIMIT = Decimal(10) ** 10


def checked(value: Decimal, *, name: str, positive: bool = False) -> Decimal:
    """`value` if it fits decimal(18,8) as it is.

    Raises:
        InputError: a float or another type, not finite, more than 8 digits after or 10 before the point, or not above
            zero where it must be `positive`.
    """
    if not isinstance(value, Decimal):
        raise InputError(
            f"{name} {value!r} is a {type(value).__name__}; give a Decimal made from text, such as Decimal('0.1')",
            given=value,
            expected="Decimal",
        )
    if not value.is_finite() or abs(value) >= _LIMIT or value != cash(value):
        raise InputError(
            f"{name} {value} does not fit decimal(18,8); give at most 10 digits before and 8 after the point",
            given=value,
            expected="decimal(18,8)",
        )
    if positive and value <= 0:
        raise InputError(f"{name} {value} is not above zero; the side says buy or sell", given=value, expected="> 0")
    return value
