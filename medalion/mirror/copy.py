"""Hot rows → lake, exactly once: claim → copy → note.

A batch is claimed durably in PostgreSQL under the next number and a random nonce, copied in one Delta commit that
carries both, and noted as done. Whatever dies in between, the next run finds the same batch and finishes it from the
same rows. Lake and ledger that do not agree on number and nonce are never written to.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from medalion.core.checksum import signed
from medalion.core.datasets import DATASETS, Dataset
from medalion.core.enums import BatchStatus, WriteKind
from medalion.core.errors import CorruptLakeError
from medalion.core.workers import ahead
from medalion.journal.metrics import MirrorMeter, Record, ignore
from medalion.mirror.removal import finish_removal
from olap.delta.lake import Lake
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.files.parquet import StagedFile
from olap.places.base import reaching
from oltp.hot.export import claimed_rows, claimed_slots
from oltp.hot.writes import keep_newest, rows_checksum
from oltp.ledger import batches
from oltp.ledger.batches import Batch
from oltp.ledger.series import count_batch, joined, spans_of
from oltp.server.engine import Connection, Postgres

_CHUNK_ROWS = 300_000
_SECONDS = 5.0
_FEWEST = 20_000


@dataclass(frozen=True, slots=True)
class MirrorRun:
    """What one run copied."""

    batches: int = 0
    rows: int = 0
    files: int = 0
    seconds: float = 0.0

    def __add__(self, other: "MirrorRun") -> "MirrorRun":
        return MirrorRun(
            self.batches + other.batches,
            self.rows + other.rows,
            self.files + other.files,
            self.seconds + other.seconds,
        )


class Pace:
    """The rows of the next batch: as many as take about five seconds at the speed of the last, and never more than
    `most`, so that a slow disk or bucket holds up neither other datasets nor a stop for long.

    >>> pace = Pace(2_000_000)
    >>> pace.rows
    2000000
    >>> pace.took(2_000_000, seconds=100.0)
    >>> pace.rows
    100000
    >>> pace.took(300, seconds=0.1)  # too few to tell
    >>> pace.rows
    100000
    >>> pace.took(100_000, seconds=1.0)
    >>> pace.rows
    200000
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = most

    def took(self, rows: int, *, seconds: float) -> None:
        """Learn from a batch that was as large as was asked for; the pace at most doubles, since a second may lie."""
        if rows >= self.rows // 2:
            fitting = int(rows / max(seconds, 1e-3) * _SECONDS)
            self.rows = min(self._most, max(_FEWEST, min(fitting, 2 * self.rows)))


