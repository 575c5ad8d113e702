"""An order's way to its venue and back into the books; safe to take again after a crash at any step.

An order is stored as a pending trade and committed before its venue is asked, under an id that stays the same on every
retry; what the venue reports is booked in a unit of work of its own. A crash between the two leaves a pending trade,
which `reconcile` asks the venue about.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Unpack

from medalion.core.enums import TradeStatus, TradeType
from medalion.core.errors import ConflictError, NotFoundError, VenueError
from medalion.journal.metrics import Metric, milliseconds
from medalion.market.instrument import Instrument
from medalion.market.lookup import instrument_behind, watched
from medalion.market.quotes import Look, look
from medalion.trading import booking
from medalion.trading.desk import Desk, retrying
from medalion.trading.intents import Intent, client_order_id_of, intend
from medalion.trading.portfolio import Which, get_position
from medalion.trading.requests import (
    ClosingFields,
    CreateTradeRequest,
    OpeningFields,
    OpenPositionRequest,
    OrderFields,
)
from medalion.trading.views import PositionDto, TradeDto
from medalion.venues.base import FillReport, OrderReport
from medalion.venues.states import is_working
from oltp.entities.trading import Trade
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import acting, acting_as

_MOST_LOOKS = 32
"""Of a report with more executions than this, the market is looked at for the first and the last alone."""


async def execute_market_order(desk: Desk, **order: Unpack[OrderFields]) -> TradeDto:
    """The trade as its venue left it: filled, rejected with the reason, or still working.

    For what may be left out see `CreateTradeRequest`. The same client order id again is the same order, once.

    >>> from decimal import Decimal
    >>> order = {"account": "paper", "symbol": "BTC/USD", "side": "buy", "quantity": Decimal("0.5")}
    >>> store.trading.execute_market_order(**order, client_order_id="first").filled_quantity
    Decimal('0.50000000')

    Raises:
        InputError: a number, time or name that cannot be understood; nothing is written.
        NotFoundError: account, strategy, signal or instrument is not known.
        ConflictError: one of them may not trade, or the client order id is that of another order.
        VenueError: whether the order arrived is not known; the trade is pending until `reconcile` finds out.
    """
    return await create_trade(desk, CreateTradeRequest(**order))


async def execute_limit_order(desk: Desk, *, limit_price: Decimal | int, **order: Unpack[OrderFields]) -> TradeDto:
    """The trade: filled at the limit or better, or submitted and resting; raises as `execute_market_order`.

    >>> trade = store.trading.execute_limit_order(
    ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, limit_price=60_000
    ... )
    >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
    ('submitted', 'cancelled')
    """
    return await create_trade(desk, CreateTradeRequest(trade_type=TradeType.LIMIT, limit_price=limit_price, **order))


async def execute_stop_order(desk: Desk, *, stop_price: Decimal | int, **order: Unpack[OrderFields]) -> TradeDto:
    """The trade, which fills as a market order once the market reaches `stop_price`, at once if it has already.

    A buy triggers when the ask is at the stop or above, a sell when the bid is at it or below. The fill may be at a
    worse price than the stop. Raises as `execute_market_order`.

    >>> trade = store.trading.execute_stop_order(
    ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, stop_price=70_000
    ... )
    >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
    ('submitted', 'cancelled')
    """
    return await create_trade(desk, CreateTradeRequest(trade_type=TradeType.STOP, stop_price=stop_price, **order))


async def execute_stop_limit_order(
    desk: Desk, *, stop_price: Decimal | int, limit_price: Decimal | int, **order: Unpack[OrderFields]
) -> TradeDto:
    """The trade, which rests as a limit order once the market reaches `stop_price`: see `execute_stop_order`.

    The limit of a buy is at the stop or above, that of a sell at it or below. Raises as `execute_market_order`.

    >>> trade = store.trading.execute_stop_limit_order(
    ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, stop_price=70_000, limit_price=71_000
    ... )
    >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
    ('submitted', 'cancelled')
    """
    request = CreateTradeRequest(
        trade_type=TradeType.STOP_LIMIT, stop_price=stop_price, limit_price=limit_price, **order
    )
    return await create_trade(desk, request)


async def execute_trailing_stop_order(
    desk: Desk,
    *,
    trail_price: Decimal | int | None = None,
    trail_percent: Decimal | int | None = None,
    **order: Unpack[OrderFields],
) -> TradeDto:
    """The trade, whose stop follows the best price its venue has seen, and then fills as `execute_stop_order`.

    The stop of a sell stands `trail_price`, in quote currency per unit, or `trail_percent` below the highest bid,
    that of a buy as much above the lowest ask. Give one of the two. Raises as `execute_market_order`.

    >>> trade = store.trading.execute_trailing_stop_order(
    ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, trail_percent=5
    ... )
    >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
    ('submitted', 'cancelled')
    """
    request = CreateTradeRequest(
        trade_type=TradeType.TRAILING_STOP, trail_price=trail_price, trail_percent=trail_percent, **order
    )
    return await create_trade(desk, request)


async def create_trade(desk: Desk, request: CreateTradeRequest) -> TradeDto:
    """The trade that the request asks for; raises as `execute_market_order`.

    >>> from medalion import CreateTradeRequest
    >>> request = CreateTradeRequest(account="paper", symbol="BTC/USD", side="buy", quantity=1)
    >>> str(store.trading.create_trade(request).status)
    'filled'
    """
    return TradeDto.of(await place(desk, request))


async def open_position(desk: Desk, **position: Unpack[OpeningFields]) -> PositionDto:
    """The position after a market order for it, added to if there is one; raises as `execute_market_order`, and:

    >>> position = store.trading.open_position(account="paper", symbol="BTC/USD", quantity=1)
    >>> store.trading.partially_close_position(position.id, 1).quantity >= 1
    True

    Raises:
        VenueError: the venue rejected the order.
        ConflictError: a position on the other side is open; or the venue has the order but filled nothing yet.
    """
    trade = await place(desk, OpenPositionRequest(**position).trade())
    if trade.position_id is None:
        raise _not_filled(trade)
    return await get_position(desk, trade.position_id)


async def close_position(desk: Desk, position: Which, **closing: Unpack[ClosingFields]) -> PositionDto:
    """The position after a market order for all that is left of it; it is closed once that has filled.

    >>> position = store.trading.open_position(account="paper", symbol="BTC/USD", quantity=1)
    >>> str(store.trading.close_position(position.id).status)
    'closed'

    Raises:
        ConflictError: it is closed, or an order that closes it is on its way.
        VenueError: the venue rejected the order, or whether it arrived is not known.
    """
    return await _reduce(desk, position, None, closing)


async def partially_close_position(
    desk: Desk, position: Which, quantity: Decimal | int, **closing: Unpack[ClosingFields]
) -> PositionDto:
    """The position after a market order for `quantity` of what is left of it; raises as `close_position`."""
    return await _reduce(desk, position, quantity, closing)


async def cancel_trade(desk: Desk, trade: Which, *, at: datetime | None = None) -> TradeDto:
    """The trade, cancelled; filled, if the venue filled it first.

    >>> order = {"account": "paper", "symbol": "BTC/USD", "side": "buy", "quantity": 1, "limit_price": 50_000}
    >>> str(store.trading.cancel_trade(store.trading.execute_limit_order(**order).id).status)
    'cancelled'

    Raises:
        ConflictError: it is over already.
    """
    async with desk.units() as unit:
        known = await unit.trades.get(trade)
        account = await unit.accounts.get(known.account_id)
    if not is_working(known.status):
        raise ConflictError(f"trade {known.id} is {known.status} and cannot be cancelled")
    moment = desk.at(at)
    try:
        report = await desk.venue_of(account).cancel(account.id, known.client_order_id, moment)
    except NotFoundError:
        report = OrderReport(
            account.id, known.client_order_id, None, TradeStatus.CANCELLED, moment, "it never reached the venue"
        )
    return TradeDto.of(await book(desk, report))


async def record_fill(desk: Desk, fill: FillReport, *, overfill: bool = False) -> PositionDto:
    """The position that the execution led to; reported again, nothing changes.

    It may arrive late: positions are what all executions add up to by their time. More than was ordered is refused
    unless `overfill` says that the venue confirms it.

    Raises:
        NotFoundError: no trade has the fill's client order id.
        InputError: a negative commission, or a number that the books cannot hold.
        ConflictError: it contradicts the order, or what was booked under the same execution id.
    """
    await book(desk, _report_of(fill), overfill=overfill)
    async with desk.units() as unit:
        return PositionDto.of(await unit.positions.get(await unit.run(booking.position_after, fill)))


async def bust_fill(desk: Desk, execution_id: str, *, venue: str, at: datetime | None = None) -> TradeDto:
    """The trade once the venue undid one of its executions, as if it had never been; undone before, no change.

    What was paid comes back at `at`, by default now, and positions are made anew without the execution. A filled
    order ends as cancelled: what is undone of it is not worked again.

    Raises:
        NotFoundError: no such execution is booked.
    """
    moment = desk.at(at)

    async def undo() -> Trade:
        async with desk.units() as unit:
            return await unit.run(booking.bust, venue, execution_id, moment)

    return TradeDto.of(await retrying(undo))


async def correct_fill(desk: Desk, execution_id: str, fill: FillReport, *, at: datetime | None = None) -> TradeDto:
    """The trade once the venue replaced an execution by `fill`, which has an id of its own; done again, no change.

    Raises:
        NotFoundError: no such execution is booked.
        InputError, ConflictError: as `record_fill`; or the fill is of another order or itself undone, or another
            has replaced the execution before. Nothing is undone then.
    """
    moment = desk.at(at)
    report = _report_of(fill)
    looks = await _looks(desk, report, None)

    async def correct() -> Trade:
        async with desk.units() as unit:
            return await unit.run(booking.correct, execution_id, report, looks, moment)

    return TradeDto.of(await retrying(correct))


async def advance(desk: Desk, *, at: datetime | None = None) -> list[TradeDto]:
    """The trades that changed because time went on to `at`: resting orders that the market now reaches."""
    moment = desk.at(at)
    venues = {id(venue): venue for venue in desk.venues.values()}
    return [
        TradeDto.of(await book(desk, report)) for venue in venues.values() for report in await venue.advance(moment)
    ]


async def place(desk: Desk, request: CreateTradeRequest) -> Trade:
    """The trade after its venue was asked, if that was still to be done."""
    at, name = desk.at(request.at), client_order_id_of(request)
    correlation = str(id_of(request.signal)) if request.signal is not None else name

    async def intended() -> Intent:
        async with desk.units() as unit:
            return await intend(unit, desk, request, name, at)

    with acting_as(correlation_id=acting().correlation_id or correlation):
        try:
            intent = await retrying(intended)
        except ConflictError:
            # Someone else may have placed the same order meanwhile, which is then found under its id.
            if request.client_order_id is None and request.signal is None:
                raise
            intent = await intended()
        if intent.trade.status is not TradeStatus.PENDING:
            return intent.trade
        return await _submit(desk, intent)


async def _submit(desk: Desk, intent: Intent) -> Trade:
    started = time.perf_counter()
    report = await desk.venue_of(intent.account).submit(intent.order)
    answered = milliseconds(started)
    trade = await book(desk, report, intent)
    tags = {"account_type": str(intent.account.account_type)}
    desk.record(Metric("venue_latency", answered, "ms", "trading", tags))
    desk.record(Metric("order_latency", milliseconds(started), "ms", "trading", tags))
    return trade


async def book(desk: Desk, report: OrderReport, intent: Intent | None = None, *, overfill: bool = False) -> Trade:
    """The trade once the venue's report is in the books; `intent` has what was looked at when it was just placed."""
    with acting_as(correlation_id=acting().correlation_id or report.client_order_id):
        looks = await _looks(desk, report, intent)

        async def record() -> Trade:
            async with desk.units() as unit:
                return await unit.run(booking.record, report, looks, overfill=overfill)

        return await retrying(record)


