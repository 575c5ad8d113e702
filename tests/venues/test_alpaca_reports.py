"""What the broker tells of orders that stand there: every execution, every change once, and what came of a cancel."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from medalion.core.errors import NotFoundError, VenueError
from medalion.market.instrument import Instrument
from medalion.venues.alpaca import venue as alpaca
from medalion.venues.alpaca.venue import AlpacaVenue
from medalion.venues.base import Order
from tests.support.alpaca_server import (
    WEB_PAGE,
    AlpacaServer,
    Answer,
    alpaca_server,
    as_json,
    connected,
    error,
    without_pauses,
)
from tests.support.trading_floor import NOON

pytestmark = pytest.mark.anyio
AAPL = Instrument(InstrumentKind.STOCK, 1, "AAPL")
ACCOUNT = uuid4()
SUBMITTED, PARTIALLY_FILLED, FILLED = TradeStatus.SUBMITTED, TradeStatus.PARTIALLY_FILLED, TradeStatus.FILLED
CANCELLED, EXPIRED = TradeStatus.CANCELLED, TradeStatus.EXPIRED
BY_CLIENT_ID = "/v2/orders:by_client_order_id"
FILLS = "/v2/account/activities/FILL"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pauses(monkeypatch)


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    with alpaca_server() as running:
        yield running


@pytest.fixture
def venue(server: AlpacaServer) -> Iterator[AlpacaVenue]:
    opened = connected(server, account_id=ACCOUNT)
    yield opened
    opened.close()


def order(name: str = "mine", quantity: str = "10") -> Order:
    amount, limit = Decimal(quantity), Decimal("150.5")
    return Order(ACCOUNT, name, AAPL, TradeSide.BUY, amount, TradeType.LIMIT, NOON, limit_price=limit)


async def test_an_order_is_told_with_each_of_its_executions(venue: AlpacaVenue, server: AlpacaServer) -> None:
    await venue.submit(order())
    await venue.submit(order("other"))
    first = server.fill("mine", "4", "150.25")
    server.fill("other", "10", "150.5")
    second = server.fill("mine", "6", "150.12345678")
    report = await venue.find_order(ACCOUNT, "mine")
    assert report is not None
    assert report.status is FILLED
    assert [(fill.execution_id, fill.quantity, fill.price, fill.commission) for fill in report.fills] == [
        (first["id"], Decimal(4), Decimal("150.25"), Decimal(0)),
        (second["id"], Decimal(6), Decimal("150.12345678"), Decimal(0)),
    ]
    assert [fill.executed_at.isoformat() for fill in report.fills] == [
        f"{done['transaction_time'][:26]}+00:00" for done in (first, second)
    ]
    assert await venue.find_order(ACCOUNT, "never seen") is None


async def test_more_executions_than_a_page_holds_are_all_told(
    venue: AlpacaVenue, server: AlpacaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alpaca, "_ACTIVITIES_PER_PAGE", 2)
    monkeypatch.setattr(alpaca, "_ORDERS_PER_PAGE", 2)
    for name in "abc":
        await venue.submit(order(name, quantity="2"))
    ids = [server.fill(name, "1", "150")["id"] for name in "aabbcc"]
    found = await venue.executions(ACCOUNT, NOON)
    assert [(fill.execution_id, fill.client_order_id) for fill in found] == list(zip(ids, "aabbcc", strict=True))
    assert [asked.params.get("page_token") for asked in server.requests("GET", FILLS)] == [None, *ids[1::2]]
    server.fault("GET", FILLS, as_json(server.activities[:2]), times=3)
    with pytest.raises(VenueError, match=r"shows the page after .* again"):
        await venue.executions(ACCOUNT, NOON)


async def test_executions_are_told_from_a_moment_on_and_orders_of_others_under_their_own_ids(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    for name in ("mine", "by hand"):
        await venue.submit(order(name))
    server.fill("mine", "1", "150")
    since = datetime.fromisoformat(server.fill("mine", "2", "150")["transaction_time"]).astimezone(UTC)
    server.fill("by hand", "3", "150")
    # A trailing Z and another offset are the same moment.
    found = await venue.executions(ACCOUNT, since)
    assert [(fill.client_order_id, fill.quantity) for fill in found] == [("mine", Decimal(2)), ("by hand", Decimal(3))]
    assert await venue.executions(ACCOUNT, since + timedelta(hours=1)) == []


async def test_a_cancelled_order_is_over_when_the_broker_is_done_with_it(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    await venue.submit(order())
    server.fill("mine", "4", "150.25")
    server.looks_to_cancel = 1
    report = await venue.cancel(ACCOUNT, "mine", NOON)
    assert (report.status, [fill.quantity for fill in report.fills]) == (CANCELLED, [Decimal(4)])
    assert (await venue.cancel(ACCOUNT, "mine", NOON)) == report
    with pytest.raises(NotFoundError, match="never seen"):
        await venue.cancel(ACCOUNT, "never seen", NOON)


async def test_a_cancellation_that_comes_too_late_or_takes_long_tells_the_order_as_it_stands(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    server.looks_to_cancel = None
    await venue.submit(order())
    assert (await venue.cancel(ACCOUNT, "mine", NOON)).status is SUBMITTED
    await venue.submit(order("late"))
    shown = as_json(server.order("late"))
    server.fill("late", "10", "150")
    server.fault("GET", BY_CLIENT_ID, shown)
    assert (await venue.cancel(ACCOUNT, "late", NOON)).status is FILLED


async def test_an_order_that_was_replaced_by_hand_goes_on_under_our_id(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    await venue.submit(order())
    server.fill("mine", "4", "150")
    new = server.replace("mine", qty="6", limit_price="151")
    server.fill(new["client_order_id"], "5", "151")
    report = await venue.find_order(ACCOUNT, "mine")
    assert report is not None
    assert (report.status, [fill.quantity for fill in report.fills]) == (PARTIALLY_FILLED, [Decimal(4), Decimal(5)])
    assert await venue.executions(ACCOUNT, NOON) == list(report.fills)
    assert (await venue.cancel(ACCOUNT, "mine", NOON)).status is CANCELLED
    assert server.orders[-1]["status"] == "canceled"


async def test_advancing_tells_each_change_once_and_asks_little_without_one(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    assert await venue.advance(NOON) == []
    assert server.asked == []
    for name in ("filling", "resting", "ending"):
        await venue.submit(order(name))
    server.asked.clear()
    assert await venue.advance(NOON) == []
    assert len(server.asked) == 1
    server.fill("filling", "4", "150")
    server.end("ending", "expired")
    changed = {report.client_order_id: report for report in await venue.advance(NOON)}
    assert {name: report.status for name, report in changed.items()} == {
        "filling": PARTIALLY_FILLED,
        "ending": EXPIRED,
    }
    assert await venue.advance(NOON) == []
    server.fill("filling", "6", "150")
    (done,) = await venue.advance(NOON)
    assert (done.status, len(done.fills)) == (FILLED, 2)
    server.asked.clear()
    assert await venue.advance(NOON) == []
    assert len(server.asked) == 1


async def test_advancing_waits_for_executions_that_lag_behind_their_order(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    await venue.submit(order())
    late = server.fill("mine", "10", "150", shown=False)
    (filled,) = await venue.advance(NOON)
    assert (filled.status, filled.fills) == (FILLED, ())
    assert await venue.advance(NOON) == []
    server.activities.append(late)
    (told,) = await venue.advance(NOON)
    assert [fill.execution_id for fill in told.fills] == [late["id"]]
    server.asked.clear()
    assert await venue.advance(NOON) == []
    assert server.asked == []


async def test_a_broken_look_is_repeated_and_an_outage_is_an_error(venue: AlpacaVenue, server: AlpacaServer) -> None:
    await venue.submit(order())
    server.fault("GET", BY_CLIENT_ID, WEB_PAGE, times=2)
    assert await venue.find_order(ACCOUNT, "mine") is not None
    server.fault("GET", BY_CLIENT_ID, Answer(404, b'{"message": "endpoint not found."}'), times=9)
    with pytest.raises(VenueError, match=r"nothing expected \(404"):
        await venue.find_order(ACCOUNT, "mine")
    server.fault("GET", FILLS, as_json({"activities": []}))
    with pytest.raises(VenueError, match="expected a list of objects"):
        await venue.executions(ACCOUNT, NOON)
    server.fault("GET", "/v2/orders", error(422, 42210000, "invalid limit"))
    with pytest.raises(VenueError, match="refuses to show /orders: invalid limit"):
        await venue.advance(NOON)


async def test_a_part_that_lags_behind_its_working_order_is_told_when_it_is_known(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    await venue.submit(order())
    late = server.fill("mine", "4", "150", shown=False)
    (part,) = await venue.advance(NOON)
    assert (part.status, part.fills) == (PARTIALLY_FILLED, ())
    server.activities.append(late)
    (told,) = await venue.advance(NOON)
    assert [fill.execution_id for fill in told.fills] == [late["id"]]
    assert await venue.advance(NOON) == []


async def test_executions_of_other_orders_are_not_taken_for_this_ones(venue: AlpacaVenue, server: AlpacaServer) -> None:
    server.filters_by_order = False
    for name in ("mine", "other"):
        await venue.submit(order(name))
        server.fill(name, "4", "150")
    report = await venue.find_order(ACCOUNT, "mine")
    assert report is not None
    assert len(report.fills) == 1
