"""A range becomes what a frame says, in one write; a deletion hides every source at one moment."""

from datetime import timedelta
from decimal import Decimal
from functools import partial

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import InputError, NotFoundError
from medalion.core.frames import conform
from medalion.ingest import comparison, history
from medalion.store.store import Store
from oltp.hot.writes import write
from tests.support.interleaved import connected, first, waiting
from tests.support.observed import START, as_read, instruments, sample

END = START + timedelta(hours=1)


@pytest.fixture(params=["a few rows", "many rows"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through the hot table or, as it is done with many, as an import."""
    if request.param == "many rows":
        monkeypatch.setattr(history, "_FEW_ROWS", -1)
        monkeypatch.setattr(comparison, "_SLICE_ROWS", 2)
    return str(request.param)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("where", ["hot", "mirrored", "imported"])
def test_a_range_becomes_what_the_frame_says(store: Store, dataset: Dataset, where: str) -> None:
    ids = instruments(store, dataset.kind)
    rows = sample(dataset, 9)
    store.import_history(dataset, rows) if where == "imported" else store.write(dataset, rows)
    if where == "mirrored":
        store.mirror.run([dataset])
    column = next(column.name for column in dataset.values if column.nullable or column.name == "volume")
    other = (
        rows.slice(2, 1).with_columns(pl.lit(1).cast(rows.schema[column]).alias(column))
        if (rows.schema[column].is_decimal())
        else rows.slice(2, 1)
    )
    given = pl.concat([rows.slice(1, 1), other, sample(dataset, 1, start=START + timedelta(minutes=3, seconds=7))])
    result = store.replace(dataset, given, start=START + timedelta(minutes=1), end=START + timedelta(minutes=6))
    corrected = int(rows.schema[column].is_decimal())
    assert (result.deleted, result.corrected, result.unchanged) == (3, corrected, 2 - corrected)
    assert result.rows == 3 + corrected + 1
    expected = pl.concat([rows.head(1), given, rows.slice(6)])
    assert_frame_equal(store.read(dataset), as_read(dataset, expected, ids))
    store.mirror.run([dataset])
    assert_frame_equal(store.read(dataset), as_read(dataset, expected, ids))
    assert store.mirror.verify([dataset]).is_empty()
    again = store.replace(dataset, given, start=START + timedelta(minutes=1), end=START + timedelta(minutes=6))
    assert (again.rows, again.unchanged) == (0, 3)


def test_what_is_beside_the_range_stays(store: Store) -> None:
    """Other symbols, timeframes, sources and times."""
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS, 8)
    store.write(STOCK_BARS, rows)
    store.write(STOCK_BARS, rows.with_columns(timeframe=pl.lit("5Min")))
    store.write(STOCK_BARS, rows, source="other")
    result = store.replace(STOCK_BARS, rows.head(0), start=START, end=END, symbols="AAA", timeframe="1Min")
    assert (result.rows, result.deleted) == (4, 4)
    left = store.read(STOCK_BARS, timeframe="1Min", source="manual")
    assert left["symbol"].unique().to_list() == ["BBB"]
    assert store.read(STOCK_BARS, timeframe="5Min").height == 8
    assert store.read(STOCK_BARS, timeframe="1Min", source="other").height == 8


def test_the_latest_row_follows(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 8)
    store.write(STOCK_QUOTES, rows)
    store.replace(STOCK_QUOTES, rows.head(3), start=START, end=END)
    latest = store.latest(STOCK_QUOTES, "AAA")
    assert latest is not None
    assert latest["ts"] == START + timedelta(minutes=2)


def test_what_was_known_before_stays_known(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    written = store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 8))
    result = store.replace(STOCK_QUOTES, sample(STOCK_QUOTES, 2), start=START, end=END)
    store.mirror.run([STOCK_QUOTES], settle=True)
    assert store.read(STOCK_QUOTES, as_of=written.recorded_at).height == 8
    assert store.read(STOCK_QUOTES, as_of=result.recorded_at - timedelta(microseconds=1)).height == 8
    assert store.read(STOCK_QUOTES, as_of=result.recorded_at).height == 2


def test_rows_outside_of_what_is_replaced_are_refused(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS, 4)
    with pytest.raises(InputError, match="lies outside of what is replaced"):
        store.replace(STOCK_BARS, rows, start=START, end=START + timedelta(minutes=3))
    with pytest.raises(InputError, match="lies outside"):
        store.replace(STOCK_BARS, rows, start=START, end=END, symbols="AAA")
    with pytest.raises(InputError, match="lies outside"):
        store.replace(STOCK_BARS, rows, start=START, end=END, timeframe="1Day")
    with pytest.raises(InputError, match="give symbols="):
        store.replace(STOCK_BARS, rows.head(0), start=START, end=END)
    with pytest.raises(NotFoundError, match="ZZZ"):
        store.replace(STOCK_BARS, rows.head(0), start=START, end=END, symbols="ZZZ", timeframe="1Min")
    assert store.read(STOCK_BARS).is_empty()


def test_a_replacement_waits_for_an_open_write(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 4)
    with connected(database_url) as books, connected(database_url) as connection, connection.transaction():
        write(connection, STOCK_QUOTES, conform(STOCK_QUOTES, rows, source="manual"), source="manual")
        replace = partial(store.replace, STOCK_QUOTES, rows.head(1), start=START, end=END, symbols=["AAA", "BBB"])
        replacing = waiting(books, replace)
        assert not replacing.done()
    result = replacing.result(60)
    assert (result.unchanged, result.deleted) == (1, 3)


def test_a_deletion_hides_every_source_at_one_moment(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for source in ("manual", "other", "third"):
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 6), source=source)
    assert store.delete(STOCK_QUOTES, symbols="AAA", source="third") == 3
    assert store.delete(STOCK_QUOTES, symbols="AAA", end=START + timedelta(minutes=3)) == 4
    assert store.sql("SELECT count(*) FROM stock_quote_snapshots").fetchall() == [(18 - 7,)]
    with connected(database_url) as books:
        moments = books.execute("SELECT recorded_at FROM writes ORDER BY id DESC LIMIT 2").fetchall()
    assert moments[0] == moments[1]


def test_a_deletion_leaves_what_the_store_made_itself(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS, 6).with_columns(volume=pl.lit(Decimal(1)).cast(pl.Decimal(28, 8))))
    assert store.delete(STOCK_BARS, symbols=None) == 6
    assert store.read(STOCK_BARS).is_empty()


def test_a_write_that_comes_into_the_range_meanwhile_is_replaced_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_FEW_ROWS", -1)
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 6)
    store.write(STOCK_QUOTES, rows)
    later = sample(STOCK_QUOTES, 2, start=START + timedelta(seconds=30))
    with first(history._ImportRun, "_claimed", lambda: store.write(STOCK_QUOTES, later)):
        result = store.replace(STOCK_QUOTES, rows.head(4), start=START, end=END)
    assert (result.deleted, result.unchanged) == (4, 4)
    assert store.read(STOCK_QUOTES).height == 4
    assert store.mirror.verify([STOCK_QUOTES]).is_empty()
