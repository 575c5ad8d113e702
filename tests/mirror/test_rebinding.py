"""A lake and a ledger from different moments become one store again: nothing that either holds is lost or doubled."""

import shutil
import signal
import subprocess
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal
from psycopg import sql

import medalion
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError, StoreUnavailableError
from medalion.core.settings import settings_of
from medalion.store.parts import Parts
from medalion.store.store import Store
from oltp.server.engine import Postgres
from oltp.server.place import binaries
from tests.support.lake import pin_of, stored, table_of
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.postgres import admin_url, backup, fresh_database
from tests.support.programs import exit_code


def opened(url: str, data_dir: Path) -> Store:
    return medalion.open(url, data_dir=data_dir, mirror_background=False)


def execute(url: str, statement: sql.Composed | str) -> None:
    with psycopg.connect(Postgres(url).libpq, autocommit=True) as connection:
        connection.execute(statement.encode() if isinstance(statement, str) else statement)


@pytest.fixture
def started(database_url: str, data_dir: Path) -> str:
    """A store with two writes in the lake, and nobody at it; the URL of its books."""
    with opened(database_url, data_dir) as store:
        instruments(store, STOCK_QUOTES.kind)
        for minute in (0, 10):
            store.write(STOCK_QUOTES, rows_at(minute))
            store.mirror.run([STOCK_QUOTES])
        store.mirror.prune()
    return database_url


def hold(store: Store, expected: pl.DataFrame) -> None:
    """The store reads as expected by every way, verifies, and can go on."""
    assert_frame_equal(store.read(STOCK_QUOTES), expected)
    assert store.mirror.verify().is_empty()
    for symbol in ("AAA", "BBB"):
        rows = expected.filter(symbol=symbol)
        assert store.latest(STOCK_QUOTES, symbol) == (rows.row(-1, named=True) if rows.height else None)
    store.write(STOCK_QUOTES, rows_at(600))
    store.mirror.run()
    store.mirror.prune()
    assert store.read(STOCK_QUOTES).height == expected.height + 4
    assert store.mirror.verify().is_empty()
    assert not stored(table_of(store, STOCK_QUOTES)).select("write_id", "ordinal").is_duplicated().any()
    assert store.mirror.rebind().is_empty()


def test_books_from_an_older_backup_take_over_what_only_the_lake_knows(started: str, data_dir: Path) -> None:
    with backup(started) as older:
        with opened(started, data_dir) as store:
            store.write(STOCK_QUOTES, rows_at(20), source="manual", idempotency_key="k")
            store.write(STOCK_QUOTES, rows_at(0, 2).with_columns(bid_size=pl.col("bid_size") + 1))
            store.delete(STOCK_QUOTES, symbols="BBB", end=START + timedelta(minutes=5))
            store.mirror.run()
            store.import_history(STOCK_QUOTES, rows_at(30), source="manual")
            expected = store.read(STOCK_QUOTES)
            earlier = store.read(STOCK_QUOTES, as_of=pin_time(store))
        with opened(older, data_dir) as store:
            for refused in (store.read, lambda name: store.write(name, rows_at(40))):
                with pytest.raises(CorruptLakeError, match=r"rebind|another store"):
                    refused(STOCK_QUOTES)
            told = store.mirror.rebind()
            assert told["outcome"].to_list() == ["12 rows that only the lake held are in the ledger"]
            assert_frame_equal(store.read(STOCK_QUOTES, as_of=pin_time(store)), earlier)
            hold(store, expected)
        # The books as they were before the restore know nothing of it, and are kept out.
        with opened(started, data_dir) as store, pytest.raises(CorruptLakeError, match="another store"):
            store.read(STOCK_QUOTES)


def pin_time(store: Store) -> datetime:
    """When the third write was recorded."""
    times = stored(table_of(store, STOCK_QUOTES)).sort("write_id")["recorded_at"].unique(maintain_order=True)
    moment: datetime = times[2]
    return moment


def test_writes_that_came_after_the_backup_was_restored_take_fresh_numbers(started: str, data_dir: Path) -> None:
    with backup(started) as older:
        with opened(started, data_dir) as store:
            store.write(STOCK_QUOTES, rows_at(20))
            store.mirror.run()
            expected = store.read(STOCK_QUOTES)
        with opened(older, data_dir.with_name("elsewhere")) as store:
            # As it may be where the lake is not at hand: a number is given twice.
            store._parts.ingestion._binding.check = lambda *_: None  # type: ignore[method-assign]
            assert store.write(STOCK_QUOTES, rows_at(50)).write_id == 3
        with opened(older, data_dir) as store:
            told = store.mirror.rebind()
            assert set(told["outcome"]) == {
                "4 rows that only the lake held are in the ledger",
                "4 rows go to the lake again",
            }
            both = store.read(STOCK_QUOTES)
            assert_frame_equal(both.filter(pl.col("ts") < START + timedelta(minutes=50)), expected)
            assert both.height == 16
            hold(store, both)


