"""Reads over pinned files and unmirrored rows: each key's last row, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import polars as pl

from medalion.datasets import Dataset
from medalion.errors import CorruptLakeError
from medalion.frames import derive, polars_schema
from medalion.types import TimeRange
from olap.layout import boxes_of, needing_deduplication

Series: TypeAlias = Mapping[str, Sequence[int] | None]


@dataclass(frozen=True)
class Selection:
    """What to read: files of one pin, the rows beside them, and which of their rows are meant.

    `series` maps a source to the instruments it answers for, None being all; without it every row of every source is
    meant.
    """

    dataset: Dataset
    root: Path
    files: pl.DataFrame
    hot: pl.DataFrame
    during: TimeRange
    series: Series | None = None
    timeframe: str | None = None
    as_of: datetime | None = None

    def split(self) -> tuple[list[str], list[str]]:
        """Paths that need no deduplication, and those that do."""
        if self.files.height == 0:
            return [], []
        twice = needing_deduplication(self.files, boxes_of(self.dataset, self.hot))
        paths = (str(self.root) + "/" + self.files["path"]) if self.files.height else self.files["path"]
        return paths.filter(~twice).to_list(), paths.filter(twice).to_list()

    def wanted(self) -> pl.Expr:
        """Which stored rows are meant, before deduplication."""
        keep = pl.lit(True)
        if self.series is not None:
            keep &= _in_series(self.series)
        if self.during.start is not None:
            keep &= pl.col("ts") >= self.during.start
        if self.during.end is not None:
            keep &= pl.col("ts") < self.during.end
        if self.timeframe is not None:
            keep &= pl.col("timeframe") == self.timeframe
        if self.as_of is not None:
            keep &= pl.col("recorded_at") <= self.as_of
        return keep


def _in_series(series: Series) -> pl.Expr:
    return pl.any_horizontal(
        pl.lit(False), *((pl.col("source") == source) & _one_of(instruments) for source, instruments in series.items())
    )


def _one_of(instruments: Sequence[int] | None) -> pl.Expr:
    if instruments is None:
        return pl.lit(True)
    if len(instruments) == 1:
        return pl.col("instrument_id") == instruments[0]
    return pl.col("instrument_id").is_in(list(instruments))


def scan(selection: Selection, *, columns: Sequence[str] | None = None) -> pl.LazyFrame:
    """The current rows, lazily, with the dataset's schema, in order of symbol, (timeframe,) ts and arrival."""
    dataset = selection.dataset
    once, twice = selection.split()
    names = list(columns) if columns is not None else list(dataset.schema.names)
    parts: list[pl.LazyFrame] = []
    if once:
        parts.append(_files(dataset, once).filter(selection.wanted()))
    if twice or selection.hot.height or not once:
        rows = pl.concat([*([_files(dataset, twice)] if twice else []), selection.hot.lazy()])
        parts.append(current(dataset, rows.filter(selection.wanted())))
    order = [*dataset.order, "write_id", "ordinal"]
    return pl.concat(parts).sort(order).with_columns(derive(dataset)).select(names)


def current(dataset: Dataset, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each key's last row in the order of arrival, without keys whose last row is a tombstone."""
    ordered = rows.sort("write_id", "ordinal")
    return ordered.unique(subset=list(dataset.key), keep="last", maintain_order=True).filter(~pl.col("is_deleted"))


def _files(dataset: Dataset, paths: Sequence[str]) -> pl.LazyFrame:
    return pl.scan_parquet(
        list(paths), schema=polars_schema(dataset.stored), hive_partitioning=False, glob=False, missing_columns="insert"
    )


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The frame in memory.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
    """
    try:
        return frame.collect()
    except (pl.exceptions.ComputeError, OSError) as error:
        raise CorruptLakeError(f"the lake cannot be read: {error}; run `medalion mirror verify`") from error
