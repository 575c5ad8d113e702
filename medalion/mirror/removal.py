"""The lake's upkeep: small files into few, old rows out of the lake, and unneeded files out of its folder.

One process at a time maintains a dataset. Compaction leaves batches to be appended meanwhile; vacuum and retention hold
them up. Their commits leave the lake's batch and nonce as they are, and files that a reader has pinned stay where they
are until a vacuum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError, InputError, StoreError
from medalion.mirror.compaction import staging
from medalion.mirror.verification import Sums
from olap.delta.compaction import checked, corrected, current_since, rewritten
from olap.delta.tables import LakeTable
from olap.files.index import NO_FILES, Files
from olap.files.layout import end_of
from olap.files.parquet import StagedFile
from oltp.ledger import batches
from oltp.ledger.removals import abandon_removal, enter_removal, note_removal, removable, undone
from oltp.server.engine import Connection, Postgres

Finish = Callable[[Connection, Dataset], object]
"""Finishes a batch that was claimed and not noted, as the leader."""

Keep = Callable[[str, Files], object]
"""Makes durable what is to be left of a partition whose files will be dropped."""


@dataclass(frozen=True, slots=True)
class RetentionRun:
    """What went from the lake: superseded versions and what deletions hid, rows of old partitions, and how many."""

    versions: int = 0
    rows: int = 0
    partitions: int = 0

    def __add__(self, other: "RetentionRun") -> "RetentionRun":
        return RetentionRun(self.versions + other.versions, self.rows + other.rows, self.partitions + other.partitions)


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
