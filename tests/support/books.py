"""Accounts with deposits and executions for tests, entered as a venue's fills would be."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from medalion.core.enums import CashMovementType, PositionStatus
from medalion.positions.holding import value_of
from medalion.positions.round_trips import Execution, fold
from medalion.store.store import Store
from oltp.entities.base import uuid7
from oltp.entities.trading import Account, CashMovement, Fill, Position, Trade


@dataclass
class Book:
    """One account of the store."""

    store: Store
    account: Account

    @classmethod
    def opened(cls, store: Store, name: str = "paper") -> "Book":
        return cls(store, store.accounts.create(name=name))

    def deposit(self, at: datetime, amount: str | int, currency: str = "USD") -> None:
        kind = CashMovementType.DEPOSIT if Decimal(amount) > 0 else CashMovementType.WITHDRAWAL
        self.store.cash_movements.create(
            account_id=self.account.id, movement_type=kind, amount=Decimal(amount), currency=currency, occurred_at=at
        )

    def trade(self, instrument: Any, executions: Iterable[Execution]) -> list[Position]:
        """The positions that executions of one instrument add up to, with a trade, a fill and cash for each part."""
        return self.trade_all([(instrument, executions)])

    def trade_all(self, series: Iterable[tuple[Any, Iterable[Execution]]]) -> list[Position]:
        """The same for many series of executions, each folded on its own."""
        positions: list[Position] = []
        trades: list[Trade] = []
        fills: list[Fill] = []
        cash: list[CashMovement] = []
        for instrument, executions in series:
            self._enter(instrument, executions, positions, trades, fills, cash)
        self.store.positions.add_many(positions)
        self.store.trades.add_many(trades)
        self.store.fills.add_many(fills)
        self.store.cash_movements.add_many(cash)
        return positions

    def _enter(
        self,
        instrument: Any,
        executions: Iterable[Execution],
        positions: list[Position],
        trades: list[Trade],
        fills: list[Fill],
        cash: list[CashMovement],
    ) -> None:
        kind, symbol = _named(instrument)
        multiplier = getattr(instrument, "multiplier", Decimal(1))
        of = {"account_id": self.account.id, "instrument_id": instrument.instrument_id}
        named = {**of, kind: instrument.id, "symbol": symbol, "multiplier": multiplier}
        for trip in fold(executions, multiplier=multiplier):
            position = Position(
                id=uuid7(),
                **named,
                side=trip.side,
                status=PositionStatus.OPEN if trip.is_open else PositionStatus.CLOSED,
                quantity=trip.quantity,
                remaining_quantity=abs(trip.holding.quantity),
                cost_basis=trip.holding.cost_basis,
                realized_pnl=trip.realized_pnl,
                commissions=trip.commission,
                opened_at=trip.opened_at,
                closed_at=trip.closed_at,
            )
            positions.append(position)
            for part in trip.executions:
                order = f"{position.id}/{part.execution_id}"
                trades.append(
                    Trade(
                        id=uuid7(),
                        **named,
                        position_id=position.id,
                        client_order_id=order,
                        side=part.side,
                        quantity=part.quantity,
                    )
                )
                fills.append(
                    Fill(
                        id=uuid7(),
                        trade_id=trades[-1].id,
                        **of,
                        venue="test",
                        execution_id=order,
                        side=part.side,
                        quantity=part.quantity,
                        price=part.price,
                        commission=part.commission,
                        executed_at=part.executed_at,
                    )
                )
                paid = value_of(part.quantity * part.side.sign, part.price, multiplier) + part.commission
                cash.append(self._movement(-paid, part.executed_at))

    def _movement(self, amount: Decimal, at: datetime) -> CashMovement:
        kind = CashMovementType.TRADE
        return CashMovement(account_id=self.account.id, movement_type=kind, amount=amount, occurred_at=at)


def _named(instrument: Any) -> tuple[str, str]:
    if hasattr(instrument, "token_id"):
        return "outcome_id", instrument.token_id
    return ("option_contract_id" if hasattr(instrument, "strike_price") else "asset_id"), instrument.symbol
