"""Joins by availability, and prices restated for splits."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.frames import derive, polars_schema
from medalion.core.time import EXCHANGE_ZONE
from olap.reads.scan import RANK, ranks

_PRICES = ("open", "high", "low", "close", "vwap")


_PLACE, _MOMENT, _KEY = "__place", "__moment", "__instrument"


class AsofJoin:
    """Each left row with the newest row of its symbol's instrument whose `available_at` is not after the left `ts`.

    Newest is the latest `ts`: a row that became known late does not hide a newer one known before. Of rows that became
    available together that of the most preferred source is taken, and of its rows the later in order of arrival. The
    order of `left` stays. `instruments` has the symbols of `left`: rows may carry an older name of the same instrument.
    """

    def __init__(
        self, dataset: Dataset, left: pl.DataFrame, instruments: Mapping[str, int], *, tolerance: timedelta | None
    ) -> None:
        self._dataset = dataset
        self._tolerance = tolerance
        self._left = left.with_row_index(_PLACE).with_columns(
            pl.col("ts").cast(pl.Datetime("us", "UTC")).alias(_MOMENT),
            pl.col("symbol").cast(pl.String).replace(instruments).cast(pl.Int64).alias(_KEY),
        )
        self._joined: list[pl.DataFrame] = []
        self._done: list[int] = []

    def add(
        self,
        instruments: Sequence[int],
        rows: pl.DataFrame,
        *,
        is_in_order: bool,
        preference: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        """Join the left rows of some instruments with all of their stored rows.

        `is_in_order` where the rows of each instrument lie in order of `ts` and arrival. `preference` has the
        instruments of several sources with these, most preferred first.
        """
        self._done += instruments
        if preference:
            rows = rows.join(ranks(preference), on=["instrument_id", "source"], how="left")
            rows = rows.sort("ts", -pl.col(RANK), "write_id", "ordinal").drop(RANK)
            is_in_order = True
        self._joined.append(self._join(pl.col(_KEY).is_in(list(instruments)), rows, is_in_order=is_in_order))

    def result(self) -> pl.DataFrame:
        """The left rows with what was joined to them; nulls for those of other instruments."""
        nothing = pl.DataFrame(schema=polars_schema(self._dataset.stored))
        rest = pl.col(_KEY).is_null() | ~pl.col(_KEY).is_in(self._done)
        self._joined.append(self._join(rest, nothing, is_in_order=True))
        return pl.concat(self._joined).sort(_PLACE).drop(_PLACE, _MOMENT, _KEY)

    def _join(self, wanted: pl.Expr, rows: pl.DataFrame, *, is_in_order: bool) -> pl.DataFrame:
        available, *derived = derive(self._dataset)
        is_prompt = rows["available_at"].null_count() == rows.height
        if not is_in_order:
            rows = rows.sort("ts", "write_id", "ordinal")
        known = rows.with_columns(available).with_columns(
            pl.col("available_at").alias(_MOMENT), pl.col("instrument_id").alias(_KEY)
        )
        if not is_prompt:
            # A row that became known after a newer one has nothing to say at any time.
            known = known.sort(_MOMENT, maintain_order=True).filter(pl.col("ts") == pl.col("ts").cum_max().over(_KEY))
        # What is computed of other columns is computed for the rows that were met alone.
        inner = [name for name in known.columns if name not in (_MOMENT, _KEY)]
        met = (
            self._left.select(_PLACE, _MOMENT, _KEY)
            .filter(wanted)
            .sort(_MOMENT)
            .join_asof(
                known,
                on=_MOMENT,
                by=_KEY,
                strategy="backward",
                tolerance=self._tolerance,
                check_sortedness=False,
            )
        )
        names = [name for name in self._dataset.schema.names if name != "symbol"]
        right = met.select(_PLACE, *inner).with_columns(derived).select(_PLACE, *names)
        twice = set(self._left.columns) & set(names)
        right = right.rename({name: f"{name}_right" for name in twice})
        return self._left.filter(wanted).join(right, on=_PLACE, how="left", maintain_order="left")


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