def test_a_lake_from_an_older_copy_gets_again_what_is_hot_and_loses_the_rest_by_name(
    started: str, data_dir: Path
) -> None:
    older = data_dir.with_name("older")
    shutil.copytree(data_dir / "lake", older)
    with opened(started, data_dir) as store:
        store.write(STOCK_QUOTES, rows_at(20))
        store.mirror.run()
        store.mirror.prune()
        store.write(STOCK_QUOTES, rows_at(30))
        store.mirror.run()
        store.import_history(STOCK_QUOTES, rows_at(40), source="manual")
        store.write(STOCK_QUOTES, rows_at(50))
        expected = store.read(STOCK_QUOTES)
    with medalion.open(started, data_dir=data_dir, lake=older, mirror_background=False) as store:
        told = store.mirror.rebind()
        lost = told.filter(pl.col("outcome").str.contains("lost"))
        assert lost.height == 2
        assert all(outcome.startswith("4 rows are lost, of 4 from 'manual'") for outcome in lost["outcome"])
        minute = (pl.col("ts") - START).dt.total_minutes()
        hold(store, expected.filter(~(minute // 10).is_in([2, 4])))


def test_an_empty_lake_is_filled_again_from_what_is_hot(started: str, data_dir: Path) -> None:
    with opened(started, data_dir) as store:
        store.write(STOCK_QUOTES, rows_at(20))
        store.mirror.run()
    with medalion.open(started, data_dir=data_dir, lake=data_dir / "new", mirror_background=False) as store:
        with pytest.raises(CorruptLakeError):
            store.read(STOCK_QUOTES)
        told = store.mirror.rebind()
        assert told["outcome"].str.contains("lost").sum() == 2
        assert store.read(STOCK_QUOTES).height == 4
        hold(store, store.read(STOCK_QUOTES))


def refuse_to_adopt(url: str, data_dir: Path, reason: str) -> None:
    settings = settings_of(url, None, data_dir, {"mirror_background": False})
    with closing(Parts(settings, is_rebinding=True)) as parts:
        with pytest.raises(InputError, match="belongs to store") as refused:
            parts.mirror.rebind()
        with pytest.raises(InputError, match=reason):
            parts.mirror.rebind(adopt=str(refused.value.expected))


def test_a_lake_of_another_store_is_not_taken_over(started: str, data_dir: Path, tmp_path: Path) -> None:
    before = sorted(data_dir.rglob("*"))
    with fresh_database() as url:
        refuse_to_adopt(url, data_dir, "the books know none of its 2 instruments")
        with opened(url, tmp_path) as other:
            instruments(other, STOCK_QUOTES.kind, ("XXX", "YYY"))
        refuse_to_adopt(url, data_dir, "instrument 1 is 'AAA' there and 'XXX'")
    assert sorted(data_dir.rglob("*")) == before
    with opened(started, data_dir) as store:
        assert store.read(STOCK_QUOTES).height == 8
        assert store.mirror.verify().is_empty()


def test_a_renamed_instrument_is_still_the_same(started: str, data_dir: Path) -> None:
    with opened(started, data_dir) as store:
        store.assets.update(store.assets.by_symbol("AAA").id, symbol="CCC")
    execute(started, "UPDATE mirror_batches SET nonce = nonce + 1 WHERE number = 2")
    with opened(started, data_dir) as store:
        store.mirror.rebind()
        assert store.read(STOCK_QUOTES, symbols="CCC").height == 4
        assert store.mirror.verify().is_empty()


def test_an_instrument_that_the_books_lost_is_named_and_its_number_not_given_again(
    started: str, data_dir: Path
) -> None:
    with backup(started) as older:
        with opened(started, data_dir) as store:
            (number,) = instruments(store, STOCK_QUOTES.kind, ("NEW",)).values()
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, symbols=("NEW",)))
            store.mirror.run()
        with opened(older, data_dir) as store:
            told = store.mirror.rebind()
            assert told.filter(subject=f"instrument {number}").height == 1
            assert store.sql("SELECT count(*) FROM stock_quote_snapshots WHERE symbol = 'NEW'").fetchall() == [(5,)]
            assert instruments(store, STOCK_QUOTES.kind, ("LATER",))["LATER"] > number


def test_damaged_files_are_taken_out_and_named(started: str, data_dir: Path) -> None:
    execute(started, "UPDATE mirror_batches SET nonce = nonce + 1 WHERE number = 2")
    first, _ = sorted(data_dir.rglob("period=*/*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    first.write_bytes(first.read_bytes()[:-9])
    with opened(started, data_dir) as store:
        told = store.mirror.rebind()
        assert told.filter(pl.col("subject").str.ends_with(first.name)).height == 1
        assert told["outcome"].str.contains("4 rows are lost").sum() == 1
        hold(store, store.read(STOCK_QUOTES))


_DYING = """
import os, signal, sys
import medalion
from olap.delta.tables import LakeTable
from oltp.ledger import batches

url, data_dir, step = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if step == "before the commit":
    LakeTable.append = die
else:
    batches.note = die
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.rebind()
"""


@pytest.mark.parametrize("step", ["before the commit", "before noting"])
def test_a_rebinding_that_died_is_finished(started: str, data_dir: Path, step: str) -> None:
    with backup(started) as older:
        with opened(started, data_dir) as store:
            store.write(STOCK_QUOTES, rows_at(20))
            store.mirror.run()
            expected = store.read(STOCK_QUOTES)
        died = exit_code(_DYING, older, str(data_dir), step)
        assert died == -signal.SIGKILL
        with opened(older, data_dir) as store:
            hold(store, expected)


def test_anchors_are_noted_again_and_what_the_audit_lost_stays_named(started: str, data_dir: Path) -> None:
    with opened(started, data_dir) as store:
        store.audit.anchor()
    with backup(started) as older:
        with opened(started, data_dir) as store:
            asset = store.assets.create(symbol="ZZZ", name="Z", asset_type="stock")
            store.audit.anchor()
        with opened(older, data_dir) as store:
            with pytest.raises(CorruptLakeError, match="anchors"):
                store.audit.anchor()
            store.mirror.rebind()
            store.assets.create(symbol="YYY", name="Y", asset_type="stock")
            store.audit.anchor()
            assert [str(problem.entity_id) for problem in store.audit.verify()] == [str(asset.id)]


def test_a_dump_is_restored_beside_a_copied_lake(started: str, data_dir: Path) -> None:
    """What an operator does: pg_dump, copy the folder, pg_restore elsewhere, open."""
    bars = sample(STOCK_BARS, 30)
    with opened(started, data_dir) as store:
        store.write(STOCK_BARS, bars)
        store.mirror.run()
        store.write(STOCK_QUOTES, rows_at(20))  # still hot when the dump is made
        expected = store.read(STOCK_QUOTES)
    copy = data_dir.with_name("copy")
    dump = _program("pg_dump", "--format=custom", f"--dbname={Postgres(started).libpq}")
    shutil.copytree(data_dir / "lake", copy)
    admin, name = admin_url(), f"medalion_test_restored_{uuid4().hex}"
    execute(admin.render_as_string(hide_password=False), sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    restored = admin.set(database=name).render_as_string(hide_password=False)
    try:
        _program("pg_restore", "--no-owner", f"--dbname={Postgres(restored).libpq}", given=dump)
        with medalion.open(restored, data_dir=data_dir, lake=copy, mirror_background=False) as store:
            assert store.mirror.rebind().is_empty()  # they are of one moment
            assert store.mirror.verify().is_empty()
            assert_frame_equal(store.read(STOCK_QUOTES), expected)
            assert store.read(STOCK_BARS).height == 30
            store.mirror.run()
            hold(store, expected)
    finally:
        execute(
            admin.render_as_string(hide_password=False),
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)),
        )


def _program(name: str, *arguments: str, given: bytes | None = None) -> bytes:
    try:
        programs = binaries(None)
    except StoreUnavailableError as error:  # the suite runs on the server of MEDALION_TEST_URL, without the extra
        pytest.skip(f"pg_dump and pg_restore come with the embedded server: {error}")
    done = subprocess.run([programs / name, *arguments], input=given, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_old_entries_are_folded_and_everything_is_proven_as_before(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 10, 20):
        store.write(STOCK_QUOTES, rows_at(minute))
        store.mirror.run([STOCK_QUOTES])
    store.write(STOCK_QUOTES, rows_at(30), idempotency_key="kept")
    store.mirror.run([STOCK_QUOTES])
    assert store.mirror.fold([STOCK_QUOTES], older_than=timedelta()) == 0  # rows are hot still
    store.mirror.prune()
    assert store.mirror.fold([STOCK_QUOTES], older_than=timedelta(days=1)) == 0
    assert store.mirror.fold([STOCK_QUOTES], older_than=timedelta()) == 3
    everything = store.read(STOCK_QUOTES)
    assert store.write(STOCK_QUOTES, rows_at(30), idempotency_key="kept").is_duplicate
    assert store.mirror.verify().is_empty()
    store.write(STOCK_QUOTES, rows_at(0, 2).with_columns(bid_size=pl.col("bid_size") + 1))
    store.mirror.run()
    store.mirror.compact()
    store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta())
    assert store.mirror.verify().is_empty()
    assert pin_of(store).files.rows.sum() == everything.height
    assert store.mirror.fold([STOCK_QUOTES], older_than=timedelta(), keys_older_than=timedelta()) == 1
    store.mirror.prune()
    assert store.mirror.fold([STOCK_QUOTES], older_than=timedelta(), keys_older_than=timedelta()) == 1
    assert store.mirror.verify().is_empty()
    for file in data_dir.rglob("*-compact*.parquet"):
        file.unlink()
    assert "folded" in store.mirror.verify()["subject"].str.join(" ").item()
    told = store.mirror.verify(heal=True)
    assert told.filter(outcome="lost")["subject"].to_list() == ["folded writes"]
    assert store.mirror.verify().is_empty()
