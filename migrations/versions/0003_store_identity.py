"""store identity."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NOTE = "medalion store "
"""What a downgrade leaves, as the comment of another table: without it the next upgrade would disown the lake."""


def upgrade() -> None:
    op.create_table(
        "store_identity",
        sa.Column("is_only", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("is_only", name=op.f("pk_store_identity")),
    )
    op.execute("ALTER TABLE store_identity ADD CONSTRAINT ck_store_identity_is_only CHECK (is_only)")
    # A version 4 UUID has 122 random bits, of which this keeps 62: Delta keeps such numbers with a sign.
    drawn = "('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint & ((1::bigint << 62) - 1)"
    kept = f"substring(obj_description('mirror_state'::regclass) FROM '^{NOTE}([0-9]+)$')::bigint"
    op.execute(f"INSERT INTO store_identity (id) SELECT coalesce({kept}, {drawn})")
    op.execute("COMMENT ON TABLE mirror_state IS NULL")


def downgrade() -> None:
    op.execute(
        f"DO $$ BEGIN EXECUTE (SELECT format('COMMENT ON TABLE mirror_state IS %L', '{NOTE}' || id) "  # noqa: S608
        "FROM store_identity); END $$"
    )
    op.drop_table("store_identity")
