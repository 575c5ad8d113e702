"""What an import would change: the rows that it was given against the current ones of its source.

Everything that was given is in files already. Where no other row can have a key of theirs, those files are the import;
for the rest given and current rows are read side by side, a few instruments of one partition at a time, and what
differs is written to files of its own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from medalion.core.checksum import row_hashes
from medalion.core.datasets import Dataset
from medalion.core.time import TimeRange
from medalion.ingest.staging import ImportFile, arrived, series_of, staged
from medalion.observations.selection import ReadRequest, select
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.reads.scan import scan_files, stored
from oltp.hot.tail import later_writes
from oltp.hot.writes import OpenWrite
from oltp.ledger.folding import folded
from oltp.server.engine import Connection, Postgres

_SLICE_ROWS = 500_000
"""About so many given rows are compared at once."""
_MICROSECOND = timedelta(microseconds=1)
_BOX = ("first_instrument", "last_instrument", "first_ts", "last_ts")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was committed at a moment: whatever a later look finds beside it is new.

    `hot` are the writes that the pin does not hold; `folded` tells how far the ledger has been summed up.
    """

    pin: Pin
    hot: pl.DataFrame
    folded: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """Of which instruments, times and timeframes the given rows are all that is to be left; no timeframe is any."""

    instruments: Sequence[int]
    during: TimeRange
    timeframes: Sequence[str] = ()


