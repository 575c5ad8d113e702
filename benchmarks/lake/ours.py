"""The store as a user has it: its public methods, on stocks for reads and on coins for writes and the mirror."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import polars as pl
import psycopg

import medalion
from benchmarks.lake.processes import Contender, forget_peak, memory_mb, serve
from benchmarks.lake.sizes import SYMBOL, Sizes, all_days, all_years, bars_files, one_day, quotes_of
from benchmarks.quotes import FIRST_DAY, day_of_quotes, symbols
from medalion.core.datasets import CRYPTO_QUOTES, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.enums import AssetType
from medalion.core.time import TimeRange
from medalion.store.store import Store
from oltp.entities.reference import Asset

MINUTE_BARS = """
    SELECT symbol, time_bucket(INTERVAL 1 MINUTE, ts) AS minute, arg_min(bid_price, ts) AS open, max(bid_price) AS high,
           min(bid_price) AS low, arg_max(bid_price, ts) AS close, count(*) AS quotes
    FROM stock_quote_snapshots GROUP BY symbol, minute
"""
VALUES = ["ts", "bid_price", "bid_size", "ask_price", "ask_size", "event_id"]
Span: TypeAlias = tuple[datetime, datetime]

_WRITTEN_DAY = 10_000
_DAILY = "1Day"
_COINS = "C"


class Ours(Contender):
    packages = ("medalion", "polars", "duckdb", "pyarrow", "deltalake", "psycopg", "adbc-driver-postgresql")

    def open(self, folder: str, source: str, sizes: dict[str, int]) -> dict[str, str]:
        """The store, and where its server is."""
        self._sizes = given = Sizes(**sizes)
        self._folder, self._source = folder, Path(source)
        self._store = store = medalion.open(data_dir=folder, mirror_background=False)
        self._anew = anew = medalion.open(data_dir=folder, mirror_background=False, cache_mb=0)
        trades = pl.read_parquet(self._source / "trades.parquet")
        self._questions: dict[str, tuple[Dataset, Span]] = {
            "symbol_day": (STOCK_QUOTES, one_day(given)),
            "symbol_days": (STOCK_QUOTES, all_days(given)),
            "symbol_bars": (STOCK_BARS, all_years(given)),
        }
        start, end = all_years(given)
        self.works = {
            "symbol_day_values": (partial(_read, store, *self._questions["symbol_day"], VALUES), bids),
            "symbol_days_values": (partial(_read, store, *self._questions["symbol_days"], VALUES), bids),
            "symbol_bars_read": (partial(_read, store, *self._questions["symbol_bars"]), closes),
            "first_day": (partial(_read, anew, STOCK_QUOTES, _first_day()), bids),
            "minute_bars": (lambda: store.sql(MINUTE_BARS).pl(), extremes),
            "asof": (lambda: store.asof(trades, STOCK_QUOTES), bids),
            "latest": (lambda: store.latest(STOCK_QUOTES, SYMBOL), bid),
        }
        for each, ending in ((store, ""), (anew, "_anew")):
            for work in ("symbol_day", "symbol_days"):
                self.works[work + ending] = partial(_read, each, *self._questions[work]), bids
            self.works["symbol_bars" + ending] = partial(each.bars, SYMBOL, _DAILY, start=start, end=end), closes
        return {"libpq": store._parts.postgres.libpq}

    def register(self) -> None:
        stocks, coins = max(self._sizes.barred, self._sizes.quoted), self._sizes.quoted
        kinds = ((AssetType.STOCK, symbols(stocks)), (AssetType.CRYPTO, symbols(coins, letter=_COINS)))
        for kind, of_kind in kinds:
            self._store.assets.add_many([Asset(symbol=name, name=name, asset_type=kind) for name in of_kind])

    def import_quotes(self, day: int) -> float:
        """Seconds to bring a day of quotes in memory into the lake."""
        sizes = self._sizes
        if day < sizes.days:
            frame = pl.read_parquet(quotes_of(self._source, day))
        else:
            frame = day_of_quotes(day, instruments=sizes.quoted, each=sizes.each)
        return _seconds(lambda: self._store.import_history(STOCK_QUOTES, frame))

    def import_bars(self) -> float:
        frames = [pl.read_parquet(path) for path in bars_files(self._source)]
        return sum(_seconds(partial(self._store.import_history, STOCK_BARS, frame)) for frame in frames)

    def compact(self) -> float:
        """Seconds to put every file into its last form; nobody reads the former ones any more then."""
        seconds = _seconds(lambda: self._store.mirror.compact([STOCK_QUOTES, STOCK_BARS]))
        for dataset in (STOCK_QUOTES, STOCK_BARS):
            self._anew._parts.lake.table(dataset).refresh()
        return seconds

    def question(self, work: str) -> dict[str, Any]:
        """The files that the read opens and the filter that it uses, for those who ask them without the store."""
        dataset, (start, end) = self._questions[work]
        timeframe = _DAILY if dataset is STOCK_BARS else None
        instrument, source = _read(self._store, dataset, (start, end), ["instrument_id", "source"]).row(0)
        files = self._table(dataset).pin().files.selected([instrument], TimeRange(start, end), timeframe)
        return {
            "paths": [self._table(dataset).place.at(path) for path in files.path],
            "instrument": instrument,
            "source": source,
            "timeframe": timeframe,
            "start": start.isoformat(),
            "end": end.isoformat(),
        }

    def files(self) -> list[str]:
        """Every file of the quotes."""
        table = self._table(STOCK_QUOTES)
        return [table.place.at(path) for path in table.pin().files.path]

    def bytes_per_quote(self) -> float:
        files = self._table(STOCK_QUOTES).pin().files
        return float(files.bytes.sum() / files.rows.sum())

    def _table(self, dataset: Dataset) -> Any:
        return self._store._parts.lake.table(dataset)

    def latest_async(self, times: int) -> list[float]:
        """Seconds of each `latest` awaited on an event loop."""

        async def run() -> list[float]:
            async with medalion.open_async(data_dir=self._folder, mirror_background=False) as store:
                taken = []
                for _ in range(times + 5):
                    started = time.perf_counter()
                    await store.latest(STOCK_QUOTES, SYMBOL)
                    taken.append(time.perf_counter() - started)
                return taken[5:]

        return anyio.run(run)

    def write(self, number: int, rows: int) -> dict[str, float]:
        """Seconds of one durable write of coins' quotes, each number's different; and its id."""
        quoted = self._sizes.quoted
        frame = day_of_quotes(_WRITTEN_DAY + number, instruments=quoted, each=rows // quoted, letter=_COINS)
        with psycopg.connect(self._store._parts.postgres.libpq, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        idle = memory_mb("VmRSS")
        forget_peak()
        started = time.perf_counter()
        written = self._store.write(CRYPTO_QUOTES, frame)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "write_id": written.write_id, "peak_mb": memory_mb("VmHWM") - idle}

    def mirror(self) -> dict[str, float]:
        """Seconds of copying all coins' quotes that wait, and MB that the process grew by at its peak."""
        idle = memory_mb("VmRSS")
        forget_peak()
        started = time.perf_counter()
        copied = self._store.mirror.run([CRYPTO_QUOTES])
        seconds = time.perf_counter() - started
        peak = memory_mb("VmHWM") - idle
        return {"seconds": seconds, "rows": copied.rows, "peak_mb": peak}

    def prune(self) -> int:
        """Empty the hot table of coins; a slot that the server's own vacuum holds is passed over, and tried again."""
        removed = 0
        with psycopg.connect(self._store._parts.postgres.libpq, autocommit=True) as connection:
            while connection.execute("SELECT EXISTS (SELECT FROM crypto_quote_snapshots)").fetchone() == (True,):
                removed += self._store.mirror.prune([CRYPTO_QUOTES])
                time.sleep(0.1)  # the vacuum is the server's: nothing says when it lets go
        return removed


def _read(store: Store, dataset: Dataset, span: Span, columns: list[str] | None = None) -> pl.DataFrame:
    start, end = span
    timeframe = _DAILY if dataset is STOCK_BARS else None
    return store.read(dataset, symbols=SYMBOL, start=start, end=end, timeframe=timeframe, columns=columns)


def _first_day() -> Span:
    start = FIRST_DAY.replace(hour=0, minute=0)
    return start, start + timedelta(days=1)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bids(frame: pl.DataFrame) -> tuple[int, float]:
    return frame.height, float(frame["bid_price"].sum() or 0)


def closes(frame: pl.DataFrame) -> tuple[int, float]:
    return frame.height, float(frame["close"].sum() or 0)


def extremes(frame: pl.DataFrame) -> tuple[int, float]:
    return frame.height, float(frame["high"].sum()) + float(frame["low"].sum())


def bid(row: Any) -> tuple[int, float]:
    return 1, float(row["bid_price"])


if __name__ == "__main__":
    serve(Ours())
