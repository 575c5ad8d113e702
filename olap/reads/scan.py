"""Reads over pinned files and unmirrored rows: each key's last row, once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, reduce
from operator import and_, or_
from typing import TypeAlias

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from medalion.core.datasets import Dataset
from medalion.core.frames import derive, polars_schema
from medalion.core.time import TimeRange
from olap.files.blocks import NONE_KEPT, Blocks
from olap.files.index import Files
from olap.files.layout import boxes_of, microseconds
from olap.files.proof import Touched, prove
from olap.places.base import reading
from olap.places.open import Place

_VALUES_AT_ONCE = 32_000_000

Series: TypeAlias = Mapping[str, Sequence[int] | None]
Preference: TypeAlias = Mapping[int, Sequence[str]]
"""Instruments that several sources answer for, with these, most preferred first."""
RANK = "__rank"


def instruments_of(series: Series | None) -> list[int] | None:
    """The instruments of all its sources; None is every one."""
    if series is None or None in series.values():
        return None
    return list(dict.fromkeys(instrument for group in series.values() for instrument in group or ()))


@dataclass(frozen=True)
class Selection:
    """What to read: files of one pin, the rows beside them, and which of their rows are meant.

    `series` maps a source to the instruments it answers for, None being all; without it every row of every source is
    meant. Of the instruments in `preference` the most preferred source that has a row at a time answers for it.
    `blocks` keeps what a narrow read decodes.
    """

    dataset: Dataset
    place: Place
    files: Files
    hot: pl.DataFrame
    during: TimeRange
    series: Series | None = None
    timeframe: str | None = None
    as_of: datetime | None = None
    preference: Preference = field(default_factory=dict)
    blocks: Blocks = NONE_KEPT

    @cached_property
    def paths(self) -> tuple[list[str], list[str]]:
        """Files that need no deduplication and those that do, in order of their first time, as named in the place."""
        files = self.files.where(np.argsort(self.files.first_ts, kind="stable"))
        twice = files.needing_deduplication(boxes_of(self.dataset, self.hot)) | files.may_hold(self.preference)
        sorted_out: tuple[list[str], list[str]] = ([], [])
        for path, is_twice in zip(files.path, twice.tolist(), strict=True):
            sorted_out[is_twice].append(path)
        return sorted_out

    @property
    def instruments(self) -> list[int] | None:
        """The instruments that are meant; None is every one."""
        return instruments_of(self.series)

    @property
    def is_in_order(self) -> bool:
        """Whether the rows lie in the files in the order of a read: one series, in files that follow each other."""
        once, twice = self.paths
        is_one_timeframe = self.timeframe is not None or not self.dataset.has_timeframe
        is_one_series = self.instruments is not None and len(self.instruments) == 1
        return bool(once) and not twice and not self.hot.height and is_one_series and is_one_timeframe

    def wanted(self) -> pl.Expr:
        """Which stored rows are meant, before deduplication."""
        keep = [] if self.series is None else [_in_series(self.series)]
        if self.during.start is not None:
            keep.append(pl.col("ts") >= _at(self.during.start))
        if self.during.end is not None:
            keep.append(pl.col("ts") < _at(self.during.end))
        if self.timeframe is not None:
            keep.append(pl.col("timeframe") == self.timeframe)
        if self.as_of is not None:
            keep.append(pl.col("recorded_at") <= _at(self.as_of))
        return reduce(and_, keep) if keep else pl.lit(True)


def _at(moment: datetime) -> pl.Expr:
    """The time as a literal; made of a datetime with a zone it would take ten times as long."""
    return pl.lit(microseconds(moment)).cast(pl.Datetime("us", "UTC"))


def _in_series(series: Series) -> pl.Expr:
    wanted = [(pl.col("source") == source) & _one_of(instruments) for source, instruments in series.items()]
    return reduce(or_, wanted, pl.lit(False)) if len(wanted) != 1 else wanted[0]


def _one_of(instruments: Sequence[int] | None) -> pl.Expr:
    if instruments is None:
        return pl.lit(True)
    if len(instruments) == 1:
        return pl.col("instrument_id") == instruments[0]
    return pl.col("instrument_id").is_in(list(instruments))


def scan(selection: Selection, *, columns: Sequence[str]) -> pl.LazyFrame:
    """The current rows, lazily, in order of symbol, (timeframe,) ts and arrival.

    Evaluating it raises CorruptLakeError where a file is missing or damaged, and StoreUnavailableError where an object
    store does not answer.
    """
    dataset = selection.dataset
    kinds = polars_schema(dataset.stored)

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for rows in _parts(selection, with_columns or list(kinds), predicate):
            yield rows if left is None else rows.head(left)
            left = None if left is None else max(left - rows.height, 0)
            if left == 0:
                return

    rows = register_io_source(source, schema=kinds, is_pure=True)
    return rows.sort(*dataset.order, "write_id", "ordinal").with_columns(derive(dataset)).select(columns)


def stored(selection: Selection) -> tuple[pl.DataFrame, bool]:
    """The current rows as stored, and whether those of each instrument lie in order of time and arrival.

    Files that share no key lie apart in instruments or in time, and are read in order of time.
    """
    _, twice = selection.paths
    is_one_timeframe = selection.timeframe is not None or not selection.dataset.has_timeframe
    rows = pl.concat(_parts(selection, selection.dataset.stored.names, None))
    return rows, not twice and not selection.hot.height and is_one_timeframe


def streamed(selection: Selection, names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The same a part at a time, of some columns and in no order, so that they need not be in memory at once.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    return _parts(selection, list(names), None)


def _parts(selection: Selection, names: list[str], predicate: pl.Expr | None) -> Iterator[pl.DataFrame]:
    """The current rows as stored that a predicate keeps, in no order and a part at a time, at least one."""
    once, twice = selection.paths
    kept = pl.lit(True) if predicate is None else predicate
    needed = [*names, *kept.meta.root_names()]
    for few in _together(selection, once, len(needed)):
        with reading():
            prove(selection.place, few, touched(selection, needed))
            found = scan_files(selection.place, selection.dataset, few).filter(selection.wanted())
            rows = found.filter(kept).select(names).collect()
        yield rows
    if twice or selection.hot.height or not once:
        yield collect(resolved(selection, needed).filter(kept).select(names))


def _together(selection: Selection, paths: list[str], columns: int) -> Iterator[list[str]]:
    """The files, so many at a time as may have about 32 million values that are meant."""
    files, asked = selection.files, selection.instruments
    spans = files.last_instrument - files.first_instrument + 1
    meant = files.rows if asked is None else files.rows * np.minimum(len(asked) / spans, 1.0)
    rows = dict(zip(files.path.tolist(), meant.tolist(), strict=True))
    few: list[str] = []
    held = 0.0
    for path in paths:
        if few and (held + rows[path]) * columns > _VALUES_AT_ONCE:
            yield few
            few, held = [], 0.0
        few.append(path)
        held += rows[path]
    if few:
        yield few


def touched(selection: Selection, names: Iterable[str]) -> Touched:
    """What a read of these columns touches of the files."""
    keys = frozenset(selection.wanted().meta.root_names())
    asked = selection.instruments
    return Touched(keys.union(names), keys, None if asked is None else tuple(asked), during=selection.during)


def resolved(selection: Selection, names: Sequence[str]) -> pl.LazyFrame:
    """The current rows of the files that need deduplication and of those not mirrored yet; of these columns proven.

    Raises:
        CorruptLakeError: a file is missing or damaged.
    """
    _, twice = selection.paths
    files = [scan_files(selection.place, selection.dataset, twice)] if twice else []
    with reading():
        prove(selection.place, twice, touched(selection, (*names, *resolving(selection.dataset))))
    rows = pl.concat([*files, selection.hot.lazy()])
    shared = [name for name in selection.dataset.key if name != "source"]
    return preferred(current(selection.dataset, rows.filter(selection.wanted())), selection.preference, shared)


def resolving(dataset: Dataset) -> tuple[str, ...]:
    """The columns by which each key's last row is found."""
    return (*dataset.key, "write_id", "ordinal", "is_deleted")


