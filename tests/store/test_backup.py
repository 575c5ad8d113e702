"""A store is carried away at one moment while everything goes on, and brought back whole or not at all."""

import os
import random
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import CorruptLakeError, InputError, StoreError, StoreUnavailableError
from medalion.store.restoration import restore
from medalion.store.store import Store
from olap.delta.anchors import AnchorTable
from olap.delta.contents import TableContents, contents_of_anchors
from oltp.server import dump
from oltp.server.dump import ClientPrograms, client_programs
from oltp.server.engine import libpq_of
from tests.support.backups import fill, hold, restored, settings
from tests.support.lake import working
from tests.support.object_store import LACKING, object_store
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.postgres import empty_database
from tests.support.programs import exit_code


@pytest.fixture
def filled(store: Store) -> Store:
    return fill(store)


def last_recorded(url: str, dataset: Dataset) -> datetime | None:
    with psycopg.connect(libpq_of(url)) as books:
        row = books.execute("SELECT max(recorded_at) FROM writes WHERE dataset = %s", (dataset.name,)).fetchone()
    moment: datetime | None = row[0] if row else None
    return moment


def test_a_backup_is_of_one_moment_whatever_goes_on(store: Store, database_url: str, tmp_path: Path) -> None:
    """Each dataset is written to by one thread, so that what was recorded last tells which writes there are."""
    instruments(store, STOCK_QUOTES.kind)
    minutes, folders = iter(range(0, 10**6, 4)), [tmp_path / f"backup-{number}" for number in range(2)]
    chance = random.Random(1)

    def write() -> None:
        time.sleep(0.05)
        store.write(STOCK_QUOTES, rows_at(next(minutes)))
        store.assets.create(symbol=f"A{next(minutes)}", name="A", asset_type="stock")
        if chance.random() < 0.2:
            store.delete(STOCK_QUOTES, symbols="AAA", end=START + timedelta(minutes=chance.randrange(300)))

    def bring() -> None:
        time.sleep(0.2)
        start = START + timedelta(days=chance.randrange(400))
        store.import_history(STOCK_BARS, sample(STOCK_BARS, 6, start=start))

    def keep() -> None:
        chance.choice((store.mirror.compact, store.mirror.prune, store.audit.anchor))()
        store.mirror.vacuum([STOCK_QUOTES, STOCK_BARS], older_than=timedelta())

    write()
    bring()
    with working(write, bring, lambda: store.mirror.run(settle=True), keep) as wrong:
        for folder in folders:
            time.sleep(0.3)
            assert store.backup(folder).folder == folder
    assert wrong == []
    store.mirror.run(settle=True)
    for number, folder in enumerate(folders):
        with restored(folder, tmp_path / f"store-{number}", link=number == 1) as (url, other):
            quotes = other.read(STOCK_QUOTES)
            other.mirror.run()  # an import that was claimed at that moment is seen once it is in the lake
            for dataset in (STOCK_QUOTES, STOCK_BARS):
                moment = last_recorded(url, dataset)
                assert moment is not None
                assert_frame_equal(other.read(dataset), store.read(dataset, as_of=moment))
            assert_frame_equal(other.read(STOCK_QUOTES), quotes)
            assert other.assets.count() > 2
            hold(url, other)
    assert store.mirror.verify().is_empty()


