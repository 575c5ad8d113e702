"""A dataset's tables as SQLAlchemy declares them, derived from the dataset."""

from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from medalion.core.datasets import LEVELS, Column, Dataset
from oltp.hot.tables import HOT_ARRIVAL, LAST_ARRIVAL, NEWEST, last_name


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
        *(sa.Column(f"newest_{name}", sql_type(dataset.stored.field(name).type), nullable=False) for name in NEWEST),
        sa.PrimaryKeyConstraint(*key, name=f"pk_{last_name(dataset)}"),
    )


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
