"""The books: accounts, strategies, signals, orders and their fills, positions and cash."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from medalion.core.enums import (
    AccountType,
    CashMovementType,
    PositionSide,
    PositionStatus,
    SettlementType,
    SignalType,
    TradeSide,
    TradeStatus,
    TradeType,
)
from medalion.core.money import ZERO, cash, exact
from oltp.entities.base import Entity, Versioned, live_unique, reference
from oltp.entities.columns import WIDE, JsonObject
from oltp.entities.reference import Asset, OptionContract, PolymarketEvent, PolymarketOutcome

ONE_INSTRUMENT = "num_nonnulls(asset_id, option_contract_id, outcome_id) = 1"


class InstrumentReference:
    """Refers to an asset, an option contract or an outcome; `instrument_id` and `symbol` are copied from it."""

    symbol: Mapped[str] = mapped_column(sa.String(100), index=True)

    @declared_attr
    def asset_id(cls) -> Mapped[UUID | None]:  # noqa: N805
        """The asset, if it is of one; of an option its underlying is not meant."""
        return reference("assets.id", index=False)

    @declared_attr
    def option_contract_id(cls) -> Mapped[UUID | None]:  # noqa: N805
        """The contract, if it is of one."""
        return reference("option_contracts.id")

    @declared_attr
    def outcome_id(cls) -> Mapped[UUID | None]:  # noqa: N805
        """The outcome of a prediction market, if it is of one."""
        return reference("polymarket_outcomes.id")

    @declared_attr
    def polymarket_event_id(cls) -> Mapped[UUID | None]:  # noqa: N805
        """The event that the outcome belongs to."""
        return reference("polymarket_events.id", index=False)

    @declared_attr
    def asset(cls) -> Mapped[Asset | None]:  # noqa: N805
        """The asset; to be loaded on purpose."""
        return relationship(lazy="raise")

    @declared_attr
    def option_contract(cls) -> Mapped[OptionContract | None]:  # noqa: N805
        """The contract; to be loaded on purpose."""
        return relationship(lazy="raise")

    @declared_attr
    def outcome(cls) -> Mapped[PolymarketOutcome | None]:  # noqa: N805
        """The outcome; to be loaded on purpose."""
        return relationship(lazy="raise")

    @declared_attr
    def polymarket_event(cls) -> Mapped[PolymarketEvent | None]:  # noqa: N805
        """The event; to be loaded on purpose."""
        return relationship(lazy="raise")


class Account(Entity):
    """A book of its own: its trades, positions and cash are netted with nobody else's."""

    __tablename__ = "accounts"
    __table_args__ = (live_unique("name"),)

    name: Mapped[str] = mapped_column(sa.String(200))
    account_type: Mapped[AccountType] = mapped_column(default=AccountType.PAPER)
    base_currency: Mapped[str] = mapped_column(sa.String(10), default="USD")
    is_active: Mapped[bool] = mapped_column(default=True)
    description: Mapped[str] = mapped_column(sa.String(1000), default="")
    extra: Mapped[JsonObject | None] = mapped_column("metadata")


class Strategy(Versioned, Entity):
    """A way of trading, with its configuration and limits."""

    __tablename__ = "strategies"
    __table_args__ = (live_unique("name", "version"),)

    name: Mapped[str] = mapped_column(sa.String(200))
    description: Mapped[str] = mapped_column(sa.String(1000), default="")
    strategy_type: Mapped[str] = mapped_column(sa.String(100), default="", index=True, doc="Family, e.g. momentum.")
    version: Mapped[str] = mapped_column(sa.String(20), default="1.0.0")
    is_active: Mapped[bool] = mapped_column(default=True, index=True)
    is_backtesting: Mapped[bool] = mapped_column(default=False)
    configuration: Mapped[JsonObject] = mapped_column(default=dict)
    risk_parameters: Mapped[JsonObject] = mapped_column(default=dict)
    max_position_size: Mapped[Decimal | None] = mapped_column(doc="Quote currency.")
    max_loss_per_trade: Mapped[Decimal | None] = mapped_column(doc="Quote currency.")
    max_daily_loss: Mapped[Decimal | None] = mapped_column(doc="Quote currency.")
    performance_metrics: Mapped[JsonObject | None]
    last_executed_at: Mapped[datetime | None]

    signals: Mapped[list["TradingSignal"]] = relationship(
        back_populates="strategy", lazy="raise", order_by="TradingSignal.signal_timestamp.desc()"
    )


