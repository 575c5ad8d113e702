"""Every row reaches the lake once, whoever dies when; a read is neither short nor double."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.frames import conform
from medalion.store.store import Store
from olap.delta.tables import LakeTable
from oltp.hot.writes import write
from oltp.ledger import batches
from oltp.server.engine import Postgres
from tests.support.observed import as_read, instruments, rows_at, sample
from tests.support.programs import begun, exit_code


def read_all(store: Store) -> pl.DataFrame:
    return store.read(STOCK_QUOTES)


def test_a_write_that_is_still_open_is_in_a_later_batch(store: Store, database_url: str) -> None:
    ids = instruments(store, STOCK_QUOTES.kind)
    early, late = sample(STOCK_QUOTES, 4, symbols=("AAA",)), sample(STOCK_QUOTES, 3, symbols=("BBB",))
    postgres = Postgres(database_url)
    postgres.open()
    with postgres.connection() as connection, connection.transaction():
        write(connection, STOCK_QUOTES, conform(STOCK_QUOTES, early, source="manual"), source="manual")
        store.write(STOCK_QUOTES, late)
        assert store.mirror.run([STOCK_QUOTES]).rows == late.height
        assert_frame_equal(read_all(store), as_read(STOCK_QUOTES, late, ids))
    both = as_read(STOCK_QUOTES, pl.concat([early, late]), ids)
    assert_frame_equal(read_all(store), both)
    assert store.mirror.run([STOCK_QUOTES]).rows == early.height
    assert_frame_equal(read_all(store), both)
    postgres.close()


def test_a_time_is_settled_only_when_no_earlier_write_can_appear(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    postgres = Postgres(database_url)
    postgres.open()
    with postgres.connection() as connection, connection.transaction():
        opened = write(connection, STOCK_QUOTES, conform(STOCK_QUOTES, rows_at(0), source="manual"), source="manual")
        with pytest.raises(InputError, match="not settled"):
            store.read(STOCK_QUOTES, as_of=opened.recorded_at)
    assert store.read(STOCK_QUOTES, as_of=opened.recorded_at).height == 4
    before = opened.recorded_at - timedelta(microseconds=1)
    assert store.read(STOCK_QUOTES, as_of=before).is_empty()
    postgres.close()


def test_small_batches_carry_everything_in_order(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, batch_rows=5) as store:
        ids = instruments(store, STOCK_QUOTES.kind)
        for minute in range(0, 40, 4):
            store.write(STOCK_QUOTES, rows_at(minute))
        assert store.mirror.run([STOCK_QUOTES]).batches == 5
        assert_frame_equal(
            read_all(store),
            as_read(
                STOCK_QUOTES,
                rows_at(0, 40)
                .with_columns(event_id=pl.Series([1000 + row % 4 for row in range(40)]))
                .with_columns(read_values()),
                ids,
            ),
            check_exact=True,
        )


def read_values() -> list[pl.Expr]:
    """Writes of four rows each repeat the values of the first four."""
    values = [column.name for column in STOCK_QUOTES.values]
    return [pl.col(name).gather(pl.int_range(pl.len()) % 4) for name in values]


def test_a_stop_is_heeded_after_the_batch_at_hand(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, batch_rows=4) as store:
        instruments(store, STOCK_QUOTES.kind)
        for minute in range(0, 20, 4):
            store.write(STOCK_QUOTES, rows_at(minute))
        asked = iter([False, False, True])
        assert store.mirror.run([STOCK_QUOTES, STOCK_BARS], is_stopping=lambda: next(asked, True)).batches == 2
        assert read_all(store).height == 20
        assert store.mirror.run([STOCK_QUOTES]).batches == 3
        assert store.mirror.verify().is_empty()


def test_the_background_mirror_keeps_up(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_interval=0.05) as store:
        ids = instruments(store, STOCK_QUOTES.kind)
        store.write(STOCK_QUOTES, rows_at(0))
        deadline = time.monotonic() + 20
        while store.explain(STOCK_QUOTES).hot_rows and time.monotonic() < deadline:
            time.sleep(0.05)
        assert store.explain(STOCK_QUOTES).store == "lake"
        assert_frame_equal(read_all(store), as_read(STOCK_QUOTES, rows_at(0), ids))


def test_a_stale_pin_never_shortens_a_read(store: Store, database_url: str, data_dir: Path) -> None:
    ids = instruments(store, STOCK_QUOTES.kind)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        store.write(STOCK_QUOTES, rows_at(0))
        assert read_all(other).height == 4  # its pin: an empty lake
        store.mirror.run()
        assert_frame_equal(read_all(other), as_read(STOCK_QUOTES, rows_at(0), ids))  # still from the hot rows
        assert store.mirror.prune() == 4
        assert_frame_equal(read_all(other), as_read(STOCK_QUOTES, rows_at(0), ids))
        store.import_history(STOCK_QUOTES, rows_at(10), source="manual")
        assert read_all(other).height == 8


def test_a_slot_in_use_is_not_pruned_and_one_not_mirrored_neither(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    assert store.mirror.prune([STOCK_QUOTES]) == 0
    store.mirror.run()
    postgres = Postgres(database_url)
    postgres.open()
    with postgres.connection() as connection, connection.transaction():
        write(connection, STOCK_QUOTES, conform(STOCK_QUOTES, rows_at(10), source="manual"), source="manual")
        assert store.mirror.prune([STOCK_QUOTES]) == 0
    assert store.mirror.prune([STOCK_QUOTES]) == 0
    store.mirror.run()
    assert store.mirror.prune([STOCK_QUOTES]) == 8
    assert read_all(store).height == 8
    postgres.close()


def test_the_ring_turns_and_empties_what_lies_behind(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, slot_rows=4) as store:
        instruments(store, STOCK_QUOTES.kind)
        for minute in range(0, 48, 4):
            store.write(STOCK_QUOTES, rows_at(minute))
            store.mirror.run([STOCK_QUOTES])
        assert read_all(store).height == 48
        with psycopg.connect(Postgres(database_url).libpq) as connection:
            (hot,) = connection.execute("SELECT count(*) FROM stock_quote_snapshots").fetchone() or (None,)
            (slot,) = connection.execute(
                "SELECT slot FROM mirror_state WHERE dataset = 'stock_quote_snapshots'"
            ).fetchone() or (None,)
        assert hot == 0
        assert slot == 12 % 8


@pytest.mark.parametrize("step", ["before copy", "after staging", "after commit"])
@pytest.mark.parametrize("kind", ["mirror", "import"])
def test_a_batch_is_finished_after_a_kill_at_any_step(
    store: Store, database_url: str, data_dir: Path, step: str, kind: str
) -> None:
    ids = instruments(store, STOCK_QUOTES.kind)
    early, late = rows_at(0), rows_at(10)
    store.write(STOCK_QUOTES, early)
    _dies(database_url, data_dir, step, kind)
    expected = pl.concat([early, late]) if kind == "import" and step != "before copy" else early
    for _ in range(2):
        assert read_all(store).height in {early.height, expected.height}
        store.mirror.run()
    assert_frame_equal(read_all(store), as_read(STOCK_QUOTES, expected, ids))
    store.mirror.prune()
    assert_frame_equal(read_all(store), as_read(STOCK_QUOTES, expected, ids))
    last = store.latest(STOCK_QUOTES, "AAA")
    assert last == read_all(store).filter(pl.col("symbol") == "AAA").row(-1, named=True)
    assert store.mirror.verify().is_empty()


_DYING = """
import os, signal, sys
import medalion
from medalion.ingest import staging
from olap.delta.tables import LakeTable
from tests.support.observed import START, sample
from medalion.core.datasets import STOCK_QUOTES
from datetime import timedelta

