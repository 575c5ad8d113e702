"""Where a row lies in the lake, and what is known of a file without opening it (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from medalion.datasets import Dataset, Period
from medalion.types import TimeRange

PERIOD = "period"
CLEAN = "-clean"


def period_of(dataset: Dataset) -> pl.Expr:
    """The partition of each row: its day, or for bars the month (minutes, hours) or year (days and longer)."""
    ts = pl.col("ts")
    if dataset.period is Period.DAY:
        return ts.dt.strftime("%Y-%m-%d").alias(PERIOD)
    is_intraday = pl.col("timeframe").str.contains("Min|Hour")
    return pl.when(is_intraday).then(ts.dt.strftime("%Y-%m")).otherwise(ts.dt.strftime("%Y")).alias(PERIOD)


def sort_key(dataset: Dataset) -> tuple[str, ...]:
    """How rows lie within a file: by series, time and arrival."""
    timeframe = ("timeframe",) if dataset.has_timeframe else ()
    return ("instrument_id", *timeframe, "ts", "write_id", "ordinal")


@dataclass(frozen=True, slots=True)
class Box:
    """What a set of rows spans, ends included; rows of two partitions never share a key."""

    period: str
    first_instrument: int
    last_instrument: int
    first_ts: datetime
    last_ts: datetime

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


def needing_deduplication(files: pl.DataFrame, hot: pl.DataFrame) -> pl.Series:
    """For each file whether a key of it may stand twice, in it or beside it; the rest can be read as they are.

    `hot` has the unmirrored rows' boxes, a row a write and partition.
    """
    meets = tangled([*_boxes(files), *_boxes(hot)])[: files.height]
    return ~files["is_clean"] | pl.Series(meets, dtype=pl.Boolean)


def boxes_of(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The boxes of rows in memory, one a write and partition."""
    return rows.group_by(period_of(dataset), "write_id").agg(
        first_instrument=pl.col("instrument_id").min(),
        last_instrument=pl.col("instrument_id").max(),
        first_ts=pl.col("ts").min(),
        last_ts=pl.col("ts").max(),
    )


def _boxes(files: pl.DataFrame) -> list[Box]:
    columns = (PERIOD, "first_instrument", "last_instrument", "first_ts", "last_ts")
    return [Box(*row) for row in files.select(columns).iter_rows()]


def selected(
    files: pl.DataFrame, instruments: Sequence[int] | None, during: TimeRange, timeframe: str | None = None
) -> pl.DataFrame:
    """The files that may hold rows of the range; statistics are exact, so no row is missed."""
    keep = pl.lit(True)
    if during.start is not None:
        keep &= pl.col("last_ts") >= during.start
    if during.end is not None:
        keep &= pl.col("first_ts") < during.end
    if instruments is not None:
        span = sorted(set(instruments))
        if not span:
            return files.clear()
        ends = pl.Series(span)
        # The first asked instrument at or after the file's first must not lie behind its last.
        place = ends.search_sorted(files["first_instrument"], side="left")
        following = ends.extend_constant(None, 1).gather(place)
        files = files.filter(following.is_not_null() & (following <= files["last_instrument"]))
    if timeframe is not None:
        is_year = not timeframe.endswith(("Min", "Hour"))
        keep &= pl.col(PERIOD).str.len_chars().eq(4) == is_year
    return files.filter(keep)
