"""Rows of an import → files of the lake that no commit names yet, with what is known of their rows."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypedDict

import numpy as np
import polars as pl
import pyarrow as pa

from medalion.core.checksum import row_hashes
from medalion.core.datasets import Dataset
from medalion.core.errors import InputError
from medalion.core.frames import by_runs
from medalion.core.time import in_utc
from medalion.core.workers import in_turn
from medalion.ingest.sources import PIECE_ROWS
from olap.delta.tables import LakeTable
from olap.files.layout import CLEAN
from olap.files.parquet import StagedFile, in_order, parts, write_file
from oltp.hot.tables import HOT_ARRIVAL
from oltp.hot.writes import OpenWrite

_CHUNK_ROWS = 4 * PIECE_ROWS  # with fewer, a series is in more files, each of which a read opens until compaction
_MOST_ROWS = 1 << 31  # as many as an ordinal of 32 bits tells apart
_STAGERS = 2


@dataclass(frozen=True, slots=True)
class ImportFile:
    """A staged file; `spans` has a row a series: its instrument (and timeframe), first and last `ts`, and rows."""

    file: StagedFile
    checksum: int
    spans: pl.DataFrame

    @property
    def has_each_key_once(self) -> bool:
        """Whether no key occurs twice in it."""
        return CLEAN in self.file.path


def stage_rows(
    table: LakeTable, rows: Iterator[pl.DataFrame], opened: OpenWrite, newest: dict[str, int], files: list[ImportFile]
) -> Generator[None]:
    """Write rows to files, a few chunks at a time; what exists is added to `files`, also after an error.

    Each turn is a chunk. `newest` is the latest `ts` of each partition of the lake.

    Raises:
        InputError: there are more rows than one import can have.
    """

    def works() -> Iterator[Callable[[], None]]:
        first = 0
        for chunk in _chunks(rows):
            if first + chunk.height > _MOST_ROWS:
                raise InputError(
                    f"the import has more than {_MOST_ROWS:,} rows; import it in parts", expected=_MOST_ROWS
                )
            yield partial(work, chunk, first)
            first += chunk.height

    def work(chunk: pl.DataFrame, first: int) -> None:
        ordinal = pl.int_range(first, first + pl.len(), dtype=pl.Int64).cast(pl.Int32)
        # Sorted before what they all share is added: there is less to move.
        ordered = in_order(table.dataset, chunk.with_columns(ordinal=ordinal, is_deleted=pl.lit(False)))
        files.extend(staged(table, arrived(ordered, opened), newest))

    with closing(in_turn(works(), workers=_STAGERS)) as done:
        yield from done


def _chunks(rows: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows in larger parts: each becomes a file of every partition that it meets."""
    held: list[pl.DataFrame] = []
    for part in rows:
        held += [part] if part.height else []
        if sum(each.height for each in held) + PIECE_ROWS > _CHUNK_ROWS:
            yield pl.concat(held, rechunk=False)
            held = []
    if held:
        yield pl.concat(held, rechunk=False)


def arrived(rows: pl.DataFrame, opened: OpenWrite) -> pl.DataFrame:
    """The rows as those of a write."""
    return rows.with_columns(
        write_id=pl.lit(opened.write_id, pl.Int64),
        recorded_at=pl.lit(opened.recorded_at).cast(pl.Datetime("us", "UTC")),
    )


def staged(table: LakeTable, rows: pl.DataFrame, newest: dict[str, int]) -> Iterator[ImportFile]:
    """Write stored rows to files, one after the other."""
    for period, part in parts(table.dataset, rows, newest):
        # Before the file, since whoever adds up what was written must not have to ask for more.
        checksum, spans = _checksum(table.dataset, part), _spans(table.dataset, part)
        yield ImportFile(write_file(table.place, table.dataset, part, period), checksum, spans)


class TimeSpan(TypedDict):
    """The first and the last `ts`; None where there is no row."""

    first_ts: datetime | None
    last_ts: datetime | None


def span_of(files: Sequence[ImportFile]) -> TimeSpan:
    """The time that the rows of all the files span."""
    if not files:
        return TimeSpan(first_ts=None, last_ts=None)
    spans = pl.concat([file.spans for file in files])
    first, last = spans.select(pl.col("first_ts").min(), pl.col("last_ts").max()).row(0)
    return TimeSpan(first_ts=in_utc(first), last_ts=in_utc(last))


def series_of(dataset: Dataset) -> list[str]:
    """By what the rows of one source fall into series."""
    return ["instrument_id", "timeframe"] if dataset.has_timeframe else ["instrument_id"]


def _spans(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    ts = pl.col("ts")
    return rows.group_by(series_of(dataset)).agg(first_ts=ts.min(), last_ts=ts.max(), rows=pl.len().cast(pl.Int64))


def _checksum(dataset: Dataset, rows: pl.DataFrame) -> int:
    names = [column.name for column in (*dataset.columns, *HOT_ARRIVAL)]
    columns: dict[str, Any] = {
        each.name: by_runs(each) if each.dtype == pl.String else each.to_arrow() for each in rows.select(names)
    }
    return int(row_hashes(pa.table(columns), names).sum(dtype=np.uint64))
