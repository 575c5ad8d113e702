"""What triggers look up they find by a key, with a plan that is made once.

The name of a trigger's table has a collation of its own. Compared under that, the key's index does not serve: every
entry of an entity in the audit was read and sorted for each change of it. And a text that is made anew for each parent
of a row is planned anew, which took longer than all else that is done for it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AS_NAME, AS_COLUMN = "entity_type = TG_TABLE_NAME AND", 'entity_type = TG_TABLE_NAME::text COLLATE "default" AND'

SORTED = ("enable_bitmapscan", "enable_sort")

PARENTS = (
    "accounts",
    "assets",
    "fills",
    "option_contracts",
    "polymarket_events",
    "polymarket_outcomes",
    "positions",
    "settlements",
    "strategies",
    "trades",
    "trading_signals",
)
OF_ANY_PARENT = """EXECUTE format('SELECT is_deleted FROM @schema.%I WHERE id = $1 FOR KEY SHARE', TG_ARGV[place + 1])
        INTO hidden USING parent;"""
OF_EACH_PARENT = "\n        ".join(
    [
        "CASE TG_ARGV[place + 1]",
        *(
            f"WHEN '{name}' THEN SELECT is_deleted INTO hidden FROM @schema.{name} "  # noqa: S608 - a name from above
            "WHERE id = parent FOR KEY SHARE;"
            for name in PARENTS
        ),
        "ELSE",
        OF_ANY_PARENT,
        "END CASE;",
    ]
)


def upgrade() -> None:
    _rewrite("medalion_audit", AS_NAME, AS_COLUMN)
    _rewrite("medalion_live_parents", OF_ANY_PARENT, OF_EACH_PARENT)
    # A plan that is made while a table is empty would scan all of it for ever; and whatever the statistics say, the
    # newest entry is the first of its key's index, read backwards.
    op.execute("ALTER FUNCTION medalion_live_parents() SET enable_seqscan = off")
    for setting in SORTED:
        op.execute(f"ALTER FUNCTION medalion_audit() SET {setting} = off")


def downgrade() -> None:
    for setting in SORTED:
        op.execute(f"ALTER FUNCTION medalion_audit() RESET {setting}")
    op.execute("ALTER FUNCTION medalion_live_parents() RESET enable_seqscan")
    _rewrite("medalion_live_parents", OF_EACH_PARENT, OF_ANY_PARENT)
    _rewrite("medalion_audit", AS_COLUMN, AS_NAME)


def _rewrite(function: str, old: str, new: str) -> None:
    old, new = (f"replace($text${part}$text$, '@schema', quote_ident(current_schema()))" for part in (old, new))
    changed = f"replace(pg_get_functiondef('{function}'::regproc), {old}, {new})"
    op.execute(f"DO $do$ BEGIN EXECUTE {changed}; END $do$")
