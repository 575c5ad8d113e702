"""What a lake holds and how it answers, for tests of its upkeep."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import STOCK_QUOTES, Dataset
from medalion.core.frames import polars_schema
from medalion.store.store import Store
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.places.folder import Folder
from tests.support.observed import START, instruments, sample

_OWN = ("recorded_at", "instrument_id", "write_id", "available_at")


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
    return table.scan(pin.files.path).select(names).sort("write_id", "ordinal").collect()


def folder_of(table: LakeTable) -> Path:
    """Where the files of a table lie whose lake is a folder."""
    assert isinstance(table.place, Folder)
    return table.place.path


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


def alike(frame: pl.DataFrame) -> pl.DataFrame:
    """What two stores have in common that were given the same rows."""
    return frame.drop(_OWN, strict=False)


def life(store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything a lake goes through, and what was read meanwhile."""
    found: list[Any] = []
    symbols = (f"{dataset.name}-a", f"{dataset.name}-b")

    def look() -> None:
        for rows in (0, 10**9):
            monkeypatch.setattr("medalion.observations.plan.WIDE_ROWS", rows)
            found.append(alike(store.read(dataset)))
            found.append(alike(store.read(dataset, symbols=symbols[0], start=START, end=START + timedelta(minutes=9))))
        found.append(alike(store.sql(f"SELECT * FROM {dataset.name} ORDER BY symbol, ts, write_id").pl()))
        found.append(alike(store.scan(dataset).collect()))
        frame = "1Min" if dataset.has_timeframe else None
        left = pl.DataFrame({"symbol": [symbols[0]], "ts": [START + timedelta(minutes=9)]})
        found.append(alike(store.asof(left, dataset, timeframe=frame)))
        found.append(store.mirror.verify([dataset]).height)

    written(store, dataset)
    moment = store.mirror.status([dataset])["settled"][0]
    look()
    found.append(store.mirror.prune([dataset]))
    store.write(dataset, sample(dataset, 3, symbols=symbols, start=START + timedelta(minutes=1)))
    store.mirror.run([dataset])
    run = store.mirror.compact([dataset])
    found.append((run.partitions, run.files_before, run.files_after, run.rows))
    found.append(store.mirror.compact([dataset]).files_before)
    found.append(len(store.mirror.vacuum([dataset], older_than=timedelta()).files))
    found.append(store.mirror.vacuum([dataset], older_than=timedelta()).files)
    more = sample(dataset, 20, symbols=symbols, start=START + timedelta(days=40))
    found.append(store.import_history(dataset, more).rows)
    found.append(alike(store.read(dataset, as_of=moment)))
    found.append(alike(store.sql(f"SELECT * FROM {dataset.name} ORDER BY symbol, ts, write_id", as_of=moment).pl()))
    look()
    retained = store.mirror.retain([dataset], versions_older_than=timedelta())
    found.append((retained.versions, retained.rows))
    look()
    found.append(store.mirror.status([dataset]).select("batch", "lake_batch", "lake_rows", "files"))
    return found
