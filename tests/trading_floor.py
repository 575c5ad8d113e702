"""A market whose prices a test sets, and the service that trades on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine

from medalion.market import Instrument, Quote
from medalion.trading import TradingService
from medalion.venues.paper import CommissionSchedule, PaperVenue
from oltp.engine import parse_url
from oltp.trading import Account
from oltp.unit_of_work import UnitOfWork, sessions

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@dataclass
class Board:
    """The market as the test set it last; its clock goes on by a second whenever it is looked at."""

    quotes: dict[str, Quote] = field(default_factory=dict)
    moment: datetime = NOON

    def show(self, symbol: str, bid: str | None, ask: str | None = None) -> None:
        """One price is both sides; None is a side that nobody offers."""
        first, second = (None if price is None else Decimal(price) for price in (bid, ask))
        self.quotes[symbol] = Quote(first, first if ask is None and bid is not None else second, self.moment, "board")

    def clock(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    async def quote(self, instrument: Instrument, at: datetime) -> Quote | None:
        return self.quotes.get(instrument.symbol)

    async def snapshot(self, instrument: Instrument, at: datetime) -> dict[str, Any] | None:
        quote = self.quotes.get(instrument.symbol)
        return None if quote is None else {"bid_price": quote.bid, "ask_price": quote.ask, "ts": quote.ts}


@dataclass
class Floor:
    """A service with a paper venue over one database, and an account with money."""

    service: TradingService
    venue: PaperVenue
    board: Board
    account: Account

    def unit(self) -> UnitOfWork:
        return self.service._units()


@asynccontextmanager
async def floor(
    url: str, *, commission: CommissionSchedule | None = None, slippage_bps: Decimal = Decimal(0)
) -> AsyncIterator[Floor]:
    engine = create_async_engine(parse_url(url))
    made, board = sessions(engine), Board()
    venue = PaperVenue(made, board, commission=commission or CommissionSchedule(), slippage_bps=slippage_bps)
    service = TradingService(lambda: UnitOfWork(made), venue, board, board.clock)
    async with UnitOfWork(made) as unit:
        account = await unit.accounts.create(name="paper")
        await unit.assets.create(symbol="AAPL", name="Apple")
    await service.deposit(account, Decimal(100_000))
    yield Floor(service, venue, board, account)
    await engine.dispose()
