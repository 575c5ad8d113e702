"""Kept bars answer as those that are made on reading, and what they may not answer is made."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.bars.kept import KeptBars
from medalion.core.datasets import CRYPTO_BARS, CRYPTO_QUOTES, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError, NotFoundError
from medalion.store.store import Store
from tests.support.bar_rows import DAY, HOUR, MINUTE, MINUTES, bar, frame, quote
from tests.support.kept_bars import on_reading, reason
from tests.support.lake import folder_of, pin_of, table_of
from tests.support.observed import START, SYMBOLS, instruments


@pytest.fixture
def stock(store: Store) -> Store:
    instruments(store, STOCK_BARS.kind)
    return store


def test_kept_bars_answer_as_those_made_on_reading_and_explain_tells(stock: Store) -> None:
    stock.write(STOCK_BARS, pl.concat([MINUTES, MINUTES.with_columns(symbol=pl.lit("BBB"))]))
    before = stock.bars(list(SYMBOLS), "5Min")
    stock.rollups.keep(STOCK_BARS, timeframe="5m")
    assert "kept" not in reason(stock, "5Min")
    done = stock.rollups.refresh()
    assert (done.series, done.written, done.deleted) == (2, 6, 0)
    assert reason(stock, "5Min").startswith("5Min bars are kept")
    for _ in ("hot", "in the lake"):
        assert_frame_equal(stock.bars(list(SYMBOLS), "5Min"), before)
        for columns in (["close", "symbol"], ["source"], ["available_at", "ts"]):
            assert_frame_equal(stock.bars(None, "5Min", columns=columns), before.select(columns))
        part = stock.bars("BBB", "5Min", start=START + 5 * MINUTE, end=START + 6 * MINUTE)
        assert_frame_equal(part, before.filter((pl.col("symbol") == "BBB") & (pl.col("ts") == START + 5 * MINUTE)))
        stock.mirror.run()
    again = stock.rollups.refresh()
    assert (again.series, again.written, again.deleted) == (0, 0, 0)
    assert stock.mirror.verify().is_empty()


def test_reads_of_what_is_stored_do_not_see_them(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    before = stock.read(STOCK_BARS)
    assert stock.latest(STOCK_BARS, "AAA", timeframe="5Min") is None
    stock.rollups.refresh()
    assert_frame_equal(stock.read(STOCK_BARS), before)
    assert stock.latest(STOCK_BARS, "AAA", timeframe="5Min") is None
    assert stock.bars("AAA", "5Min", rollup=False).is_empty()
    assert stock.read(STOCK_BARS, source="rollup:manual")["close"].to_list() == [14, 15, 21]
    assert_frame_equal(stock.bars("AAA", "15Min"), on_reading(stock, "AAA", "15Min"))


def test_only_what_has_changed_is_made_again(stock: Store) -> None:
    rows = [bar(START + n * MINUTE, 10 + n % 7) for n in range(600)]
    stock.write(STOCK_BARS, frame(rows))
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    stock.write(STOCK_BARS, frame([bar(START + 302 * MINUTE, 99)]))
    said = reason(stock, "5Min")
    assert "kept" in said
    assert "made from 1Min" in said
    assert "made" not in reason(stock, "5Min", end=START + 300 * MINUTE)
    assert_frame_equal(stock.bars("AAA", "5Min"), on_reading(stock, "AAA", "5Min"))
    done = stock.rollups.refresh()
    assert (done.series, done.written, done.deleted) == (1, 1, 0)
    assert "made" not in reason(stock, "5Min")
    assert stock.delete(STOCK_BARS, symbols="AAA", start=START, end=START + 10 * MINUTE) == 10
    assert_frame_equal(stock.bars("AAA", "5Min"), on_reading(stock, "AAA", "5Min"))
    assert stock.rollups.refresh().deleted == 2
    assert stock.bars("AAA", "5Min")["ts"][0] == START + 10 * MINUTE


def test_what_they_may_not_answer_is_made(stock: Store) -> None:
    first = stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    second = stock.write(STOCK_BARS, frame([bar(START, 77)]))
    stock.rollups.refresh()
    for write, open_price in ((first, 10), (second, 77)):
        assert stock.bars("AAA", "5Min", as_of=write.recorded_at)["open"][0] == open_price
        assert "kept" not in reason(stock, "5Min", as_of=write.recorded_at)
    arrival = stock.bars("AAA", "5Min", columns=["write_id", "recorded_at"])
    assert arrival.row(0) == (second.write_id, second.recorded_at)
    assert_frame_equal(stock.bars("AAA", "5Min", adjust="split"), stock.bars("AAA", "5Min"))


def test_bars_that_are_stored_later_and_go_again_win_as_ever(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="15Min")
    stock.rollups.refresh()
    made = stock.bars("AAA", "15Min")
    stock.write(STOCK_BARS, frame([bar(START, 50, timeframe="5Min")]))
    for _ in range(2):  # what follows the stored bar is made of minutes still
        assert stock.bars("AAA", "15Min").select("open", "close").rows() == [(50, 21)]
        stock.rollups.refresh()
    stock.write(STOCK_BARS, frame([bar(START, 60, timeframe="15Min")]))
    stock.rollups.refresh()
    assert stock.read(STOCK_BARS, source="rollup:manual").is_empty()
    assert stock.bars("AAA", "15Min")["close"].to_list() == [60]
    for timeframe in ("5Min", "15Min"):
        stock.delete(STOCK_BARS, symbols="AAA", timeframe=timeframe)
    assert_frame_equal(stock.bars("AAA", "15Min"), made)
    stock.rollups.refresh()
    assert "kept" in reason(stock, "15Min")
    assert_frame_equal(stock.bars("AAA", "15Min"), made)


def test_quotes_of_coins_make_them_and_bars_that_come_take_their_place(store: Store) -> None:
    instruments(store, CRYPTO_BARS.kind)
    rows = [quote(START + n * timedelta(seconds=20), 10 + n, 12 + n) for n in range(9)]
    store.write(CRYPTO_QUOTES, frame(rows, CRYPTO_QUOTES), source="feed")
    store.rollups.keep(CRYPTO_BARS, timeframe="1Min", symbols="AAA")
    store.rollups.refresh()
    assert "kept" in reason(store, "1Min", dataset=CRYPTO_BARS)
    assert_frame_equal(store.bars("AAA", "1Min"), on_reading(store, "AAA", "1Min"))
    assert store.bars("AAA", "1Min")["source"].unique().to_list() == ["rollup:feed"]
    assert store.read(CRYPTO_BARS, symbols="AAA").is_empty()
    store.write(CRYPTO_BARS, frame([bar(START, 50)]), source="other")
    assert store.bars("AAA", "1Min")["close"].to_list() == [50]
    store.rollups.refresh()
    assert store.read(CRYPTO_BARS, source="rollup:feed").is_empty()


def test_a_renamed_instrument_keeps_its_bars(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES.head(2))
    stock.rollups.keep(STOCK_BARS, timeframe="5Min", symbols=["AAA"])
    stock.rollups.refresh()
    stock.assets.update(stock.assets.by_symbol("AAA").id, symbol="AA")
    stock.assets.create(symbol="AAA", name="another", asset_type="stock")
    stock.write(STOCK_BARS, MINUTES.tail(3).with_columns(symbol=pl.lit("AA")))
    stock.rollups.refresh()
    assert_frame_equal(stock.bars("AA", "5Min"), on_reading(stock, "AA", "5Min"))
    assert stock.rollups.list()["symbols"].to_list() == [["AA"]]


def test_folded_entries_are_not_taken_for_none(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    stock.mirror.run()
    stock.write(STOCK_BARS, frame([bar(START, 77)]))
    stock.mirror.run()
    stock.mirror.prune()
    assert stock.mirror.fold([STOCK_BARS], older_than=timedelta()) == 3
    assert stock.bars("AAA", "5Min")["open"][0] == 77
    assert stock.rollups.refresh().written == 1
    assert "kept" in reason(stock, "5Min")
    assert stock.bars("AAA", "5Min")["open"][0] == 77
    assert stock.rollups.refresh().series == 0
    stock.mirror.run()
    stock.mirror.prune()
    assert stock.mirror.fold([STOCK_BARS], older_than=timedelta()) == 1
    assert "kept" in reason(stock, "5Min")  # what was folded is known to be in them


def test_rows_that_retention_dropped_are_missing_from_them_too(stock: Store) -> None:
    early = datetime(2023, 1, 5, tzinfo=START.tzinfo)
    stock.write(STOCK_QUOTES, frame([quote(early, 1, 3), quote(START, 5, 7)], STOCK_QUOTES))
    stock.rollups.keep(STOCK_BARS, timeframe="1Hour")
    stock.mirror.run()
    stock.rollups.refresh()
    assert stock.bars("AAA", "1Hour")["close"].to_list() == [2, 6]
    age = datetime.now(START.tzinfo) - START + DAY
    assert stock.mirror.retain([STOCK_QUOTES], rows_older_than=age).rows == 1
    assert stock.bars("AAA", "1Hour")["close"].to_list() == [6]
    assert stock.rollups.refresh().deleted == 1
    assert stock.bars("AAA", "1Hour")["close"].to_list() == [6]
    stock.write(STOCK_QUOTES, frame([quote(early, 1, 3)], STOCK_QUOTES))
    stock.rollups.refresh()
    stock.mirror.run()
    assert stock.mirror.retain([STOCK_BARS], rows_older_than=age).rows == 3  # two bars and a tombstone, not its quotes
    assert stock.bars("AAA", "1Hour")["close"].to_list() == [2, 6]
    stock.rollups.refresh()
    assert "made" not in reason(stock, "1Hour")
    assert stock.bars("AAA", "1Hour")["close"].to_list() == [2, 6]


def test_after_a_repair_of_the_lake_they_are_made_anew(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.mirror.run()
    stock.mirror.prune()
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    (path,) = pin_of(stock, STOCK_BARS).files.path
    (folder_of(table_of(stock, STOCK_BARS)) / path).write_bytes(b"damaged")
    assert "lost" in stock.mirror.verify([STOCK_BARS], heal=True)["outcome"]
    assert stock.bars("AAA", "5Min").is_empty()
    assert stock.rollups.refresh().deleted == 3
    assert stock.read(STOCK_BARS, source="rollup:manual").is_empty()


def test_what_is_kept_is_listed_changed_and_dropped(stock: Store) -> None:
    assert stock.rollups.list().is_empty()
    stock.write(STOCK_BARS, pl.concat([MINUTES, MINUTES.with_columns(symbol=pl.lit("BBB"))]))
    stock.rollups.keep("stock_bars", timeframe="5Min", symbols=["BBB"])
    stock.rollups.refresh("stock_bars", timeframe="5m")
    assert stock.rollups.list().drop("refreshed_at").rows() == [("stock_bars", "5Min", ["BBB"], 1)]
    assert "kept" not in reason(stock, "5Min", "AAA")
    both = reason(stock, "5Min", list(SYMBOLS))
    assert "kept" in both
    assert "made" in both
    stock.rollups.keep("stock_bars", timeframe="5Min", symbols="AAA")
    assert stock.rollups.refresh().deleted == 3
    assert "kept" in reason(stock, "5Min", "AAA")
    before = stock.bars(None, "5Min")
    assert stock.rollups.drop("stock_bars", timeframe="5Min") == 3
    assert stock.rollups.list().is_empty()
    assert_frame_equal(stock.bars(None, "5Min"), before)
    assert stock.read(STOCK_BARS, source="rollup:manual").is_empty()


def test_what_cannot_be_meant_is_refused(stock: Store) -> None:
    with pytest.raises(InputError, match="rollups are of bars"):
        stock.rollups.keep(STOCK_QUOTES, timeframe="5Min")
    with pytest.raises(InputError, match="only stored"):
        stock.rollups.keep(STOCK_BARS, timeframe="2Day")
    with pytest.raises(NotFoundError, match="CCC"):
        stock.rollups.keep(STOCK_BARS, timeframe="5Min", symbols=["CCC"])
    calls: list[Callable[..., Any]] = [stock.rollups.drop, stock.rollups.refresh]
    for call in calls:
        with pytest.raises(NotFoundError, match="kept: none"):
            call(STOCK_BARS, timeframe="5Min")
    for source in ("rollup:manual", "downsampled:manual"):
        with pytest.raises(InputError, match="makes itself"):
            stock.write(STOCK_BARS, MINUTES, source=source)
        with pytest.raises(InputError, match="makes itself"):
            stock.import_history(STOCK_BARS, MINUTES, source=source)
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    with pytest.raises(InputError, match="makes itself"):
        stock.delete(STOCK_BARS, symbols="AAA", source="rollup:manual")


def test_a_write_that_was_open_during_a_refresh_is_not_missed(stock: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws a lower number than one that is refreshed, and commits later."""
    from oltp.hot import writes

    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    copy, seen = writes._copy, list[bool]()

    def overtaken(*arguments: Any) -> None:
        if not seen:
            seen.append(True)
            stock.write(STOCK_BARS, frame([bar(START + HOUR, 1)]))
            stock.rollups.refresh()
        copy(*arguments)

    monkeypatch.setattr(writes, "_copy", overtaken)
    stock.write(STOCK_BARS, frame([bar(START, 77)]))
    assert stock.bars("AAA", "5Min")["open"].to_list() == [77, 15, 21, 1]
    stock.rollups.refresh()
    assert stock.bars("AAA", "5Min")["open"].to_list() == [77, 15, 21, 1]
    assert "made" not in reason(stock, "5Min")


