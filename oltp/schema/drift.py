"""What Alembic does not compare: triggers, functions, the view, sequences, and the members of enums."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from oltp.entities.base import Base, Entity
from oltp.entities.operations import WRITE_IDS
from oltp.entities.reference import INSTRUMENT_IDS, INSTRUMENTS

RELATIONS = (INSTRUMENTS.name, INSTRUMENT_IDS.name, WRITE_IDS.name)

_TRIGGERS = sa.text("""
    SELECT c.relname AS "table", t.tgname AS name, t.tgenabled = 'O' AS enabled,
           regexp_replace(pg_get_triggerdef(t.oid), '^.* EXECUTE FUNCTION ', '') AS call,
           pg_get_triggerdef(t.oid, true) AS definition
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = quote_ident(current_schema())::regnamespace
""")
_CHECKS = sa.text("""
    SELECT conname AS name, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE contype = 'c' AND connamespace = quote_ident(current_schema())::regnamespace
""")
_RELATIONS = sa.text("SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace")


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


class Trigger(NamedTuple):
    """A trigger of a database: the call it makes, whether it is switched on, and the statement that makes it."""

    call: str
    is_on: bool
    definition: str


def triggers(connection: sa.Connection) -> dict[tuple[str, str], Trigger]:
    """The triggers of this database, by table and name."""
    found = connection.execute(_TRIGGERS)
    return {(row.table, row.name): Trigger(row.call, row.enabled, row.definition) for row in found}


def needed_checks() -> list[tuple[sa.Table, sa.CheckConstraint]]:
    """Every check of the mapped classes, those of enums too, with its table; by the names of both."""
    found = [
        (table, check)
        for table in Base.metadata.sorted_tables
        for check in {*table.constraints, *(each for column in table.columns for each in column.constraints)}
        if isinstance(check, sa.CheckConstraint)
    ]
    return sorted(found, key=lambda pair: (pair[0].name, str(pair[1].name)))


def checks(connection: sa.Connection) -> dict[str, str]:
    """The checks of this database by name, in the words of PostgreSQL."""
    return {row.name: row.definition for row in connection.execute(_CHECKS)}


def differing_enums(found: Mapping[str, str]) -> Iterator[tuple[sa.Column[Any], set[str], str, set[str]]]:
    """Columns whose check allows other members than their enum has: its members, the check's name, what it allows."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, sa.Enum):
                name, members = f"ck_{table.name}_{column.type.name}", set(column.type.enums)
                allowed = set(re.findall(r"'([^']*)'", found.get(name, "")))
                if allowed != members:
                    yield column, members, name, allowed


def _of_triggers(connection: sa.Connection) -> Iterator[str]:
    found = triggers(connection)
    for (table, name), call in sorted(needed_triggers().items()):
        trigger = found.get((table, name))
        if trigger is None:
            yield f"trigger {name} on {table} is missing"
        elif not trigger.is_on:
            yield f"trigger {name} on {table} is switched off"
        elif trigger.call != call:
            yield f"trigger {name} on {table} calls {trigger.call}, expected {call}"


def _of_checks(connection: sa.Connection) -> Iterator[str]:
    found = checks(connection)
    for table, check in needed_checks():
        if check.name not in found:
            yield f"check {check.name} on {table.name} is missing"
    for column, members, _, allowed in differing_enums(found):
        yield f"{column.table.name}.{column.name} allows {sorted(allowed)}, expected {sorted(members)}"