class Copier:
    """Copies one store's batches; several in several processes are harmless, one at a time leads a dataset."""

    def __init__(
        self, postgres: Postgres, lake: Lake, *, batch_rows: int, slot_rows: int, record: Record = ignore
    ) -> None:
        self._postgres = postgres
        self._lake = lake
        self._paces = {name: Pace(batch_rows) for name in DATASETS}
        self._slot_rows = slot_rows
        self._meter = MirrorMeter(record)

    def run(self, dataset: Dataset, *, wait: bool, settle: bool, is_stopping: Callable[[], bool]) -> MirrorRun:
        """Copy what is committed of a dataset; nothing where another leads and there is to be no waiting.

        Raises:
            CorruptLakeError: lake and ledger do not belong together; nothing was written.
        """
        started = time.perf_counter()
        with self._postgres.connection() as connection, batches.leading(connection, dataset, wait=wait) as leads:
            if not leads:
                return MirrorRun()
            number, total = self._finished(connection, dataset)
            for batch, files in self._batches(connection, dataset, number, is_stopping):
                total += MirrorRun(1, batch.rows, len(files))
            self._turn_ring(connection, dataset)
            if settle:
                batches.settle(connection, dataset)
        return total + MirrorRun(seconds=time.perf_counter() - started)

    def finish(self, connection: Connection, dataset: Dataset) -> int:
        """Finish a batch that was claimed and not noted, as the leader; the number of the last batch, now done.

        Raises:
            CorruptLakeError: lake and ledger do not belong together.
        """
        return self._finished(connection, dataset)[0]

    def _finished(self, connection: Connection, dataset: Dataset) -> tuple[int, MirrorRun]:
        """The number of the last batch, now done, and what of it had to be: of one that the lake had, no file."""
        table = self._lake.table(dataset)
        table.owned()
        finish_removal(connection, table)
        pin, last = table.refresh(), batches.last_batches(connection, dataset)
        marks = batches.marks(last)
        if pin.mark not in marks:
            (batch, nonce), expected = pin.mark, marks[-1]
            raise CorruptLakeError(
                f"{table.place} is at batch {batch} with nonce {nonce}, but this store's ledger expects "
                f"batch {expected[0]} with nonce {expected[1]}: the lake is that of another store, or one of the two "
                "is a backup; nothing was written, see `medalion mirror rebind`; if it was moved, give "
                "its new place with lake="
            )
        # Whoever died left one of two states behind: the batch is claimed and the lake is still before it, or the lake
        # has it and the note is missing. The lake's own number and nonce tell which; a number alone would not,
        # for a copy of the lake may have gone on under another ledger, to the same number with other rows.
        if last and last[0].status is BatchStatus.CLAIMED:
            if pin.mark == marks[0]:
                files: list[StagedFile] = []
                self._note(connection, dataset, last[0], pin, None)
            else:
                files = self._copy(connection, dataset, last[0], pin)
            return marks[0][0], MirrorRun(1, last[0].rows, len(files))
        if pin.lacks_marks:  # and is proven to be ours; to ask the table would be a request more for each turn
            table.adopt()
        return marks[0][0], MirrorRun()

    def _batches(
        self, connection: Connection, dataset: Dataset, number: int, is_stopping: Callable[[], bool]
    ) -> Iterator[tuple[Batch, list[StagedFile]]]:
        pace = self._paces[dataset.name]
        started = time.perf_counter()
        # Not what comes in meanwhile: bots that write more often than a batch takes would have it lead for ever, while
        # other datasets, and whoever waits to lead, never have their turn.
        newest = batches.newest_waiting(connection, dataset)
        while newest and (batch := batches.claim(connection, dataset, number=number + 1, rows=pace.rows)):
            files = self._copy(connection, dataset, batch, self._lake.table(dataset).pin())
            number, seconds = batch.number, time.perf_counter() - started
            pace.took(batch.rows, seconds=seconds)
            self._measure(connection, dataset, batch, files, seconds)
            yield batch, files
            if is_stopping() or not batches.is_waiting(connection, dataset, newest):
                return
            started = time.perf_counter()

    def _measure(
        self, connection: Connection, dataset: Dataset, batch: Batch, files: list[StagedFile], seconds: float
    ) -> None:
        if self._meter.is_on:
            lag = batches.lag(connection, dataset, batch)
            size = sum(file.size for file in files)
            self._meter.copied(dataset.name, lag=lag.total_seconds(), rows=batch.rows, bytes=size, seconds=seconds)

    def _copy(self, connection: Connection, dataset: Dataset, batch: Batch, pin: Pin) -> list[StagedFile]:
        table = self._lake.table(dataset)
        spans: pl.DataFrame | None = None
        if batch.kind is WriteKind.IMPORT:
            files = staged_files(batch)
        else:
            files, spans = self._stage(connection, dataset, batch, table, pin)
        pin = table.append(files, batch=batch.number, nonce=batch.nonce)
        self._note(connection, dataset, batch, pin, spans)
        return files

    def _note(
        self, connection: Connection, dataset: Dataset, batch: Batch, pin: Pin, spans: pl.DataFrame | None
    ) -> None:
        """The batch is done; its series, and the last values of an import, count from the same moment."""
        self._lake.table(dataset).sync(pin)
        if batch.kind is WriteKind.IMPORT:
            spans = self._imported_spans(dataset, batch)
        with connection.transaction():
            count_batch(connection, dataset, batch.number, spans)
            batches.note(connection, dataset, batch, delta_version=pin.version)
            if batch.kind is WriteKind.IMPORT:
                newest = self._lake.table(dataset).newest_rows(staged_files(batch))
                if newest.height:
                    keep_newest(connection, dataset, newest, newest["recorded_at"][0])

    def _imported_spans(self, dataset: Dataset, batch: Batch) -> pl.DataFrame:
        """What the files of an import have of each series, one file at a time, however large it is."""
        table = self._lake.table(dataset)
        parts = []
        for file in staged_files(batch):
            with reaching():
                parts.append(spans_of(dataset, table.scan([file.path])).collect())
        return joined(parts)

    def _stage(
        self, connection: Connection, dataset: Dataset, batch: Batch, table: LakeTable, pin: Pin
    ) -> tuple[list[StagedFile], pl.DataFrame]:
        """Write the batch's rows to files; refuse them unless count and checksum are the ledger's."""
        newest = pin.files.newest()
        files: list[StagedFile] = []
        spans: list[pl.DataFrame] = []
        rows = total = 0
        slots = claimed_slots(connection, dataset, batch.number)
        try:
            with self._postgres.arrow() as source:
                chunks = claimed_rows(source, dataset, number=batch.number, slots=slots, chunk_rows=_CHUNK_ROWS)
                for chunk in ahead(chunks):
                    rows += chunk.height
                    total += rows_checksum(dataset, chunk)
                    files += table.stage(chunk, newest)
                    spans.append(spans_of(dataset, chunk.lazy()).collect())
            if (rows, signed(total)) != (batch.rows, batch.checksum):
                raise CorruptLakeError(
                    f"batch {batch.number} of {dataset.name} has {rows} rows with checksum {signed(total)} "
                    f"in PostgreSQL, but the ledger says {batch.rows} with {batch.checksum}; nothing was copied, "
                    "see `medalion mirror verify --heal`"
                )
        except BaseException:
            table.discard(files)
            raise
        return files, joined(spans)

    def _turn_ring(self, connection: Connection, dataset: Dataset) -> None:
        """Send writes to the next slot when the current one is full, and empty those behind it."""
        if batches.advance(connection, dataset, rows=self._slot_rows):
            for slot in batches.slots_behind(connection, dataset):
                batches.prune(connection, dataset, slot)


def staged_files(batch: Batch) -> list[StagedFile]:
    """The files that an import wrote before its batch was claimed."""
    return [StagedFile(**fields) for fields in batch.file_list or ()]
