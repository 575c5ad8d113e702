"""A file of the lake gives back what was written, says of each row group what it spans, and is small."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from medalion.core.checksum import row_hashes
from medalion.core.datasets import DATASETS, POLYMARKET_TRADES, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.frames import by_runs, conform, polars_schema
from olap.files import parquet
from olap.files.parquet import in_order, stage
from olap.places.folder import Folder
from tests.support.observed import START, sample

_ROWS = 3_000
_PRICE = pl.Decimal(18, 8)
TEXTS: dict[str, list[str | None]] = {
    "one": ["import"] * 9,
    "runs": ["b", "b", "b", "a", "a", "", "", "b", "é"],
    "each its own": [f"t{number}" for number in range(9)],
    "nulls": [None, None, "a", None, "a", "a", "b", None, "b"],
    "only nulls": [None] * 9,
}


def arrived(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as the lake holds them, each instrument numbered by its symbol."""
    return (
        conform(dataset, rows, source="test")
        .with_columns(
            instrument_id=pl.col("symbol").rank("dense").cast(pl.Int64),
            write_id=pl.lit(7, pl.Int64),
            ordinal=pl.int_range(pl.len(), dtype=pl.Int32),
            is_deleted=pl.lit(False),
            recorded_at=pl.lit(START),
        )
        .select(dataset.stored.names)
        .cast(polars_schema(dataset.stored))
    )


def quotes(symbols: list[str], **values: Any) -> pl.DataFrame:
    rows = pl.DataFrame({"symbol": symbols})
    prices = {column.name: pl.lit(Decimal(1), _PRICE) for column in STOCK_QUOTES.values}
    moments = pl.lit(START) + pl.int_range(pl.len()) * timedelta(milliseconds=1)
    return arrived(
        STOCK_QUOTES, rows.with_columns(**prices | {"ts": moments, "event_id": pl.int_range(pl.len())} | values)
    )


def written(folder: Path, dataset: Dataset, rows: pl.DataFrame) -> Path:
    (file,) = stage(Folder(folder), dataset, rows)
    return folder / file.path


def assert_reads_as(path: Path, dataset: Dataset, rows: pl.DataFrame) -> None:
    for found in (
        pl.read_parquet(path),
        pl.DataFrame(pq.ParquetFile(path).read()),
        pl.DataFrame(duckdb.connect().sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning=false)").arrow()),
    ):
        moments = [name for name, kind in found.schema.items() if isinstance(kind, pl.Datetime)]
        utc = found.with_columns(pl.col(moments).dt.convert_time_zone("UTC"))
        assert_frame_equal(utc, in_order(dataset, rows))


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_a_file_of_every_dataset_reads_as_it_was_written(tmp_path: Path, dataset: Dataset) -> None:
    assert_reads_as(written(tmp_path, dataset, rows := arrived(dataset, sample(dataset, n=40))), dataset, rows)


@pytest.mark.parametrize("distinct", [1, 20, _ROWS])
def test_prices_read_as_written_however_many_of_them_differ(tmp_path: Path, distinct: int) -> None:
    units = np.random.default_rng(1).choice(10**17, distinct)[np.arange(_ROWS) % distinct]
    price = pl.Series(units).cast(pl.Int128).reinterpret(dtype=_PRICE)
    price = price.set(pl.int_range(_ROWS, eager=True) == 5, None)
    rows = quotes(["AAA"] * _ROWS, bid_price=price, ask_price=-price)
    assert_reads_as(written(tmp_path, STOCK_QUOTES, rows), STOCK_QUOTES, rows)


