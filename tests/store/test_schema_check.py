"""Opening a store looks at the schema's revision first, and loads what changes it only where it must."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory

import medalion
from medalion.core.errors import StoreError
from oltp.schema import migrate, revision
from oltp.server.embedded import EmbeddedPostgres
from tests.support.postgres import empty_database
from tests.support.server import libpq


class BorrowedServer:
    """Stands for the embedded server: a database of the tests' own server, which is not stopped."""

    pid = None

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_stopped = False

    def is_alive(self) -> bool:
        return True

    def revive(self) -> None:
        raise AssertionError("a server that lives was started again")

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], BorrowedServer]:
    """Has a store without a URL use the database of that one as its embedded server's."""

    def borrow(url: str) -> BorrowedServer:
        server = BorrowedServer(url)
        monkeypatch.setattr(EmbeddedPostgres, "start", lambda *_, **__: server)
        monkeypatch.delenv("MEDALION_DATABASE_URL", raising=False)
        return server

    return borrow


def at(url: str, number: str) -> None:
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [number])


def refuse(*_: object) -> None:
    raise AssertionError("the schema was changed")


def test_the_newest_revision_is_the_one_alembic_finds() -> None:
    assert revision.head() == ScriptDirectory(str(revision.folder())).get_current_head()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (['revision = "0001"\ndown_revision = None', 'revision: str = "0002"\ndown_revision: str = "0001"'], "0002"),
        (['revision = "0001"', "revision = '0002'\ndown_revision = ('0001', '0000')"], "0002"),
    ],
)
def test_a_revision_upon_which_no_other_builds_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], found: str
) -> None:
    monkeypatch.setattr(revision, "folder", lambda: tmp_path)
    (tmp_path / "versions").mkdir()
    for place, text in enumerate(files):
        (tmp_path / "versions" / f"{place}.py").write_text(text, encoding="utf-8")
    assert revision.head.__wrapped__() == found


@pytest.mark.parametrize(("files", "said"), [([], "holds no migrations"), (["'a'", "'b'"], "ends in a and b")])
def test_migrations_without_one_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], said: str
) -> None:
    monkeypatch.setattr(revision, "folder", lambda: tmp_path)
    (tmp_path / "versions").mkdir()
    for place, name in enumerate(files):
        (tmp_path / "versions" / f"{place}.py").write_text(f"revision = {name}\n", encoding="utf-8")
    with pytest.raises(StoreError, match=said):
        revision.head.__wrapped__()


@pytest.mark.server
def test_an_embedded_database_without_a_schema_gets_it(
    embedded: Callable[[str], BorrowedServer], data_dir: Path
) -> None:
    with empty_database() as url:
        server = embedded(url)
        with medalion.open(data_dir=data_dir, mirror_background=False) as store:
            assert list(store.assets.find()) == []
        assert migrate.current(url) == revision.head()
        assert server.is_stopped


def test_an_embedded_database_of_this_release_is_left_alone(
    embedded: Callable[[str], BorrowedServer], database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded(database_url)
    monkeypatch.setattr(migrate, "upgrade", refuse)
    medalion.open(data_dir=data_dir, mirror_background=False).close()


def test_an_embedded_database_of_a_later_release_is_refused(
    embedded: Callable[[str], BorrowedServer], database_url: str, data_dir: Path
) -> None:
    server = embedded(database_url)
    at(database_url, "9999")
    with pytest.raises(StoreError, match="revision 9999, which this release does not know"):
        medalion.open(data_dir=data_dir, mirror_background=False)
    assert server.is_stopped
    at(database_url, revision.head())


@pytest.mark.parametrize("number", ["0000", "9999"])
def test_another_server_with_another_revision_is_refused(database_url: str, data_dir: Path, number: str) -> None:
    at(database_url, number)
    with pytest.raises(StoreError, match=f"at revision {number}, which this release does not know"):
        medalion.open(database_url, data_dir=data_dir)
    assert migrate.current(database_url) == number
    at(database_url, revision.head())
