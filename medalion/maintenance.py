"""The lake's upkeep: small files into few, old rows out of the lake, and unneeded files out of its folder.

One process at a time maintains a dataset. Compaction leaves batches to be appended meanwhile; vacuum and retention hold
them up. Their commits leave the lake's batch and nonce as they are, and files that a reader has pinned stay where they
are until a vacuum.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from psycopg.errors import LockNotAvailable

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError, InputError, StoreError, StoreUnavailableError
from medalion.verification import Sums
from olap.delta import vacuum as vacuuming
from olap.delta.compaction import checked, corrected, current_since, rewritten, worthwhile, worthwhile_meanwhile
from olap.delta.tables import LakeTable, Pin
from olap.files.index import NO_FILES, Files
from olap.files.layout import end_of, microseconds
from olap.files.parquet import StagedFile
from oltp.ledger import batches
from oltp.ledger.removals import abandon_removal, enter_removal, note_removal, removable, undone
from oltp.server.engine import Connection, Postgres

Finish = Callable[[Connection, Dataset], object]
"""Finishes a batch that was claimed and not noted, as the leader."""

Keep = Callable[[str, Files], object]
"""Makes durable what is to be left of a partition whose files will be dropped."""

_QUIET = timedelta(hours=1)
"""Without a new file for so long, a partition is not expected to get one soon, and is put into its last form."""


@dataclass(frozen=True, slots=True)
class CompactionRun:
    """What was rewritten: files before and after, and the rows in them."""

    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    rows: int = 0
    seconds: float = 0.0

    def __add__(self, other: "CompactionRun") -> "CompactionRun":
        return CompactionRun(
            self.partitions + other.partitions,
            self.files_before + other.files_before,
            self.files_after + other.files_after,
            self.rows + other.rows,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class VacuumRun:
    """What was removed, or would be: data files as paths within the lake, their size, and entries of the Delta log."""

    files: tuple[str, ...] = ()
    bytes: int = 0
    log_entries: int = 0

    def __add__(self, other: "VacuumRun") -> "VacuumRun":
        return VacuumRun(self.files + other.files, self.bytes + other.bytes, self.log_entries + other.log_entries)


@dataclass(frozen=True, slots=True)
class RetentionRun:
    """What went from the lake: superseded versions and what deletions hid, rows of old partitions, and how many."""

    versions: int = 0
    rows: int = 0
    partitions: int = 0

    def __add__(self, other: "RetentionRun") -> "RetentionRun":
        return RetentionRun(self.versions + other.versions, self.rows + other.rows, self.partitions + other.partitions)


def compact(postgres: Postgres, table: LakeTable) -> CompactionRun:
    """Bring every partition of a dataset into its last form; one that another process rewrites is passed over."""
    total = CompactionRun()
    with postgres.connection() as connection, batches.maintaining(connection, table.dataset):
        pin: Pin | None = table.refresh()
        for _, partition in table.refresh().files.by_period():
            if pin is None:
                break
            if files := worthwhile(partition):
                done, pin = _rewrite(table, pin, files)
                total += done
    return total


def compact_one(postgres: Postgres, table: LakeTable, *, stopping: threading.Event | None = None) -> CompactionRun:
    """Rewrite files of the partition from which most files go, if one is worth it and nobody maintains the dataset."""
    pin = table.refresh()
    files = max(_worth_a_turn(pin), key=len, default=None)
    if files is None:
        return CompactionRun()
    with postgres.connection() as connection, batches.maintaining(connection, table.dataset, wait=False) as maintains:
        return _rewrite(table, pin, files, stopping)[0] if maintains else CompactionRun()


def _worth_a_turn(pin: Pin) -> Iterator[Files]:
    quiet_since = microseconds(datetime.now(UTC) - _QUIET)
    for _, partition in pin.files.by_period():
        is_quiet = partition.added_at.max() < quiet_since
        if files := worthwhile(partition) if is_quiet else worthwhile_meanwhile(partition):
            yield files


def _rewrite(
    table: LakeTable, pin: Pin, files: Files, stopping: threading.Event | None = None
) -> tuple[CompactionRun, Pin | None]:
    """One partition's files → new ones in one commit; None where another was first, and nothing was rewritten."""
    started = time.perf_counter()
    with staging(table) as staged:
        for file in rewritten(table, files):
            staged.append(file)
            if stopping is not None and stopping.is_set():
                table.discard(staged)
                return CompactionRun(), None
        held, kept = int(files.rows.sum()), sum(file.rows for file in staged)
        if held != kept:
            raise CorruptLakeError(f"{held:,} rows of {table.place} were read as {kept:,}; nothing was rewritten")
        newer = table.replace(pin, files, staged)
        if newer is None:
            table.discard(staged)
            return CompactionRun(), None
    return CompactionRun(1, len(files), len(staged), held, time.perf_counter() - started), newer


