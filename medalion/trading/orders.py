"""An order's way to its venue and back into the books; safe to take again after a crash at any step.

An order is stored as a pending trade and committed before its venue is asked, under an id that stays the same on every
retry; what the venue reports is booked in a unit of work of its own. A crash between the two leaves a pending trade,
which `reconcile` asks the venue about.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from medalion.core.enums import AccountType, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.journal.metrics import Metric, Record, ignore, milliseconds
from medalion.market.instrument import Instrument
from medalion.market.lookup import account_of, instrument_behind, watched
from medalion.market.names import AccountLike
from medalion.market.quotes import Market, MarketView, one_look, viewed
from medalion.trading import booking
from medalion.trading.intents import Intent, client_order_id_of, existing, intend, resumed
from medalion.trading.portfolio import Portfolios, Which
from medalion.trading.requests import CreateTradeRequest
from medalion.trading.views import PositionDto, TradeDto
from medalion.venues.base import FillReport, OrderReport, Venue
from medalion.venues.states import WORKING, is_working
from oltp.entities.base import now
from oltp.entities.trading import Account, Trade
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork, acting, acting_as

_ATTEMPTS = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What `reconcile` found, by client order id: orders it asked about, those whose fills were missing here, those
    that had never arrived and were submitted, and those that only one side knows."""

    asked: tuple[str, ...]
    filled: tuple[str, ...]
    submitted: tuple[str, ...]
    unknown: tuple[str, ...]