def test_the_mirror_may_be_quicker_at_every_step(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches between pin and snapshot, and hot rows that would be emptied between snapshot and dump."""
    pruned: list[int] = []

    def goes_on(minute: int) -> None:
        filled.write(STOCK_QUOTES, rows_at(minute))
        filled.mirror.run()
        filled.mirror.compact_meanwhile(STOCK_QUOTES)
        pruned.append(filled.mirror.prune())

    def pinned(table: AnchorTable) -> TableContents:
        goes_on(30)
        goes_on(40)
        filled.write(STOCK_QUOTES, rows_at(50))
        return contents_of_anchors(table)

    def dumped(*given: Any, **named: Any) -> None:
        goes_on(60)
        dump.dump(*given, **named)

    monkeypatch.setattr("medalion.mirror.basis.contents_of_anchors", pinned)
    monkeypatch.setattr("medalion.store.backups.dump", dumped)
    filled.backup(tmp_path / "backup")
    assert pruned == [0, 0, 0]
    assert filled.mirror.prune() > 0
    with restored(tmp_path / "backup", tmp_path / "other") as (url, other):
        assert other.read(STOCK_QUOTES).height == 24
        hold(url, other)


def test_what_died_half_way_is_finished_by_the_copy(filled: Store, database_url: str, tmp_path: Path) -> None:
    """An import that was claimed has its files in the backup, though no commit names them yet."""
    program = """
import os, signal, sys
import medalion
from olap.delta.tables import LakeTable
from medalion.core.datasets import STOCK_QUOTES
from tests.support.observed import rows_at

LakeTable.append = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with medalion.open(sys.argv[1], data_dir=sys.argv[2], mirror_background=False) as store:
    store.import_history(STOCK_QUOTES, rows_at(400), source="manual")
"""
    assert exit_code(program, database_url, str(tmp_path / "data")) == -signal.SIGKILL
    filled.backup(tmp_path / "backup")
    filled.mirror.run(settle=True)
    with restored(tmp_path / "backup", tmp_path / "other") as (url, other):
        other.mirror.run()
        assert_frame_equal(other.read(STOCK_QUOTES), filled.read(STOCK_QUOTES))
        assert other.read(STOCK_QUOTES).height == 16
        hold(url, other)


def test_a_backup_is_private_linked_and_holds_no_secret(filled: Store, tmp_path: Path) -> None:
    done = filled.backup(tmp_path / "backup")
    assert (done.writes, done.lake_rows) == (4, 38)
    found = [*(tmp_path / "backup").rglob("*"), tmp_path / "backup"]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600, 0o700}
    assert {path.stat().st_nlink for path in found if path.suffix == ".parquet"} == {2}
    assert sum(path.stat().st_size for path in found if path.is_file() and path.name != "backup.json") == done.bytes
    address, environment = dump._address("postgresql://me:secret@db.example/trading?sslmode=require")
    assert "secret" not in address
    assert environment["PGPASSWORD"] == "secret"
    with pytest.raises(InputError, match="sslpassword"):
        dump._address("postgresql://me@db.example/trading?sslpassword=secret")


def test_one_byte_of_damage_is_refused_before_anything_is_made(filled: Store, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    filled.backup(backup)
    files = [path for path in backup.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".dump", ".parquet"}
    with empty_database() as url:
        for path in files:
            content = bytearray(path.read_bytes())
            path.unlink()  # it may be linked
            place = next(place for place in range(len(content) // 2, len(content)) if content[place] > 32)
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(StoreError, match=f"{path.name}.* is damaged"):
                restore(backup, settings(url, tmp_path / "other"))
            path.write_bytes(content[:-2])
            with pytest.raises(StoreError, match=f"{path.name}.* is damaged"):
                restore(backup, settings(url, tmp_path / "other"))
            path.write_bytes(content)
        assert not (tmp_path / "other").exists()
        restore(backup, settings(url, tmp_path / "other"))
    assert filled.mirror.verify().is_empty()


def test_what_is_there_is_never_written_over(filled: Store, database_url: str, tmp_path: Path) -> None:
    backup, used = tmp_path / "backup", tmp_path / "used"
    used.mkdir()
    (used / "mine").touch()
    for folder in (used, used / "mine", used / "mine" / "below"):
        with pytest.raises(InputError, match=r"not an empty folder|cannot be"):
            filled.backup(folder)
    with pytest.raises(InputError, match="lies in the lake"):
        filled.backup(tmp_path / "data" / "lake" / "backup")
    filled.backup(backup)
    with pytest.raises(InputError, match="not an empty folder"):
        filled.backup(backup)
    with pytest.raises(InputError, match="is no backup"):
        restore(used, settings(database_url, tmp_path / "other"))
    with pytest.raises(InputError, match="has a table"):
        restore(backup, settings(database_url, tmp_path / "other"))
    with pytest.raises(InputError, match="not an empty folder"):
        restore(backup, settings(None, used))
    with empty_database() as url:
        with pytest.raises(InputError, match="not an empty folder"):
            restore(backup, settings(url, tmp_path / "other", used))
        with psycopg.connect(libpq_of(url)) as books:
            books.execute("CREATE TABLE mine (id int)")  # nobody's business
        restore(backup, settings(url, tmp_path / "other"))
    assert [path.name for path in tmp_path.glob("*.partial-*")] == []


def test_a_lake_and_a_ledger_that_do_not_belong_together_are_no_backup(
    filled: Store, database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(libpq_of(database_url)) as books:
        books.execute("UPDATE mirror_batches SET nonce = nonce + 1")
    with pytest.raises(CorruptLakeError, match="do not belong together"):
        filled.backup(tmp_path / "backup")
    assert [path.name for path in tmp_path.glob("backup*")] == []


def test_without_programs_that_fit_the_server_it_says_so(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "_installed", lambda: iter([ClientPrograms(Path("/16"), 16), ClientPrograms(Path(), 12)]))
    with pytest.raises(StoreError, match=r"pg_dump here is of 16, which cannot read it; install .* or newer"):
        filled.backup(tmp_path / "backup")
    assert client_programs(13).major == 16
    monkeypatch.setattr(dump, "_installed", lambda: iter(()))
    with pytest.raises(StoreUnavailableError, match="no pg_dump here"):
        filled.backup(tmp_path / "backup")
    monkeypatch.undo()
    monkeypatch.setattr("oltp.server.dump._address", lambda libpq: ("dbname=nothing host=/nowhere", {**os.environ}))
    with pytest.raises(StoreError, match=r"pg_dump failed: .*/nowhere"):
        filled.backup(tmp_path / "backup")
    assert [path.name for path in tmp_path.glob("backup*")] == []


@pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")
def test_a_lake_in_a_bucket_comes_down_and_goes_up_again(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        lake, other = server.bucket(), server.bucket()
        with medalion.open(database_url, lake=lake, data_dir=tmp_path / "data", mirror_background=False) as store:
            instruments(store, STOCK_QUOTES.kind)
            store.write(STOCK_QUOTES, rows_at(0))
            store.mirror.run()
            store.mirror.prune()
            store.write(STOCK_QUOTES, rows_at(10))
            store.backup(tmp_path / "backup")
            expected = store.read(STOCK_QUOTES)
            moved = store.mirror.move(server.bucket())
        with medalion.open(database_url, lake=moved.lake, data_dir=tmp_path / "data", mirror_background=False) as store:
            assert_frame_equal(store.read(STOCK_QUOTES), expected)
        with restored(tmp_path / "backup", tmp_path / "to", lake=other) as (_, store):
            assert_frame_equal(store.read(STOCK_QUOTES), expected)
            assert store.mirror.verify([STOCK_QUOTES]).is_empty()
        with empty_database() as url, pytest.raises(InputError, match="is not empty"):
            restore(tmp_path / "backup", settings(url, tmp_path / "to", other))
