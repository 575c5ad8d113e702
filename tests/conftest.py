"""One embedded PostgreSQL for the whole run, shared by its worker processes; a database and a lake for each test."""

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

import medalion
from medalion.store.store import Store
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import Connection, parse_url
from tests.support import server
from tests.support.entities import Units
from tests.support.interleaved import connected
from tests.support.postgres import fresh_database

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("medalion", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("medalion"), max_examples=15)
hypothesis.settings.load_profile("medalion")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run the tests that need no PostgreSQL, and start none")


def pytest_configure(config: pytest.Config) -> None:
    server.configure(config, is_quick=config.option.quick)
    if config.option.quick:
        hypothesis.settings.load_profile("quick")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs the server, as its fixtures show."""
    if "postgres" in getattr(item, "fixturenames", ()):
        item.add_marker("server")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long tests first, or at the end one process would wait for the other's."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    if config.option.quick:
        left = [item for item in items if _is_left_out(item)]
        items[:] = [item for item in items if not _is_left_out(item)]
        config.hook.pytest_deselected(items=left)


def _is_left_out(item: pytest.Item) -> bool:
    """Whether a quick run does without it: what needs a server, and what alone would take a third of its time."""
    return any(item.get_closest_marker(name) for name in ("server", "long"))


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the asynchronous drivers need."""
    return "asyncio"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of the server; whatever uses it, however indirectly, is left out of a quick run."""
    return server.server_url()


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A migrated database without rows."""
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="module")
def url(postgres: str) -> Iterator[str]:
    """A migrated database that the tests of a module share, each with accounts of its own."""
    with fresh_database() as url:
        yield url


@pytest.fixture
def store(database_url: str, data_dir: Path) -> Iterator[Store]:
    """An open store without rows, which mirrors only when told to."""
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        yield store


@pytest.fixture
def own_place(database_url: str, data_dir: Path) -> tuple[str, ...]:
    """The command line's options for the store of this test's own, without rows."""
    return "--url", database_url, "--data-dir", str(data_dir)


@pytest.fixture
def books(database_url: str) -> Iterator[Connection]:
    """A connection to the store's database, beside the store."""
    with connected(database_url) as connection:
        yield connection


@pytest.fixture
async def units(database_url: str) -> AsyncIterator[Units]:
    """What makes a unit of work in a database without rows."""
    engine = create_async_engine(parse_url(database_url))
    made = sessions(engine)
    yield lambda: UnitOfWork(made)
    await engine.dispose()
