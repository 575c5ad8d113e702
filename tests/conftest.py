"""One embedded PostgreSQL for the whole run, shared by its worker processes; a database and a lake for each test."""

import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

import medalion
from medalion.store.store import Store
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import Connection, parse_url
from tests.support.entities import Units
from tests.support.interleaved import connected
from tests.support.postgres import fresh_database, libpq

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("medalion", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("medalion")


def pytest_configure(config: pytest.Config) -> None:
    """Start the server, or in a worker join it; MEDALION_TEST_URL names another server instead."""
    if "MEDALION_TEST_URL" in os.environ and "MEDALION_TEST_DIR" not in os.environ:
        return
    if "MEDALION_TEST_DIR" not in os.environ:
        # Not pytest's own folder: when root runs the tests, PostgreSQL runs as another user, who must reach it.
        folder = tempfile.mkdtemp(prefix="medalion-tests-")
        Path(folder).chmod(0o755)
        os.environ["MEDALION_TEST_DIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop("MEDALION_TEST_DIR"), ignore_errors=True))
    server = EmbeddedPostgres.start(Path(os.environ["MEDALION_TEST_DIR"]) / "server")
    # Killed processes lose nothing by it, only a power cut would; a database for each test costs half as much.
    with psycopg.connect(libpq(server.url), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    config.add_cleanup(server.stop)
    os.environ["MEDALION_TEST_URL"] = server.url


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first, or at the end one process would wait for the other's."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


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


@pytest.fixture
def database_url() -> Iterator[str]:
    """A migrated database without rows."""
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
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
