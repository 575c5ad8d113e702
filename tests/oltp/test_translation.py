"""A driver's error is ours, and only one about the connection says that PostgreSQL is not available."""

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors as pg

from medalion.core.errors import ConflictError, InputError, MedalionError, StoreError, StoreUnavailableError
from oltp.server.engine import Connection, parse_url
from oltp.server.translation import translated, translation


def raised(kind: type[pg.Error], words: str = "") -> pg.Error:
    return kind(words or kind.__name__)


@pytest.mark.parametrize(
    "error",
    [
        raised(pg.AdminShutdown),
        raised(pg.CrashShutdown),
        raised(pg.CannotConnectNow),
        raised(pg.TooManyConnections),
        raised(pg.ConnectionFailure),
        raised(pg.OperationalError, 'connection failed: connection to server at "127.0.0.1", port 1 failed'),
        raised(pg.OperationalError, "consuming input failed: server closed the connection unexpectedly"),
        raised(pg.OperationalError, "the connection is lost"),
        raised(pg.OperationalError, "the connection is closed"),
        raised(pg.InterfaceError, "the connection is closed"),
        raised(pg.OperationalError, "failed to resolve host 'nowhere'"),
        raised(pg.OperationalError, "connection timeout expired"),
    ],
    ids=str,
)
def test_what_is_about_the_connection_says_to_try_again(error: pg.Error) -> None:
    ours = translation(error)
    assert isinstance(ours, StoreUnavailableError)
    assert "not available" in str(ours)


@pytest.mark.parametrize(
    "error",
    [
        raised(pg.DiskFull),
        raised(pg.OutOfMemory),
        raised(pg.ConfigurationLimitExceeded),
        raised(pg.ProgramLimitExceeded),
        raised(pg.StatementTooComplex),
        raised(pg.TooManyColumns),
        raised(pg.IoError),
        raised(pg.QueryCanceled),
        raised(
            pg.OperationalError, "sending query and params failed: number of parameters must be between 0 and 65535"
        ),
        raised(pg.InterfaceError, "cannot convert"),
    ],
    ids=str,
)
def test_what_is_not_about_the_connection_is_never_called_not_available(error: pg.Error) -> None:
    ours = translation(error)
    assert isinstance(ours, StoreError)
    assert not isinstance(ours, StoreUnavailableError)
    assert "not available" not in str(ours)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT 1 / 0", InputError),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StoreUnavailableError),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)", StoreError),
        ("SET LOCAL lock_timeout = 1; LOCK accounts", ConflictError),
    ],
)
def test_a_server_says_the_same(
    books: Connection, database_url: str, statement: str, kind: type[MedalionError]
) -> None:
    engine = sa.create_engine(parse_url(database_url), poolclass=sa.NullPool)
    books.execute("BEGIN")
    books.execute("LOCK accounts")
    with pytest.raises(kind) as caught, translated(), engine.begin() as connection:
        connection.execute(sa.text(statement))
    books.execute("ROLLBACK")
    assert ("not available" in str(caught.value)) == (kind is StoreUnavailableError)


def test_a_server_that_is_not_there_is_not_available() -> None:
    with pytest.raises(StoreUnavailableError, match="not available"), translated():
        psycopg.connect("host=127.0.0.1 port=1 connect_timeout=2")
