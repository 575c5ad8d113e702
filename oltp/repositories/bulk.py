"""Many rows of the journal at once: added in one statement, removed in chunks."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from oltp.entities.base import Base
from oltp.entities.journal import ApplicationLog, ErrorLog, PerformanceMetric
from oltp.server.engine import Connection

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# For each table the column of its time, and which rows may go once they are older than some time.
_REMOVABLE = {
    ApplicationLog.__tablename__: ("log_timestamp", "true"),
    ErrorLog.__tablename__: (
        "error_timestamp",
        """coalesce(resolved_at, error_timestamp) < %(before)s
           AND (resolved_at IS NOT NULL OR (was_handled AND NOT requires_intervention))""",
    ),
    PerformanceMetric.__tablename__: ("metric_timestamp", "true"),
}
REMOVABLE = tuple(_REMOVABLE)


def add_rows(connection: Connection, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert the rows in one statement; one whose id is there already is left as it is, so that this can be repeated.

    JSON is passed as text. Values must fit their columns.
    """
    table = Base.metadata.tables[name]
    statement = sql.SQL("INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT (id) DO NOTHING")
    arrays = sql.SQL(", ").join(sql.SQL(f"%s::{_sql_type(table.c[column])}[]") for column in columns)
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = statement.format(table=sql.Identifier(table.name), names=names, arrays=arrays)
    connection.execute(query, [list(values) for values in zip(*rows, strict=True)])


def remove_older(connection: Connection, table: str, before: datetime, *, chunk: int) -> int:
    """Delete at most `chunk` rows of one of `REMOVABLE` from before that time, oldest first; how many.

    Rows that somebody else holds are passed over. Errors go when they are resolved, or were handled and ask for
    nobody; a resolved one is as old as its resolution.
    """
    moment, is_over = _REMOVABLE[table]
    statement = sql.SQL(
        """DELETE FROM {table} WHERE id = ANY(ARRAY(
               SELECT id FROM {table} WHERE {moment} < %(before)s AND {is_over}
               ORDER BY {moment} LIMIT %(chunk)s FOR UPDATE SKIP LOCKED))"""
    ).format(table=sql.Identifier(table), moment=sql.Identifier(moment), is_over=sql.SQL(is_over))
    return connection.execute(statement, {"before": before, "chunk": chunk}).rowcount


def _sql_type(column: sa.Column[Any]) -> str:
    # A cast to a bounded text would cut it silently; the column itself refuses what is too long.
    return "text" if isinstance(column.type, sa.String) else column.type.compile(dialect=_DIALECT)
