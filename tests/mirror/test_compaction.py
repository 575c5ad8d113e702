"""Compaction changes files and nothing else: no row, no answer, no batch; whoever reads, writes or dies meanwhile."""

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import CRYPTO_QUOTES, DATASETS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError
from medalion.mirror.compaction import CompactionRun
from medalion.observations import selection as reading
from medalion.observations.request import read_request
from medalion.store.background import BackgroundCompaction
from medalion.store.store import Store
from olap.delta import compaction
from olap.delta.tables import LakeTable
from olap.files.index import NO_FILES
from olap.files.layout import tangled
from olap.files.parquet import StagedFile
from olap.places.folder import Folder
from olap.reads import sql
from olap.reads.narrow import read
from olap.reads.scan import Selection, collect, current, scan
from tests.support.lake import answers, assert_equal, folder_of, pin_of, stored, table_of, working, written
from tests.support.observed import START, instruments, sample
from tests.support.programs import begun, exit_code

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_every_read_of_every_dataset_is_the_same_afterwards_and_a_second_run_does_nothing(store: Store) -> None:
    for dataset in DATASETS.values():
        ids = written(store, dataset)
        rows = stored(table_of(store, dataset))
        moments = rows["recorded_at"].unique().sort().to_list()
        before = answers(store, dataset, next(iter(ids)), moments)
        batch = pin_of(store, dataset).batch
        done = store.mirror.compact([dataset])
        assert done.partitions == 1
        assert done.files_after == 1 < done.files_before
        assert done.rows == rows.height
        assert_equal(answers(store, dataset, next(iter(ids)), moments), before)
        assert_frame_equal(stored(table_of(store, dataset)), rows)
        assert pin_of(store, dataset).batch == batch
        version = pin_of(store, dataset).version
        assert store.mirror.compact([dataset]).partitions == 0
        assert pin_of(store, dataset).version == version
    assert store.mirror.verify().is_empty()


def test_a_lake_without_files_is_left_alone(store: Store) -> None:
    assert store.mirror.compact() == store.mirror.compact_meanwhile(STOCK_QUOTES) == CompactionRun()
    assert store.mirror.vacuum().files == ()
    assert store.mirror.retain(DATASETS, rows_older_than=timedelta(), versions_older_than=timedelta()).rows == 0


def test_the_mirror_goes_on_after_it_and_other_stores_notice(store: Store, database_url: str, data_dir: Path) -> None:
    ids = written(store, STOCK_QUOTES)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        before = other.read(STOCK_QUOTES)
        store.mirror.compact([STOCK_QUOTES])
        assert_frame_equal(other.read(STOCK_QUOTES), before)
        more = sample(STOCK_QUOTES, 4, symbols=tuple(ids), start=START + timedelta(hours=2))
        other.write(STOCK_QUOTES, more)
        assert other.mirror.run([STOCK_QUOTES]).rows == 4
        assert store.read(STOCK_QUOTES).height == before.height + 4
        other.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 3, symbols=tuple(ids), start=START), source="manual")
        assert store.mirror.compact([STOCK_QUOTES]).partitions == 1
        assert other.mirror.verify().is_empty()


def spread(store: Store, *, rows: int, symbols: tuple[str, ...] = ("AAA", "BBB", "CCC", "DDD")) -> None:
    """Two clean files whose spans meet, of several instruments."""
    ids = instruments(store, STOCK_QUOTES.kind, symbols)
    for part in range(2):
        start = START + timedelta(seconds=1 - part)
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, rows, symbols=tuple(ids), start=start))
        store.mirror.run([STOCK_QUOTES])


def slowly(selection: Selection) -> pl.DataFrame:
    """The same selection with every row deduplicated, file names notwithstanding."""
    dataset = selection.dataset
    files = [selection.place.at(path) for path in selection.files.path]
    rows = pl.scan_parquet(files, hive_partitioning=False).filter(selection.wanted())
    return collect(
        current(dataset, rows).sort(*dataset.order, "write_id", "ordinal").select("symbol", "ts", "write_id")
    )


