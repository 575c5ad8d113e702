"""Stored bars are continued by finer ones before the first and after the last, and holes between them stay."""

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.store.store import Store
from tests.support.bar_rows import DAY, HOUR, MINUTE, bar, frame, quote
from tests.support.lengths import examples
from tests.support.observed import instruments

BEGIN = datetime(2024, 3, 4, tzinfo=UTC)
LENGTHS = {"1Min": 1, "5Min": 5, "15Min": 15}
SOURCES = ("a", "b")
_SYMBOLS = count()

Stored = dict[tuple[str, str, int], int]
"""By timeframe, source and minute the price of a stored bar."""


def made(stored: Stored, timeframe: str) -> dict[int, tuple[str, int, int, int]]:
    """By minute (source, open, close, volume) of every bar: by definition, without a look at any range."""
    own: dict[int, tuple[str, int, int, int]] = {}
    for source in reversed(SOURCES):  # the first to write is preferred
        for (length, feed, minute), price in stored.items():
            if (length, feed) == (timeframe, source):
                own[minute] = (source, price, price, 1)
    span = LENGTHS[timeframe]
    finer = [name for name in LENGTHS if LENGTHS[name] < span and any(length == name for length, _, _ in stored)]
    if not finer:
        return own
    parts: dict[int, list[tuple[str, int, int, int]]] = {}
    for minute, one in sorted(made(stored, finer[-1]).items()):
        parts.setdefault(minute // span * span, []).append(one)
    held = range(min(own), max(own) + 1) if own else range(0)
    for minute, some in parts.items():
        if minute not in held:
            feeds = "+".join(
                sorted({feed for source, *_ in some for feed in source.removeprefix("rollup:").split("+")})
            )
            own[minute] = f"rollup:{feeds}", some[0][1], some[-1][2], sum(volume for *_, volume in some)
    return own


bars_of = st.dictionaries(
    st.tuples(st.sampled_from(list(LENGTHS)), st.sampled_from(SOURCES), st.integers(0, 11)),
    st.integers(1, 99),
    max_size=14,
).map(lambda found: {(length, feed, place * LENGTHS[length]): price for (length, feed, place), price in found.items()})


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=bars_of,
    gone=st.sets(st.integers(0, 13), max_size=3),
    start=st.none() | st.integers(0, 40).map(lambda n: n * 5),
    end=st.none() | st.integers(0, 40).map(lambda n: n * 5),
    is_mirrored=st.booleans(),
)
def test_bars_of_any_range_are_those_of_the_whole(
    store: Store, stored: Stored, gone: set[int], start: int | None, end: int | None, is_mirrored: bool
) -> None:
    symbol = f"S{next(_SYMBOLS)}"
    instruments(store, STOCK_BARS.kind, (symbol,))
    for source in SOURCES:
        rows = [
            bar(BEGIN + minute * MINUTE, price, symbol=symbol, timeframe=length)
            for (length, feed, minute), price in stored.items()
            if feed == source
        ]
        if rows:
            store.write(STOCK_BARS, frame(rows), source=source)
    for number, (length, feed, minute) in enumerate(list(stored)):
        if number in gone:
            at = BEGIN + minute * MINUTE
            store.delete(STOCK_BARS, symbols=symbol, timeframe=length, source=feed, start=at, end=at + MINUTE)
            del stored[length, feed, minute]
    if is_mirrored:
        store.mirror.run()
    first = None if start is None else BEGIN + start * MINUTE
    last = None if end is None else BEGIN + end * MINUTE
    if first is not None and last is not None and last < first:
        first, last = last, first
    for timeframe in LENGTHS:
        found = store.bars(symbol, timeframe, start=first, end=last)
        answered = [
            (ts, source, int(opening), int(close), int(volume))
            for ts, source, opening, close, volume in found.select("ts", "source", "open", "close", "volume").rows()
        ]
        expected = [(BEGIN + minute * MINUTE, *one) for minute, one in sorted(made(stored, timeframe).items())]
        assert answered == [
            row for row in expected if (first is None or row[0] >= first) and (last is None or row[0] < last)
        ]


