"""`make bench`: the store's own speed on this machine, against its limits.

Everything runs on a store of its own in a temporary folder: 100 symbols, 10 days, 20 million quotes, fixed seed.
"""

import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import medalion
from benchmarks import commands, imports, orders
from benchmarks.quotes import FIRST_DAY, day_of_quotes, symbols
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.store.store import Store

INSTRUMENTS, EACH, DAYS = 100, 20_000, 10
WRITTEN = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement; `limit` is a floor for rates and a ceiling for times."""

    work: str
    value: float
    unit: str
    limit: float
    is_rate: bool = False

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.is_rate else self.value <= self.limit


def median_ms(work: Callable[[], object], *, times: int = 30) -> float:
    """Median of `times` runs after three to warm up, in milliseconds."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that a server of another user can reach, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="medalion-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(store: Store, console: Console) -> Iterator[Figure]:
    for symbol in symbols(INSTRUMENTS):
        store.assets.create(symbol=symbol, name=symbol, asset_type="stock")
    started = time.perf_counter()
    for day in range(DAYS):
        store.import_history(STOCK_QUOTES, day_of_quotes(day, instruments=INSTRUMENTS, each=EACH), source="manual")
        console.print(f"  imported day {day + 1} of {DAYS}")
    rows = INSTRUMENTS * EACH * DAYS
    yield Figure(
        "import_history of 20 M quotes (generation included)", rows / (time.perf_counter() - started), "rows/s", 0, True
    )


def writing(store: Store) -> Iterator[Figure]:
    frame = day_of_quotes(DAYS, instruments=INSTRUMENTS, each=WRITTEN // INSTRUMENTS)
    started = time.perf_counter()
    store.write(STOCK_QUOTES, frame)
    yield Figure("write of 1 M quotes, durable", WRITTEN / (time.perf_counter() - started), "rows/s", 80_000, True)
    started = time.perf_counter()
    copied = store.mirror.run([STOCK_QUOTES])
    yield Figure("mirror.run of 1 M quotes", copied.rows / (time.perf_counter() - started), "rows/s", 300_000, True)


def importing(store: Store) -> Iterator[Figure]:
    with scratch() as files:
        yield from (Figure(*told) for told in imports.measured(store, files))


def reading(store: Store, folder: Path) -> Iterator[Figure]:
    start = FIRST_DAY.replace(hour=0, minute=0) + timedelta(days=4)
    end = start + timedelta(days=1)
    rows = store.read(STOCK_QUOTES, symbols="Q0042", start=start, end=end)
    if rows.height != EACH:
        raise RuntimeError(f"one symbol-day has {rows.height} rows; expected {EACH}")

    def read(store: Store, columns: list[str] | None = None) -> pl.DataFrame:
        return store.read(STOCK_QUOTES, symbols="Q0042", start=start, end=end, columns=columns)

    def anew(columns: list[str] | None = None) -> float:
        """The time of one that keeps nothing in memory of what it has read."""
        with medalion.open(data_dir=folder, mirror_background=False, cache_mb=0) as forgetful:
            return median_ms(lambda: read(forgetful, columns))

    what = "read of a symbol-day, 20 k of 21 M quotes"
    yield Figure(f"{what}, decoded anew", anew(), "ms", 10)
    yield Figure("the same, three columns", anew(["ts", "bid_price", "ask_price"]), "ms", 10)
    compacted = store.mirror.compact([STOCK_QUOTES])
    yield Figure("mirror.compact of 21 M quotes", compacted.rows / compacted.seconds, "rows/s", 0, True)
    yield Figure(f"{what}, once compacted, decoded anew", anew(), "ms", 10)
    yield Figure("the same, read before", median_ms(lambda: read(store)), "ms", 10)
    yield Figure("latest quote", median_ms(lambda: store.latest(STOCK_QUOTES, "Q0042")), "ms", 10)


def answering() -> Iterator[Figure]:
    yield Figure("import medalion, beyond the interpreter", commands.importing(), "ms", 15)
    with scratch() as folder:
        commands.prepare(folder)
        yield Figure("`medalion read` of a store whose server is not running", commands.reading(folder), "ms", 1_500)
        yield Figure("`medalion raed`, until it says so", commands.mistaken(folder, "raed"), "ms", 500)
        yield Figure("`medalion read stock_barz`", commands.mistaken(folder, "read", "stock_barz"), "ms", 500)
        wrong = commands.mistaken(folder / "nowhere", "read", STOCK_BARS.name)
        yield Figure("`medalion read` in a folder without a store", wrong, "ms", 500)


def trading(store: Store, folder: Path) -> Iterator[Figure]:
    orders.prepare(store)
    p50, p99 = orders.alone(folder)
    yield Figure("order → fill → position → cash → audit, p50", p50, "ms", 10)
    yield Figure("the same, p99", p99, "ms", 40)
    yield Figure(f"orders of {orders.CLIENTS} processes", orders.together(folder), "orders/s", 300, True)
    orders.books(store, positions=9_900, account="small", is_open=False)
    orders.books(store, positions=100, account="small", is_open=True)
    yield Figure(
        "portfolio summary over 10,000 positions, 100 of them open",
        median_ms(lambda: store.trading.get_portfolio_summary("small")),
        "ms",
        50,
    )
    orders.books(store, positions=10_000, account="wide", is_open=True)
    yield Figure(
        "the same, all of them open", median_ms(lambda: store.trading.get_portfolio_summary("wide"), times=5), "ms", 50
    )
    orders.books(store, positions=1_000_000, account="large", is_open=False)
    yield Figure(
        "trade statistics over 1 M closed trades",
        median_ms(lambda: store.trading.get_trade_statistics("large"), times=5),
        "ms",
        1_000,
    )


def main() -> None:
    console = Console()
    console.print(
        f"Python {platform.python_version()}, Polars {pl.__version__}, DuckDB {duckdb.__version__}, "
        f"PyArrow {pa.__version__}, {platform.machine()}"
    )
    with scratch() as folder, medalion.open(data_dir=folder, mirror_background=False) as store:
        parts = (
            answering(),
            fill(store, console),
            writing(store),
            reading(store, folder),
            trading(store, folder),
            importing(store),
        )
        figures = [figure for part in parts for figure in part]
    table = Table("work", "measured", "limit", "", title="medalion")
    for figure in figures:
        limit = f"{'≥' if figure.is_rate else '≤'} {figure.limit:,} {figure.unit}" if figure.limit else ""
        digits = ",.0f" if figure.is_rate else ",.2f"
        table.add_row(
            figure.work, f"{figure.value:{digits}} {figure.unit}", limit, "met" if figure.is_met else "MISSED"
        )
    console.print(table)


if __name__ == "__main__":
    main()
