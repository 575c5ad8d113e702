"""What the translation to and from Alpaca's JSON promises: the same digits both ways, and no word that stops it."""

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from medalion.market.instrument import Instrument
from medalion.venues.alpaca import wire
from medalion.venues.alpaca.wire import BrokerExecution, BrokerOrder, UnclearError
from medalion.venues.base import Order
from tests.support.real_data import SHARED
from tests.support.trading_floor import NOON

ACCOUNT = UUID(int=7)
AAPL = Instrument(InstrumentKind.STOCK, 1, "AAPL")
CASH_AND_SIZES = st.decimals("0.00000001", "9999999999.99999999", places=8)
SUBMITTED, PARTIALLY_FILLED, FILLED = TradeStatus.SUBMITTED, TradeStatus.PARTIALLY_FILLED, TradeStatus.FILLED
CANCELLED, EXPIRED, REJECTED = TradeStatus.CANCELLED, TradeStatus.EXPIRED, TradeStatus.REJECTED


def payload(name: str) -> Any:
    """A reply as the vendor's own specification shows it."""
    path = SHARED / "payloads" / "alpaca" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the vendor's example {name} is not beside the checkout")
    return json.loads(path.read_text("utf-8"), parse_float=Decimal)


def body(**other: Any) -> dict[str, Any]:
    return {
        "id": "order-1",
        "client_order_id": "mine",
        "symbol": "AAPL",
        "side": "buy",
        "type": "limit",
        "status": "new",
        "qty": "10",
        "filled_qty": "0",
        "limit_price": "150.5",
        "submitted_at": "2024-03-01T14:30:00.123456789Z",
        "replaces": None,
        "replaced_by": None,
        **other,
    }


def executed(**other: Any) -> dict[str, Any]:
    return {
        "id": "20240301093000001::a",
        "order_id": "order-1",
        "side": "buy",
        "type": "fill",
        "qty": "4",
        "price": "150.25",
        "transaction_time": "2024-03-01T14:30:01Z",
        **other,
    }


def order(kind: TradeType = TradeType.LIMIT, instrument: Instrument = AAPL, **prices: str) -> Order:
    given: dict[str, Any] = {name: Decimal(price) for name, price in prices.items()}
    return Order(ACCOUNT, "mine", instrument, TradeSide.BUY, Decimal(10), kind, NOON, **given)


@given(CASH_AND_SIZES)
def test_a_number_goes_out_with_its_own_digits(number: Decimal) -> None:
    text = wire.digits(number)
    assert Decimal(text) == number
    assert not set(text) & {"e", "E", "+"}
    assert wire.digits(Decimal(text)) == text


@pytest.mark.parametrize(
    ("kind", "prices"),
    [
        (TradeType.MARKET, {}),
        (TradeType.LIMIT, {"limit_price": "150.5"}),
        (TradeType.STOP, {"stop_price": "140"}),
        (TradeType.STOP_LIMIT, {"stop_price": "140", "limit_price": "139.99"}),
        (TradeType.TRAILING_STOP, {"trail_price": "2.5"}),
        (TradeType.TRAILING_STOP, {"trail_percent": "5"}),
    ],
)
def test_every_type_of_order_is_asked_for_in_the_brokers_words(kind: TradeType, prices: dict[str, str]) -> None:
    assert wire.request(order(kind, AAPL, **prices)) == {
        "client_order_id": "mine",
        "symbol": "AAPL",
        "side": "buy",
        "type": kind.value,
        "time_in_force": "day",
        "qty": "10",
        **prices,
    }


def test_crypto_stands_until_cancelled_and_options_for_the_day() -> None:
    pair = Instrument(InstrumentKind.CRYPTO, 2, "BTC/USD")
    contract = Instrument(InstrumentKind.OPTION, 3, "AAPL250620C00100000", Decimal(100))
    asked = [wire.request(order(TradeType.MARKET, instrument)) for instrument in (pair, contract)]
    assert [(body["symbol"], body["time_in_force"]) for body in asked] == [
        ("BTC/USD", "gtc"),
        ("AAPL250620C00100000", "day"),
    ]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("new accepted pending_new accepted_for_bidding held calculated stopped suspended", SUBMITTED),
        ("pending_cancel pending_replace pending_review done_for_day replaced", SUBMITTED),
        ("a_word_of_next_year", SUBMITTED),
        ("filled", FILLED),
        ("canceled", CANCELLED),
        ("expired", EXPIRED),
        ("rejected", REJECTED),
    ],
)
def test_every_word_for_a_status_has_one_of_ours(words: str, status: TradeStatus) -> None:
    assert {BrokerOrder.of(body(status=word)).status for word in words.split()} == {status}


def test_a_working_order_that_is_filled_in_part_is_partially_filled_whatever_the_word() -> None:
    for word in ("partially_filled", "pending_cancel", "done_for_day"):
        assert BrokerOrder.of(body(status=word, filled_qty="3")).status is PARTIALLY_FILLED
    assert BrokerOrder.of(body(status="canceled", filled_qty="3")).status is CANCELLED


