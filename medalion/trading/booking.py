"""A venue's report in the books: the trade's status, the fills, the positions they lead to and the cash that moves.

Whoever books holds the trade and its line (see `medalion.positions.line`), in this order. A mark that is set meanwhile
is noticed by the position's version, and all is done again. An execution that is later than all
that is booked on the line takes its open position on; any other, and one that is undone, has the line folded again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from medalion.core.enums import CashMovementType
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.core.money import ZERO, exact
from medalion.market.quotes import MarketView
from medalion.positions.holding import value_of
from medalion.positions.line import FOLDED, LOCK, Line, advance, holding_of
from medalion.positions.refold import ON_LINE, refold
from medalion.positions.round_trips import Execution
from medalion.venues.base import FillReport, OrderReport
from medalion.venues.states import after_bust, after_report
from oltp.entities.base import uuid7
from oltp.entities.trading import CashMovement, Fill, Position, Trade
from oltp.repositories.rows import Row, Statement, rows_of, run, run_together
from oltp.repositories.unit_of_work import UnitOfWork

_BOOKED = (
    "status",
    "status_reason",
    "external_trade_id",
    "submitted_at",
    "executed_at",
    "filled_quantity",
    "filled_value",
    "commission",
    "position_id",
    "alpaca_market_data_snapshot",
    "polymarket_data_snapshot",
)
"""What of a trade its venue's reports decide."""

_ORDERED = "trades.account_id = %(account)s AND trades.client_order_id = %(order)s AND NOT trades.is_deleted"
_LOCK = LOCK.format(account="trades.account_id", instrument="trades.instrument_id", strategy="trades.strategy_id")
_TRADE = f"""
    SELECT trades.*, accounts.base_currency AS currency, {_LOCK} FROM trades
    JOIN accounts ON accounts.id = trades.account_id WHERE {_ORDERED} FOR UPDATE OF trades
"""
_ON_ITS_LINE = ON_LINE.replace("%(account)s", "trades.account_id").replace("%(instrument)s", "trades.instrument_id")
_ON_ITS_LINE = _ON_ITS_LINE.replace("%(strategy)s::uuid", "trades.strategy_id")
_KNOWN = "SELECT * FROM fills WHERE venue = %(venue)s AND execution_id = ANY(%(executions)s)"
# Its open position, if any, and what comes last on it. Settlements of another strategy may be among those, which costs
# a fold in vain.
_HELD = f"""
    SELECT held.*, last.at AS last_at, last.execution_id AS last_execution_id, settled.at AS settled_at
    FROM trades
    LEFT JOIN positions AS held
        ON {_ON_ITS_LINE.format("held")} AND held.status IN ('open', 'partially_closed')
    LEFT JOIN LATERAL (
        SELECT fills.executed_at AS at, fills.execution_id
        FROM fills JOIN trades AS other ON other.id = fills.trade_id AND {_ON_ITS_LINE.format("other")}
        WHERE fills.account_id = trades.account_id AND fills.instrument_id = trades.instrument_id
          AND fills.busted_at IS NULL
        ORDER BY fills.executed_at DESC, fills.execution_id COLLATE "C" DESC LIMIT 1
    ) AS last ON true
    LEFT JOIN LATERAL (
        SELECT settlements.occurred_at AS at FROM settlements
        WHERE settlements.account_id = trades.account_id AND settlements.instrument_id = trades.instrument_id
        ORDER BY settlements.occurred_at DESC LIMIT 1
    ) AS settled ON true
    WHERE {_ORDERED}
"""


@dataclass(slots=True)
class _Books:
    """What of the books a report is booked against, all locked."""

    trade: Trade
    line: Line
    position: Position | None
    known: dict[str, Fill]
    last: Row

    def is_late(self, fill: FillReport) -> bool:
        """Whether something of the line that is booked already comes after the execution."""
        last, settled = self.last["last_at"], self.last["settled_at"]
        is_behind = last is not None and (fill.executed_at, fill.execution_id) < (last, self.last["last_execution_id"])
        return is_behind or (settled is not None and fill.executed_at < settled)


