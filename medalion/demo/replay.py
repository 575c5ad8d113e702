"""The bars of the store as a market that only moves forward, and the strategy trading on it.

A day goes like this. Before the open, splits and dividends of that ex-date reach the books. At 09:30 in New York the
orders decided after the last close are filled at the open. At the midnight after, when the day's bars are known, the
strategy sees their closes and decides about the next open.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from medalion.demo.sources import EXCHANGE_ZONE
from medalion.demo.strategy import Cross, MovingAverageCross, shares_for
from medalion.market import Instrument, Quote, Row
from medalion.types import TradeSide, exact

_ZONE = ZoneInfo(EXCHANGE_ZONE)
_OPENS_AT = time(9, 30)
ZERO = Decimal(0)


def session_open(midnight: datetime) -> datetime:
    """09:30 in New York on the day that begins then."""
    day = midnight.astimezone(_ZONE).date()
    return datetime.combine(day, _OPENS_AT, _ZONE).astimezone(midnight.tzinfo)


class ReplayMarket:
    """Daily bars as a market at any time of the past: the open of the day once it has opened, else nothing to trade at.

    `bars` are rows of `stock_bars` as a read returns them. A snapshot is the newest bar that was closed by then.
    """

    def __init__(self, bars: pl.DataFrame) -> None:
        ordered = bars.sort("symbol", "ts")
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in ordered.iter_rows(named=True):
            self._rows[row["symbol"]].append(row)
        self._begins = {symbol: [row["ts"] for row in rows] for symbol, rows in self._rows.items()}
        self._known = {symbol: [row["available_at"] for row in rows] for symbol, rows in self._rows.items()}

    async def quote(self, instrument: Instrument, at: datetime) -> Quote | None:
        """The day's open, for both sides; None before 09:30 and on days without a bar."""
        row = self._newest(self._begins, instrument.symbol, at)
        if row is None or not session_open(row["ts"]) <= at < row["available_at"]:
            return None
        return Quote(row["open"], row["open"], session_open(row["ts"]), row["source"])

    async def snapshot(self, instrument: Instrument, at: datetime) -> Row | None:
        """The last bar that had closed; None before the first."""
        return self._newest(self._known, instrument.symbol, at)

    def sessions(self) -> list[list[Row]]:
        """The bars of each day, days in order."""
        days: dict[datetime, list[Row]] = defaultdict(list)
        for rows in self._rows.values():
            for row in rows:
                days[row["ts"]].append(row)
        return [days[ts] for ts in sorted(days)]

    def _newest(self, times: dict[str, list[datetime]], symbol: str, at: datetime) -> Row | None:
        place = bisect_right(times.get(symbol, []), at)
        return self._rows[symbol][place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the strategy wants after a close: a cross of one symbol, the shares to trade, and when it was known."""

    symbol: str
    cross: Cross
    quantity: Decimal
    close: Decimal
    day: date
    at: datetime
