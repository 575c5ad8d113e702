"""The real data that three packages bring in their wheels, as rows of our datasets; nothing is downloaded.

| package | what it holds | licence |
|---|---|---|
| `bokeh-sampledata` | daily bars of five stocks, 2000-03-01 to 2013-03-01, as traded (not adjusted) | public domain |
| `resolvedkit` | order books of 18 settled Polymarket markets, about one a second | CC BY 4.0, Resolved Markets |
| `cross-signal-data` | 308 closed trades of a Polymarket bot | MIT |

Prices are read from their text, or from the shortest decimal of a float, and are exact. The files are found without
importing the packages, which may need more than their data does.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from medalion.core.decimals import exact_decimals
from medalion.core.errors import MedalionError
from medalion.core.money import cash, exact
from medalion.core.time import EXCHANGE_ZONE

STOCKS_SOURCE, BOOKS_SOURCE, BOT_SOURCE = "bokeh-sampledata", "resolvedkit", "cross-signal-data"
OUTCOMES = ("UP", "DOWN")
_PRICE, _VOLUME = pl.Decimal(18, 8), pl.Decimal(28, 8)
_FILES = {
    STOCKS_SOURCE: ("bokeh_sampledata", "_data/stocks.csv.gz"),
    BOOKS_SOURCE: ("resolvedkit", "sample_data"),
    BOT_SOURCE: ("cross_signal_data", "data/crashes_v1.csv"),
}


def data_file(package: str) -> Path:
    """Where the data of an installed package lies.

    Raises:
        MedalionError: the package, or the file in it, is missing; says what to install.
    """
    module, name = _FILES[package]
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (path := Path(folder) / name).exists():
            return path
    what = f"has no {name}" if spec else "is not installed"
    raise MedalionError(f"the demo needs the package {package}, which {what}; run: pip install 'medalion[demo]'")


def edition(package: str) -> str:
    """Package and version, by which a write of its rows is known to have been made."""
    return f"{package} {version(package)}"


def stock_bars() -> pl.DataFrame:
    """Rows of `stock_bars`: 12,154 daily bars of AAPL, FB, GOOG, IBM and MSFT in prices and shares of their day.

    A day's `ts` is its midnight in New York, as Alpaca stamps daily bars; it is known at the midnight after.
    """
    table = pl.read_csv(data_file(STOCKS_SOURCE), infer_schema=False)
    day = table["Date"].str.to_datetime("%Y-%m-%d", time_unit="us").dt.replace_time_zone(EXCHANGE_ZONE.key)
    names = {"Open": "open", "High": "high", "Low": "low", "Close": "close"}
    return pl.DataFrame(
        [
            table["Ticker"].alias("symbol"),
            pl.Series("timeframe", ["1Day"]).new_from_index(0, table.height),
            day.dt.convert_time_zone("UTC").alias("ts"),
            *(exact_decimals(table[text], _PRICE, text).alias(name) for text, name in names.items()),
            exact_decimals(table["Volume"], _VOLUME, "Volume").alias("volume"),
        ]
    )


def token(market_id: str, outcome: str) -> str:
    """A stand-in for the token id of an outcome, which the data does not hold: market id and outcome, in capitals.

    >>> token("0xabc", "Up")
    '0xabc:UP'
    """
    return f"{market_id}:{outcome.upper()}"


def polymarket_markets() -> pl.DataFrame:
    """The 18 markets: `market_id` (the condition id), `slug`, `question`, `start`, `end` (UTC), `winner` (UP, DOWN)."""
    table = pl.read_parquet(data_file(BOOKS_SOURCE) / "markets.parquet")
    return table.select(
        "market_id",
        "slug",
        "question",
        "category",
        _milliseconds("start_ts").alias("start"),
        _milliseconds("end_ts").alias("end"),
        pl.when(pl.col("payout_up") == 1).then(pl.lit("UP")).otherwise(pl.lit("DOWN")).alias("winner"),
    ).sort("start")


def polymarket_books() -> pl.DataFrame:
    """Rows of `polymarket_order_book_snapshots`: 38,333 books of up to 20 levels a side, best first.

    205 of the 1.3 million sizes carry the noise of a float in the 16th digit; they are rounded to 8 places. Books with
    one side empty, and the 22 that are crossed, stay as they were seen.
    """
    table = pl.read_parquet(data_file(BOOKS_SOURCE) / "books.parquet").sort("ts", "side")
    bids, asks = (_levels(table[f"{side}_px"], table[f"{side}_sz"]).alias(f"{side}s") for side in ("bid", "ask"))
    return table.select(
        pl.format("{}:{}", "market_id", "side").alias("symbol"),
        _milliseconds("ts"),
        "market_id",
        pl.col("side").str.to_titlecase().alias("outcome"),
        bids,
        asks,
        _total(bids).alias("total_bid_size"),
        _total(asks).alias("total_ask_size"),
    )


def polymarket_snapshots(books: pl.DataFrame) -> pl.DataFrame:
    """Rows of `polymarket_snapshots`, one for each book: its best bid and ask, and the middle of them as the price.

    A side that is empty is null, and so is the price then; the middle has at most 4 places and is exact.
    """
    best = books.select(
        "symbol",
        "ts",
        "market_id",
        "outcome",
        pl.col("bids").list.first().struct.field("price").alias("bid"),
        pl.col("asks").list.first().struct.field("price").alias("ask"),
    )
    units = [pl.col(side).reinterpret(dtype=pl.Int128) for side in ("bid", "ask")]
    middle = (units[0] + units[1]).floordiv(2).reinterpret(dtype=_PRICE)
    return best.with_columns(middle.alias("price"))


@dataclass(frozen=True, slots=True)
class BotTrade:
    """One closed trade of the bot: bought `shares` of an outcome and sold them all; prices are exact."""

    number: int
    market_id: str
    question: str
    outcome: str
    entered_at: datetime
    exited_at: datetime
    entry_price: Decimal
    exit_price: Decimal
    shares: Decimal
    stated_pnl: Decimal
    exit_reason: str

    @property
    def pnl(self) -> Decimal:
        """What the two fills make, exactly; for the last eleven trades the file states more than that."""
        with exact():
            return cash(self.shares * self.exit_price) - cash(self.shares * self.entry_price)


def bot_trades() -> tuple[BotTrade, ...]:
    """The 308 trades in the order of their entry; exits, which are written without a zone, are UTC as entries are."""
    table = pl.read_csv(data_file(BOT_SOURCE), infer_schema=False)
    entered = table["entry_time"].str.to_datetime(time_zone="UTC", time_unit="us")
    exited = table["exit_time"].str.to_datetime(time_unit="us").dt.replace_time_zone("UTC")
    rows = table.with_columns(entered.alias("entry_time"), exited.alias("exit_time")).sort("entry_time")
    return tuple(
        BotTrade(
            number=int(row["trade_id"]),
            market_id=row["market_id"],
            question=row["question"],
            outcome=row["outcome_label"],
            entered_at=row["entry_time"],
            exited_at=row["exit_time"],
            entry_price=Decimal(row["entry_price"]),
            exit_price=Decimal(row["exit_price"]),
            shares=Decimal(row["shares"]),
            stated_pnl=Decimal(row["pnl_usd"]),
            exit_reason=row["exit_reason"],
        )
        for row in rows.iter_rows(named=True)
    )


def _milliseconds(column: str) -> pl.Expr:
    return (pl.col(column) * 1000).cast(pl.Datetime("us", "UTC"))


def _levels(prices: pl.Series, sizes: pl.Series) -> pl.Series:
    """Lists of (price, size) from two parallel lists of floats; an empty list stays one."""
    price, size = (lists.list.explode(keep_nulls=False, empty_as_null=False) for lists in (prices, sizes))
    levels = pl.DataFrame(
        [
            exact_decimals(price, _PRICE, "price").alias("price"),
            exact_decimals(size.round(8), _PRICE, "size").alias("size"),
        ]
    )
    offsets = pl.concat([pl.Series([0]), prices.list.len().cum_sum().cast(pl.Int64)])
    arrays: tuple[Any, Any] = offsets.to_arrow(), levels.to_struct("level").to_arrow()
    return pl.Series(pa.LargeListArray.from_arrays(*arrays))


def _total(levels: pl.Series) -> pl.Series:
    """The sum of the sizes of each list."""
    return levels.list.eval(pl.element().struct.field("size").cast(_VOLUME)).list.sum()
