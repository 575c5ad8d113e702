"""A store that mirrors itself looks after its lake, drops nothing that it was not told to, and waits for nobody."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError
from medalion.core.settings import settings_of
from medalion.store.background import BackgroundUpkeep
from medalion.store.store import Store
from oltp.ledger import batches, rollups
from tests.support.bar_rows import MINUTE, MINUTES, bar, frame, quote
from tests.support.kept_bars import reason
from tests.support.lake import folder_of, pin_of, table_of, written
from tests.support.observed import START, instruments

NOW = datetime.now(UTC)


def upkeep(store: Store, **settings: Any) -> BackgroundUpkeep:
    """The upkeep of the store under these settings, whose turns are taken by hand."""
    parts = store._parts
    return BackgroundUpkeep(
        parts.postgres, parts.lake, parts.copier, parts.rollups, settings_of(None, None, None, settings)
    )


def quoted(store: Store) -> None:
    """Quotes of an old day and of now, in the lake, with a correction."""
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, frame([quote(START, 1, 3), quote(NOW, 5, 7)], STOCK_QUOTES))
    store.mirror.run()
    store.delete(STOCK_QUOTES, symbols="AAA", start=NOW)
    store.mirror.run(settle=True)


def ledger_entries(store: Store) -> int:
    with store._parts.postgres.connection() as connection:
        row = connection.execute("SELECT count(*) FROM writes").fetchone()
    return int(row[0]) if row else 0


def aged(store: Store, days: int) -> None:
    """As if every file of the lake had been written, and every write recorded, so long ago."""
    then = time.time() - days * 86_400
    for dataset in DATASETS.values():
        for file in folder_of(table_of(store, dataset)).rglob("*"):
            os.utime(file, (then, then))
    with store._parts.postgres.connection() as connection:
        connection.execute("UPDATE writes SET recorded_at = recorded_at - %s", (timedelta(days=days),))


def test_nothing_is_dropped_unless_the_settings_say_so(store: Store) -> None:
    quoted(store)
    rows, settled = store.read(STOCK_QUOTES), store.mirror.status()["settled"][0]
    before = store.read(STOCK_QUOTES, as_of=settled)
    upkeep(store)._turn()
    upkeep(store, lake_retention={"stock_bars": {"rows_days": 0, "versions_days": 0}})._turn()
    assert_frame_equal(store.read(STOCK_QUOTES), rows)
    assert_frame_equal(store.read(STOCK_QUOTES, as_of=settled), before)
    assert store.mirror.verify().is_empty()


def test_what_the_settings_say_goes_and_bars_stay_in_its_place(store: Store) -> None:
    quoted(store)
    held = pin_of(store).files.rows.sum()
    kept = {"stock_quote_snapshots": {"rows_days": 90, "downsample": "1Min", "versions_days": 0}}
    bars = store.bars("AAA", "1Min")
    assert bars.height == 1
    upkeep(store, lake_retention=kept)._turn()
    assert held == 3
    assert pin_of(store).files.rows.sum() == 0
    assert store.read(STOCK_QUOTES).is_empty()
    assert_frame_equal(store.bars("AAA", "1Min"), bars)
    assert store.mirror.verify().is_empty()


def test_old_files_are_vacuumed_and_old_entries_folded(store: Store) -> None:
    written(store, STOCK_QUOTES)
    rows = store.read(STOCK_QUOTES)
    store.mirror.compact([STOCK_QUOTES])
    store.mirror.prune()
    aged(store, days=40)
    entries, folder = ledger_entries(store), folder_of(table_of(store, STOCK_QUOTES))
    files = set(folder.glob("period=*/*.parquet"))
    upkeep(store, vacuum_days=0, ledger_days=0)._turn()
    assert (ledger_entries(store), set(folder.glob("period=*/*.parquet"))) == (entries, files)
    upkeep(store, ledger_days=60)._turn()
    assert ledger_entries(store) == entries
    assert {file.relative_to(folder).as_posix() for file in folder.glob("period=*/*.parquet")} == {
        *pin_of(store).files.path
    }
    upkeep(store)._turn()
    assert ledger_entries(store) == 0
    assert_frame_equal(store.read(STOCK_QUOTES), rows)
    assert store.mirror.verify().is_empty()


def test_kept_bars_are_refreshed_one_by_one(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    instruments(store, STOCK_BARS.kind)
    huge = bar(START, 1, trade_count=2**62)
    store.write(STOCK_BARS, frame([huge, huge | {"ts": START + MINUTE}, huge | {"ts": START + 2 * MINUTE}]))
    for timeframe in ("2Min", "1Min", "5Min"):
        store.rollups.keep(STOCK_BARS, timeframe=timeframe)
    upkeep(store)._turn()
    assert "refreshing of stock_bars 2Min waits" in caplog.text
    assert "does not fit" in caplog.text
    store.write(STOCK_BARS, MINUTES.head(3))
    upkeep(store)._turn()
    assert store.bars("AAA", "5Min").height == 1
    assert "kept" in reason(store, "5Min")


@pytest.mark.parametrize("lock", [batches.leading, batches.maintaining, batches.without_staging])
def test_what_another_process_is_at_is_left_to_it(store: Store, lock: Any) -> None:
    quoted(store)
    store.rollups.keep(STOCK_BARS, timeframe="1Hour")
    store.mirror.compact()
    work = upkeep(store, lake_retention={"stock_quote_snapshots": {"rows_days": 90}}, vacuum_days=1)
    aged(store, days=20)
    (kept,) = _kept(store)
    postgres, folder = store._parts.postgres, folder_of(table_of(store, STOCK_QUOTES))
    files = set(folder.glob("period=*/*.parquet"))
    with (
        postgres.connection() as connection,
        lock(connection, STOCK_QUOTES),
        postgres.connection() as other,
        rollups.refreshing(other, kept),
    ):
        work._turn()
        assert "made" in reason(store, "1Hour")
        assert set(folder.glob("period=*/*.parquet")) == files
        assert store.read(STOCK_QUOTES).is_empty() == (lock is batches.without_staging)
    work._turn()
    assert store.read(STOCK_QUOTES).is_empty()
    assert set(folder.glob("period=*/*.parquet")) < files


def _kept(store: Store) -> list[rollups.KeptRollup]:
    with store._parts.postgres.connection() as connection:
        return rollups.kept_rollups(connection)


def test_a_damaged_dataset_is_left_alone_and_the_others_are_not(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    quoted(store)
    store.write(STOCK_BARS, MINUTES)
    store.mirror.run()
    for path in pin_of(store).files.path:
        file = folder_of(table_of(store, STOCK_QUOTES)) / path
        file.write_bytes(file.read_bytes() + b"!")
    ages = {name: {"rows_days": 0} for name in ("stock_quote_snapshots", "stock_bars")}
    work = upkeep(store, lake_retention=ages)
    work._turn()
    work._turn()
    refused = [record for record in caplog.records if "is not tried any more" in record.getMessage()]
    assert [record.getMessage() for record in refused] == ["retention of stock_quote_snapshots is not tried any more"]
    assert store.read(STOCK_BARS).is_empty()


def test_a_store_that_is_closed_begins_nothing_more(store: Store) -> None:
    quoted(store)
    work = upkeep(store, lake_retention={"stock_quote_snapshots": {"rows_days": 90}})
    work.stop()
    work._turn()
    assert store.read(STOCK_QUOTES).height == 1


@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
def test_a_store_that_mirrors_itself_looks_after_it(database_url: str, data_dir: Path, is_on: bool) -> None:
    with medalion.open(
        database_url, data_dir=data_dir, mirror_interval=0.02, upkeep_interval=0.02, upkeep_background=is_on
    ) as store:
        instruments(store, STOCK_BARS.kind)
        store.write(STOCK_BARS, MINUTES)
        store.rollups.keep(STOCK_BARS, timeframe="5Min")
        names = {thread.name for thread in threading.enumerate()}
        assert ("medalion-upkeep" in names) == is_on
        deadline = time.monotonic() + 30
        while is_on and "made" in reason(store, "5Min") and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        assert ("made" in reason(store, "5Min")) != is_on
    assert "medalion-upkeep" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"stock_quotes": {"rows_days": 1}}, "no dataset 'stock_quotes'"),
        ({"stock_bars": {"rows_days": -1}}, "greater than or equal to 0"),
        ({"stock_bars": {"row_days": 1}}, "lake_retention.stock_bars.row_days"),
        ({"stock_bars": {}}, "give rows_days"),
        ({"stock_quote_snapshots": {"versions_days": 1, "downsample": "1Min"}}, "goes with rows_days"),
        ({"stock_bars": {"rows_days": 1, "downsample": "1Min"}}, "cannot be downsampled"),
        ({"stock_quote_snapshots": {"rows_days": 1, "downsample": "1Day"}}, "divide half an hour"),
    ],
)
def test_a_retention_that_cannot_be_meant_is_refused_when_the_store_is_opened(
    data_dir: Path, kept: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        medalion.open(data_dir=data_dir, lake_retention=kept)
    assert not data_dir.exists()


def test_the_environment_says_it_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALION_LAKE_RETENTION", '{"stock_bars": {"rows_days": 9}}')
    assert settings_of(None, None, None, {}).lake_retention["stock_bars"].rows_days == 9
    for name, text in (("MEDALION_LAKE_RETENTION", "{rows"), ("MEDALION_VACUUM_DAYS", "31")):
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            with pytest.raises(InputError, match=name.removeprefix("MEDALION_").lower()):
                settings_of(None, None, None, {})
