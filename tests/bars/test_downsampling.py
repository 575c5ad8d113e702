"""Bars that stay when their quotes are dropped answer as the quotes did."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import CRYPTO_BARS, CRYPTO_QUOTES, OPTION_QUOTES, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import InputError
from medalion.store.store import Store
from tests.support.bar_rows import DAY, MINUTE, bar, frame, quote
from tests.support.commands import run
from tests.support.kept_bars import on_reading, reason
from tests.support.lake import pin_of
from tests.support.observed import instruments
from tests.support.programs import exit_code

ROOT = Path(__file__).parents[2]
FIRST = datetime(2024, 3, 4, 13, tzinfo=UTC)
TIMEFRAMES = ("1Min", "5Min", "7Min", "1Hour", "1Day", "1Week")
SECONDS = (0, 20, 59, 60, 95, 300, 5400, 5401, 9000, 30_000)


def quotes_of(days: int, dataset: Dataset = STOCK_QUOTES) -> pl.DataFrame:
    moments = [FIRST + n * DAY + timedelta(seconds=second) for n in range(days) for second in SECONDS]
    return frame((quote(ts, 10 + n % 7, 12 + n % 7) for n, ts in enumerate(moments)), dataset)


def age_of(days: int) -> timedelta:
    """That of the first moment after so many days."""
    return datetime.now(UTC) - FIRST.replace(hour=0) - days * DAY


def answers(store: Store) -> list[pl.DataFrame]:
    spans = ((None, None), (FIRST + DAY, FIRST + 2 * DAY + MINUTE))
    return [store.bars("AAA", timeframe, start=start, end=end) for timeframe in TIMEFRAMES for start, end in spans]


def assert_same(found: list[pl.DataFrame], expected: list[pl.DataFrame]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_frame_equal(one, other)


@pytest.mark.parametrize("quotes", [STOCK_QUOTES, CRYPTO_QUOTES], ids=["stocks", "coins"])
@pytest.mark.parametrize("timeframe", ["1Min", "30Min"])
def test_bars_are_the_same_once_their_quotes_are_dropped(store: Store, quotes: Dataset, timeframe: str) -> None:
    instruments(store, quotes.kind)
    bars = STOCK_BARS if quotes is STOCK_QUOTES else CRYPTO_BARS
    store.write(quotes, quotes_of(4, quotes), source="feed")
    store.mirror.run()
    before = answers(store)
    store.rollups.keep(bars, timeframe="1Hour")
    store.rollups.refresh()
    done = store.mirror.retain([quotes], rows_older_than=age_of(2), downsample=timeframe)
    assert (done.partitions, done.rows) == (2, 2 * len(SECONDS))
    divided = [n for n in range(len(before)) if timeframe == "1Min" or TIMEFRAMES[n // 2] in TIMEFRAMES[3:]]
    for _ in ("hot", "in the lake"):
        assert store.read(quotes)["ts"].min() == FIRST + 2 * DAY
        found = answers(store)
        assert_same([found[n] for n in divided], [before[n] for n in divided])
        assert store.read(bars, symbols="AAA").is_empty()
        store.rollups.refresh()
        store.mirror.run(settle=True)
    assert "kept" in reason(store, "1Hour", dataset=bars)
    assert_frame_equal(store.bars("AAA", "1Hour"), on_reading(store, "AAA", "1Hour"))
    settled = store.mirror.status()["settled"].min()
    assert isinstance(settled, datetime)
    assert_frame_equal(store.bars("AAA", "1Hour", as_of=settled), store.bars("AAA", "1Hour"))
    assert store.mirror.verify().is_empty()


def test_what_comes_in_late_changes_no_bar_that_stayed(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_of(2))
    store.mirror.run()
    before = store.bars("AAA", "1Min")
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
    store.write(STOCK_QUOTES, frame([quote(FIRST + timedelta(seconds=7), 80, 82)], STOCK_QUOTES))
    assert_frame_equal(store.bars("AAA", "1Min"), before)
    store.write(STOCK_QUOTES, frame([quote(FIRST + 3 * MINUTE, 80, 82)], STOCK_QUOTES))
    late = store.bars("AAA", "1Min")
    assert late.filter(pl.col("ts") == FIRST + 3 * MINUTE)["close"].to_list() == [81]
    store.mirror.run()
    for _ in range(2):
        store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
        assert_frame_equal(store.bars("AAA", "1Min"), late)


def test_bars_that_are_stored_are_not_made_again(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_of(1))
    store.write(STOCK_BARS, frame([bar(FIRST, 50)]), source="other")
    store.mirror.run()
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
    assert store.bars("AAA", "1Min")["close"].to_list() == [50]
    stayed = store.read(STOCK_BARS, source="downsampled:manual")
    assert stayed["ts"].min() == FIRST + MINUTE
    store.delete(STOCK_BARS, symbols="AAA")
    assert_frame_equal(store.bars("AAA", "1Min").drop("source"), stayed.drop("source"))


_DYING = """
import os, signal, sys
from datetime import timedelta
import medalion
from medalion.bars import downsampling
from medalion.mirror import removal
from medalion.core.datasets import STOCK_QUOTES
from olap.delta.tables import LakeTable

