"""Databases for tests: each one a copy of a migrated template, which costs tens of milliseconds."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from uuid import uuid4

import sqlalchemy as sa

from oltp import migrate
from oltp.engine import parse_url


def admin_url() -> sa.URL:
    """A server on which databases may be created: MEDALION_TEST_URL."""
    return parse_url(os.environ["MEDALION_TEST_URL"])


@contextmanager
def empty_database() -> Iterator[str]:
    """The URL of a database without a schema, dropped afterwards."""
    with _database("template0") as url:
        yield url


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of a migrated database without rows, dropped afterwards."""
    with _database(_template()) as url:
        yield url


@contextmanager
def _database(template: str) -> Iterator[str]:
    name = f"medalion_test_{uuid4().hex}"
    _run(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _url(name)
    finally:
        _run(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _template() -> str:
    name = f"medalion_template_{uuid4().hex}"
    _run(f"CREATE DATABASE {name} TEMPLATE template0")
    atexit.register(_run, f"DROP DATABASE {name}")
    migrate.upgrade(_url(name))
    return name


def _url(database: str) -> str:
    return admin_url().set(database=database).render_as_string(hide_password=False)


def _run(statement: str) -> None:
    engine = sa.create_engine(admin_url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
