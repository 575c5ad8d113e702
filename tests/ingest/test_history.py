"""Imports go straight into the lake, all or nothing and once."""

from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import DATASETS, STOCK_BARS, Dataset
from medalion.core.errors import NotFoundError
from medalion.store.store import Store
from tests.support.observed import as_read, instruments, sample


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_an_import_reads_back_exactly_and_touches_no_hot_row(store: Store, dataset: Dataset) -> None:
    ids = instruments(store, dataset.kind)
    rows = sample(dataset, 9)
    result = store.import_history(dataset, rows)
    assert (result.rows, result.stored, result.unchanged, result.corrected) == (9, 9, 0, 0)
    assert_frame_equal(store.read(dataset), as_read(dataset, rows, ids, source="manual"))
    assert store.explain(dataset).hot_rows == 0
    timeframe = "1Min" if dataset.has_timeframe else None
    assert store.latest(dataset, "AAA", timeframe=timeframe) == store.read(dataset, symbols="AAA").row(-1, named=True)


def test_an_import_follows_and_precedes_hot_writes_in_order_of_arrival(store: Store) -> None:
    ids = instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS)
    store.write(STOCK_BARS, rows)
    second = rows.with_columns(volume=rows["volume"] + 1)
    store.import_history(STOCK_BARS, second)
    assert_frame_equal(store.read(STOCK_BARS), as_read(STOCK_BARS, second, ids, source="manual"))
    third = rows.with_columns(volume=rows["volume"] + 2)
    store.write(STOCK_BARS, third)
    for _ in range(2):
        assert_frame_equal(store.read(STOCK_BARS), as_read(STOCK_BARS, third, ids, source="manual"))
        store.mirror.run()
        store.mirror.prune()


def test_a_refused_import_leaves_no_file_and_no_entry(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_BARS.kind, ("AAA",))
    with pytest.raises(NotFoundError):
        store.import_history(STOCK_BARS, sample(STOCK_BARS))
    assert store.sql("SELECT count(*) FROM mirror_batches").fetchall() == [(0,)]
    assert list(data_dir.glob("lake/**/*.parquet")) == []
