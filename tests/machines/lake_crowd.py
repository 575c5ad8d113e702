"""Processes that write, mirror, compact and read one dataset at once, and what each read may have found.

Write k brings four events of version k, and every third corrects an earlier one, so that what was there after any write
is known without asking anybody. Two counters in shared memory say which writes were begun and which acknowledged.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import InputError
from medalion.core.frames import polars_schema
from medalion.ingest.history import ImportResult
from medalion.store.store import Store
from oltp.hot.writes import WriteResult
from tests.support.observed import START

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
EACH = len(SYMBOLS)
MOST_WRITES = 400_000
_SECOND = 1_000_000
_GIVEN = ("symbol", "ts", "bid_price", "bid_size", "ask_price", "ask_size", "event_id")

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class SharedState:
    """What processes know of each other: writes begun and acknowledged, when each was recorded, and the end."""

    begun: Any
    acknowledged: Any
    recorded: Any
    ends: Event
    told: Any
    url: str
    data_dir: Path

    def open(self) -> Store:
        return medalion.open(
            self.url, data_dir=self.data_dir, mirror_background=False, batch_rows=2_000, slot_rows=1_000
        )


def corrected_by(write: int) -> int | None:
    """The event that a write corrects."""
    return write * 7_919 % (EACH * (write - 1)) if write % 3 == 0 else None


def events_of(write: int) -> list[int]:
    first, corrected = EACH * (write - 1), corrected_by(write)
    return [*range(first, first + EACH), *([] if corrected is None else [corrected])]


def versions_after(write: int) -> Numbers:
    """The version of each event."""
    versions = np.arange(EACH * write, dtype=np.int64) // EACH + 1
    for later in range(3, write + 1, 3):
        versions[later * 7_919 % (EACH * (later - 1))] = later
    return versions


def times_of(events: Numbers) -> Numbers:
    """Microseconds after the start; one in seven came late, and no two have the same time."""
    late = np.where(events % 7 == 3, 500 * _SECOND + _SECOND // 2, 0)
    return events * _SECOND - late


def written(write: int) -> pl.DataFrame:
    events = events_of(write)
    times = times_of(np.array(events)).tolist()
    rows = [
        (SYMBOLS[event % EACH], START + timedelta(microseconds=at), Decimal(write), Decimal(1), None, None, event)
        for event, at in zip(events, times, strict=True)
    ]
    schema = {name: polars_schema(STOCK_QUOTES.stored)[name] for name in _GIVEN}
    return pl.DataFrame(rows, schema=schema, orient="row")


def writer(shared: SharedState) -> dict[str, float]:
    """One write after the other, every fortieth of them an import."""
    with shared.open() as store:
        for write in range(1, MOST_WRITES):
            if shared.ends.is_set():
                return {"writes": write - 1}
            shared.begun.value = write
            if write % 40 == 0:
                result: ImportResult | WriteResult = store.import_history(STOCK_QUOTES, written(write), source="manual")
            else:
                result = store.write(STOCK_QUOTES, written(write))
            assert result.recorded_at is not None
            shared.recorded[write] = round(result.recorded_at.timestamp() * _SECOND)
            shared.acknowledged.value = write
    raise AssertionError("there were more writes than can be kept account of")


def mirror(shared: SharedState) -> dict[str, float]:
    rows = 0
    with shared.open() as store:
        while not shared.ends.wait(0.1):
            rows += store.mirror.run([STOCK_QUOTES], settle=True).rows
    return {"mirrored": rows}


def compactor(shared: SharedState) -> dict[str, float]:
    compacted = vacuumed = 0
    with shared.open() as store:
        while not shared.ends.wait(0.2):
            compacted += store.mirror.compact_meanwhile(STOCK_QUOTES).partitions
            if compacted % 3 == 0:
                vacuumed += len(store.mirror.vacuum([STOCK_QUOTES], older_than=timedelta(seconds=2)).files)
    return {"compacted": compacted, "vacuumed": vacuumed}


class Reader:
    """Reads of every kind, each of which is exactly what was there after one of the writes that it may have seen."""

    def __init__(self, shared: SharedState, store: Store, seed: int) -> None:
        self.shared, self.store, self.chance = shared, store, random.Random(seed)
        self.write, self.versions = 0, versions_after(0)
        self.reads = self.rows = 0

    def turn(self) -> None:
        kind = self.chance.choice(
            (
                self.everything,
                self.newest_range,
                self.newest_range,
                self.newest_range,
                self.newest,
                self.past,
                self.in_sql,
            )
        )
        if self.shared.acknowledged.value > EACH:
            kind()
            self.reads += 1

    def everything(self) -> None:
        self._now(None, None)

    def newest_range(self) -> None:
        """The last minutes of one symbol."""
        newest = EACH * self.shared.acknowledged.value
        start = max(0, newest - self.chance.choice((50, 600))) * _SECOND
        self._now(self.chance.randrange(EACH), start)

    def in_sql(self) -> None:
        query = "SELECT count(*), sum(bid_price)::BIGINT FROM stock_quote_snapshots"
        self._exact(lambda: self.store.sql(query).pl().row(0), lambda versions: (len(versions), int(versions.sum())))

    def newest(self) -> None:
        place = self.chance.randrange(EACH)

        def ask() -> tuple[int, int]:
            row = self.store.latest(STOCK_QUOTES, SYMBOLS[place])
            assert row is not None
            return row["event_id"], int(row["bid_price"])

        def expected(versions: Numbers) -> tuple[int, int]:
            events = np.arange(place, len(versions), EACH)
            event = int(events[np.argmax(times_of(events))])
            return event, int(versions[event])

        self._exact(ask, expected)

    def past(self) -> None:
        """As of the moment of a write, asked twice."""
        write = self.chance.randint(2, self.shared.acknowledged.value)
        early = self.chance.randint(0, 1)
        moment = time_of(self.shared.recorded[write] - early)
        try:
            found = [self.store.read(STOCK_QUOTES, as_of=moment, columns=["event_id", "bid_price"]) for _ in range(2)]
        except InputError as error:
            if "not settled" not in str(error):
                raise
            return
        for each in found:
            assert shown(each) == expected_of(versions_after(write - early), None, None)
            self.rows += each.height

    def _now(self, place: int | None, start: int | None) -> None:
        read = partial(
            self.store.read,
            STOCK_QUOTES,
            symbols=None if place is None else SYMBOLS[place],
            start=None if start is None else START + timedelta(microseconds=start),
            columns=["event_id", "bid_price"],
        )

        def ask() -> list[tuple[int, int]]:
            rows = read()
            self.rows += rows.height
            return shown(rows)

        self._exact(ask, lambda versions: expected_of(versions, place, start))

    def _exact(self, ask: Callable[[], Any], expected: Callable[[Numbers], Any]) -> None:
        least = self.shared.acknowledged.value
        found = ask()
        most = self.shared.begun.value
        while self.write < least:
            self._advance()
        candidates = []
        while True:
            candidates.append(expected(self.versions))
            if found == candidates[-1]:
                return
            assert self.write < most, (least, most, difference(found, candidates[0]), difference(found, candidates[-1]))
            self._advance()

    def _advance(self) -> None:
        self.write += 1
        room = EACH * self.write
        if room > len(self.versions):
            self.versions = np.append(self.versions, np.full(EACH, self.write))
        corrected = corrected_by(self.write)
        if corrected is not None:
            self.versions[corrected] = self.write


def difference(found: Any, expected: Any) -> Any:
    """A few of what differs."""
    if not isinstance(found, list):
        return found, expected
    return sorted(set(found) ^ set(expected))[:6], len(found), len(expected)


def shown(rows: pl.DataFrame) -> list[tuple[int, int]]:
    return rows.select("event_id", pl.col("bid_price").cast(pl.Int64)).rows()


def expected_of(versions: Numbers, place: int | None, start: int | None) -> list[tuple[int, int]]:
    """Events and versions of the range, by symbol and time."""
    events = np.arange(len(versions))
    times = times_of(events)
    wanted = events[(times >= start) if start is not None else slice(None)]
    wanted = wanted if place is None else wanted[wanted % EACH == place]
    wanted = wanted[np.lexsort((times[wanted], wanted % EACH))]
    return list(zip(wanted.tolist(), versions[wanted].tolist(), strict=True))


def time_of(microseconds: int) -> datetime:
    return START + (timedelta(microseconds=microseconds) - timedelta(seconds=START.timestamp()))


def reader(shared: SharedState, seed: int) -> dict[str, float]:
    with shared.open() as store:
        one = Reader(shared, store, seed)
        while not shared.ends.is_set():
            one.turn()
    return {"reads": one.reads, "rows": one.rows}


def take_part(shared: SharedState, part: str, seed: int) -> None:
    """Run one part to the end; what it did, or what went wrong."""
    parts: dict[str, Callable[[SharedState], dict[str, float]]]
    parts = {"writer": writer, "mirror": mirror, "compactor": compactor, "reader": partial(reader, seed=seed)}
    try:
        shared.told.put((part, parts[part](shared), None))
    except BaseException as error:
        shared.ends.set()
        shared.told.put((part, {}, f"{part} after {time.process_time():.0f} s: {type(error).__name__}: {error}"))
