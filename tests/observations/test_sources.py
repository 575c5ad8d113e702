"""Rows of several sources: every one is kept, and which of them answers is known beforehand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError, MixedSourcesWarning, NotFoundError
from medalion.observations import plan as routing
from medalion.store.store import Store
from tests.support.bar_rows import DAY, MINUTE, bar, frame, quote
from tests.support.observed import instruments, sample

DAY_ONE = datetime(2024, 1, 2, 5, tzinfo=UTC)
LONG_AGO = datetime(2023, 3, 1, 15, tzinfo=UTC)


@pytest.fixture
def stock(store: Store) -> Store:
    instruments(store, STOCK_BARS.kind)
    return store


def days(*closes: int, start: datetime = DAY_ONE) -> pl.DataFrame:
    return frame(bar(start + n * DAY, close, timeframe="1Day") for n, close in enumerate(closes))


def closes(rows: pl.DataFrame) -> list[int]:
    return [int(close) for close in rows["close"]]


def test_an_import_and_a_live_quote_that_name_no_source_are_one_series(stock: Store) -> None:
    stock.import_history(STOCK_QUOTES, frame([quote(LONG_AGO, 100, 101)], STOCK_QUOTES))
    stock.write(STOCK_QUOTES, frame([quote(datetime.now(UTC), 500, 501)], STOCK_QUOTES))
    newest = stock.latest(STOCK_QUOTES, "AAA")
    assert newest is not None
    assert newest["ask_price"] == 501
    stock.delete(STOCK_QUOTES, symbols="AAA", end=LONG_AGO + DAY)
    assert stock.latest(STOCK_QUOTES, "AAA") == newest


def test_a_correction_that_names_no_source_meets_what_it_corrects(stock: Store) -> None:
    stock.import_history(STOCK_BARS, days(100))
    stock.write(STOCK_BARS, days(555, 101))
    assert closes(stock.bars("AAA", "1Day")) == [555, 101]


READS: dict[str, Callable[[Store], pl.DataFrame]] = {
    "read": lambda store: store.read(STOCK_BARS, symbols="AAA", timeframe="1Day"),
    "read of all": lambda store: store.read(STOCK_BARS),
    "scan": lambda store: store.scan(STOCK_BARS).collect(),
    "scan, filtered": lambda store: store.scan(STOCK_BARS).filter(pl.col("close") < 1000).collect(),
    "bars": lambda store: store.bars("AAA", "1Day"),
    "sql": lambda store: store.sql("SELECT * FROM stock_bars ORDER BY ts").pl(),
}


@pytest.mark.parametrize("place", ["hot", "lake", "both", "wide"])
@pytest.mark.parametrize("how", READS)
def test_of_bars_the_first_source_answers_and_the_next_fills_its_gaps(
    stock: Store, monkeypatch: pytest.MonkeyPatch, how: str, place: str
) -> None:
    if place == "wide":
        monkeypatch.setattr(routing, "WIDE_ROWS", 0)
    stock.write(STOCK_BARS, days(1, 2), source="vendor")
    if place != "hot":
        stock.mirror.run()
    stock.write(STOCK_BARS, days(10, 20, 30, 40), source="other")
    if place in ("lake", "wide"):
        stock.mirror.run()
    assert closes(READS[how](stock)) == [1, 2, 30, 40]
    stock.sources.prefer(STOCK_BARS, ["other"])
    assert closes(READS[how](stock)) == [10, 20, 30, 40]
    stock.sources.prefer(STOCK_BARS, ["vendor"], symbols="AAA")
    assert closes(READS[how](stock)) == [1, 2, 30, 40]
    stock.delete(STOCK_BARS, symbols="AAA", source="vendor", start=DAY_ONE + DAY)
    assert closes(READS[how](stock)) == [1, 20, 30, 40]


def test_a_read_names_one_source_or_several_in_its_own_order(stock: Store) -> None:
    for source, rows in {"a": days(1), "b": days(10, 20), "c": days(100, 200, 300)}.items():
        stock.write(STOCK_BARS, rows, source=source)
    for named, expected in [
        ("b", [10, 20]),
        (["b", "a"], [10, 20]),
        (["c"], [100, 200, 300]),
        (["a", "c"], [1, 200, 300]),
    ]:
        assert closes(stock.read(STOCK_BARS, source=named)) == expected
        assert closes(stock.bars("AAA", "1Day", source=named)) == expected
    plan = stock.explain(STOCK_BARS, source=["b", "a"])
    assert (set(plan.sources), plan.hidden) == ({"a", "b"}, ("c",))
    assert "hidden: c" in str(plan)
    unmeant: list[Any] = [[], 7, "", ["a", None]]
    for wrong in unmeant:
        with pytest.raises(InputError):
            stock.read(STOCK_BARS, source=wrong)


def test_what_was_preferred_has_a_history(stock: Store) -> None:
    stock.write(STOCK_BARS, days(1), source="a")
    stock.write(STOCK_BARS, days(10), source="b")
    moments = []
    for preferred in (["b"], ["a"], ["b"], []):
        stock.sources.prefer(STOCK_BARS, preferred)
        written = stock.write(STOCK_QUOTES, frame([quote(LONG_AGO, 1, 2)], STOCK_QUOTES))
        stock.write(STOCK_BARS, days(7, start=DAY_ONE + 9 * DAY), source="a")  # so that the moment is settled
        moments.append(written.recorded_at)
    shown = [closes(stock.read(STOCK_BARS, as_of=moment, end=DAY_ONE + DAY)) for moment in moments]
    assert shown == [[10], [1], [10], [1]]
    assert [
        closes(stock.sql("SELECT close FROM stock_bars ORDER BY ts", as_of=moment).pl())[0] for moment in moments
    ] == [10, 1, 10, 1]


def test_of_events_every_source_has_its_say_and_a_read_says_so_once(stock: Store) -> None:
    stock.write(STOCK_QUOTES, frame([quote(LONG_AGO, 1, 2)], STOCK_QUOTES), source="a")
    stock.write(STOCK_QUOTES, frame([quote(LONG_AGO, 3, 4)], STOCK_QUOTES), source="b")
    with pytest.warns(MixedSourcesWarning, match="a, b; name one with source="):
        assert stock.read(STOCK_QUOTES)["source"].to_list() == ["a", "b"]
    assert stock.scan(STOCK_QUOTES).collect()["source"].to_list() == ["a", "b"]
    assert stock.quotes("AAA", source="b")["source"].to_list() == ["b"]
    assert stock.sql("SELECT source FROM stock_quote_snapshots ORDER BY 1").fetchall() == [("a",), ("b",)]


def test_the_view_of_every_source_has_what_reads_do_not_show(stock: Store) -> None:
    stock.write(STOCK_BARS, days(1), source="a")
    stock.write(STOCK_BARS, days(10), source="b")
    assert stock.sql("SELECT count(*) FROM stock_bars").fetchall() == [(1,)]
    both = stock.sql(
        "SELECT b.close - a.close FROM stock_bars_by_source a JOIN stock_bars_by_source b USING (ts) "
        "WHERE a.source = 'a' AND b.source = 'b'"
    )
    assert both.fetchall() == [(9,)]


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_the_latest_is_the_newest_of_all_and_at_one_time_that_of_the_preferred(stock: Store, is_mirrored: bool) -> None:
    def latest(**named: Any) -> tuple[str, int] | None:
        row = stock.latest(STOCK_BARS, "AAA", timeframe="1Day", **named)
        return None if row is None else (row["source"], int(row["close"]))

    stock.write(STOCK_BARS, days(1, 2), source="a")
    stock.write(STOCK_BARS, days(10), source="b")
    if is_mirrored:
        stock.mirror.run()
    assert latest() == ("a", 2)
    stock.write(STOCK_BARS, days(20, start=DAY_ONE + DAY), source="b")
    assert latest() == ("a", 2)
    stock.sources.prefer(STOCK_BARS, "b")
    assert (latest(), latest(source=["a", "b"]), latest(source="a")) == (("b", 20), ("a", 2), ("a", 2))
    stock.write(STOCK_BARS, days(3, start=DAY_ONE + 2 * DAY), source="a")
    assert latest() == ("a", 3)
    stock.delete(STOCK_BARS, symbols="AAA", start=DAY_ONE + 2 * DAY)
    assert latest() == latest() == ("b", 20)
    stock.delete(STOCK_BARS, symbols="AAA", start=DAY_ONE + DAY, source="b")
    assert latest() == ("a", 2)
    stock.delete(STOCK_BARS, symbols="AAA")
    assert latest() is None


def test_at_one_time_a_join_takes_the_preferred_source(stock: Store) -> None:
    stock.write(STOCK_QUOTES, frame([quote(LONG_AGO, 1, 2)], STOCK_QUOTES), source="a")
    stock.write(STOCK_QUOTES, frame([quote(LONG_AGO, 3, 4), quote(LONG_AGO + DAY, 5, 6)], STOCK_QUOTES), source="b")
    left = pl.DataFrame({"symbol": "AAA", "ts": [LONG_AGO + MINUTE, LONG_AGO + 2 * DAY]})
    assert stock.asof(left, STOCK_QUOTES)["bid_price"].to_list() == [1, 5]
    stock.sources.prefer(STOCK_QUOTES, ["b"])
    assert stock.asof(left, STOCK_QUOTES)["bid_price"].to_list() == [3, 5]
    assert stock.asof(left, STOCK_QUOTES, source="a")["bid_price"].to_list() == [1, 1]


def test_who_answers_is_shown_in_order(stock: Store) -> None:
    stock.write(STOCK_BARS, pl.concat([sample(STOCK_BARS)]), source="a")
    stock.write(STOCK_BARS, days(10), source="b")
    stock.sources.prefer(STOCK_BARS, ["b", "not yet"], symbols="AAA")
    shown = stock.sources.list(STOCK_BARS)
    assert shown.rows() == [
        ("stock_bars", "AAA", "b", 1, True),
        ("stock_bars", "AAA", "a", 2, False),
        ("stock_bars", "BBB", "a", 1, False),
    ]
    assert_frame_equal(stock.sources.list(symbols="BBB"), shown.tail(1))
    stock.sources.prefer(STOCK_BARS, [], symbols="AAA")
    assert stock.sources.list(STOCK_BARS, symbols="AAA")["source"].to_list() == ["a", "b"]
    with pytest.raises(NotFoundError):
        stock.sources.prefer(STOCK_BARS, ["a"], symbols="NONE")
    with pytest.raises(InputError):
        stock.sources.prefer(STOCK_BARS, None)


def test_deleting_hides_every_source_unless_one_is_named(stock: Store) -> None:
    for source in ("a", "b"):
        stock.write(STOCK_BARS, days(1, 2), source=source)
    assert stock.delete(STOCK_BARS, symbols="AAA", start=DAY_ONE + DAY, source="b") == 1
    assert stock.delete(STOCK_BARS, symbols="AAA", start=DAY_ONE + DAY) == 1
    assert stock.delete(STOCK_BARS, symbols="AAA") == 2
    assert stock.sql("SELECT count(*) FROM stock_bars_by_source").fetchall() == [(0,)]


def test_the_simulated_venue_fills_at_the_newest_quote_of_any_source(stock: Store) -> None:
    stock.import_history(STOCK_QUOTES, frame([quote(LONG_AGO, 100, 101)], STOCK_QUOTES), source="history")
    stock.write(
        STOCK_QUOTES, frame([quote(datetime.now(UTC) - timedelta(seconds=1), 500, 501)], STOCK_QUOTES), source="live"
    )
    account = stock.accounts.create(name="paper")
    stock.trading.deposit(account, Decimal(10_000))
    trade = stock.trading.execute_market_order(account=account, symbol="AAA", side="buy", quantity=1)
    assert trade.average_price == 501
