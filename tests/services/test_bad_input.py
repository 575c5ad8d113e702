"""What cannot be meant is refused with an error of ours, and nothing is left behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import medalion
from medalion.core.datasets import POLYMARKET_BOOKS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError, MedalionError, NotFoundError, StoreError
from medalion.store.store import Store
from oltp.server.engine import Postgres
from tests.support.observed import START, instruments, sample

BARS = sample(STOCK_BARS)


@pytest.mark.parametrize("year", [1, 999, 3000, 9999])
def test_times_that_a_store_cannot_hold_are_refused(store: Store, year: int) -> None:
    instruments(store, STOCK_BARS.kind)
    for unit in ("us", "ms"):
        ts = pl.Series([datetime(year, 1, 2, tzinfo=UTC)] * BARS.height, dtype=pl.Datetime(unit, "UTC"))
        with pytest.raises(InputError, match="from 1000"):
            store.write(STOCK_BARS, BARS.with_columns(ts=ts))
    with pytest.raises(InputError, match="from 1000"):
        store.write(STOCK_BARS, BARS.with_columns(ts=pl.lit(datetime(year, 1, 2).date())))  # noqa: DTZ001 - a date


@pytest.mark.parametrize("year", [1000, 1582, 1969, 2999])
def test_odd_but_possible_times_are_mirrored_and_read(store: Store, year: int) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = BARS.with_columns(ts=pl.lit(datetime(year, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)))
    store.write(STOCK_BARS, rows)
    hot = store.read(STOCK_BARS)
    store.mirror.run()
    assert store.read(STOCK_BARS).equals(hot)
    assert store.mirror.verify().is_empty()
    assert store.delete(STOCK_BARS, symbols=None) == 2


def test_a_level_without_a_price_is_refused_whatever_its_type(store: Store) -> None:
    instruments(store, POLYMARKET_BOOKS.kind)
    rows = sample(POLYMARKET_BOOKS, 1)
    kind = rows.schema["bids"]
    bids = pl.Series("bids", [[{"price": None, "size": Decimal(2)}, {"price": Decimal(1), "size": Decimal(2)}]], kind)
    with pytest.raises(InputError, match="level without"):
        store.write(POLYMARKET_BOOKS, rows.with_columns(bids))


def test_latest_and_delete_follow_a_rename(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind, ("ZZZ",))
    first = store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, symbols=("ZZZ",)))
    store.assets.update(store.assets.by_symbol("ZZZ").id, symbol="AAA")
    late = START + timedelta(minutes=2)
    second = store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 2, symbols=("AAA",), start=late))
    assert (store.latest(STOCK_QUOTES, "AAA", as_of=second.recorded_at) or {})["ts"] == late + timedelta(minutes=1)
    assert store.delete(STOCK_QUOTES, symbols="AAA", start=late + timedelta(minutes=1)) == 1
    assert (store.latest(STOCK_QUOTES, "AAA") or {})["ts"] == late
    instruments(store, STOCK_QUOTES.kind, ("ZZZ",))  # the old name is somebody else's by now
    assert store.delete(STOCK_QUOTES, symbols=None) == 3
    assert store.read(STOCK_QUOTES).is_empty()
    assert store.read(STOCK_QUOTES, as_of=first.recorded_at).height == 2


def test_a_bar_known_late_does_not_hide_a_newer_one(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS, 2, symbols=("AAA",)).with_columns(
        available_at=pl.Series([START + timedelta(hours=2), START + timedelta(hours=1)])
    )
    store.write(STOCK_BARS, rows)
    left = pl.DataFrame({"symbol": ["AAA"] * 2, "ts": [START + timedelta(minutes=90), START + timedelta(hours=3)]})
    assert store.asof(left, STOCK_BARS, timeframe="1Min")["ts_right"].to_list() == [START + timedelta(minutes=1)] * 2


CALLS: list[Callable[[Any], Any]] = [
    lambda store: store.read(STOCK_BARS, symbols="A\0"),
    lambda store: store.read(STOCK_BARS, symbols="\ud800"),
    lambda store: store.read(STOCK_BARS, symbols=[5]),
    lambda store: store.read(STOCK_BARS, symbols=5),
    lambda store: store.read(STOCK_BARS, source=""),
    lambda store: store.read(STOCK_BARS, start=5),
    lambda store: store.read(STOCK_BARS, end=datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5)))),
    lambda store: store.read(STOCK_BARS, columns=["ts", "ts"]),
    lambda store: store.read([STOCK_BARS]),
    lambda store: store.latest(STOCK_BARS, "A\0", timeframe="1Day"),
    lambda store: store.latest(STOCK_BARS, "\ud800", timeframe="1Day"),
    lambda store: store.latest(STOCK_BARS, "AAA", timeframe="1Day", source="\ud800"),
    lambda store: store.read(STOCK_BARS, columns=[]),
    lambda store: store.sql("SELECT '\ud800'"),
    lambda store: store.quotes("A\0"),
    lambda store: store.write(STOCK_BARS, BARS, source="x\0"),
    lambda store: store.write(STOCK_BARS, BARS, source=None),
    lambda store: store.write(STOCK_BARS, BARS, idempotency_key="x\0"),
    lambda store: store.write(STOCK_BARS, BARS, idempotency_key=7),
    lambda store: store.write(STOCK_BARS, BARS.with_columns(source=pl.lit(1))),
    lambda store: store.write(STOCK_BARS, BARS.lazy().with_columns(pl.col("nothing"))),
    lambda store: store.sql(5),
    lambda store: store.asof(BARS.select("symbol", "ts"), STOCK_BARS, timeframe="1Min", tolerance="1m"),
    lambda store: store.asof(
        BARS.select("symbol", "ts"), STOCK_BARS, timeframe="1Min", tolerance=-timedelta(minutes=1)
    ),
    lambda store: store.asof(BARS.select("symbol", "ts", close_right="close"), STOCK_BARS, timeframe="1Min"),
]


@pytest.mark.parametrize("place", range(len(CALLS)))
def test_odd_arguments_are_refused_with_an_error_of_ours(store: Store, place: int) -> None:
    instruments(store, STOCK_BARS.kind)
    with pytest.raises(MedalionError):
        CALLS[place](store)


def test_names_in_sql_are_those_of_duckdb(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, BARS)
    for query in (
        "SELECT count(*) FROM STOCK_BARS",
        'SELECT count(*) FROM main."Stock_Bars"',
        "WITH X AS (SELECT * FROM stock_bars) SELECT count(*) FROM x",
        "SELECT count(*) FROM stock_bars WHERE 1 IN (WITH stock_bars AS (SELECT 1 AS one) SELECT one FROM stock_bars)",
    ):
        assert store.sql(query).fetchall() == [(5,)], query
    with pytest.raises(NotFoundError):
        store.sql("SELECT * FROM stock_bars__rows")


@pytest.mark.parametrize(
    "url", ["postgresql://h/d?password=s3cret", "postgresql://u@h/d?sslpassword=s3cret", "postgresql://u:s3cret@h/d"]
)
def test_no_secret_of_an_address_is_shown(url: str) -> None:
    assert "s3cret" not in repr(Postgres(url))


@pytest.mark.parametrize("url", ["postgresql://h:abc/d", "postgresql://h/d?no_such_parameter=1"])
def test_an_address_that_cannot_be_meant_is_refused(data_dir: Path, url: str) -> None:
    with pytest.raises((InputError, StoreError)):
        medalion.open(url, data_dir=data_dir)


def test_a_program_that_forgets_to_close_its_store_ends(database_url: str, data_dir: Path) -> None:
    program = "import medalion, sys; s = medalion.open(sys.argv[1], data_dir=sys.argv[2]); s.assets.count()"
    command = [sys.executable, "-W", "ignore", "-c", program, database_url, str(data_dir)]
    assert subprocess.run(command, timeout=60, check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_closing_in_a_forked_child_does_nothing(store: Store) -> None:
    store.assets.count()
    child = os.fork()
    if child == 0:
        store.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.assets.count() == 0
