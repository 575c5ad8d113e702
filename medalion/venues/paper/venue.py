"""A simulated venue: fills against the market's quote, keeps its own books, and shares no transaction with ours."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from medalion.core.enums import TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.core.money import cash, checked, exact
from medalion.market.quotes import Market, Quote
from medalion.positions.holding import value_of
from medalion.venues.base import FillReport, Order, OrderReport
from medalion.venues.paper.matching import Match, Rules, match
from medalion.venues.paper.rows import (
    NAME,
    executions_of,
    fill_of,
    instrument_as_kept,
    order_id,
    order_of,
    placed,
    report_of,
    resting_of,
    taken_of,
)
from medalion.venues.states import PARTIALLY_FILLED, SUBMITTED, price_fault
from oltp.entities.venue import PaperExecution, PaperOrder
from oltp.server.translation import translated
from oltp.statements.paper import place

_BPS = Decimal(10_000)
_NONE = timedelta(0)
_WORKING = PaperOrder.status.in_((SUBMITTED, PARTIALLY_FILLED))


@dataclass(frozen=True, slots=True)
class CommissionSchedule:
    """What an execution costs: `bps` of its value plus `per_unit` of its quantity, at least `minimum`."""

    bps: Decimal = Decimal(0)
    per_unit: Decimal = Decimal(0)
    minimum: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        for name in ("bps", "per_unit", "minimum"):
            if (given := checked(getattr(self, name), name=name)) < 0:
                raise InputError(f"{name} {given} is negative; give zero or more", given=given)

    def commission(self, quantity: Decimal, value: Decimal) -> Decimal:
        """In quote currency, half-even to 8 places."""
        with exact():
            return max(cash(abs(value) * self.bps / _BPS + quantity * self.per_unit), self.minimum)


class PaperVenue:
    """Fills market orders at the quote or rejects them; all others rest until `advance` sees a quote that reaches them.

    A buy stop triggers when the ask is at the stop or above, a sell stop when the bid is at it or below; then it fills
    as a market order, and a stop-limit order rests as a limit order. A trailing stop follows the best price seen.
    For `slippage_bps`, `respect_size` and `max_quote_age` see `Rules`. With a `latency`, an order is worked at the
    first quote seen of its own time plus the latency, or later; until then market orders rest too.

    Order ids follow from account and client order id alone; executions are numbered as they happen.
    """

    name = NAME

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        market: Market,
        *,
        commission: CommissionSchedule = CommissionSchedule(),
        slippage_bps: Decimal = Decimal(0),
        respect_size: bool = False,
        latency: timedelta | None = None,
        max_quote_age: timedelta | None = None,
    ) -> None:
        for name, given in (("latency", latency), ("max_quote_age", max_quote_age)):
            if given is not None and given < _NONE:
                raise InputError(f"{name} {given} is negative; give a timedelta of zero or more", given=given)
        self._sessions = sessions
        self._market = market
        self._commission = commission
        self._rules = Rules(slippage_bps, respect_size, max_quote_age)
        self._latency = latency or _NONE

    async def submit(self, order: Order) -> OrderReport:
        """The order: filled, in part or whole, resting, or rejected with the reason.

        Raises:
            ConflictError: another order has this client order id.
        """
        quote = order.quote
        if quote is None:
            quote = await self._market.at(order.instrument, order.at)
        new = placed(order, self._latency, price_fault(order))
        with translated():
            async with self._sessions.begin() as session:
                if not self._rules.respect_size:
                    # Its one statement is a transaction of its own: BEGIN and COMMIT would be two round trips more.
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                execution = None
                if new.status is not TradeStatus.REJECTED:
                    await self._share_quotes(session, [new])
                    execution = await self._work(session, new, quote, order.at)
                if not await session.run_sync(lambda inner: place(inner.connection(), new, execution)):
                    return await self._again(session, order)
                return report_of(new, [] if execution is None else [execution])

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
                if order.status in (SUBMITTED, PARTIALLY_FILLED):
                    order.status, order.changed_at = TradeStatus.CANCELLED, at
                return report_of(order, await executions_of(session, order))

    async def find_order(self, account_id: UUID, client_order_id: str) -> OrderReport | None:
        """The order with its executions; None if it never arrived."""
        with translated():
            async with self._sessions() as session:
                order = await session.get(PaperOrder, order_id(account_id, client_order_id))
                return None if order is None else report_of(order, await executions_of(session, order))

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
                return [fill_of(order, execution) for order, execution in await session.execute(executed)]

    async def advance(self, at: datetime) -> list[OrderReport]:
        """The resting orders that the quotes of that time fill or refuse, in the order they were submitted.

        Orders submitted after `at` are left alone.
        """
        resting = sa.select(PaperOrder).where(_WORKING, PaperOrder.submitted_at <= at)
        with translated():
            async with self._sessions() as session:
                waiting = list(await session.scalars(resting))
        quotes = await self._quotes(waiting, at)
        touched = [kept.id for kept in waiting if self._is_touched(kept, quotes[kept.instrument_id], at)]
        if not touched:
            return []
        with translated():
            async with self._sessions.begin() as session:
                # Locked in the order of ids, so that two of these cannot wait for each other.
                locked = resting.where(PaperOrder.id.in_(touched)).order_by(PaperOrder.id).with_for_update()
                orders = list(await session.scalars(locked))
                await self._share_quotes(session, orders)
                changed = []
                for order in sorted(orders, key=lambda order: (order.submitted_at, order.id)):
                    execution = await self._work(session, order, quotes[order.instrument_id], at)
                    if execution is not None:
                        session.add(execution)
                    if execution is not None or order.status is TradeStatus.REJECTED:
                        changed.append(order)
                return [report_of(order, await executions_of(session, order)) for order in changed]

    async def _quotes(self, waiting: Iterable[PaperOrder], at: datetime) -> dict[int, Quote | None]:
        """The quotes of that time by number of the instrument; each is asked for once."""
        instruments = {kept.instrument_id: order_of(kept, at).instrument for kept in waiting}
        return {number: await self._market.at(instrument, at) for number, instrument in instruments.items()}

    def _is_touched(self, kept: PaperOrder, quote: Quote | None, at: datetime) -> bool:
        """Whether the quote may change the order, before it is known what others took of the quote."""
        resting = resting_of(kept)
        return match(resting, quote, at, self._rules) != Match(resting)

    async def _share_quotes(self, session: AsyncSession, orders: Iterable[PaperOrder]) -> None:
        """Wait for others who fill the same accounts' orders in the same instruments, lest both take the same size."""
        if not self._rules.respect_size:
            return
        for key in sorted({f"paper/{order.account_id}/{order.instrument_id}" for order in orders}):
            await session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(key, 0))))

    async def _work(
        self, session: AsyncSession, order: PaperOrder, quote: Quote | None, at: datetime
    ) -> PaperExecution | None:
        """What the quote executes of the order, which is changed accordingly; None if it fills nothing of it."""
        taken = Decimal(0)
        if self._rules.respect_size and quote is not None:
            taken = await taken_of(session, order, quote.ts)
        found = match(resting_of(order), quote, at, self._rules, taken=taken)
        order.water_mark = found.resting.water_mark
        if found.resting.is_triggered and order.triggered_at is None:
            order.triggered_at = at
        if found.refusal is not None:
            order.status, order.reason, order.changed_at = TradeStatus.REJECTED, found.refusal, at
            return None
        if quote is None or not found.quantity:
            return None
        order.filled_quantity = found.resting.filled
        order.status = TradeStatus.FILLED if order.filled_quantity == order.quantity else PARTIALLY_FILLED
        order.changed_at = at
        return PaperExecution(
            order_id=order.id,
            account_id=order.account_id,
            quantity=found.quantity,
            price=found.price,
            commission=self._commission.commission(
                found.quantity, value_of(found.quantity, found.price, order.multiplier)
            ),
            quoted_at=quote.ts,
            executed_at=at,
        )

    async def _again(self, session: AsyncSession, order: Order) -> OrderReport:
        """The order that stands under this id; it must be the one that is submitted now."""
        kept = await session.get_one(PaperOrder, order_id(order.account_id, order.client_order_id))
        if order_of(kept, order.at) != replace(order, instrument=instrument_as_kept(order.instrument)):
            raise ConflictError(
                f"client order id {order.client_order_id!r} is that of another order: {kept.side} {kept.quantity} "
                f"{kept.symbol}; give every order its own id"
            )
        return report_of(kept, await executions_of(session, kept))
