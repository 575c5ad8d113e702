"""The ledger's side of rebinding: its entries compared with what another copy of the lake holds, in one transaction.

Whoever calls this leads the dataset and keeps writers and imports out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
from psycopg import sql
from psycopg.rows import dict_row

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from medalion.core.enums import BatchStatus, WriteKind
from oltp.hot.tables import last_name
from oltp.hot.writes import open_write_mark
from oltp.ledger import batches
from oltp.ledger.batches import Batch
from oltp.ledger.series import forget_counts
from oltp.server.engine import Connection, holding, one

_NAMES = """
    SELECT instrument_id, symbol FROM assets UNION ALL SELECT instrument_id, symbol FROM option_contracts
    UNION ALL SELECT instrument_id, token_id FROM polymarket_outcomes
"""


@dataclass(frozen=True, slots=True)
class WriteEntry:
    """What the ledger says of a write; `rows` and `checksum` are those that the lake should have."""

    write_id: int
    kind: WriteKind
    recorded_at: datetime
    rows: int
    checksum: int
    lost_rows: int
    lost_checksum: int
    is_hot: bool
    is_done: bool


@dataclass(frozen=True, slots=True)
class RebindResult:
    """What becomes of the entries, by their numbers.

    `held` are in the lake, `waiting` go there again from their hot rows, `renumbered` too, but under the fresh number
    and with the checksum beside theirs; `lost` are nowhere, and have another number where the lake uses theirs;
    `withdrawn` are imports that never arrived.
    """

    held: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    renumbered: dict[int, tuple[int, int]] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    withdrawn: list[int] = field(default_factory=list)


@contextmanager
def without_writers(connection: Connection, dataset: Dataset) -> Iterator[None]:
    """Within, no write of the dataset is open; waits for those that are."""
    with holding(connection, open_write_mark(dataset), wait=True):
        yield


def entries_of(connection: Connection, dataset: Dataset) -> list[WriteEntry]:
    """The dataset's entries by number, with what is still there of each."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """SELECT writes.id, writes.kind, recorded_at, writes.rows - dropped_rows - lost_rows AS rows,
                      writes.checksum::numeric - dropped_checksum - lost_checksum AS checksum,
                      lost_rows, lost_checksum, slot IS NOT NULL AS is_hot,
                      coalesce(status = 'done', batch IS NOT NULL) AS is_done
               FROM writes LEFT JOIN mirror_batches AS batches
                 ON batches.dataset = writes.dataset AND batches.number = writes.batch
               WHERE writes.dataset = %s ORDER BY writes.id""",
            (dataset.name,),
        ).fetchall()
    return [_entry(row) for row in rows]


def _entry(row: dict[str, Any]) -> WriteEntry:
    told = row | {"kind": WriteKind(row["kind"]), "checksum": signed(int(row["checksum"]))}
    return WriteEntry(write_id=told.pop("id"), **told)


def names_of(connection: Connection, instruments: list[int]) -> dict[int, str]:
    """The symbol that the books know for each instrument, of deleted ones too."""
    statement = sql.SQL("SELECT instrument_id, symbol FROM ({}) AS named WHERE instrument_id = ANY(%s)")
    return dict(connection.execute(statement.format(sql.SQL(_NAMES)), (instruments,)).fetchall())


def was_called(connection: Connection, instrument: int, symbol: str) -> bool:
    """Whether the audit knows the instrument under that name."""
    row = connection.execute(
        """SELECT EXISTS (SELECT FROM audit_logs
                          WHERE new_state->>'instrument_id' = %s
                            AND %s IN (new_state->>'symbol', new_state->>'token_id'))""",
        (str(instrument), symbol),
    ).fetchone()
    return bool(one(row)[0])


def reserve(connection: Connection, *, write_id: int, instrument_id: int) -> None:
    """Have new writes and instruments take numbers above these."""
    for name, number in (("write_id_seq", write_id), ("instrument_id_seq", instrument_id)):
        statement = sql.SQL("SELECT setval({0}, greatest(%s, (SELECT last_value FROM {1})))")
        connection.execute(statement.format(sql.Literal(name), sql.Identifier(name)), (number,))


def fresh_id(connection: Connection) -> int:
    """A write number that nobody had."""
    (number,) = one(connection.execute("SELECT nextval('write_id_seq')").fetchone())
    return int(number)


def rebind(
    connection: Connection,
    dataset: Dataset,
    entries: Sequence[WriteEntry],
    found: RebindResult,
    adopted: pl.DataFrame,
    *,
    batch: int,
    nonce: int | None,
    known_until: datetime | None,
) -> None:
    """Make the ledger that of the lake at `batch`, and claim an empty batch after it; in one transaction, durably.

    `adopted` are the writes that only the lake knows, with the columns of `writes`; `known_until` is the latest
    `recorded_at` in the lake.
    """
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute("DELETE FROM writes WHERE dataset = %s AND id = ANY(%s)", (dataset.name, found.withdrawn))
        connection.execute("UPDATE writes SET batch = NULL WHERE id = ANY(%s)", (found.waiting,))
        for write_id, (fresh, checksum) in found.renumbered.items():
            connection.execute(
                sql.SQL("UPDATE {} SET write_id = %s WHERE write_id = %s").format(sql.Identifier(dataset.name)),
                (fresh, write_id),
            )
            connection.execute(
                "UPDATE writes SET id = %s, checksum = %s, batch = NULL, lost_checksum = 0 WHERE id = %s",
                (fresh, checksum, write_id),
            )
        for entry in entries:
            if (number := found.lost.get(entry.write_id)) is not None:
                lost = (entry.lost_rows + entry.rows, signed(entry.lost_checksum + entry.checksum))
                connection.execute(
                    "UPDATE writes SET id = %s, batch = %s, lost_rows = %s, lost_checksum = %s WHERE id = %s",
                    (number, batch + 1, *lost, entry.write_id),
                )
        connection.execute("UPDATE writes SET batch = %s WHERE id = ANY(%s)", (batch, found.held))
        _adopt(connection, dataset, adopted, batch)
        connection.execute(
            "DELETE FROM mirror_batches WHERE dataset = %s AND (number >= %s OR status <> 'done')",
            (dataset.name, batch),
        )
        if nonce is not None:
            last = Batch(batch, nonce, WriteKind.HOT, BatchStatus.DONE, 0, 0)
            batches.enter_batch(connection, dataset, last)
        ending = Batch(batch + 1, batches.new_nonce(), WriteKind.IMPORT, BatchStatus.CLAIMED, 0, 0, [])
        batches.enter_batch(connection, dataset, ending)
        connection.execute(
            """UPDATE mirror_state SET floor = %s, newest_import = 0, removal = NULL, settled = greatest(settled, %s)
               WHERE dataset = %s""",
            (batch, known_until, dataset.name),
        )
        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(last_name(dataset))))
        forget_counts(connection, dataset)


def _adopt(connection: Connection, dataset: Dataset, adopted: pl.DataFrame, batch: int) -> None:
    statement = sql.SQL("INSERT INTO writes (dataset, kind, batch, {}) VALUES (%s, %s, %s, {})").format(
        sql.SQL(", ").join(map(sql.Identifier, adopted.columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(adopted.columns)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(dataset.name, WriteKind.HOT, batch, *row) for row in adopted.iter_rows()])


def mark_stale(connection: Connection, dataset: Dataset) -> None:
    """Have every last value looked for anew."""
    connection.execute(sql.SQL("UPDATE {} SET is_stale = true").format(sql.Identifier(last_name(dataset))))
