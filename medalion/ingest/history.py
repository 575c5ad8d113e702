"""Bulk history: years of rows straight into the lake, as one write, all or nothing.

An import is a batch. Its files are written first, under the open-write mark; then, leading the dataset, the batch is
claimed with the list of its files in one transaction, committed to the lake and noted. Whoever leads next finishes a
claimed import from that list.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from medalion.core.checksum import row_hashes, signed
from medalion.core.datasets import Dataset
from medalion.core.enums import BatchStatus, WriteKind
from medalion.core.errors import InputError
from medalion.core.frames import by_runs
from medalion.core.time import in_utc
from medalion.core.workers import in_turn
from medalion.ingest.pieces import ImportPlan, InstrumentLookup, fitted
from medalion.ingest.rejects import RejectsFile
from medalion.ingest.sources import PIECE_ROWS, Source
from medalion.mirror.binding import Binding
from medalion.mirror.copy import Copier
from olap.delta.lake import Lake
from olap.delta.tables import LakeTable
from olap.files.parquet import StagedFile, in_order
from oltp.hot.instruments import instrument_ids, known_instruments
from oltp.hot.sources import enter_sources
from oltp.hot.tables import HOT_ARRIVAL
from oltp.hot.writes import OpenWrite, WriteResult, begin, earlier_write, enter
from oltp.ledger import batches
from oltp.ledger.batches import Batch
from oltp.server.engine import Connection, Postgres, one

_CHUNK_ROWS = 4 * PIECE_ROWS  # with fewer, a series is in more files, each of which a read opens until compaction
_MOST_ROWS = 1 << 31  # as many as an ordinal of 32 bits tells apart
_STAGERS = 2


@dataclass(frozen=True, slots=True)
class ImportResult(WriteResult):
    """One durable import; `is_duplicate` where the same content had been imported and nothing was written now.

    `rejected` rows were bad and are not among `rows`; they are in the file `rejects`, None if there were none.
    """

    rejected: int = 0
    rejects: Path | None = None


@dataclass
class StagedImport:
    """What the files of an import hold, as it grows."""

    files: list[StagedFile] = field(default_factory=list)
    rows: int = 0
    content: int = 0
    checksum: int = 0
    first_ts: datetime | None = None
    last_ts: datetime | None = None
    instruments: set[int] = field(default_factory=set)

    def add(self, part: "StagedImport") -> None:
        """Count another part in."""
        self.files += part.files
        self.rows += part.rows
        self.content += part.content
        self.checksum += part.checksum
        self.first_ts = min((ts for ts in (self.first_ts, part.first_ts) if ts), default=None)
        self.last_ts = max((ts for ts in (self.last_ts, part.last_ts) if ts), default=None)
        self.instruments |= part.instruments

    def entry(self, dataset: Dataset, opened: OpenWrite, *, source: str, generation: int) -> WriteResult:
        """What the ledger will say of the import; its identity is what was imported, and the generation."""
        return WriteResult(
            write_id=opened.write_id,
            dataset=dataset.name,
            source=source,
            rows=self.rows,
            recorded_at=opened.recorded_at,
            first_ts=self.first_ts,
            last_ts=self.last_ts,
            checksum=signed(self.checksum),
            idempotency_key=f"import:{signed(self.content)}:{self.rows}:{generation}",
        )


class History:
    """Imports into the lake of one store."""

    def __init__(self, postgres: Postgres, lake: Lake, copier: Copier, binding: Binding) -> None:
        self._postgres = postgres
        self._lake = lake
        self._copier = copier
        self._binding = binding

    def import_rows(self, dataset: Dataset, source: Source, reading: ImportPlan, *, generation: int) -> ImportResult:
        """Bring the rows into the lake; see `Observations.import_history`."""
        rejects = RejectsFile(reading.rejects, dataset) if reading.rejects is not None else None
        try:
            result = self._imported(dataset, source, reading, generation, rejects)
        except BaseException:
            if rejects is not None:
                rejects.discard()
            raise
        named = {each.name: getattr(result, each.name) for each in fields(WriteResult)}
        if rejects is None:
            return ImportResult(**named)
        return ImportResult(**named, rejected=rejects.count, rejects=rejects.publish())

    def _imported(
        self, dataset: Dataset, source: Source, reading: ImportPlan, generation: int, rejects: RejectsFile | None
    ) -> WriteResult:
        table, staged, may_be_claimed = self._lake.table(dataset), StagedImport(), False
        with self._postgres.connection() as writer, self._postgres.connection() as leader, ExitStack() as lead:
            try:
                self._binding.check(writer, dataset)
                with writer.transaction():
                    batches.stage_import(writer, dataset)
                    opened = begin(writer, dataset)
                    known = _known(writer, dataset, is_strict=rejects is None)
                    with closing(fitted(dataset, source, reading, known, rejects)) as rows:
                        _stage(table, opened, rows, staged, source, reading)
                    entry = staged.entry(dataset, opened, source=reading.source, generation=generation)
                    if earlier_write(writer, dataset, entry.idempotency_key or ""):
                        raise _TakenError
                    lead.enter_context(batches.leading(leader, dataset))
                    number = self._copier.finish(leader, dataset) + 1
                    instruments = pl.Series(sorted(staged.instruments), dtype=pl.Int64)
                    if not enter(writer, entry, instruments, kind=WriteKind.IMPORT, batch=number):
                        raise _TakenError
                    enter_sources(writer, dataset, instruments, reading.source, write_id=opened.write_id)
                    batches.enter_batch(writer, dataset, _batch(number, entry, staged.files))
                    may_be_claimed = True
            except _TakenError:
                table.discard(staged.files)
                # Who claimed it may have died since; what is called durable is in the lake when this returns.
                with batches.leading(leader, dataset):
                    self._copier.finish(leader, dataset)
                return one(earlier_write(leader, dataset, entry.idempotency_key or ""))
            except BaseException:
                if not may_be_claimed:  # else an answer may have been lost on its way, and a vacuum will know
                    table.discard(staged.files)
                raise
            self._copier.finish(leader, dataset)
        return entry


class _TakenError(Exception):
    """The same content was imported before, or by another process meanwhile."""


def _known(connection: Connection, dataset: Dataset, *, is_strict: bool) -> InstrumentLookup:
    def look_up(symbols: Sequence[str]) -> dict[str, int]:
        if is_strict:
            return instrument_ids(connection, dataset, symbols)
        return known_instruments(connection, dataset, symbols)

    return InstrumentLookup(look_up)


def _stage(
    table: LakeTable,
    opened: OpenWrite,
    rows: Iterator[pl.DataFrame],
    staged: StagedImport,
    source: Source,
    reading: ImportPlan,
) -> None:
    """Write the rows to files, a few chunks at a time; what exists is added to `staged`, also after an error."""
    newest = table.refresh().files.newest()
    parts: list[StagedImport] = []

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
        parts.append(_staged(table, opened, chunk, first, newest))

    try:
        with closing(in_turn(works(), workers=_STAGERS)) as done:
            for _ in done:
                if reading.progress is not None:
                    reading.progress(source.progress())
    finally:
        for part in parts:
            staged.add(part)


def _chunks(rows: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows in larger parts: each becomes a file of every partition that it meets."""
    held: list[pl.DataFrame] = []
    for part in rows:
        held.append(part)
        if sum(each.height for each in held) + PIECE_ROWS > _CHUNK_ROWS:
            yield pl.concat(held, rechunk=False)
            held = []
    if held:
        yield pl.concat(held, rechunk=False)


