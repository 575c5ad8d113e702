"""A unit of work whose connection is lost says so, and says what went wrong before."""

from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.errors import StoreUnavailableError
from oltp.repositories.unit_of_work import UnitOfWork, acting_as, sessions
from oltp.server.engine import parse_url
from tests.support.server import libpq

pytestmark = pytest.mark.anyio

_END_ALL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.fixture
async def begun(database_url: str) -> AsyncIterator[Callable[[], UnitOfWork]]:
    """Units of work on a pool that has a connection."""
    engine = create_async_engine(parse_url(database_url))
    made = sessions(engine)
    async with UnitOfWork(made) as unit:
        await unit.assets.any()
    yield lambda: UnitOfWork(made)
    await engine.dispose()


def end_connections(url: str) -> None:
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute(_END_ALL)


async def test_a_lost_connection_is_noticed_on_entering(begun: Callable[[], UnitOfWork], database_url: str) -> None:
    end_connections(database_url)
    with acting_as(reason="because"), pytest.raises(StoreUnavailableError):
        async with begun():
            pass


async def test_a_lost_connection_does_not_hide_the_error_before_it(
    begun: Callable[[], UnitOfWork], database_url: str
) -> None:
    async def work() -> None:
        async with begun() as unit:
            await unit.assets.any()
            end_connections(database_url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
