"""Row groups of files, picked by their statistics and decoded as they lie: what a narrow read needs of a file.

A file never changes once it is written, so its footer is read once and kept. A column that has one value in a group, as
its statistics say, need not be decoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medalion.core.errors import CorruptLakeError
from medalion.core.time import TimeRange
from olap.files.layout import Boxes
from olap.files.parquet import footer_in, is_footer_unchanged
from olap.places.open import Place

_KEPT_FOOTERS = 256
_TAIL_BYTES = 1 << 16
"""What is read of the end of a file: most footers are shorter."""
_PICKED_BY = ("instrument_id", "ts", "recorded_at", "symbol", "source", "timeframe")


@dataclass(frozen=True)
class Group:
    """A row group of a file, and what its statistics say of it; `leaves` has the places of the file's columns."""

    file: str
    number: int
    footer: pq.FileMetaData
    leaves: Mapping[str, int]

    @cached_property
    def _found(self) -> pq.RowGroupMetaData:
        return self.footer.row_group(self.number)

    @cached_property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._found.num_rows)

    @cached_property
    def span(self) -> dict[str, tuple[Any, Any]]:
        """Least and greatest value of columns without nulls; times are microseconds since 1970 in UTC."""
        return {name: found for name in _PICKED_BY if (found := self.of(name))}

    def of(self, name: str) -> tuple[Any, Any] | tuple[()]:
        """The same of one column; nothing where that is not known."""
        found = self._statistics_of(name)
        if found is None or not found.has_min_max or found.null_count:
            return ()
        return _plain(found.min_raw), _plain(found.max_raw)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """The columns that have one value in all rows; None where that is null."""
        statistics = ((name, self._statistics_of(name)) for name in self.names)
        empty = (name for name, found in statistics if found and found.null_count == self.rows)
        return dict.fromkeys(empty) | {name: low for name, (low, high) in self.span.items() if low == high}

    def _statistics_of(self, name: str) -> pq.Statistics | None:
        """Those of a column with one leaf."""
        leaf = self.leaves.get(name)
        return None if leaf is None else self._found.column(leaf).statistics

    @property
    def names(self) -> set[str]:
        """The columns that the file has."""
        return {path.split(".")[0] for path in self.leaves}


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def groups_of(place: Place, file: str, instruments: Sequence[int] | None, during: TimeRange) -> list[Group]:
    """The row groups of a file that may hold rows of the range, in order.

    Raises:
        CorruptLakeError, ArrowException, OSError: the file is missing or damaged.
    """
    footer = footer_of(place, file, place.stamp(file))
    return [footer.groups[number] for number in np.flatnonzero(footer.boxes.meeting(instruments, during))]


class Footer(NamedTuple):
    """What the end of a file says of it: its row groups, and what each of them spans."""

    metadata: pq.FileMetaData
    groups: list[Group]
    boxes: Boxes


@lru_cache(_KEPT_FOOTERS)
def footer_of(place: Place, file: str, stamp: tuple[int, ...]) -> Footer:
    """The footer of a file, proven by the file's name; `stamp` is another once the file has changed.

    Raises:
        CorruptLakeError, ArrowException, OSError: the file is missing or damaged.
    """
    footer = pq.read_metadata(pa.BufferReader(_checked(place, file)))
    leaves = {footer.schema.column(number).path: number for number in range(footer.num_columns)}
    groups = [Group(file, number, footer, leaves) for number in range(footer.num_row_groups)]
    spans = np.array([(*group.of("instrument_id"), *group.of("ts")) for group in groups], np.int64).reshape(-1, 4)
    return Footer(footer, groups, Boxes(np.zeros(len(groups), np.object_), *spans.T))


def _checked(place: Place, file: str) -> bytes:
    """The bytes of the footer, which are those that were written."""
    with place.opened(file) as source:
        size = source.size()
        source.seek(max(size - _TAIL_BYTES, 0))
        tail = source.read()
        longer = 8 + int.from_bytes(tail[-8:-4], "little")
        if len(tail) < longer <= size:
            source.seek(size - longer)
            tail = source.read()
    footer = bytes(footer_in(tail))
    if not is_footer_unchanged(file, footer):
        raise CorruptLakeError(
            f"{place}/{file} is damaged: its footer has changed since it was written; run `medalion mirror verify`"
        )
    return footer
