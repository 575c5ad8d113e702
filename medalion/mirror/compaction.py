"""Small files of a partition into few sorted ones, beside whoever reads or mirrors."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from medalion.core.errors import CorruptLakeError, StoreUnavailableError
from medalion.mirror import binding
from olap.delta.compaction import rewritten, worthwhile, worthwhile_meanwhile
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.files.index import Files
from olap.files.layout import microseconds
from olap.files.parquet import StagedFile
from oltp.ledger import batches
from oltp.server.engine import Postgres

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


def compact(postgres: Postgres, table: LakeTable) -> CompactionRun:
    """Bring every partition of a dataset into its last form; one that another process rewrites is passed over."""
    total = CompactionRun()
    with postgres.connection() as connection, batches.maintaining(connection, table.dataset):
        binding.check(connection, table)
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
        if not maintains:
            return CompactionRun()
        binding.check(connection, table)
        return _rewrite(table, pin, files, stopping)[0]


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
