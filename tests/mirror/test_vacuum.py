"""A vacuum removes what no recent version needs, and nothing that is or may still become part of the lake."""

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES, Dataset
from medalion.core.errors import CorruptLakeError, InputError
from medalion.ingest import staging
from medalion.store.store import Store
from olap.delta.log import commit_name
from olap.delta.tables import LakeTable
from olap.files import parquet
from olap.files.parquet import StagedFile
from olap.places.open import Place
from oltp.server.engine import Postgres
from tests.support.commands import refused, run
from tests.support.interleaved import first
from tests.support.lake import folder_of, pin_of, table_of, written
from tests.support.observed import START, instruments, sample
from tests.support.programs import exit_code

ROOT = Path(__file__).parents[2]
AT_ONCE = timedelta()


def on_disk(store: Store) -> set[str]:
    table = table_of(store, STOCK_QUOTES)
    return {file.relative_to(folder_of(table)).as_posix() for file in folder_of(table).glob("period=*/*")}


def aged(file: Path, days: int) -> None:
    """As if it had been written so long ago."""
    then = time.time() - days * 86_400
    os.utime(file, (then, then))


def test_a_reader_from_before_a_compaction_reads_on_until_its_files_are_old(store: Store) -> None:
    written(store, STOCK_QUOTES)
    before = pin_of(store).files.path.tolist()
    lazy, relation = store.scan(STOCK_QUOTES), store.sql("SELECT count(*) FROM stock_quote_snapshots")
    rows = lazy.collect()
    store.mirror.compact([STOCK_QUOTES])
    after = set(pin_of(store).files.path)
    assert store.mirror.vacuum([STOCK_QUOTES]).files == ()
    assert_frame_equal(lazy.collect(), rows)
    assert relation.fetchall() == [(rows.height,)]
    for path in before:
        aged(folder_of(table_of(store, STOCK_QUOTES)) / path, days=100)  # it was replaced only now, however old it is
    assert store.mirror.vacuum([STOCK_QUOTES]).files == ()
    done = store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
    assert set(done.files) == {f"{STOCK_QUOTES.name}/{path}" for path in before}
    assert on_disk(store) == after
    assert_frame_equal(store.read(STOCK_QUOTES), rows)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_dry_run_lists_what_a_run_removes(store: Store) -> None:
    written(store, STOCK_QUOTES)
    store.mirror.compact([STOCK_QUOTES])
    before = on_disk(store)
    listed = store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE, dry_run=True)
    assert on_disk(store) == before
    assert listed.bytes > 0
    removed = store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
    assert (removed.files, removed.bytes) == (listed.files, listed.bytes)
    assert {f"{STOCK_QUOTES.name}/{path}" for path in before - on_disk(store)} == set(listed.files)


