"""Hot rows → lake, exactly once: claim → copy → note.

A batch is claimed durably in PostgreSQL under the next number and a random nonce, copied in one Delta commit that
carries both, and noted as done. Whatever dies in between, the next run finds the same batch and finishes it from the
same rows. Lake and ledger that do not agree on number and nonce are never written to.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import polars as pl

from medalion import downsampling, healing, maintenance, rebinding, verification
from medalion.core.checksum import signed
from medalion.core.datasets import DATASETS, Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.enums import BatchStatus, WriteKind
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.workers import ahead
from medalion.journal.anchors import Anchors
from medalion.journal.metrics import MirrorMeter, Record, ignore
from medalion.maintenance import CompactionRun, RetentionRun, VacuumRun
from medalion.pacing import Pace
from olap.delta.tables import Lake, LakeTable, Pin
from olap.files.parquet import StagedFile
from oltp.hot.export import claimed_rows, claimed_slots
from oltp.hot.writes import keep_last, rows_checksum
from oltp.ledger import batches as ledger
from oltp.ledger.batches import Batch
from oltp.ledger.folding import fold
from oltp.ledger.rebinding import without_writers
from oltp.ledger.rollups import forget
from oltp.server.engine import Connection, Postgres

_CHUNK_ROWS = 300_000
_LOG_KEPT = timedelta(days=30)


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


class Mirror:
    """Keeps the lake up with PostgreSQL; several in several processes are harmless, one at a time leads a dataset."""

    def __init__(
        self, postgres: Postgres, lake: Lake, *, batch_rows: int, slot_rows: int, record: Record = ignore
    ) -> None:
        self._postgres = postgres
        self._lake = lake
        self._paces = {name: Pace(batch_rows) for name in DATASETS}
        self._slot_rows = slot_rows
        self._meter = MirrorMeter(record)

    def run(
        self,
        datasets: Iterable[str | Dataset] = tuple(DATASETS),
        *,
        wait: bool = True,
        settle: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> MirrorRun:
        """Copy everything committed so far; with `wait` False, pass over datasets that another process leads.

        With `settle` the time up to which `as_of` may ask is raised too. Once `is_stopping` says so, no further batch
        is begun: the one at hand is finished first, and takes about five seconds at most.

        Raises:
            CorruptLakeError: lake and ledger do not belong together; nothing was written.
        """
        total = MirrorRun()
        for dataset in map(dataset_named, datasets):
            if is_stopping():
                break
            started = time.perf_counter()
            with self._postgres.connection() as connection, ledger.leading(connection, dataset, wait=wait) as leads:
                if not leads:
                    continue
                for batch, files in self._batches(connection, dataset, is_stopping):
                    total += MirrorRun(1, batch.rows, len(files))
                self._turn_ring(connection, dataset)
                if settle:
                    ledger.settle(connection, dataset)
            total += MirrorRun(seconds=time.perf_counter() - started)
        return total

    def prune(self, datasets: Iterable[str | Dataset] = tuple(DATASETS)) -> int:
        """Empty every hot slot whose rows are all in the lake; the number of rows removed."""
        removed = 0
        for dataset in map(dataset_named, datasets):
            with self._postgres.connection() as connection:
                for slot, rows in ledger.slot_rows(connection, dataset).items():
                    removed += (ledger.prune(connection, dataset, slot) or 0) if rows else 0
        return removed

    def compact(self, datasets: Iterable[str | Dataset] = tuple(DATASETS)) -> CompactionRun:
        """Rewrite many small files of a partition as few sorted ones; every row is kept, and a second run does nothing.

        Reads and mirroring go on meanwhile. The old files stay until `vacuum` removes them. A partition is one commit.

        Raises:
            CorruptLakeError: a file is missing or damaged.
        """
        total = CompactionRun()
        for dataset in map(dataset_named, datasets):
            total += maintenance.compact(self._postgres, self._lake.table(dataset))
        return total

    def compact_meanwhile(self, dataset: str | Dataset, *, stopping: threading.Event | None = None) -> CompactionRun:
        """Compact the one partition that gains most by it, if any is worth it yet and no other process maintains.

        With `stopping` set it is given up, and nothing has changed.
        """
        return maintenance.compact_one(self._postgres, self._lake.table(dataset_named(dataset)), stopping=stopping)

    def vacuum(
        self,
        datasets: Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta = timedelta(days=7),
        dry_run: bool = False,
    ) -> VacuumRun:
        """Remove files of the lake that no version within the age refers to, and those that a dead writer left.

        Reads and relations that were begun before may still need a file that was replaced since: `older_than` is how
        long they may last. With `dry_run` nothing is removed, and the run lists what would be.

        Raises:
            InputError: a negative age, or one beyond the 30 days for which Delta keeps its log.
            CorruptLakeError: lake and ledger do not belong together; nothing was removed.
        """
        if not timedelta() <= older_than <= _LOG_KEPT:
            raise InputError(
                f"an age of {older_than} was given; give 0 to 30 days", given=older_than, expected="0 to 30 days"
            )
        total = VacuumRun()
        for dataset in map(dataset_named, datasets):
            table = self._lake.table(dataset)
            total += maintenance.vacuum(self._postgres, table, self.finish, older_than=older_than, dry_run=dry_run)
        return total

    def retain(
        self,
        datasets: Iterable[str | Dataset],
        *,
        versions_older_than: timedelta | None = None,
        rows_older_than: timedelta | None = None,
        downsample: str | None = None,
    ) -> RetentionRun:
        """Remove from the lake, for good, what is older than the ages given; what is not mirrored yet stays.

        `versions_older_than`: versions that were superseded so long ago, and rows that were deleted; reads without
        `as_of`, or with a later one, stay as they are, and an earlier `as_of` is refused from then on.
        `rows_older_than`: whole partitions (days, months, years) whose rows all have an older `ts`; reads with an
        `as_of` before the removal are refused where their range starts earlier than what is left. The files stay
        until `vacuum`. `downsample`: of quotes, the timeframe of the bars that stay in their place.

        Raises:
            InputError: no age, or a negative one; or nothing that can be downsampled.
            CorruptLakeError: a file is missing or damaged, or lake and ledger do not belong together.
        """
        ages = maintenance.Ages(versions_older_than, rows_older_than)
        declared = [dataset_named(dataset) for dataset in datasets]
        keepers = downsampling.keepers(self._postgres, self._lake, declared, ages, downsample)
        total = RetentionRun()
        for dataset, keep in zip(declared, keepers, strict=True):
            total += maintenance.retain(self._postgres, self._lake.table(dataset), self.finish, ages, keep=keep)
        return total

    def fold(
        self,
        datasets: Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta,
        keys_older_than: timedelta | None = None,
    ) -> int:
        """Fold the ledger's entries of so old writes, whose rows are in the lake alone, into one sum; how many.

        Rows stay, and `verify` proves them together from then on. Those with an idempotency key stay, which holds for
        as long as they do, but for what `keys_older_than` gives.
        """
        total = 0
        for dataset in map(dataset_named, datasets):
            with self._postgres.connection() as connection, ledger.leading(connection, dataset):
                total += fold(connection, dataset, age=older_than, key_age=keys_older_than)
        return total

    def status(self, datasets: Iterable[str | Dataset] = tuple(DATASETS)) -> pl.DataFrame:
        """A row a dataset: how far the lake is, what waits and how long, who leads, and what holds it back."""
        return verification.status(self._postgres, self._lake, map(dataset_named, datasets))

    def verify(self, datasets: Iterable[str | Dataset] = tuple(DATASETS), *, heal: bool = False) -> pl.DataFrame:
        """Everything in which lake, ledger and hot rows disagree: dataset, subject, problem. Empty is clean.

        Reads every row once. Each dataset is led meanwhile, so that mirroring waits. With `heal` what can be proven
        is repaired, and a fourth column, `outcome`, says of each problem whether it is `repaired`; rows that nothing
        proves any more are `lost`, and are booked so; `changed` rows stay as they were found; the rest is `left`.
        """
        drift: list[tuple[str, ...]] = []
        for dataset in map(dataset_named, datasets):
            table = self._lake.table(dataset)
            with (
                self._postgres.connection() as connection,
                ledger.maintaining(connection, dataset) if heal else nullcontext(),
                ledger.leading(connection, dataset),
            ):
                maintenance.finish_removal(connection, table)
                finish = partial(self.finish, connection, dataset)
                if heal:
                    forget(connection, dataset)
                    drift += ((dataset.name, *told) for told in healing.heal(self._postgres, table, connection, finish))
                    continue
                with suppress(CorruptLakeError):  # what stands against it is found below, and named
                    finish()
                found = verification.examine(self._postgres, table, connection)
                drift += ((dataset.name, *problem) for problem in found.problems)
        schema = verification.DRIFT | ({"outcome": pl.String} if heal else {})
        return pl.DataFrame(drift, schema=schema, orient="row")

    def rebind(self, datasets: Iterable[str | Dataset] = tuple(DATASETS)) -> pl.DataFrame:
        """Make one store again of a lake and a ledger that are copies of different moments; see `medalion.rebinding`.

        What became of what only one of the two knew: dataset, subject, outcome. Datasets that agree are left as they
        are. Writers, imports and mirroring wait meanwhile; every row of the lake is read.

        Raises:
            InputError: the lake is that of another store; nothing was changed.
        """
        told: list[tuple[str, str, str]] = []
        for dataset in map(dataset_named, datasets):
            table = self._lake.table(dataset)
            with (
                self._postgres.connection() as connection,
                ledger.maintaining(connection, dataset),
                ledger.without_staging(connection, dataset),
                ledger.leading(connection, dataset),
                without_writers(connection, dataset),
            ):
                if not rebinding.is_bound(connection, table):
                    forget(connection, dataset)
                    rebound = rebinding.rebind(self._postgres, table, connection)
                    told += ((dataset.name, *outcome) for outcome in rebound)
                self.finish(connection, dataset)
        told += Anchors(self._postgres, self._lake).rebind()
        return pl.DataFrame(told, schema=verification.REBOUND, orient="row")

    def finish(self, connection: Connection, dataset: Dataset) -> int:
        """Finish a batch that was claimed and not noted, as the leader; the number of the last batch, now done.

        Raises:
            CorruptLakeError: lake and ledger do not belong together.
        """
        table = self._lake.table(dataset)
        maintenance.finish_removal(connection, table)
        pin, batches = table.refresh(), ledger.last_batches(connection, dataset)
        marks = ledger.marks(batches)
        if pin.mark not in marks:
            (batch, nonce), expected = pin.mark, marks[-1]
            raise CorruptLakeError(
                f"{table.place} is at batch {batch} with nonce {nonce}, but this store's ledger expects "
                f"batch {expected[0]} with nonce {expected[1]}: the lake is that of another store, or one of the two "
                "is a backup; nothing was written, see `medalion mirror rebind`"
            )
        if batches and batches[0].status is BatchStatus.CLAIMED:
            finish = self._note if pin.mark == marks[0] else self._copy
            finish(connection, dataset, batches[0], pin)
        return marks[0][0]

    def _batches(
        self, connection: Connection, dataset: Dataset, is_stopping: Callable[[], bool]
    ) -> Iterator[tuple[Batch, list[StagedFile]]]:
        number, pace = self.finish(connection, dataset), self._paces[dataset.name]
        started = time.perf_counter()
        while batch := ledger.claim(connection, dataset, number=number + 1, rows=pace.rows):
            files = self._copy(connection, dataset, batch, self._lake.table(dataset).pin())
            number, seconds = batch.number, time.perf_counter() - started
            pace.took(batch.rows, seconds=seconds)
            self._measure(connection, dataset, batch, files, seconds)
            yield batch, files
            if is_stopping():
                return
            started = time.perf_counter()

    def _measure(
        self, connection: Connection, dataset: Dataset, batch: Batch, files: list[StagedFile], seconds: float
    ) -> None:
        if self._meter.is_on:
            lag = ledger.lag(connection, dataset, batch)
            size = sum(file.size for file in files)
            self._meter.copied(dataset.name, lag=lag.total_seconds(), rows=batch.rows, bytes=size, seconds=seconds)

    def _copy(self, connection: Connection, dataset: Dataset, batch: Batch, pin: Pin) -> list[StagedFile]:
        table = self._lake.table(dataset)
        if batch.kind is WriteKind.IMPORT:
            files = staged_files(batch)
        else:
            files = self._stage(connection, dataset, batch, table, pin)
        pin = table.append(files, batch=batch.number, nonce=batch.nonce)
        self._note(connection, dataset, batch, pin)
        return files

    def _note(self, connection: Connection, dataset: Dataset, batch: Batch, pin: Pin) -> None:
        """The batch is done; the last values of an import count from the same moment."""
        self._lake.table(dataset).sync(pin)
        with connection.transaction():
            ledger.note(connection, dataset, batch, delta_version=pin.version)
            if batch.kind is WriteKind.IMPORT:
                newest = self._lake.table(dataset).newest_rows(staged_files(batch))
                if newest.height:
                    keep_last(connection, dataset, newest, newest["recorded_at"][0])

    def _stage(
        self, connection: Connection, dataset: Dataset, batch: Batch, table: LakeTable, pin: Pin
    ) -> list[StagedFile]:
        """Write the batch's rows to files; refuse them unless count and checksum are the ledger's."""
        newest = pin.files.newest()
        files: list[StagedFile] = []
        rows = total = 0
        slots = claimed_slots(connection, dataset, batch.number)
        try:
            with self._postgres.arrow() as source:
                chunks = claimed_rows(source, dataset, number=batch.number, slots=slots, chunk_rows=_CHUNK_ROWS)
                for chunk in ahead(chunks):
                    rows += chunk.height
                    total += rows_checksum(dataset, chunk)
                    files += table.stage(chunk, newest)
            if (rows, signed(total)) != (batch.rows, batch.checksum):
                raise CorruptLakeError(
                    f"batch {batch.number} of {dataset.name} has {rows} rows with checksum {signed(total)} "
                    f"in PostgreSQL, but the ledger says {batch.rows} with {batch.checksum}; nothing was copied, "
                    "see `medalion mirror verify --heal`"
                )
        except BaseException:
            table.discard(files)
            raise
        return files

    def _turn_ring(self, connection: Connection, dataset: Dataset) -> None:
        """Send writes to the next slot when the current one is full, and empty those behind it."""
        if ledger.advance(connection, dataset, rows=self._slot_rows):
            for slot in ledger.slots_behind(connection, dataset):
                ledger.prune(connection, dataset, slot)


def staged_files(batch: Batch) -> list[StagedFile]:
    """The files that an import wrote before its batch was claimed."""
    return [StagedFile(**fields) for fields in batch.file_list or ()]
