"""Hot rows of a claimed batch or of some writes, streamed out as stored frames in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from psycopg import sql

from medalion.core.datasets import Dataset
from oltp.hot.tables import HOT_ARRIVAL, RECORDED_AT, decode, select_list
from oltp.server.engine import Connection


def claimed_slots(connection: Connection, dataset: Dataset, number: int) -> list[int]:
    """The slots that hold the rows of a claimed batch."""
    rows = connection.execute(
        "SELECT DISTINCT slot FROM writes WHERE dataset = %s AND batch = %s AND slot IS NOT NULL",
        (dataset.name, number),
    ).fetchall()
    return [int(slot) for (slot,) in rows]


def claimed_rows(
    connection: Any, dataset: Dataset, *, number: int, slots: list[int], chunk_rows: int
) -> Iterator[pl.DataFrame]:
    """The batch's rows in frames of about `chunk_rows`, through an Arrow connection.

    COPY is safe here although it takes its snapshot early: rows of a batch that is not done are never pruned.
    It takes no parameters; name, number and slots are this program's own, and are quoted.
    """
    wanted = sql.SQL("entry.dataset = {} AND entry.batch = {} AND held.slot = ANY(ARRAY[{}]::smallint[])").format(
        sql.Literal(dataset.name), sql.Literal(number), _literals(slots)
    )
    yield from _stored(connection, dataset, wanted, chunk_rows)


def rows_of_writes(
    connection: Any, dataset: Dataset, write_ids: Sequence[int], *, chunk_rows: int = 500_000
) -> Iterator[pl.DataFrame]:
    """The hot rows of some writes, in the same way."""
    wanted = sql.SQL("held.write_id = ANY(ARRAY[{}]::bigint[])").format(_literals(write_ids))
    yield from _stored(connection, dataset, wanted, chunk_rows)


def _literals(numbers: Sequence[int]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Literal, numbers))


def _stored(connection: Any, dataset: Dataset, wanted: sql.Composable, chunk_rows: int) -> Iterator[pl.DataFrame]:
    columns = (*dataset.columns, *HOT_ARRIVAL)
    statement = sql.SQL(
        """SELECT {columns}, entry.recorded_at FROM {table} AS held JOIN writes AS entry ON entry.id = held.write_id
           WHERE {wanted}"""
    ).format(columns=select_list(columns, "held"), table=sql.Identifier(dataset.name), wanted=wanted)
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(None))
        held: list[pa.RecordBatch] = []
        rows = 0
        for batch in cursor.fetch_record_batch():
            held.append(batch)
            rows += batch.num_rows
            if rows >= chunk_rows:
                yield decode((*columns, RECORDED_AT), pa.Table.from_batches(held))
                held, rows = [], 0
        if held:
            yield decode((*columns, RECORDED_AT), pa.Table.from_batches(held))
