"""ArcticDB on LMDB: a symbol a series, floats, each written at once and sorted by time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import arcticdb  # type: ignore[import-not-found]  # lives in the benchmark's own environment
import pandas as pd
import polars as pl

from benchmarks.lake.processes import Contender, serve
from benchmarks.lake.sizes import SYMBOL, Sizes, all_days, all_years, bars_files, one_day, quotes_of
from benchmarks.quotes import symbols

_OHLC = {
    "open": ("bid_price", "first"),
    "high": ("bid_price", "max"),
    "low": ("bid_price", "min"),
    "close": ("bid_price", "last"),
    "quotes": ("bid_price", "count"),
}


class ArcticDB(Contender):
    packages = ("arcticdb", "pandas", "numpy")

    def load(self, folder: str, source: str, sizes: dict[str, int]) -> None:
        given = Sizes(**sizes)
        self._folder = Path(folder)
        store = arcticdb.Arctic(f"lmdb://{folder}?map_size=20GB")
        self._quotes = store.create_library("quotes")
        self._bars = store.create_library("bars")
        self._symbols = symbols(given.quoted)
        quotes = _floats(pl.scan_parquet([quotes_of(Path(source), day) for day in range(given.days)]))
        for symbol, frame in _series(quotes):
            self._quotes.write(symbol, frame)
        bars = _floats(pl.scan_parquet(list(bars_files(Path(source)))).drop("timeframe"))
        self._bars.write_batch([arcticdb.WritePayload(symbol, frame) for symbol, frame in _series(bars)])
        self._rows = given.quotes
        day, days, years = (_range(*span(given)) for span in (one_day, all_days, all_years))
        self.works = {
            "symbol_day": (lambda: self._quotes.read(SYMBOL, date_range=day).data, _bids),
            "symbol_days": (lambda: self._quotes.read(SYMBOL, date_range=days).data, _bids),
            "symbol_bars": (lambda: self._bars.read(SYMBOL, date_range=years).data, _closes),
            "minute_bars": (self._minute_bars, _extremes),
        }
        # Arrow's tables skip pandas' frame: the same rows, told apart in the table.
        for work, library, span, count in (
            ("symbol_day", self._quotes, day, _bids),
            ("symbol_days", self._quotes, days, _bids),
            ("symbol_bars", self._bars, years, _closes),
        ):
            self.works[f"{work}_arrow"] = (partial(_arrow, library, span), partial(_counted, count))

    def _minute_bars(self) -> list[Any]:
        query = arcticdb.QueryBuilder().resample("1min").agg(_OHLC)
        requests = [arcticdb.ReadRequest(symbol, query_builder=query) for symbol in self._symbols]
        return [item.data for item in self._quotes.read_batch(requests)]

    def bytes_per_quote(self) -> float:
        """Of keys and data as stored; LMDB's file is larger by pages that are free."""
        sizes = self._quotes.admin_tools().get_sizes().values()
        return float(sum(size.bytes_compressed for size in sizes)) / self._rows


def _arrow(library: Any, span: Any) -> Any:
    return library.read(SYMBOL, date_range=span, output_format=arcticdb.OutputFormat.PYARROW).data


def _counted(count: Callable[[Any], tuple[int, float]], table: Any) -> tuple[int, float]:
    return count(table.to_pandas())


def _floats(frame: pl.LazyFrame) -> pl.DataFrame:
    naive = pl.col("ts").dt.replace_time_zone(None).dt.cast_time_unit("ns")
    return frame.with_columns(pl.selectors.decimal().cast(pl.Float64), naive).collect()


def _series(rows: pl.DataFrame) -> Any:
    for (symbol,), part in rows.partition_by("symbol", as_dict=True, maintain_order=True).items():
        yield str(symbol), part.drop("symbol").to_pandas().set_index("ts")


def _range(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """ArcticDB's ranges include their end."""
    first, last = (pd.Timestamp(moment.replace(tzinfo=None)) for moment in (start, end))
    return first, last - pd.Timedelta(1, "ns")


def _bids(frame: Any) -> tuple[int, float]:
    return len(frame), float(frame["bid_price"].sum())


def _closes(frame: Any) -> tuple[int, float]:
    return len(frame), float(frame["close"].sum())


def _extremes(frames: list[Any]) -> tuple[int, float]:
    # A resampled range has a row for an empty minute too, which counts nothing.
    full = [frame[frame["quotes"] > 0] for frame in frames]
    return sum(map(len, full)), float(sum((frame["high"] + frame["low"]).sum() for frame in full))


if __name__ == "__main__":
    serve(ArcticDB())