def _staged(
    table: LakeTable, opened: OpenWrite, chunk: pl.DataFrame, first: int, newest: dict[str, int]
) -> StagedImport:
    """Number the rows of a chunk from `first`, sort and hash them and write them to files."""
    ordinal = pl.int_range(first, first + pl.len(), dtype=pl.Int64).cast(pl.Int32)
    # Sorted before they are hashed, for then equal texts follow each other, and before what they all share is added.
    rows = in_order(table.dataset, chunk.with_columns(ordinal=ordinal)).with_columns(
        write_id=pl.lit(opened.write_id, pl.Int64),
        is_deleted=pl.lit(False),
        recorded_at=pl.lit(opened.recorded_at).cast(pl.Datetime("us", "UTC")),
    )
    content, checksum = _checksums(table.dataset, rows)
    first_ts, last_ts = rows.select(first=pl.col("ts").min(), last=pl.col("ts").max()).row(0)
    return StagedImport(
        files=table.stage(rows, newest) if rows.height else [],
        rows=rows.height,
        content=content,
        checksum=checksum,
        first_ts=in_utc(first_ts),
        last_ts=in_utc(last_ts),
        instruments=set(rows["instrument_id"].unique().to_list()),
    )


def _checksums(dataset: Dataset, rows: pl.DataFrame) -> tuple[int, int]:
    """That of what was given, and that of what is stored, which adds the instrument and the order of arrival.

    A store that numbers its instruments otherwise, or learns the rows again, gives the same content.
    """
    *content, instrument = (column.name for column in dataset.columns)
    rest = [instrument, *(column.name for column in HOT_ARRIVAL)]
    columns = rows.select(*content, *rest)
    table = pa.table({each.name: by_runs(each) if each.dtype == pl.String else each.to_arrow() for each in columns})
    given = row_hashes(table, content)
    stored = row_hashes(table, rest, after=given)
    return int(given.sum(dtype=np.uint64)), int(stored.sum(dtype=np.uint64))


def _batch(number: int, entry: WriteResult, files: list[StagedFile]) -> Batch:
    return Batch(
        number=number,
        nonce=batches.new_nonce(),
        kind=WriteKind.IMPORT,
        status=BatchStatus.CLAIMED,
        rows=entry.rows,
        checksum=entry.checksum,
        file_list=[asdict(file) for file in files],
    )
