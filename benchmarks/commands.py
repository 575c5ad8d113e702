"""Whole processes, from pressing Enter to the answer: an import, a command, a typo."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

import medalion
from medalion.core.datasets import STOCK_BARS

TIMES = 9
READ = ("--symbol", "AAPL", "--timeframe", "1Day", "--start", "2024-01-01", "--end", "2024-12-31")


def prepare(folder: Path) -> None:
    """A store with a year of daily bars, all in the lake; its server is stopped again."""
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(365)]
    prices = {name: ["100.25"] * len(days) for name in ("open", "high", "low", "close", "volume")}
    with medalion.open(data_dir=folder, mirror_background=False) as store:
        store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
        store.write(STOCK_BARS, pl.DataFrame({"symbol": "AAPL", "timeframe": "1Day", "ts": days, **prices}))
        store.mirror.run([STOCK_BARS])


def importing() -> float:
    """Milliseconds that `import medalion` adds to an interpreter that does nothing, which is run in turns with it."""
    return statistics.median(_ms(["-c", "import medalion"], 0) - _ms(["-c", ""], 0) for _ in range(3 * TIMES))


def reading(folder: Path) -> float:
    """Milliseconds of `medalion read`, in which the server is started and stopped."""
    return _median_ms(["-m", "medalion", "--data-dir", str(folder), "read", STOCK_BARS.name, *READ], ends_with=0)


def mistaken(folder: Path, *words: str) -> float:
    """Milliseconds until a command that is wrong says so."""
    return _median_ms(["-m", "medalion", "--data-dir", str(folder), *words], ends_with=2)


def _median_ms(arguments: Sequence[str], *, ends_with: int) -> float:
    return statistics.median(_ms(arguments, ends_with) for _ in range(TIMES))


def _ms(arguments: Sequence[str], ends_with: int) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    taken = (time.perf_counter() - started) * 1e3
    if done.returncode != ends_with:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return taken
