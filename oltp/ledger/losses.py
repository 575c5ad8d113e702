"""The hot side of repair: copies removed, rows given up that the lake holds, and what cannot be brought back booked."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from oltp.server.engine import Connection, one


def remove_copies(connection: Connection, dataset: Dataset, write_ids: Sequence[int]) -> int:
    """Of hot rows that are there twice and alike, remove all but one; how many."""
    statement = sql.SQL(
        """DELETE FROM {table} AS held USING (
               SELECT ctid, tableoid, row_number() OVER (PARTITION BY whole::text ORDER BY ctid) AS copy
               FROM {table} AS whole WHERE write_id = ANY(%s)
           ) AS found
           WHERE held.ctid = found.ctid AND held.tableoid = found.tableoid AND copy > 1"""
    ).format(table=sql.Identifier(dataset.name))
    return connection.execute(statement, (list(write_ids),)).rowcount


def book(connection: Connection, dataset: Dataset, gone: Mapping[int, tuple[int, int]]) -> None:
    """Enter what is lost of writes that are only hot, by rows and sum of hashes; their claimed batch counts without."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        for write_id, (rows, checksum) in gone.items():
            held = connection.execute(
                "SELECT lost_checksum, batch FROM writes WHERE id = %s FOR UPDATE", (write_id,)
            ).fetchone()
            lost, batch = one(held)
            connection.execute(
                "UPDATE writes SET lost_rows = lost_rows + %s, lost_checksum = %s WHERE id = %s",
                (rows, signed(lost + checksum), write_id),
            )
            if batch is not None:
                claimed = connection.execute(
                    "SELECT checksum FROM mirror_batches WHERE dataset = %s AND number = %s", (dataset.name, batch)
                ).fetchone()
                connection.execute(
                    "UPDATE mirror_batches SET rows = rows - %s, checksum = %s WHERE dataset = %s AND number = %s",
                    (rows, signed(one(claimed)[0] - checksum), dataset.name, batch),
                )


def give_up(connection: Connection, dataset: Dataset, write_ids: Sequence[int]) -> None:
    """Remove the hot rows of writes that are in the lake; readers with an older pin look at the lake again."""
    if not write_ids:
        return
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE write_id = ANY(%s)").format(sql.Identifier(dataset.name)), (list(write_ids),)
        )
        connection.execute(
            """UPDATE mirror_state SET floor = greatest(floor, (SELECT max(batch) FROM writes WHERE id = ANY(%s)))
               WHERE dataset = %s""",
            (list(write_ids), dataset.name),
        )
        connection.execute("UPDATE writes SET slot = NULL WHERE id = ANY(%s)", (list(write_ids),))


def described(connection: Connection, dataset: Dataset, write_id: int) -> str:
    """Which write it is, for somebody who is to bring its rows back."""
    row = connection.execute(
        "SELECT source, rows, recorded_at, first_ts, last_ts FROM writes WHERE id = %s AND dataset = %s",
        (write_id, dataset.name),
    ).fetchone()
    source, rows, recorded_at, first_ts, last_ts = one(row)
    return (
        f"of {rows:,} from {source!r}, recorded at {recorded_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"with ts from {first_ts.isoformat()} to {last_ts.isoformat()}"
    )