@dataclass(slots=True)
class Differences:
    """What is to be stored: files, and how many of the given rows are as they were, or other than they were; and how
    many tombstones are in the files."""

    files: list[ImportFile] = field(default_factory=list)
    unchanged: int = 0
    corrected: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Given rows of one source beside the current ones; of a `region`, what they lack is to go."""

    postgres: Postgres
    table: LakeTable
    source: str
    region: Region | None = None

    def look(self, connection: Connection) -> Sighting:
        """What is committed now, at least; what is drawn after it is later."""
        summed = folded(connection, self.table.dataset)
        pin = self.table.refresh()
        hot = later_writes(connection, self.table.dataset, source=self.source, batch=pin.batch)
        return Sighting(pin, hot.filter(pl.col("kind") == "hot"), summed)

    def is_overtaken(self, connection: Connection, seen: Sighting, given: Sequence[ImportFile]) -> bool:
        """Whether a write that was not there at the sighting has a key of the given rows."""
        dataset = self.table.dataset
        if folded(connection, dataset) != seen.folded:
            return True  # entries are missing, and nothing tells whose
        later = later_writes(connection, dataset, source=self.source, batch=seen.pin.batch)
        later = later.filter(~pl.col("write_id").is_in(seen.hot["write_id"].implode()))
        if self.region is not None and _in_region(self.region, later):
            return True
        met = _meetings(given, later)
        if met.is_empty():
            return False
        key = key_of(dataset)
        own = self._scan([given[place] for place in met["file"].unique().to_list()]).select(key)
        keys = self._keys_of(later.join(met, on="write_id", how="semi"), seen, key)
        return not own.join(keys, on=key, how="semi").head(1).collect().is_empty()

    def _keys_of(self, writes: pl.DataFrame, seen: Sighting, key: list[str]) -> pl.LazyFrame:
        """The keys of writes that came after the sighting, wherever they lie by now."""
        dataset = self.table.dataset
        first, last = writes.select(pl.col("first_ts").min(), pl.col("last_ts").max()).row(0)
        selection, _, _ = select(self.postgres, self.table, ReadRequest(dataset, TimeRange(first, last + _MICROSECOND)))
        paths = set(selection.files.path.tolist()).difference(seen.pin.files.path.tolist())
        parts = [scan_files(self.table.place, dataset, sorted(paths))] if paths else []
        rows = pl.concat([*parts, selection.hot.lazy()])
        return rows.filter(pl.col("write_id").is_in(writes["write_id"].implode())).select(key)

    def find(
        self,
        found: Differences,
        given: Sequence[ImportFile],
        seen: Sighting,
        opened: OpenWrite,
        *,
        is_again: bool = False,
    ) -> None:
        """Add to `found` what of the given rows differs from the current ones, as rows of the write that was opened.

        `is_again` where the given files were written for an earlier number: then none of them can be kept as it is.
        """
        met = set(range(len(given))) if is_again else self._met(given, seen)
        found.files += [file for place, file in enumerate(given) if place not in met]
        by_period: dict[str, list[ImportFile]] = {}
        for place in sorted(met):
            by_period.setdefault(given[place].file.period, []).append(given[place])
        for files in by_period.values():
            self._compare(files, seen, opened, found, is_again=is_again)
        if self.region is not None:
            self._find_lacking(self.region, found, given, seen, opened)

    def _find_lacking(
        self, region: Region, found: Differences, given: Sequence[ImportFile], seen: Sighting, opened: OpenWrite
    ) -> None:
        """Add tombstones of the current rows of the region that are not among those given."""
        dataset, newest = self.table.dataset, seen.pin.files.newest()
        key, ordinal = key_of(dataset), sum(file.file.rows for file in given)
        about = int(seen.pin.files.selected(region.instruments, region.during).rows.sum())
        count = max(1, math.ceil(about / _SLICE_ROWS))
        each = math.ceil(len(region.instruments) / count)
        for first in range(0, len(region.instruments), each):
            instruments = region.instruments[first : first + each]
            asked = ReadRequest(dataset, region.during, {self.source: instruments})
            current = stored(select(self.postgres, self.table, asked)[0])[0]
            if region.timeframes:
                current = current.filter(pl.col("timeframe").is_in(region.timeframes))
            if given:
                own = self._scan(given).filter(pl.col("instrument_id").is_in(instruments)).select(key).collect()
                current = current.join(own, on=key, how="anti")
            if current.height:
                numbers = pl.int_range(ordinal, ordinal + pl.len(), dtype=pl.Int64).cast(pl.Int32)
                gone = current.sort(key).with_columns(ordinal=numbers, is_deleted=pl.lit(True))
                found.files += staged(self.table, arrived(gone, opened), newest)
                found.deleted += gone.height
                ordinal += gone.height

    def _met(self, given: Sequence[ImportFile], seen: Sighting) -> set[int]:
        """The files in which a row may have a key that another given row, or one that is there already, has as well."""
        met = {place for place, file in enumerate(given) if not file.has_each_key_once}
        met |= set(_overlapping(self.table.dataset, given))
        held = pl.DataFrame({name: getattr(seen.pin.files, name) for name in ("period", *_BOX)}).cast(_BOXES)
        return met | set(_meetings(given, held)["file"]) | set(_meetings(given, seen.hot)["file"])

    def _compare(
        self,
        files: Sequence[ImportFile],
        seen: Sighting,
        opened: OpenWrite,
        found: Differences,
        *,
        is_again: bool,
    ) -> None:
        """Add what differs of the files of one partition."""
        newest, slices = seen.pin.files.newest(), list(_slices(self.table.dataset, files))
        has_repeats = bool(_overlapping(self.table.dataset, files)) or not all(each.has_each_key_once for each in files)
        for instruments, during in slices:
            within = None if len(slices) == 1 else (instruments, during)
            rows = self._given(files, within, has_repeats=has_repeats)
            current = self._current(instruments, during, rows)
            changed, corrected = compared(self.table.dataset, rows, current)
            found.unchanged += rows.height - changed.height
            found.corrected += corrected
            if len(slices) == 1 and changed.height == sum(file.file.rows for file in files) and not is_again:
                found.files += files
            elif changed.height:
                found.files += staged(self.table, arrived(changed, opened), newest)

    def _given(
        self, files: Sequence[ImportFile], within: tuple[Sequence[int], TimeRange] | None, *, has_repeats: bool
    ) -> pl.DataFrame:
        """The given rows of a slice, or all; of each key the last."""
        rows = self._scan(files)
        if within is not None:
            instruments, during = within
            is_meant = pl.col("instrument_id").is_between(instruments[0], instruments[-1])
            rows = rows.filter(is_meant, pl.col("ts") >= during.start, pl.col("ts") < during.end)
        if has_repeats:
            key = key_of(self.table.dataset)
            rows = rows.sort("ordinal").unique(subset=key, keep="last", maintain_order=True)
        return rows.select(self.table.dataset.stored.names).collect()

    def _scan(self, files: Sequence[ImportFile]) -> pl.LazyFrame:
        return self.table.scan(file.file.path for file in files)

    def _current(self, instruments: Sequence[int], during: TimeRange, rows: pl.DataFrame) -> pl.DataFrame:
        timeframe = None
        if self.table.dataset.has_timeframe and rows["timeframe"].n_unique() == 1:
            timeframe = rows["timeframe"][0]
        asked = ReadRequest(self.table.dataset, during, {self.source: list(instruments)}, timeframe)
        selection, _, _ = select(self.postgres, self.table, asked)
        return stored(selection)[0]


def key_of(dataset: Dataset) -> list[str]:
    """The key of a row among those of one source."""
    return [name for name in dataset.key if name != "source"]


def compared(dataset: Dataset, given: pl.DataFrame, current: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The given rows that have no current one of their key, or another; and how many of them have another.

    Both hold each key once, and are of one source. The name under which a row was written is no part of it.
    """
    if current.is_empty():
        return given, 0
    key = key_of(dataset)
    told = [column.name for column in dataset.values] + ["available_at"]
    places = current.select(key).with_row_index("place")
    place = given.select(key).join(places, on=key, how="left", maintain_order="left")["place"]
    beside = current.select(pl.col(told).gather(pl.lit(place)))
    is_other = place.is_null()
    is_held = ~is_other
    for name in told:
        is_other |= _is_other(given[name], beside[name])
    return given.filter(is_other), int((is_other & is_held).sum())


