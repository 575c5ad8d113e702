"""Backups and restorations that are killed at every step: no half looks whole, and the next run clears up."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import InputError, StoreError
from medalion.store.restoration import restore
from medalion.store.store import Store
from oltp.schema import migrate
from oltp.server.place import is_made
from tests.support.backups import fill, hold, sessions, settings
from tests.support.commands import refused, run
from tests.support.postgres import empty_database
from tests.support.programs import begun, exit_code
from tests.support.server_processes import await_that, postmasters, short_folder

KILLS = int(os.environ.get("MEDALION_KILLS", "1"))


@pytest.fixture
def filled(store: Store) -> Store:
    return fill(store)


_DYING = """
import sys
import medalion
from tests.support.backups import dying
from medalion.core.settings import settings_of
from medalion.store.restoration import restore

work, folder, url, data_dir, module, name, when = sys.argv[1:]
dying(module, name, when)
settings = settings_of(url or None, None, data_dir, {"mirror_background": False})
if work == "restore":
    restore(folder, settings)
else:
    with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
        store.backup(folder)
"""


def test_a_backup_that_was_killed_is_none(filled: Store, database_url: str, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    given, left = ("backup", str(backup), database_url, str(tmp_path / "data")), set[Path]()
    for step in (
        ("medalion.store.backups", "carry", "after"),
        ("medalion.store.backups", "dump", "before"),
        ("medalion.store.backups", "_write_manifest", "before"),
        ("olap.places.draft", "Draft.publish", "before"),
    ):
        assert exit_code(_DYING, *given, *step) == -signal.SIGKILL
        assert not backup.exists()
        (now,) = tmp_path.glob("backup.partial-*")  # those before were removed
        assert now not in left
        left.add(now)
    filled.backup(backup)
    assert [path.name for path in tmp_path.glob("backup*")] == ["backup"]
    assert filled.mirror.verify().is_empty()


def test_a_restoration_that_was_killed_is_no_store_or_a_whole_one(filled: Store, tmp_path: Path) -> None:
    backup, place = tmp_path / "backup", tmp_path / "other"
    filled.backup(backup)

    def dies(url: str, *step: str) -> None:
        assert exit_code(_DYING, "restore", str(backup), url, str(place), *step) == -signal.SIGKILL
        await_that(lambda: sessions(url) == 0)

    with empty_database() as url:
        steps: list[tuple[str, str, str]] = [
            ("medalion.store.restoration", "carry", "after"),
            ("olap.places.draft", "Draft.publish", "after"),
        ]
        for step in steps:
            dies(url, *step)
            with pytest.raises(StoreError, match="db upgrade"):
                medalion.open(url, data_dir=place, mirror_background=False)
            if step[1] == "carry":
                (place / "lake").rmdir()  # which opening made
        with pytest.raises(InputError, match="lake is there and not an empty folder"):
            restore(backup, settings(url, place))
        shutil.rmtree(place / "lake")
        assert list(place.glob("*.partial-*")) == []
        dies(url, "medalion.store.restoration", "_check", "before")  # the transaction has ended
        with medalion.open(url, data_dir=place, mirror_background=False) as store:
            assert_frame_equal(store.read(STOCK_QUOTES), filled.read(STOCK_QUOTES))
            hold(url, store)


def test_a_data_folder_that_was_killed_while_it_was_made_is_none(
    filled: Store, own_place: tuple[str, ...], tmp_path: Path
) -> None:
    """By the commands, which make it then, and end the server of the first."""
    backup, place = tmp_path / "backup", short_folder()
    assert run("backup", str(backup), *own_place).exit_code == 0
    data_dir = place / "data"
    other = ("--data-dir", str(data_dir))
    try:
        died = exit_code(_DYING, "restore", str(backup), "", str(data_dir), "medalion.store.restoration", "_check", "")
        assert died == -signal.SIGKILL
        assert not is_made(data_dir)
        assert len(list(place.glob("data.partial-*"))) == 1
        done = run("restore", str(backup), *other)
        assert done.exit_code == 0, done.output
        assert "4 writes in the ledger" in done.stderr
        assert list(place.glob("data.partial-*")) == []
        assert postmasters(place) == []
        assert "there is a store in" in refused(run("restore", str(backup), *other))
        with medalion.open(data_dir=data_dir, mirror_background=False) as store:
            assert_frame_equal(store.read(STOCK_QUOTES), filled.read(STOCK_QUOTES))
            hold(store._parts.embedded.url if store._parts.embedded else "", store)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_killed_at_any_moment_no_half_looks_whole(filled: Store, database_url: str, tmp_path: Path) -> None:
    program = """
import sys
import medalion
from medalion.core.settings import settings_of
from medalion.store.restoration import restore

with medalion.open(sys.argv[1], data_dir=sys.argv[2], mirror_background=False) as store:
    ready()
    store.backup(sys.argv[3])
    restore(sys.argv[3], settings_of(sys.argv[4], None, sys.argv[5], {}))
"""
    chance = random.Random(KILLS)
    for number in range(KILLS):
        folder, place = tmp_path / f"backup-{number}", tmp_path / f"store-{number}"
        with empty_database() as url:
            process = begun(program, database_url, str(tmp_path / "data"), str(folder), url, str(place))
            time.sleep(chance.uniform(0, 1.2))
            process.kill()
            process.join()
            await_that(lambda url=url: sessions(url) == 0)  # type: ignore[misc]  # mypy knows no default of a lambda
            if not folder.exists():
                filled.backup(folder)
            if migrate.current(url) is None:
                shutil.rmtree(place, ignore_errors=True)
                restore(folder, settings(url, place))
            with medalion.open(url, data_dir=place, mirror_background=False) as store:
                assert store.read(STOCK_QUOTES).height == 12
                hold(url, store)
