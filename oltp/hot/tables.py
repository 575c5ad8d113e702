"""A dataset's tables in PostgreSQL and the way of its rows in and out.

The hot table holds what is not yet mirrored, in a fixed ring of slots that are truncated in turn; the last-value table
holds the newest row of each series. Both are derived from the declaration.
"""

from collections.abc import Iterable
from typing import Any

import polars as pl
import pyarrow as pa
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import JSONB

from medalion.core.datasets import ARRIVAL, DATASETS, LEVELS, Column, Dataset
from medalion.core.frames import polars_schema

SLOTS = 8

NEWEST: dict[str, Any] = {"ts": sa.DateTime(timezone=True), "write_id": sa.BigInteger(), "ordinal": sa.Integer()}
"""The order in which one row of a series is newer than another; `newest_*` is the greatest seen, with tombstones."""

_ARRIVAL = {column.name: column for column in ARRIVAL}
HOT_ARRIVAL = tuple(_ARRIVAL[name] for name in ("write_id", "ordinal", "is_deleted"))
RECORDED_AT = _ARRIVAL["recorded_at"]
LAST_ARRIVAL = tuple(_ARRIVAL[name] for name in ("write_id", "ordinal", "recorded_at"))


def hot_table(dataset: Dataset, metadata: sa.MetaData) -> sa.Table:
    """The dataset's rows with their order of arrival, partitioned by slot."""
    return sa.Table(
        dataset.name,
        metadata,
        *(_sql_column(column) for column in (*dataset.columns, *HOT_ARRIVAL)),
        sa.Column("slot", sa.SmallInteger, nullable=False, comment="Its place in the ring."),
        sa.Index(f"ix_{dataset.name}_write_id", "write_id"),
        sa.Index(f"ix_{dataset.name}_instrument_id_ts", "instrument_id", "ts"),
        postgresql_partition_by="LIST (slot)",
    )


def last_table(dataset: Dataset, metadata: sa.MetaData) -> sa.Table:
    """The newest row of each series; `is_stale` where only a range read can tell."""
    key = dataset.series_key
    return sa.Table(
        last_name(dataset),
        metadata,
        *(_sql_column(column, nullable=column.name not in key) for column in dataset.columns),
        *(_sql_column(column) for column in LAST_ARRIVAL),
        sa.Column("is_stale", sa.Boolean, nullable=False, comment="A range read must repair the entry."),
        sa.Column("touched_by", sa.BigInteger, nullable=False, comment="The write that last changed the entry."),
        *(sa.Column(f"newest_{name}", kind, nullable=False) for name, kind in NEWEST.items()),
        sa.PrimaryKeyConstraint(*key, name=f"pk_{last_name(dataset)}"),
    )


def last_name(dataset: Dataset) -> str:
    """The table of a dataset's last values."""
    return f"{dataset.name}_last"


def partition_name(dataset: Dataset, slot: int) -> str:
    """The partition of a dataset's hot table that is one slot of its ring."""
    return f"{dataset.name}_slot_{slot}"


def partition_names() -> frozenset[str]:
    """Every hot partition; they belong to their parents and are not mapped."""
    return frozenset(partition_name(dataset, slot) for dataset in DATASETS.values() for slot in range(SLOTS))


def _sql_column(column: Column, *, nullable: bool | None = None) -> sa.Column[Any]:
    can_be_null = (column.nullable or column.name == "available_at") if nullable is None else nullable
    return sa.Column(column.name, sql_type(column.type), nullable=can_be_null, comment=column.doc or None)


def sql_type(kind: pa.DataType) -> Any:
    """The column type of PostgreSQL that holds it exactly."""
    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=True)
    if kind == LEVELS:
        return JSONB(none_as_null=True)
    return _SQL_TYPES[kind]


_SQL_TYPES: dict[pa.DataType, sa.types.TypeEngine[Any]] = {
    pa.string(): sa.Text(),
    pa.int64(): sa.BigInteger(),
    pa.int32(): sa.Integer(),
    pa.bool_(): sa.Boolean(),
}


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
