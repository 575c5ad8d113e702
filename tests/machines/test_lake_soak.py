"""Everything at once for a while: every read of every process is exact at its point in time, and memory stays flat.

One process writes, one mirrors, one compacts and vacuums, and 3 read for 8 seconds; with MEDALION_SOAK_SECONDS 8 read,
and for that long.
"""

import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from medalion.core.datasets import STOCK_QUOTES
from medalion.store.store import Store
from tests.machines.lake_crowd import (
    MOST_WRITES,
    SYMBOLS,
    SharedState,
    events_of,
    expected_of,
    shown,
    take_part,
    versions_after,
)
from tests.support.lake import stored, table_of
from tests.support.observed import instruments

SECONDS = os.environ.get("MEDALION_SOAK_SECONDS")
READERS = 3 if SECONDS is None else 8

_context = multiprocessing.get_context("spawn")


def rss(pid: int | None) -> int:
    """MiB of memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


@contextmanager
def crowd(shared: SharedState) -> Iterator[list[Any]]:
    parts = ["writer", "mirror", "compactor", *(["reader"] * READERS)]
    processes = [
        _context.Process(target=take_part, args=(shared, part, seed), name=f"{part} {seed}")
        for seed, part in enumerate(parts)
    ]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        shared.ends.set()
        for process in processes:
            process.join(60)
            process.kill()


@pytest.mark.long
@pytest.mark.timeout(int(SECONDS or 0) + 300)
def test_every_read_is_exact_while_all_work_at_once_and_memory_stays_flat(
    store: Store,
    database_url: str,
    data_dir: Path,
    record_testsuite_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    instruments(store, STOCK_QUOTES.kind, SYMBOLS)
    begun, acknowledged, told = _context.Value("q", 0), _context.Value("q", 0), _context.Queue()
    recorded = _context.Array("q", MOST_WRITES, lock=False)
    shared = SharedState(begun, acknowledged, recorded, _context.Event(), told, database_url, data_dir)
    memory: dict[str, list[int]] = defaultdict(list)
    with crowd(shared) as processes:
        while shared.acknowledged.value < 20 and not shared.ends.is_set():
            shared.ends.wait(0.1)
        started, first = time.monotonic(), shared.acknowledged.value
        seconds = float(SECONDS or 8)
        while time.monotonic() < started + seconds and not shared.ends.wait(seconds / 80):
            for process in processes:
                memory[process.name].append(rss(process.pid))
        seconds, writes = time.monotonic() - started, shared.acknowledged.value - first
        shared.ends.set()
        outcome = [told.get(timeout=60) for _ in processes]
    assert [error for _, _, error in outcome if error is not None] == []
    done: dict[str, float] = defaultdict(float)
    for _, counts, _ in outcome:
        for name, count in counts.items():
            done[name] += count
    said = {name: round(count) for name, count in done.items()} | {
        "reads a second": round(done["reads"] / seconds),
        "rows read a second": round(done["rows"] / seconds),
        "writes a second": round(writes / seconds),
        "MiB at the end": {name: samples[-1] for name, samples in memory.items()},
    }
    record_testsuite_property("soak of the lake", said)
    with capsys.disabled():
        request.config.get_terminal_writer().line(f"\n{seconds:.0f} s of the lake: {said}")
    assert done["reads"] > 0
    _check_what_is_left(store, int(done["writes"]))
    if SECONDS is not None:  # a few seconds are all warming up
        for name, samples in memory.items():
            quarter = len(samples) // 4
            assert max(samples[-quarter:]) <= 1.2 * max(samples[quarter // 2 : quarter]) + 30, (name, samples)


def _check_what_is_left(store: Store, writes: int) -> None:
    """Every version of every event, once."""
    store.mirror.run([STOCK_QUOTES])
    found = store.read(STOCK_QUOTES, columns=["event_id", "bid_price"])
    assert shown(found) == expected_of(versions_after(writes), None, None)
    rows = stored(table_of(store, STOCK_QUOTES)).select("event_id", pl.col("bid_price").cast(pl.Int64)).rows()
    expected = [(event, write) for write in range(1, writes + 1) for event in events_of(write)]
    assert sorted(rows) == sorted(expected)
    assert store.mirror.verify([STOCK_QUOTES]).rows() == []