@pytest.fixture
def stock(store: Store) -> Store:
    instruments(store, STOCK_BARS.kind)
    return store


def closes(rows: pl.DataFrame) -> list[tuple[str, int]]:
    return [(source.split(":")[0], int(close)) for source, close in rows.select("source", "close").rows()]


def test_days_up_to_yesterday_are_stored_and_today_is_made_of_minutes(stock: Store) -> None:
    opens = datetime(2024, 3, 6, 14, 30, tzinfo=UTC)
    stored = [bar(datetime(2024, 3, 4 + n, 5, tzinfo=UTC), 10 + n, timeframe="1Day") for n in range(2)]
    stock.import_history(STOCK_BARS, frame(stored), source="history")
    stock.write(STOCK_BARS, frame(bar(opens + n * MINUTE, 50 + n) for n in range(3)), source="live")
    assert closes(stock.bars("AAA", "1Day")) == [("history", 10), ("history", 11), ("rollup", 52)]
    assert closes(stock.bars("AAA", "1Day", start="2024-03-06")) == [("rollup", 52)]
    assert closes(stock.bars("AAA", "1Day", rollup=False)) == [("history", 10), ("history", 11)]
    assert closes(stock.read(STOCK_BARS, symbols="AAA", timeframe="1Day")) == [("history", 10), ("history", 11)]
    reason = stock.explain(STOCK_BARS, symbols="AAA", timeframe="1Day", rollup=True).reason
    assert "after the last from 1Min bars" in reason
    week = stock.bars("AAA", "1Week")
    assert [(int(row["open"]), int(row["close"])) for row in week.to_dicts()] == [(10, 52)]


def test_a_live_minute_is_shown_beside_a_history_of_days_of_another_source(stock: Store) -> None:
    stock.import_history(
        STOCK_BARS, frame([bar(datetime(2024, 3, 4, 5, tzinfo=UTC), 10, timeframe="1Day")]), source="a"
    )
    stock.write(STOCK_BARS, frame([bar(BEGIN + 3 * DAY, 7)]), source="b")
    assert closes(stock.bars("AAA", "1Min")) == [("b", 7)]


def test_a_bar_that_was_recorded_at_noon_gives_way_to_its_minutes(stock: Store) -> None:
    opens = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + DAY
    hours = [bar(opens + n * HOUR, 10 + n, timeframe="1Hour") for n in range(2)]
    stock.write(STOCK_BARS, frame(hours))
    assert closes(stock.bars("AAA", "1Hour")) == [("manual", 10), ("manual", 11)]
    stock.write(STOCK_BARS, frame([bar(opens + HOUR, 99)]))
    assert closes(stock.bars("AAA", "1Hour")) == [("manual", 10), ("rollup", 99)]


def test_quotes_make_no_bars_beside_stored_ones_and_two_sources_of_them_are_not_mixed(stock: Store) -> None:
    def quotes(price: int, *minutes: int) -> pl.DataFrame:
        return frame([quote(BEGIN + n * MINUTE, price, price + 2) for n in minutes], STOCK_QUOTES)

    stock.write(STOCK_QUOTES, quotes(10, 0, 1), source="a")
    stock.write(STOCK_QUOTES, quotes(20, 1, 2, 7), source="b")
    found = stock.bars("AAA", "5Min").select("source", "open", "close").rows()
    assert found == [("rollup:a", Decimal(11), Decimal(11)), ("rollup:b", Decimal(21), Decimal(21))]
    stock.write(STOCK_BARS, frame([bar(BEGIN + DAY, 5, timeframe="5Min")]))
    assert closes(stock.bars("AAA", "5Min")) == [("manual", 5)]
