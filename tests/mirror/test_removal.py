"""Retention removes from the lake what it was told to and nothing else; what it can no longer answer it refuses."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.frames import polars_schema
from medalion.store.store import Store
from olap.delta.compaction import current_since
from olap.reads.scan import current
from oltp.server.engine import Postgres
from tests.support.lake import answers, assert_equal, folder_of, pin_of, stored, table_of, written
from tests.support.observed import START, instruments, sample
from tests.support.programs import exit_code

ROOT = Path(__file__).parents[2]
AT_ONCE = timedelta()


def at_once(kind: str) -> dict[str, Any]:
    """The age of nothing at all, for rows or for versions."""
    return {kind: AT_ONCE}


def known_from(store: Store) -> datetime:
    """The earliest `as_of` that is answered."""
    with pytest.raises(InputError, match="removed by retention") as refused:
        store.read(STOCK_QUOTES, as_of=datetime(2000, 1, 1, tzinfo=UTC))
    moment = refused.value.expected
    assert isinstance(moment, datetime)
    return moment


def quotes_on(*days: int, rows: int = 4) -> pl.DataFrame:
    return pl.concat([sample(STOCK_QUOTES, rows, start=START + timedelta(days=day)) for day in days])


def test_superseded_versions_go_and_no_present_answer_changes(store: Store) -> None:
    for dataset in DATASETS.values():
        symbol = next(iter(written(store, dataset)))
        rows = stored(table_of(store, dataset))
        before = answers(store, dataset, symbol, [])
        done = store.mirror.retain([dataset], versions_older_than=AT_ONCE)
        assert done.versions == rows.height - current(dataset, rows.lazy()).collect().height > 0
        assert stored(table_of(store, dataset)).height == rows.height - done.versions
        assert_equal(answers(store, dataset, symbol, []), before)
        settled = store.mirror.status([dataset])["settled"][0]
        assert_frame_equal(store.read(dataset, as_of=settled), store.read(dataset))
        version = pin_of(store, dataset).version
        assert store.mirror.retain([dataset], versions_older_than=AT_ONCE).versions == 0
        assert pin_of(store, dataset).version == version
    assert store.explain(STOCK_QUOTES).deduplicated == 0
    assert store.mirror.verify().is_empty()
    store.mirror.compact()
    store.mirror.vacuum(older_than=AT_ONCE)
    assert store.mirror.verify().is_empty()


def test_as_of_is_answered_as_before_or_refused(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    moments = []
    for price in range(6):
        rows = sample(STOCK_QUOTES, 2).with_columns(bid_price=pl.lit(price).cast(pl.Decimal(18, 8)))
        moments.append(store.write(STOCK_QUOTES, rows).recorded_at)
        if price == 2:
            moments.append(datetime.now(UTC))
            store.delete(STOCK_QUOTES, symbols="AAA")
    store.mirror.run(settle=True)
    before = {moment: store.read(STOCK_QUOTES, as_of=moment) for moment in moments}
    asked = datetime.now(UTC) - moments[3]
    assert store.mirror.retain([STOCK_QUOTES], versions_older_than=asked).versions > 0
    kept = known_from(store)
    assert moments[0] < kept
    for moment, rows in before.items():
        if moment < kept:
            for read in (store.read, store.scan):
                with pytest.raises(InputError, match="removed by retention"):
                    read(STOCK_QUOTES, as_of=moment)
            with pytest.raises(InputError, match="removed by retention"):
                store.sql("SELECT * FROM stock_quote_snapshots", as_of=moment)
            with pytest.raises(InputError, match="removed by retention"):
                store.latest(STOCK_QUOTES, "AAA", as_of=moment)
        else:
            assert_frame_equal(store.read(STOCK_QUOTES, as_of=moment), rows)
    assert moments[-1] >= kept
    assert store.read(STOCK_BARS, as_of=moments[0]).is_empty()  # another dataset is not touched
    assert store.mirror.verify().is_empty()


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 10),
)
@example([(0, 9, False, True), (0, 2, True, True)], 5)  # deleted by a write that was numbered later, recorded earlier
@example([(0, 1, False, False), (0, 2, True, True)], 5)  # deleted before it was mirrored
def test_no_read_from_the_moment_on_can_tell(history: list[tuple[int, int, bool, bool]], moment: int) -> None:
    """Rows of two keys, recorded in any order and numbered in another; some are not in the lake when it is cleaned."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    blank = pl.DataFrame(schema=polars_schema(STOCK_QUOTES.stored))
    given = pl.DataFrame(
        {
            "symbol": ["AAA"] * len(history),
            "instrument_id": [1] * len(history),
            "source": ["x"] * len(history),
            "ts": [start] * len(history),
            "event_id": [key for key, _, _, _ in history],
            "recorded_at": [start + timedelta(seconds=at) for _, at, _, _ in history],
            "is_deleted": [is_deleted for _, _, is_deleted, _ in history],
            "write_id": range(len(history)),
            "ordinal": [0] * len(history),
        },
        schema_overrides=dict(blank.schema),
    )
    rows = pl.concat([blank, given], how="diagonal")
    is_mirrored = pl.Series([is_mirrored for _, _, _, is_mirrored in history])
    mirrored, coming = rows.filter(is_mirrored).sort("event_id", "write_id"), rows.filter(~is_mirrored)
    below = coming["write_id"].min() if coming.height else len(history)
    assert isinstance(below, int)
    cut = start + timedelta(seconds=moment)
    left = current_since(STOCK_QUOTES, mirrored, cut, below=below)
    assert left.join(mirrored, on="write_id", how="anti").is_empty()
    for seconds in range(moment, 11):
        at = pl.col("recorded_at") <= start + timedelta(seconds=seconds)
        shown = [
            current(STOCK_QUOTES, pl.concat([held, coming]).lazy().filter(at)).collect().sort("write_id")
            for held in (mirrored, left)
        ]
        assert_frame_equal(*shown)