@pytest.mark.parametrize(
    "symbols",
    [["AAA", "BBB", "CCC"] * 1_000, [f"S{number:04}" for number in range(_ROWS)]],
    ids=["few", "each its own"],
)
def test_a_row_group_tells_its_symbols_and_nobody_sees_how_they_were_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbols: list[str]
) -> None:
    monkeypatch.setattr(parquet, "MIN_GROUP_ROWS", 1_000)
    path = written(tmp_path, STOCK_QUOTES, rows := quotes(symbols))
    assert_reads_as(path, STOCK_QUOTES, rows)
    file = pq.ParquetFile(path)
    assert file.schema_arrow.field("symbol").type == pa.string()
    place = file.schema_arrow.names.index("symbol")
    for number in range(file.num_row_groups):
        held = [str(name) for name in file.read_row_group(number, columns=["symbol"])["symbol"].to_pylist()]
        told = file.metadata.row_group(number).column(place).statistics
        assert told is not None
        assert (told.min, told.max, told.null_count) == (min(held), max(held), 0)
    assert file.num_row_groups == 3


def test_an_instrument_that_was_renamed_and_back_keeps_each_name(tmp_path: Path) -> None:
    rows = quotes(["AAA"] * 1_000 + ["BBB"] * 1_000 + ["AAA"] * 1_000).with_columns(instrument_id=pl.lit(1, pl.Int64))
    assert_reads_as(written(tmp_path, STOCK_QUOTES, rows), STOCK_QUOTES, rows)


def test_few_values_take_little_room(tmp_path: Path) -> None:
    cents = pl.Series(np.random.default_rng(2).integers(5_000, 5_050, _ROWS) * 10**6)
    price = cents.cast(pl.Int128).reinterpret(dtype=_PRICE)
    path = written(tmp_path, STOCK_QUOTES, quotes(["AAA"] * _ROWS, bid_price=price))
    group = pq.read_metadata(path).row_group(0)
    column = group.column(STOCK_QUOTES.stored.names.index("bid_price"))
    assert column.total_compressed_size < _ROWS


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_by_its_runs_is_the_same_text_and_has_the_same_hash(name: str) -> None:
    text = pl.Series("x", TEXTS[name], dtype=pl.String)
    runs = by_runs(text)
    assert pl.Series(runs.dictionary_decode()).to_list() == text.to_list()
    plain = pa.table({"x": text.to_arrow()})
    assert (row_hashes(pa.table({"x": runs}), ["x"]) == row_hashes(plain, ["x"])).all()


def test_rows_of_several_days_lie_in_a_file_a_day(tmp_path: Path) -> None:
    days = pl.lit(START) + pl.int_range(pl.len()) % 3 * timedelta(days=1)
    rows = quotes(["BBB", "AAA"] * 1_500, ts=days)
    files = stage(Folder(tmp_path), STOCK_QUOTES, rows)
    assert [file.period for file in files] == ["2024-03-01", "2024-03-02", "2024-03-03"]
    for day, file in enumerate(files):
        held = rows.filter(pl.col("ts") == START + timedelta(days=day))
        assert_reads_as(tmp_path / file.path, STOCK_QUOTES, held)


@pytest.mark.parametrize("dataset", [STOCK_QUOTES, STOCK_BARS, POLYMARKET_TRADES], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("order", ["time", "series", "none"])
def test_rows_lie_by_series_and_time_and_ties_in_order_of_arrival(dataset: Dataset, order: str) -> None:
    rows = pl.concat([arrived(dataset, sample(dataset, n=40))] * 2)
    if order == "time":
        rows = rows.sort("ts", maintain_order=True)
    elif order == "none":
        rows = rows.sample(fraction=1, shuffle=True, seed=3)
    rows = rows.with_columns(ordinal=pl.int_range(pl.len(), dtype=pl.Int32))
    key = ["instrument_id", *(["timeframe"] if dataset.has_timeframe else []), "ts", "ordinal"]
    expected = rows.sort(key)
    for given in (rows, rows.drop("write_id"), expected, rows.reverse()):
        assert_frame_equal(in_order(dataset, given), expected.select(given.columns))
    later = rows.with_columns(write_id=pl.lit(8, pl.Int64))
    both = pl.concat([later, rows])
    assert_frame_equal(in_order(dataset, both), both.sort([*key[:-1], "write_id", "ordinal"]))
