"""What a quote does to an order: stops trigger when they are reached, limits hold, and no more fills than there is."""

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.enums import InstrumentKind, TradeSide, TradeType
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote
from medalion.venues.base import Order
from medalion.venues.paper.matching import Match, RestingOrder, Rules, match
from tests.support.trading_floor import NOON

AAPL = Instrument(InstrumentKind.STOCK, 1, "AAPL")
BUY, SELL = TradeSide.BUY, TradeSide.SELL
SECOND = timedelta(seconds=1)


def order(kind: TradeType, side: TradeSide = SELL, **prices: str) -> Order:
    exact: dict[str, Any] = {name: Decimal(price) for name, price in prices.items()}
    return Order(UUID(int=1), "mine", AAPL, side, Decimal(10), kind, NOON, **exact)


def quote(bid: str | None, ask: str | None = None, *, ts: int = 0, size: str | None = None) -> Quote:
    """One price is both sides; `ts` is in seconds after noon."""
    prices = [None if price is None else Decimal(price) for price in (bid, bid if ask is None else ask)]
    shown = None if size is None else Decimal(size)
    return Quote(prices[0], prices[1], NOON + ts * SECOND, "", shown, shown)


def through(resting: RestingOrder, quotes: list[Quote], rules: Rules | None = None) -> list[Match]:
    """What each quote does to the order as the one before left it."""
    found = []
    for shown in quotes:
        found.append(match(resting, shown, shown.ts, rules or Rules()))
        resting = found[-1].resting
    return found


@pytest.mark.parametrize(
    ("side", "early", "reached"),
    [(BUY, quote("104.99"), quote("90", "105")), (SELL, quote("105.01"), quote("105", "120"))],
)
def test_a_stop_triggers_at_its_price_and_fills_as_a_market_order(
    side: TradeSide, early: Quote, reached: Quote
) -> None:
    waiting, filled = through(RestingOrder(order(TradeType.STOP, side, stop_price="105")), [early, reached])
    assert (waiting.resting.is_triggered, waiting.quantity) == (False, Decimal(0))
    assert (filled.resting.is_triggered, filled.quantity, filled.price) == (True, Decimal(10), Decimal(105))


def test_a_stop_that_is_jumped_over_fills_at_what_the_quote_says() -> None:
    (filled,) = through(
        RestingOrder(order(TradeType.STOP, stop_price="105")), [quote("80", "81")], Rules(slippage_bps=Decimal(100))
    )
    assert (filled.quantity, filled.price) == (Decimal(10), Decimal("79.2"))


def test_a_stop_limit_order_triggers_once_and_then_rests_at_its_limit() -> None:
    resting = RestingOrder(order(TradeType.STOP_LIMIT, stop_price="105", limit_price="104"))
    jumped, back, filled = through(resting, [quote("100"), quote("103.99"), quote("107")])
    assert [step.quantity for step in (jumped, back)] == [0, 0]
    assert jumped.resting.is_triggered
    assert (filled.quantity, filled.price) == (Decimal(10), Decimal(107))


@pytest.mark.parametrize(
    ("side", "trail", "seen", "stop"),
    [
        (SELL, {"trail_price": "5"}, ["100", "110", "106"], "105"),
        (SELL, {"trail_percent": "10"}, ["100", "110", "99.01"], "99"),
        (BUY, {"trail_price": "5"}, ["100", "90", "94"], "95"),
        (BUY, {"trail_percent": "10"}, ["100", "90", "98"], "99"),
    ],
)
def test_a_trailing_stop_follows_the_best_price_and_never_goes_back(
    side: TradeSide, trail: dict[str, str], seen: list[str], stop: str
) -> None:
    resting = RestingOrder(order(TradeType.TRAILING_STOP, side, **trail))
    assert resting.stop is None
    *waiting, filled = through(resting, [quote(price) for price in (*seen, stop)])
    assert [step.quantity for step in waiting] == [0, 0, 0]
    assert waiting[-1].resting.stop == Decimal(stop)
    assert (filled.quantity, filled.price) == (Decimal(10), Decimal(stop))


def test_a_trail_of_a_worthless_price_has_not_fallen() -> None:
    (step,) = through(RestingOrder(order(TradeType.TRAILING_STOP, trail_percent="10")), [quote("0")] * 1)
    assert not step.resting.is_triggered
    assert not match(step.resting, quote("0"), NOON, Rules()).resting.is_triggered


def test_with_sizes_respected_a_quote_fills_what_is_left_of_it() -> None:
    resting, rules = RestingOrder(order(TradeType.MARKET)), Rules(respect_size=True)
    first, second = through(resting, [quote("10", size="4"), quote("9", size="7")], rules)
    assert [(step.quantity, step.price) for step in (first, second)] == [
        (Decimal(4), Decimal(10)),
        (Decimal(6), Decimal(9)),
    ]
    assert match(resting, quote("10", size="4"), NOON, rules, taken=Decimal(3)).quantity == 1
    assert match(resting, quote("10", size="4"), NOON, rules, taken=Decimal(5)).quantity == 0
    assert match(resting, quote("10"), NOON, rules).quantity == 10
    assert match(resting, quote("10", size="4"), NOON, Rules()).quantity == 10