url, data_dir, step, seconds = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
replace, write = LakeTable.replace, downsampling.write
if step == "before bars":
    downsampling.write = die
elif step == "after bars":
    removal.enter_removal = die
elif step == "before commit":
    LakeTable.replace = die
else:
    LakeTable.replace = lambda *a, **k: (replace(*a, **k), die())
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.retain([STOCK_QUOTES], rows_older_than=timedelta(seconds=float(seconds)), downsample="1Min")
"""


@pytest.mark.parametrize("step", ["before bars", "after bars", "before commit", "after commit"])
def test_a_kill_leaves_quotes_or_their_bars(store: Store, database_url: str, data_dir: Path, step: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_of(2))
    store.mirror.run()
    before = answers(store)
    assert exit_code(_DYING, database_url, str(data_dir), step, str(age_of(1).total_seconds())) == -signal.SIGKILL
    assert_same(answers(store), before)
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
    assert store.read(STOCK_QUOTES).height == len(SECONDS)
    assert_same(answers(store), before)
    stayed = store.sql("SELECT count(*), count(DISTINCT ts) FROM stock_bars_by_source").fetchall()
    assert stayed == [(6, 6)]
    assert store.mirror.verify().is_empty()


def test_a_correction_between_a_kill_and_the_drop_is_in_the_bars(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_of(1))
    store.mirror.run()
    with monkeypatch.context() as patch:
        patch.setattr("medalion.mirror.removal.enter_removal", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
    store.write(STOCK_QUOTES, frame([quote(FIRST + timedelta(seconds=30), 80, 82)], STOCK_QUOTES))
    expected = store.bars("AAA", "1Min")
    assert expected["high"][0] == 81
    store.mirror.run()
    store.mirror.retain([STOCK_QUOTES], rows_older_than=age_of(1), downsample="1Min")
    assert_frame_equal(store.bars("AAA", "1Min"), expected)


def test_what_cannot_be_downsampled_is_refused_before_anything_is_dropped(
    store: Store, own_place: tuple[str, ...]
) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, quotes_of(1))
    store.mirror.run()
    for timeframe in ("7Min", "1Hour", "1Day"):
        with pytest.raises(InputError, match="divide half an hour"):
            store.mirror.retain([STOCK_QUOTES], rows_older_than=timedelta(), downsample=timeframe)
    for other in (STOCK_BARS, OPTION_QUOTES):
        with pytest.raises(InputError, match="cannot be downsampled"):
            store.mirror.retain([STOCK_QUOTES, other], rows_older_than=timedelta(), downsample="1Min")
    with pytest.raises(InputError, match="rows_older_than"):
        store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta(), downsample="1Min")
    assert store.read(STOCK_QUOTES).height == len(SECONDS)
    arguments = ("--dataset", STOCK_QUOTES.name, "--rows-older-than-days", "0", "--downsample", "1Min")
    done = run(*own_place, "mirror", "retain", *arguments)
    assert done.exit_code == 0, done.output
    assert len(pin_of(store).files) == 0
    assert store.read(STOCK_QUOTES).is_empty()
    assert store.bars("AAA", "1Min").height == 6
