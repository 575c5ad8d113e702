"""Joins by availability, and prices restated for splits."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction

import polars as pl

from medalion.types import EXCHANGE_ZONE

_PRICES = ("open", "high", "low", "close", "vwap")


def asof_join(
    left: pl.DataFrame, rows: pl.DataFrame, instruments: Mapping[str, int], *, tolerance: timedelta | None
) -> pl.DataFrame:
    """Each left row with the newest row of its symbol's instrument whose `available_at` is not after the left `ts`.

    Newest is the latest `ts`: a row that became known late does not hide a newer one known before. Of rows that became
    available together the later in `rows` is taken. The order of `left` stays. `instruments` has
    the symbols of `left`: rows may carry an older name of the same instrument.
    """
    place, moment, key = "__place", "__moment", "__instrument"
    keyed = left.with_row_index(place).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")).alias(moment),
        pl.col("symbol").replace(instruments).cast(pl.Int64).alias(key),
    )
    # A row that became known after a newer one has nothing to say at any time.
    known = (
        rows.drop("symbol")
        .with_columns(pl.col("available_at").alias(moment), pl.col("instrument_id").alias(key))
        .sort(moment, maintain_order=True)
        .filter(pl.col("ts") == pl.col("ts").cum_max().over(key))
    )
    joined = keyed.sort(moment).join_asof(
        known,
        on=moment,
        by=key,
        strategy="backward",
        tolerance=tolerance,
        check_sortedness=False,
    )
    return joined.sort(place).drop(place, moment, key)


def split_adjusted(
    rows: pl.DataFrame, splits: Sequence[tuple[int, date, Fraction]], *, is_intraday: bool
) -> pl.DataFrame:
    """Bars restated in the shares of today: before each ex-date prices are divided and volumes multiplied by the ratio.

    Prices are rounded half-even to 8 places. The day of a bar is the exchange's for minutes and hours; longer bars are
    stamped with their date.
    """
    zone = EXCHANGE_ZONE.key if is_intraday else "UTC"
    day = pl.col("ts").dt.convert_time_zone(zone).dt.date()
    new = old = pl.lit(1, dtype=pl.Int128)
    for instrument, ex_date, ratio in splits:
        applies = (pl.col("instrument_id") == instrument) & (day < ex_date)
        shares_new, shares_old = ratio.as_integer_ratio()
        new = pl.when(applies).then(new * shares_new).otherwise(new)
        old = pl.when(applies).then(old * shares_old).otherwise(old)
    return rows.with_columns(
        *(_scaled(name, old, new, 18) for name in _PRICES if name in rows.columns),
        *(_scaled(name, new, old, 28) for name in ("volume",) if name in rows.columns),
    )


def _scaled(name: str, times: pl.Expr, per: pl.Expr, precision: int) -> pl.Expr:
    """The decimal column times a ratio of positive whole numbers, half-even in the eighth place."""
    product = pl.col(name).reinterpret(dtype=pl.Int128) * times
    return half_even(product, per).reinterpret(dtype=pl.Decimal(precision, 8)).alias(name)


def half_even(number: pl.Expr, per: pl.Expr) -> pl.Expr:
    """The quotient of whole numbers of 128 bits, `per` above zero, rounded half-even to a whole number."""
    whole, twice_rest = number.floordiv(per), (number % per) * 2
    rounds_up = (twice_rest > per) | ((twice_rest == per) & (whole % 2 != 0))
    return whole + rounds_up.cast(pl.Int128)
