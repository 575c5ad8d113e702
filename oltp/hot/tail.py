"""What the lake does not hold yet, asked for in one statement, with the proof that nothing is missing or double.

The statement runs alone in READ COMMITTED: it locks the hot partitions first and takes its snapshot after, so a slot
that was truncated meanwhile shows in `floor`. The same inside a repeatable-read transaction, or through COPY (which
takes its snapshot before it locks), can miss rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from psycopg import RawCursor, sql

from medalion.core.datasets import Dataset
from medalion.core.time import TimeRange
from oltp.hot.tables import HOT_ARRIVAL, RECORDED_AT, decode, select_list
from oltp.server.engine import Connection, one


@dataclass(frozen=True, slots=True)
class Tail:
    """The ledger's view of a pin, and the unmirrored writes that overlap the asked range."""

    floor: int
    settled: datetime
    nonce: int | None
    newest_import: int
    claimed_import: int | None
    unmirrored: tuple[int, ...]


# What a pin at `batch` must be checked against; `unmirrored` are the writes that it does not hold.
_HEAD = """
    SELECT state.floor, state.settled,
           (SELECT nonce FROM mirror_batches WHERE dataset = state.dataset AND number = {batch}) AS nonce,
           state.newest_import,
           (SELECT number FROM mirror_batches
            WHERE dataset = state.dataset AND kind = 'import' AND status <> 'done') AS claimed_import,
           ARRAY(SELECT id FROM writes
                 WHERE dataset = state.dataset AND kind = 'hot' AND (batch IS NULL OR batch > {batch})
                   AND last_ts >= {start} AND first_ts < {end}
                   AND last_instrument >= {low} AND first_instrument <= {high} ORDER BY id) AS unmirrored
    FROM mirror_state AS state WHERE state.dataset = {dataset}
"""
_CASTS = {"batch": "bigint", "start": "timestamptz", "end": "timestamptz", "low": "bigint", "high": "bigint"}


def _parameters(dataset: Dataset, batch: int, instruments: Sequence[int] | None, during: TimeRange) -> dict[str, str]:
    """As text, which both drivers send alike; `_head` casts it."""
    return {
        "batch": str(batch),
        "start": during.start.isoformat() if during.start else "-infinity",
        "end": during.end.isoformat() if during.end else "infinity",
        "low": str(min(instruments) if instruments else -(2**63)),
        "high": str(max(instruments) if instruments else 2**63 - 1),
        "dataset": dataset.name,
    }


def later_writes(connection: Connection, dataset: Dataset, *, source: str, batch: int) -> pl.DataFrame:
    """The committed writes of a source that a pin at `batch` does not hold, and what each spans; imports included."""
    with connection.cursor() as cursor:
        rows = cursor.execute(
            """SELECT id, kind, first_instrument, last_instrument, first_ts, last_ts FROM writes
               WHERE dataset = %s AND source = %s AND rows > 0 AND (batch IS NULL OR batch > %s)""",
            (dataset.name, source, batch),
        ).fetchall()
    return pl.DataFrame(rows, schema=_LATER, orient="row")


_LATER: Any = {
    "write_id": pl.Int64,
    "kind": pl.String,
    "first_instrument": pl.Int64,
    "last_instrument": pl.Int64,
    "first_ts": pl.Datetime("us", "UTC"),
    "last_ts": pl.Datetime("us", "UTC"),
}


def _head(names: Sequence[str]) -> sql.Composed:
    """`_HEAD` with numbered parameters, in the order of `names`."""
    return sql.SQL(_HEAD).format(
        **{name: sql.SQL(f"${place}::text::{_CASTS.get(name, 'text')}") for place, name in enumerate(names, 1)}
    )


def tail_list(
    connection: Connection, dataset: Dataset, *, batch: int, instruments: Sequence[int] | None, during: TimeRange
) -> Tail:
    """The ledger's view of the pin at `batch`, and which unmirrored writes overlap the range."""
    given = _parameters(dataset, batch, instruments, during)
    with RawCursor(connection) as cursor:
        row = cursor.execute(_head(list(given)), list(given.values())).fetchone()
    floor, settled, nonce, newest_import, claimed_import, unmirrored = one(row)
    return Tail(floor, settled, nonce, newest_import, claimed_import, tuple(unmirrored))


def tail_rows(
    connection: Any,
    dataset: Dataset,
    *,
    batch: int,
    instruments: Sequence[int] | None,
    during: TimeRange,
    timeframe: str | None = None,
) -> tuple[Tail, pl.DataFrame]:
    """The same with their rows of the range, as stored, through an Arrow connection and in one statement.

    `instruments` None asks for all; at most 1,000 are asked for by number, more are left to the caller's filter.
    """
    given = _parameters(dataset, batch, instruments, during)
    few = instruments if instruments is not None and len(instruments) <= _FEW else None
    wanted = [
        "held.write_id = ANY(head.unmirrored)",
        "held.ts >= $2::text::timestamptz",
        "held.ts < $3::text::timestamptz",
    ]
    if few is not None:
        given["instruments"] = "{" + ",".join(map(str, few)) + "}"
        wanted.append(f"held.instrument_id = ANY(${len(given)}::text::bigint[])")
    if timeframe is not None:
        given["timeframe"] = timeframe
        wanted.append(f"held.timeframe = ${len(given)}::text")
    stored = (*dataset.columns, *HOT_ARRIVAL)
    statement = sql.SQL(
        """WITH head AS ({head})
           SELECT head.floor, head.settled, head.nonce, head.newest_import, head.claimed_import,
                  head.unmirrored::text AS unmirrored, held.*
           FROM head LEFT JOIN LATERAL (
               SELECT {columns}, entry.recorded_at FROM {table} AS held JOIN writes AS entry ON entry.id = held.write_id
               WHERE {wanted}
           ) AS held ON true"""
    ).format(
        head=_head([name for name in given if name not in ("instruments", "timeframe")]),
        columns=select_list(stored, "held"),
        table=sql.Identifier(dataset.name),
        wanted=sql.SQL(" AND ").join(map(sql.SQL, wanted)),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(None), tuple(given.values()))
        table = cursor.fetch_arrow_table()
    first = table.slice(0, 1).to_pylist()[0]
    ids = tuple(int(text) for text in first["unmirrored"].strip("{}").split(",") if text)
    tail = Tail(unmirrored=ids, **{name: first[name] for name in _FACTS})
    rows = decode((*stored, RECORDED_AT), table)
    return tail, rows.filter(pl.col("write_id").is_not_null())


_FEW = 1_000
_FACTS = ("floor", "settled", "nonce", "newest_import", "claimed_import")
