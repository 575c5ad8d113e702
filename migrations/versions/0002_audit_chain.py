"""The newest entry of an entity's chain is found by its key, however long the chain is.

The name of a trigger's table has a collation of its own. Compared under that, the key's index does not serve: every
entry of the entity was read and sorted for each change of it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AS_NAME, AS_COLUMN = "entity_type = TG_TABLE_NAME AND", 'entity_type = TG_TABLE_NAME::text COLLATE "default" AND'


def upgrade() -> None:
    _rewrite(AS_NAME, AS_COLUMN)


def downgrade() -> None:
    _rewrite(AS_COLUMN, AS_NAME)


def _rewrite(old: str, new: str) -> None:
    function = f"replace(pg_get_functiondef('medalion_audit'::regproc), '{old}', '{new}')"
    op.execute(f"DO $do$ BEGIN EXECUTE {function}; END $do$")