def test_an_old_quote_fills_and_triggers_nothing() -> None:
    rules, late = Rules(max_quote_age=60 * SECOND), NOON + 61 * SECOND
    refused = match(RestingOrder(order(TradeType.MARKET)), quote("10"), late, rules)
    assert refused.refusal is not None
    assert "0:01:01 before the order is worked; at most 0:01:00" in refused.refusal
    for resting in (
        RestingOrder(order(TradeType.MARKET), filled=Decimal(1)),
        RestingOrder(order(TradeType.LIMIT, limit_price="9")),
        RestingOrder(order(TradeType.STOP, stop_price="11")),
        RestingOrder(order(TradeType.TRAILING_STOP, trail_price="1"), water_mark=Decimal(20)),
    ):
        assert match(resting, quote("10"), late, rules) == Match(resting)
        assert match(resting, quote("10"), late - SECOND, rules).quantity > 0


def test_an_order_on_its_way_is_worked_at_the_first_quote_after_it_arrived() -> None:
    resting = RestingOrder(order(TradeType.MARKET), works_from=NOON + 2 * SECOND)
    assert match(resting, None, NOON, Rules()) == Match(resting)
    early, late, unseen = quote("10", ts=1), quote("11", ts=2), quote("12", ts=9)
    assert match(resting, early, NOON + 5 * SECOND, Rules()) == Match(resting)
    assert match(resting, unseen, NOON + SECOND, Rules()) == Match(resting)
    assert match(resting, late, NOON + 5 * SECOND, Rules()).price == 11


CENTS = st.decimals("0.01", 200, places=2)
SIZES = st.none() | st.decimals(0, 12, places=1)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Any order that a trader may send, on either side."""
    kind, side = draw(st.sampled_from(TradeType)), draw(st.sampled_from(TradeSide))
    prices: dict[str, Any] = {}
    if kind in (TradeType.STOP, TradeType.STOP_LIMIT):
        prices["stop_price"] = draw(CENTS)
    if kind in (TradeType.LIMIT, TradeType.STOP_LIMIT):
        prices["limit_price"] = draw(CENTS)
    if kind is TradeType.TRAILING_STOP:
        prices |= draw(
            st.fixed_dictionaries({"trail_price": CENTS})
            | st.fixed_dictionaries({"trail_percent": st.decimals("0.01", "99.99", places=2)})
        )
    return replace(order(kind, side), **prices)


@st.composite
def markets(draw: st.DrawFn) -> list[Quote]:
    """Quotes a second apart; each side may be empty, and sizes unknown."""
    prices = draw(st.lists(st.tuples(st.none() | CENTS, st.none() | CENTS, SIZES, SIZES), min_size=1, max_size=12))
    return [
        Quote(bid, ask, NOON + SECOND * i, "", bid_size, ask_size)
        for i, (bid, ask, bid_size, ask_size) in enumerate(prices)
    ]


@dataclass
class Trail:
    """The best price and the stop of a trailing order, told again from the quotes alone."""

    order: Order
    best: Decimal | None = None

    def stop(self) -> Decimal | None:
        if self.order.trade_type is not TradeType.TRAILING_STOP:
            return self.order.stop_price
        if self.best is None:
            return None
        percent = self.order.trail_percent
        trail = self.order.trail_price if percent is None else self.best * percent / 100
        assert trail is not None
        return self.best + trail if self.order.side is BUY else self.best - trail

    def reached(self, met: Decimal) -> bool:
        stop = self.stop()
        return stop is not None and (met >= stop if self.order.side is BUY else met <= stop)

    def see(self, met: Decimal) -> None:
        self.best = met if self.best is None else (min if self.order.side is BUY else max)(self.best, met)


@given(asked=orders(), quotes=markets(), respect=st.booleans(), slippage=st.integers(0, 500))
def test_whatever_quotes_come_limits_hold_stops_wait_and_no_more_fills_than_was_ordered(
    asked: Order, quotes: list[Quote], respect: bool, slippage: int
) -> None:
    rules, sign = Rules(Decimal(slippage), respect), asked.side.sign
    resting, trail, was_reached, total = RestingOrder(asked), Trail(asked), False, Decimal(0)
    has_stop = asked.trade_type in (TradeType.STOP, TradeType.STOP_LIMIT, TradeType.TRAILING_STOP)
    for shown in quotes:
        found = match(resting, shown, shown.ts, rules)
        met, size = shown.price_for(asked.side), shown.size_for(asked.side)
        if met is not None:
            was_reached = was_reached or trail.reached(met)
            trail.see(met)
        total += found.quantity
        if has_stop:
            assert found.resting.is_triggered == was_reached
        if found.quantity:
            assert met is not None
            assert was_reached or not has_stop
            assert found.price * sign >= met * sign
            assert asked.limit_price is None or found.price * sign <= asked.limit_price * sign
            assert not respect or size is None or found.quantity <= size
        assert found.refusal is None or (asked.trade_type is TradeType.MARKET and not total)
        assert total == found.resting.filled <= asked.quantity
        resting = found.resting