@contextmanager
def staging(table: LakeTable) -> Iterator[list[StagedFile]]:
    """A list for files that are removed again if an error comes before they are committed."""
    files: list[StagedFile] = []
    try:
        yield files
    except StoreUnavailableError:
        # An object store may still take a commit that it did not answer; what it has not taken is left to a vacuum.
        raise
    except BaseException:
        committed = set(table.refresh().files.path)
        table.discard([file for file in files if file.path not in committed])
        raise


def vacuum(
    postgres: Postgres, table: LakeTable, finish: Finish, *, older_than: timedelta, dry_run: bool = False
) -> VacuumRun:
    """Remove files that no version within the age refers to, then sum up the log and expire its entries of that age.

    A batch that was claimed is finished first, and imports and copies wait, so that no file is taken that could still
    be committed.
    """
    dataset = table.dataset
    with (
        postgres.connection() as connection,
        batches.maintaining(connection, dataset),
        batches.without_staging(connection, dataset),
        batches.leading(connection, dataset),
    ):
        finish(connection, dataset)
        return _vacuumed(table, older_than=older_than, dry_run=dry_run)


def vacuum_meanwhile(postgres: Postgres, table: LakeTable, finish: Finish, *, older_than: timedelta) -> VacuumRun:
    """The same where there is something to remove, and nobody maintains, imports or leads just now."""
    dataset = table.dataset
    with (
        postgres.connection() as connection,
        batches.maintaining(connection, dataset, wait=False) as maintains,
        ExitStack() as locks,
    ):
        if not maintains or _vacuumed(table, older_than=older_than, dry_run=True) == VacuumRun():
            return VacuumRun()
        connection.execute("SET lock_timeout = '100ms'")
        try:
            locks.enter_context(batches.without_staging(connection, dataset))
        except LockNotAvailable:
            return VacuumRun()
        finally:
            connection.execute("RESET lock_timeout")
        if not locks.enter_context(batches.leading(connection, dataset, wait=False)):
            return VacuumRun()
        finish(connection, dataset)
        return _vacuumed(table, older_than=older_than)


def _vacuumed(table: LakeTable, *, older_than: timedelta, dry_run: bool = False) -> VacuumRun:
    before = datetime.now(UTC) - older_than
    files = vacuuming.unneeded(table, before=before)
    entries = vacuuming.expired(table, before=before)
    if not dry_run:
        table.place.remove(file.name for file in files)
        vacuuming.tidy(table)
        vacuuming.checkpoint(table)
        table.place.remove(entry.name for entry in entries)
    names = tuple(f"{table.dataset.name}/{file.name}" for file in files)
    return VacuumRun(names, sum(file.bytes for file in files), len(entries))


@dataclass(frozen=True, slots=True)
class Ages:
    """How old what goes from the lake has to be: versions since they were superseded, rows by their `ts`.

    Raises:
        InputError: no age, or a negative one.
    """

    versions: timedelta | None = None
    rows: timedelta | None = None

    def __post_init__(self) -> None:
        if self.versions is None and self.rows is None:
            raise InputError("no age was given", expected="versions_older_than= or rows_older_than=")
        for age in (self.versions, self.rows):
            if age is not None and age < timedelta():
                raise InputError(f"an age of {age} was given; give one of 0 or more", given=age, expected="an age")