def _is_other(one: pl.Series, other: pl.Series) -> pl.Series:
    if not one.dtype.is_nested():
        return one.ne_missing(other)
    hashes = (pl.Series(row_hashes(each.alias("x").to_frame().to_arrow(), ["x"])) for each in (one, other))
    return next(hashes) != next(hashes)


_BOXES: Any = {
    "period": pl.String,
    "first_instrument": pl.Int64,
    "last_instrument": pl.Int64,
    "first_ts": pl.Datetime("us", "UTC"),
    "last_ts": pl.Datetime("us", "UTC"),
}


def _all_spans(given: Sequence[ImportFile]) -> pl.DataFrame:
    parts = [
        file.spans.with_columns(file=pl.lit(place, pl.UInt32), period=pl.lit(file.file.period))
        for place, file in enumerate(given)
    ]
    return pl.concat(parts)


def _meetings(given: Sequence[ImportFile], boxes: pl.DataFrame) -> pl.DataFrame:
    """Which file may have a row of which box, ends included: the columns of both, and the `file` by its place."""
    if not given or boxes.is_empty():
        return pl.DataFrame(schema={"file": pl.UInt32, "write_id": pl.Int64})
    spans = _all_spans(given).lazy().rename({"first_ts": "from_ts", "last_ts": "to_ts"})
    others = boxes.lazy().rename({"period": "of"} if "period" in boxes.columns else {})
    predicates = [
        pl.col("instrument_id") >= pl.col("first_instrument"),
        pl.col("instrument_id") <= pl.col("last_instrument"),
        pl.col("from_ts") <= pl.col("last_ts"),
        pl.col("to_ts") >= pl.col("first_ts"),
    ]
    if "period" in boxes.columns:
        predicates.append(pl.col("period") == pl.col("of"))
    return spans.join_where(others, *predicates).collect()


def _in_region(region: Region, writes: pl.DataFrame) -> bool:
    """Whether one of the writes may have a row of it."""
    instruments = pl.DataFrame({"instrument_id": pl.Series(region.instruments, dtype=pl.Int64)})
    beside = writes.filter(pl.col("last_ts") >= region.during.start, pl.col("first_ts") < region.during.end)
    met = instruments.lazy().join_where(
        beside.lazy(),
        pl.col("instrument_id") >= pl.col("first_instrument"),
        pl.col("instrument_id") <= pl.col("last_instrument"),
    )
    return not met.head(1).collect().is_empty()


def _overlapping(dataset: Dataset, given: Sequence[ImportFile]) -> list[int]:
    """The files that have rows of a series within the time of another's."""
    if len(given) < 2:
        return []
    series = ["period", *series_of(dataset)]
    spans = _all_spans(given).sort(*series, "first_ts")
    before = pl.col("last_ts").cum_max().shift().over(series)
    after = pl.col("first_ts").shift(-1).over(series)
    meets = (pl.col("first_ts") <= before) | (pl.col("last_ts") >= after)
    return spans.filter(meets.fill_null(False))["file"].unique().to_list()


def _slices(dataset: Dataset, files: Sequence[ImportFile]) -> Iterator[tuple[list[int], TimeRange]]:
    """Instruments and times that together hold all rows of the files, so many at a time as are compared at once."""
    spans = (
        _all_spans(files)
        .group_by("instrument_id")
        .agg(pl.col("first_ts").min(), pl.col("last_ts").max(), pl.col("rows").sum())
        .sort("instrument_id")
    )
    held: list[tuple[int, datetime, datetime, int]] = []
    for row in spans.iter_rows():
        if held and sum(each[3] for each in held) + row[3] > _SLICE_ROWS:
            yield from _cut(held)
            held = []
        held.append(row)
    yield from _cut(held)


def _cut(held: Sequence[tuple[int, datetime, datetime, int]]) -> Iterator[tuple[list[int], TimeRange]]:
    """One slice, or several in time where one instrument alone has too many rows for one."""
    instruments = [each[0] for each in held]
    first, end = min(each[1] for each in held), max(each[2] for each in held) + _MICROSECOND
    count = max(1, math.ceil(sum(each[3] for each in held) / _SLICE_ROWS / 2)) if len(held) == 1 else 1
    step = (end - first) / count
    for start, until in pairwise([*(first + step * place for place in range(count)), end]):
        if start < until:
            yield instruments, TimeRange(start, until)
