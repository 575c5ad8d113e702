"""What the market shows of an instrument at a time: the quote to trade at, and the rows that a decision rested on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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

    Sizes are in units; None is a size that the feed does not show. `row` is what it was read from, if a row was.
    """

    bid: Decimal | None
    ask: Decimal | None
    ts: datetime
    source: str = ""
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    row: Row | None = field(default=None, compare=False, repr=False)

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
    """What instruments cost and what the feeds showed, now and at a time; a backtest passes its own."""

    async def now(self, instrument: Instrument) -> Quote | None:
        """The quote in force now; None if nothing is known."""
        ...

    async def at(self, instrument: Instrument, t: datetime) -> Quote | None:
        """The quote in force at `t`, as it could be known then; None if nothing was."""
        ...

    async def snapshot(self, instrument: Instrument, t: datetime) -> Row | None:
        """What the feed showed at `t`, as JSON can hold it; None if nothing was known."""
        ...


class StoredRows(Protocol):
    """The rows of a symbol in a dataset, as an open store holds them."""

    async def latest(self, dataset: str, symbol: str, /, *, timeframe: str | None = None) -> Row | None:
        """The newest."""
        ...

    async def latest_at(self, dataset: str, symbol: str, t: datetime, /, *, timeframe: str | None = None) -> Row | None:
        """The newest that was available at `t`."""
        ...


class StoredMarket:
    """The market as the store's rows show it: quotes or snapshots, else the close of the last bar."""

    def __init__(self, rows: StoredRows, *, timeframes: tuple[str, ...] = ("1Min", "1Day")) -> None:
        self._rows = rows
        self._timeframes = timeframes

    async def now(self, instrument: Instrument) -> Quote | None:
        """The newest quote that is stored; None if there is none."""
        return _quoted(await self._newest(instrument, None))

    async def at(self, instrument: Instrument, t: datetime) -> Quote | None:
        """The newest quote that was available at `t`; None if there was none."""
        return _quoted(await self._newest(instrument, t))

    async def snapshot(self, instrument: Instrument, t: datetime) -> Row | None:
        """The newest row that was available at `t`, as it is stored; None if there was none."""
        return await self._newest(instrument, t)

    async def _newest(self, instrument: Instrument, t: datetime | None) -> Row | None:
        quotes, bars = _QUOTES.get(instrument.kind), _BARS.get(instrument.kind)
        row = None if quotes is None else await self._row(quotes, instrument.symbol, t)
        if row is not None or bars is None:
            return row
        found = [await self._row(bars, instrument.symbol, t, timeframe=timeframe) for timeframe in self._timeframes]
        return max((row for row in found if row is not None), key=_known_from, default=None)

    async def _row(
        self, dataset: Dataset, symbol: str, t: datetime | None, *, timeframe: str | None = None
    ) -> Row | None:
        """The newest row, by a look at the last value alone where that was available in time already."""
        row = await self._rows.latest(dataset.name, symbol, timeframe=timeframe)
        if row is None or t is None or _known_from(row) <= t:
            return row
        return await self._rows.latest_at(dataset.name, symbol, t, timeframe=timeframe)


def _known_from(row: Row) -> datetime:
    known: datetime = row.get("available_at") or row["ts"]
    return known


def _quoted(row: Row | None) -> Quote | None:
    return None if row is None else quote_of(row)


def quote_of(row: Row) -> Quote:
    """The quote in a row of quotes, of prediction-market snapshots, or of bars, whose close stands for both sides.

    A prediction market that shows neither bid nor ask is quoted at its price.
    """
    ts, source = row["ts"], row.get("source") or ""
    if "close" in row:
        return Quote(row["close"], row["close"], row.get("available_at") or ts, source, row=row)
    bid, ask = (row["bid_price"], row["ask_price"]) if "bid_price" in row else (row["bid"], row["ask"])
    if bid is None and ask is None:
        bid = ask = row.get("price")
    return Quote(bid, ask, ts, source, row.get("bid_size"), row.get("ask_size"), row)


@dataclass(frozen=True, slots=True)
class Look:
    """What the market showed at one moment: the quote of what is traded, and the rows that a decision rests on.

    `alpaca` and `polymarket` have the rows by symbol, null for one of which nothing is stored; None where no
    instrument is that feed's. Decision, venue and books are handed the same look, so that they see the same rows.
    """

    at: datetime
    quote: Quote | None
    alpaca: Row | None
    polymarket: Row | None


async def look(market: Market, instruments: Sequence[Instrument], t: datetime, *, is_now: bool = False) -> Look:
    """A look at the instruments, of which the first is traded, at `t`; with `is_now` its quote is the newest of all."""
    traded = instruments[0]
    quote = await (market.now(traded) if is_now else market.at(traded, t))
    rows: dict[bool, Row] = {}
    for instrument in instruments:
        is_read = instrument is traded and quote is not None and quote.row is not None
        row = quote.row if is_read and quote is not None else await market.snapshot(instrument, t)
        rows.setdefault(instrument.kind is InstrumentKind.OUTCOME, {})[instrument.symbol] = row
    alpaca, polymarket = ({"at": t, "seen": rows[feed]} if feed in rows else None for feed in (False, True))
    return Look(t, quote, alpaca, polymarket)