async def _looks(desk: Desk, report: OrderReport, intent: Intent | None) -> dict[str, Look]:
    """What the market showed at executions, by their id; one at the moment of the decision is shown what that saw."""
    fills = report.fills
    if not fills:
        return {}
    seen = await _watched(desk, report) if intent is None else intent.watched
    shown = fills if len(fills) <= _MOST_LOOKS else (fills[0], fills[-1])
    decided = None if intent is None else intent.look
    return {
        fill.execution_id: decided
        if decided is not None and decided.at == fill.executed_at
        else await look(desk.market, seen, fill.executed_at)
        for fill in shown
    }


async def _watched(desk: Desk, report: OrderReport) -> Sequence[Instrument]:
    async with desk.units() as unit:
        trade = await unit.trades.first(account_id=report.account_id, client_order_id=report.client_order_id)
        if trade is None:
            raise NotFoundError("trade with client order id", report.client_order_id)
        return await watched(unit, await instrument_behind(unit, trade), trade.polymarket_event_id)


async def _reduce(desk: Desk, position: Which, quantity: Decimal | int | None, closing: ClosingFields) -> PositionDto:
    async with desk.units() as unit:
        held = await unit.positions.get(position)
        instrument = await instrument_behind(unit, held)
    request = CreateTradeRequest(
        account=held.account_id,
        symbol=instrument,
        quantity=quantity,
        strategy=held.strategy_id,
        position_id=held.id,
        **closing,
    )
    trade = await place(desk, request)
    if trade.status is TradeStatus.REJECTED:
        raise VenueError(f"the order to close {held.symbol} was rejected: {trade.status_reason}")
    return await get_position(desk, held.id)


def _report_of(fill: FillReport) -> OrderReport:
    """The report of an execution alone."""
    status = TradeStatus.PARTIALLY_FILLED
    return OrderReport(fill.account_id, fill.client_order_id, None, status, fill.executed_at, fills=(fill,))


def _not_filled(trade: Trade) -> VenueError | ConflictError:
    if trade.status is TradeStatus.REJECTED:
        return VenueError(f"the order for {trade.symbol} was rejected: {trade.status_reason}")
    return ConflictError(
        f"the order for {trade.symbol} is {trade.status} and nothing of it is filled yet; see trade {trade.id}"
    )
