"""What a quote does to an order: whether it triggers, how much of it fills and at what price. No I/O, no state."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from medalion.core.enums import InstrumentKind, TradeSide, TradeType
from medalion.core.money import ZERO, cash, exact
from medalion.market.quotes import Quote
from medalion.venues.base import Order

_BPS = Decimal(10_000)
_PERCENT = Decimal(100)
_STOPS = (TradeType.STOP, TradeType.STOP_LIMIT, TradeType.TRAILING_STOP)


@dataclass(frozen=True, slots=True)
class Rules:
    """How a simulated venue fills.

    Fills are `slippage_bps` worse than the quote. With `respect_size`, no more fills than the quote shows, and the rest
    waits for another quote; one that shows no size has enough for all. A quote older than `max_quote_age` is as good as
    none: nothing fills at it, and no stop or trail moves.
    """

    slippage_bps: Decimal = ZERO
    respect_size: bool = False
    max_quote_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RestingOrder:
    """An order between two quotes.

    `water_mark` is the best price that a trailing stop has seen: the highest bid for a sale, the lowest ask for a
    purchase. With `works_from`, quotes before that time are not for this order.
    """

    order: Order
    filled: Decimal = ZERO
    is_triggered: bool = False
    water_mark: Decimal | None = None
    works_from: datetime | None = None

    @property
    def stop(self) -> Decimal | None:
        """The price at which it triggers, not rounded; None if it has no stop, or a trail that has seen no price."""
        order, mark = self.order, self.water_mark
        if order.trade_type is not TradeType.TRAILING_STOP:
            return order.stop_price
        if mark is None:
            return None
        with exact():
            trail = order.trail_price if order.trail_percent is None else mark * order.trail_percent / _PERCENT
            return None if trail is None else mark + order.side.sign * trail


@dataclass(frozen=True, slots=True)
class Match:
    """The order after a quote, and what was executed at it: `quantity` at `price`; or why the order is refused."""

    resting: RestingOrder
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    refusal: str | None = None


def match(
    resting: RestingOrder, quote: Quote | None, at: datetime, rules: Rules = Rules(), *, taken: Decimal = ZERO
) -> Match:
    """What the quote in force at `at` does to the order; `taken` is what was filled of the quote's size before.

    A market order is refused if nothing of it is filled yet and there is nothing to fill it at; all others wait.
    """
    waits_for = resting.works_from
    if waits_for is not None and (quote is None or quote.ts < waits_for or at < waits_for):
        return Match(resting)
    order = resting.order
    met = None if quote is None else quote.price_for(order.side)
    unusable = _unusable(order, quote, at, rules)
    if quote is None or met is None or unusable is not None:
        is_refused = order.trade_type is TradeType.MARKET and not resting.filled
        return Match(resting, refusal=unusable if is_refused else None)
    moved = _moved(resting, met)
    price = fill_price(order, quote, slippage_bps=rules.slippage_bps)
    if price is None or (order.trade_type in _STOPS and not moved.is_triggered):
        return Match(moved)
    size = quote.size_for(order.side) if rules.respect_size else None
    with exact():
        left = order.quantity - moved.filled
        quantity = left if size is None else min(left, max(size - taken, ZERO))
        return Match(replace(moved, filled=moved.filled + quantity), quantity, price)


def fill_price(order: Order, quote: Quote, *, slippage_bps: Decimal = ZERO) -> Decimal | None:
    """The price at which the order fills now, once it is triggered; None if it rests, or if nobody is on the other
    side.

    A buy meets the ask and a sell the bid, worsened by the slippage but never through the order's limit, nor beyond 0
    or, for an outcome, 1.
    """
    met = quote.price_for(order.side)
    limit = order.limit_price
    if met is None or (limit is not None and (limit - met) * order.side.sign < 0):
        return None
    with exact():
        price = cash(met * (1 + order.side.sign * slippage_bps / _BPS))
    if order.instrument.kind is InstrumentKind.OUTCOME:
        price = min(price, Decimal(1))
    price = max(price, ZERO)
    if limit is None:
        return price
    return min(price, limit) if order.side is TradeSide.BUY else max(price, limit)


def _unusable(order: Order, quote: Quote | None, at: datetime, rules: Rules) -> str | None:
    """Why nothing can be filled at the quote; None if it can."""
    symbol = order.instrument.symbol
    if quote is None:
        return f"no quote of {symbol} is stored; store quotes, snapshots or bars of it first"
    if rules.max_quote_age is not None and at - quote.ts > rules.max_quote_age:
        return (
            f"the newest quote of {symbol} is of {quote.ts.isoformat()}, {at - quote.ts} before the order is worked; "
            f"at most {rules.max_quote_age} is allowed"
        )
    if quote.price_for(order.side) is None:
        return f"nobody offers {symbol}: bid {quote.bid}, ask {quote.ask} at {quote.ts.isoformat()}"
    return None


def _moved(resting: RestingOrder, met: Decimal) -> RestingOrder:
    """The order once it has seen the price: its mark moves only in its favour, and a trigger is never undone."""
    order = resting.order
    if order.trade_type not in _STOPS or resting.is_triggered:
        return resting
    if order.trade_type is TradeType.TRAILING_STOP:
        mark = resting.water_mark
        if mark is None or (met - mark) * order.side.sign < 0:
            # At its own mark a trail has nothing to give back; only of a price of zero is a percentage nothing too.
            return replace(resting, water_mark=met)
        if met == mark:
            return resting
    stop = resting.stop
    return replace(resting, is_triggered=stop is not None and (met - stop) * order.side.sign >= 0)
