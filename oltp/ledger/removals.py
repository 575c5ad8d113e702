"""The ledger's side of retention and repair: what is being removed from the lake, what was, and what reads may ask.

A removal is entered here before the lake loses a row, and noted after, so that a read refuses rather than miss rows
and the checksums of writes stay provable. At most one a dataset is undone; whoever leads finishes it. Rows that a
repair could not bring back are booked the same way, as lost instead of dropped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql
from psycopg.types.json import Jsonb

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from oltp.hot.tables import last_name
from oltp.ledger import batches
from oltp.ledger.folding import folded
from oltp.ledger.series import mark_removed
from oltp.server.engine import Connection, one


@dataclass(frozen=True, slots=True)
class RetentionBounds:
    """Which `as_of` can be answered: from `known_from` on, and for rows before `kept_from` from `dropped_at` on."""

    known_from: datetime
    kept_from: datetime
    dropped_at: datetime
    is_dropping: bool


def retention_bounds(connection: Connection, dataset: Dataset) -> RetentionBounds:
    """What retention has taken from the dataset so far."""
    row = connection.execute(
        """SELECT known_from, kept_from, dropped_at, coalesce((removal->>'drops')::boolean, false)
           FROM mirror_state WHERE dataset = %s""",
        (dataset.name,),
    ).fetchone()
    return RetentionBounds(*one(row))


def removable(connection: Connection, dataset: Dataset, *, age: timedelta) -> tuple[datetime, int]:
    """A time so long ago, or earlier, and the number from which on writes are not in the lake.

    A write that is still open has drawn its number after the time, hence above every write recorded until then. The
    caller leads, and no batch is undone.
    """
    settled = batches.settle(connection, dataset)
    row = connection.execute(
        """SELECT least(clock_timestamp() - %(age)s, %(settled)s),
                  coalesce(min(id), (SELECT last_value FROM write_id_seq) + 1)
           FROM writes WHERE dataset = %(dataset)s AND batch IS NULL""",
        {"age": age, "settled": settled, "dataset": dataset.name},
    ).fetchone()
    moment, number = one(row)
    return moment, int(number)


def undone(connection: Connection, dataset: Dataset) -> int | None:
    """The nonce of a removal that was entered and not noted, if any."""
    row = connection.execute(
        "SELECT (removal->>'nonce')::bigint FROM mirror_state WHERE dataset = %s", (dataset.name,)
    ).fetchone()
    nonce: int | None = one(row)[0]
    return nonce


def enter_removal(
    connection: Connection,
    dataset: Dataset,
    gone: Mapping[int, tuple[int, int]],
    *,
    nonce: int,
    known_from: datetime | None = None,
    kept_from: datetime | None = None,
    is_lost: bool = False,
) -> None:
    """Durably say what will be removed: by write the rows and the sum of their hashes; writes that were folded count
    together.

    From here on `as_of` before `known_from` is refused, and while it lasts any for rows before `kept_from`.
    """
    rows, checksum = ("lost_rows", "lost_checksum") if is_lost else ("dropped_rows", "dropped_checksum")
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        before = connection.execute(
            sql.SQL("SELECT id, {}, {} FROM writes WHERE id = ANY(%s)").format(*map(sql.Identifier, (rows, checksum))),
            (list(gone),),
        ).fetchall()
        writes = {
            str(write_id): [held + gone[write_id][0], signed(total + gone[write_id][1])]
            for write_id, held, total in before
        }
        folded = [gone[write_id] for write_id in gone.keys() - {write_id for write_id, _, _ in before}]
        removal = {
            "nonce": nonce,
            "drops": kept_from is not None,
            "lost": is_lost,
            "writes": writes,
            "folded": _folded_without(connection, dataset, folded),
        }
        connection.execute(
            """UPDATE mirror_state SET removal = %s, known_from = greatest(known_from, %s),
                                       kept_from = greatest(kept_from, %s) WHERE dataset = %s""",
            (Jsonb(removal), known_from, kept_from, dataset.name),
        )


def _folded_without(connection: Connection, dataset: Dataset, gone: Iterable[tuple[int, int]]) -> list[int]:
    rows, checksum, _ = folded(connection, dataset)
    for lost, total in gone:
        rows, checksum = rows - lost, checksum - total
    return [rows, signed(checksum)]


def note_removal(connection: Connection, dataset: Dataset) -> None:
    """The rows are gone: the ledger counts without them, and last values that may be among them are looked for anew."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        for is_lost, names in ((False, ("dropped_rows", "dropped_checksum")), (True, ("lost_rows", "lost_checksum"))):
            connection.execute(
                sql.SQL(
                    """UPDATE writes SET {} = (entry.value->>0)::bigint, {} = (entry.value->>1)::bigint
                       FROM mirror_state AS state, jsonb_each(state.removal->'writes') AS entry
                       WHERE state.dataset = %s AND (state.removal->>'lost')::boolean = %s
                         AND writes.id = entry.key::bigint"""
                ).format(*map(sql.Identifier, names)),
                (dataset.name, is_lost),
            )
        connection.execute(
            sql.SQL(
                """UPDATE {} SET is_stale = true FROM mirror_state AS state
                   WHERE dataset = %s AND (removal->>'lost')::boolean
                      OR dataset = %s AND (removal->>'drops')::boolean AND ts < kept_from"""
            ).format(sql.Identifier(last_name(dataset))),
            (dataset.name, dataset.name),
        )
        mark_removed(connection, dataset)
        connection.execute(
            """UPDATE mirror_state SET folded_rows = (removal->'folded'->>0)::bigint,
                                       folded_checksum = (removal->'folded'->>1)::bigint WHERE dataset = %s""",
            (dataset.name,),
        )
        _end(connection, dataset)


def abandon_removal(connection: Connection, dataset: Dataset) -> None:
    """Nothing was removed; what was said of reads stays, which refuses more than it must and never too little."""
    _end(connection, dataset)


def _end(connection: Connection, dataset: Dataset) -> None:
    connection.execute(
        """UPDATE mirror_state SET removal = NULL, dropped_at = CASE WHEN (removal->>'drops')::boolean
                  THEN greatest(dropped_at, clock_timestamp()) ELSE dropped_at END WHERE dataset = %s""",
        (dataset.name,),
    )
