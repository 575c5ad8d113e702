"""What trading at the broker promises: every order once, and books that say what the broker says, whatever is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import pytest
from anyio import to_thread
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import AccountType, PositionSide, TradeStatus
from medalion.core.errors import VenueError
from medalion.services.trading import TradingService
from medalion.venues.alpaca.venue import AlpacaVenue
from oltp.entities.trading import Account
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import parse_url
from tests.support.alpaca_server import AlpacaServer, alpaca_server, connected, error, without_pauses
from tests.support.trading_floor import NOON, Board

pytestmark = pytest.mark.anyio
BY_CLIENT_ID = "/v2/orders:by_client_order_id"
LIMIT = Decimal("150.5")


@dataclass
class Desk:
    """A service whose live orders go to the broker, and an account with money."""

    service: TradingService
    venue: AlpacaVenue
    broker: AlpacaServer
    account: Account

    async def order(self, name: str, *, side: str = "buy", quantity: int = 10) -> TradeStatus:
        trade = await self.service.execute_limit_order(
            account=self.account, symbol="AAPL", side=side, quantity=quantity, limit_price=LIMIT, client_order_id=name
        )
        return trade.status

    async def booked(self, name: str) -> tuple[TradeStatus, Decimal, str | None]:
        """Status, filled quantity and reason of the trade."""
        async with self.service._desk.units() as unit:
            trade = await unit.trades.first(account_id=self.account.id, client_order_id=name)
            assert trade is not None
            return trade.status, trade.filled_quantity, trade.status_reason

    async def held(self) -> tuple[Decimal, Decimal]:
        """Units of the open position, and cash."""
        positions = await self.service.get_open_positions(account=self.account)
        summary = await self.service.get_portfolio_summary(self.account)
        assert all(position.side is PositionSide.LONG for position in positions)
        return sum((position.remaining_quantity for position in positions), Decimal(0)), summary.cash


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


@pytest.fixture
async def desk(url: str, at_once: None) -> AsyncIterator[Desk]:
    async with desk_at(url) as opened:
        yield opened


@asynccontextmanager
async def desk_at(url: str, *, patience: float = 60) -> AsyncIterator[Desk]:
    engine, board = create_async_engine(parse_url(url)), Board()
    board.show("AAPL", "150", "151")
    made = sessions(engine)
    with alpaca_server() as broker:
        venue = connected(broker, timeout=patience)
        service = TradingService(lambda: UnitOfWork(made), {AccountType.LIVE: venue}, board, board.clock)
        async with UnitOfWork(made) as unit:
            account = await unit.accounts.create(name=f"live {uuid4()}", account_type=AccountType.LIVE)
            if not await unit.assets.any(symbol="AAPL"):
                await unit.assets.create(symbol="AAPL", name="Apple")
        await service.deposit(account, Decimal(10_000))
        yield Desk(service, venue, broker, account)
        venue.close()
    await engine.dispose()


async def test_an_order_rests_fills_in_parts_and_is_sold_again(desk: Desk) -> None:
    assert await desk.order("bought") is TradeStatus.SUBMITTED
    assert await desk.held() == (Decimal(0), Decimal(10_000))
    desk.broker.fill("bought", "4", "150.25")
    (part,) = await desk.service.advance()
    assert (part.status, part.filled_quantity, part.external_trade_id) == (
        TradeStatus.PARTIALLY_FILLED,
        Decimal(4),
        desk.broker.order("bought")["id"],
    )
    assert await desk.held() == (Decimal(4), Decimal(9_399))
    desk.broker.fill("bought", "6", "150.5")
    (done,) = await desk.service.advance()
    assert (done.status, done.average_price) == (TradeStatus.FILLED, Decimal("150.4"))
    assert await desk.held() == (Decimal(10), Decimal(8_496))
    assert await desk.service.advance() == []
    await desk.order("sold", side="sell")
    desk.broker.fill("sold", "10", "151")
    await desk.service.advance()
    assert await desk.held() == (Decimal(0), Decimal(10_006))


async def test_a_lost_reply_makes_no_second_order(desk: Desk) -> None:
    desk.broker.fault("POST", "/v2/orders", None, carried_out=True)
    assert await desk.order("lost") is TradeStatus.SUBMITTED
    desk.broker.fill("lost", "10", "150")
    found = await desk.service.reconcile(account=desk.account)
    assert (found.asked, found.filled, found.submitted, found.unknown) == (("lost",), ("lost",), (), ())
    assert await desk.held() == (Decimal(10), Decimal(8_500))
    assert len(desk.broker.orders) == 1


async def test_a_refused_order_is_rejected_with_the_brokers_reason(desk: Desk) -> None:
    desk.broker.fault("POST", "/v2/orders", error(403, 40310000, "insufficient buying power"))
    assert await desk.order("too much") is TradeStatus.REJECTED
    assert await desk.booked("too much") == (TradeStatus.REJECTED, Decimal(0), "insufficient buying power")
    assert await desk.held() == (Decimal(0), Decimal(10_000))


async def test_an_order_of_unknown_outcome_stays_pending_until_it_is_reconciled(url: str, at_once: None) -> None:
    async with desk_at(url, patience=0.1) as desk:
        posted = desk.broker.fault("POST", "/v2/orders", None, carried_out=True, until=desk.broker.released)
        asked = desk.broker.fault("GET", BY_CLIENT_ID, None, times=99, until=desk.broker.released)
        with pytest.raises(VenueError, match="'silent' arrived at Alpaca is not known"):
            await desk.order("silent")
        assert (await desk.booked("silent"))[0] is TradeStatus.PENDING
        assert await to_thread.run_sync(posted.arrived.wait, 60)
        asked.times = 0
        desk.broker.fill("silent", "10", "150")
        patient = connected(desk.broker)
        restarted = TradingService(desk.service._desk.units, {AccountType.LIVE: patient}, Board())
        found = await restarted.reconcile(account=desk.account)
        patient.close()
        assert (found.filled, found.submitted) == (("silent",), ())
        assert await desk.booked("silent") == (TradeStatus.FILLED, Decimal(10), None)
        assert len(desk.broker.orders) == 1


async def test_an_order_that_never_arrived_is_submitted_by_reconciling(desk: Desk) -> None:
    outage = [
        desk.broker.fault(method, path, None, times=99)
        for method, path in (("POST", "/v2/orders"), ("GET", BY_CLIENT_ID))
    ]
    with pytest.raises(VenueError):
        await desk.order("down")
    for fault in outage:
        fault.times = 0
    assert (await desk.service.reconcile(account=desk.account)).submitted == ("down",)
    assert (await desk.service.reconcile(account=desk.account)).submitted == ()
    assert [order["client_order_id"] for order in desk.broker.orders] == ["down"]


async def test_a_cancelled_order_keeps_what_was_filled_even_if_it_is_told_late(desk: Desk) -> None:
    await desk.order("half")
    late = desk.broker.fill("half", "4", "150", shown=False)
    async with desk.service._desk.units() as unit:
        trade = await unit.trades.first(account_id=desk.account.id, client_order_id="half")
    assert trade is not None
    assert (await desk.service.cancel_trade(trade.id)).status is TradeStatus.CANCELLED
    assert await desk.held() == (Decimal(0), Decimal(10_000))
    desk.broker.activities.append(late)
    await desk.service.advance()
    assert (await desk.booked("half"))[:2] == (TradeStatus.CANCELLED, Decimal(4))
    assert await desk.held() == (Decimal(4), Decimal(9_400))


async def test_executions_from_a_time_on_are_booked_and_orders_by_hand_are_named(desk: Desk) -> None:
    await desk.order("known")
    desk.broker.fill("known", "10", "150")
    desk.broker.orders.append({**desk.broker.order("known"), "id": "by-hand", "client_order_id": "theirs"})
    desk.broker.order("theirs").update(filled_qty="0", status="new")
    desk.broker.fill("theirs", "1", "150")
    found = await desk.service.reconcile(account=desk.account, since=NOON)
    assert (found.filled, found.unknown) == (("known",), ("theirs",))
    assert await desk.held() == (Decimal(10), Decimal(8_500))
