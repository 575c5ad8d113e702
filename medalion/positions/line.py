"""A line of an account: what one strategy holds of one instrument there. Positions follow one another on it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from medalion.core.enums import CashMovementType, PositionSide, PositionStatus
from medalion.core.money import ZERO, exact
from medalion.market.quotes import Look
from medalion.positions.events import Ending, SettlementEvent
from medalion.positions.holding import Holding, Step, rescaled
from medalion.positions.round_trips import BookEntry, Execution
from oltp.entities.base import uuid7
from oltp.entities.trading import CashMovement, Position, Settlement, Trade
from oltp.statements.lines import LineKey

FOLDED = (
    "side",
    "status",
    "quantity",
    "remaining_quantity",
    "cost_basis",
    "realized_pnl",
    "commissions",
    "current_price",
    "marked_at",
    "opened_at",
    "closed_at",
    "stop_loss",
    "take_profit",
    "alpaca_open_snapshot",
    "alpaca_close_snapshot",
    "polymarket_open_snapshot",
    "polymarket_close_snapshot",
)
"""What of a position its entries decide."""


@dataclass(frozen=True, slots=True)
class Line:
    """Account, strategy and instrument, with what their rows repeat; `currency` is the account's."""

    account_id: UUID
    strategy_id: UUID | None
    instrument_id: int
    symbol: str
    asset_id: UUID | None
    option_contract_id: UUID | None
    outcome_id: UUID | None
    polymarket_event_id: UUID | None
    multiplier: Decimal
    currency: str

    @classmethod
    def of(cls, what: Trade | Position, currency: str) -> Self:
        """The line that the trade or position is on."""
        return cls(**{name: getattr(what, name) for name in _SHARED}, currency=currency)

    @property
    def key(self) -> LineKey:
        """What names it in statements."""
        return LineKey(self.account_id, self.strategy_id, self.instrument_id)

    def opened(
        self, entry: BookEntry, step: Step, risk: Mapping[str, str] | None = None, view: Look | None = None
    ) -> Position:
        """A position that holds nothing yet, and that the entry is about to open; `risk` has its stop and target."""
        stop_loss, take_profit = ((risk or {}).get(name) for name in ("stop_loss", "take_profit"))
        return Position(
            id=uuid7(),
            **{name: getattr(self, name) for name in _SHARED},
            side=PositionSide.LONG if step.quantity > 0 else PositionSide.SHORT,
            quantity=ZERO,
            remaining_quantity=ZERO,
            cost_basis=ZERO,
            realized_pnl=ZERO,
            commissions=ZERO,
            opened_at=entry.at,
            stop_loss=None if stop_loss is None else Decimal(stop_loss),
            take_profit=None if take_profit is None else Decimal(take_profit),
            alpaca_open_snapshot=None if view is None else view.alpaca,
            polymarket_open_snapshot=None if view is None else view.polymarket,
        )

    def moved(self, kind: CashMovementType, amount: Decimal, at: datetime, **refers: Any) -> CashMovement:
        """Cash that came in, or went out if negative; `refers` says what for."""
        return CashMovement(
            account_id=self.account_id,
            movement_type=kind,
            amount=amount,
            currency=self.currency,
            occurred_at=at,
            **refers,
        )

    def settled(
        self, event: SettlementEvent, position_id: UUID, effect: tuple[Decimal, Decimal, Decimal]
    ) -> Settlement:
        """The row that says by how much quantity, cash and realized P&L of the position changed."""
        quantity, paid, realized = effect
        return Settlement(
            id=uuid7(),
            account_id=self.account_id,
            instrument_id=self.instrument_id,
            position_id=position_id,
            settlement_type=event.kind,
            event=event.event,
            quantity=quantity,
            price=event.per_unit,
            cash=paid,
            realized_pnl=realized,
            occurred_at=event.at,
            details=dict(event.details),
        )


_SHARED = tuple(field.name for field in fields(Line) if field.name != "currency")


def holding_of(position: Position | None, multiplier: Decimal) -> Holding:
    """What the position holds, for the arithmetic; nothing if there is none."""
    if position is None:
        return Holding(multiplier=multiplier)
    return Holding(position.signed_quantity, position.cost_basis, position.realized_pnl, position.multiplier)


def advance(position: Position, entry: BookEntry, step: Step, view: Look | None = None) -> None:
    """Take the position on by what an entry did to it; `view` is what the market showed then."""
    holding = step.holding
    is_entry = step.ratio == 1 and (step.quantity > 0) == (position.side is PositionSide.LONG)
    with exact():
        position.quantity = rescaled(position.quantity, step.ratio) + (abs(step.quantity) if is_entry else ZERO)
        position.commissions += step.commission
    position.remaining_quantity = abs(holding.quantity)
    position.cost_basis, position.realized_pnl = holding.cost_basis, holding.realized_pnl
    if isinstance(entry, Execution | Ending) and not _is_older(entry.at, position.marked_at):
        position.current_price, position.marked_at = entry.price, entry.at
    elif step.ratio != 1 and position.current_price is not None and _is_older(position.marked_at, entry.at):
        position.current_price, position.marked_at = rescaled(position.current_price, 1 / step.ratio), entry.at
    if step.closes:
        position.status, position.closed_at = PositionStatus.CLOSED, entry.at
        if view is not None:
            position.alpaca_close_snapshot, position.polymarket_close_snapshot = view.alpaca, view.polymarket
    elif position.remaining_quantity < position.quantity:
        position.status = PositionStatus.PARTIALLY_CLOSED
    else:
        position.status = PositionStatus.OPEN


def _is_older(moment: datetime | None, than: datetime | None) -> bool:
    return moment is not None and than is not None and moment < than
