"""A claimed batch's rows, streamed out as stored frames in bounded memory."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
from psycopg import sql

from medalion.datasets import Dataset
from oltp.engine import Connection
from oltp.hot import HOT_ARRIVAL, RECORDED_AT, decode, select_list


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
    columns = (*dataset.columns, *HOT_ARRIVAL)
    statement = sql.SQL(
        """SELECT {columns}, entry.recorded_at FROM {table} AS held JOIN writes AS entry ON entry.id = held.write_id
           WHERE entry.dataset = {dataset} AND entry.batch = {number} AND held.slot = ANY(ARRAY[{slots}]::smallint[])"""
    ).format(
        columns=select_list(columns, "held"),
        table=sql.Identifier(dataset.name),
        dataset=sql.Literal(dataset.name),
        number=sql.Literal(number),
        slots=sql.SQL(", ").join(map(sql.Literal, slots)),
    )
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