async def record(
    unit: UnitOfWork,
    report: OrderReport,
    views: dict[str, MarketView],
    *,
    overfill: bool = False,
    replaced: Fill | None = None,
) -> Trade:
    """The trade once the report is booked: each execution once, however often it is reported.

    `views` has what the market showed at each execution, by execution id. With `overfill`, more may be filled than was
    ordered. `replaced` is an execution that was undone just now and in whose place the report's stands.

    Raises:
        NotFoundError: no trade has the report's client order id.
        InputError: a fill that the arithmetic refuses, or one with a negative commission.
        ConflictError: the report contradicts the books.
    """
    venue = report.fills[0].venue if report.fills else ""
    executions = [fill.execution_id for fill in report.fills]
    books = await _locked(unit, report.account_id, report.client_order_id, venue, executions)
    trade = books.trade
    new = []
    for fill in report.fills:
        if fill.execution_id in books.known:
            _check_same(books.known[fill.execution_id], fill, trade)
        else:
            _check(fill, trade)
            new.append(fill)
    new.sort(key=lambda fill: (fill.executed_at, fill.execution_id))
    with exact():
        for fill in new:
            trade.filled_quantity += fill.quantity
            trade.filled_value += value_of(fill.quantity, fill.price, trade.multiplier)
            trade.commission += fill.commission
    ordered = max(trade.quantity, trade.filled_quantity) if overfill else trade.quantity
    status = after_report(trade.status, report.status, ordered=ordered, filled=trade.filled_quantity)
    was = trade.status, trade.external_trade_id
    if report.venue_order_id is not None and trade.external_trade_id is None:
        trade.external_trade_id, trade.submitted_at = report.venue_order_id, report.at
    if status is not trade.status:
        trade.status, trade.status_reason = status, report.reason
    if not new and was == (trade.status, trade.external_trade_id):
        return trade
    for fill in new:
        trade.executed_at = max(trade.executed_at or fill.executed_at, fill.executed_at)
        if (view := views.get(fill.execution_id)) is not None:
            trade.alpaca_market_data_snapshot = _with_fill(trade.alpaca_market_data_snapshot, view.alpaca)
            trade.polymarket_data_snapshot = _with_fill(trade.polymarket_data_snapshot, view.polymarket)
    if replaced is not None or (new and books.is_late(new[0])):
        await _book_late(unit, books, new, views, replaced)
    else:
        await _book(unit, books, new, views)
    return trade


async def bust(unit: UnitOfWork, venue: str, execution_id: str, at: datetime) -> Trade:
    """The trade once one of its executions is undone, as if it had never been; undone before, nothing changes.

    Cash is paid back at `at`; positions are folded again without the execution.

    Raises:
        NotFoundError: no such execution is booked.
    """
    books, undone = await _undo(unit, venue, execution_id, at)
    if undone is not None:
        await refold(unit, books.line, undone.executed_at)
    return books.trade


async def correct(
    unit: UnitOfWork, execution_id: str, report: OrderReport, views: dict[str, MarketView], at: datetime
) -> Trade:
    """The trade once an execution is undone and the report's stands in its place; raises as `bust` and `record`."""
    _, undone = await _undo(unit, report.fills[0].venue, execution_id, at)
    return await record(unit, report, views, replaced=undone)


async def _undo(unit: UnitOfWork, venue: str, execution_id: str, at: datetime) -> tuple[_Books, Fill | None]:
    """The books once trade and cash are without the execution, and the execution; None if it was undone before."""
    found = await unit.fills.first(venue=venue, execution_id=execution_id)
    if found is None:
        raise NotFoundError(f"execution of {venue}", execution_id)
    order = await unit.trades.get(found.trade_id)
    books = await _locked(unit, order.account_id, order.client_order_id, venue, [execution_id])
    trade, fill = books.trade, books.known[execution_id]
    if fill.busted_at is not None:
        return books, None
    fill.busted_at, fill.realized_pnl = at, ZERO
    with exact():
        trade.filled_quantity -= fill.quantity
        trade.filled_value -= value_of(fill.quantity, fill.price, trade.multiplier)
        trade.commission -= fill.commission
    status = after_bust(trade.status, filled=trade.filled_quantity)
    if status is not trade.status:
        trade.status, trade.status_reason = status, f"{venue} undid execution {execution_id}"
    standing = await unit.fills.find(Fill.id != fill.id, Fill.busted_at.is_(None), trade_id=trade.id)
    trade.executed_at = max((other.executed_at for other in standing), default=None)
    trade.position_id = trade.position_id if standing else None
    back = _cash(books.line, fill)
    for movement in back:
        movement.amount, movement.occurred_at, movement.note = -movement.amount, at, "undone"
    await run_together(
        unit.session,
        rows_of(Fill).change(fill, "busted_at", "realized_pnl"),
        *(_insertion(movement) for movement in back),
        rows_of(Trade).change(trade, *_BOOKED),
    )
    return books, fill


async def position_after(unit: UnitOfWork, fill: FillReport) -> UUID:
    """The position that a booked execution led to: where it crossed zero, the one it opened."""
    booked = await unit.fills.first(venue=fill.venue, execution_id=fill.execution_id)
    if booked is None or booked.extra is None:
        raise NotFoundError("fill", fill.execution_id)
    return UUID(booked.extra["positions"][-1])


async def _locked(
    unit: UnitOfWork, account_id: UUID, client_order_id: str, venue: str = "", executions: Sequence[str] = ()
) -> _Books:
    """The trade and, if there are executions to book, its line; in one round trip, each statement after the locks."""
    order = {"account": account_id, "order": client_order_id}
    reads = [Statement(_TRADE, order), Statement(_HELD, order)]
    if executions:
        reads.append(Statement(_KNOWN, {"venue": venue, "executions": list(executions)}))
    (found, held, *booked) = await run(unit.session, *reads)
    if not found:
        raise NotFoundError("trade with client order id", client_order_id, hint=f"in account {account_id}")
    trade, now = rows_of(Trade).made(found[0]), held[0]
    position = None if now["id"] is None else rows_of(Position).made(now)
    known = {row["execution_id"]: rows_of(Fill).made(row) for rows in booked for row in rows}
    return _Books(trade, Line.of(trade, found[0]["currency"]), position, known, now)


