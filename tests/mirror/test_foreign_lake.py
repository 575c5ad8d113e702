"""A store changes its own lake and no other's: by a number that is in ledger and lake, whatever batches both know."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError, MedalionError
from medalion.store.store import Store
from olap.delta.ownership import OWNER, shown_store
from olap.delta.tables import LakeTable
from olap.places.folder import Folder
from oltp.schema import migrate
from tests.support.commands import run
from tests.support.lake import pin_of, table_of
from tests.support.observed import instruments, rows_at
from tests.support.postgres import fresh_database

_LATER = (OWNER, "medalion-added", "medalion-moved")
_CHANGES: dict[str, Callable[[Store], object]] = {
    "run": lambda store: store.mirror.run([STOCK_QUOTES]),
    "write": lambda store: store.write(STOCK_QUOTES, rows_at(50)),
    "delete": lambda store: store.delete(STOCK_QUOTES, symbols="AAA"),
    "import": lambda store: store.import_history(STOCK_QUOTES, rows_at(50)),
    "compact": lambda store: store.mirror.compact([STOCK_QUOTES]),
    "compact meanwhile": lambda store: store._parts.mirror.compact_meanwhile(STOCK_QUOTES),
    "vacuum": lambda store: store.mirror.vacuum([STOCK_QUOTES], older_than=timedelta()),
    "retain rows": lambda store: store.mirror.retain([STOCK_QUOTES], rows_older_than=timedelta()),
    "retain versions": lambda store: store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta()),
    "heal": lambda store: store.mirror.verify([STOCK_QUOTES], heal=True),
    "rebind": lambda store: store.mirror.rebind([STOCK_QUOTES]),
    "anchor": lambda store: store._parts.anchors.run(),
}


def opened(url: str, data_dir: Path, lake: Path) -> Store:
    return medalion.open(url, data_dir=data_dir, lake=str(lake), mirror_background=False)


def content(lake: Path) -> dict[str, str]:
    files = (path for path in lake.rglob("*") if path.is_file() and path.name != ".writable")
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def fill(store: Store) -> None:
    """Nine small files, all of which are worth compacting, and an anchor."""
    instruments(store, STOCK_QUOTES.kind)
    for minute in range(0, 90, 10):
        store.write(STOCK_QUOTES, rows_at(minute))
        store.mirror.run([STOCK_QUOTES])
    store._parts.anchors.run()


@pytest.fixture
def other_url() -> Iterator[str]:
    with fresh_database() as url:
        migrate.upgrade(url)
        yield url


def without_owner(lake: Path) -> None:
    """Make the lake one of before stores had numbers."""
    for commit in lake.glob("*/_delta_log/*.json"):
        actions = map(json.loads, commit.read_text().splitlines())
        left = [action for action in actions if action.get("txn", {}).get("appId") not in _LATER]
        commit.write_text("".join(json.dumps(action) + "\n" for action in left))


@pytest.fixture
def lakes(database_url: str, other_url: str, data_dir: Path) -> Path:
    """The lake of one store beside that of another, both with the same instruments and as many batches."""
    for url, name in ((database_url, "one"), (other_url, "other")):
        with opened(url, data_dir / name, data_dir / f"lake-{name}") as store:
            fill(store)
    return data_dir


@pytest.mark.parametrize("is_numbered", [True, False], ids=["numbered", "of before"])
def test_nothing_changes_another_stores_lake(
    lakes: Path,
    other_url: str,
    is_numbered: bool,
) -> None:
    if not is_numbered:
        without_owner(lakes / "lake-one")
    before = content(lakes / "lake-one")
    with opened(other_url, lakes / "other", lakes / "lake-one") as store:
        for name, change in _CHANGES.items():
            if name == "heal" and not is_numbered:
                assert "repaired" not in store.mirror.verify([STOCK_QUOTES], heal=True)["outcome"]
            elif name != "rebind" or is_numbered:
                with pytest.raises((CorruptLakeError, InputError)):
                    change(store)
            assert content(lakes / "lake-one") == before, name
        with pytest.raises(CorruptLakeError):
            store.read(STOCK_QUOTES)
        assert store.mirror.verify([STOCK_QUOTES]).height


def test_a_commit_itself_looks_whose_the_table_is(lakes: Path) -> None:
    table = LakeTable(Folder(lakes / "lake-one"), STOCK_QUOTES, store=7)
    pin = table.refresh()
    staged = table.stage(pl.concat([table.scan(pin.files.path).collect()] * 2), {})
    with pytest.raises(CorruptLakeError, match="belongs to store"):
        table.replace(pin, pin.files, staged)
    with pytest.raises(CorruptLakeError, match="belongs to store"):
        table.append(staged, batch=pin.batch + 1, nonce=1)
    assert table.refresh().version == pin.version
    with pytest.raises(CorruptLakeError, match="belongs to store"):
        table.owned()


def test_a_lake_that_appears_under_an_empty_store_is_not_taken(lakes: Path) -> None:
    without_owner(lakes / "lake-one")
    with fresh_database() as url, opened(url, lakes / "new", lakes / "lake-new") as store:
        shutil.rmtree(lakes / "lake-new")
        shutil.copytree(lakes / "lake-one", lakes / "lake-new")
        with pytest.raises(CorruptLakeError, match="that of another store"):
            store.mirror.run()
    assert content(lakes / "lake-new") == content(lakes / "lake-one")


@pytest.mark.parametrize("is_numbered", [True, False], ids=["numbered", "of before"])
def test_an_empty_store_refuses_the_lake_of_another_when_it_opens(
    lakes: Path,
    is_numbered: bool,
) -> None:
    if not is_numbered:
        without_owner(lakes / "lake-one")
    before = content(lakes / "lake-one")
    with fresh_database() as url:
        migrate.upgrade(url)
        with pytest.raises(CorruptLakeError, match=r"belongs to store|had no number"):
            opened(url, lakes / "new", lakes / "lake-one")
    assert content(lakes / "lake-one") == before


def test_a_store_that_only_has_books_owns_its_anchors(database_url: str, other_url: str, data_dir: Path) -> None:
    with opened(database_url, data_dir, data_dir / "lake") as store:
        instruments(store, STOCK_QUOTES.kind)
        store._parts.anchors.run()
    with pytest.raises(CorruptLakeError, match="belongs to store"):
        opened(other_url, data_dir / "other", data_dir / "lake")


def test_a_lake_of_before_is_adopted_by_its_store_once(lakes: Path, database_url: str) -> None:
    without_owner(lakes / "lake-one")
    with opened(database_url, lakes / "one", lakes / "lake-one") as store:
        rows = store.read(STOCK_QUOTES)
        assert pin_of(store).owner is None
        store.mirror.run()
        pin = pin_of(store)
        assert pin.owner == table_of(store, STOCK_QUOTES).store
        assert pin.sum == pin.added
        store.mirror.run()
        assert pin_of(store).version == pin.version
        assert store.read(STOCK_QUOTES).equals(rows)
        assert store.mirror.verify().is_empty()


def test_rebinding_takes_over_what_was_named(lakes: Path, database_url: str, other_url: str) -> None:
    shutil.copytree(lakes / "lake-one", lakes / "copy")
    with opened(other_url, lakes / "other", lakes / "lake-one") as store:
        with pytest.raises(InputError, match="belongs to store") as refused:
            store.mirror.rebind()
        number = re.findall(r"--adopt ([0-9a-f]{16})", str(refused.value))[0]
        with pytest.raises(InputError, match="belongs to store"):
            store.mirror.rebind(adopt="0" * 16)
        told = store.mirror.rebind(adopt=number)
        assert told.filter(pl.col("subject") == "owner").height == 2
        assert store.mirror.verify([STOCK_QUOTES]).is_empty()
        owner = store.mirror.status(["stock_quote_snapshots"])["owner"].item()
        assert owner == shown_store(table_of(store, STOCK_QUOTES).store or 0) != number
        store.write(STOCK_QUOTES, rows_at(200))
        store.mirror.run()
        store._parts.anchors.run()
    with opened(database_url, lakes / "one", lakes / "lake-one") as store:
        for change in ("compact", "vacuum", "write", "anchor"):
            with pytest.raises(MedalionError, match=owner):
                _CHANGES[change](store)
    with opened(database_url, lakes / "one", lakes / "copy") as store:
        assert store.mirror.verify().is_empty()


def test_a_fresh_database_takes_its_lake_back_by_command_alone(lakes: Path, database_url: str) -> None:
    """Books from a backup of before their first batch have another number, and no way in but this."""
    with opened(database_url, lakes / "one", lakes / "lake-one") as store:
        number = shown_store(pin_of(store).owner or 0)
    with fresh_database() as url:
        migrate.upgrade(url)
        with opened(url, lakes / "new", lakes / "elsewhere") as store:
            instruments(store, STOCK_QUOTES.kind)
        arguments = ("--url", url, "--data-dir", str(lakes / "new"), "--lake", str(lakes / "lake-one"))
        refused = run("mirror", "rebind", *arguments)
        assert refused.exit_code == 2
        assert number in refused.stderr
        assert run("mirror", "rebind", "--adopt", number, *arguments).exit_code == 0
        with opened(url, lakes / "new", lakes / "lake-one") as store:
            assert store.read(STOCK_QUOTES).height == 9 * 4
            assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_store_keeps_its_number_through_a_downgrade(database_url: str, data_dir: Path) -> None:
    with opened(database_url, data_dir, data_dir / "lake") as store:
        number = store._parts.lake.store
    migrate.downgrade(database_url, "0002")
    migrate.upgrade(database_url)
    with opened(database_url, data_dir, data_dir / "lake") as store:
        assert store._parts.lake.store == number
