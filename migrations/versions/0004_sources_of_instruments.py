"""sources of instruments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DATASETS = (
    "stock_quote_snapshots",
    "crypto_quote_snapshots",
    "stock_bars",
    "crypto_bars",
    "option_quote_snapshots",
    "polymarket_snapshots",
    "polymarket_trades",
    "polymarket_order_book_snapshots",
)


def upgrade() -> None:
    op.create_table(
        "observed_sources",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("first_write", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "instrument_id", "source", name=op.f("pk_observed_sources")),
    )
    op.create_table(
        "source_preferences",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), nullable=True),
        sa.Column("sources", JSONB(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_preferences")),
    )
    op.create_index(op.f("ix_source_preferences_dataset"), "source_preferences", ["dataset"], unique=False)
    # The first one is known. Of the others the last values tell that there are such, and not in which order they came.
    op.execute(
        "INSERT INTO observed_sources (dataset, instrument_id, source, first_write) "
        "SELECT dataset, instrument_id, source, 0 FROM primary_sources"
    )
    for dataset in DATASETS:
        op.execute(
            "INSERT INTO observed_sources (dataset, instrument_id, source, first_write) "  # noqa: S608
            f"SELECT DISTINCT '{dataset}', instrument_id, source, 1 FROM {dataset}_last "
            "WHERE NOT starts_with(source, 'rollup:') AND NOT starts_with(source, 'downsampled:') "
            "ON CONFLICT DO NOTHING"
        )
    op.drop_table("primary_sources")


def downgrade() -> None:
    op.create_table(
        "primary_sources",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("instrument_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "instrument_id", name=op.f("pk_primary_sources")),
    )
    op.execute(
        "INSERT INTO primary_sources (dataset, instrument_id, source) "
        "SELECT DISTINCT ON (dataset, instrument_id) dataset, instrument_id, source FROM observed_sources "
        "ORDER BY dataset, instrument_id, first_write, source"
    )
    op.drop_index(op.f("ix_source_preferences_dataset"), table_name="source_preferences")
    op.drop_table("source_preferences")
    op.drop_table("observed_sources")
