"""What Alembic does not compare: triggers, functions, the view, sequences, and the members of enums."""

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from oltp.entities.base import Base, Entity
from oltp.entities.operations import WRITE_IDS
from oltp.entities.reference import INSTRUMENT_IDS, INSTRUMENTS

RELATIONS = (INSTRUMENTS.name, INSTRUMENT_IDS.name, WRITE_IDS.name)

_TRIGGERS = sa.text("""
    SELECT c.relname AS "table", t.tgname AS name, t.tgenabled = 'O' AS enabled,
           regexp_replace(pg_get_triggerdef(t.oid), '^.* EXECUTE FUNCTION ', '') AS call
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
""")
_CHECKS = sa.text("""
    SELECT conname AS name, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'c' AND connamespace = current_schema()::regnamespace
""")
_RELATIONS = sa.text("SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace")


def differences(connection: sa.Connection) -> Iterator[str]:
    """One line for everything missing, switched off or different."""
    yield from _of_triggers(connection)
    yield from _of_checks(connection)
    present = set(connection.scalars(_RELATIONS))
    yield from (f"{name} is missing" for name in RELATIONS if name not in present)


def in_words(difference: Any) -> str:
    """One of Alembic's differences as a line; what is added or removed is what the database lacks or has too many."""
    if isinstance(difference, list):
        return "; ".join(map(in_words, difference))
    action, *what = difference
    return f"{action.replace('_', ' ')}: " + ", ".join(str(part) for part in what if part is not None)


def needed_triggers() -> dict[tuple[str, str], str]:
    """(table, trigger) → the call it makes, as the mapped classes need it."""
    needed = {}
    for mapper in Base.registry.mappers:
        entity, table = mapper.class_, mapper.local_table
        if not issubclass(entity, Entity) or not isinstance(table, sa.Table):
            continue
        if entity.append_only:
            needed[table.name, "medalion_append_only"] = "medalion_append_only()"
        elif entity.audited:
            needed[table.name, "medalion_audit"] = "medalion_audit()"
        if parents := sorted((key.parent.name, key.column.table.name) for key in table.foreign_keys):
            pairs = ", ".join(f"'{name}', '{parent}'" for name, parent in parents)
            needed[table.name, "medalion_live_parents"] = f"medalion_live_parents({pairs})"
            needed.update({(parent, "medalion_restrict"): "medalion_restrict()" for _, parent in parents})
    return needed


def _of_triggers(connection: sa.Connection) -> Iterator[str]:
    found = {(row.table, row.name): row for row in connection.execute(_TRIGGERS)}
    for (table, name), call in sorted(needed_triggers().items()):
        row = found.get((table, name))
        if row is None:
            yield f"trigger {name} on {table} is missing"
        elif not row.enabled:
            yield f"trigger {name} on {table} is switched off"
        elif row.call != call:
            yield f"trigger {name} on {table} calls {row.call}, expected {call}"


def _of_checks(connection: sa.Connection) -> Iterator[str]:
    found = {row.name: row.definition for row in connection.execute(_CHECKS)}
    for table in Base.metadata.sorted_tables:
        of_columns = [constraint for column in table.columns for constraint in column.constraints]
        for constraint in sorted({*table.constraints, *of_columns}, key=lambda constraint: str(constraint.name)):
            if isinstance(constraint, sa.CheckConstraint) and constraint.name not in found:
                yield f"check {constraint.name} on {table.name} is missing"
        for column in table.columns:
            if isinstance(column.type, sa.Enum):
                stored = set(re.findall(r"'([^']*)'", found.get(f"ck_{table.name}_{column.type.name}", "")))
                if stored != set(column.type.enums):
                    yield f"{table.name}.{column.name} allows {sorted(stored)}, expected {sorted(column.type.enums)}"
