"""Bringing a database to the schema of this release, and saying where it differs from it."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from medalion.core.datasets import DATASETS
from oltp.entities.catalogue import METADATA
from oltp.schema import revision as revisions
from oltp.schema.drift import differences, in_words
from oltp.schema.fingerprint import checked_revision, sealed
from oltp.schema.tables import hot_table, last_table
from oltp.server.engine import Connection, connect, libpq_of, parse_url
from oltp.server.translation import translated

for dataset in DATASETS.values():
    hot_table(dataset, METADATA)
    last_table(dataset, METADATA)

# What it does is said by who asked for it; a program that logs everything need not be told twice.
logging.getLogger("alembic").setLevel(logging.WARNING)

# Two processes that open a new database at once take turns; the number is the name in ASCII.
_LOCK = int.from_bytes(b"medalion")


def upgrade(url: str, revision: str = "head") -> None:
    """The database at `revision`, all of it or, after an error, nothing.

    Raises:
        StoreError: its schema is not what this release makes of the revision that it says it is at.
    """
    with _locked(url) as connection:
        checked_revision(_driver(connection))
        command.upgrade(configuration(connection=connection), revision)


def downgrade(url: str, revision: str = "base") -> None:
    """The database back at `revision`; what later revisions added is gone, with the rows in it."""
    with _locked(url) as connection:
        command.downgrade(configuration(connection=connection), revision)


def current(url: str) -> str | None:
    """The revision the database is at; None if it has no schema yet."""
    with connected(url) as connection:
        return _revision(connection)


def script(url: str = "postgresql+psycopg://") -> str:
    """The SQL that creates the schema, for someone else to run; nothing is connected to."""
    output = io.StringIO()
    command.upgrade(configuration(url=url, output=output), "head", sql=True)
    return output.getvalue()


def check(url: str) -> list[str]:
    """Where the database differs from the mapped classes, one line each; empty if nowhere."""
    with connected(url) as connection:
        context = MigrationContext.configure(connection, opts=options())
        found = _revision(connection)
        return [
            *([] if found == revisions.head() else [f"revision is {found}, expected {revisions.head()}"]),
            *map(in_words, compare_metadata(context, METADATA)),
            *differences(connection),
        ]


def options() -> dict[str, Any]:
    """How Alembic compares and runs, whoever starts it."""
    return {
        "target_metadata": METADATA,
        "include_name": lambda name, kind, _: kind != "table" or name in _ours(),
        # What a column is for may be said better without a migration.
        "autogenerate_plugins": ["alembic.autogenerate.*", "~alembic.autogenerate.comments"],
        "compare_type": True,
        "compare_server_default": True,
    }


def _ours() -> frozenset[str]:
    """The tables that this release has or had before; all others are nobody's business."""
    made = sealed()
    return frozenset(METADATA.tables) | {table for number in made for table in made[number].tables}


def _revision(connection: sa.Connection) -> str | None:
    return revisions.current(_driver(connection))


def _driver(connection: sa.Connection) -> Connection:
    return cast(Connection, connection.connection.driver_connection)


def configuration(
    *, connection: sa.Connection | None = None, url: str | None = None, output: io.StringIO | None = None
) -> Config:
    """Alembic's, for our migrations on that connection, or as text for that URL."""
    config = Config(output_buffer=output or io.StringIO())
    config.set_main_option("script_location", str(revisions.folder()).replace("%", "%%"))
    config.attributes.update(connection=connection, url=url)
    return config


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection of its own, in one transaction.

    Raises:
        StoreError: the server is too old.
        StoreUnavailableError: it does not answer, or refuses.
    """
    libpq = libpq_of(url)
    engine = sa.create_engine(parse_url(url), poolclass=sa.NullPool, creator=lambda: connect(libpq))
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def _locked(url: str) -> Iterator[sa.Connection]:
    with connected(url) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection
