"""Between Alpaca's JSON and what is asked of a venue and reported by it: pure, and decimal throughout."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus
from medalion.core.errors import VenueError
from medalion.core.money import exact
from medalion.venues.base import FillReport, Order, OrderReport
from medalion.venues.states import is_working, price_fault

NAME = "alpaca"
# Options are taken for the day only, crypto never for the day. A stock's order for the day is over by the evening,
# and only such orders may be for fractions of a share.
_TIME_IN_FORCE = {InstrumentKind.STOCK: "day", InstrumentKind.OPTION: "day", InstrumentKind.CRYPTO: "gtc"}
_PRICES = ("limit_price", "stop_price", "trail_price", "trail_percent")
# All other words are of orders that may still fill, as a word that is new here may be: `done_for_day` and `calculated`
# too, after which the final word comes with the end of the session or the next one.
_OVER = {
    "filled": TradeStatus.FILLED,
    "canceled": TradeStatus.CANCELLED,
    "expired": TradeStatus.EXPIRED,
    "rejected": TradeStatus.REJECTED,
}
_EXECUTED = ("fill", "partial_fill")
_logger = logging.getLogger(__name__)


class UnclearError(VenueError):
    """The reply was lost or cannot be read: what was asked may have happened, or not."""


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as Alpaca has it, in Alpaca's words; `quantity` is None of an order for an amount of money.

    An order that is changed at the broker is `replaced_by` another, with ids of its own.
    """

    id: str
    client_order_id: str
    symbol: str
    side: str
    order_type: str
    word: str
    quantity: Decimal | None
    filled: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    submitted_at: datetime
    replaces: str | None
    replaced_by: str | None

    @classmethod
    def of(cls, body: Any) -> Self:
        """The order in a reply.

        Raises:
            UnclearError: it is no order, or a part of it is missing.
        """
        with _reading("an order", body):
            return cls(
                id=_text(body["id"]),
                client_order_id=_text(body["client_order_id"]),
                symbol=body.get("symbol") or "",
                side=body.get("side") or "",
                order_type=body.get("type") or "",
                word=_text(body["status"]),
                quantity=_number(body["qty"]),
                filled=_number(body["filled_qty"]) or Decimal(0),
                submitted_at=_moment(body["submitted_at"] or body["created_at"]),
                replaces=body.get("replaces"),
                replaced_by=body.get("replaced_by") if body["status"] == "replaced" else None,
                **{name: _number(body.get(name)) for name in _PRICES},
            )

    @property
    def status(self) -> TradeStatus:
        """The same in our words."""
        working = TradeStatus.PARTIALLY_FILLED if self.filled else TradeStatus.SUBMITTED
        return _OVER.get(self.word, working)


@dataclass(frozen=True, slots=True)
class BrokerExecution:
    """One execution as Alpaca's account activities have it."""

    id: str
    order_id: str
    side: TradeSide
    quantity: Decimal
    price: Decimal
    executed_at: datetime

    @classmethod
    def of(cls, body: Any) -> Self:
        """The execution in an activity.

        Raises:
            UnclearError: it is no execution, or a part of it is missing.
        """
        with _reading("an execution", body):
            quantity, price = _number(body["qty"]), _number(body["price"])
            if quantity is None or price is None:
                raise ValueError("quantity or price is null")
            # Short sales may go by words of their own.
            side = "sell" if body["side"].startswith("sell_") else body["side"]
            return cls(
                id=_text(body["id"]),
                order_id=_text(body["order_id"]),
                side=TradeSide(side),
                quantity=quantity,
                price=price,
                executed_at=_moment(body["transaction_time"]),
            )

    def report(self, account_id: UUID, client_order_id: str) -> FillReport:
        """As a venue reports it. Its commission is zero: fees are booked to the account, apart from executions."""
        return FillReport(
            venue=NAME,
            account_id=account_id,
            client_order_id=client_order_id,
            execution_id=self.id,
            side=self.side,
            quantity=self.quantity,
            price=self.price,
            commission=Decimal(0),
            executed_at=self.executed_at,
        )


def rows(body: Any) -> list[dict[str, Any]]:
    """The objects of a list.

    Raises:
        UnclearError: it is something else.
    """
    if not isinstance(body, list) or not all(isinstance(row, dict) for row in body):
        raise UnclearError(f"Alpaca answered {_shortened(body)}; expected a list of objects")
    return body


