"""NautilusTrader's Parquet catalog: a folder an instrument, read as its QuoteTick and Bar objects.

Only the neighbours of the symbol that is read are loaded: the others lie in folders of their own.
"""

from pathlib import Path
from typing import Any

import polars as pl
from nautilus_trader.model.data import BarType  # type: ignore[import-not-found]  # the benchmark's own environment
from nautilus_trader.persistence.catalog import ParquetDataCatalog  # type: ignore[import-not-found]
from nautilus_trader.persistence.wranglers import (  # type: ignore[import-not-found]
    BarDataWrangler,
    QuoteTickDataWrangler,
)
from nautilus_trader.test_kit.providers import TestInstrumentProvider  # type: ignore[import-not-found]

from benchmarks.lake.processes import Contender, serve
from benchmarks.lake.sizes import (
    SYMBOL,
    Sizes,
    all_days,
    all_years,
    bars_files,
    neighbours,
    one_day,
    quotes_of,
)

_HELD = 5


class Nautilus(Contender):
    packages = ("nautilus_trader",)

    def load(self, folder: str, source: str, sizes: dict[str, int]) -> None:
        given = Sizes(**sizes)
        catalog = ParquetDataCatalog(folder)
        held = neighbours(_HELD, among=given.quoted)
        paths = [quotes_of(Path(source), day) for day in range(given.days)]
        quotes = pl.scan_parquet(paths).filter(pl.col("symbol").is_in(held)).drop("event_id")
        bars = pl.scan_parquet(list(bars_files(Path(source)))).filter(pl.col("symbol").is_in(held))
        for symbol in held:
            equity = TestInstrumentProvider.equity(symbol, "XNAS")
            catalog.write_data([equity])
            catalog.write_data(QuoteTickDataWrangler(equity).process(_of(quotes, symbol)))
            kind = BarType.from_str(_bar_type(symbol))
            columns = bars.select("symbol", "ts", "open", "high", "low", "close", "volume")
            catalog.write_data(BarDataWrangler(kind, equity).process(_of(columns, symbol)))
        name, daily = f"{SYMBOL}.XNAS", _bar_type(SYMBOL)
        day, days, years = (_range(*span(given)) for span in (one_day, all_days, all_years))
        self.works = {
            "symbol_day": (lambda: catalog.quote_ticks(instrument_ids=[name], **day), _bids),
            "symbol_days": (lambda: catalog.quote_ticks(instrument_ids=[name], **days), _bids),
            "symbol_bars": (lambda: catalog.bars(bar_types=[daily], **years), _closes),
        }


def _of(rows: pl.LazyFrame, symbol: str) -> Any:
    floats = rows.filter(pl.col("symbol") == symbol).with_columns(pl.selectors.decimal().cast(pl.Float64))
    return floats.drop("symbol").collect().to_pandas().set_index("ts")


def _bar_type(symbol: str) -> str:
    return f"{symbol}.XNAS-1-DAY-LAST-EXTERNAL"


def _range(start: Any, end: Any) -> dict[str, int]:
    """In nanoseconds, the end included."""
    return {"start": int(start.timestamp()) * 10**9, "end": int(end.timestamp()) * 10**9 - 1}


def _bids(ticks: list[Any]) -> tuple[int, float]:
    return len(ticks), sum(float(tick.bid_price) for tick in ticks)


def _closes(bars: list[Any]) -> tuple[int, float]:
    return len(bars), sum(float(bar.close) for bar in bars)


if __name__ == "__main__":
    serve(Nautilus())