def test_files_of_a_writer_that_died_go_when_they_are_old_and_old_files_in_use_stay(store: Store) -> None:
    written(store, STOCK_QUOTES)
    table = table_of(store, STOCK_QUOTES)
    used = pin_of(store).files.path.tolist()
    left = folder_of(table) / used[0]
    young, old = left.with_name("aaaa-bbbb.parquet"), left.with_name("cccc-dddd-compact-clean.parquet")
    for orphan in (young, old):
        orphan.write_bytes(b"half a file")
    for file in (old, *(folder_of(table) / path for path in used)):
        aged(file, days=8)
    assert store.mirror.vacuum([STOCK_QUOTES]).files == (old.relative_to(folder_of(table).parent).as_posix(),)
    assert young.exists()
    assert set(used) <= on_disk(store)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_it_waits_for_an_import_that_is_staging_its_files(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = written(store, STOCK_QUOTES)
    rows = sample(STOCK_QUOTES, 6, symbols=tuple(ids), start=START + timedelta(days=1))
    has_staged, may_go_on = threading.Event(), threading.Event()

    def paused(place: Place, dataset: Dataset, rows: pl.DataFrame, period: str) -> StagedFile:
        file = parquet.write_file(place, dataset, rows, period)
        has_staged.set()
        assert may_go_on.wait(60)
        return file

    monkeypatch.setattr(staging, "write_file", paused)
    importing = threading.Thread(
        target=store.import_history, args=("stock_quote_snapshots", rows), kwargs={"source": "import"}
    )
    vacuuming = threading.Thread(target=store.mirror.vacuum, kwargs={"older_than": AT_ONCE})
    importing.start()
    assert has_staged.wait(60)
    vacuuming.start()
    with psycopg.connect(Postgres(database_url).libpq, autocommit=True) as connection:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 60
        while connection.execute(waiting).fetchone() == (0,) and vacuuming.is_alive() and time.monotonic() < deadline:
            pass
    may_go_on.set()
    importing.join()
    vacuuming.join()
    assert store.read(STOCK_QUOTES, source="import").height == rows.height
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


_DYING = """
import os, signal, sys
import medalion
from olap.delta.tables import LakeTable
from olap.files import parquet
from olap.files.parquet import StagedFile
from olap.places.open import Place
from tests.support.observed import START, sample
from medalion.core.datasets import STOCK_QUOTES

url, data_dir = sys.argv[1:]
LakeTable.append = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 4), source="manual")
"""


def test_an_import_that_was_claimed_and_not_committed_is_finished_not_removed(
    store: Store, database_url: str, data_dir: Path
) -> None:
    instruments(store, STOCK_QUOTES.kind)
    died = exit_code(_DYING, database_url, str(data_dir))
    assert died == -signal.SIGKILL
    assert store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE).files == ()
    assert store.read(STOCK_QUOTES).height == 4
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_the_log_gets_shorter_and_says_the_same(store: Store, database_url: str, data_dir: Path) -> None:
    written(store, STOCK_QUOTES)
    log = folder_of(table_of(store, STOCK_QUOTES)) / "_delta_log"
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        rows = other.read(STOCK_QUOTES)  # it holds the log as it was
        before = pin_of(store)
        store.mirror.vacuum([STOCK_QUOTES])
        assert store.mirror.vacuum([STOCK_QUOTES]).log_entries == 0  # they are not old
        store.mirror.compact([STOCK_QUOTES])
        entries = len(list(log.glob("*.json")))
        assert store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE).log_entries > 0
        assert len(list(log.glob("*.json"))) < entries
        after = pin_of(store)
        assert (after.batch, after.nonce, after.maintenance) == (before.batch, before.nonce, 1)
        with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as third:
            for reader in (store, third):
                assert_frame_equal(reader.read(STOCK_QUOTES), rows)
        assert pin_of(other).version == after.version
        assert_frame_equal(other.read(STOCK_QUOTES), rows)
        other.write(STOCK_QUOTES, rows.head(2).select(sample(STOCK_QUOTES, 1).columns))
        assert other.mirror.run([STOCK_QUOTES]).batches == 1
        assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_the_anchors_of_the_audit_are_not_touched(store: Store, data_dir: Path) -> None:
    written(store, STOCK_QUOTES)
    store.audit.anchor()
    store.audit.anchor()
    kept = sorted((data_dir / "lake" / "_audit_anchors").rglob("*"))
    for file in kept:
        aged(file, days=100)
    assert not any("_audit_anchors" in path for path in store.mirror.vacuum(older_than=AT_ONCE).files)
    assert sorted((data_dir / "lake" / "_audit_anchors").rglob("*")) == kept
    assert store.audit.verify() == []


