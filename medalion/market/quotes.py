"""What the market shows of an instrument at a time: the quote to trade at, and the rows that a decision rested on."""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from medalion.core.datasets import (
    CRYPTO_BARS,
    CRYPTO_QUOTES,
    OPTION_QUOTES,
    POLYMARKET_SNAPSHOTS,
    STOCK_BARS,
    STOCK_QUOTES,
    Dataset,
)
from medalion.core.enums import InstrumentKind, TradeSide
from medalion.core.money import cash, exact
from medalion.market.instrument import Instrument

Row: TypeAlias = dict[str, Any]


_QUOTES = {
    InstrumentKind.STOCK: STOCK_QUOTES,
    InstrumentKind.CRYPTO: CRYPTO_QUOTES,
    InstrumentKind.OPTION: OPTION_QUOTES,
    InstrumentKind.OUTCOME: POLYMARKET_SNAPSHOTS,
}
_BARS = {InstrumentKind.STOCK: STOCK_BARS, InstrumentKind.CRYPTO: CRYPTO_BARS}


@dataclass(frozen=True, slots=True)
class Quote:
    """The best prices of an instrument at `ts`, in quote currency per unit; a side that nobody offers is None.

    Sizes are in units; None is a size that the feed does not show.
    """

    bid: Decimal | None
    ask: Decimal | None
    ts: datetime
    source: str = ""
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None

    def price_for(self, side: TradeSide) -> Decimal | None:
        """What an order of that side meets: the ask for a buy, the bid for a sell."""
        return self.ask if side is TradeSide.BUY else self.bid

    def size_for(self, side: TradeSide) -> Decimal | None:
        """How many units an order of that side meets; None if that is not known."""
        return self.ask_size if side is TradeSide.BUY else self.bid_size

    @property
    def mark(self) -> Decimal | None:
        """The middle, half-even to 8 places; the only side where there is one; None without any."""
        if self.bid is None or self.ask is None:
            return self.bid if self.ask is None else self.ask
        with exact():
            return cash((self.bid + self.ask) / 2)


class Market(Protocol):
    """Quotes and observed rows as they could be known at a time; a backtest passes its own."""

    async def quote(self, instrument: Instrument, at: datetime) -> Quote | None:
        """The quote in force at that time; None if nothing is known."""
        ...

    async def snapshot(self, instrument: Instrument, at: datetime) -> Row | None:
        """What the feed showed at that time, as JSON can hold it; None if nothing is known."""
        ...


class Latest(Protocol):
    """The newest row of a symbol in a dataset, as `store.latest` gives it."""

    def __call__(self, dataset: str, symbol: str, *, timeframe: str | None = None) -> Awaitable[Row | None]: ...


_seen: ContextVar[dict[int, Row | None] | None] = ContextVar("seen", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Within, a stored market is looked at once: decision, venue and books are shown the same rows."""
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


class StoredMarket:
    """The market as the store's newest rows show it: quotes or snapshots, else the close of the last bar.

    `at` only orders what a caller does; the rows are the newest stored whenever it is asked, and carry their own `ts`.
    An order that is placed sees the same rows from its decision to its booking.
    """

    def __init__(self, latest: Latest, *, timeframes: tuple[str, ...] = ("1Min", "1Day")) -> None:
        self._latest = latest
        self._timeframes = timeframes

    async def quote(self, instrument: Instrument, at: datetime) -> Quote | None:
        row = await self.snapshot(instrument, at)
        return None if row is None else quote_of(row)

    async def snapshot(self, instrument: Instrument, at: datetime) -> Row | None:
        seen = _seen.get()
        if seen is None:
            return await self._newest(instrument)
        if instrument.instrument_id not in seen:
            seen[instrument.instrument_id] = await self._newest(instrument)
        return seen[instrument.instrument_id]

    async def _newest(self, instrument: Instrument) -> Row | None:
        quotes, bars = _QUOTES.get(instrument.kind), _BARS.get(instrument.kind)
        row = None if quotes is None else await self._latest(quotes.name, instrument.symbol)
        if row is not None or bars is None:
            return row
        return await self._last_bar(bars, instrument.symbol)

    async def _last_bar(self, bars: Dataset, symbol: str) -> Row | None:
        """The newest bar of all timeframes, by when it could be known."""
        found = [await self._latest(bars.name, symbol, timeframe=timeframe) for timeframe in self._timeframes]
        known = [row for row in found if row is not None]
        return max(known, key=lambda row: row["available_at"] or row["ts"]) if known else None


def quote_of(row: Row) -> Quote:
    """The quote in a row of quotes, of prediction-market snapshots, or of bars, whose close stands for both sides.

    A prediction market that shows neither bid nor ask is quoted at its price.
    """
    ts, source = row["ts"], row.get("source") or ""
    if "close" in row:
        return Quote(row["close"], row["close"], row.get("available_at") or ts, source)
    bid, ask = (row["bid_price"], row["ask_price"]) if "bid_price" in row else (row["bid"], row["ask"])
    if bid is None and ask is None:
        bid = ask = row.get("price")
    return Quote(bid, ask, ts, source, row.get("bid_size"), row.get("ask_size"))


@dataclass(frozen=True, slots=True)
class MarketView:
    """What each feed showed of the instruments a decision rested on; None where none of them is that feed's."""

    alpaca: Row | None
    polymarket: Row | None


async def viewed(market: Market, instruments: tuple[Instrument, ...], at: datetime) -> MarketView:
    """What the feeds showed of the instruments, by symbol; null for one of which nothing is stored."""
    rows: dict[bool, Row] = {}
    for instrument in instruments:
        is_outcome = instrument.kind is InstrumentKind.OUTCOME
        rows.setdefault(is_outcome, {})[instrument.symbol] = await market.snapshot(instrument, at)
    alpaca, polymarket = ({"at": at, "seen": rows[feed]} if feed in rows else None for feed in (False, True))
    return MarketView(alpaca, polymarket)