def test_a_write_that_comes_between_two_reads_tears_nothing(stock: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    stock.rollups.refresh()
    hold, late = KeptBars.still_hold, [bar(START, 77), bar(START + 11 * MINUTE, 88)]

    def interrupted(self: KeptBars, *arguments: Any) -> bool:
        if late:
            stock.write(STOCK_BARS, frame([late.pop(), late.pop()]))
        return hold(self, *arguments)

    monkeypatch.setattr(KeptBars, "still_hold", interrupted)
    assert stock.bars("AAA", "5Min")["open"].to_list() == [77, 15, 88]


def test_one_process_at_a_time_refreshes(stock: Store, database_url: str, data_dir: Path) -> None:
    stock.write(STOCK_BARS, MINUTES)
    stock.rollups.keep(STOCK_BARS, timeframe="5Min")
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        from oltp.ledger import rollups

        with other._parts.postgres.connection() as connection:
            (kept,) = rollups.kept_rollups(connection)
        with other._parts.postgres.connection() as connection, rollups.refreshing(connection, kept):
            assert stock.rollups.refresh(wait=False).series == 0
        assert stock.rollups.refresh(wait=False).series == 1


def test_large_series_are_made_in_pieces(stock: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medalion.bars.refresh._PIECE_ROWS", 40)
    rows = [bar(START + n * MINUTE, Decimal(n + 1), symbol=symbol) for n in range(300) for symbol in SYMBOLS]
    stock.write(STOCK_BARS, frame(rows))
    stock.mirror.run()
    for timeframe in ("7Min", "1Hour", "1Day"):
        stock.rollups.keep(STOCK_BARS, timeframe=timeframe)
    stock.rollups.refresh()
    for timeframe in ("7Min", "1Hour", "1Day"):
        assert "made" not in reason(stock, timeframe, list(SYMBOLS))
        assert_frame_equal(stock.bars(None, timeframe), on_reading(stock, None, timeframe))
