"""One moment of a whole store, for a copy of it: a snapshot of the database, and what the lake holds beside it.

Bots write on, and so does the mirror. Three things are kept still, each for as short as it takes:

- Whoever rewrites or removes files of the lake waits until the files of the moment are carried away (`release`).
- The partitions of hot rows are not emptied while the snapshot is used: TRUNCATE takes rows from old snapshots too, so
  they are locked, as any reader locks them, before the snapshot is taken. Writers do not notice.
- The audit is not anchored while the snapshot is taken.

Each table is pinned first, then the snapshot is taken. A pin fits if its batch and nonce are where the ledger *of the
snapshot* says that a lake of its own may be: at its last batch, or before it while that is claimed. Then each row is in
the pinned files, or hot in the snapshot, and a batch that was being copied is finished by whoever opens the copy, from
hot rows or from the files of an import, which are carried too. Where the mirror was quicker, the lake has the version
that fits between the pin and now, since what is done in the snapshot was in the lake before: nobody has to wait for it.
A removal of rows leaves batch and nonce as they are and is looked at apart.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from medalion.core.datasets import DATASETS
from medalion.core.enums import BatchStatus, WriteKind
from medalion.core.errors import CorruptLakeError
from medalion.mirror.copy import staged_files
from olap.delta.anchors import AnchorTable
from olap.delta.contents import TableContents, contents_of, contents_of_anchors
from olap.delta.lake import Lake
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.files.parquet import StagedFile
from oltp.ledger import anchors as audit
from oltp.ledger import batches
from oltp.server.engine import Connection, Postgres, one

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class PinnedTable:
    """A table of the lake at the moment; of the anchors, which are no batches, only the contents."""

    contents: TableContents
    batch: int = 0
    nonce: int | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Basis:
    """A moment of the store: `snapshot` can be taken over by other sessions within the block that it came from.

    `writes` and `rows` are those of the ledger. `release` lets files be removed again, once they are carried away.
    """

    snapshot: str
    moment: datetime
    server: int
    tables: tuple[PinnedTable, ...]
    writes: int
    rows: int
    release: Callable[[], None]


@contextmanager
def standing(postgres: Postgres, lake: Lake) -> Iterator[Basis]:
    """A moment that stands still within the block.

    Raises:
        CorruptLakeError: lake and ledger do not belong together.
        FileNotFoundError: the log of a table was summed up meanwhile; to be tried again.
    """
    with postgres.connection() as keeper, postgres.connection() as reader, ExitStack() as files:
        for dataset in DATASETS.values():
            files.enter_context(batches.maintaining(keeper, dataset))
        for _ in range(_ATTEMPTS):
            with audit.leading(keeper):
                reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                found = _taken(reader, lake, files.close)
            try:
                if found is not None:
                    yield found
                    return
            finally:
                if not reader.closed:
                    reader.execute("ROLLBACK")
    raise CorruptLakeError(
        f"{lake.place} and the ledger in {postgres!r} do not belong together: the lake is that of another store, or "
        "one of the two is a backup; nothing was copied, see `medalion mirror rebind`"
    )


def _taken(reader: Connection, lake: Lake, release: Callable[[], None]) -> Basis | None:
    """Pins and then the snapshot of the transaction that was just begun; None where they do not fit."""
    reader.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    hot = sql.SQL(", ").join(sql.Identifier(dataset.name) for dataset in DATASETS.values())
    reader.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(hot))
    pins = [(lake.table(dataset), lake.table(dataset).refresh()) for dataset in DATASETS.values()]
    anchored = contents_of_anchors(AnchorTable(lake.place))
    snapshot, moment = one(reader.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone())
    tables = []
    for table, pin in pins:
        last = batches.last_batches(reader, table.dataset)
        fitting = _fitting(table, pin, batches.marks(last))
        if fitting is None:
            return None
        contents = contents_of(table, fitting, _undone_import(last))
        tables.append(PinnedTable(contents, *fitting.mark, int(fitting.files.rows.sum())))
    writes, rows = one(reader.execute("SELECT count(*), coalesce(sum(rows), 0)::bigint FROM writes").fetchone())
    server = reader.info.server_version // 10_000
    return Basis(snapshot, moment, server, (*tables, PinnedTable(anchored)), writes, rows, release)


def _fitting(table: LakeTable, pin: Pin, marks: list[batches.Mark]) -> Pin | None:
    """The version at or above the pin that belongs to a ledger with these marks."""
    newest = table.refresh()
    if newest.removal != pin.removal:
        return None
    if pin.mark in marks:
        return pin
    later = (table.pin_at(version) for version in range(pin.version + 1, newest.version + 1))
    return next((found for found in later if found.mark in marks), None)


def _undone_import(last: list[batches.Batch]) -> list[StagedFile]:
    """The files of an import that is claimed and not noted: its lake may or may not name them."""
    is_undone = bool(last) and last[0].status is BatchStatus.CLAIMED and last[0].kind is WriteKind.IMPORT
    return staged_files(last[0]) if is_undone else []
