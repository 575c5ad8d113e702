"""Between the paper venue's rows and what is asked of it and reported by it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from medalion.core.enums import TradeStatus
from medalion.market.instrument import Instrument
from medalion.venues.base import FillReport, Order, OrderReport
from medalion.venues.paper.matching import RestingOrder
from oltp.entities.venue import PaperExecution, PaperOrder

NAME = "paper"
_ORDERS = UUID("6f2f7c1e-6a0b-4c58-9d2d-3f0a9f4b7f10")


def order_id(account_id: UUID, client_order_id: str) -> UUID:
    """The venue's id of an order, the same whenever it is asked."""
    return uuid5(_ORDERS, f"{account_id}/{client_order_id}")


def placed(order: Order, latency: timedelta, refusal: str | None) -> PaperOrder:
    """A new order, of which nothing is filled."""
    return PaperOrder(
        id=order_id(order.account_id, order.client_order_id),
        account_id=order.account_id,
        client_order_id=order.client_order_id,
        instrument_kind=order.instrument.kind,
        instrument_id=order.instrument.instrument_id,
        symbol=order.instrument.symbol,
        multiplier=order.instrument.multiplier,
        trade_type=order.trade_type,
        side=order.side,
        quantity=order.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trail_price=order.trail_price,
        trail_percent=order.trail_percent,
        status=TradeStatus.SUBMITTED if refusal is None else TradeStatus.REJECTED,
        reason=refusal,
        filled_quantity=Decimal(0),
        works_from=order.at + latency if latency else None,
        submitted_at=order.at,
        changed_at=order.at,
    )


def instrument_as_kept(instrument: Instrument) -> Instrument:
    """As this venue knows it: without the entities it stands for."""
    return Instrument(instrument.kind, instrument.instrument_id, instrument.symbol, instrument.multiplier)


def order_of(kept: PaperOrder, at: datetime) -> Order:
    """What was asked, as if at `at`."""
    return Order(
        account_id=kept.account_id,
        client_order_id=kept.client_order_id,
        instrument=Instrument(kept.instrument_kind, kept.instrument_id, kept.symbol, kept.multiplier),
        side=kept.side,
        quantity=kept.quantity,
        trade_type=kept.trade_type,
        at=at,
        limit_price=kept.limit_price,
        stop_price=kept.stop_price,
        trail_price=kept.trail_price,
        trail_percent=kept.trail_percent,
    )


def resting_of(kept: PaperOrder) -> RestingOrder:
    """The order as the last quote left it."""
    return RestingOrder(
        order=order_of(kept, kept.submitted_at),
        filled=kept.filled_quantity,
        is_triggered=kept.triggered_at is not None,
        water_mark=kept.water_mark,
        works_from=kept.works_from,
    )


def report_of(order: PaperOrder, executions: Iterable[PaperExecution]) -> OrderReport:
    """The order with its executions."""
    return OrderReport(
        account_id=order.account_id,
        client_order_id=order.client_order_id,
        venue_order_id=str(order.id),
        status=order.status,
        at=order.changed_at,
        reason=order.reason,
        fills=tuple(fill_of(order, execution) for execution in executions),
    )


def fill_of(order: PaperOrder, execution: PaperExecution) -> FillReport:
    """One execution of the order."""
    return FillReport(
        venue=NAME,
        account_id=order.account_id,
        client_order_id=order.client_order_id,
        execution_id=execution.execution_id,
        side=order.side,
        quantity=execution.quantity,
        price=execution.price,
        commission=execution.commission,
        executed_at=execution.executed_at,
    )


async def executions_of(session: AsyncSession, order: PaperOrder) -> list[PaperExecution]:
    """The order's executions, oldest first."""
    executed = sa.select(PaperExecution).where(PaperExecution.order_id == order.id)
    return list(await session.scalars(executed.order_by(PaperExecution.executed_at, PaperExecution.execution_id)))


async def taken_of(session: AsyncSession, order: PaperOrder, quoted_at: datetime) -> Decimal:
    """What the account's orders on that side have filled of the quote's size so far.

    Of other accounts nothing is counted: each is a trader alone in the market, and backtests of the same past must not
    take from each other.
    """
    taken = (
        sa.select(sa.func.sum(PaperExecution.quantity))
        .join(PaperOrder, PaperOrder.id == PaperExecution.order_id)
        .where(
            PaperExecution.account_id == order.account_id,
            PaperExecution.quoted_at == quoted_at,
            PaperOrder.instrument_id == order.instrument_id,
            PaperOrder.side == order.side,
        )
    )
    return await session.scalar(taken) or Decimal(0)
