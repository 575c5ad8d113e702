"""What the machine that drives the lake draws from: rows that share keys, days and partitions often."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, TypeAlias

import polars as pl

from medalion.core.datasets import POLYMARKET_BOOKS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.frames import polars_schema
from tests.machines.seeds import Draw, among, constant, either, list_of, tuple_of, whole

TIMES = int(os.environ.get("MEDALION_LAKE_STEPS", "1"))
"""By which the steps of the machine are multiplied."""

DRIVEN = (STOCK_QUOTES, STOCK_BARS, POLYMARKET_BOOKS)
SYMBOLS = ("AAA", "BBB", "CCC")
MINUTES = 3

FRAMES = ("1Min", "1Day")

Drawn: TypeAlias = tuple[int, int, int, int, int]
Place: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class ReadRange:
    """A range of a read."""

    symbols: list[str] | None
    first: Place | None
    last: Place | None
    frame: str | None
    source: str | list[str] | None

    def of(self, dataset: Dataset) -> dict[str, Any]:
        """As a read takes it."""
        first, last = (None if place is None else moment_of(dataset, place) for place in (self.first, self.last))
        start, end = (last, first) if first is not None and last is not None and first > last else (first, last)
        asked: dict[str, Any] = {"symbols": self.symbols, "start": start, "end": end, "source": self.source}
        return asked | {"timeframe": self.frame} if dataset.has_timeframe else asked


# Symbol, day, minute, event (or timeframe) and value; few keys, so that most are written more than once.
drawn: Draw[Drawn] = tuple_of(
    among(0, 0, 1, 1, 2), among(0, 0, 1, 2), whole(0, MINUTES - 1), whole(0, 1), either(whole(0, 5), whole(0, 60))
)
several = list_of(drawn, 1, 5)
faces = whole(0, 1)
symbols = among(*SYMBOLS)
feeds = among("manual", "manual", "other")
names = among(None, None, None, "first", "second")
frames = among(None, *FRAMES)
places: Draw[Place] = tuple_of(whole(0, 3), whole(0, MINUTES), whole(0, 1))
moments: Draw[Place | None] = either(constant(None), places)
recorded: Draw[int | None] = either(constant(None), whole(0, 60))
some_symbols: Draw[list[str] | None] = either(
    constant(None), lambda chance: chance.sample(SYMBOLS, chance.randint(1, 2))
)
sources = among(None, None, "manual", "other", "slow", ["other", "manual"], ["slow", "other"])


def asked(chance: Random) -> ReadRange:
    return ReadRange(some_symbols(chance), moments(chance), moments(chance), frames(chance), sources(chance))


def moment_of(dataset: Dataset, place: Place) -> datetime:
    """A time of rows, or beside them: in one of the partitions, which are days, and of bars months or decades."""
    day, minute, event = place
    if dataset is not STOCK_BARS:
        return datetime(2024, 3, 1 + day, 14, minute, tzinfo=UTC)
    if FRAMES[event] == "1Day":
        return datetime(1992 + 10 * day, 3, 1 + minute, tzinfo=UTC)
    return datetime(2023 + (9 + day) // 12, 1 + (9 + day) % 12, 20, 14, minute, tzinfo=UTC)


def end_of_partition(dataset: Dataset, row: dict[str, Any]) -> datetime:
    """When the day, month or decade ends that a row lies in."""
    ts, frame = row["ts"], row.get("timeframe")
    assert isinstance(ts, datetime)
    midnight = ts.replace(hour=0, minute=0)
    if dataset is not STOCK_BARS:
        return midnight + timedelta(days=1)
    if frame == "1Day":
        return midnight.replace(year=ts.year // 10 * 10 + 10, month=1, day=1)
    return (midnight.replace(day=1) + timedelta(days=31)).replace(day=1)


def row_of(dataset: Dataset, given: Drawn) -> dict[str, Any]:
    """A row as a caller gives it."""
    symbol, day, minute, event, value = given
    frame = FRAMES[event] if dataset.has_timeframe else None
    ts = moment_of(dataset, (day, minute, event))
    price = Decimal(value) / 8
    row: dict[str, Any] = {"symbol": SYMBOLS[symbol], "ts": ts}
    if dataset is STOCK_BARS:
        volume = Decimal(value) * 10**15 + price
        row |= {
            "timeframe": frame,
            "open": price,
            "high": price + 1,
            "low": price,
            "close": price + 1,
            "volume": volume,
        }
        row |= {"trade_count": value if value % 3 else None, "vwap": None}
    elif dataset is STOCK_QUOTES:
        ask = price + Decimal(f"{minute}.0000000{event + 1}")
        row |= {"bid_price": price if value % 7 else None, "bid_size": Decimal(event), "ask_price": ask}
        row |= {"ask_size": Decimal(minute), "event_id": event}
    else:
        levels = [{"price": price / 100, "size": Decimal(level)} for level in range(value % 3)]
        row |= {"market_id": "m1", "outcome": None, "bids": levels, "asks": levels[:1], "event_id": event}
        row |= {"total_bid_size": price, "total_ask_size": None, "hash": f"{value}"}
    return row | {"available_at": ts + timedelta(seconds=90) if value % 5 == 1 else None}


def given_of(values: dict[str, Any]) -> dict[str, Any]:
    """A row that was stored as its caller gave it."""
    return {name: value for name, value in values.items() if name not in ("source", "instrument_id")}


def corrected(dataset: Dataset, values: dict[str, Any], value: int) -> dict[str, Any]:
    """The row with the same key and another value."""
    changed = {STOCK_QUOTES: "bid_size", STOCK_BARS: "vwap", POLYMARKET_BOOKS: "total_ask_size"}[dataset]
    return given_of(values) | {changed: Decimal(value)}


def frame_of(dataset: Dataset, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows as the frame that a caller writes."""
    schema = {name: kind for name, kind in polars_schema(dataset.stored).items() if name in rows[0]}
    return pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)
