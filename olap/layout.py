"""Where a row lies in the lake, and what is known of a file without opening it (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from medalion.datasets import Dataset, Period

PERIOD = "period"
CLEAN = "-clean"
"""In the name of a file in which every key occurs once and no tombstone stands."""
COMPACT = "-compact"
"""In the name of a file that compaction or retention wrote, before `CLEAN`."""


def period_of(dataset: Dataset) -> pl.Expr:
    """The partition of each row: its day, or for bars the month (minutes, hours) or year (days and longer)."""
    ts = pl.col("ts")
    if dataset.period is Period.DAY:
        return ts.dt.strftime("%Y-%m-%d").alias(PERIOD)
    is_intraday = pl.col("timeframe").str.contains("Min|Hour")
    return pl.when(is_intraday).then(ts.dt.strftime("%Y-%m")).otherwise(ts.dt.strftime("%Y")).alias(PERIOD)


def end_of(period: str) -> datetime:
    """The first moment after a partition.

    >>> [end_of(period).date().isoformat() for period in ("2024", "2024-02", "2024-12", "2024-02-29")]
    ['2025-01-01', '2024-03-01', '2025-01-01', '2024-03-01']
    """
    year, *rest = map(int, period.split("-"))
    if len(rest) == 2:
        return datetime(year, rest[0], rest[1], tzinfo=UTC) + timedelta(days=1)
    months = year * 12 + (rest[0] if rest else 12)
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def sort_key(dataset: Dataset) -> tuple[str, ...]:
    """How rows lie within a file: by series, time and arrival."""
    timeframe = ("timeframe",) if dataset.has_timeframe else ()
    return ("instrument_id", *timeframe, "ts", "write_id", "ordinal")


@dataclass(frozen=True, slots=True)
class Box:
    """What a set of rows spans, ends included, times in microseconds; rows of two partitions never share a key."""

    period: str
    first_instrument: int
    last_instrument: int
    first_ts: int
    last_ts: int

    def meets(self, other: "Box") -> bool:
        """Whether a row of each could have the same key."""
        return (
            self.period == other.period
            and self.first_instrument <= other.last_instrument
            and other.first_instrument <= self.last_instrument
            and self.first_ts <= other.last_ts
            and other.first_ts <= self.last_ts
        )


def tangled(boxes: Sequence[Box]) -> list[bool]:
    """For each box whether it meets another.

    Swept in order of partition and time, a box can only meet those that began before it and have not ended.
    """
    meets = [False] * len(boxes)
    active: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda place: (boxes[place].period, boxes[place].first_ts)):
        box = boxes[place]
        active = [o for o in active if boxes[o].period == box.period and boxes[o].last_ts >= box.first_ts]
        for other in active:
            if box.meets(boxes[other]):
                meets[place] = meets[other] = True
        active.append(place)
    return meets


def boxes_of(dataset: Dataset, rows: pl.DataFrame) -> list[Box]:
    """The boxes of rows in memory, one a write and partition."""
    if rows.is_empty():
        return []
    spans = rows.group_by(period_of(dataset), "write_id").agg(
        pl.col("instrument_id").min().alias("first_instrument"),
        pl.col("instrument_id").max().alias("last_instrument"),
        pl.col("ts").min().to_physical().alias("first_ts"),
        pl.col("ts").max().to_physical().alias("last_ts"),
    )
    return [Box(*span) for span in spans.drop("write_id").iter_rows()]
