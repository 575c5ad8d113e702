"""Imports beside Polars alone, each pair in one run, by the seconds that the processor works and by the clock."""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from benchmarks.quotes import day_of_quotes, symbols, year_of_bars
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.store.store import Store

DAYS, INSTRUMENTS, TICKERS = 10, 100, 200


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of work takes of this process: of its processors, and by the clock."""

    processor: float
    clock: float

    @classmethod
    def of(cls, work: Callable[[], object]) -> "Spent":
        """Do it once."""
        processor, clock = time.process_time(), time.perf_counter()
        work()
        return cls(time.process_time() - processor, time.perf_counter() - clock)


def measured(store: Store, folder: Path, *, each: int = 20_000) -> Iterator[tuple[str, float, str, float, bool]]:
    """(work, value, unit, limit, is_rate) of imports of `DAYS` times `INSTRUMENTS` times `each` quotes, and of bars.

    The assets of the quotes are known. What is imported is new to the store, then once more the same.
    """
    quotes = folder / "quotes"
    quotes.mkdir()
    for day in range(DAYS):
        frame = day_of_quotes(100 + day, instruments=INSTRUMENTS, each=each)
        frame.sort("symbol", "ts").write_parquet(quotes / f"{day:02}.parquet")
    rows = DAYS * INSTRUMENTS * each
    alone = Spent.of(lambda: pl.scan_parquet(quotes).sink_parquet(folder / "copy.parquet"))
    ours = Spent.of(lambda: store.import_history(STOCK_QUOTES, quotes, source="bench"))
    what = f"import of {rows / 1e6:g} M quotes from sorted Parquet"
    yield f"{what}, beside Polars' sink_parquet of them", ours.clock / alone.clock, "×", 2.5, False
    yield f"{what}, the same by processor time", ours.processor / alone.processor, "×", 2.5, False
    yield (
        "  the same files again, which change nothing",
        rows / Spent.of(lambda: store.import_history(STOCK_QUOTES, quotes, source="bench")).clock,
        "rows/s",
        0,
        True,
    )
    text = folder / "quotes.csv"
    frame = day_of_quotes(300, instruments=INSTRUMENTS, each=each // 2)
    frame.with_columns(pl.col("ts").dt.to_string("iso:strict")).write_csv(text)
    csv = Spent.of(lambda: store.import_history(STOCK_QUOTES, text, source="bench"))
    yield "import of CSV", frame.height / csv.clock, "rows/s", 1_000_000, True
    yield from _bars(store, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield "  memory of the process at most, with what came before", peak, "MiB", 0, True


def _bars(store: Store, folder: Path) -> Iterator[tuple[str, float, str, float, bool]]:
    tickers = folder / "tickers"
    tickers.mkdir()
    known = {asset.symbol for asset in store.assets.find(asset_type="stock")}
    for symbol in symbols(TICKERS):
        if symbol not in known:
            store.assets.create(symbol=symbol, name=symbol, asset_type="stock")
    years = pl.concat(year_of_bars(year, instruments=TICKERS) for year in range(2015, 2025))
    for (symbol,), rows in years.group_by("symbol"):
        rows.with_columns(pl.col("ts").dt.to_string("iso:strict")).write_csv(tickers / f"{symbol}.csv")
    spent = Spent.of(lambda: store.import_history(STOCK_BARS, tickers, source="bench"))
    yield f"import of {TICKERS} files of daily bars, one a ticker, {years.height:,} rows", spent.clock, "s", 3, False