def test_a_store_that_only_reads_looks_at_the_lake_again(
    store: Store, database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store, STOCK_QUOTES)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        rows = other.read(STOCK_QUOTES)
        store.mirror.compact([STOCK_QUOTES])
        assert other.explain(STOCK_QUOTES).files > 1
        monkeypatch.setattr("olap.delta.tables._PIN_SECONDS", 0.0)
        assert other.explain(STOCK_QUOTES).files == 1
        assert_frame_equal(other.read(STOCK_QUOTES), rows)


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_a_read_whose_files_were_vacuumed_meanwhile_is_answered_from_the_new_ones(
    store: Store, database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    ids = written(store, STOCK_QUOTES)
    monkeypatch.setattr("medalion.observations.plan.WIDE_ROWS", 0 if engine == "duckdb" else 1_000)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        rows = other.read(STOCK_QUOTES)
        store.mirror.compact([STOCK_QUOTES])
        store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
        assert other.explain(STOCK_QUOTES).files > 1  # it still knows the files that are gone
        assert other.explain(STOCK_QUOTES).engine == engine
        assert_frame_equal(other.read(STOCK_QUOTES), rows)
    for path in pin_of(store).files.path:
        (folder_of(table_of(store, STOCK_QUOTES)) / path).unlink()
    with pytest.raises(CorruptLakeError, match="mirror verify"):
        store.read(STOCK_QUOTES, symbols=next(iter(ids)))


def test_a_join_whose_files_were_vacuumed_meanwhile_is_answered_from_the_new_ones(
    store: Store, database_url: str, data_dir: Path
) -> None:
    written(store, STOCK_QUOTES)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        left = other.read(STOCK_QUOTES, columns=["symbol", "ts"])
        joined = other.asof(left, STOCK_QUOTES)
        store.mirror.compact([STOCK_QUOTES])
        store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
        assert other.explain(STOCK_QUOTES).files > 1  # it still knows the files that are gone
        assert_frame_equal(other.asof(left, STOCK_QUOTES), joined)


def test_a_lake_of_another_store_is_not_cleaned(store: Store, database_url: str) -> None:
    written(store, STOCK_QUOTES)
    store.mirror.compact([STOCK_QUOTES])
    before = on_disk(store)
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute("UPDATE mirror_batches SET nonce = nonce + 1")
    with pytest.raises(CorruptLakeError, match="another store"):
        store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
    assert on_disk(store) == before


def test_an_age_that_cannot_be_kept_is_refused(store: Store) -> None:
    for age in (timedelta(seconds=-1), timedelta(days=31)):
        with pytest.raises(InputError, match="0 to 30 days"):
            store.mirror.vacuum(older_than=age)


def test_the_commands_say_what_they_did(store: Store, own_place: tuple[str, ...]) -> None:
    written(store, STOCK_QUOTES)
    files = len(pin_of(store).files)
    name = STOCK_QUOTES.name
    assert f"rewrote {files} files as 1 in 1 partitions" in run(*own_place, "mirror", "compact").stderr
    assert "rewrote 0 files" in run(*own_place, "mirror", "compact", "--dataset", name).stderr
    listed = run(*own_place, "mirror", "vacuum", "--older-than-days", "0", "--dry-run")
    assert len(listed.stdout.splitlines()) == files
    assert f"would remove {files} files" in listed.stderr
    assert f"removed {files} files" in run(*own_place, "mirror", "vacuum", "--older-than-days", "0").stderr
    assert "no dataset" in refused(run(*own_place, "mirror", "compact", "--dataset", "nothing"))
    assert "no age was given" in refused(run(*own_place, "mirror", "retain", "--dataset", name))
    retained = run(*own_place, "mirror", "retain", "-d", name, "--versions-older-than-days", "0")
    assert retained.exit_code == 0
    assert "removed 0 versions" not in retained.stderr
    assert run(*own_place, "mirror", "verify").exit_code == 0
    assert store.read(STOCK_QUOTES).height > 0


def test_a_pin_so_old_that_the_log_no_longer_says_what_followed_is_brought_up_to_date(store: Store) -> None:
    written(store, STOCK_QUOTES)
    instruments(store, STOCK_QUOTES.kind)
    table = table_of(store, STOCK_QUOTES)
    old = LakeTable(table.place.within(".."), STOCK_QUOTES)
    version = old.refresh().version
    for hour in range(1, 4):
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, start=START + timedelta(hours=hour)))
        store.mirror.run([STOCK_QUOTES])
    for _ in range(2):  # what the first sums up, the second removes
        store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
    for gone in (version, version + 1):
        assert table.place.missing([commit_name(gone)])
    followed, newest = old.refresh(), table.refresh()
    assert followed.version == newest.version == version + 3
    assert sorted(followed.files.path) == sorted(newest.files.path)


def test_a_table_whose_log_is_vacuumed_while_it_is_opened_is_opened_again(store: Store) -> None:
    written(store, STOCK_QUOTES)

    def vacuum() -> None:
        for _ in range(2):  # the first makes the checkpoint below which the second removes the log
            store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 1, symbols=("stock_quote_snapshots-a",)))
            store.mirror.run([STOCK_QUOTES])

    with first(DeltaTable, "get_add_actions", vacuum):
        pin = LakeTable(store._parts.lake.place, STOCK_QUOTES).refresh()
    assert pin.version == pin_of(store).version


@pytest.mark.parametrize("line", [b"[1]", b"null", b'{"add":{"path":1}}', b'{"add":"x"}', b"{"])
def test_a_damaged_commit_is_an_error_of_the_store(store: Store, line: bytes) -> None:
    written(store, STOCK_QUOTES)
    table, pin = table_of(store, STOCK_QUOTES), pin_of(store)
    (folder_of(table) / commit_name(pin.version + 1)).write_bytes(line)
    with pytest.raises(CorruptLakeError, match="log"):
        table.refresh()
