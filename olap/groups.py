"""Row groups of files, picked by their statistics and decoded as they lie: what a narrow read needs of a file.

A file never changes once it is written, so its footer is read once and kept. A column that has one value in a group, as
its statistics say, is made instead of decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from medalion.errors import CorruptLakeError
from medalion.types import TimeRange
from olap.layout import Boxes
from olap.place import Place

_KEPT_FOOTERS = 256
_PICKED_BY = ("instrument_id", "ts", "recorded_at", "symbol", "source", "timeframe")


@dataclass(frozen=True)
class Group:
    """A row group of a file, and what its statistics say of it."""

    file: str
    number: int
    footer: pq.FileMetaData

    @cached_property
    def rows(self) -> int:
        return int(self.footer.row_group(self.number).num_rows)

    @cached_property
    def span(self) -> dict[str, tuple[Any, Any]]:
        """Least and greatest value of columns without nulls; times are microseconds since 1970 in UTC."""
        return {
            name: (_plain(found.min_raw), _plain(found.max_raw))
            for name in _PICKED_BY
            if (found := self._statistics.get(name)) and found.has_min_max and found.null_count == 0
        }

    @cached_property
    def constants(self) -> dict[str, Any]:
        """The columns that have one value in all rows; None where that is null."""
        empty = (name for name, found in self._statistics.items() if found and found.null_count == self.rows)
        return dict.fromkeys(empty) | {name: low for name, (low, high) in self.span.items() if low == high}

    @cached_property
    def _statistics(self) -> dict[str, pq.Statistics | None]:
        group = self.footer.row_group(self.number)
        columns = map(group.column, range(group.num_columns))
        return {column.path_in_schema: column.statistics for column in columns}

    def has(self, name: str) -> bool:
        """Whether the file has the column, or was written before there was one."""
        return name in self._names

    @cached_property
    def _names(self) -> set[str]:
        return {path.partition(".")[0] for path in self._statistics}  # lists have a path of several parts

    def decoded(
        self, place: Place, names: Sequence[str], schema: pl.Schema, *, only: int | None = None
    ) -> pl.DataFrame:
        """Its rows with these columns, as stored: all, or `only` those of one instrument.

        Raises:
            CorruptLakeError: a column is of another type than it should be.
            ArrowException, OSError: the file is missing or damaged.
        """
        cut_to = None if "instrument_id" in self.constants else only
        needed = names if cut_to is None else dict.fromkeys([*names, "instrument_id"])
        read = [name for name in needed if self.has(name) and name not in self.constants]
        rows, columns = self.rows, {}
        if read:
            with place.opened(self.file) as file, pq.ParquetFile(file, metadata=self.footer) as parquet:
                table = parquet.read_row_group(self.number, columns=read, use_threads=False)
            if cut_to is not None:
                first, end = np.searchsorted(table.column("instrument_id").to_numpy(), (cut_to, cut_to + 1))
                table, rows = table.slice(first, end - first), end - first
            columns = {column.name: column for column in pl.DataFrame(table)}
        frame = pl.DataFrame(
            [columns[name] if name in columns else self._made(name, schema[name], rows) for name in names]
        )
        if dict(frame.schema) != {name: schema[name] for name in names}:
            raise CorruptLakeError(f"{place}/{self.file} has columns of other types than the store writes")
        return frame

    def _made(self, name: str, kind: pl.DataType, rows: int) -> pl.Series:
        value = pl.Series(name, [self.constants.get(name)], dtype=None if isinstance(kind, pl.Datetime) else kind)
        return value.cast(kind).new_from_index(0, rows)


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def groups_of(place: Place, file: str, instruments: Sequence[int] | None, during: TimeRange) -> list[Group]:
    """The row groups of a file that may hold rows of the range, in order.

    Raises:
        ArrowException, OSError: the file is missing or damaged.
    """
    groups, boxes = _footer(place, file)
    return [groups[number] for number in np.flatnonzero(boxes.meeting(instruments, during))]


@lru_cache(_KEPT_FOOTERS)
def _footer(place: Place, file: str) -> tuple[list[Group], Boxes]:
    with place.opened(file) as source:
        footer = pq.read_metadata(source)
    groups = [Group(file, number, footer) for number in range(footer.num_row_groups)]
    spans = np.array([(*group.span["instrument_id"], *group.span["ts"]) for group in groups], np.int64).reshape(-1, 4)
    return groups, Boxes(np.zeros(len(groups), np.object_), *spans.T)
