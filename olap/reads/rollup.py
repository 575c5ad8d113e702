"""Bars of a longer timeframe from finer bars or quotes: where they open and close, and exact sums (pure)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import TypeAlias

import polars as pl

from medalion.core.datasets import ARRIVAL, Dataset
from medalion.core.errors import InputError
from medalion.core.frames import LAST_YEAR, polars_schema
from medalion.core.time import EXCHANGE_ZONE, MICROSECOND, Timeframe, TimeRange, TimeUnit
from olap.reads.asof import half_even

Sessions: TypeAlias = Callable[[date, date], pl.DataFrame]
"""The sessions of an exchange from a day to before another: `day`, and the times `opens` and `closes`."""

# A week and a month are only compared by length, never divided by it.
_MINUTES = {TimeUnit.MINUTE: 1, TimeUnit.HOUR: 60, TimeUnit.DAY: 1440, TimeUnit.WEEK: 10_080, TimeUnit.MONTH: 43_200}
_MINUTE = 60_000_000
_TIME = pl.Datetime("us", "UTC")
_DECIMAL = pl.Decimal(18, 8)
_PRICES = ("open", "high", "low", "close")
_BASE = ("symbol", "ts", "instrument_id", "source")
_ARRIVED = ("write_id", "ordinal")
_BUCKET, _COUNTS, _WEIGHT, _DAY = "__bucket", "__counts", "__weight", "__day"
_EXACT = 2**125
"""Below it a product and twice a rest fit into 128 bits."""


def minutes(timeframe: Timeframe) -> int:
    """Its length; of a month about."""
    return timeframe.count * _MINUTES[timeframe.unit]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the bars of a timeframe open and close.

    Minutes and hours are counted from 1970 in UTC. A day, a week from Monday and months that divide the year begin at
    midnight: with `sessions`, as stocks have, in New York, else in UTC.
    """

    timeframe: Timeframe
    sessions: Sessions | None = None

    def is_divided_by(self, finer: Timeframe) -> bool:
        """Whether each bar of `finer` lies within one bar of this, and is not of the same timeframe."""
        own = self.timeframe
        if own.is_intraday:
            return finer != own and finer.is_intraday and minutes(own) % minutes(finer) == 0
        if not self.is_made:
            return False
        if finer.is_intraday:  # midnight in New York is an hour's edge in UTC, but not that of four hours
            return _MINUTES[TimeUnit.HOUR if self.sessions else TimeUnit.DAY] % minutes(finer) == 0
        if finer.unit is TimeUnit.MONTH:
            return own.unit is TimeUnit.MONTH and finer != own and own.count % finer.count == 0
        return own.unit is not TimeUnit.DAY and finer == Timeframe(1, TimeUnit.DAY)

    @property
    def is_made(self) -> bool:
        """Whether bars of this timeframe can be made: two days, for instance, have no edges that all agree on."""
        own = self.timeframe
        return own.is_intraday or own.count == 1 or (own.unit is TimeUnit.MONTH and 12 % own.count == 0)

    def rows(self, during: TimeRange, finer: Timeframe | None) -> TimeRange:
        """The range of the finer rows of every bar whose opening edge lies in `during`; quotes have no `finer`."""
        edges = [
            None if edge is None else self._first_from(min(edge, LAST_YEAR)) for edge in (during.start, during.end)
        ]
        if _is_dated(finer):
            edges = [None if edge is None else datetime.combine(edge.date(), time(), UTC) for edge in edges]
        return TimeRange(*edges)

    def bucket(self, finer: Timeframe | None) -> pl.Expr:
        """Which bar a row belongs to: a time for minutes and hours, a date for longer ones."""
        ts = pl.col("ts")
        if self.timeframe.is_intraday:
            span = minutes(self.timeframe) * _MINUTE
            return (ts.to_physical().floordiv(span) * span).cast(_TIME)
        local = ts if _is_dated(finer) else ts.dt.convert_time_zone(self._zone)
        return local.dt.date().dt.truncate(self._every)

    def edges(self, bucket: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """Opening and closing edge of a bar."""
        if self.timeframe.is_intraday:
            return bucket, bucket + timedelta(minutes=minutes(self.timeframe))
        return self._midnight(bucket), self._midnight(bucket.dt.offset_by(self._every))

    @property
    def _zone(self) -> str:
        return EXCHANGE_ZONE.key if self.sessions else "UTC"

    @property
    def _every(self) -> str:
        short = {TimeUnit.DAY: "d", TimeUnit.WEEK: "w", TimeUnit.MONTH: "mo"}[self.timeframe.unit]
        return f"{self.timeframe.count}{short}"

    def _midnight(self, day: pl.Expr) -> pl.Expr:
        return day.cast(pl.Datetime("us")).dt.replace_time_zone(self._zone).dt.convert_time_zone("UTC")

    def _first_from(self, moment: datetime) -> datetime:
        """The first opening edge at or after `moment`."""
        bucket = pl.select(ts=pl.lit(moment, _TIME)).select(self.bucket(None).alias(_BUCKET))
        opening, closing = self.edges(pl.col(_BUCKET))
        first: datetime
        after: datetime
        first, after = bucket.select(opening=opening, closing=closing).row(0)
        return first if first == moment else after


def _is_dated(finer: Timeframe | None) -> bool:
    """Whether rows are stamped with their date: at its midnight in UTC, or in New York, which is later that day."""
    return finer is not None and not finer.is_intraday


def needed(columns: Sequence[str], *, from_quotes: bool) -> list[str]:
    """The columns of finer bars, or of quotes, from which `columns` are made."""
    arrival = [column.name for column in ARRIVAL if column.name in columns]
    known = [name for name in ("available_at",) if name in columns]
    names = [*_BASE, *known, *arrival, *(_ARRIVED if arrival else ())]
    if from_quotes:
        names += ["bid_price", "ask_price", "mid_price"]
    else:
        names += [name for name in columns if name not in ("timeframe", *names)]
        names += ["volume"] if "vwap" in columns else []
    return list(dict.fromkeys(names))


def mid_bars(quotes: pl.DataFrame) -> pl.DataFrame:
    """Each quote as a bar at its mid price, without volume; one that has no price above zero on a side is left out."""
    is_priced = (pl.col("bid_price") > 0) & (pl.col("ask_price") > 0)
    return quotes.filter(is_priced).with_columns(
        *(pl.col("mid_price").alias(name) for name in _PRICES),
        volume=pl.lit(0, pl.Decimal(28, 8)),
        trade_count=pl.lit(None, pl.Int64),
        vwap=pl.lit(None, _DECIMAL),
    )


def rolled_up(
    dataset: Dataset, rows: pl.DataFrame, grid: Grid, finer: Timeframe | None, *, columns: Sequence[str]
) -> pl.DataFrame:
    """The bars of `grid` that the rows make, in no order; `columns` include the order's.

    In a stock's day or longer, prices and vwap are those of the regular session, and volume and trade count of all: see
    `docs/storage.md`.

    Raises:
        InputError: a sum of volumes or trades does not fit its column.
    """
    ordered = rows.sort("instrument_id", "ts", maintain_order=True)
    if grid.sessions is None or grid.timeframe.is_intraday or _is_dated(finer):
        ordered = ordered.with_columns(pl.lit(True).alias(_COUNTS))
    else:
        ordered = _by_session(ordered, finer, grid.sessions)
    ordered = ordered.with_columns(grid.bucket(finer).alias(_BUCKET))
    wanted = [name for name in columns if name not in (*_BASE, "timeframe", "available_at", "vwap")]
    opening, closing = grid.edges(pl.col(_BUCKET))
    key = ("instrument_id", "source", _BUCKET)
    try:
        bars = ordered.group_by(key).agg(
            pl.col(_COUNTS).any(),
            pl.col("symbol").last(),
            *(_AGGREGATES[name].alias(name) for name in wanted),
            *([pl.col("available_at").max()] if "available_at" in columns else []),
        )
    except pl.exceptions.InvalidOperationError as error:
        raise InputError(
            f"a sum in {dataset.name} does not fit its column: {error}; ask for a finer timeframe",
            given=str(grid.timeframe),
            expected="28 digits of volume, 64 bits of trades",
        ) from error
    if "vwap" in columns:
        bars = bars.join(_average_prices(ordered, key), on=key, how="left")
    if "available_at" in columns:
        bars = bars.with_columns(pl.max_horizontal("available_at", closing).alias("available_at"))
    made = bars.filter(_COUNTS).with_columns(opening.alias("ts"), pl.lit(str(grid.timeframe)).alias("timeframe"))
    kinds = polars_schema(dataset.stored)
    return made.select(pl.col(name).cast(kinds[name]) for name in columns)


_AGGREGATES = {
    "open": pl.col("open").drop_nulls().first(),
    "high": pl.col("high").max(),
    "low": pl.col("low").min(),
    "close": pl.col("close").drop_nulls().last(),
    "volume": pl.col("volume").sum().cast(pl.Decimal(28, 8)),
    "trade_count": pl.when(pl.col("trade_count").null_count() == 0).then(
        pl.col("trade_count").cast(pl.Int128).sum().cast(pl.Int64)
    ),
    **{name: pl.col(name).sort_by(_ARRIVED).last() for name in ("recorded_at", *_ARRIVED)},
}


def _average_prices(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The mean of `vwap` weighted by volume, half-even to 8 places; null where no bar with a vwap has a volume."""
    price, weight = pl.col("vwap").reinterpret(dtype=pl.Int128), pl.col(_WEIGHT)
    traded = rows.filter(pl.col("vwap").is_not_null() & (pl.col("volume") > 0)).with_columns(
        pl.col("volume").reinterpret(dtype=pl.Int128).alias(_WEIGHT)
    )
    largest, total = traded.select(price.abs().max(), weight.sum()).row(0)
    groups = traded.group_by(key)
    if (largest or 0) * total < _EXACT:
        means = groups.agg((price * weight).sum().alias("vwap"), weight.sum())
        vwap = half_even(pl.col("vwap"), weight)
        return means.select(*key, vwap.reinterpret(dtype=_DECIMAL))
    lists = groups.agg(price.alias("vwap"), weight)
    whole = [
        round(Fraction(sum(map(int.__mul__, prices, weights)), sum(weights)))
        for prices, weights in lists.select("vwap", _WEIGHT).iter_rows()
    ]
    return lists.select(*key, pl.Series("vwap", whole, dtype=pl.Int128).reinterpret(dtype=_DECIMAL))


def _by_session(rows: pl.DataFrame, finer: Timeframe | None, sessions: Sessions) -> pl.DataFrame:
    """The rows of days that have a session; out of its hours without prices, and they alone make no bar."""
    day = rows.select(pl.col("ts").dt.convert_time_zone(EXCHANGE_ZONE.key).dt.date().alias(_DAY))
    first, last = day[_DAY].min(), day[_DAY].max()
    if not (isinstance(first, date) and isinstance(last, date)):  # there are no rows
        return rows.with_columns(pl.lit(True).alias(_COUNTS))
    known = sessions(first, last + timedelta(days=1))
    hours = day.join(known, left_on=_DAY, right_on="day", how="left", maintain_order="left")
    span = timedelta(minutes=minutes(finer)) if finer is not None else MICROSECOND
    is_within = (rows["ts"] + span > hours["opens"]) & (rows["ts"] < hours["closes"])
    priced = [name for name in (*_PRICES, "vwap") if name in rows.columns]
    counted = rows.with_columns(is_within.alias(_COUNTS)).filter(pl.col(_COUNTS).is_not_null())
    return counted.with_columns(pl.when(_COUNTS).then(pl.col(name)).alias(name) for name in priced)