url, data_dir, step, kind = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
append = LakeTable.append
if step == "before copy":
    LakeTable.stage = staging.write_file = die
elif step == "after staging":
    LakeTable.append = die
else:
    LakeTable.append = lambda *a, **k: (append(*a, **k), die())
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    if kind == "mirror":
        store.mirror.run([STOCK_QUOTES])
    else:
        store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 4, start=START + timedelta(minutes=10)))
"""


def _dies(url: str, data_dir: Path, step: str, kind: str) -> None:
    if kind == "import":  # what is hot is mirrored first, or the step would be reached by that
        with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
            store.mirror.run()
    died = exit_code(_DYING, url, str(data_dir), step, kind)
    assert died == -signal.SIGKILL


_MIRRORING = """
import sys, time
import medalion
from medalion.core.datasets import STOCK_QUOTES
url, data_dir = sys.argv[1:]
with medalion.open(url, data_dir=data_dir, mirror_background=False, batch_rows=30, slot_rows=60) as store:
    ready()
    while True:
        store.mirror.run([STOCK_QUOTES])
        time.sleep(0.01)
"""


@pytest.mark.timeout(300)  # six processes are started on a machine that may be busy
def test_nothing_is_lost_or_doubled_when_mirrors_are_killed(store: Store, database_url: str, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    chance = random.Random(7)
    written = 0
    for _ in range(3):
        mirrors = [begun(_MIRRORING, database_url, str(data_dir)) for _ in range(2)]
        for _ in range(chance.randint(5, 25)):
            store.write(STOCK_QUOTES, rows_at(written, 10).with_columns(event_id=pl.int_range(written, written + 10)))
            written += 10
            assert read_all(store).height == written
        for mirror in mirrors:
            mirror.kill()
            mirror.join()
    store.mirror.run()
    rows = read_all(store)
    assert rows["event_id"].sort().to_list() == list(range(written))
    assert store.mirror.verify().is_empty()


def test_readers_writers_mirror_and_pruner_at_once(store: Store, database_url: str, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    acknowledged = 0
    wrong: list[object] = []
    stop = threading.Event()

    def until_stopped(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except Exception as error:
                wrong.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def reads() -> None:
        least = acknowledged
        ids = read_all(store)["event_id"].sort().to_list()
        if len(ids) < least or ids != list(range(len(ids))):
            wrong.append((least, len(ids)))

    threads = [
        until_stopped(reads),
        until_stopped(reads),
        until_stopped(lambda: store.mirror.run([STOCK_QUOTES])),
        until_stopped(lambda: store.mirror.prune([STOCK_QUOTES])),
    ]
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline and not wrong:
        new = rows_at(acknowledged, 5).with_columns(event_id=pl.int_range(acknowledged, acknowledged + 5))
        store.write(STOCK_QUOTES, new)
        acknowledged += 5
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert read_all(store).height == acknowledged


def test_a_missing_or_damaged_file_is_named(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    store.mirror.run()
    (file,) = data_dir.rglob("*.parquet")
    content = file.read_bytes()
    middle = len(content) // 3
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert not store.mirror.verify().is_empty()
    file.unlink()
    problems = store.mirror.verify()
    assert problems.filter(pl.col("subject").str.ends_with(file.name)).height == 1
    with pytest.raises(CorruptLakeError, match="verify"):
        read_all(store)


def test_a_batch_whose_rows_were_changed_is_not_copied(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute("UPDATE stock_quote_snapshots SET bid_price = bid_price + 1 WHERE ordinal = 0")
    with pytest.raises(CorruptLakeError, match="nothing was copied"):
        store.mirror.run()
    assert store.mirror.verify()["dataset"].to_list() == ["stock_quote_snapshots"]


def test_status_tells_of_every_dataset(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    waiting = {row["dataset"]: row for row in store.mirror.status().to_dicts()}
    assert list(waiting) == list(DATASETS)
    assert waiting["stock_quote_snapshots"]["unmirrored_rows"] == 4
    assert waiting["stock_quote_snapshots"]["lag"] > timedelta()
    store.mirror.run()
    done = {row["dataset"]: row for row in store.mirror.status().to_dicts()}["stock_quote_snapshots"]
    assert (done["batch"], done["lake_batch"], done["unmirrored_rows"], done["files"]) == (1, 1, 0, 1)
    assert done["lag"] is None


def test_two_leaders_never_share_a_dataset(database_url: str) -> None:
    postgres = Postgres(database_url)
    postgres.open()
    with postgres.connection() as first, postgres.connection() as second:
        with batches.leading(first, STOCK_QUOTES) as leads:
            assert leads
            assert batches.leader(second, STOCK_QUOTES) == first.info.backend_pid
            with batches.leading(second, STOCK_QUOTES, wait=False) as leads_too:
                assert not leads_too
            with batches.leading(second, STOCK_BARS, wait=False) as leads_other:
                assert leads_other
        assert batches.leader(second, STOCK_QUOTES) is None
    postgres.close()


def test_times_of_recording_never_go_back_behind_what_is_settled(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    ahead = datetime.now(UTC) + timedelta(days=1)
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute("UPDATE mirror_state SET settled = %s", (ahead,))  # as if the clock had been set back
    assert store.write(STOCK_QUOTES, rows_at(0)).recorded_at == ahead + timedelta(microseconds=1)
    assert store.read(STOCK_QUOTES, as_of=ahead).is_empty()


@pytest.mark.parametrize("does", ["reads", "opens"])
def test_a_store_refuses_to_work_after_a_fork(store: Store, database_url: str, data_dir: Path, does: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.read(STOCK_QUOTES) if does == "reads" else medalion.open(database_url, data_dir=data_dir)
        except medalion.StoreError as error:
            os._exit(7 if "spawn" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_run_ends_although_somebody_writes_all_the_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch finds another write that came in while it was copied."""
    instruments(store, STOCK_QUOTES.kind)
    minutes, append = iter(range(0, 400, 4)), LakeTable.append

    def appended(table: LakeTable, *given: Any, **named: Any) -> Any:
        store.write(STOCK_QUOTES, rows_at(next(minutes)))
        return append(table, *given, **named)

    monkeypatch.setattr(LakeTable, "append", appended)
    store.write(STOCK_QUOTES, rows_at(next(minutes)))
    assert [store.mirror.run([STOCK_QUOTES]).rows for _ in range(3)] == [4, 4, 4]