def test_old_partitions_go_whole_and_the_rest_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_on(0, 1))
    store.mirror.run([STOCK_QUOTES])
    store.write(STOCK_QUOTES, quotes_on(2, 3))
    store.mirror.run([STOCK_QUOTES], settle=True)
    before = store.read(STOCK_QUOTES)
    earlier = datetime.now(UTC)
    store.write(STOCK_QUOTES, quotes_on(0, rows=1))  # not mirrored yet
    age = datetime.now(UTC) - datetime(2024, 3, 3, 12, tzinfo=UTC)
    done = store.mirror.retain([STOCK_QUOTES], rows_older_than=age)
    assert (done.partitions, done.rows) == (2, 8)
    kept = datetime(2024, 3, 3, tzinfo=UTC)
    assert_frame_equal(store.read(STOCK_QUOTES, start=kept), before.filter(pl.col("ts") >= kept))
    assert store.read(STOCK_QUOTES, end=kept).height == 1
    assert_frame_equal(store.read(STOCK_QUOTES, start=kept, as_of=earlier), before.filter(pl.col("ts") >= kept))
    with pytest.raises(InputError, match="removed by retention at"):
        store.read(STOCK_QUOTES, start=kept - timedelta(microseconds=1), as_of=earlier)
    with pytest.raises(InputError, match="removed by retention at"):
        store.sql("SELECT * FROM stock_quote_snapshots", as_of=earlier)
    store.mirror.run(settle=True)
    assert store.read(STOCK_QUOTES, as_of=store.mirror.status()["settled"][0]).height == 9
    assert store.mirror.verify().is_empty()
    store.mirror.prune()
    assert store.mirror.verify().is_empty()


def test_what_is_left_tells_which_bars_a_symbol_had_before_a_removal(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    left = datetime(2024, 2, 1, tzinfo=UTC)
    store.write(STOCK_BARS, sample(STOCK_BARS, 2, symbols=("AAA", "BBB"), start=left - timedelta(days=10)))
    store.write(STOCK_BARS, sample(STOCK_BARS, 2, symbols=("AAA",), start=left))
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 1, symbols=("BBB",), start=left))  # of which bars could be made
    store.mirror.run([STOCK_BARS, STOCK_QUOTES], settle=True)
    earlier = datetime.now(UTC)
    store.mirror.retain([STOCK_BARS], rows_older_than=earlier - left - timedelta(hours=1))
    assert store.bars("AAA", "1Min", start=left, as_of=earlier).height == 2
    assert store.bars("AAA", "1Min", start=left + timedelta(days=1), as_of=earlier).is_empty()
    newest = store.latest(STOCK_BARS, "AAA", timeframe="1Min", as_of=earlier)
    assert newest is not None
    assert newest["ts"] == left + timedelta(minutes=1)
    with pytest.raises(InputError, match=r"removed by retention at .*; or pass rollup=False"):
        store.bars("BBB", "1Min", start=left, as_of=earlier)  # what is left tells nothing of it
    assert store.bars("BBB", "1Min", start=left, as_of=earlier, rollup=False).is_empty()