class TradingSignal(InstrumentReference, Entity):
    """A strategy's advice on one instrument, or on a prediction-market event as a whole."""

    __tablename__ = "trading_signals"
    __table_args__ = (
        sa.CheckConstraint(
            "num_nonnulls(asset_id, option_contract_id, outcome_id) <= 1"
            " AND num_nonnulls(asset_id, option_contract_id, outcome_id, polymarket_event_id) >= 1",
            name="instrument",
        ),
        sa.CheckConstraint("confidence BETWEEN 0 AND 100", name="confidence"),
        sa.Index(None, "strategy_id", "signal_timestamp"),
        sa.Index(None, "asset_id", "signal_timestamp"),
        sa.Index(None, "polymarket_event_id", "signal_timestamp"),
        sa.Index(None, "was_acted_upon", "signal_timestamp"),
    )

    strategy_id: Mapped[UUID] = reference("strategies.id", index=False)
    instrument_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    signal_type: Mapped[SignalType] = mapped_column(index=True)
    confidence: Mapped[Decimal] = mapped_column(doc="Percent, 0 to 100.")
    signal_timestamp: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    target_price: Mapped[Decimal | None]
    stop_loss: Mapped[Decimal | None]
    take_profit: Mapped[Decimal | None]
    suggested_quantity: Mapped[Decimal | None]
    source_data: Mapped[JsonObject] = mapped_column(default=dict, doc="What the signal was derived from.")
    was_acted_upon: Mapped[bool] = mapped_column(default=False)
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    strategy: Mapped[Strategy] = relationship(back_populates="signals", lazy="raise")


class Trade(InstrumentReference, Versioned, Entity):
    """One order and its life. Amounts are in quote currency; `executed_at` is the time of the last fill."""

    __tablename__ = "trades"
    __table_args__ = (
        sa.CheckConstraint(ONE_INSTRUMENT, name="instrument"),
        live_unique("account_id", "client_order_id"),
        sa.Index(None, "account_id", "executed_at"),
        sa.Index(None, "asset_id", "executed_at"),
        sa.Index(None, "strategy_id", "executed_at"),
        sa.Index(None, "polymarket_event_id", "executed_at"),
        sa.Index(None, "executed_at"),
        sa.Index(None, "external_trade_id"),
    )

    account_id: Mapped[UUID] = reference("accounts.id", index=False)
    strategy_id: Mapped[UUID | None] = reference("strategies.id", index=False)
    signal_id: Mapped[UUID | None] = reference("trading_signals.id")
    position_id: Mapped[UUID | None] = reference("positions.id")
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    client_order_id: Mapped[str] = mapped_column(sa.String(128), doc="Ours; the same on every retry.")
    external_trade_id: Mapped[str | None] = mapped_column(sa.String(100), doc="The venue's id of the order.")
    trade_type: Mapped[TradeType] = mapped_column(default=TradeType.MARKET)
    side: Mapped[TradeSide]
    status: Mapped[TradeStatus] = mapped_column(default=TradeStatus.PENDING, index=True)
    status_reason: Mapped[str | None] = mapped_column(sa.String(1000))
    quantity: Mapped[Decimal] = mapped_column(sa.CheckConstraint("quantity > 0", name="quantity"), doc="Ordered.")
    multiplier: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("multiplier > 0", name="multiplier"), default=Decimal(1), doc="Units per contract."
    )
    limit_price: Mapped[Decimal | None]
    stop_price: Mapped[Decimal | None]
    trail_price: Mapped[Decimal | None]
    trail_percent: Mapped[Decimal | None]
    filled_quantity: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("filled_quantity >= 0", name="filled_quantity"), default=ZERO
    )
    filled_value: Mapped[Decimal] = mapped_column(
        WIDE, default=ZERO, doc="Sum of the fills' price × quantity × multiplier, each as cash."
    )
    commission: Mapped[Decimal] = mapped_column(default=ZERO, doc="Negative for a rebate.")
    submitted_at: Mapped[datetime | None]
    executed_at: Mapped[datetime | None]
    alpaca_market_data_snapshot: Mapped[JsonObject | None] = mapped_column(doc="What Alpaca showed at decision time.")
    polymarket_data_snapshot: Mapped[JsonObject | None] = mapped_column(doc="What Polymarket showed then.")
    notes: Mapped[str | None] = mapped_column(sa.String(2000))
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    account: Mapped[Account] = relationship(lazy="raise")
    strategy: Mapped[Strategy | None] = relationship(lazy="raise")
    signal: Mapped[TradingSignal | None] = relationship(lazy="raise")
    position: Mapped["Position | None"] = relationship(back_populates="trades", lazy="raise")
    fills: Mapped[list["Fill"]] = relationship(
        back_populates="trade", lazy="raise", order_by="Fill.executed_at, Fill.execution_id"
    )

    @property
    def average_price(self) -> Decimal | None:
        """Mean price of the fills, half-even to 8 places; None without one."""
        if not self.filled_quantity:
            return None
        with exact():
            return cash(self.filled_value / (self.filled_quantity * self.multiplier))

    @property
    def total_value(self) -> Decimal:
        """What the fills are worth, before commission."""
        return self.filled_value


class Fill(Entity):
    """One execution of a trade; the venue's execution id never counts twice, `busted_at` says it was undone."""

    __tablename__ = "fills"
    __table_args__ = (
        sa.UniqueConstraint("venue", "execution_id"),
        sa.Index(None, "account_id", "executed_at"),
        sa.Index(None, "account_id", "instrument_id", "executed_at"),
    )

    trade_id: Mapped[UUID] = reference("trades.id")
    account_id: Mapped[UUID] = reference("accounts.id", index=False)
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger)
    venue: Mapped[str] = mapped_column(sa.String(50))
    execution_id: Mapped[str] = mapped_column(sa.String(128))
    side: Mapped[TradeSide]
    quantity: Mapped[Decimal] = mapped_column(sa.CheckConstraint("quantity > 0", name="quantity"))
    price: Mapped[Decimal] = mapped_column(sa.CheckConstraint("price >= 0", name="price"))
    commission: Mapped[Decimal] = mapped_column(default=ZERO, doc="Negative for a rebate.")
    realized_pnl: Mapped[Decimal] = mapped_column(default=ZERO, doc="What it realized, gross.")
    executed_at: Mapped[datetime]
    busted_at: Mapped[datetime | None] = mapped_column(doc="When the venue undid it; null if it stands.")
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    trade: Mapped[Trade] = relationship(back_populates="fills", lazy="raise")


