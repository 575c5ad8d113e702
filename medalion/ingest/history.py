"""Bulk history: years of rows straight into the lake, as one write, all or nothing.

An import stores what differs from the current rows of its source. Its result is that of comparing each row with the
current row of its key at a moment at which no other write of the dataset is between its comparison and its commit:

1. It looks at what is committed, draws its number and time, and writes all rows to files. Meanwhile nobody takes these
   files for those of a writer that died, and no time since it began is called settled.
2. It compares them with the current rows, and writes what differs to files of its own where that is not all of them.
3. Leading the dataset, and while no other write is open, it looks for writes that came since it looked first and have
   one of its keys. If there are any, it lets go, looks, draws and compares again; the third time without letting go.
   So what it stores comes after all that it was compared with, in the order of arrival too.
4. In the same transaction the batch is claimed with the list of its files; then it is committed to the lake and noted.
   Whoever leads next finishes a claimed import from that list.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl
from psycopg import Rollback

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from medalion.core.enums import BatchStatus, WriteKind
from medalion.ingest.comparison import Comparison, Differences, Region, Sighting
from medalion.ingest.pieces import ImportPlan, InstrumentLookup, fitted
from medalion.ingest.rejects import RejectsFile
from medalion.ingest.replacement import Replacement, ReplaceResult, replaced
from medalion.ingest.sources import PIECE_ROWS, Source
from medalion.ingest.staging import ImportFile, span_of, stage_rows
from medalion.mirror.binding import Binding
from medalion.mirror.copy import Copier
from olap.delta.lake import Lake
from olap.delta.tables import LakeTable
from oltp.hot.instruments import instrument_ids, known_instruments, with_instruments
from oltp.hot.sources import enter_sources
from oltp.hot.writes import OpenWrite, WriteResult, drawn_now, enter, exclude_writes, write
from oltp.ledger import batches
from oltp.ledger.batches import Batch
from oltp.server.engine import Connection, Postgres

_ATTEMPTS = 3
_FEW_ROWS = 200_000
"""Given rows and those of files beside them that are replaced while other writes wait, which takes about a second."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import has done; durable when it is given.

    Of the `rows` that were given and good, `stored` differed from what the store held of this source, `corrected` of
    them from a row that it held, and `unchanged` did not; of rows with one key only the last counts. `rejected` rows
    were bad and are not among them; they are in the file `rejects`, None if there were none. `rounded` are the rows of
    which a number was rounded. Where nothing was stored there is no write: `write_id` and `recorded_at` are None.
    """

    dataset: str
    source: str
    rows: int
    stored: int
    unchanged: int
    corrected: int
    first_ts: datetime | None
    last_ts: datetime | None
    write_id: int | None = None
    recorded_at: datetime | None = None
    rejected: int = 0
    rounded: int = 0
    rejects: Path | None = None

    @property
    def is_duplicate(self) -> bool:
        """Whether the store held all that was given, so that nothing was written now."""
        return self.rows > 0 and self.stored == 0


class History:
    """Imports into the lake of one store."""

    def __init__(self, postgres: Postgres, lake: Lake, copier: Copier, binding: Binding) -> None:
        self._postgres = postgres
        self._lake = lake
        self._copier = copier
        self._binding = binding

    def import_rows(self, dataset: Dataset, source: Source, reading: ImportPlan) -> ImportResult:
        """Bring the rows into the lake; see `Observations.import_history`."""
        rejects = RejectsFile(reading.rejects, dataset) if reading.rejects is not None else None
        try:
            run = _ImportRun(self._postgres, self._lake.table(dataset), self._copier, reading.source)
            with self._postgres.connection() as writer, self._postgres.connection() as leader:
                self._binding.check(writer, dataset)
                known = _known(writer, dataset, is_strict=rejects is None)
                rows = fitted(dataset, source, reading, known, rejects)
                entry = run.imported(writer, leader, rows, partial(_report, source, reading))
        except BaseException:
            if rejects is not None:
                rejects.discard()
            raise
        return ImportResult(
            dataset=dataset.name,
            source=reading.source,
            rows=sum(file.file.rows for file in run.given),
            stored=0 if entry is None else entry.rows,
            unchanged=run.found.unchanged,
            corrected=run.found.corrected,
            **span_of(run.given),
            write_id=None if entry is None else entry.write_id,
            recorded_at=None if entry is None else entry.recorded_at,
            rejected=0 if rejects is None else rejects.count,
            rejects=None if rejects is None else rejects.publish(),
        )

    def replace_rows(self, asked: Replacement, rows: pl.DataFrame) -> ReplaceResult:
        """Replace a range, through the hot table where that is few rows, and as an import where they are many.

        See `Observations.replace`.
        """
        dataset, table = asked.dataset, self._lake.table(asked.dataset)
        with self._postgres.connection() as writer, self._postgres.connection() as leader:
            self._binding.check(writer, dataset)
            instruments = list(instrument_ids(writer, dataset, asked.symbols).values())
            held = table.pin().files.selected(instruments, asked.during).rows.sum()
            if rows.height + held <= _FEW_ROWS:
                return replaced(
                    asked,
                    rows,
                    postgres=self._postgres,
                    table=table,
                    copier=self._copier,
                    writer=writer,
                    leader=leader,
                )
            run = _ImportRun(
                self._postgres, table, self._copier, asked.source, Region(instruments, asked.during, asked.timeframes)
            )
            named = with_instruments(writer, dataset, rows)
            entry = run.imported(writer, leader, (part for part in named.iter_slices(PIECE_ROWS)), _unreported)
            if entry is None:
                entry = write(writer, dataset, rows.clear(), source=asked.source)
        told = {each.name: getattr(entry, each.name) for each in fields(WriteResult)}
        found = run.found
        return ReplaceResult(**told, deleted=found.deleted, corrected=found.corrected, unchanged=found.unchanged)


def _report(source: Source, reading: ImportPlan) -> None:
    if reading.progress is not None:
        reading.progress(source.progress())


def _unreported() -> None:
    """Nobody asks how far it is."""


class _ImportRun:
    """One import on its way: the files with all that was given, and what of it is to be stored."""

    def __init__(
        self, postgres: Postgres, table: LakeTable, copier: Copier, source: str, region: Region | None = None
    ) -> None:
        self._table = table
        self._copier = copier
        self._source = source
        self._is_replacing = region is not None
        self._comparison = Comparison(postgres, table, source, region)
        self._may_be_claimed = False
        self._written: list[ImportFile] = []
        self.given: list[ImportFile] = []
        self.found = Differences()

    def imported(
        self, writer: Connection, leader: Connection, rows: Generator[pl.DataFrame], report: Callable[[], object]
    ) -> WriteResult | None:
        """The entry of the write, which is in the lake; None where nothing differs. `report` is called as rows come."""
        dataset = self._table.dataset
        with ExitStack() as lead:
            try:
                with writer.transaction():
                    batches.stage_import(writer, dataset)
                    # What is looked at comes before the number: whatever has a later one is found to be new.
                    seen, opened = self._comparison.look(writer), drawn_now(writer, dataset)
                    self._stage(opened, seen, rows, report)
                    self._compare(opened, seen)
                    is_any = self.given or self._is_replacing
                    entry = self._claimed(writer, leader, lead, opened, seen) if is_any else None
            except BaseException:
                if not self._may_be_claimed:  # else an answer may have been lost on its way, and a vacuum will know
                    self._discard(())
                raise
            if entry is not None:
                self._copier.finish(leader, dataset)
        self._discard(self.found.files)
        return entry

    def _stage(
        self, opened: OpenWrite, seen: Sighting, rows: Generator[pl.DataFrame], report: Callable[[], object]
    ) -> None:
        newest = seen.pin.files.newest()
        with closing(rows), closing(stage_rows(self._table, rows, opened, newest, self.given)) as chunks:
            for _ in chunks:
                report()

    def _compare(self, opened: OpenWrite, seen: Sighting, *, is_again: bool = False) -> None:
        self._written += self.found.files
        self.found = Differences()
        self._comparison.find(self.found, self.given, seen, opened, is_again=is_again)

    def _claimed(
        self, writer: Connection, leader: Connection, lead: ExitStack, opened: OpenWrite, seen: Sighting
    ) -> WriteResult | None:
        """The entry of the write once its batch is claimed, which `lead` leads from then on; None where there is none.

        The order of the locks is that of the leader and the open-write mark.
        """
        dataset, entry, is_done, attempts = self._table.dataset, None, False, 0
        while not is_done:
            attempts += 1
            with ExitStack() as turn, writer.transaction() as savepoint:
                turn.enter_context(batches.leading(leader, dataset))
                number = self._copier.finish(leader, dataset) + 1
                exclude_writes(writer, dataset)
                if self._comparison.is_overtaken(writer, seen, self.given):
                    if attempts < _ATTEMPTS:
                        raise Rollback(savepoint)
                    opened, _ = self._compared_again(writer)
                entry, is_done = self._entry(opened), True
                if entry is not None:
                    self._enter(writer, entry, number)
                    lead.push(turn.pop_all())
            if not is_done:
                opened, seen = self._compared_again(writer)
        return entry

    def _compared_again(self, writer: Connection) -> tuple[OpenWrite, Sighting]:
        seen, opened = self._comparison.look(writer), drawn_now(writer, self._table.dataset)
        self._compare(opened, seen, is_again=True)
        return opened, seen

    def _entry(self, opened: OpenWrite) -> WriteResult | None:
        files = self.found.files
        if not files:
            return None
        return WriteResult(
            write_id=opened.write_id,
            dataset=self._table.dataset.name,
            source=self._source,
            rows=sum(file.file.rows for file in files),
            recorded_at=opened.recorded_at,
            **span_of(files),
            checksum=signed(sum(file.checksum for file in files)),
        )

    def _enter(self, writer: Connection, entry: WriteResult, number: int) -> None:
        """Claim the batch, with its list of files."""
        dataset, files = self._table.dataset, self.found.files
        instruments = pl.concat([file.spans["instrument_id"] for file in files]).unique()
        enter(writer, entry, instruments, kind=WriteKind.IMPORT, batch=number)
        enter_sources(writer, dataset, instruments, entry.source, write_id=entry.write_id)
        batch = Batch(
            number=number,
            nonce=batches.new_nonce(),
            kind=WriteKind.IMPORT,
            status=BatchStatus.CLAIMED,
            rows=entry.rows,
            checksum=entry.checksum,
            file_list=[asdict(file.file) for file in files],
        )
        batches.enter_batch(writer, dataset, batch)
        self._may_be_claimed = True

    def _discard(self, needed: Sequence[ImportFile]) -> None:
        """Remove what was written and is not needed."""
        kept = {file.file.path for file in needed}
        written = {file.file.path: file.file for file in (*self._written, *self.given, *self.found.files)}
        self._table.discard([file for path, file in written.items() if path not in kept])


def _known(connection: Connection, dataset: Dataset, *, is_strict: bool) -> InstrumentLookup:
    def look_up(symbols: Sequence[str]) -> dict[str, int]:
        if is_strict:
            return instrument_ids(connection, dataset, symbols)
        return known_instruments(connection, dataset, symbols)

    return InstrumentLookup(look_up)