def executions_in(page: Sequence[Mapping[str, Any]]) -> list[BrokerExecution]:
    """The executions among the activities; one of another kind, such as a correction, is left out with a warning."""
    for other in (row for row in page if row.get("type") not in _EXECUTED):
        _logger.warning("Alpaca's activity %s is a %s, which is not booked", other.get("id"), other.get("type"))
    return [BrokerExecution.of(row) for row in page if row.get("type") in _EXECUTED]


def refusal(order: Order) -> str | None:
    """Why Alpaca need not be asked; None if it is to decide."""
    if order.instrument.kind not in _TIME_IN_FORCE:
        tradable = ", ".join(_TIME_IN_FORCE)
        return f"Alpaca trades {tradable}, and {order.instrument.symbol} is a {order.instrument.kind}"
    return price_fault(order)


def is_duplicate(refusal: str) -> bool:
    """Whether Alpaca refuses because it has an order of that client order id; it says so in words only."""
    return "client_order_id" in refusal and "unique" in refusal


def request(order: Order) -> dict[str, str]:
    """The body that submits the order, every number as the decimal's own digits."""
    prices = {name: getattr(order, name) for name in _PRICES}
    return {
        "client_order_id": order.client_order_id,
        "symbol": order.instrument.symbol,
        "side": order.side.value,
        "type": order.trade_type.value,
        "time_in_force": _TIME_IN_FORCE[order.instrument.kind],
        "qty": digits(order.quantity),
        **{name: digits(price) for name, price in prices.items() if price is not None},
    }


def digits(number: Decimal) -> str:
    """The number without an exponent and without zeros that say nothing.

    >>> digits(Decimal("1E-8")), digits(Decimal("190.00000000")), digits(Decimal("1E+3"))
    ('0.00000001', '190', '1000')
    """
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_same(order: Order, kept: BrokerOrder) -> bool:
    """Whether what Alpaca has is what was asked.

    It may name a pair without the slash, and adds the stop price at which a trail stands.
    """
    prices = ((getattr(order, name), getattr(kept, name)) for name in _PRICES)
    return (
        kept.symbol.replace("/", "") == order.instrument.symbol.replace("/", "")
        and (kept.side, kept.order_type) == (order.side.value, order.trade_type.value)
        and kept.quantity == order.quantity
        and all(asked is None or asked == has for asked, has in prices)
    )


def rejected(order: Order, reason: str) -> OrderReport:
    """The report of an order that was never taken."""
    return OrderReport(order.account_id, order.client_order_id, None, TradeStatus.REJECTED, at=order.at, reason=reason)


def filled(orders: Sequence[BrokerOrder]) -> Decimal:
    """How much Alpaca says was filled of them together."""
    with exact():
        return sum((order.filled for order in orders), Decimal(0))


def report(account_id: UUID, orders: Sequence[BrokerOrder], executions: Sequence[BrokerExecution]) -> OrderReport:
    """The report of an order and of those that replaced it, in turn, under the ids of the first.

    `at` is when Alpaca took the order, which is what the books keep.
    """
    first, last, amount = orders[0], orders[-1], filled(orders)
    status, reason = last.status, None
    if status is TradeStatus.REJECTED:
        reason = "Alpaca took the order and rejected it later, for which its orders show no reason"
        # Of one that replaced another, which was filled in part.
        status = TradeStatus.CANCELLED if amount else status
    elif is_working(status) and amount:
        status = TradeStatus.PARTIALLY_FILLED
    elif status is TradeStatus.FILLED and first.quantity is not None and amount < first.quantity:
        status, reason = TradeStatus.CANCELLED, f"replaced at the broker by order {last.id} for less, which is filled"
    return OrderReport(
        account_id=account_id,
        client_order_id=first.client_order_id,
        venue_order_id=first.id,
        status=status,
        at=first.submitted_at,
        reason=reason,
        fills=tuple(execution.report(account_id, first.client_order_id) for execution in executions),
    )


@contextmanager
def _reading(what: str, body: Any) -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise UnclearError(f"Alpaca answered {_shortened(body)}; expected {what}") from error


def _shortened(body: Any) -> str:
    text = repr(body)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> Decimal | None:
    if value is None:
        return None
    if not isinstance(value, str | int | Decimal) or not (number := Decimal(value)).is_finite():
        raise ValueError(f"{value!r} is no number")
    return number


def _moment(value: Any) -> datetime:
    """In UTC; digits beyond microseconds are cut off."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} names no time zone")
    return moment.astimezone(UTC)
