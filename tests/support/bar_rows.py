"""Bars and quotes as rows, one by one, for tests of what is made of them."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from medalion.core.datasets import STOCK_BARS, Dataset
from medalion.core.frames import conform, derive, polars_schema
from medalion.core.time import Timeframe
from medalion.market.calendar import sessions_between
from olap.reads.rollup import Grid, rolled_up
from tests.support.observed import START

NEW_YORK = ZoneInfo("America/New_York")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def bar(ts: datetime, price: object, volume: object = 1, *, symbol: str = "AAA", **values: object) -> dict[str, Any]:
    prices = {name: Decimal(str(price)) for name in ("open", "high", "low", "close", "vwap")}
    row: dict[str, Any] = {
        "symbol": symbol,
        "timeframe": "1Min",
        "ts": ts,
        **prices,
        "volume": Decimal(str(volume)),
        "trade_count": 1,
    }
    row |= {n: Decimal(v) if isinstance(v, int) and n != "trade_count" else v for n, v in values.items()}
    within = [row[name] for name in ("open", "high", "low", "close")]
    return row | {"high": values.get("high", max(within)), "low": values.get("low", min(within))}


def frame(rows: Iterable[dict[str, Any]], dataset: Dataset = STOCK_BARS) -> pl.DataFrame:
    kinds = polars_schema(dataset.stored)
    return pl.DataFrame(
        list(rows), schema_overrides={name: kinds[name] for name in kinds if name not in ("ts", "symbol")}
    )


def quote(ts: datetime, bid: object, ask: object) -> dict[str, Any]:
    prices = {"bid_price": bid, "ask_price": ask}
    sizes = {"bid_size": Decimal(1), "ask_size": None}
    return {"symbol": "AAA", "ts": ts, **{n: p if p is None else Decimal(str(p)) for n, p in prices.items()}, **sizes}


def local(day: date, at: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(at), NEW_YORK).astimezone(UTC)


def made(rows: pl.DataFrame, timeframe: str, *, is_stock: bool) -> pl.DataFrame:
    full = conform(STOCK_BARS, rows, source="s").with_columns(derive(STOCK_BARS)).with_columns(instrument_id=pl.lit(7))
    grid, finer = Grid(Timeframe.parse(timeframe), sessions_between if is_stock else None), Timeframe.parse("1Min")
    return rolled_up(STOCK_BARS, full, grid, finer, columns=STOCK_BARS.schema.names).sort("ts")


MINUTES = frame(bar(START + n * MINUTE, 10 + n, n + 1) for n in (0, 1, 4, 5, 11))
