"""Bars of a timeframe that is not stored are made from what is, to the last digit and never before they are known."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.datasets import CRYPTO_BARS, CRYPTO_QUOTES, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError
from medalion.core.frames import polars_schema
from medalion.store.store import Store
from tests.support.bar_rows import DAY, HOUR, MINUTE, MINUTES, NEW_YORK, bar, frame, local, made, quote
from tests.support.observed import START, instruments

EARLY = {date(2024, 7, 3), date(2024, 11, 29), date(2024, 12, 24)}
HOLIDAYS = {date(2024, 3, 29), date(2024, 11, 28), date(2024, 12, 25)}
INTRADAY = {"5Min": 5, "7Min": 7, "15Min": 15, "90Min": 90, "1Hour": 60, "4Hour": 240}
MONTHS = {"1Month": 1, "3Month": 3, "12Month": 12}


def edges(ts: datetime, timeframe: str, zone: Any) -> tuple[datetime, datetime]:
    """Opening and closing edge of the bar that holds `ts`."""
    if timeframe in INTRADAY:
        span = INTRADAY[timeframe] * 60
        first = datetime.fromtimestamp(int(ts.timestamp()) // span * span, UTC)
        return first, first + timedelta(seconds=span)
    day = ts.astimezone(zone).date()
    if timeframe in MONTHS:
        count = MONTHS[timeframe]
        month = day.year * 12 + (day.month - 1) // count * count
        days = [date(m // 12, m % 12 + 1, 1) for m in (month, month + count)]
    else:
        length = 7 if timeframe == "1Week" else 1
        day -= timedelta(days=day.weekday() if length == 7 else 0)
        days = [day, day + timedelta(days=length)]
    first, last = (datetime.combine(each, time(), zone).astimezone(UTC) for each in days)
    return first, last


def is_session(day: date) -> bool:
    return day.weekday() < 5 and day not in HOLIDAYS


def counts(ts: datetime) -> bool:
    """Whether a minute is one of the exchange's regular session."""
    there = ts.astimezone(NEW_YORK)
    return is_session(there.date()) and time(9, 30) <= there.time() < (time(13) if there.date() in EARLY else time(16))


def expected(rows: list[dict[str, Any]], timeframe: str, *, is_stock: bool) -> list[dict[str, Any]]:
    """The definition, bar by bar, in fractions."""
    buckets: dict[tuple[datetime, datetime], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["ts"]):
        buckets.setdefault(edges(row["ts"], timeframe, NEW_YORK if is_stock else UTC), []).append(row)
    made = []
    is_by_session = is_stock and timeframe not in INTRADAY
    for (first, last), each in sorted(buckets.items()):
        held = [row for row in each if not is_by_session or is_session(row["ts"].astimezone(NEW_YORK).date())]
        priced = [row for row in held if not is_by_session or counts(row["ts"])]
        if not priced:
            continue
        traded = [row for row in priced if row["vwap"] is not None and row["volume"] > 0]
        weight = sum(Fraction(row["volume"]) for row in traded)
        total = sum(Fraction(row["vwap"]) * Fraction(row["volume"]) for row in traded)
        trades = [row["trade_count"] for row in held]
        prices = {"open": priced[0]["open"], "high": max(row["high"] for row in priced)}
        prices |= {"low": min(row["low"] for row in priced), "close": priced[-1]["close"]}
        sums = {
            "volume": Decimal(sum(int(row["volume"].scaleb(8)) for row in held)) / 10**8,
            "trade_count": None if None in trades else sum(trades),
            "vwap": Decimal(round(total * 10**8 / weight)) / 10**8 if weight else None,
        }
        lead, tail = {"symbol": "AAA", "timeframe": timeframe, "ts": first}, {"source": "s", "instrument_id": 7}
        made.append({**lead, **prices, **sums, "available_at": last, **tail})
    return made


def units(most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(0, most).map(lambda whole: Decimal(whole).scaleb(-8))


minute_bars = st.builds(
    bar,
    st.sampled_from([datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 10, 25, tzinfo=UTC)]).flatmap(
        lambda first: st.one_of(st.integers(0, 60), st.integers(0, 60 * 24 * 60)).map(lambda n: first + n * MINUTE)
    ),
    units(10**18 - 1),
    st.one_of(st.just(Decimal(0)), units(10**12), units(10**26)),
    open=units(10**18 - 1),
    close=units(10**11),
    vwap=st.one_of(st.none(), units(10**12), units(10**18 - 1)),
    trade_count=st.one_of(st.integers(0, 10**9), st.none()),
)


