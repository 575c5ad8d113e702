"""What a lake holds and how it answers, for tests of its upkeep."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from medalion.datasets import STOCK_QUOTES, Dataset
from medalion.frames import polars_schema
from medalion.store import Store
from olap.lake import LakeTable, Pin
from tests.observed import START, instruments, sample


def written(store: Store, dataset: Dataset, *, parts: int = 4) -> dict[str, int]:
    """Several small files with rows of two instruments: later ones, corrections of earlier ones, and deletions."""
    symbols = (f"{dataset.name}-a", f"{dataset.name}-b")
    ids = instruments(store, dataset.kind, symbols)
    for part in range(parts):
        store.write(dataset, sample(dataset, 6, symbols=symbols, start=START + timedelta(minutes=4 * part)))
        store.mirror.run([dataset])
    store.delete(dataset, symbols=symbols[0], end=START + timedelta(minutes=3))
    store.write(dataset, sample(dataset, 2, symbols=symbols, start=START + timedelta(minutes=2)))
    store.mirror.run([dataset], settle=True)
    return ids


def stored(table: LakeTable) -> pl.DataFrame:
    """Every row of every file of the newest version."""
    pin = table.refresh()
    names = [*polars_schema(table.dataset.stored)]
    files = [pl.read_parquet(table.path / path, hive_partitioning=False) for path in pin.files.path]
    return pl.concat(files).select(names).sort("write_id", "ordinal")


def table_of(store: Store, dataset: Dataset) -> LakeTable:
    return store._parts.lake.table(dataset)


def pin_of(store: Store, dataset: Dataset = STOCK_QUOTES) -> Pin:
    return table_of(store, dataset).refresh()


def answers(store: Store, dataset: Dataset, symbol: str, moments: list[datetime]) -> list[Any]:
    """What reads of every kind give now."""
    frame = "1Min" if dataset.has_timeframe else None
    left = pl.DataFrame({"symbol": [symbol], "ts": [START + timedelta(minutes=9)]})
    query = f"SELECT * FROM {dataset.name} ORDER BY symbol, ts, write_id"
    return [
        store.read(dataset),
        store.read(dataset, symbols=symbol, start=START, end=START + timedelta(minutes=8)),
        store.latest(dataset, symbol, timeframe=frame),
        *(store.read(dataset, as_of=moment) for moment in moments),
        *(store.latest(dataset, symbol, timeframe=frame, as_of=moment) for moment in moments),
        store.sql(query).pl(),
        *(store.sql(query, as_of=moment).pl() for moment in moments),
        store.asof(left, dataset, timeframe=frame),
        store.scan(dataset).collect(),
    ]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, pl.DataFrame):
            assert_frame_equal(one, other)
        else:
            assert one == other


@contextmanager
def working(*works: Any) -> Iterator[list[BaseException]]:
    """Each work again and again in a thread of its own; what went wrong."""
    wrong: list[BaseException] = []
    stop = threading.Event()

    def run(work: Any) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()
