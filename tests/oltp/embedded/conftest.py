"""Data folders of the embedded server, and other processes that use it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oltp.server import place as embedded_place
from oltp.server.embedded import EmbeddedPostgres
from tests.support.server_processes import Client, copied, kill_all, short_folder


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each test here starts a server of its own, or tries to."""
    item.add_marker("server")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = short_folder()
    monkeypatch.setattr(embedded_place, "SHARED_PLACE", place / "shared")
    yield place
    kill_all(place)
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A data folder that was used and closed: initdb takes a second."""
    place = short_folder()
    with EmbeddedPostgres.start(place / "data"):
        pass
    yield place / "data"
    shutil.rmtree(place)


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """A data folder without a server, for tests that leave it whole."""
    yield made
    kill_all(made)


@pytest.fixture
def copy(made: Path, place: Path) -> Path:
    """A data folder of its own for a test that damages it."""
    return copied(made, place / "data")


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(data_dir: Path, *user: int) -> Client:
        clients.append(Client(data_dir, *user))
        return clients[-1]

    yield start
    for one in clients:
        if one.process.poll() is None:
            one.kill()
