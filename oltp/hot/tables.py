"""A dataset's tables in PostgreSQL and the way of its rows in and out; `oltp.schema.tables` declares their columns.

The hot table holds what is not yet mirrored, in a fixed ring of slots that are truncated in turn; the last-value table
holds the newest row of each series. Both are derived from the declaration.
"""

from collections.abc import Iterable

import polars as pl
import pyarrow as pa
from psycopg import sql

from medalion.core.datasets import ARRIVAL, LEVELS, Column, Dataset
from medalion.core.frames import polars_schema

SLOTS = 8

NEWEST = ("ts", "write_id", "ordinal")
"""The order in which one row of a series is newer than another; `newest_*` is the greatest seen, with tombstones."""

_ARRIVAL = {column.name: column for column in ARRIVAL}
HOT_ARRIVAL = tuple(_ARRIVAL[name] for name in ("write_id", "ordinal", "is_deleted"))
RECORDED_AT = _ARRIVAL["recorded_at"]
LAST_ARRIVAL = tuple(_ARRIVAL[name] for name in ("write_id", "ordinal", "recorded_at"))


def last_name(dataset: Dataset) -> str:
    """The table of a dataset's last values."""
    return f"{dataset.name}_last"


def partition_name(dataset: Dataset, slot: int) -> str:
    """The partition of a dataset's hot table that is one slot of its ring."""
    return f"{dataset.name}_slot_{slot}"


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without lists: levels as JSON arrays of [price, size] in text, so that no digit is lost."""
    return rows.with_columns(_levels_json(pl.col(name)) for name, kind in rows.schema.items() if kind == pl.List)


def _levels_json(column: pl.Expr) -> pl.Expr:
    price, size = (pl.element().struct.field(name).cast(pl.String) for name in ("price", "size"))
    pair = pl.format('["{}", "{}"]', price, size)
    return pl.format("[{}]", column.list.eval(pair).list.join(", "))


def select_list(columns: Iterable[Column], table: str) -> sql.Composable:
    """What a query must select so that `decode` can rebuild the columns exactly and fast.

    The Arrow driver reads `numeric` as text: eight-place decimals of 18 digits come as whole units instead.
    """
    return sql.SQL(", ").join(
        sql.SQL(_selected(column.type)).format(column=sql.Identifier(table, column.name))
        + sql.SQL(" AS ")
        + sql.Identifier(column.name)
        for column in columns
    )


def _selected(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return "({column} * 100000000)::int8" if kind.precision <= 18 else "{column}::text"
    return "{column}::text" if kind == LEVELS else "{column}"


def decode(columns: Iterable[Column], table: pa.Table) -> pl.DataFrame:
    """The frame that `select_list` of the same columns fetched, with the dataset's types."""
    wanted = polars_schema(pa.schema([pa.field(column.name, column.type) for column in columns]))
    frame = pl.DataFrame(table.select(wanted.names()))
    return frame.select(_decoded(pl.col(name), frame.schema[name], kind) for name, kind in wanted.items())


def _decoded(column: pl.Expr, given: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    if given == wanted:
        return column
    if isinstance(wanted, pl.Decimal) and given == pl.Int64:
        return column.cast(pl.Int128).reinterpret(dtype=wanted)
    if isinstance(wanted, pl.List):
        price, size = (pl.element().list.get(place).cast(pl.Decimal(18, 8)) for place in (0, 1))
        pairs = column.str.json_decode(pl.List(pl.List(pl.String)))
        return pairs.list.eval(pl.struct(price=price, size=size)).cast(wanted)
    return column.cast(wanted)