def test_numbers_and_times_are_read_to_the_last_digit() -> None:
    found = BrokerOrder.of(
        body(qty="1234567.12345678", limit_price=Decimal("0.00000001"), submitted_at="2024-03-01T09:30:00.5-05:00")
    )
    assert (found.quantity, found.limit_price) == (Decimal("1234567.12345678"), Decimal("0.00000001"))
    assert found.submitted_at == datetime(2024, 3, 1, 14, 30, 0, 500_000, UTC)


@pytest.mark.parametrize(
    "garbled",
    [
        None,
        [],
        "order",
        {},
        {"message": "an error with status 200"},
        body(id=None),
        body(qty="ten"),
        body(qty="NaN"),
        body(filled_qty=["0"]),
        body(submitted_at="2024-03-01T14:30:00"),
        body(submitted_at=None),
    ],
)
def test_what_is_no_order_proves_nothing(garbled: Any) -> None:
    with pytest.raises(UnclearError, match="expected an order"):
        BrokerOrder.of(garbled)


@pytest.mark.parametrize(
    "garbled",
    [executed(side="hold"), executed(qty=None), executed(price="free"), executed(transaction_time=0), executed(id="")],
)
def test_what_is_no_execution_is_never_booked(garbled: Any) -> None:
    with pytest.raises(UnclearError, match="expected an execution"):
        wire.executions_in([garbled])


def test_short_sales_are_sales_and_corrections_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    page = [executed(side="sell_short"), executed(type="trade_bust", id="bust-1")]
    with caplog.at_level(logging.WARNING):
        (found,) = wire.executions_in(page)
    assert (found.side, found.quantity, found.price) == (TradeSide.SELL, Decimal(4), Decimal("150.25"))
    assert [record.getMessage() for record in caplog.records] == [
        "Alpaca's activity bust-1 is a trade_bust, which is not booked"
    ]


def test_an_order_is_the_same_only_if_all_that_was_asked_is_there() -> None:
    asked, kept = order(limit_price="150.50"), BrokerOrder.of(body())
    assert wire.is_same(asked, kept)
    others = [
        replace(asked, quantity=Decimal(11)),
        replace(asked, side=TradeSide.SELL),
        replace(asked, limit_price=Decimal("150.51")),
        replace(asked, instrument=replace(AAPL, symbol="MSFT")),
        order(TradeType.STOP_LIMIT, limit_price="150.5", stop_price="1"),
    ]
    assert [other for other in others if wire.is_same(other, kept)] == []
    pair = replace(asked, instrument=Instrument(InstrumentKind.CRYPTO, 2, "BTCUSD"))
    assert wire.is_same(pair, BrokerOrder.of(body(symbol="BTC/USD")))
    trailing = order(TradeType.TRAILING_STOP, trail_percent="5")
    kept_trail = body(type="trailing_stop", limit_price=None, trail_percent="5.0", stop_price="95", hwm="100")
    assert wire.is_same(trailing, BrokerOrder.of(kept_trail))


def test_an_order_replaced_for_less_is_over_once_the_replacement_is_filled() -> None:
    first = BrokerOrder.of(body(status="replaced", filled_qty="2", replaced_by="order-2"))
    last = BrokerOrder.of(body(id="order-2", client_order_id="theirs", qty="3", filled_qty="3", status="filled"))
    executions = [
        BrokerExecution.of(executed(qty="2")),
        BrokerExecution.of(executed(qty="3", id="b", order_id="order-2")),
    ]
    report = wire.report(ACCOUNT, [first, last], executions)
    assert (report.status, report.client_order_id, report.venue_order_id) == (CANCELLED, "mine", "order-1")
    assert "order-2 for less" in (report.reason or "")
    assert {fill.client_order_id for fill in report.fills} == {"mine"}
    rejected = wire.report(ACCOUNT, [first, replace(last, word="rejected", filled=Decimal(0))], executions[:1])
    assert rejected.status is CANCELLED
    working = wire.report(ACCOUNT, [first, replace(last, word="new", filled=Decimal(0))], executions[:1])
    assert working.status is PARTIALLY_FILLED


@pytest.mark.parametrize("name", ["equity", "crypto", "option", "mleg", "bracket", "ipo"])
def test_the_vendors_example_orders_are_read(name: str) -> None:
    given = payload(f"trading_order_{name}")
    found = BrokerOrder.of(given)
    assert (found.id, found.client_order_id, found.symbol) == (given["id"], given["client_order_id"], given["symbol"])
    assert found.quantity == (None if given["qty"] is None else Decimal(given["qty"]))
    assert found.submitted_at.isoformat()[:19] == given["submitted_at"][:19]


def test_the_vendors_example_execution_is_read() -> None:
    (found,) = wire.executions_in(payload("trading_activity_fill"))
    assert found.report(ACCOUNT, "mine") == replace(
        found.report(ACCOUNT, "mine"),
        venue="alpaca",
        side=TradeSide.BUY,
        quantity=Decimal(2),
        price=Decimal("174.78"),
        commission=Decimal(0),
        executed_at=datetime(2022, 2, 2, 18, 55, 9, 981482, UTC),
    )


def test_the_vendors_example_of_a_streamed_order_is_read() -> None:
    found = BrokerOrder.of(payload("ws_trading_trade_updates_fill")["data"]["order"])
    assert (found.filled, found.submitted_at) == (
        Decimal("1790.86"),
        datetime(2022, 4, 19, 17, 45, 4, 980944, UTC),
    )
