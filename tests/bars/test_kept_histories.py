"""Kept bars are what would be made on reading, after any history and whoever died of it."""

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import CRYPTO_BARS, CRYPTO_QUOTES, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.store.store import Store
from tests.support.bar_rows import HOUR, MINUTE, MINUTES, bar, frame, quote
from tests.support.kept_bars import on_reading, reason
from tests.support.lengths import examples
from tests.support.observed import START, SYMBOLS, instruments
from tests.support.postgres import fresh_database
from tests.support.programs import exit_code

ROOT = Path(__file__).parents[2]


_STEPS = st.one_of(
    st.tuples(
        st.just("write"),
        st.sampled_from(["1Min", "1Min", "1Min", "5Min", "15Min", "1Day", "quotes", "import"]),
        st.sampled_from(SYMBOLS),
        st.lists(st.integers(0, 3000), min_size=1, max_size=4, unique=True),
        st.integers(1, 99),
    ),
    st.tuples(st.just("delete"), st.sampled_from(["1Min", "5Min", "15Min", "1Day", "quotes"]), st.integers(0, 3000)),
    st.sampled_from([("refresh",)] * 2 + [("mirror",), ("fold",)]),
)
_KEPT = ("15Min", "1Hour", "1Day", "1Week")


@pytest.mark.server
@pytest.mark.long
@settings(max_examples=examples(8))
@given(st.sampled_from([STOCK_BARS, CRYPTO_BARS]), st.lists(_STEPS, min_size=3, max_size=14))
def test_after_any_history_they_are_what_is_made_on_reading(
    tmp_path_factory: pytest.TempPathFactory, bars: Dataset, steps: list[tuple[Any, ...]]
) -> None:
    quotes = STOCK_QUOTES if bars is STOCK_BARS else CRYPTO_QUOTES
    with (
        fresh_database() as url,
        medalion.open(url, data_dir=tmp_path_factory.mktemp("kept"), mirror_background=False) as store,
    ):
        instruments(store, bars.kind)
        for timeframe in _KEPT:
            store.rollups.keep(bars, timeframe=timeframe)
        moments = []
        for step, *rest in steps:
            if step == "write":
                kind, symbol, places, price = rest
                times = [START + 7 * place * MINUTE for place in places]
                if kind == "quotes":
                    rows = [quote(ts, price, price + 2) | {"symbol": symbol} for ts in times]
                    moments.append(store.write(quotes, frame(rows, quotes)).recorded_at)
                elif kind == "import":
                    store.import_history(bars, frame(bar(ts, price, symbol=symbol) for ts in times), source="manual")
                else:
                    rows = [bar(ts, price, symbol=symbol, timeframe=kind) for ts in times]
                    moments.append(store.write(bars, frame(rows, bars)).recorded_at)
            elif step == "delete":
                kind, place = rest
                start = START + place * MINUTE
                end = start + 30 * HOUR
                if kind == "quotes":
                    store.delete(quotes, symbols=None, start=start, end=end)
                else:
                    store.delete(bars, symbols=None, timeframe=kind, start=start, end=end)
            elif step == "refresh":
                store.rollups.refresh()
            elif step == "mirror":
                store.mirror.run()
            else:
                store.mirror.run()
                store.mirror.prune()
                store.mirror.fold(older_than=timedelta())
            for timeframe in _KEPT:
                for first, last in ((None, None), (START + 5 * HOUR, START + 90 * HOUR)):
                    symbols: Any = None if bars is STOCK_BARS else list(SYMBOLS)
                    found = store.bars(symbols, timeframe, start=first, end=last)
                    assert_frame_equal(found, on_reading(store, symbols, timeframe, start=first, end=last))
        for moment in moments[:2]:
            found = store.bars(list(SYMBOLS), "1Hour", as_of=moment)
            assert_frame_equal(found, on_reading(store, list(SYMBOLS), "1Hour", as_of=moment))


_DYING = """
import os, signal, sys
import medalion
from medalion.bars import refresh
from medalion.bars.refresh import Refresh

url, data_dir, step = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
put = Refresh._put
if step == "within a write":
    refresh.write = die  # what is to go is hidden by then
elif step == "before a write":
    Refresh._put = die
elif step == "after a write":
    Refresh._put = lambda *a: (put(*a), die())
else:
    Refresh.clear = die
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.rollups.refresh()
"""


@pytest.mark.parametrize("step", ["before a write", "within a write", "after a write", "at the end"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
def test_a_killed_refresh_changes_no_answer_and_doubles_nothing(
    store: Store, database_url: str, data_dir: Path, step: str, is_first: bool
) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, MINUTES)
    store.rollups.keep(STOCK_BARS, timeframe="5Min")
    if not is_first:
        store.rollups.refresh()
    store.write(STOCK_BARS, frame([bar(START, 77), bar(START + 90 * MINUTE, 5)]))
    store.delete(STOCK_BARS, symbols="AAA", start=START + 11 * MINUTE, end=START + 12 * MINUTE)
    expected = on_reading(store, "AAA", "5Min")
    died = exit_code(_DYING, database_url, str(data_dir), step)
    assert died == -signal.SIGKILL
    assert_frame_equal(store.bars("AAA", "5Min"), expected)
    for _ in range(2):
        store.rollups.refresh()
        assert "made" not in reason(store, "5Min")
        assert_frame_equal(store.bars("AAA", "5Min"), expected)
    kept = store.sql("SELECT * FROM stock_bars_by_source WHERE source = 'rollup:manual'").pl()
    assert kept.height == expected.height
    assert store.rollups.refresh().written == 0
