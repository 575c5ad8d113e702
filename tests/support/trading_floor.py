"""A market whose prices a test sets, and the service that trades on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import CashMovementType
from medalion.core.money import exact
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote
from medalion.services.trading import TradingService
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from oltp.entities.trading import Account
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import parse_url

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@dataclass
class Board:
    """The market as the test set it last; its clock goes on by a second whenever it is looked at."""

    quotes: dict[str, Quote] = field(default_factory=dict)
    moment: datetime = NOON

    def show(self, symbol: str, bid: str | None, ask: str | None = None, *, size: str | None = None) -> None:
        """One price is both sides, and one size; None is a side that nobody offers, or a size that nobody knows."""
        first, second, shown = (None if given is None else Decimal(given) for given in (bid, ask, size))
        ask_price = first if ask is None and bid is not None else second
        self.quotes[symbol] = Quote(first, ask_price, self.moment, "board", shown, shown)

    def clock(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    async def now(self, instrument: Instrument) -> Quote | None:
        return self.quotes.get(instrument.symbol)

    async def at(self, instrument: Instrument, t: datetime) -> Quote | None:
        return self.quotes.get(instrument.symbol)

    async def snapshot(self, instrument: Instrument, t: datetime) -> dict[str, Any] | None:
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
        return self.service._desk.units()


@asynccontextmanager
async def floor(
    url: str,
    *,
    commission: CommissionSchedule | None = None,
    slippage_bps: Decimal = Decimal(0),
    respect_size: bool = False,
) -> AsyncIterator[Floor]:
    engine = create_async_engine(parse_url(url))
    made, board = sessions(engine), Board()
    venue = PaperVenue(
        made,
        board,
        commission=commission or CommissionSchedule(),
        slippage_bps=slippage_bps,
        respect_size=respect_size,
    )
    service = TradingService(lambda: UnitOfWork(made), venue, board, board.clock)
    async with UnitOfWork(made) as unit:
        account = await unit.accounts.create(name=f"paper {uuid4()}")
        if not await unit.assets.any(symbol="AAPL"):
            await unit.assets.create(symbol="AAPL", name="Apple")
    await service.deposit(account, Decimal(100_000))
    yield Floor(service, venue, board, account)
    await engine.dispose()


async def identities(desk: Floor) -> None:
    """Cash, positions, fills and trades of the account say the same, to the last digit."""
    summary = await desk.service.get_portfolio_summary(desk.account)
    async with desk.unit() as unit:
        positions = await unit.positions.find(account_id=desk.account.id)
        fills = await unit.fills.find(account_id=desk.account.id)
        trades = await unit.trades.find(account_id=desk.account.id)
        movements = await unit.cash_movements.by_account(desk.account)
    with exact():
        held = sum(position.signed_quantity for position in positions)
        assert held == sum(fill.quantity * fill.side.sign for fill in fills)
        paid = -sum(m.amount for m in movements if m.movement_type is CashMovementType.TRADE)
        assert paid == sum(position.cost_basis - position.realized_pnl for position in positions)
        assert paid == sum(trade.filled_value * trade.side.sign for trade in trades)
        commissions = -sum(m.amount for m in movements if m.movement_type is CashMovementType.COMMISSION)
        for counted in (
            summary.total_commissions,
            sum(fill.commission for fill in fills),
            sum(trade.commission for trade in trades),
            sum(position.commissions for position in positions),
        ):
            assert counted == commissions
        assert summary.market_value is not None
        assert summary.net_pnl is not None
        assert summary.equity == summary.cash + summary.market_value == summary.deposits + summary.net_pnl