class Position(InstrumentReference, Versioned, Entity):
    """What the fills of one account, strategy and instrument add up to, from flat to flat.

    Quantities are unsigned, `side` gives their sign; `cost_basis` is signed: for a short, minus what its sale brought.
    `realized_pnl` is gross; net is `realized_pnl - commissions`.
    """

    __tablename__ = "positions"
    __table_args__ = (
        sa.CheckConstraint(ONE_INSTRUMENT, name="instrument"),
        sa.CheckConstraint("remaining_quantity BETWEEN 0 AND quantity", name="remaining_quantity"),
        sa.CheckConstraint(
            "status NOT IN ('closed', 'cancelled') OR (remaining_quantity = 0 AND closed_at IS NOT NULL)", name="closed"
        ),
        sa.Index(
            "uq_positions_open",
            "account_id",
            "instrument_id",
            "strategy_id",
            unique=True,
            postgresql_where=sa.text("status IN ('open', 'partially_closed') AND NOT is_deleted"),
            postgresql_nulls_not_distinct=True,
        ),
        sa.Index(None, "account_id", "status"),
        sa.Index(None, "asset_id", "status"),
        sa.Index(None, "polymarket_event_id", "status"),
        sa.Index(None, "opened_at"),
        sa.Index(None, "closed_at"),
    )

    account_id: Mapped[UUID] = reference("accounts.id", index=False)
    strategy_id: Mapped[UUID | None] = reference("strategies.id")
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    side: Mapped[PositionSide]
    status: Mapped[PositionStatus] = mapped_column(default=PositionStatus.OPEN, index=True)
    quantity: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("quantity >= 0", name="quantity"), doc="The sum of what was entered."
    )
    remaining_quantity: Mapped[Decimal] = mapped_column(doc="Still held; 0 once closed.")
    cost_basis: Mapped[Decimal] = mapped_column(default=ZERO, doc="Of what remains, signed.")
    multiplier: Mapped[Decimal] = mapped_column(
        sa.CheckConstraint("multiplier > 0", name="multiplier"), default=Decimal(1), doc="Units per contract."
    )
    realized_pnl: Mapped[Decimal] = mapped_column(default=ZERO)
    commissions: Mapped[Decimal] = mapped_column(default=ZERO)
    current_price: Mapped[Decimal | None] = mapped_column(doc="The last mark.")
    marked_at: Mapped[datetime | None]
    stop_loss: Mapped[Decimal | None]
    take_profit: Mapped[Decimal | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    alpaca_open_snapshot: Mapped[JsonObject | None]
    alpaca_close_snapshot: Mapped[JsonObject | None]
    polymarket_open_snapshot: Mapped[JsonObject | None]
    polymarket_close_snapshot: Mapped[JsonObject | None]
    notes: Mapped[str | None] = mapped_column(sa.String(2000))
    extra: Mapped[JsonObject | None] = mapped_column("metadata")

    account: Mapped[Account] = relationship(lazy="raise")
    strategy: Mapped[Strategy | None] = relationship(lazy="raise")
    trades: Mapped[list[Trade]] = relationship(back_populates="position", lazy="raise", order_by=Trade.id)

    @property
    def signed_quantity(self) -> Decimal:
        """What remains; negative for a short."""
        return self.remaining_quantity if self.side is PositionSide.LONG else -self.remaining_quantity

    @property
    def average_entry_price(self) -> Decimal | None:
        """Cost basis per unit that remains, half-even to 8 places; None once closed."""
        if not self.remaining_quantity:
            return None
        with exact():
            return cash(self.cost_basis / (self.signed_quantity * self.multiplier))

    @property
    def market_value(self) -> Decimal | None:
        """What closing at the last mark would bring, before commission; negative for a short, None without a mark."""
        if self.current_price is None:
            return None
        with exact():
            return cash(self.signed_quantity * self.current_price * self.multiplier)

    @property
    def unrealized_pnl(self) -> Decimal | None:
        """Gain if closed at the last mark, before commission; None without a mark."""
        value = self.market_value
        return None if value is None else value - self.cost_basis


class Settlement(Entity):
    """A position or part of it ended, or was changed, by an event instead of a trade."""

    __tablename__ = "settlements"
    __table_args__ = (sa.Index(None, "account_id", "instrument_id", "occurred_at"),)
    append_only = True

    account_id: Mapped[UUID] = reference("accounts.id", index=False)
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger)
    position_id: Mapped[UUID] = reference("positions.id")
    settlement_type: Mapped[SettlementType]
    event: Mapped[str] = mapped_column(sa.String(200), doc="What happened; several settlements of one add up.")
    quantity: Mapped[Decimal] = mapped_column(doc="Units or contracts added to the position, signed.")
    price: Mapped[Decimal | None] = mapped_column(doc="Or payment, per unit.")
    cash: Mapped[Decimal] = mapped_column(default=ZERO, doc="Paid to the account; negative if it pays.")
    realized_pnl: Mapped[Decimal] = mapped_column(default=ZERO, doc="What it realized, gross.")
    occurred_at: Mapped[datetime]
    details: Mapped[JsonObject | None]


class CashMovement(Entity):
    """Money that entered (positive) or left the account; its balance is their sum. Undone by its opposite."""

    __tablename__ = "cash_movements"
    __table_args__ = (sa.Index(None, "account_id", "occurred_at"),)
    append_only = True

    account_id: Mapped[UUID] = reference("accounts.id", index=False)
    movement_type: Mapped[CashMovementType]
    amount: Mapped[Decimal]
    currency: Mapped[str] = mapped_column(sa.String(10), default="USD")
    occurred_at: Mapped[datetime]
    trade_id: Mapped[UUID | None] = reference("trades.id")
    fill_id: Mapped[UUID | None] = reference("fills.id")
    settlement_id: Mapped[UUID | None] = reference("settlements.id")
    note: Mapped[str | None] = mapped_column(sa.String(1000))
