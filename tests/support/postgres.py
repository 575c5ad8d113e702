"""Databases for tests: copied from a migrated template, and used again once emptied, which is far faster."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from secrets import randbits
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from medalion.core.datasets import DATASETS
from oltp.schema import migrate
from oltp.server.engine import parse_url
from tests.support.server import server_url

_emptied: list[str] = []

_CONNECTIONS = sa.text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
""")
# Some tables refuse to lose rows, and the audit would gain as many. Most have never had any.
_EMPTY = sa.text("""
    DO $$
    DECLARE name text;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR name IN
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
        LOOP
            EXECUTE format('DELETE FROM %I', name);
        END LOOP;
    END $$
""")
_NUMBERED = sa.text("INSERT INTO store_identity (id) VALUES (:id) ON CONFLICT (is_only) DO UPDATE SET id = :id")
# Numbers of objects are copied with the template, so that they say as much as names and definitions.
_SHAPE = sa.text("""
    SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
        SELECT concat_ws(' ', attrelid, relname, attname, atttypid, atttypmod, attnotnull)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped
        UNION ALL SELECT concat_ws(' ', oid, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT concat_ws(' ', oid, convalidated) FROM pg_constraint
        UNION ALL SELECT concat_ws(' ', proname, proconfig, prosrc) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    ) AS shape (part)
""")


def admin_url() -> sa.URL:
    """A server on which databases may be created."""
    return parse_url(server_url())


@contextmanager
def empty_database() -> Iterator[str]:
    """The URL of a database without a schema, dropped afterwards."""
    name = _created("template0")
    try:
        yield _url(name)
    finally:
        _drop(name)


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of a migrated database without rows; a test may do with it what it likes."""
    template = _template()
    name = _emptied.pop() if _emptied else _created(template)
    with _engine(name).begin() as connection:  # a copy of the template is a store of its own here
        connection.execute(_NUMBERED, {"id": randbits(62)})
    try:
        yield _url(name)
    finally:
        if _empty(name):
            _emptied.append(name)
        else:
            _drop(name)


@contextmanager
def backup(url: str) -> Iterator[str]:
    """A copy of the database as it is now, under a URL of its own; whoever is connected to the original is cut off."""
    with _engine(parse_url(url).database or "").connect() as connection:
        connection.execute(_CONNECTIONS)
    name = _created(parse_url(url).database or "")
    try:
        yield _url(name)
    finally:
        _drop(name)


@cache
def _template() -> str:
    name = _created("template0")
    migrate.upgrade(_url(name))
    atexit.register(_drop_all, name)
    return name


@cache
def _shape() -> str:
    with _engine(_template()).connect() as connection:
        return str(connection.scalar(_SHAPE))


def _empty(name: str) -> bool:
    """Whether the database is now as it was made; not if its schema was changed."""
    with _engine(name).begin() as connection:
        connection.execute(_CONNECTIONS)
        if connection.scalar(_SHAPE) != _shape():
            return False
        connection.execute(_EMPTY)
        for sequence in ("instrument_id_seq", "write_id_seq"):
            connection.execute(sa.text(f"ALTER SEQUENCE {sequence} RESTART"))
        states = sa.table("mirror_state", sa.column("dataset"))
        connection.execute(sa.insert(states), [{"dataset": name} for name in DATASETS])
        return True


def _created(template: str) -> str:
    name = f"medalion_test_{uuid4().hex}"
    _run(f"CREATE DATABASE {name} TEMPLATE {template}")
    return name


def _drop(name: str) -> None:
    _run(f"DROP DATABASE {name} WITH (FORCE)")


def _drop_all(template: str) -> None:
    # A server of the tests' own is gone by now, and its databases with it.
    with suppress(OperationalError):
        for name in (*_emptied, template):
            _drop(name)


def _url(database: str) -> str:
    return admin_url().set(database=database).render_as_string(hide_password=False)


def _engine(database: str) -> sa.Engine:
    return sa.create_engine(parse_url(_url(database)), poolclass=sa.NullPool)


def _run(statement: str) -> None:
    engine = sa.create_engine(admin_url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
