"""Runs the migrations: on the connection it is given, or as `alembic` on the database of MEDALION_DATABASE_URL."""

import os

import sqlalchemy as sa
from alembic import context

from medalion.core.errors import InputError
from oltp.schema.migrate import options
from oltp.server.engine import parse_url


def _url() -> sa.URL:
    url = context.config.attributes.get("url") or os.environ.get("MEDALION_DATABASE_URL")
    if not url:
        raise InputError("no database is named; set MEDALION_DATABASE_URL, for instance postgresql://user@host/name")
    return parse_url(url)


def _run(connection: sa.Connection) -> None:
    context.configure(connection=connection, **options(), **context.config.attributes.get("options", {}))
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(url=_url(), literal_binds=True, dialect_opts={"paramstyle": "named"}, **options())
    with context.begin_transaction():
        context.run_migrations()
elif given is not None:
    _run(given)
else:
    with sa.create_engine(_url(), poolclass=sa.NullPool).connect() as connection:
        _run(connection)
