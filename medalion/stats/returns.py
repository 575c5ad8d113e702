"""Levels and the returns between them; what every figure starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl

from medalion.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Numbers: TypeAlias = "pl.Series | pd.Series[Any] | np.ndarray[Any, Any] | Sequence[Any]"

# Returns of steady growth differ by a few 1e-16, for floats have 53 bits; a ratio to that means nothing.
NOISE = 1e-15
_NUMBERS = (int, float, Decimal)


def series_of(data: Numbers, *, name: str = "values") -> pl.Series:
    """Numbers of a Polars or pandas Series, an array or a list, in their order and without any index.

    Raises:
        InputError: something else.
    """
    if isinstance(data, pl.Series):
        return data
    values = data.to_numpy() if hasattr(data, "to_numpy") else data
    if isinstance(values, np.ndarray):
        values = _of_one_kind(values.tolist()) if values.dtype == object else values
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        values = _of_one_kind(values)
    else:
        raise InputError(
            f"{name} is a {type(data).__name__}; give a Series, an array, a list, or a frame with ts",
            given=type(data),
            expected="numbers",
        )
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}", given=type(data), expected="numbers") from error


def _of_one_kind(values: Sequence[Any]) -> Sequence[Any]:
    """Numbers of several types as the one that holds them all: floats among whole numbers make all of them floats."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 or not all(kind in _NUMBERS or issubclass(kind, np.number) for kind in kinds):
        return values
    return [None if value is None else float(value) for value in values]


def levels(equity: pl.Series, *, name: str = "equity") -> pl.Series:
    """`equity` as floats; `name` is what an error calls it.

    Raises:
        InputError: not numbers, or a value that is null, NaN or infinite.
    """
    if not equity.dtype.is_numeric() and len(equity):
        raise InputError(f"{name} is {equity.dtype}; give numbers", given=equity.dtype, expected="a numeric Series")
    values = equity.cast(pl.Float64)
    bad = len(values) - int(values.is_finite().fill_null(False).sum())
    if bad:
        raise InputError(
            f"{name} has {bad} of {len(values)} values that are null, NaN or infinite; drop or fill them first",
            given=bad,
            expected="finite numbers",
        )
    return values


def simple_returns(equity: Numbers) -> pl.Series:
    """Change from each value to the next as a fraction of the former; one shorter than `equity`.

    Null where the former is not above zero, for a fraction of nothing means nothing.

    >>> simple_returns(pl.Series([100.0, 125.0, 50.0])).to_list()
    [0.25, -0.6]

    Raises:
        InputError: not numbers, or a value that is null, NaN or infinite.
    """
    values = levels(series_of(equity, name="equity")).alias("return")
    before = values.shift(1)
    return (values / before - 1).set(before <= 0, None).slice(1)


def time_weighted(equity: Numbers, flows: Numbers) -> pl.Series:
    """Growth of one unit of money, with deposits (positive) and withdrawals (negative) taken out.

    `flows` stands beside `equity`: what came in after the value before and is contained in the value beside it. The
    first flow is ignored. Null from a value that is not above zero on.

    >>> time_weighted(pl.Series([100.0, 210.0, 231.0]), pl.Series([0.0, 100.0, 0.0])).round(6).to_list()
    [1.0, 1.1, 1.21]

    Raises:
        InputError: they differ in length, or hold something that is not a finite number.
    """
    if len(equity) != len(flows):
        raise InputError(
            f"{len(equity)} values and {len(flows)} flows; give one flow beside each value, 0 where there is none",
            given=len(flows),
            expected=len(equity),
        )
    values = levels(series_of(equity, name="equity"))
    moved = levels(series_of(flows, name="flows"), name="flows")
    before = values.shift(1)
    growth = ((values - moved) / before).set(before <= 0, None)
    growth = growth.set(pl.int_range(len(growth), eager=True) == 0, 1.0)
    broken = growth.is_null().cum_max() if len(growth) else growth.is_null()
    return growth.cum_prod().set(broken, None)


def finite(value: object) -> float | None:
    """A number, or None for what is undefined: null, NaN, infinite."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def ratio(above: float | None, below: float | None) -> float | None:
    """`above` by `below`; None where either is, or where `below` is zero or only rounding."""
    return None if above is None or below is None or abs(below) < NOISE else finite(above / below)


def deviation(returns: pl.Series) -> float | None:
    """Sample deviation; exactly 0 where all that varies is rounding."""
    found = finite(returns.std(ddof=1))
    return 0.0 if found is not None and found < NOISE else found


def compounded(growth: float, years: float) -> float | None:
    """The annual rate at which one grows to `growth` in `years`; None for less than nothing, or in no time."""
    if growth < 0 or years <= 0:
        return None
    try:
        return finite(growth ** (1 / years) - 1)
    except OverflowError:
        return None


def number_of(value: object, fits: Callable[[float], bool], *, name: str, wanted: str) -> float:
    """The number that was given, if it fits.

    Raises:
        InputError: it is none, or does not fit.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise InputError(f"{name} is {value!r}; give {wanted}", given=value, expected=wanted)
    return float(value)


def per_period(annual_rate: float, periods: float) -> float:
    """The rate of each of the `periods` of a year that compounds to an effective `annual_rate`.

    Raises:
        InputError: the rate is no number above -1.
    """
    rate = number_of(annual_rate, lambda rate: -1 < rate < inf, name="an annual rate", wanted="a fraction above -1")
    return float((1 + rate) ** (1 / periods) - 1)
