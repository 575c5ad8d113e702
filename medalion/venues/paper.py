"""A simulated venue: fills against the market's quote, keeps its own books, and shares no transaction with ours."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from medalion.errors import ConflictError, NotFoundError
from medalion.market import Instrument, Market, Quote
from medalion.portfolio import value_of
from medalion.types import InstrumentKind, TradeSide, TradeStatus, TradeType, cash, exact
from medalion.venues.base import FillReport, Order, OrderReport
from oltp.translation import translated
from oltp.venue import PaperExecution, PaperOrder

_BPS = Decimal(10_000)
_ORDERS = UUID("6f2f7c1e-6a0b-4c58-9d2d-3f0a9f4b7f10")


@dataclass(frozen=True, slots=True)
class CommissionSchedule:
    """What an execution costs: `bps` of its value plus `per_unit` of its quantity, at least `minimum`."""

    bps: Decimal = Decimal(0)
    per_unit: Decimal = Decimal(0)
    minimum: Decimal = Decimal(0)

    def commission(self, quantity: Decimal, value: Decimal) -> Decimal:
        """In quote currency, half-even to 8 places."""
        with exact():
            return max(cash(abs(value) * self.bps / _BPS + quantity * self.per_unit), self.minimum)


def fill_price(order: Order, quote: Quote, *, slippage_bps: Decimal = Decimal(0)) -> Decimal | None:
    """The price at which the order fills now; None if it rests, or if nobody is on the other side.

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
    price = max(price, Decimal(0))
    if limit is None:
        return price
    return min(price, limit) if order.side is TradeSide.BUY else max(price, limit)


class PaperVenue:
    """Fills market orders whole at the quote or rejects them; limit orders also rest until `advance` sees them met.

    Sizes at the quote are not looked at. Order and execution ids follow from account and client order id alone.
    """

    name = "paper"

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        market: Market,
        *,
        commission: CommissionSchedule = CommissionSchedule(),
        slippage_bps: Decimal = Decimal(0),
    ) -> None:
        self._sessions = sessions
        self._market = market
        self._commission = commission
        self._slippage_bps = slippage_bps

    async def submit(self, order: Order) -> OrderReport:
        """The order: filled, resting, or rejected with the reason.

        Raises:
            ConflictError: another order has this client order id.
        """
        quote = await self._market.quote(order.instrument, order.at)
        price = None if quote is None else fill_price(order, quote, slippage_bps=self._slippage_bps)
        reason = _refusal(order, quote, price)
        status = TradeStatus.REJECTED if reason else TradeStatus.FILLED if price is not None else TradeStatus.SUBMITTED
        placed = _placed(order, status, reason)
        with translated():
            async with self._sessions.begin() as session:
                new = insert(PaperOrder).values(placed).on_conflict_do_nothing().returning(PaperOrder)
                kept = await session.scalar(new)
                if kept is None:
                    return await self._again(session, order)
                fills = []
                if status is TradeStatus.FILLED and price is not None:
                    fills.append(self._execute(session, kept, price, order.at))
                return _report(kept, fills)

    async def cancel(self, account_id: UUID, client_order_id: str, at: datetime) -> OrderReport:
        """The order, cancelled if it rested.

        Raises:
            NotFoundError: there is no such order.
        """
        with translated():
            async with self._sessions.begin() as session:
                wanted = sa.select(PaperOrder).where(PaperOrder.id == order_id(account_id, client_order_id))
                order = await session.scalar(wanted.with_for_update())
                if order is None:
                    raise NotFoundError("paper order", client_order_id)
                if order.status is TradeStatus.SUBMITTED:
                    order.status, order.changed_at = TradeStatus.CANCELLED, at
                return _report(order, await _executions(session, order))

    async def find_order(self, account_id: UUID, client_order_id: str) -> OrderReport | None:
        """The order with its executions; None if it never arrived."""
        with translated():
            async with self._sessions() as session:
                order = await session.get(PaperOrder, order_id(account_id, client_order_id))
                return None if order is None else _report(order, await _executions(session, order))

    async def executions(self, account_id: UUID, since: datetime) -> list[FillReport]:
        """Every execution of the account at or after `since`, oldest first."""
        executed = (
            sa.select(PaperOrder, PaperExecution)
            .join(PaperExecution, PaperExecution.order_id == PaperOrder.id)
            .where(PaperExecution.account_id == account_id, PaperExecution.executed_at >= since)
            .order_by(PaperExecution.executed_at, PaperExecution.execution_id)
        )
        with translated():
            async with self._sessions() as session:
                return [_fill(order, execution) for order, execution in await session.execute(executed)]

    async def advance(self, at: datetime) -> list[OrderReport]:
        """The resting orders that the quotes of that time fill, in the order they were submitted."""
        resting = sa.select(PaperOrder).where(PaperOrder.status == TradeStatus.SUBMITTED)
        with translated():
            async with self._sessions() as session:
                waiting = list(await session.scalars(resting.order_by(PaperOrder.submitted_at, PaperOrder.id)))
        prices = await self._prices(waiting, at)
        if not prices:
            return []
        with translated():
            async with self._sessions.begin() as session:
                # Locked in the order of ids, so that two of these cannot wait for each other.
                locked = resting.where(PaperOrder.id.in_(prices)).order_by(PaperOrder.id).with_for_update()
                orders = list(await session.scalars(locked))
                reports = []
                for order in sorted(orders, key=lambda order: (order.submitted_at, order.id)):
                    order.status, order.changed_at = TradeStatus.FILLED, at
                    reports.append(_report(order, [self._execute(session, order, prices[order.id], at)]))
                return reports

    async def _prices(self, waiting: Iterable[PaperOrder], at: datetime) -> dict[UUID, Decimal]:
        """What the orders that are met now fill at; each instrument is asked for once."""
        quotes: dict[int, Quote | None] = {}
        prices = {}
        for kept in waiting:
            order = _order(kept, at)
            number = order.instrument.instrument_id
            if number not in quotes:
                quotes[number] = await self._market.quote(order.instrument, at)
            quote = quotes[number]
            price = None if quote is None else fill_price(order, quote, slippage_bps=self._slippage_bps)
            if price is not None:
                prices[kept.id] = price
        return prices

    def _execute(self, session: AsyncSession, order: PaperOrder, price: Decimal, at: datetime) -> FillReport:
        execution = PaperExecution(
            execution_id=f"{order.id}-1",
            order_id=order.id,
            account_id=order.account_id,
            quantity=order.quantity,
            price=price,
            commission=self._commission.commission(order.quantity, value_of(order.quantity, price, order.multiplier)),
            executed_at=at,
        )
        session.add(execution)
        return _fill(order, execution)

    async def _again(self, session: AsyncSession, order: Order) -> OrderReport:
        """The order that stands under this id; it must be the one that is submitted now."""
        kept = await session.get_one(PaperOrder, order_id(order.account_id, order.client_order_id))
        if _order(kept, order.at) != replace(order, instrument=_instrument(order.instrument)):
            raise ConflictError(
                f"client order id {order.client_order_id!r} is that of another order: {kept.side} {kept.quantity} "
                f"{kept.symbol}; give every order its own id"
            )
        return _report(kept, await _executions(session, kept))


