"""The newest row of a series by its primary key, and the repair of an entry that a deletion made stale."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import polars as pl
from psycopg import sql
from psycopg.rows import dict_row

from medalion.core.datasets import LEVELS, Availability, Dataset
from medalion.core.frames import as_read, derive_row, polars_schema
from oltp.hot.instruments import unknown_symbol
from oltp.hot.sources import is_made
from oltp.hot.tables import LAST_ARRIVAL, last_name, plain
from oltp.server.engine import Connection, is_replica


@dataclass(frozen=True, slots=True)
class LastEntry:
    """What is held of a series: its row as read, unless only a range read can tell, and the newest time ever seen."""

    source: str
    row: dict[str, Any] | None
    touched_by: int
    newest_ts: datetime


def last_entries(
    connection: Connection, dataset: Dataset, symbol: str, *, timeframe: str | None, sources: Sequence[str] | None
) -> list[LastEntry]:
    """The entries of a symbol's series, one a source, in no order; `sources` None are all but the store's own.

    Raises:
        NotFoundError: the symbol is not known.
    """
    columns = [column.name for column in (*dataset.columns, *LAST_ARRIVAL)]
    given = {
        "dataset": dataset.name,
        "kind": dataset.kind.value,
        "symbol": symbol,
        "sources": None if sources is None else list(sources),
        "timeframe": timeframe,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_entries_of(dataset), given).fetchall()
    if not found:
        raise unknown_symbol(connection, dataset, symbol)
    entries = []
    for held in found:
        is_usable = held["is_stale"] is False and not held["has_claimed_import"]
        row = _read(dataset, {name: held[name] for name in columns}) if is_usable else None
        if held["source"] is not None and not is_made(held["source"]):
            entries.append(LastEntry(held["source"], row, held["touched_by"], held["newest_ts"]))
    return entries


@cache
def _entries_of(dataset: Dataset) -> bytes:
    """The statement, put together once."""
    columns = [column.name for column in (*dataset.columns, *LAST_ARRIVAL)]
    statement = sql.SQL(
        """SELECT held.is_stale, held.touched_by, held.newest_ts,
                  EXISTS (SELECT FROM mirror_batches
                          WHERE dataset = %(dataset)s AND kind = 'import' AND status <> 'done') AS has_claimed_import,
                  {columns}
           FROM instruments AS named
           LEFT JOIN {table} AS held ON held.instrument_id = named.instrument_id
                AND (%(sources)s::text[] IS NULL OR held.source = ANY(%(sources)s::text[])) {timeframe}
           WHERE named.kind = %(kind)s AND named.symbol = %(symbol)s"""
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier("held", name) for name in columns),
        table=sql.Identifier(last_name(dataset)),
        timeframe=sql.SQL("AND held.timeframe = %(timeframe)s" if dataset.has_timeframe else ""),
    )
    return statement.as_bytes()


def repair(connection: Connection, dataset: Dataset, entry: LastEntry, row: pl.DataFrame) -> None:
    """Show `row`, which a range read found, unless a write has touched the entry since `entry` was read.

    The newest order seen stays: a deleted row that arrives late must not come back. A replica repairs nothing, and what
    an open write holds is left to it.
    """
    if is_replica(connection):
        return
    shown = [column.name for column in (*dataset.columns, *LAST_ARRIVAL) if column.name not in dataset.series_key]
    key = dataset.series_key
    statement = sql.SQL(
        """UPDATE {table} SET is_stale = false, {} WHERE ctid = (
               SELECT ctid FROM {table} WHERE {} AND is_stale AND touched_by = %s FOR UPDATE SKIP LOCKED)"""
    ).format(
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in shown),
        sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key),
        table=sql.Identifier(last_name(dataset)),
    )
    values = plain(row).row(0, named=True)
    connection.execute(statement, [*(values[name] for name in (*shown, *key)), entry.touched_by])


@dataclass(frozen=True, slots=True)
class HeldSeries:
    """A series of bars that has had rows; whether it still has one, only a read can tell where it `is_stale`."""

    source: str
    instrument_id: int
    timeframe: str
    is_stale: bool
    newest_ts: datetime


def held_series(
    connection: Connection, dataset: Dataset, sources: Sequence[str], instruments: Sequence[int]
) -> list[HeldSeries]:
    """Every series of these instruments from these sources, of a dataset with timeframes."""
    statement = sql.SQL(
        """SELECT source, instrument_id, timeframe, is_stale, newest_ts FROM {}
           WHERE instrument_id = ANY(%s) AND source = ANY(%s)"""
    ).format(sql.Identifier(last_name(dataset)))
    return [HeldSeries(*row) for row in connection.execute(statement, (list(instruments), list(sources))).fetchall()]


def _read(dataset: Dataset, values: dict[str, Any]) -> dict[str, Any]:
    """The entry's stored values as a read gives them."""
    for column in dataset.columns:
        if column.type == LEVELS and values[column.name] is not None:
            values[column.name] = [
                {"price": Decimal(price), "size": Decimal(size)} for price, size in values[column.name]
            ]
    if dataset.available is Availability.AT_TS:
        derived = derive_row(dataset, values)
        return {name: derived[name] for name in dataset.schema.names}
    schema = {name: kind for name, kind in polars_schema(dataset.stored).items() if name in values}
    return as_read(dataset, pl.DataFrame([values], schema=schema))
