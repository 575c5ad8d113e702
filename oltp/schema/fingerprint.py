"""A digest of the schema that a database has, and the digests of what the revisions of this release make.

`migrations/digests.json` has one for each revision, with the tables it is about: a revision that is edited once it has
landed makes another schema, which a test notices. Compared are columns with their types, keys and checks with the
members they allow, unique indexes, our triggers and the text of our functions; in words that every supported
PostgreSQL has in common. Tables that are not ours, and other indexes and triggers, are nobody's business.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from medalion.core.errors import StoreError
from oltp.schema.revision import current, folder, head
from oltp.server.engine import Connection, one

_STATE = """
    WITH ours AS (
        SELECT oid, relname FROM pg_class
        WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relkind IN ('r', 'p')
        AND relname = ANY(%(tables)s)
    ), facts AS (
        SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull) AS fact
        FROM ours JOIN pg_attribute ON attrelid = ours.oid WHERE attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT concat_ws(' ', 'constraint', relname, conname, contype, confdeltype,
                   (SELECT string_agg(member[1], ',') FROM regexp_matches(pg_get_constraintdef(c.oid),
                        '''[^'']*''', 'g') AS member))
        FROM ours JOIN pg_constraint c ON conrelid = ours.oid WHERE contype IN ('p', 'f', 'u', 'c')
        UNION ALL
        SELECT concat_ws(' ', 'unique', ours.relname, i.relname)
        FROM ours JOIN pg_index ON indrelid = ours.oid JOIN pg_class i ON i.oid = indexrelid WHERE indisunique
        UNION ALL
        SELECT concat_ws(' ', 'trigger', relname, tgname, tgenabled, encode(tgargs, 'hex'))
        FROM ours JOIN pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal AND starts_with(tgname, 'medalion_')
        UNION ALL
        SELECT concat_ws(' ', 'function', proname, array_to_string(proconfig, ','),
                   replace(prosrc, quote_ident(current_schema()) || '.', '@schema.'))
        FROM pg_proc
        WHERE pronamespace = quote_ident(current_schema())::regnamespace AND starts_with(proname, 'medalion_')
    )
    SELECT encode(sha256(convert_to(string_agg(fact, E'\\n' ORDER BY fact COLLATE "C"), 'UTF8')), 'hex') FROM facts
"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a revision makes: the tables that are ours then, and the digest of the schema."""

    tables: tuple[str, ...]
    digest: str


@cache
def sealed() -> dict[str, Sealed]:
    """Of each revision of this release what it makes."""
    known: dict[str, dict[str, str]] = json.loads(path().read_text(encoding="utf-8"))
    return {number: Sealed(tuple(made["tables"].split()), made["digest"]) for number, made in known.items()}


def path() -> Path:
    """The file of the digests."""
    return folder() / "digests.json"


def digest(connection: Connection, tables: tuple[str, ...]) -> str:
    """That of the schema which the database has now."""
    (found,) = one(connection.execute(_STATE, {"tables": list(tables)}).fetchone())
    return str(found)


def checked_revision(connection: Connection) -> str | None:
    """The revision the database is at; None if it has no schema yet.

    Raises:
        StoreError: it is at a revision that this release does not have, or its schema is not what that revision makes.
    """
    found = current(connection)
    if found is None:
        return None
    made = sealed().get(found)
    if made is None:
        raise StoreError(
            f"the schema is at revision {found}, which this release does not know: it has those up to {head()}. Use "
            "the release that made the database, or a newer one; where another program keeps its own revisions there, "
            "give medalion a database of its own"
        )
    if digest(connection, made.tables) != made.digest:
        raise StoreError(
            f"the schema says it is at revision {found} and is not what this release makes of that: it was made by "
            "another state of the revision, or changed by hand. `medalion db check` names the differences. Undo them, "
            "or export the rows with the release that made them and load them into a new store"
        )
    return found