HUGE = [bar(START + n * MINUTE, Decimal(10**18 - 2 - n).scaleb(-8), 10**12) for n in range(2)]  # beyond 128 bits


@settings(max_examples=60)
@example(HUGE, "5Min", True)
@given(
    st.lists(minute_bars, max_size=40, unique_by=lambda row: row["ts"]),
    st.sampled_from([*INTRADAY, "1Day", "1Week", *MONTHS]),
    st.booleans(),
)
def test_bars_are_what_their_definition_says(rows: list[dict[str, Any]], timeframe: str, is_stock: bool) -> None:
    found = made(frame([*rows, bar(START, 1)]).head(len(rows)), timeframe, is_stock=is_stock)
    assert found.schema == polars_schema(STOCK_BARS.schema)
    assert found.to_dicts() == expected(rows, timeframe, is_stock=is_stock)


@pytest.fixture
def stock(store: Store) -> Store:
    instruments(store, STOCK_BARS.kind)
    return store


def shown(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return [
        (ts.strftime("%H:%M"), *map(int, rest)) for ts, *rest in rows.select("ts", "open", "close", "volume").rows()
    ]


FIVES = [("14:30", 10, 14, 8), ("14:35", 15, 15, 6), ("14:40", 21, 21, 12)]


@pytest.mark.parametrize("place", ["hot", "lake", "both", "imported"])
def test_bars_are_made_from_minutes_wherever_these_lie(stock: Store, place: str) -> None:
    if place == "imported":
        stock.import_history(STOCK_BARS, MINUTES, source="manual")
    else:
        stock.write(STOCK_BARS, MINUTES.head(2) if place == "both" else MINUTES)
    if place in ("lake", "both"):
        stock.mirror.run()
    if place == "both":
        stock.write(STOCK_BARS, MINUTES.tail(3))
    bars = stock.bars("AAA", "5Min")
    assert shown(bars) == FIVES
    assert bars.schema == stock.bars("AAA", "1Min").schema
    assert bars["available_at"].to_list() == [ts + 5 * MINUTE for ts in bars["ts"]]
    assert bars.select("source", "timeframe").unique().rows() == [("rollup:manual", "5Min")]


def test_without_rollup_only_stored_bars_are_read(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    empty = stock.read(STOCK_BARS, end="2000-01-01")
    assert_frame_equal(stock.bars("AAA", "5Min", rollup=False), empty)
    assert_frame_equal(stock.bars("BBB", "5Min"), empty)
    assert_frame_equal(stock.bars("AAA", "2Day"), empty)
    with pytest.raises(InputError, match="1Fortnight"):
        stock.bars("AAA", "1Fortnight")


def test_what_nothing_stored_divides_is_empty(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES.with_columns(timeframe=pl.lit("5Min")))
    for timeframe in ("1Min", "7Min", "12Min", "2Week", "5Month"):
        assert stock.bars("AAA", timeframe).is_empty()
    hours = MINUTES.with_columns(timeframe=pl.lit("4Hour"), symbol=pl.lit("BBB"))
    stock.write(STOCK_BARS, hours)
    assert stock.bars("BBB", "1Day").is_empty()  # in winter a day in New York begins within a bar of four hours
    assert stock.bars("BBB", "12Hour").height == 1


def test_stored_bars_win_wherever_there_is_one_and_explain_tells(stock: Store) -> None:
    both = pl.concat([MINUTES, MINUTES.with_columns(symbol=pl.lit("BBB"))])
    own = frame([bar(START + DAY, 99, timeframe="5Min")])
    stock.write(STOCK_BARS, pl.concat([both, own]))
    stock.write(STOCK_BARS, frame([bar(START + 2 * DAY, 7), bar(START + DAY + MINUTE, 8)]))
    assert shown(stock.bars("AAA", "5Min", end=START + HOUR)) == FIVES
    assert shown(stock.bars("AAA", "5Min")) == [*FIVES, ("14:30", 99, 99, 1), ("14:30", 7, 7, 1)]
    together = stock.bars(["AAA", "BBB"], "5Min")
    assert together["symbol"].to_list() == [*["AAA"] * 5, *["BBB"] * 3]
    assert_frame_equal(stock.bars(None, "5Min"), together)

    def reason(*symbols: str, rollup: bool = True) -> str:
        return stock.explain(STOCK_BARS, symbols=symbols, timeframe="5Min", rollup=rollup).reason

    assert "made" not in reason("AAA") + reason("BBB", rollup=False)
    assert reason("BBB").startswith("5Min bars are made from 1Min bars")
    assert "of 1 series, 5Min bars are made from 1Min bars" in reason("AAA", "BBB")
    assert "before the first stored bar and after the last from 1Min bars" in reason("AAA")
    assert stock.explain(STOCK_BARS, symbols=["AAA", "BBB"], timeframe="5Min", rollup=True).hot_rows == 6


def test_the_coarsest_bars_that_divide_are_taken(stock: Store) -> None:
    five = frame([bar(START, 50, timeframe="5Min"), bar(START, 60, timeframe="10Min")])
    stock.write(STOCK_BARS, pl.concat([MINUTES, five]))
    assert shown(stock.bars("AAA", "15Min")) == [("14:30", 50, 21, 1 + 6 + 12)]
    assert shown(stock.bars("AAA", "30Min")) == [("14:30", 60, 21, 1 + 12)]
    assert shown(stock.bars("AAA", "3Min"))[0] == ("14:30", 10, 11, 3)
    assert [int(ts.timestamp()) % 420 for ts in stock.bars("AAA", "7Min")["ts"]] == [0, 0]  # counted from 1970


def test_a_range_is_of_the_bars_and_never_cuts_one(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    for start, end, wanted in [(0, 5, 1), (0, 6, 2), (1, 6, 1), (5, 5, 0), (4, 99, 2), (1, 5, 0)]:
        bars = stock.bars("AAA", "5Min", start=START + start * MINUTE, end=START + end * MINUTE)
        first = sum(ts < START + start * MINUTE for ts in stock.bars("AAA", "5Min")["ts"])
        assert shown(bars) == FIVES[first : first + wanted]
    assert shown(stock.bars("AAA", "5Min", start="0001-01-01", end="9999-12-31")) == FIVES
    assert stock.bars("AAA", "1Week", start="9999-12-30", end="9999-12-31").is_empty()


@pytest.mark.parametrize("mirrored", [False, True], ids=["hot", "mirrored"])
def test_a_corrected_or_deleted_minute_changes_its_bar_at_once(stock: Store, mirrored: bool) -> None:
    first = stock.write(STOCK_BARS, MINUTES)
    if mirrored:
        stock.mirror.run()
    second = stock.write(STOCK_BARS, frame([bar(START + 4 * MINUTE, 77, 100), bar(START + 11 * MINUTE, 30, 3)]))
    corrected = [("14:30", 10, 77, 103), FIVES[1], ("14:40", 30, 30, 3)]
    assert shown(stock.bars("AAA", "5Min")) == corrected
    stock.delete(STOCK_BARS, symbols="AAA", start=START + 5 * MINUTE, timeframe="1Min")
    if mirrored:
        stock.mirror.run()
    assert shown(stock.bars("AAA", "5Min")) == corrected[:1]
    then = [shown(stock.bars("AAA", "5Min", as_of=write.recorded_at)) for write in (first, second)]
    assert then == [FIVES, corrected]
    assert stock.bars("AAA", "5Min", as_of=first.recorded_at - DAY).is_empty()


def test_what_is_stored_is_asked_as_of_then(stock: Store) -> None:
    minutes = stock.write(STOCK_BARS, MINUTES)
    fives = stock.write(STOCK_BARS, frame([bar(START + HOUR, 99, timeframe="5Min")]))
    assert shown(stock.bars("AAA", "5Min", as_of=minutes.recorded_at)) == FIVES
    stock.delete(STOCK_BARS, symbols="AAA", timeframe="5Min")
    for _ in range(2):
        assert shown(stock.bars("AAA", "5Min")) == FIVES  # none is left, so that they are made again
        assert shown(stock.bars("AAA", "5Min", as_of=minutes.recorded_at)) == FIVES
        assert shown(stock.bars("AAA", "5Min", as_of=fives.recorded_at)) == [*FIVES, ("15:30", 99, 99, 1)]
        assert shown(stock.bars("AAA", "5Min", end=START + HOUR, as_of=fives.recorded_at)) == FIVES
        stock.mirror.run()
    with pytest.raises(InputError, match="not settled"):
        stock.bars("AAA", "5Min", as_of=datetime.now(UTC) + HOUR)


def test_only_the_columns_asked_for_are_given_in_their_order(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES)
    last = stock.write(STOCK_BARS, frame([bar(START + 2 * MINUTE, 12, 0)]))
    whole = stock.bars("AAA", "5Min")
    for columns in (["vwap", "ts"], ["close"], ["available_at", "trade_count"], ["source", "low", "instrument_id"]):
        assert_frame_equal(stock.bars("AAA", "5Min", columns=columns), whole.select(columns))
    arrival = stock.bars("AAA", "5Min", columns=["recorded_at", "write_id", "ordinal"])
    assert arrival.row(0) == (last.recorded_at, last.write_id, 0)
    assert arrival["ordinal"].to_list() == [0, 3, 4]


def test_minutes_known_late_make_a_bar_known_late(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES.with_columns(available_at=pl.when(pl.col("ts") == START).then(START + DAY)))
    assert stock.bars("AAA", "5Min")["available_at"].to_list()[:2] == [START + DAY, START + 10 * MINUTE]


def test_splits_are_restated_before_bars_are_added_up(stock: Store) -> None:
    stock.corporate_actions.create(
        asset_id=stock.assets.by_symbol("AAA").id,
        action_type="split",
        ex_date=date(2024, 3, 6),
        new_shares=Decimal(2),
        old_shares=Decimal(1),
    )
    days = [date(2024, 3, 5), date(2024, 3, 6)]
    rows = [bar(local(day, "10:00"), price, 10) for day, price in zip(days, (100, 50), strict=True)]
    stock.write(STOCK_BARS, frame(rows))
    for timeframe in ("1Week", "1Month"):
        (week,) = stock.bars("AAA", timeframe, adjust="split").to_dicts()
        assert (week["open"], week["high"], week["close"], week["volume"], week["vwap"]) == (50, 50, 50, 30, 50)
    assert stock.bars("AAA", "1Day", adjust="split", columns=["close"])["close"].to_list() == [50, 50]
    assert stock.bars("AAA", "1Week")["high"].to_list() == [100]


def test_a_stocks_day_is_that_of_new_york_on_both_sides_of_the_clocks_change(stock: Store) -> None:
    days = [date(2024, 3, 8), date(2024, 3, 11), date(2024, 11, 1), date(2024, 11, 4)]
    clock = (("04:00", 1), ("09:29", 2), ("09:30", 3), ("15:59", 4), ("16:00", 9), ("19:59", 8))
    stock.write(STOCK_BARS, frame(bar(local(day, at), price) for day in days for at, price in clock))
    stock.write(STOCK_BARS, frame([bar(local(date(2024, 3, 12), "08:00"), 5)]))  # no regular bar, so no day
    bars = stock.bars("AAA", "1Day")
    assert [ts.hour for ts in bars["ts"]] == [5, 4, 4, 5]
    assert bars["ts"].to_list() == [local(day, "00:00") for day in days]
    assert bars.select("open", "high", "low", "close", "volume").unique().rows() == [(3, 4, 3, 4, 6)]
    hours = [bar(local(days[0], at), price, timeframe="1Hour", symbol="BBB") for at, price in clock if at[3:] == "00"]
    stock.write(STOCK_BARS, frame([*hours, bar(local(days[0], "09:00"), 7, timeframe="1Hour", symbol="BBB")]))
    assert stock.bars("BBB", "1Day").select("open", "close", "volume").rows() == [(7, 7, 3)]  # it reaches over 09:30
    weeks = stock.bars("AAA", "1Week", start="2024-03-04", end="2024-03-18")
    assert weeks["ts"].to_list() == [local(date(2024, 3, day), "00:00") for day in (4, 11)]
    assert weeks["available_at"].to_list() == [local(date(2024, 3, day), "00:00") for day in (11, 18)]


@pytest.mark.parametrize("hour", [0, 5], ids=["UTC", "New York"])
def test_weeks_and_months_are_made_from_days_however_these_are_stamped(stock: Store, hour: int) -> None:
    first = datetime(2024, 1, 1, hour, tzinfo=UTC)
    days = [bar(first + n * DAY, n + 1, timeframe="1Day") for n in range(60)]
    stock.write(STOCK_BARS, frame(days))
    months = stock.bars("AAA", "1Month")
    assert months["ts"].to_list() == [datetime(2024, 1, 1, 5, tzinfo=UTC), datetime(2024, 2, 1, 5, tzinfo=UTC)]
    assert [tuple(map(int, row)) for row in months.select("open", "close", "volume").rows()] == [
        (1, 31, 31),
        (32, 60, 29),
    ]
    weeks = stock.bars("AAA", "1Week", start="2024-01-08", end="2024-01-15")
    assert weeks.select("open", "close", "volume").rows() == [(8, 14, 7)]
    assert stock.bars("AAA", "3Month")["close"].to_list() == [60]


def test_a_coins_day_is_that_of_utc_with_all_its_bars(store: Store) -> None:
    instruments(store, CRYPTO_BARS.kind)
    first = datetime(2024, 3, 9, tzinfo=UTC)
    store.write(CRYPTO_BARS, frame(bar(first + n * 4 * HOUR, n + 1, "0.5", timeframe="4Hour") for n in range(12)))
    bars = store.bars("AAA", "1Day")
    assert bars.select("ts", "open", "close", "volume").rows() == [(first, 1, 6, 3), (first + DAY, 7, 12, 3)]
    assert bars["available_at"].to_list() == [first + DAY, first + 2 * DAY]
    assert store.bars("AAA", "1Week")["ts"].to_list() == [datetime(2024, 3, 4, tzinfo=UTC)]
    assert store.bars("AAA", "1Month")["ts"].to_list() == [datetime(2024, 3, 1, tzinfo=UTC)]


def test_quotes_make_bars_of_their_mid_prices_where_no_bars_do(store: Store) -> None:
    instruments(store, CRYPTO_BARS.kind)
    sides = [(10, 12), (20, 22), (5, 6), (None, 9), (0, 9), (8, 9)]
    rows = [quote(START + n * timedelta(seconds=20), bid, ask) for n, (bid, ask) in enumerate(sides)]
    first = store.write(CRYPTO_QUOTES, frame(rows, CRYPTO_QUOTES), source="feed")
    bars = store.bars("AAA", "1Min")
    prices = bars.select("open", "high", "low", "close").rows()
    assert prices == [(11, 21, Decimal("5.5"), Decimal("5.5")), (Decimal("8.5"),) * 4]
    assert bars.select("volume", "trade_count", "vwap", "source").unique().rows() == [(0, None, None, "rollup:feed")]
    assert bars["available_at"].to_list() == [START + MINUTE, START + 2 * MINUTE]
    assert "from the mid prices" in store.explain(CRYPTO_BARS, symbols="AAA", timeframe="1Min", rollup=True).reason
    assert_frame_equal(store.bars("AAA", "1Min", start=START + timedelta(seconds=30)), bars.tail(1))
    store.write(CRYPTO_BARS, frame([bar(START, 50)]))
    assert store.bars(["BBB", "AAA"], "1Min")["close"].to_list() == [50]
    assert_frame_equal(store.bars("AAA", "1Min", as_of=first.recorded_at), bars)
    assert store.bars("AAA", "1Min", as_of=first.recorded_at - DAY).is_empty()


def test_a_stocks_day_of_quotes_is_that_of_the_regular_session(stock: Store) -> None:
    day = date(2024, 3, 1)
    clock = [("09:29:59", 1), ("09:30", 2), ("15:59:59.999999", 4), ("16:00", 9)]
    stock.write(STOCK_QUOTES, frame((quote(local(day, at), price, price) for at, price in clock), STOCK_QUOTES))
    assert stock.bars("AAA", "1Day").select("ts", "open", "high", "close").rows() == [(local(day, "00:00"), 2, 4, 4)]


def test_a_bar_carries_the_newest_name_of_its_instrument(stock: Store) -> None:
    stock.write(STOCK_BARS, MINUTES.head(2))
    stock.assets.update(stock.assets.by_symbol("AAA").id, symbol="AA")
    stock.write(STOCK_BARS, MINUTES.tail(3).with_columns(symbol=pl.lit("AA")))
    assert shown(stock.bars("AA", "5Min")) == FIVES
    assert set(stock.bars("AA", "5Min")["symbol"]) == {"AA"}


@pytest.mark.parametrize("column", ["volume", "trade_count"])
def test_a_sum_that_does_not_fit_is_refused(stock: Store, column: str) -> None:
    most = {"volume": pl.lit("9" * 20).cast(pl.Decimal(28, 8)), "trade_count": pl.lit(2**62)}[column]
    stock.write(STOCK_BARS, MINUTES.with_columns(most.alias(column)))
    with pytest.raises(InputError, match="does not fit its column"):
        stock.bars("AAA", "5Min")
    assert stock.bars("AAA", "5Min", columns=["close"]).height == 3
