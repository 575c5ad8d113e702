"""Numbers of any kind → decimals with 8 places, exactly or not at all."""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

import polars as pl

from medalion.core.errors import InputError

SCALE = 8
_UNIT = 10**SCALE
_EXACT_FLOAT = 2**53  # up to here a float64 of whole units is a whole number of units
_WIDE = pl.Decimal(38, SCALE)

OnBad: TypeAlias = Callable[[pl.Series, str, pl.Series, str], None]
"""Told of rows that do not fit: which they are, the column's name, its values, what was expected."""


def refuse(bad: pl.Series, where: str, given: pl.Series, expected: str) -> None:
    """Raise for the first row that is bad.

    Raises:
        InputError: one is.
    """
    if bad.any():
        row = int(bad.arg_max() or 0)
        value = given[row]
        said = "null" if value is None else value
        raise InputError(f"{where} is {said} in row {row}; {expected}", given=value, expected=expected)


def exact_decimals(series: pl.Series, wanted: pl.Decimal, where: str, on_bad: OnBad = refuse) -> pl.Series:
    """The series as `wanted`; `on_bad` is told of what it cannot hold, which is null in the result.

    A float counts as the shortest decimal that reads back as it, so that 0.1 is 0.1.

    Raises:
        InputError: not numbers; and by default more than 8 decimals, too many digits, NaN, infinity, or no number.
    """
    kind = series.dtype
    if kind == pl.Null:
        return series.cast(wanted)
    if kind.is_float():
        shortest = series.cast(pl.String).cast(pl.Float64) if kind == pl.Float32 else series
        exact = _from_floats(shortest, where, on_bad)
    elif kind == pl.String:
        exact = _from_text(series)
    elif isinstance(kind, pl.Decimal):
        exact = _from_decimals(series, kind)
    elif kind.is_integer():
        exact = series.cast(_WIDE, strict=False)
    else:
        raise InputError(f"{where} has type {kind}; expected numbers", given=str(kind), expected=str(wanted))
    whole_digits = wanted.precision - SCALE
    limit = pl.lit(10**whole_digits, dtype=pl.Int128) * _UNIT
    fits = pl.select(exact.reinterpret(dtype=pl.Int128).abs() < limit).to_series()
    bad = series.is_not_null() & (exact.is_null() | ~fits.fill_null(False))
    if bad.any():
        expected = f"expected at most {whole_digits} digits before the point and {SCALE} after it"
        on_bad(bad, where, series, expected)
        exact = exact.zip_with(~bad, pl.Series([None], dtype=_WIDE))
    return exact.cast(wanted)


def _from_floats(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    on_bad(~series.is_finite().fill_null(True), where, series, "give a number, or null")
    units = (series * _UNIT).round()
    is_exact = (units.abs() < _EXACT_FLOAT) & (units / _UNIT == series)
    exact: pl.Series = (
        units.zip_with(is_exact.fill_null(False), pl.Series([0.0])).cast(pl.Int128).reinterpret(dtype=_WIDE)
    )
    if not is_exact.fill_null(True).all():
        exact = exact.zip_with(is_exact.fill_null(True), _from_text(_plain_text(series)))
    return exact.zip_with(series.is_not_null(), pl.Series([None], dtype=_WIDE))


def _plain_text(series: pl.Series) -> pl.Series:
    """Shortest decimal text of each float, without an exponent."""
    text = series.cast(pl.String)
    has_exponent = text.str.contains("e", literal=True).fill_null(False)
    if not has_exponent.any():
        return text
    plain = [None if number is None else format(Decimal(number), "f") for number in text.to_list()]
    return pl.Series(plain, dtype=pl.String)


def _from_text(series: pl.Series) -> pl.Series:
    """Null where the text is no plain number with at most 8 decimals."""
    plain = series.str.strip_chars()
    is_number = plain.str.contains(r"^[+-]?\d{1,30}(\.\d{0,8}0*)?$")
    return plain.set(~is_number.fill_null(False), None).str.strip_prefix("+").cast(_WIDE, strict=False)


def _from_decimals(series: pl.Series, kind: pl.Decimal) -> pl.Series:
    """Null where more than 8 decimals would be lost."""
    if kind.scale <= SCALE:
        return series.cast(_WIDE, strict=False)
    units = pl.col("x").reinterpret(dtype=pl.Int128)
    step = 10 ** (kind.scale - SCALE)
    exact: pl.Expr = pl.when(units % step == 0).then(units.floordiv(step)).reinterpret(dtype=_WIDE)
    return series.to_frame("x").select(exact).to_series()