def test_the_folder_of_a_dropped_partition_goes_with_its_files(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_on(0, 1))
    store.mirror.run([STOCK_QUOTES])
    store.mirror.retain([STOCK_QUOTES], rows_older_than=datetime.now(UTC) - START - timedelta(hours=20))
    folder = folder_of(table_of(store, STOCK_QUOTES))
    assert len(list(folder.glob("period=*"))) == 2
    store.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
    assert [each.name for each in folder.glob("period=*")] == ["period=2024-03-02"]
    store.write(STOCK_QUOTES, quotes_on(0))
    store.mirror.run([STOCK_QUOTES])
    assert store.read(STOCK_QUOTES).height == 8
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_as_of_after_a_removal_is_the_same_in_every_process(store: Store, database_url: str, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_on(0, 1))
    store.mirror.run([STOCK_QUOTES])
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        assert other.read(STOCK_QUOTES).height == 8  # it knows the files as they were
        store.mirror.retain([STOCK_QUOTES], rows_older_than=AT_ONCE)
        settled = store.mirror.status([STOCK_QUOTES])["settled"][0]
        while settled == store.mirror.status([STOCK_QUOTES])["settled"][0]:
            store.mirror.run([STOCK_QUOTES], settle=True)
        settled = store.mirror.status([STOCK_QUOTES])["settled"][0]
        assert other.read(STOCK_QUOTES, as_of=settled).is_empty()
        assert store.read(STOCK_QUOTES, as_of=settled).is_empty()


def test_a_removal_by_a_clock_that_went_back_leaves_the_one_before_refused(store: Store, database_url: str) -> None:
    """The first was at a time that the server's clock has yet to come to again."""
    instruments(store, STOCK_QUOTES.kind)
    for day in range(3):
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, start=START + timedelta(days=day)))
    store.mirror.run([STOCK_QUOTES], settle=True)
    age = datetime.now(UTC) - START
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age - timedelta(days=1))
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute("UPDATE mirror_state SET dropped_at = dropped_at + '1 h', settled = settled + '2 h'")
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age - timedelta(days=2))
    with pytest.raises(InputError, match="removed by retention"):
        store.read(STOCK_QUOTES, as_of=datetime.now(UTC) + timedelta(minutes=30))


def test_bars_go_by_month_or_year_of_their_timeframe(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    for timeframe in ("1Min", "1Day"):
        for month in (2, 4):
            start = datetime(2024, month, 5, tzinfo=UTC)
            bars = sample(STOCK_BARS, 2, start=start).with_columns(timeframe=pl.lit(timeframe))
            store.write(STOCK_BARS, bars)
    store.mirror.run()
    age = datetime.now(UTC) - datetime(2024, 4, 1, tzinfo=UTC)
    assert store.mirror.retain([STOCK_BARS], rows_older_than=age).rows == 2
    assert store.read(STOCK_BARS, timeframe="1Min")["ts"].dt.month().unique().to_list() == [4]
    assert store.read(STOCK_BARS, timeframe="1Day").height == 4
    assert store.mirror.verify().is_empty()


def test_the_newest_row_is_not_shown_once_it_was_removed(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, symbols=("AAA",)))
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, symbols=("BBB",), start=START + timedelta(days=9)))
    store.mirror.run()
    newest = store.latest(STOCK_QUOTES, "BBB")
    store.mirror.retain([STOCK_QUOTES], rows_older_than=datetime.now(UTC) - START - timedelta(days=5))
    assert store.latest(STOCK_QUOTES, "AAA") is None
    assert store.latest(STOCK_QUOTES, "BBB") == newest
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 1, symbols=("AAA",), start=START + timedelta(days=8)))
    assert store.latest(STOCK_QUOTES, "AAA") is not None


def test_what_is_not_in_the_lake_is_never_removed_nor_made_wrong_by_it(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4))
    store.mirror.run([STOCK_QUOTES])
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4))  # supersedes all of it, and is hot
    before = store.read(STOCK_QUOTES)
    assert store.mirror.retain([STOCK_QUOTES], versions_older_than=AT_ONCE).versions == 0
    assert_frame_equal(store.read(STOCK_QUOTES), before)
    store.mirror.run([STOCK_QUOTES])
    assert store.mirror.retain([STOCK_QUOTES], versions_older_than=AT_ONCE).versions == 4
    assert_frame_equal(store.read(STOCK_QUOTES), before)
    assert store.mirror.verify().is_empty()


