"""What the ledger says of writes, batches and the hot rows, for status and verification."""

from collections.abc import Iterator
from typing import Any

import polars as pl
from psycopg import sql
from psycopg.rows import dict_row

from medalion.core.datasets import Dataset
from oltp.hot.tables import HOT_ARRIVAL, decode, select_list
from oltp.ledger.batches import OPENS_A_WRITE, open_writes
from oltp.server.engine import Connection, one

WRITES: Any = {
    "write_id": pl.Int64,
    "rows": pl.Int64,
    "checksum": pl.Int64,
    "dropped_rows": pl.Int64,
    "dropped_checksum": pl.Int64,
    "lost_rows": pl.Int64,
    "lost_checksum": pl.Int64,
    "batch": pl.Int64,
    "is_done": pl.Boolean,
    "is_hot": pl.Boolean,
}


def ledger_writes(connection: Any, dataset: Dataset) -> pl.DataFrame:
    """Every write of the dataset that has rows; `is_hot` while they are in the hot table. Takes an Arrow connection."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT writes.id AS write_id, writes.rows, writes.checksum, dropped_rows, dropped_checksum,
                      lost_rows, lost_checksum, writes.batch::bigint,
                      coalesce(status = 'done', false) AS is_done, slot IS NOT NULL AS is_hot
               FROM writes LEFT JOIN mirror_batches AS batches
                 ON batches.dataset = writes.dataset AND batches.number = writes.batch
               WHERE writes.dataset = $1 AND writes.rows > 0 ORDER BY writes.id""",
            (dataset.name,),
        )
        return pl.DataFrame(cursor.fetch_arrow_table()).cast(WRITES)


def hot_rows(connection: Any, dataset: Dataset) -> Iterator[pl.DataFrame]:
    """All hot rows, as stored but for `recorded_at`, a part at a time."""
    columns = (*dataset.columns, *HOT_ARRIVAL)
    statement = sql.SQL("SELECT {} FROM {} AS held").format(select_list(columns, "held"), sql.Identifier(dataset.name))
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(None))
        for batch in cursor.fetch_record_batch():
            yield decode(columns, batch)


def still_hot(connection: Connection, write_ids: list[int]) -> set[int]:
    """Those of the writes whose rows have not been emptied meanwhile."""
    rows = connection.execute("SELECT id FROM writes WHERE id = ANY(%s) AND slot IS NOT NULL", (write_ids,)).fetchall()
    return {int(write_id) for (write_id,) in rows}


def mirror_facts(connection: Connection, dataset: Dataset) -> dict[str, Any]:
    """One row of the mirror's status, as the ledger knows it.

    `lag` is the age of the oldest write that is not in a done batch; `held_by` the server process whose open
    transaction has held a write open longest, and `held_for` how long.
    """
    statement = sql.SQL("""
        WITH waiting AS (
            SELECT writes.rows, writes.recorded_at FROM writes LEFT JOIN mirror_batches AS batches
              ON batches.dataset = writes.dataset AND batches.number = writes.batch
            WHERE writes.dataset = %(dataset)s AND (writes.batch IS NULL OR batches.status <> 'done')
        ), holder AS (
            SELECT pid, clock_timestamp() - xact_start AS held_for
            FROM pg_locks AS held JOIN pg_stat_activity USING (pid) WHERE {opens_a_write}
            ORDER BY xact_start LIMIT 1
        )
        SELECT %(dataset)s AS dataset,
               coalesce((SELECT max(number) FROM mirror_batches
                         WHERE dataset = %(dataset)s AND status = 'done'), 0) AS batch,
               (SELECT count(*) FROM waiting) AS unmirrored_writes,
               (SELECT coalesce(sum(rows), 0) FROM waiting)::bigint AS unmirrored_rows,
               (SELECT clock_timestamp() - min(recorded_at) FROM waiting) AS lag,
               (SELECT coalesce(sum(rows), 0) FROM writes
                WHERE dataset = %(dataset)s AND slot IS NOT NULL)::bigint AS hot_rows,
               (SELECT coalesce(sum(lost_rows), 0) FROM writes WHERE dataset = %(dataset)s)::bigint AS lost_rows,
               state.settled, (SELECT pid FROM holder) AS held_by, (SELECT held_for FROM holder) AS held_for
        FROM mirror_state AS state WHERE dataset = %(dataset)s""").format(opens_a_write=OPENS_A_WRITE)
    with connection.cursor(row_factory=dict_row) as cursor:
        return one(cursor.execute(statement, {"dataset": dataset.name, **open_writes(dataset)}).fetchone())