def test_files_without_corrections_are_read_without_deduplication_and_alike(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILE_ROWS", 30)
    spread(store, rows=40)
    assert store.explain(STOCK_QUOTES).deduplicated == 2
    store.mirror.compact([STOCK_QUOTES])
    plan = store.explain(STOCK_QUOTES)
    assert plan.files > 2
    assert plan.deduplicated == 0
    assert pin_of(store).files.is_clean.all()
    assert not tangled(pin_of(store).files.boxes()).any()
    early = stored(table_of(store, STOCK_QUOTES))["recorded_at"][0]
    for symbols, as_of in ((None, None), ("BBB", None), (None, early), ("CCC", early)):
        asked = read_request(store._parts.postgres, STOCK_QUOTES, symbols=symbols, as_of=as_of)
        selection, _, _ = reading.select(store._parts.postgres, table_of(store, STOCK_QUOTES), asked)
        assert selection.paths[1] == []
        names = ["symbol", "ts", "write_id"]
        assert_frame_equal(read(selection, columns=names), slowly(selection))
        assert_frame_equal(sql.frame(selection, names), slowly(selection))
        assert_frame_equal(scan(selection, columns=names).collect(), slowly(selection))
    assert store.read(STOCK_QUOTES, as_of=early).height == 40


def test_a_correction_in_a_compacted_span_is_seen_at_once(store: Store) -> None:
    spread(store, rows=8)
    store.mirror.compact([STOCK_QUOTES])
    fixed = sample(STOCK_QUOTES, 1, symbols=("AAA",), start=START).with_columns(
        bid_price=pl.lit(7).cast(pl.Decimal(18, 8))
    )
    for store_it in (lambda: store.write(STOCK_QUOTES, fixed), lambda: store.mirror.run([STOCK_QUOTES])):
        store_it()
        rows = store.read(STOCK_QUOTES, symbols="AAA", end=START + timedelta(microseconds=1))
        assert rows["bid_price"].to_list() == [7]
        assert store.explain(STOCK_QUOTES).deduplicated > 0


def test_instruments_with_corrections_do_not_slow_the_others_down(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_APART_ROWS", 10)
    spread(store, rows=40)
    store.delete(STOCK_QUOTES, symbols="BBB", end=START + timedelta(minutes=5))
    store.mirror.run([STOCK_QUOTES])
    store.mirror.compact([STOCK_QUOTES])
    assert sorted(pin_of(store).files.is_clean.tolist()) == [False, True, True]
    assert store.explain(STOCK_QUOTES, symbols="DDD").deduplicated == 0
    assert store.explain(STOCK_QUOTES, symbols="BBB").deduplicated == 1
    assert store.mirror.compact([STOCK_QUOTES]).partitions == 0


def test_one_instrument_may_fill_several_files_cut_in_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILE_ROWS", 16)
    spread(store, rows=50, symbols=("AAA",))
    before = store.read(STOCK_QUOTES)
    assert store.mirror.compact([STOCK_QUOTES]).files_after > 3
    assert max(pin_of(store).files.rows) <= 16
    assert store.explain(STOCK_QUOTES).deduplicated == 0
    assert_frame_equal(store.read(STOCK_QUOTES), before)
    assert store.mirror.compact([STOCK_QUOTES]).partitions == 0


def at_once(store: Store, count: int) -> list[int]:
    """Writes numbered quotes, some of them late, while others mirror, compact and read; the numbers acknowledged."""
    acknowledged: list[int] = []

    def reads() -> None:
        least = len(acknowledged)
        found = store.read(STOCK_QUOTES)["event_id"].sort().to_list()
        assert len(found) >= least
        assert found == list(range(len(found)))

    with working(
        reads,
        lambda: store.mirror.run([STOCK_QUOTES]),
        lambda: store.mirror.compact([STOCK_QUOTES]),
        lambda: store.mirror.compact([STOCK_QUOTES]),
    ) as wrong:
        while len(acknowledged) < count and not wrong:
            first = len(acknowledged)
            start = START + timedelta(minutes=first if first % 3 else first // 2)
            numbers = pl.int_range(first, first + 5)
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 5, start=start).with_columns(event_id=numbers))
            acknowledged += range(first, first + 5)
    assert wrong == []
    return acknowledged


def test_readers_writers_mirror_and_two_compactors_at_once(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    acknowledged = at_once(store, 300)
    store.mirror.run([STOCK_QUOTES])
    assert store.read(STOCK_QUOTES)["event_id"].sort().to_list() == acknowledged
    assert pin_of(store).maintenance > 0
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_compaction_that_was_overtaken_commits_nothing_and_leaves_no_file(store: Store, data_dir: Path) -> None:
    written(store, STOCK_QUOTES)
    table, pin = table_of(store, STOCK_QUOTES), pin_of(store)
    stale = list(compaction.rewritten(table, pin.files))
    store.mirror.compact([STOCK_QUOTES])
    rows = stored(table)
    assert table.replace(pin, pin.files, stale) is None
    assert_frame_equal(stored(table), rows)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_another_that_commits_at_the_same_moment_makes_it_fail(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the log and the commit, another process compacts: Delta itself has to refuse the second."""
    written(store, STOCK_QUOTES)
    table, rows = table_of(store, STOCK_QUOTES), stored(table_of(store, STOCK_QUOTES))
    files = table.refresh().files
    action = StagedFile.action

    def overtaken(self: StagedFile, *, data_change: bool = True) -> Any:
        monkeypatch.setattr(StagedFile, "action", action)
        other = LakeTable(Folder(folder_of(table).parent), STOCK_QUOTES, store=table.store)
        assert other.replace(other.refresh(), files, list(compaction.rewritten(other, files))) is not None
        return self.action(data_change=data_change)

    monkeypatch.setattr(StagedFile, "action", overtaken)
    assert store.mirror.compact([STOCK_QUOTES]).partitions == 0
    assert_frame_equal(stored(table), rows)
    left = {file.relative_to(folder_of(table)).as_posix() for file in folder_of(table).rglob("*.parquet")}
    assert left == {*files.path, *table.refresh().files.path}


def test_a_batch_is_on_the_disk_although_a_compaction_came_right_after(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store, STOCK_QUOTES)
    table, batch = table_of(store, STOCK_QUOTES), pin_of(store).version
    store.mirror.compact([STOCK_QUOTES])
    synced: list[Path] = []
    monkeypatch.setattr("olap.places.folder.sync", synced.append)
    table.sync(table.refresh())
    logs = [folder_of(table) / "_delta_log" / f"{version:020}.json" for version in (batch + 1, batch)]
    assert synced[:2] == logs
    assert folder_of(table) / "_delta_log" in synced


def test_a_damaged_file_is_named_and_nothing_is_rewritten(store: Store) -> None:
    written(store, STOCK_QUOTES)
    table, pin = table_of(store, STOCK_QUOTES), pin_of(store)
    damaged = folder_of(table) / pin.files.path[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    with pytest.raises(CorruptLakeError, match=damaged.name):
        store.mirror.compact([STOCK_QUOTES])
    assert pin_of(store).version == pin.version
    assert len(list(folder_of(table).rglob("*.parquet"))) == len(pin.files)


_COMPACTING = """
import sys
import medalion
from medalion.core.datasets import STOCK_QUOTES
from olap.delta import compaction
compaction.FILE_ROWS = 20
url, data_dir = sys.argv[1:]
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    ready()
    while True:
        store.mirror.run([STOCK_QUOTES])
        store.mirror.compact([STOCK_QUOTES])
"""


@pytest.mark.timeout(300)  # six processes are started on a machine that may be busy
def test_nothing_is_lost_or_doubled_when_compactors_are_killed(store: Store, database_url: str, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    chance = random.Random(11)
    count = 0
    for _ in range(3):
        compactors = [begun(_COMPACTING, database_url, str(data_dir)) for _ in range(2)]
        for _ in range(chance.randint(10, 30)):
            start = START + timedelta(minutes=chance.randint(0, 600))
            numbers = pl.int_range(count, count + 5)
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 5, start=start).with_columns(event_id=numbers))
            count += 5
            assert store.read(STOCK_QUOTES).height == count
        for compactor in compactors:
            compactor.kill()
            compactor.join()
    store.mirror.run([STOCK_QUOTES])
    store.mirror.compact([STOCK_QUOTES])
    assert store.read(STOCK_QUOTES)["event_id"].sort().to_list() == list(range(count))
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()
    store.mirror.vacuum([STOCK_QUOTES], older_than=timedelta())
    table = table_of(store, STOCK_QUOTES)
    on_disk = {file.relative_to(folder_of(table)).as_posix() for file in folder_of(table).rglob("period=*/*.parquet")}
    assert on_disk == set(table.refresh().files.path)


_DYING = """
import os, signal, sys
import medalion
from medalion.mirror import compaction
from medalion.core.datasets import STOCK_QUOTES
from olap.delta.tables import LakeTable

url, data_dir, step = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
replace, rewritten = LakeTable.replace, compaction.rewritten
if step == "after staging":
    LakeTable.replace = die
elif step == "while staging":
    compaction.rewritten = lambda *a, **k: (next(rewritten(*a, **k)), die())
else:
    LakeTable.replace = lambda *a, **k: (replace(*a, **k), die())
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.compact([STOCK_QUOTES])
"""


@pytest.mark.parametrize("step", ["while staging", "after staging", "after commit"])
def test_a_kill_at_any_step_changes_no_row(store: Store, database_url: str, data_dir: Path, step: str) -> None:
    written(store, STOCK_QUOTES)
    rows, before = stored(table_of(store, STOCK_QUOTES)), store.read(STOCK_QUOTES)
    died = exit_code(_DYING, database_url, str(data_dir), step)
    assert died == -signal.SIGKILL
    for _ in range(2):
        assert_frame_equal(stored(table_of(store, STOCK_QUOTES)), rows)
        assert_frame_equal(store.read(STOCK_QUOTES), before)
        assert store.mirror.verify([STOCK_QUOTES]).is_empty()
        store.mirror.compact([STOCK_QUOTES])
    assert len(pin_of(store).files) == 1


def test_a_turn_in_the_background_rewrites_one_partition(store: Store) -> None:
    datasets = (STOCK_QUOTES, CRYPTO_QUOTES)
    for dataset in datasets:
        ids = instruments(store, dataset.kind, (f"{dataset.name}-a",))
        for part in range(compaction.FEWEST_FILES):
            store.write(dataset, sample(dataset, 2, symbols=tuple(ids), start=START + timedelta(minutes=2 * part)))
            store.mirror.run([dataset])
    background = BackgroundCompaction(store.mirror, interval=60)
    for turn in (1, 2, 2):
        background._turn()
        assert sum(pin_of(store, dataset).maintenance for dataset in datasets) == turn
    assert store.mirror.verify(datasets).is_empty()


def test_a_store_that_is_closed_does_not_wait_for_a_partition_to_end(store: Store) -> None:
    written(store, STOCK_QUOTES, parts=compaction.FEWEST_FILES)
    stopping = threading.Event()
    stopping.set()
    table, files = table_of(store, STOCK_QUOTES), pin_of(store).files.path.tolist()
    assert store.mirror.compact_meanwhile(STOCK_QUOTES, stopping=stopping) == CompactionRun()
    assert sorted(
        file.relative_to(folder_of(table)).as_posix() for file in folder_of(table).rglob("*.parquet")
    ) == sorted(files)
    assert store.mirror.compact_meanwhile(STOCK_QUOTES).partitions == 1


def test_a_store_that_mirrors_itself_compacts_too(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_interval=0.02, compact_interval=0.05) as store:
        instruments(store, STOCK_QUOTES.kind)
        deadline = time.monotonic() + 30
        count = 0
        while not pin_of(store).files.is_compact.any() and time.monotonic() < deadline:
            numbers = pl.int_range(count, count + 2)
            start = START + timedelta(minutes=count)
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, start=start).with_columns(event_id=numbers))
            count += 2
        assert pin_of(store).files.is_compact.any()
        assert store.read(STOCK_QUOTES).height == count
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        store.mirror.run([STOCK_QUOTES])
        assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_pin_that_follows_the_log_is_the_one_that_a_fresh_look_gives(store: Store) -> None:
    written(store, STOCK_QUOTES)
    table = table_of(store, STOCK_QUOTES)
    steps: list[Callable[[], object]] = [
        lambda: store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 3, symbols=(f"{STOCK_QUOTES.name}-a",))),
        store.mirror.run,
        lambda: store.mirror.compact([STOCK_QUOTES]),
        lambda: store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 9, symbols=(f"{STOCK_QUOTES.name}-b",))),
        lambda: store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta()),
        lambda: store.mirror.vacuum([STOCK_QUOTES], older_than=timedelta()),
    ]
    for step in steps:
        step()
        followed, fresh = table.refresh(), LakeTable(table.place.within(".."), STOCK_QUOTES).refresh()
        assert replace(followed, files=NO_FILES) == replace(fresh, files=NO_FILES)
        by_path = [np.argsort(pin.files.path) for pin in (followed, fresh)]
        for name in (field.name for field in fields(fresh.files)):
            held, expected = getattr(followed.files, name)[by_path[0]], getattr(fresh.files, name)[by_path[1]]
            assert held.tolist() == expected.tolist(), name