def current(dataset: Dataset, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each key's last row in the order of arrival, without keys whose last row is a tombstone."""
    ordered = rows.sort("write_id", "ordinal")
    return ordered.unique(subset=list(dataset.key), keep="last", maintain_order=True).filter(~pl.col("is_deleted"))


def preferred(rows: pl.LazyFrame, preference: Preference, shared: Sequence[str]) -> pl.LazyFrame:
    """Of rows that several sources have under one key, but for their names, those of the most preferred."""
    if not preference:
        return rows
    # Rows of other instruments have no rank, and lie apart in the key that the sources share.
    ranked = rows.join(ranks(preference).lazy(), on=["instrument_id", "source"], how="left")
    return ranked.sort(RANK).unique(subset=shared, keep="first", maintain_order=True).drop(RANK)


def ranks(preference: Preference) -> pl.DataFrame:
    """How far behind the most preferred source each one is: `instrument_id`, `source`, `__rank`."""
    rows = [
        (instrument, source, place)
        for instrument, sources in preference.items()
        for place, source in enumerate(sources)
    ]
    return pl.DataFrame(rows, {"instrument_id": pl.Int64, "source": pl.String, RANK: pl.Int64}, orient="row")


def scan_files(place: Place, dataset: Dataset, names: Sequence[str]) -> pl.LazyFrame:
    """The rows of these files as stored."""
    return pl.scan_parquet(
        [place.at(name) for name in names],
        schema=polars_schema(dataset.stored),
        hive_partitioning=False,
        glob=False,
        missing_columns="insert",
        storage_options=place.polars_options,
        credential_provider=None,
    )


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The frame in memory.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    with reading():
        return frame.collect()
