"""A venue's report in the books: the trade's status, the fills, the positions they lead to and the cash that moves.

Whoever books holds the trade and its line (see `medalion.positions.line`), in this order. A mark that is set meanwhile
is noticed by the position's version, and all is done again. An execution that is later than all
that is booked on the line takes its open position on; any other, and one that is undone, has the line folded again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import CashMovementType
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.core.money import ZERO, exact
from medalion.market.quotes import Look
from medalion.positions.holding import value_of
from medalion.positions.line import FOLDED, Line, advance, holding_of
from medalion.positions.refold import refold
from medalion.positions.round_trips import Execution
from medalion.venues.base import FillReport, OrderReport
from medalion.venues.states import after_bust, after_report
from oltp.entities.base import uuid7
from oltp.entities.trading import CashMovement, Fill, Position, Trade
from oltp.statements import fills, positions, trades
from oltp.statements.base import insert, update
from oltp.statements.bookings import book
from oltp.statements.positions import LineEnd

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
_REPLACED_BY = "replaced_by"
"""Where an execution has the id of the one that stands in its place."""


@dataclass(slots=True)
class _Books:
    """What of the books a report is booked against, all locked."""

    trade: Trade
    line: Line
    known: dict[str, Fill]
    end: LineEnd

    def is_late(self, fill: FillReport) -> bool:
        """Whether something of the line that is booked already comes after the execution."""
        last, settled = self.end.executed_at, self.end.settled_at
        is_behind = last is not None and (fill.executed_at, fill.execution_id) < (last, self.end.execution_id or "")
        return is_behind or (settled is not None and fill.executed_at < settled)


def record(
    connection: sa.Connection,
    report: OrderReport,
    looks: Mapping[str, Look],
    *,
    overfill: bool = False,
    replaced: Fill | None = None,
) -> Trade:
    """The trade once the report is booked: each execution once, however often it is reported.

    `looks` has what the market showed at each execution, by execution id. With `overfill`, more may be filled than was
    ordered. `replaced` is an execution that was undone just now and in whose place the report's stands.

    Raises:
        NotFoundError: no trade has the report's client order id.
        InputError: a fill that the arithmetic refuses, or one with a negative commission.
        ConflictError: the report contradicts the books.
    """
    venue = report.fills[0].venue if report.fills else ""
    executions = [fill.execution_id for fill in report.fills]
    books = _locked(connection, report.account_id, report.client_order_id, venue, executions)
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
        if (view := looks.get(fill.execution_id)) is not None:
            trade.alpaca_market_data_snapshot = _with_fill(trade.alpaca_market_data_snapshot, view.alpaca)
            trade.polymarket_data_snapshot = _with_fill(trade.polymarket_data_snapshot, view.polymarket)
    if replaced is not None or (new and books.is_late(new[0])):
        _book_late(connection, books, new, looks, replaced)
    else:
        _book(connection, books, new, looks)
    return trade


def bust(connection: sa.Connection, venue: str, execution_id: str, at: datetime) -> Trade:
    """The trade once one of its executions is undone, as if it had never been; undone before, nothing changes.

    Cash is paid back at `at`; positions are folded again without the execution.

    Raises:
        NotFoundError: no such execution is booked.
    """
    books, undone = _undo(connection, venue, execution_id, at)
    if undone is not None:
        refold(connection, books.line, undone.executed_at)
    return books.trade


def correct(
    connection: sa.Connection, execution_id: str, report: OrderReport, looks: Mapping[str, Look], at: datetime
) -> Trade:
    """The trade once an execution is undone and the report's stands in its place; raises as `bust` and `record`, and:

    Raises:
        ConflictError: the report's is of another order or is itself undone, or another has replaced the execution.
    """
    (fill,) = report.fills
    books, undone = _undo(connection, fill.venue, execution_id, at)
    trade, replaced = books.trade, books.known[execution_id]
    if (report.account_id, report.client_order_id) != (trade.account_id, trade.client_order_id):
        raise ConflictError(
            f"execution {execution_id} is of order {trade.client_order_id!r}, and {fill.execution_id}, which is to "
            f"replace it, of {report.client_order_id!r}; a correction is of the same order and account"
        )
    known = fills.find(connection, fill.venue, fill.execution_id)
    by = (replaced.extra or {}).get(_REPLACED_BY)
    if by not in (None, fill.execution_id):
        raise ConflictError(
            f"execution {execution_id} was replaced by {by} before, and not by {fill.execution_id}; give the one that "
            "stands, or record what stands too by itself"
        )
    if known is not None and known.busted_at is not None:
        raise ConflictError(f"execution {fill.execution_id}, which is to replace {execution_id}, is itself undone")
    if by is None:
        replaced.extra = {**(replaced.extra or {}), _REPLACED_BY: fill.execution_id}
        update(connection, [replaced], "extra")
    return record(connection, report, looks, replaced=undone)


def _undo(connection: sa.Connection, venue: str, execution_id: str, at: datetime) -> tuple[_Books, Fill | None]:
    """The books once trade and cash are without the execution, and the execution; None if it was undone before."""
    found = fills.find(connection, venue, execution_id)
    if found is None:
        raise NotFoundError(f"execution of {venue}", execution_id)
    order = trades.by_id(connection, found.trade_id)
    books = _locked(connection, order.account_id, order.client_order_id, venue, [execution_id])
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
    standing = fills.times_of(connection, trade.id, without=fill.id)
    trade.executed_at = max(standing, default=None)
    trade.position_id = trade.position_id if standing else None
    back = _cash(books.line, fill)
    for movement in back:
        movement.amount, movement.occurred_at, movement.note = -movement.amount, at, "undone"
    update(connection, [fill], "busted_at", "realized_pnl")
    insert(connection, back)
    update(connection, [trade], *_BOOKED)
    return books, fill


def position_after(connection: sa.Connection, fill: FillReport) -> UUID:
    """The position that a booked execution led to: where it crossed zero, the one it opened."""
    booked = fills.find(connection, fill.venue, fill.execution_id)
    if booked is None or booked.extra is None:
        raise NotFoundError("fill", fill.execution_id)
    return UUID(booked.extra["positions"][-1])


def _locked(
    connection: sa.Connection,
    account_id: UUID,
    client_order_id: str,
    venue: str = "",
    executions: Sequence[str] = (),
) -> _Books:
    """The trade and its line, each read after it was locked, and those of the executions that are booked."""
    found = trades.locked(connection, account_id, client_order_id)
    if found is None:
        raise NotFoundError("trade with client order id", client_order_id, hint=f"in account {account_id}")
    trade, currency = found
    line = Line.of(trade, currency)
    # Of a trade that is as it was placed nothing is booked.
    known = fills.known(connection, venue, executions) if executions and trade.row_version > 1 else {}
    return _Books(trade, line, known, positions.line_end(connection, line.key))


def _book(connection: sa.Connection, books: _Books, reported: Sequence[FillReport], looks: Mapping[str, Look]) -> None:
    """Each fill takes the open position of the line on, or opens one."""
    trade, position = books.trade, books.end.position
    stored = set() if position is None else {position.id}
    changed: dict[UUID, Position] = {}
    booked: list[Fill] = []
    for fill in reported:
        entry, view, steps, led = Execution.of(fill), looks.get(fill.execution_id), [], []
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
        booked.append(_fill(trade, fill, realized, led))
    # One by one in the order of their opening: a position is closed before the next opens.
    *earlier, last = changed.values() if changed else (None,)
    for held in earlier:
        if held.id in stored:
            update(connection, [held], *FOLDED)
        else:
            insert(connection, [held])
    is_stored = last is not None and last.id in stored
    book(
        connection,
        trade,
        _BOOKED,
        fills=booked,
        movements=_moved(books.line, booked),
        opened=[] if last is None or is_stored else [last],
        changed=(last, FOLDED) if last is not None and is_stored else None,
    )


def _book_late(
    connection: sa.Connection,
    books: _Books,
    reported: Sequence[FillReport],
    looks: Mapping[str, Look],
    replaced: Fill | None,
) -> None:
    """The fills as they are, and then the positions of the line anew; what is replaced led to the same positions."""
    led = [] if replaced is None else (replaced.extra or {})["positions"]
    booked = [_fill(books.trade, fill, ZERO, led) for fill in reported]
    book(connection, books.trade, _BOOKED, fills=booked, movements=_moved(books.line, booked))
    since = [fill.executed_at for fill in reported] + ([] if replaced is None else [replaced.executed_at])
    folded = refold(connection, books.line, min(since), views=looks)
    if books.trade.position_id is None and reported:
        books.trade.position_id = folded.led[reported[0].execution_id][0].id


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


def _moved(line: Line, booked: Sequence[Fill]) -> list[CashMovement]:
    return [movement for fill in booked for movement in _cash(line, fill)]


def _cash(line: Line, fill: Fill) -> list[CashMovement]:
    """What was paid or received, and apart from it the commission."""
    amounts = {CashMovementType.TRADE: -value_of(fill.quantity * fill.side.sign, fill.price, line.multiplier)}
    if fill.commission:
        amounts[CashMovementType.COMMISSION] = -fill.commission
    return [
        line.moved(kind, amount, fill.executed_at, trade_id=fill.trade_id, fill_id=fill.id)
        for kind, amount in amounts.items()
    ]


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
