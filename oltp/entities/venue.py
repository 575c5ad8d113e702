"""The paper venue's own books, which know nothing of ours: its orders and their executions."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from oltp.entities.base import Base


class PaperOrder(Base):
    """One order as the simulated venue has it; its id is derived from account and client order id."""

    __tablename__ = "paper_orders"
    __table_args__ = (
        sa.UniqueConstraint("account_id", "client_order_id"),
        sa.CheckConstraint("filled_quantity >= 0 AND filled_quantity <= quantity", name="filled_quantity"),
        sa.Index(
            "ix_paper_orders_working", "id", postgresql_where=sa.text("status IN ('submitted', 'partially_filled')")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID]
    client_order_id: Mapped[str] = mapped_column(sa.String(128))
    instrument_kind: Mapped[InstrumentKind]
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger)
    symbol: Mapped[str] = mapped_column(sa.String(100))
    multiplier: Mapped[Decimal]
    trade_type: Mapped[TradeType]
    side: Mapped[TradeSide]
    quantity: Mapped[Decimal] = mapped_column(sa.CheckConstraint("quantity > 0", name="quantity"))
    limit_price: Mapped[Decimal | None]
    stop_price: Mapped[Decimal | None]
    trail_price: Mapped[Decimal | None]
    trail_percent: Mapped[Decimal | None]
    status: Mapped[TradeStatus]
    reason: Mapped[str | None] = mapped_column(sa.String(1000))
    filled_quantity: Mapped[Decimal]
    water_mark: Mapped[Decimal | None] = mapped_column(doc="The best price that a trailing stop has seen.")
    triggered_at: Mapped[datetime | None] = mapped_column(doc="When the market reached the stop.")
    works_from: Mapped[datetime | None] = mapped_column(doc="Quotes before this are not for it; null: every quote is.")
    submitted_at: Mapped[datetime]
    changed_at: Mapped[datetime]


PAPER_EXECUTION_IDS = sa.Sequence("paper_execution_seq", data_type=sa.BigInteger, metadata=Base.metadata)
# Of one time they sort as they happened: positions are made of executions in the order of time and id.
NEXT_EXECUTION_ID = sa.func.lpad(sa.cast(PAPER_EXECUTION_IDS.next_value(), sa.Text), 19, "0")


class PaperExecution(Base):
    """One execution of a paper order."""

    __tablename__ = "paper_executions"
    __table_args__ = (sa.Index(None, "account_id", "executed_at"),)

    execution_id: Mapped[str] = mapped_column(sa.String(128), primary_key=True, default=NEXT_EXECUTION_ID)
    order_id: Mapped[UUID] = mapped_column(sa.ForeignKey("paper_orders.id", ondelete="RESTRICT"), index=True)
    account_id: Mapped[UUID]
    quantity: Mapped[Decimal] = mapped_column(sa.CheckConstraint("quantity > 0", name="quantity"))
    price: Mapped[Decimal] = mapped_column(sa.CheckConstraint("price >= 0", name="price"))
    commission: Mapped[Decimal]
    quoted_at: Mapped[datetime] = mapped_column(doc="Of the quote that it was filled at.")
    executed_at: Mapped[datetime]
