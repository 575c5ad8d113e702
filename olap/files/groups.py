"""Row groups of files, picked by their statistics and decoded as they lie: what a narrow read needs of a file.

A file never changes once it is written, so its footer is read once and kept. A column that has one value in a group, as
its statistics say, need not be decoded.
"""

from collections.abc import Sequence
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
    """A row group of a file, and what its statistics say of it."""

    file: str
    number: int
    footer: pq.FileMetaData

    @cached_property
    def rows(self) -> int:
        """How many rows it has."""
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

    @cached_property
    def names(self) -> set[str]:
        """The columns that the file has."""
        return {path.split(".")[0] for path in self._statistics}


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
    groups = [Group(file, number, footer) for number in range(footer.num_row_groups)]
    spans = np.array([(*group.span["instrument_id"], *group.span["ts"]) for group in groups], np.int64).reshape(-1, 4)
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