def retain(
    postgres: Postgres,
    table: LakeTable,
    finish: Finish,
    ages: Ages,
    *,
    keep: Keep | None = None,
    wait: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
) -> RetentionRun:
    """Remove what is older from the lake, a partition at a time; what is not in the lake yet stays.

    Each removal is entered in the ledger, committed to the lake and noted: whoever leads after a crash finishes it.
    `keep` is called before the rows of a partition go. Without `wait` nothing is done where another maintains or leads.
    """
    dataset = table.dataset
    total = RetentionRun()
    with (
        postgres.connection() as connection,
        batches.maintaining(connection, dataset, wait=wait) as maintains,
        batches.leading(connection, dataset, wait=wait) as leads,
    ):
        if not (maintains and leads):
            return total
        finish(connection, dataset)
        if ages.rows is not None:
            total += _drop_rows(connection, table, datetime.now(UTC) - ages.rows, keep, is_stopping)
        if ages.versions is not None:
            total += _drop_versions(connection, table, ages.versions, is_stopping)
    return total


def _drop_rows(
    connection: Connection, table: LakeTable, before: datetime, keep: Keep | None, is_stopping: Callable[[], bool]
) -> RetentionRun:
    """Partitions that end before a time go as a whole."""
    total = RetentionRun()
    for period, files in table.refresh().files.by_period():
        if end_of(period) <= before and not is_stopping():
            if keep is not None:
                keep(period, files)
            dropped = Sums()
            for path in files.path:
                dropped.add(table.dataset, pl.read_parquet(checked(table, path), hive_partitioning=False))
            _commit(connection, table, files, [], dropped, kept_from=end_of(period))
            total += RetentionRun(rows=int(files.rows.sum()), partitions=1)
    return total


def _drop_versions(
    connection: Connection, table: LakeTable, age: timedelta, is_stopping: Callable[[], bool]
) -> RetentionRun:
    """Versions that were superseded before a time go from the files that have some; the rest of them is kept."""
    total = RetentionRun()
    dataset = table.dataset
    known_from, below = removable(connection, dataset, age=age)
    for _, partition in table.refresh().files.by_period():
        files = corrected(partition)
        if not len(files) or is_stopping():
            continue
        dropped = Sums()

        def kept(rows: pl.DataFrame, dropped: Sums = dropped) -> pl.DataFrame:
            left = current_since(dataset, rows, known_from, below=below)
            gone = rows.join(left, on=["write_id", "ordinal"], how="anti")
            if gone.height:
                dropped.add(dataset, gone)
            return left

        with staging(table) as staged:
            staged.extend(rewritten(table, files, kept=kept))
            if not dropped.held:
                table.discard(staged)
                continue
            _commit(connection, table, files, staged, dropped, known_from=known_from)
        total += RetentionRun(versions=dropped.rows)
    return total


def _commit(
    connection: Connection,
    table: LakeTable,
    files: Files,
    staged: list[StagedFile],
    dropped: Sums,
    *,
    known_from: datetime | None = None,
    kept_from: datetime | None = None,
) -> None:
    """Enter a removal, commit it, note it."""
    if dropped.rows + sum(file.rows for file in staged) != files.rows.sum():
        raise CorruptLakeError(f"the files of {table.place} have other rows than its log says; nothing was removed")
    nonce = batches.new_nonce()
    pin = table.refresh()
    enter_removal(connection, table.dataset, dropped.held, nonce=nonce, known_from=known_from, kept_from=kept_from)
    if table.replace(pin, files, staged, removal=nonce) is None:
        raise StoreError(f"another has changed the files of {table.place} meanwhile; nothing was removed, run it again")
    note_removal(connection, table.dataset)


def finish_removal(connection: Connection, table: LakeTable) -> None:
    """Note a removal that its process did not live to note, or end one that never reached the lake; as the leader."""
    nonce = undone(connection, table.dataset)
    if nonce is None:
        return
    # Whoever was removing may only have lost its connection: a commit of ours in between makes its own fail.
    pin = table.refresh()
    if pin.removal != nonce and table.replace(pin, NO_FILES, []) is None:
        pin = table.refresh()
    if pin.removal == nonce:
        note_removal(connection, table.dataset)
    else:
        abandon_removal(connection, table.dataset)