def order_id(account_id: UUID, client_order_id: str) -> UUID:
    """The venue's id of an order, the same whenever it is asked."""
    return uuid5(_ORDERS, f"{account_id}/{client_order_id}")


def _refusal(order: Order, quote: Quote | None, price: Decimal | None) -> str | None:
    if order.trade_type not in (TradeType.MARKET, TradeType.LIMIT):
        return f"the paper venue takes market and limit orders, not {order.trade_type}"
    if order.trade_type is TradeType.LIMIT and order.limit_price is None:
        return "a limit order needs a limit price"
    if order.trade_type is TradeType.LIMIT or price is not None:
        return None
    if quote is None:
        return f"no quote of {order.instrument.symbol} is stored; store quotes, snapshots or bars of it first"
    return f"nobody offers {order.instrument.symbol}: bid {quote.bid}, ask {quote.ask} at {quote.ts.isoformat()}"


def _placed(order: Order, status: TradeStatus, reason: str | None) -> dict[str, object]:
    return {
        "id": order_id(order.account_id, order.client_order_id),
        "account_id": order.account_id,
        "client_order_id": order.client_order_id,
        "instrument_kind": order.instrument.kind,
        "instrument_id": order.instrument.instrument_id,
        "symbol": order.instrument.symbol,
        "multiplier": order.instrument.multiplier,
        "trade_type": order.trade_type,
        "side": order.side,
        "quantity": order.quantity,
        "limit_price": order.limit_price,
        "status": status,
        "reason": reason,
        "submitted_at": order.at,
        "changed_at": order.at,
    }


def _instrument(instrument: Instrument) -> Instrument:
    """As this venue knows it: without the entities it stands for."""
    return Instrument(instrument.kind, instrument.instrument_id, instrument.symbol, instrument.multiplier)


def _order(kept: PaperOrder, at: datetime) -> Order:
    return Order(
        account_id=kept.account_id,
        client_order_id=kept.client_order_id,
        instrument=Instrument(kept.instrument_kind, kept.instrument_id, kept.symbol, kept.multiplier),
        side=kept.side,
        quantity=kept.quantity,
        trade_type=kept.trade_type,
        at=at,
        limit_price=kept.limit_price,
    )


def _report(order: PaperOrder, executions: Iterable[FillReport | PaperExecution]) -> OrderReport:
    return OrderReport(
        account_id=order.account_id,
        client_order_id=order.client_order_id,
        venue_order_id=str(order.id),
        status=order.status,
        at=order.changed_at,
        reason=order.reason,
        fills=tuple(fill if isinstance(fill, FillReport) else _fill(order, fill) for fill in executions),
    )


def _fill(order: PaperOrder, execution: PaperExecution) -> FillReport:
    return FillReport(
        venue=PaperVenue.name,
        account_id=order.account_id,
        client_order_id=order.client_order_id,
        execution_id=execution.execution_id,
        side=order.side,
        quantity=execution.quantity,
        price=execution.price,
        commission=execution.commission,
        executed_at=execution.executed_at,
    )


async def _executions(session: AsyncSession, order: PaperOrder) -> list[PaperExecution]:
    executed = sa.select(PaperExecution).where(PaperExecution.order_id == order.id)
    return list(await session.scalars(executed.order_by(PaperExecution.executed_at, PaperExecution.execution_id)))
