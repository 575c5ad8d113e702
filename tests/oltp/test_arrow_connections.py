"""Arrow connections of a store: none is left open, whatever ends what it was for."""

import gc
import warnings
from collections.abc import Iterator

import pytest
from adbc_driver_postgresql import dbapi

from medalion.core.errors import StoreUnavailableError
from oltp.server.engine import Postgres


@pytest.fixture
def postgres(database_url: str) -> Iterator[Postgres]:
    opened = Postgres(database_url)
    opened.open()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield opened
        opened.close()
        gc.collect()  # one that was forgotten would warn here


def test_one_that_is_given_back_after_the_store_was_closed_is_closed(postgres: Postgres) -> None:
    with postgres.arrow() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        postgres.close()
    with pytest.raises(dbapi.ProgrammingError, match="AdbcConnectionInit first"):
        connection.cursor()


def test_one_that_the_server_ends_before_its_settings_is_closed(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = dbapi.connect

    def ended(*arguments: object, **named: object) -> object:
        connection = connect(*arguments, **named)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            ((pid,),) = cursor.fetchall()
        with postgres.connection() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return connection

    monkeypatch.setattr(dbapi, "connect", ended)
    with pytest.raises(StoreUnavailableError), postgres.arrow():
        pass
