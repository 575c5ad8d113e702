"""What a venue is: takes an order under our id, tells what became of it, and never takes the same order twice."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from medalion.core.enums import TradeSide, TradeStatus, TradeType
from medalion.core.errors import InputError
from medalion.core.time import utc
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a venue; `client_order_id` is ours and unique in the account. Prices are per unit.

    `quote` is what the decision saw, which a simulated venue fills at; None lets it ask the market by itself.
    """

    account_id: UUID
    client_order_id: str
    instrument: Instrument
    side: TradeSide
    quantity: Decimal
    trade_type: TradeType
    at: datetime
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    quote: Quote | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FillReport:
    """One execution as a venue reports it; `execution_id` is unique at the venue. `commission` is in quote currency.

    Raises:
        InputError: no id, a naive time, a side that is neither buy nor sell, or a number that is no Decimal.
    """

    venue: str
    account_id: UUID
    client_order_id: str
    execution_id: str
    side: TradeSide
    quantity: Decimal
    price: Decimal
    commission: Decimal
    executed_at: datetime

    def __post_init__(self) -> None:
        if not self.execution_id:
            raise InputError("execution_id is empty; give the venue's id of the execution", given=self.execution_id)
        object.__setattr__(self, "executed_at", utc(self.executed_at, name="executed_at"))
        object.__setattr__(self, "side", _side(self.side))
        for name in ("quantity", "price", "commission"):
            object.__setattr__(self, name, _number(getattr(self, name), name))


def _side(given: str) -> TradeSide:
    try:
        return TradeSide(given)
    except ValueError as error:
        raise InputError(f"side is {given!r}; give buy or sell", given=given, expected=list(TradeSide)) from error


def _number(given: object, name: str) -> Decimal:
    if isinstance(given, int) and not isinstance(given, bool):
        return Decimal(given)
    if not isinstance(given, Decimal):
        raise InputError(f"{name} is {given!r}; give a Decimal made from text, such as Decimal('0.1')", given=given)
    return given


@dataclass(frozen=True, slots=True)
class OrderReport:
    """An order as the venue has it: its own id of it, the status, why, and every execution so far."""

    account_id: UUID
    client_order_id: str
    venue_order_id: str | None
    status: TradeStatus
    at: datetime
    reason: str | None = None
    fills: tuple[FillReport, ...] = ()


class Venue(Protocol):
    """A broker, an exchange, or a simulation of one.

    A refusal is a report with status rejected. A VenueError means that the outcome is not known: the order may or may
    not have arrived, and is asked for again by its id.
    """

    @property
    def name(self) -> str:
        """Under which its executions are unique."""
        ...

    async def submit(self, order: Order) -> OrderReport:
        """The order as the venue has it; submitted again under the same id, the same order as it stands."""
        ...

    async def cancel(self, account_id: UUID, client_order_id: str, at: datetime) -> OrderReport:
        """The order after the attempt, which comes too late for what is filled.

        Raises:
            NotFoundError: the venue has no such order.
        """
        ...

    async def find_order(self, account_id: UUID, client_order_id: str) -> OrderReport | None:
        """The order with all its executions; None if the venue never saw it."""
        ...

    async def executions(self, account_id: UUID, since: datetime) -> list[FillReport]:
        """Every execution of the account at or after `since`, oldest first."""
        ...

    async def advance(self, at: datetime) -> list[OrderReport]:
        """The orders that changed because time went on to `at`; what is lost of it, `find_order` tells again."""
        ...
