"""Tables of the books as Arrow, all of one moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import JSONB

from oltp.server.engine import Postgres

_HIDDEN = frozenset({"mirror_state", "store_identity"})


def entity_names() -> list[str]:
    """Every table of the books that queries may name, besides the datasets."""
    # Here and below, not for the module: the mirror takes snapshots too, and needs no mapped class.
    from oltp.entities.catalogue import METADATA

    return sorted(
        name
        for name, table in METADATA.tables.items()
        if name not in _HIDDEN and not {"slot", "is_stale"} & set(table.columns.keys())
    )


@contextmanager
def snapshot(postgres: Postgres) -> Iterator[Any]:
    """An Arrow connection whose statements all see the same moment."""
    with postgres.arrow() as connection:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
        with connection.cursor() as cursor:
            cursor.execute("COMMIT")


def entity_table(
    connection: Any, name: str, *, rows: sql.Composable | None = None, given: Sequence[Any] = ()
) -> pa.Table:
    """The live rows of a table: ids and JSON as text, money as decimals, times in UTC.

    `rows` are read in place of the table's own: what stands after FROM, with `$1` and so on for what is `given`.
    """
    from oltp.entities.catalogue import METADATA

    table = METADATA.tables[name]
    columns = list(table.columns)
    statement = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(
            sql.SQL(_selected(column.type)).format(sql.Identifier(column.name))
            + sql.SQL(" AS ")
            + sql.Identifier(column.name)
            for column in columns
        ),
        sql.Identifier(name) if rows is None else rows,
    )
    if "is_deleted" in table.columns:
        statement += sql.SQL(" WHERE NOT is_deleted")
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(None), tuple(given) or None)
        fetched = cursor.fetch_arrow_table()
    return _decoded(fetched, columns)


def empty_table(connection: Any, name: str) -> pa.Table:
    """The table with its columns and no row."""
    none = sql.SQL("(SELECT * FROM {} LIMIT 0) AS none").format(sql.Identifier(name))
    return entity_table(connection, name, rows=none)


def _selected(kind: sa.types.TypeEngine[Any]) -> str:
    if isinstance(kind, sa.types.TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, sa.Numeric | sa.Uuid | JSONB | sa.Enum):
        return "{}::text"
    return "{}"


def _decoded(rows: pa.Table, columns: Sequence[sa.Column[Any]]) -> pa.Table:
    """Decimals from their text, exactly; one digit more than stored, so that DuckDB multiplies in 128 bits."""
    for place, column in enumerate(columns):
        kind = column.type.impl_instance if isinstance(column.type, sa.types.TypeDecorator) else column.type
        if isinstance(kind, sa.Numeric) and kind.precision is not None and kind.scale is not None:
            exact = rows.column(column.name).cast(pa.decimal128(max(kind.precision, 19), kind.scale))
            rows = rows.set_column(place, column.name, exact)
    return rows