async def _book(unit: UnitOfWork, books: _Books, fills: Sequence[FillReport], views: dict[str, MarketView]) -> None:
    """Each fill takes the open position of the line on, or opens one."""
    trade, position = books.trade, books.position
    stored = set() if position is None else {position.id}
    changed: dict[UUID, Position] = {}
    added: list[Fill | CashMovement] = []
    for fill in fills:
        entry, view, steps, led = _execution(fill), views.get(fill.execution_id), [], []
        for step in entry.applied(holding_of(position, trade.multiplier)):
            if position is None:
                position = books.line.opened(entry, step, (trade.extra or {}).get("risk"), view)
            advance(position, entry, step, view)
            changed[position.id] = position
            steps.append(step)
            led.append(position.id)
            position = None if step.closes else position
        with exact():
            realized = sum((step.realized_pnl for step in steps), ZERO)
        trade.position_id = trade.position_id or led[0]
        booked = _fill(trade, fill, realized, led)
        added += [booked, *_cash(books.line, booked)]
    rows = rows_of(Position)
    held = [rows.change(each, *FOLDED) if each.id in stored else rows.insertion(each) for each in changed.values()]
    # One by one in the order of their opening: a position is closed before the next opens.
    for statement in held[:-1]:
        await run(unit.session, statement)
    entries = [_insertion(row) for row in added]
    await run_together(unit.session, *held[-1:], *entries, rows_of(Trade).change(trade, *_BOOKED))


async def _book_late(
    unit: UnitOfWork,
    books: _Books,
    fills: Sequence[FillReport],
    views: dict[str, MarketView],
    replaced: Fill | None,
) -> None:
    """The fills as they are, and then the positions of the line anew; what is replaced led to the same positions."""
    led = [] if replaced is None else (replaced.extra or {})["positions"]
    added: list[Fill | CashMovement] = []
    for fill in fills:
        booked = _fill(books.trade, fill, ZERO, led)
        added += [booked, *_cash(books.line, booked)]
    entries = [_insertion(row) for row in added]
    await run_together(unit.session, *entries, rows_of(Trade).change(books.trade, *_BOOKED))
    since = [fill.executed_at for fill in fills] + ([] if replaced is None else [replaced.executed_at])
    folded = await refold(unit, books.line, min(since), views=views)
    if books.trade.position_id is None and fills:
        books.trade.position_id = folded.led[fills[0].execution_id][0].id


def _execution(fill: FillReport) -> Execution:
    return Execution(fill.executed_at, fill.execution_id, fill.side, fill.quantity, fill.price, fill.commission)


def _fill(trade: Trade, fill: FillReport, realized: Decimal, positions: Sequence[UUID | str]) -> Fill:
    return Fill(
        id=uuid7(),
        trade_id=trade.id,
        account_id=trade.account_id,
        instrument_id=trade.instrument_id,
        venue=fill.venue,
        execution_id=fill.execution_id,
        side=fill.side,
        quantity=fill.quantity,
        price=fill.price,
        commission=fill.commission,
        realized_pnl=realized,
        executed_at=fill.executed_at,
        extra={"positions": positions},
    )


def _cash(line: Line, fill: Fill) -> list[CashMovement]:
    """What was paid or received, and apart from it the commission."""
    amounts = {CashMovementType.TRADE: -value_of(fill.quantity * fill.side.sign, fill.price, line.multiplier)}
    if fill.commission:
        amounts[CashMovementType.COMMISSION] = -fill.commission
    return [
        line.moved(kind, amount, fill.executed_at, trade_id=fill.trade_id, fill_id=fill.id)
        for kind, amount in amounts.items()
    ]


def _insertion(row: Fill | CashMovement) -> Statement:
    return rows_of(Fill).insertion(row) if isinstance(row, Fill) else rows_of(CashMovement).insertion(row)


def _check(fill: FillReport, trade: Trade) -> None:
    if fill.side is not trade.side:
        raise ConflictError(f"{fill.venue} reports a {fill.side} for {trade.side} order {trade.client_order_id!r}")
    if fill.commission < 0:
        raise InputError(
            f"commission {fill.commission} of execution {fill.execution_id} is negative; give what it cost, 0 or more",
            given=fill.commission,
            expected=">= 0",
        )


def _check_same(booked: Fill, fill: FillReport, trade: Trade) -> None:
    was = (booked.trade_id, booked.side, booked.quantity, booked.price, booked.commission)
    if was != (trade.id, fill.side, fill.quantity, fill.price, fill.commission):
        raise ConflictError(
            f"{fill.venue} reports execution {fill.execution_id} again, as {fill.side} {fill.quantity} at {fill.price} "
            f"of {trade.client_order_id!r}; booked is {booked.side} {booked.quantity} at {booked.price}"
        )


def _with_fill(snapshot: dict[str, object] | None, seen: dict[str, object] | None) -> dict[str, object] | None:
    return snapshot if seen is None else {**(snapshot or {}), "fill": seen}
