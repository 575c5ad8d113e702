"""The life of an order: what each type of it is given, and which status may follow which, as tables."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Protocol

from medalion.core.enums import TradeStatus, TradeType
from medalion.core.errors import ConflictError

PENDING, SUBMITTED, PARTIALLY_FILLED = TradeStatus.PENDING, TradeStatus.SUBMITTED, TradeStatus.PARTIALLY_FILLED
FILLED, CANCELLED, REJECTED = TradeStatus.FILLED, TradeStatus.CANCELLED, TradeStatus.REJECTED
EXPIRED = TradeStatus.EXPIRED

WORKING = (PENDING, SUBMITTED, PARTIALLY_FILLED)
"""The venue may still fill it."""

TRANSITIONS: Mapping[TradeStatus, frozenset[TradeStatus]] = MappingProxyType(
    {
        PENDING: frozenset({SUBMITTED, PARTIALLY_FILLED, FILLED, CANCELLED, REJECTED, EXPIRED}),
        SUBMITTED: frozenset({PARTIALLY_FILLED, FILLED, CANCELLED, REJECTED, EXPIRED}),
        PARTIALLY_FILLED: frozenset({FILLED, CANCELLED, EXPIRED}),
        FILLED: frozenset(),
        # An execution that crossed the cancellation on its way is reported after it, and has happened nevertheless.
        CANCELLED: frozenset({FILLED}),
        EXPIRED: frozenset({FILLED}),
        REJECTED: frozenset(),
    }
)


PRICES: Mapping[TradeType, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        TradeType.MARKET: (frozenset(),),
        TradeType.LIMIT: (frozenset({"limit_price"}),),
        TradeType.STOP: (frozenset({"stop_price"}),),
        TradeType.STOP_LIMIT: (frozenset({"stop_price", "limit_price"}),),
        TradeType.TRAILING_STOP: (frozenset({"trail_price"}), frozenset({"trail_percent"})),
    }
)
"""What each type of order is given, and nothing else; of several sets, one."""


class PricedOrder(Protocol):
    """A type of order and the prices it was given."""

    @property
    def trade_type(self) -> TradeType:
        """The type of order."""

    @property
    def limit_price(self) -> Decimal | int | None:
        """The worst price to trade at, in quote currency."""

    @property
    def stop_price(self) -> Decimal | int | None:
        """The price that makes it active, in quote currency."""

    @property
    def trail_price(self) -> Decimal | int | None:
        """How far the stop stands from the best price seen, in quote currency."""

    @property
    def trail_percent(self) -> Decimal | int | None:
        """The same in per cent of that price."""


def price_fault(order: PricedOrder) -> str | None:
    """What is wrong with the choice of prices; None if they are those of the type of order."""
    prices = {
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
        "trail_price": order.trail_price,
        "trail_percent": order.trail_percent,
    }
    given = {name for name, price in prices.items() if price is not None}
    if given in PRICES[order.trade_type]:
        return None
    wanted = " or ".join(" and ".join(sorted(names)) or "no price" for names in PRICES[order.trade_type])
    return f"a {order.trade_type} order takes {wanted}, and was given {' and '.join(sorted(given)) or 'none'}"


def is_working(status: TradeStatus) -> bool:
    """Whether the venue may still fill it."""
    return status in WORKING


def transition(status: TradeStatus, to: TradeStatus) -> TradeStatus:
    """`to`, if it is or may follow `status`.

    Raises:
        ConflictError: it may not.
    """
    if to is not status and to not in TRANSITIONS[status]:
        allowed = ", ".join(sorted(TRANSITIONS[status])) or "nothing: it is over"
        raise ConflictError(f"an order that is {status} cannot become {to}; it may become {allowed}")
    return to


def after_report(status: TradeStatus, reported: TradeStatus, *, ordered: Decimal, filled: Decimal) -> TradeStatus:
    """The status once a venue's report and the fills it brought are booked: `filled` of `ordered` so far.

    What is filled decides over what is reported, and a report that an order is working never undoes its end.

    Raises:
        ConflictError: more was filled than ordered, or a fill of an order that was rejected.

    >>> after_report(TradeStatus.CANCELLED, TradeStatus.SUBMITTED, ordered=Decimal(3), filled=Decimal(1)).value
    'cancelled'
    """
    if filled > ordered:
        raise ConflictError(f"{filled} were filled of an order for {ordered}; ask the venue which fills stand")
    if filled == ordered:
        return transition(status, FILLED)
    if filled and REJECTED in (status, reported):
        raise ConflictError(f"the venue filled {filled} of an order that it rejected; ask it which stands")
    if not is_working(status):
        return status
    if is_working(reported) or reported is FILLED:
        # Reported as filled before all of its fills have arrived.
        return transition(status, PARTIALLY_FILLED if filled else SUBMITTED)
    return transition(status, reported)


def after_bust(status: TradeStatus, *, filled: Decimal) -> TradeStatus:
    """The status once an execution was undone, with `filled` still standing.

    What a venue undoes of a filled order it does not work again: the order ends as cancelled.

    >>> after_bust(TradeStatus.PARTIALLY_FILLED, filled=Decimal(0)).value
    'submitted'
    """
    if status is FILLED:
        return CANCELLED
    return SUBMITTED if status is PARTIALLY_FILLED and not filled else status
