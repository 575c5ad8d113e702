"""What is known of the lake's files without opening them, held as arrays so that planning a read takes microseconds."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from medalion.core.time import TimeRange
from olap.files.layout import PERIOD, Boxes, Column, tangled

SUM_BITS = (1 << 62) - 1
_SUMMED = ("path", "period", "rows", "bytes", "first_instrument", "last_instrument", "first_ts", "last_ts")


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """A row a file; the spans are exact and include their ends, times are microseconds since 1970 in UTC.

    `added_at` is the time of the commit that added the file, `is_clean` and `is_compact` what its name says.
    """

    path: Column
    period: Column
    rows: Column
    bytes: Column
    first_instrument: Column
    last_instrument: Column
    first_ts: Column
    last_ts: Column
    added_at: Column
    is_clean: Column
    is_compact: Column

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """The files of a frame with these columns."""
        return cls(
            **{
                field.name: (column.to_physical() if column.dtype == pl.Datetime else column).to_numpy()
                for field in fields(cls)
                for column in (frame[field.name],)
            }
        )

    def __len__(self) -> int:
        return len(self.path)

    def where(self, keep: Column) -> Self:
        """The files that are kept: by truth, or by place and in that order."""
        return type(self)(*(getattr(self, field.name)[keep] for field in fields(self)))

    def selected(self, instruments: Sequence[int] | None, during: TimeRange, timeframe: str | None = None) -> Self:
        """The files that may hold rows of the range; statistics are exact, so no row is missed."""
        keep = self.boxes().meeting(instruments, during)
        if timeframe is not None:
            is_long = np.char.endswith(self.period.astype(str), "s")
            keep &= is_long != timeframe.endswith(("Min", "Hour"))
        return self.where(keep)

    def by_period(self) -> Iterator[tuple[str, Self]]:
        """The files of each partition, in order of partitions."""
        periods, place = np.unique(self.period.astype(str), return_inverse=True)
        for number, period in enumerate(periods.tolist()):
            yield period, self.where(place == number)

    def boxes(self) -> Boxes:
        """What each file spans."""
        return Boxes(self.period, self.first_instrument, self.last_instrument, self.first_ts, self.last_ts)

    def newest(self) -> dict[str, int]:
        """The latest `ts` of each partition."""
        latest: dict[str, int] = {}
        for period, last_ts in zip(self.period.tolist(), self.last_ts.tolist(), strict=True):
            latest[period] = max(last_ts, latest.get(period, last_ts))
        return latest

    def needing_deduplication(self, hot: Boxes) -> NDArray[np.bool_]:
        """For each file whether a key of it may stand twice, in it or beside it; the rest can be read as they are.

        `hot` has the boxes of the unmirrored rows.
        """
        # The proof that a file can be read as it is has two halves. Within it: whoever wrote it saw every key once and
        # no tombstone, and put that into its name. Beside it: a key has an instrument, a time and a partition, so a
        # file or a write whose box lies apart from its own in one of them cannot share a key with it. It is enough to
        # look at the files of the selection, for a second row of a key that is asked for has its instrument and
        # its time, and so its file was selected as well. The unmirrored writes count like files: leaving them out would
        # give a correction that was just written beside the row that it corrects. All this stands on the spans being
        # exact, ends included; truncated statistics, as other writers of Parquet give, would prove nothing. Boxes that
        # overlap without a common key are deduplicated in vain, which costs time and never an answer.
        return ~self.is_clean | tangled(self.boxes().and_those(hot))[: len(self)]

    def may_hold(self, instruments: Collection[int]) -> NDArray[np.bool_]:
        """For each file whether its span has one of the instruments in it."""
        known = np.array(sorted(instruments), np.int64)
        first, last = (
            np.searchsorted(known, self.first_instrument),
            np.searchsorted(known, self.last_instrument, "right"),
        )
        return first < last

    @property
    def sum(self) -> int:
        """The sum of a hash of each file with all that is known of it but its age, in 62 bits: that of a set of files,
        whatever their order, and that of several sets is the sum of theirs.
        """
        told = zip(*(getattr(self, name).tolist() for name in _SUMMED), strict=True)
        total: int = sum(int(xxhash.xxh3_64_intdigest(repr(each).encode())) for each in told)
        return total & SUM_BITS

    def named(self, paths: set[str]) -> Self:
        """The files of some names."""
        return self.where(self._are_in(paths))

    def _are_in(self, paths: set[str]) -> NDArray[np.bool_]:
        return np.array([path in paths for path in self.path.tolist()], np.bool_)

    def changed(self, gone: set[str], added: Self) -> Self:
        """These files without some, by path, and with others."""
        left = self if not gone else self.where(~self._are_in(gone))
        columns = ((getattr(left, field.name), getattr(added, field.name)) for field in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in columns))


NO_FILES = Files.of(
    pl.DataFrame(
        schema={
            "path": pl.String,
            PERIOD: pl.String,
            "rows": pl.Int64,
            "bytes": pl.Int64,
            "first_instrument": pl.Int64,
            "last_instrument": pl.Int64,
            "first_ts": pl.Datetime("us", "UTC"),
            "last_ts": pl.Datetime("us", "UTC"),
            "added_at": pl.Datetime("us", "UTC"),
            "is_clean": pl.Boolean,
            "is_compact": pl.Boolean,
        }
    )
)