_DYING = """
import os, signal, sys
from datetime import timedelta
import medalion
from medalion.mirror import removal
from medalion.core.datasets import STOCK_QUOTES
from olap.delta.tables import LakeTable

url, data_dir, step, kind = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
replace = LakeTable.replace
if step == "before entry":
    removal.enter_removal = die
elif step == "before commit":
    LakeTable.replace = die
else:
    LakeTable.replace = lambda *a, **k: (replace(*a, **k), die())
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.retain([STOCK_QUOTES], **{kind: timedelta()})
"""


@pytest.mark.parametrize("step", ["before entry", "before commit", "after commit"])
@pytest.mark.parametrize("kind", ["versions_older_than", "rows_older_than"])
def test_a_removal_is_whole_or_not_at_all_after_a_kill(
    store: Store, database_url: str, data_dir: Path, step: str, kind: str
) -> None:
    written(store, STOCK_QUOTES)
    rows, before = stored(table_of(store, STOCK_QUOTES)), store.read(STOCK_QUOTES)
    earlier = store.mirror.status()["settled"][0]
    assert exit_code(_DYING, database_url, str(data_dir), step, kind) == -signal.SIGKILL
    if step != "before entry" and kind == "rows_older_than":
        with pytest.raises(InputError, match="removed by retention"):
            store.read(STOCK_QUOTES, as_of=earlier)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()
    is_gone = step == "after commit"
    if kind == "versions_older_than":
        assert_frame_equal(store.read(STOCK_QUOTES), before)
    if not is_gone:
        assert_frame_equal(stored(table_of(store, STOCK_QUOTES)), rows)
    done = store.mirror.retain([STOCK_QUOTES], **at_once(kind))
    assert (done.versions + done.rows > 0) == (not is_gone)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_one_who_lost_its_lock_cannot_remove_rows_after_another_gave_it_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store, STOCK_QUOTES)
    rows = stored(table_of(store, STOCK_QUOTES))
    replace = type(table_of(store, STOCK_QUOTES)).replace
    late: list[object] = []

    def interrupted(self: object, *arguments: object, **named: object) -> None:
        if not late:
            late.extend((arguments, named))
            raise KeyboardInterrupt
        replace(self, *arguments, **named)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patch:
        patch.setattr("olap.delta.tables.LakeTable.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.mirror.retain([STOCK_QUOTES], rows_older_than=AT_ONCE)
    store.mirror.run([STOCK_QUOTES])  # its leader finds the removal, and gives it up
    arguments, named = late
    assert replace(table_of(store, STOCK_QUOTES), *arguments, **named) is None  # type: ignore[arg-type, misc]
    assert_frame_equal(stored(table_of(store, STOCK_QUOTES)), rows)
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_rows_that_retention_did_not_remove_are_missed(store: Store, database_url: str) -> None:
    written(store, STOCK_QUOTES)
    store.mirror.retain([STOCK_QUOTES], versions_older_than=AT_ONCE)
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute("UPDATE writes SET dropped_rows = dropped_rows - 1 WHERE dropped_rows > 0")
    assert store.mirror.verify([STOCK_QUOTES])["problem"].str.contains("rows instead of").all()
    with psycopg.connect(Postgres(database_url).libpq) as connection:
        connection.execute(
            "UPDATE writes SET dropped_rows = dropped_rows + 1, dropped_checksum = 7 WHERE dropped_rows > 0"
        )
    assert not store.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_damaged_file_stops_it_before_anything_is_removed(store: Store) -> None:
    written(store, STOCK_QUOTES)
    damaged = folder_of(table_of(store, STOCK_QUOTES)) / pin_of(store).files.path[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content + b"!")
    for kind in ("versions_older_than", "rows_older_than"):
        with pytest.raises(CorruptLakeError, match="is damaged"):
            store.mirror.retain([STOCK_QUOTES], **at_once(kind))
    assert pin_of(store).removal is None
    damaged.write_bytes(content)
    assert store.read(STOCK_QUOTES, as_of=store.mirror.status()["settled"][0]).height > 0


def test_ages_that_cannot_be_meant_are_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no age"):
        store.mirror.retain([STOCK_QUOTES])
    with pytest.raises(InputError, match="0 or more"):
        store.mirror.retain([STOCK_QUOTES], rows_older_than=timedelta(seconds=-1))
