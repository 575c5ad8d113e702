"""Positions: what a line holds and held, which lines hold an instrument, and marks of many at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import PositionStatus
from oltp.entities.trading import Account, Fill, Position, Settlement, Trade
from oltp.server.engine import one
from oltp.statements.base import made, table_of
from oltp.statements.lines import ACCOUNT, INSTRUMENT, LineKey, on_line
from oltp.statements.prepared import Prepared, among

_POSITIONS, _ACCOUNTS = table_of(Position), table_of(Account)
_FILLS, _TRADES, _SETTLEMENTS = table_of(Fill), table_of(Trade), table_of(Settlement)
_HELD, _OTHER = _POSITIONS.alias("held"), _POSITIONS.alias("other")
_OPEN = among(PositionStatus.OPEN, PositionStatus.PARTIALLY_CLOSED)
_ONE = sa.literal(1, literal_execute=True)
_TIME = sa.DateTime(timezone=True)


@dataclass(frozen=True, slots=True)
class LineEnd:
    """What a line holds now, and what comes last on it: the newest execution that stands, and the last settlement."""

    position: Position | None
    executed_at: datetime | None
    execution_id: str | None
    settled_at: datetime | None


def _line_end() -> Prepared:
    # The order's line is looked up for one fill after the other, the newest first: joined, the planner would read and
    # sort every fill of the instrument that the account ever had. Which of one instant is last, a second look tells.
    columns = _FILLS.c
    of_line = sa.select(on_line(_TRADES)).where(_TRADES.c.id == columns.trade_id).correlate(_FILLS).scalar_subquery()
    stands = sa.and_(columns.account_id == ACCOUNT, columns.instrument_id == INSTRUMENT, columns.busted_at.is_(None))
    newest = sa.select(columns.executed_at).where(stands, of_line).order_by(columns.executed_at.desc()).limit(_ONE)
    newest_at = newest.scalar_subquery()
    last = (
        sa.select(columns.executed_at, sa.func.max(columns.execution_id.collate("C")).label("execution_id"))
        .where(stands, of_line, columns.executed_at == newest_at)
        .group_by(columns.executed_at)
        .subquery("last")
    )
    # Settlements of another strategy may be among these, which costs a fold in vain.
    settled = (
        sa.select(_SETTLEMENTS.c.occurred_at)
        .where(_SETTLEMENTS.c.account_id == ACCOUNT, _SETTLEMENTS.c.instrument_id == INSTRUMENT)
        .order_by(_SETTLEMENTS.c.occurred_at.desc())
        .limit(_ONE)
        .subquery("settled")
    )
    always = sa.select(sa.literal(1).label("one")).subquery("always")
    is_open = sa.and_(on_line(_HELD), _HELD.c.status.in_(_OPEN))
    return Prepared(
        sa.select(_HELD, last.c.executed_at, last.c.execution_id, settled.c.occurred_at).select_from(
            always.outerjoin(_HELD, is_open).outerjoin(last, sa.true()).outerjoin(settled, sa.true())
        )
    )


_LINE_END = _line_end()


def line_end(connection: sa.Connection, line: LineKey) -> LineEnd:
    """What the line holds and what comes last on it; the line must be locked."""
    row = one(_LINE_END.row(connection, line.given()))
    return LineEnd(None if row[0] is None else made(Position, row), *row[len(_POSITIONS.c) :])


def _last_flat() -> Prepared:
    columns = _OTHER.c
    is_open_then = sa.exists().where(
        on_line(_OTHER),
        columns.status != PositionStatus.CANCELLED,
        columns.id != _HELD.c.id,
        columns.opened_at <= _HELD.c.closed_at,
        sa.or_(columns.closed_at.is_(None), columns.closed_at > _HELD.c.closed_at),
    )
    return Prepared(
        sa.select(sa.func.max(_HELD.c.closed_at)).where(
            on_line(_HELD),
            _HELD.c.status == PositionStatus.CLOSED,
            _HELD.c.closed_at < sa.bindparam("since", type_=_TIME),
            sa.not_(is_open_then),
        )
    )


_LAST_FLAT = _last_flat()


def last_flat(connection: sa.Connection, line: LineKey, since: datetime) -> datetime | None:
    """The last time before `since` at which the line held nothing, and after which nothing was opened at that time."""
    (flat,) = one(_LAST_FLAT.row(connection, line.given() | {"since": since}))
    return cast("datetime | None", flat)


_FLAT = sa.bindparam("flat", type_=_TIME)
_SINCE = Prepared(
    sa.select(_HELD)
    .where(
        on_line(_HELD),
        _HELD.c.status != PositionStatus.CANCELLED,
        sa.or_(_HELD.c.closed_at.is_(None), _FLAT.is_(None), _HELD.c.closed_at > _FLAT),
    )
    .order_by(_HELD.c.id)
    .with_for_update()
)


def held_since(connection: sa.Connection, line: LineKey, flat: datetime | None) -> dict[UUID, Position]:
    """The positions of the line that held something after `flat`, by id, locked."""
    rows = _SINCE.rows(connection, line.given() | {"flat": flat})
    return {position.id: position for position in (made(Position, row) for row in rows)}


_LINE = ("account_id", "strategy_id", "instrument_id", "symbol", "asset_id", "option_contract_id", "outcome_id")
_OF_LINE = (*_LINE, "polymarket_event_id", "multiplier")


def lines_holding(
    connection: sa.Connection, instruments: Sequence[int], *, since: datetime | None, account_id: UUID | None
) -> list[dict[str, Any]]:
    """What names each line, of one account or of all, that held one of the instruments then or later.

    In one order for all who lock several: instrument, account, strategy. `currency` is the account's.
    """
    columns = _HELD.c
    wanted = (
        sa.select(*(columns[name] for name in _OF_LINE), _ACCOUNTS.c.base_currency.label("currency"))
        .join(_ACCOUNTS, _ACCOUNTS.c.id == columns.account_id)
        .where(
            columns.instrument_id.in_(instruments),
            sa.not_(columns.is_deleted),
            columns.status != PositionStatus.CANCELLED,
            sa.or_(columns.closed_at.is_(None), columns.closed_at >= since),
        )
        .distinct()
        .order_by(columns.instrument_id, columns.account_id, columns.strategy_id)
    )
    if account_id is not None:
        wanted = wanted.where(columns.account_id == account_id)
    return [dict(row._mapping) for row in connection.execute(wanted)]


_IDS = sa.bindparam("ids", type_=sa.ARRAY(sa.Uuid()))
_STILL_OPEN = sa.and_(
    _POSITIONS.c.id == sa.func.any(_IDS), _POSITIONS.c.remaining_quantity > 0, sa.not_(_POSITIONS.c.is_deleted)
)
_AMONG = Prepared(sa.select(_POSITIONS).where(_STILL_OPEN).order_by(_POSITIONS.c.id))


def _mark() -> Prepared:
    # Locked in the order of ids, so that two of these never wait for each other; a later mark stays.
    locked = sa.select(_POSITIONS.c.id).where(_STILL_OPEN).order_by(_POSITIONS.c.id).with_for_update().cte("locked")
    price, at = _POSITIONS.c.current_price.type, sa.bindparam("at", type_=_TIME)
    given = (
        sa.func.unnest(
            sa.bindparam("instruments", type_=sa.ARRAY(sa.BigInteger())), sa.bindparam("marks", type_=sa.ARRAY(price))
        )
        .table_valued(sa.column("instrument_id", sa.BigInteger()), sa.column("mark", price), name="given")
        .render_derived()
    )
    return Prepared(
        sa.update(_POSITIONS)
        .where(
            _POSITIONS.c.id == locked.c.id,
            _POSITIONS.c.instrument_id == given.c.instrument_id,
            sa.or_(_POSITIONS.c.marked_at.is_(None), _POSITIONS.c.marked_at <= at),
        )
        .values(
            current_price=given.c.mark,
            marked_at=at,
            updated_at=sa.func.clock_timestamp(),
            row_version=_POSITIONS.c.row_version + 1,
        )
    )


_MARK = _mark()


def mark(
    connection: sa.Connection, positions: Sequence[UUID], marks: Mapping[int, Decimal], at: datetime
) -> list[Position]:
    """Those of the positions that are still open, by id, marked at the price of their instrument unless a later mark is
    known; one whose instrument has no price keeps its mark.
    """
    ids = {"ids": list(positions)}
    _MARK.count(connection, ids | {"instruments": list(marks), "marks": list(marks.values()), "at": at})
    return [made(Position, row) for row in _AMONG.rows(connection, ids)]
