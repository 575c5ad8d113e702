"""Files that no version within an age refers to go from the lake's folder."""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg.errors import LockNotAvailable

from medalion.mirror.removal import Finish
from olap.delta import vacuum as vacuuming
from olap.delta.tables import LakeTable
from olap.places.base import writing
from oltp.ledger import batches
from oltp.server.engine import Postgres


@dataclass(frozen=True, slots=True)
class VacuumRun:
    """What was removed, or would be: data files as paths within the lake, their size, and entries of the Delta log."""

    files: tuple[str, ...] = ()
    bytes: int = 0
    log_entries: int = 0

    def __add__(self, other: "VacuumRun") -> "VacuumRun":
        return VacuumRun(self.files + other.files, self.bytes + other.bytes, self.log_entries + other.log_entries)


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
        with writing(table.place):
            table.place.remove(file.name for file in files)
        vacuuming.tidy(table)
        vacuuming.checkpoint(table)
        with writing(table.place):
            table.place.remove(entry.name for entry in entries)
    names = tuple(f"{table.dataset.name}/{file.name}" for file in files)
    return VacuumRun(names, sum(file.bytes for file in files), len(entries))