class Ordering(Portfolios):
    """Places orders and books what becomes of them.

    `venue` takes the orders of every account, or is a mapping that has one for each type of account.
    """

    def __init__(
        self,
        units: Callable[[], UnitOfWork],
        venue: Venue | Mapping[AccountType, Venue],
        market: Market,
        clock: Callable[[], datetime] = now,
        *,
        record: Record = ignore,
    ) -> None:
        super().__init__(units, market, clock)
        self._measured = record
        self._venues = venue if isinstance(venue, Mapping) else dict.fromkeys(AccountType, venue)

    async def record_fill(self, fill: FillReport, *, overfill: bool = False) -> PositionDto:
        """The position that the execution led to; reported again, nothing changes.

        It may arrive late: positions are what all executions add up to by their time. More than was ordered is refused
        unless `overfill` says that the venue confirms it.

        Raises:
            NotFoundError: no trade has the fill's client order id.
            InputError: a negative commission, or a number that the books cannot hold.
            ConflictError: it contradicts the order, or what was booked under the same execution id.
        """
        await self._book(self._reported(fill), overfill=overfill)
        async with self._units() as unit:
            return PositionDto.of(await unit.positions.get(await booking.position_after(unit, fill)))

    async def bust_fill(self, execution_id: str, *, venue: str, at: datetime | None = None) -> TradeDto:
        """The trade once the venue undid one of its executions, as if it had never been; undone before, no change.

        What was paid comes back at `at`, by default now, and positions are made anew without the execution. A filled
        order ends as cancelled: what is undone of it is not worked again.

        Raises:
            NotFoundError: no such execution is booked.
        """
        moment = self._at(at)

        async def undo() -> Trade:
            async with self._units() as unit:
                return await booking.bust(unit, venue, execution_id, moment)

        return TradeDto.of(await self._retrying(undo))

    async def correct_fill(self, execution_id: str, fill: FillReport, *, at: datetime | None = None) -> TradeDto:
        """The trade once the venue replaced an execution by `fill`, which has an id of its own; done again, no change.

        Raises:
            NotFoundError: no such execution, or no order of the fill, is booked.
            InputError, ConflictError: as `record_fill`; nothing is undone then.
        """
        moment = self._at(at)
        report = self._reported(fill)
        views = await self._views(report, None)

        async def correct() -> Trade:
            async with self._units() as unit:
                return await booking.correct(unit, execution_id, report, views, moment)

        return TradeDto.of(await self._retrying(correct))

    async def cancel_trade(self, trade: Which, *, at: datetime | None = None) -> TradeDto:
        """The trade, cancelled; filled, if the venue filled it first.

        Raises:
            ConflictError: it is over already.
        """
        async with self._units() as unit:
            known = await unit.trades.get(trade)
            account = await unit.accounts.get(known.account_id)
        if not is_working(known.status):
            raise ConflictError(f"trade {known.id} is {known.status} and cannot be cancelled")
        moment = self._at(at)
        try:
            report = await self._venue(account).cancel(account.id, known.client_order_id, moment)
        except NotFoundError:
            report = OrderReport(
                account.id, known.client_order_id, None, TradeStatus.CANCELLED, moment, "it never reached the venue"
            )
        return TradeDto.of(await self._book(report))

    async def advance(self, *, at: datetime | None = None) -> list[TradeDto]:
        """The trades that changed because time went on to `at`: resting orders that the market now reaches."""
        moment = self._at(at)
        venues = {id(venue): venue for venue in self._venues.values()}
        return [
            TradeDto.of(await self._book(report)) for venue in venues.values() for report in await venue.advance(moment)
        ]

    async def reconcile(self, *, account: AccountLike | None = None, since: datetime | None = None) -> Reconciliation:
        """What was found by asking the venues about every order that is not over, and booking what was missing.

        An order that its venue never saw is submitted, under the same id. With `since`, the executions from then on
        are asked for as well, so that one that came after the end of its order is found.
        """
        async with self._units() as unit:
            owners = [await account_of(unit, account)] if account is not None else await unit.accounts.find()
            working = [trade for owner in owners for trade in await unit.trades.by_status(*WORKING, account=owner)]
        by_id = {owner.id: owner for owner in owners}
        filled, submitted, unknown = set[str](), list[str](), list[str]()
        for trade in working:
            venue = self._venue(by_id[trade.account_id])
            report = await venue.find_order(trade.account_id, trade.client_order_id)
            if report is None and trade.status is not TradeStatus.PENDING:
                unknown.append(trade.client_order_id)
                continue
            if report is None:
                async with self._units() as unit:
                    intent = await resumed(unit, trade, by_id[trade.account_id], self._at(None))
                report = await venue.submit(intent.order)
                submitted.append(trade.client_order_id)
            if (await self._book(report)).filled_quantity != trade.filled_quantity:
                filled.add(trade.client_order_id)
        for owner in owners if since is not None else ():
            for fill in await self._venue(owner).executions(owner.id, self._at(since)):
                if await self._is_missing(fill, unknown):
                    await self.record_fill(fill)
                    filled.add(fill.client_order_id)
        return Reconciliation(
            tuple(trade.client_order_id for trade in working), tuple(sorted(filled)), tuple(submitted), tuple(unknown)
        )

    async def _is_missing(self, fill: FillReport, unknown: list[str]) -> bool:
        """Whether the execution is one of our orders and not booked; what is no order of ours is added to `unknown`."""
        async with self._units() as unit:
            if await unit.fills.any(venue=fill.venue, execution_id=fill.execution_id):
                return False
            is_ours = await unit.trades.any(account_id=fill.account_id, client_order_id=fill.client_order_id)
        if not is_ours:
            unknown.append(fill.client_order_id)
        return is_ours

    async def _place(self, request: CreateTradeRequest) -> Trade:
        """The trade after its venue was asked, if that was still to be done."""
        at, name = self._at(request.at), client_order_id_of(request)
        correlation = str(id_of(request.signal)) if request.signal is not None else name
        with one_look(), acting_as(correlation_id=acting().correlation_id or correlation):
            try:
                intent = await self._retrying(lambda: self._intend(request, name, at))
            except ConflictError:
                # Someone else may have placed the same order meanwhile, which is then found under its id.
                if request.client_order_id is None and request.signal is None:
                    raise
                intent = await self._intend(request, name, at)
            if intent.trade.status is not TradeStatus.PENDING:
                return intent.trade
            started = time.perf_counter()
            report = await self._venue(intent.account).submit(intent.order)
            answered = milliseconds(started)
            trade = await self._book(report, intent.watched)
        tags = {"account_type": str(intent.account.account_type)}
        self._measured(Metric("venue_latency", answered, "ms", "trading", tags))
        self._measured(Metric("order_latency", milliseconds(started), "ms", "trading", tags))
        return trade

    async def _intend(self, request: CreateTradeRequest, name: str, at: datetime) -> Intent:
        async with self._units() as unit:
            account = await account_of(unit, request.account)
            self._venue(account)
            is_named = request.client_order_id is not None or request.signal is not None
            if is_named and (trade := await existing(unit, account, request, name)) is not None:
                return await resumed(unit, trade, account, at)
            return await intend(unit, account, request, name, self._market, at)

    async def _book(
        self, report: OrderReport, seen: tuple[Instrument, ...] | None = None, *, overfill: bool = False
    ) -> Trade:
        """The trade once the venue's report is in the books; `seen` is what its snapshots show, if already known."""
        with acting_as(correlation_id=acting().correlation_id or report.client_order_id):
            views = await self._views(report, seen)

            async def record() -> Trade:
                async with self._units() as unit:
                    return await booking.record(unit, report, views, overfill=overfill)

            return await self._retrying(record)

    async def _views(self, report: OrderReport, seen: tuple[Instrument, ...] | None) -> dict[str, MarketView]:
        """What the market showed at each execution, by its id."""
        if not report.fills:
            return {}
        seen = await self._watched(report) if seen is None else seen
        return {fill.execution_id: await viewed(self._market, seen, fill.executed_at) for fill in report.fills}

    def _reported(self, fill: FillReport) -> OrderReport:
        """The report of an execution alone."""
        status = TradeStatus.PARTIALLY_FILLED
        return OrderReport(fill.account_id, fill.client_order_id, None, status, fill.executed_at, fills=(fill,))

    async def _watched(self, report: OrderReport) -> tuple[Instrument, ...]:
        async with self._units() as unit:
            trade = await unit.trades.first(account_id=report.account_id, client_order_id=report.client_order_id)
            if trade is None:
                raise NotFoundError("trade with client order id", report.client_order_id)
            return await watched(unit, await instrument_behind(unit, trade), trade.polymarket_event_id)

    async def _retrying(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives; done again, a few times, where it lost a race that it may win then."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await work()
            except ConflictError as error:
                if not error.retryable:
                    raise
        return await work()

    def _venue(self, account: Account) -> Venue:
        try:
            return self._venues[account.account_type]
        except KeyError:
            known = ", ".join(sorted(self._venues))
            raise InputError(
                f"no venue takes orders of {account.account_type} accounts such as {account.name!r}; only of {known}",
                given=account.account_type,
                expected=known,
            ) from None
