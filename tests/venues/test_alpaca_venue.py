"""What the broker as a venue promises: an order once whatever is lost, the broker's own numbers, nothing guessed."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from anyio import to_thread

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, InputError, VenueError
from medalion.market.instrument import Instrument
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
SUBMITTED, PARTIALLY_FILLED, REJECTED = TradeStatus.SUBMITTED, TradeStatus.PARTIALLY_FILLED, TradeStatus.REJECTED
BY_CLIENT_ID = "/v2/orders:by_client_order_id"
OF_ANOTHER = "of-another-account"


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


def order(name: str = "mine", quantity: str = "10", limit: str = "150.5", account: UUID = ACCOUNT) -> Order:
    amount = Decimal(quantity)
    return Order(account, name, AAPL, TradeSide.BUY, amount, TradeType.LIMIT, NOON, limit_price=Decimal(limit))


async def test_an_order_arrives_with_its_own_digits_and_under_its_own_id(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    asked = order(quantity="1234567.12345678", limit="0.00000001")
    report = await venue.submit(asked)
    (posted,) = server.requests("POST")
    assert posted.body == {
        "client_order_id": "mine",
        "symbol": "AAPL",
        "side": "buy",
        "type": "limit",
        "time_in_force": "day",
        "qty": "1234567.12345678",
        "limit_price": "0.00000001",
    }
    assert (report.status, report.fills, report.reason) == (SUBMITTED, (), None)
    assert report.venue_order_id == server.order("mine")["id"]


async def test_a_reply_with_bare_numbers_is_read_to_the_last_digit(venue: AlpacaVenue, server: AlpacaServer) -> None:
    await venue.submit(order(quantity="9999999999.99999999"))
    text = as_json(server.order("mine")).body.replace(b'"9999999999.99999999"', b"9999999999.99999999")
    server.fault("GET", BY_CLIENT_ID, Answer(200, text))
    assert (await venue.submit(order(quantity="9999999999.99999999"))).status is SUBMITTED


async def test_the_same_order_again_is_the_order_as_it_stands(venue: AlpacaVenue, server: AlpacaServer) -> None:
    await venue.submit(order())
    server.fill("mine", "4", "150.25")
    again = await venue.submit(order())
    assert (again.status, [fill.quantity for fill in again.fills]) == (PARTIALLY_FILLED, [Decimal(4)])
    with pytest.raises(ConflictError, match=r"another order at Alpaca: limit buy 10 AAPL"):
        await venue.submit(order(quantity="11"))
    assert len(server.orders) == 1


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, 40310000, "insufficient buying power"),
        (422, 42210000, "fractional orders must be DAY orders"),
        (422, None, "asset NOPE is not tradable"),
    ],
)
async def test_a_refusal_is_a_rejection_with_the_brokers_reason(
    venue: AlpacaVenue, server: AlpacaServer, status: int, code: int | None, reason: str
) -> None:
    server.fault("POST", "/v2/orders", error(status, code, reason))
    report = await venue.submit(order())
    assert (report.status, report.reason, report.venue_order_id) == (REJECTED, reason, None)


async def test_what_the_broker_does_not_trade_is_rejected_without_asking(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    outcome = Instrument(InstrumentKind.OUTCOME, 9, "7" * 77)
    report = await venue.submit(replace(order(), instrument=outcome))
    assert report.status is REJECTED
    assert "Alpaca trades stock, option, crypto" in (report.reason or "")
    assert (await venue.submit(replace(order(), limit_price=None))).status is REJECTED
    assert server.asked == []


@pytest.mark.parametrize("answer", [None, WEB_PAGE, Answer(200, b'{"id": "5c2e8'), as_json({}), Answer(200)])
async def test_an_order_whose_reply_is_lost_is_found_and_not_sent_again(
    venue: AlpacaVenue, server: AlpacaServer, answer: Answer | None
) -> None:
    server.fault("POST", "/v2/orders", answer, carried_out=True)
    report = await venue.submit(order())
    assert (report.status, report.venue_order_id) == (SUBMITTED, server.order("mine")["id"])
    assert (len(server.requests("POST")), len(server.orders)) == (1, 1)


@pytest.mark.parametrize("answer", [None, WEB_PAGE])
async def test_an_order_that_did_not_arrive_is_sent_again_under_its_id(
    venue: AlpacaVenue, server: AlpacaServer, answer: Answer | None
) -> None:
    server.fault("POST", "/v2/orders", answer)
    assert (await venue.submit(order())).status is SUBMITTED
    assert [asked.body["client_order_id"] for asked in server.requests("POST")] == ["mine", "mine"]
    assert len(server.orders) == 1


async def test_a_refusal_after_a_lost_reply_does_not_hide_the_order_that_arrived(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    server.fault("POST", "/v2/orders", None, carried_out=True)
    server.fault("GET", BY_CLIENT_ID, error(404, 40410000, "order not found"))
    server.fault("POST", "/v2/orders", error(403, 40310000, "insufficient buying power"))
    assert (await venue.submit(order())).status is SUBMITTED


async def test_an_order_that_is_said_to_be_there_and_is_not_found_is_never_rejected(
    venue: AlpacaVenue, server: AlpacaServer
) -> None:
    await venue.submit(order())
    server.fault("GET", BY_CLIENT_ID, error(404, 40410000, "order not found"), times=9)
    with pytest.raises(VenueError, match=r"'mine' arrived at Alpaca is not known; reconcile"):
        await venue.submit(order())


async def test_a_broker_that_stays_silent_leaves_the_outcome_open(server: AlpacaServer) -> None:
    venue = connected(server, timeout=0.1)
    posted = server.fault("POST", "/v2/orders", None, carried_out=True, until=server.released)
    server.fault("GET", BY_CLIENT_ID, None, times=9, until=server.released)
    with pytest.raises(VenueError, match=r"'mine' arrived at Alpaca is not known") as failed:
        await venue.submit(order())
    assert "Timeout" in str(failed.value.__cause__)
    assert await to_thread.run_sync(posted.arrived.wait, 60)
    assert len(server.orders) == 1
    venue.close()


async def test_the_loop_goes_on_while_the_broker_is_waited_for(venue: AlpacaVenue, server: AlpacaServer) -> None:
    fault = server.fault("POST", "/v2/orders", WEB_PAGE, carried_out=True, until=server.released)
    asked = asyncio.create_task(venue.submit(order()))
    assert await to_thread.run_sync(fault.arrived.wait, 60)
    assert not asked.done()
    server.released.set()
    assert (await asked).status is SUBMITTED


@pytest.mark.parametrize("told", [{"Retry-After": "0"}, {"X-RateLimit-Reset": "0"}, {"Retry-After": "soon"}, {}])
async def test_a_limit_is_waited_out_as_the_broker_tells(
    venue: AlpacaVenue, server: AlpacaServer, told: dict[str, str]
) -> None:
    server.fault("POST", "/v2/orders", Answer(429, b'{"message": "too many requests."}', told), times=2)
    assert (await venue.submit(order())).status is SUBMITTED
    assert (len(server.requests("POST")), server.requests("GET", BY_CLIENT_ID)) == (3, [])


@pytest.mark.parametrize(("wait", "asked"), [("3600", 1), ("0", 4)])
async def test_a_limit_that_does_not_pass_is_an_error_and_no_rejection(
    venue: AlpacaVenue, server: AlpacaServer, wait: str, asked: int
) -> None:
    server.fault("POST", "/v2/orders", Answer(429, b"{}", {"Retry-After": wait}), times=9)
    with pytest.raises(VenueError, match=rf"limits how often it is asked.* try again in {wait} s"):
        await venue.submit(order())
    assert len(server.requests("POST")) == asked


async def test_wrong_credentials_are_an_error_and_no_rejection(server: AlpacaServer) -> None:
    venue = connected(server, secret_key=OF_ANOTHER)
    with pytest.raises(VenueError, match=r"403 forbidden.*APCA_API_SECRET_KEY") as failed:
        await venue.submit(order())
    assert OF_ANOTHER not in f"{failed.value} {venue!r} {vars(venue)}"
    with pytest.raises(VenueError, match="does not accept the credentials"):
        await venue.find_order(ACCOUNT, "mine")
    venue.close()


def test_credentials_come_from_the_environment_and_are_named_if_they_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.setenv("APCA_API_SECRET_KEY", "of-mine")
    with pytest.raises(InputError, match="APCA_API_KEY_ID is missing; set it in the environment"):
        AlpacaVenue()
    monkeypatch.setenv("APCA_API_KEY_ID", "PK1")
    AlpacaVenue().close()
    monkeypatch.setenv("APCA_API_SECRET_KEY", "of-mine\n")
    with pytest.raises(InputError, match="APCA_API_SECRET_KEY holds characters") as refused:
        AlpacaVenue()
    assert "of-mine" not in str(refused.value)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"url": "paper-api"}]
)
def test_odd_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AlpacaVenue(**{"key_id": "PK1", "secret_key": "s", **options})


def test_without_the_sdk_it_is_said_what_to_install() -> None:
    hidden = "import sys; sys.modules['alpaca'] = None; import medalion.venues.alpaca"
    done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, check=False)
    assert "MedalionError: orders at Alpaca need alpaca" in done.stderr
    assert done.stderr.rstrip().endswith("run: pip install 'medalion[alpaca]'")


async def test_one_venue_keeps_to_one_account(server: AlpacaServer) -> None:
    venue, other = connected(server), uuid4()
    await venue.submit(order())
    server.fill("mine", "10", "150")
    with pytest.raises(InputError, match=f"orders of account {ACCOUNT}, not of {other}"):
        await venue.submit(order("theirs", account=other))
    assert await venue.find_order(other, "mine") is None
    assert await venue.executions(other, NOON) == []
    with pytest.raises(InputError, match="one AlpacaVenue for each account"):
        await venue.cancel(other, "mine", NOON)
    assert len(server.orders) == 1
    venue.close()
