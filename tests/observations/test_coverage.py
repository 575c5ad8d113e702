"""What is here, told without reading it: never less than there is, and to the row where it says so."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import InputError, NotFoundError
from medalion.store.store import Store
from oltp.server.engine import Connection
from tests.support.observed import START, SYMBOLS, instruments, sample

SERIES = ["symbol", "timeframe", "source"]
every_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)


def truth(store: Store, dataset: Dataset) -> pl.DataFrame:
    """The same by reading every row."""
    timeframe = "timeframe" if dataset.has_timeframe else "NULL::VARCHAR AS timeframe"
    rows: pl.DataFrame = store.sql(
        f"SELECT symbol, {timeframe}, source, min(ts) AS first, max(ts) AS last, count(*) AS rows "
        f"FROM {dataset.name}_by_source GROUP BY ALL"
    ).pl()
    return rows


def assert_covers(store: Store, dataset: Dataset) -> pl.DataFrame:
    """The coverage, which holds every row there is, and no other series."""
    found = store.coverage(dataset)
    both = found.join(truth(store, dataset), on=SERIES, how="full", nulls_equal=True, coalesce=True, suffix="_read")
    assert both["rows"].null_count() == both["rows_read"].null_count() == 0, both
    assert both.filter(
        (pl.col("rows") < pl.col("rows_read"))
        | (pl.col("first") > pl.col("first_read"))
        | (pl.col("last") < pl.col("last_read"))
    ).is_empty(), both
    exact = both.filter("is_exact")
    for name in ("first", "last", "rows"):
        assert exact[name].to_list() == exact[f"{name}_read"].to_list(), both
    return found


@every_dataset
def test_every_dataset_is_covered_hot_and_mirrored(store: Store, dataset: Dataset) -> None:
    assert store.coverage(dataset).is_empty()
    instruments(store, dataset.kind)
    store.write(dataset, sample(dataset, 9))
    hot = assert_covers(store, dataset)
    assert hot["unmirrored_rows"].sum() == hot["rows"].sum() == 9
    store.mirror.run()
    store.mirror.prune()
    mirrored = assert_covers(store, dataset)
    assert mirrored["is_exact"].all()
    assert mirrored["unmirrored_rows"].sum() == 0
    assert store.symbols(dataset) == list(SYMBOLS)
    assert dataset.name in store.datasets


def bars(symbol: str, first: int, days: int, *, timeframe: str = "1Day", close: int = 10) -> pl.DataFrame:
    ts = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=first + day) for day in range(days)]
    frame = pl.DataFrame({"ts": ts}).with_columns(
        symbol=pl.lit(symbol), timeframe=pl.lit(timeframe), close=pl.lit(close), volume=pl.lit(1)
    )
    return frame.with_columns(open="close", high="close", low="close")


@pytest.mark.parametrize("seed", range(2, 5))
def test_whatever_happens_to_a_store_is_covered(store: Store, seed: int) -> None:
    draw = random.Random(seed)
    instruments(store, STOCK_BARS.kind)

    def some() -> pl.DataFrame:
        timeframe = draw.choice(["1Day", "1Min"])
        close = draw.randrange(10, 99)
        return bars(draw.choice(SYMBOLS), draw.randrange(60), draw.randrange(1, 9), timeframe=timeframe, close=close)

    def delete() -> None:
        start = date(2024, 1, 1) + timedelta(days=draw.randrange(60))
        end = start + timedelta(days=draw.choice([1, 20, 400]))
        store.delete("stock_bars", symbols=draw.choice(SYMBOLS), start=start, end=end)

    def retain() -> None:
        store.mirror.retain(["stock_bars"], rows_older_than=datetime.now(UTC) - datetime(2024, 2, 5, tzinfo=UTC))

    steps: list[Callable[[], object]] = [
        lambda: store.write("stock_bars", some(), source=draw.choice(["a", "b"])),
        lambda: store.import_history("stock_bars", some(), source=draw.choice(["a", "b"])),
        delete,
        store.mirror.run,
        store.mirror.prune,
        store.mirror.compact,
        retain,
        lambda: assert_covers(store, STOCK_BARS),
    ]
    for _ in range(25):
        draw.choices(steps, weights=[6, 3, 2, 4, 1, 1, 1, 4])[0]()
    assert_covers(store, STOCK_BARS)


def test_rows_that_are_new_are_counted_to_the_row(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    for first in (10, 20, 0):
        store.write("stock_bars", bars("AAA", first, 5))
        store.mirror.run()
    store.import_history("stock_bars", bars("AAA", 40, 5))
    found = assert_covers(store, STOCK_BARS)
    assert found.select("rows", "is_exact").row(0) == (20, True)
    store.write("stock_bars", bars("AAA", 11, 1, close=99))
    store.mirror.run()
    assert assert_covers(store, STOCK_BARS).select("rows", "is_exact").row(0) == (21, False)


def test_what_was_deleted_is_not_there_and_is_counted_once(store: Store, books: Connection) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write("stock_bars", pl.concat([bars("AAA", 0, 9), bars("BBB", 0, 9)]))
    store.mirror.run()
    store.delete("stock_bars", symbols="AAA")
    store.delete("stock_bars", symbols="BBB", end="2024-01-03")
    assert store.symbols() == ["BBB"]
    store.mirror.run()
    for _ in range(2):
        found = assert_covers(store, STOCK_BARS)
        assert found.select("symbol", "rows", "is_exact").rows() == [("BBB", 7, True)]
        assert not books.execute("SELECT FROM series_coverage WHERE is_stale").fetchall()


@pytest.mark.parametrize("spoilt", [-1, 1])
def test_a_ledger_that_lost_count_counts_the_lake_once(store: Store, books: Connection, spoilt: int) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 30, 60):
        store.write("stock_quote_snapshots", sample(STOCK_QUOTES, 6, start=START + timedelta(minutes=minute)))
        store.mirror.run()
    store.mirror.prune()
    books.execute("UPDATE mirror_state SET counted = %s WHERE dataset = 'stock_quote_snapshots'", (spoilt,))
    books.commit()
    store.write("stock_quote_snapshots", sample(STOCK_QUOTES, 6, start=START + timedelta(minutes=90)))
    found = assert_covers(store, STOCK_QUOTES)
    assert found["rows"].sum() == 24
    counted = "SELECT counted FROM mirror_state WHERE dataset = 'stock_quote_snapshots'"
    assert books.execute(counted).fetchone() == (3,)


def test_a_batch_that_was_noted_after_a_crash_is_counted(store: Store, books: Connection) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write("stock_quote_snapshots", sample(STOCK_QUOTES, 6))
    store.mirror.run()
    with books.transaction():  # as if the note had been lost
        books.execute("UPDATE mirror_batches SET status = 'claimed' WHERE dataset = 'stock_quote_snapshots'")
        books.execute("UPDATE mirror_state SET counted = 0 WHERE dataset = 'stock_quote_snapshots'")
        books.execute("DELETE FROM series_coverage")
    store.mirror.run()
    assert assert_covers(store, STOCK_QUOTES)["rows"].sum() == 6
    assert len(books.execute("SELECT FROM series_coverage").fetchall()) == 2


def test_symbols_and_times_choose_series_by_the_names_of_today(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write("stock_bars", pl.concat([bars("AAA", 0, 5), bars("BBB", 50, 5), bars("BBB", 50, 5, timeframe="1Hour")]))
    store.assets.update(store.assets.by_symbol("AAA"), symbol="CCC")
    store.mirror.run()
    assert store.coverage()["symbol"].unique().sort().to_list() == ["BBB", "CCC"]
    assert store.coverage(symbols="CCC")["timeframe"].to_list() == ["1Day"]
    assert store.coverage("stock_bars", start="2024-02-01")["symbol"].unique().to_list() == ["BBB"]
    assert store.coverage("stock_bars", end="2024-02-01")["symbol"].unique().to_list() == ["CCC"]
    for name in ("AAA", "ccc"):
        with pytest.raises(NotFoundError, match=name):
            store.coverage(symbols=name)
    with pytest.raises(NotFoundError, match="stock_barz"):
        store.coverage("stock_barz")
    with pytest.raises(InputError):
        store.coverage(start=datetime(2024, 1, 1))  # noqa: DTZ001 - it is refused
