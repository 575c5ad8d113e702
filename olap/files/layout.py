"""Where a row lies in the lake, and what is known of a file without opening it (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medalion.core.datasets import Dataset, Period
from medalion.core.time import TimeRange

Column: TypeAlias = NDArray[Any]

PERIOD = "period"
CLEAN = "-clean"
"""In the name of a file in which every key occurs once and no tombstone stands."""
COMPACT = "-compact"
"""In the name of a file that compaction or retention wrote, before `CLEAN`."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Since 1970 in UTC, as files hold times."""
    return (moment - _EPOCH) // _MICROSECOND


def period_of(dataset: Dataset) -> pl.Expr:
    """The partition of each row: its day, or for bars the month (minutes, hours) or decade (days and longer).

    Ten years of a symbol's daily bars are in one file of a decade, and would be in ten of a year each.
    """
    ts = pl.col("ts")
    if dataset.period is Period.DAY:
        return ts.dt.date().cast(pl.String).alias(PERIOD)
    is_intraday = pl.col("timeframe").str.contains("Min|Hour")
    decade = pl.format("{}s", ts.dt.year() // 10 * 10)
    return pl.when(is_intraday).then(ts.dt.strftime("%Y-%m")).otherwise(decade).alias(PERIOD)


def is_of_days(period: str) -> bool:
    """Whether a partition of bars is one of days and longer."""
    return period.endswith("s")


def end_of(period: str) -> datetime:
    """The first moment after a partition.

    >>> [end_of(period).date().isoformat() for period in ("2020s", "2024-02", "2024-12", "2024-02-29")]
    ['2030-01-01', '2024-03-01', '2025-01-01', '2024-03-01']
    """
    if is_of_days(period):
        return datetime(int(period[:-1]) + 10, 1, 1, tzinfo=UTC)
    year, month, *day = map(int, period.split("-"))
    if day:
        return datetime(year, month, day[0], tzinfo=UTC) + timedelta(days=1)
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def sort_key(dataset: Dataset) -> tuple[str, ...]:
    """How rows lie within a file: by series, time and arrival."""
    timeframe = ("timeframe",) if dataset.has_timeframe else ()
    return ("instrument_id", *timeframe, "ts", "write_id", "ordinal")


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """What sets of rows span, ends included, times in microseconds; an array a field.

    Rows of two partitions never share a key.
    """

    period: Column
    first_instrument: Column
    last_instrument: Column
    first_ts: Column
    last_ts: Column

    def __len__(self) -> int:
        return len(self.period)

    def where(self, keep: Column) -> "Boxes":
        """The boxes that are kept: by truth, or by place and in that order."""
        return Boxes(*(getattr(self, field.name)[keep] for field in fields(self)))

    def and_those(self, others: "Boxes") -> "Boxes":
        """These, and the others behind them."""
        both = ((getattr(self, field.name), getattr(others, field.name)) for field in fields(self))
        return Boxes(*(np.concatenate(pair) for pair in both))

    def meeting(self, instruments: Sequence[int] | None, during: TimeRange) -> NDArray[np.bool_]:
        """For each box whether it may hold rows of the range; None is every instrument."""
        keep = np.ones(len(self), np.bool_)
        if during.start is not None:
            keep &= self.last_ts >= microseconds(during.start)
        if during.end is not None:
            keep &= self.first_ts < microseconds(during.end)
        if instruments is not None:
            # The first asked instrument at or after the box's first must not lie behind its last.
            asked = np.append(np.unique(np.array(instruments, np.int64)), np.iinfo(np.int64).max)
            keep &= asked[np.searchsorted(asked, self.first_instrument)] <= self.last_instrument
        return keep


_AT_ONCE = 512
"""Boxes of one partition of which each is compared with each; of more, only with those of its time."""


def tangled(boxes: Boxes) -> NDArray[np.bool_]:
    """For each box whether it meets another: whether a row of each could have the same key."""
    meets = np.zeros(len(boxes), np.bool_)
    seen: dict[str, int] = {}
    codes = np.array([seen.setdefault(period, len(seen)) for period in boxes.period.tolist()], np.int64)
    order = np.argsort(codes, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        if len(places) > _AT_ONCE:
            meets[places] = _swept(boxes.where(places))
        elif len(places) > 1:
            one = boxes.where(places)
            pairs = np.ones((len(places), len(places)), np.bool_)
            for first, last in ((one.first_instrument, one.last_instrument), (one.first_ts, one.last_ts)):
                pairs &= (first[:, None] <= last) & (first <= last[:, None])
            np.fill_diagonal(pairs, False)
            meets[places] = pairs.any(axis=1)
    return meets


def _swept(boxes: Boxes) -> NDArray[np.bool_]:
    """The same within one partition, in order of time: a box meets only those that began before and have not ended."""
    meets = np.zeros(len(boxes), np.bool_)
    active = np.zeros(0, np.int64)
    for place in np.argsort(boxes.first_ts, kind="stable"):
        active = active[boxes.last_ts[active] >= boxes.first_ts[place]]
        shared = active[
            (boxes.first_instrument[active] <= boxes.last_instrument[place])
            & (boxes.first_instrument[place] <= boxes.last_instrument[active])
        ]
        if len(shared):
            meets[shared] = meets[place] = True
        active = np.append(active, place)
    return meets


def boxes_of(dataset: Dataset, rows: pl.DataFrame) -> Boxes:
    """The boxes of rows in memory, one a write and partition."""
    if rows.is_empty():
        return NO_BOXES
    spans = rows.group_by(period_of(dataset), "write_id").agg(
        pl.col("instrument_id").min().alias("first_instrument"),
        pl.col("instrument_id").max().alias("last_instrument"),
        pl.col("ts").min().to_physical().alias("first_ts"),
        pl.col("ts").max().to_physical().alias("last_ts"),
    )
    return Boxes(*(spans[field.name].to_numpy() for field in fields(Boxes)))


NO_BOXES = Boxes(np.zeros(0, np.object_), *(np.zeros(0, np.int64) for _ in range(4)))
