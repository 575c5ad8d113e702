"""Executions: by the venue's id of them, of a trade, and those that stand on a line."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from medalion.core.time import TimeRange
from oltp.entities.trading import Fill, Trade
from oltp.statements.base import made, table_of
from oltp.statements.lines import LineKey, on_line
from oltp.statements.prepared import Prepared

_FILLS, _TRADES = table_of(Fill), table_of(Trade)
_KNOWN = Prepared(
    sa.select(_FILLS).where(
        _FILLS.c.venue == sa.bindparam("venue", type_=sa.String()),
        _FILLS.c.execution_id == sa.func.any(sa.bindparam("executions", type_=sa.ARRAY(sa.String()))),
    )
)
_FLAT = sa.bindparam("flat", type_=sa.DateTime(timezone=True))
# `metadata` is what the order carried along: the stop and target of a position that it opens.
_ON_LINE = Prepared(
    sa.select(_FILLS, _TRADES.c.metadata["risk"].label("risk"))
    .join(_TRADES, _TRADES.c.id == _FILLS.c.trade_id)
    .where(
        on_line(_TRADES),
        _FILLS.c.account_id == _TRADES.c.account_id,
        _FILLS.c.instrument_id == _TRADES.c.instrument_id,
        _FILLS.c.busted_at.is_(None),
        sa.not_(_FILLS.c.is_deleted),
        sa.or_(_FLAT.is_(None), _FILLS.c.executed_at > _FLAT),
    )
)


def known(connection: sa.Connection, venue: str, executions: Sequence[str]) -> dict[str, Fill]:
    """Those of the executions that are booked, undone ones too, by the venue's id."""
    rows = _KNOWN.rows(connection, {"venue": venue, "executions": list(executions)})
    return {fill.execution_id: fill for fill in (made(Fill, row) for row in rows)}


def find(connection: sa.Connection, venue: str, execution_id: str) -> Fill | None:
    """The execution, undone or not; None if it is not booked."""
    return known(connection, venue, [execution_id]).get(execution_id)


def times_of(connection: sa.Connection, trade_id: UUID, *, without: UUID) -> list[datetime]:
    """When the executions of a trade that stand happened, but for one."""
    columns = _FILLS.c
    standing = sa.select(columns.executed_at).where(
        columns.trade_id == trade_id, columns.id != without, columns.busted_at.is_(None), sa.not_(columns.is_deleted)
    )
    return list(connection.scalars(standing))


def on_line_since(
    connection: sa.Connection, line: LineKey, flat: datetime | None
) -> dict[str, tuple[Fill, dict[str, Any] | None]]:
    """The executions of the line after `flat` that stand, by the venue's id, each with the risk of its order."""
    rows = _ON_LINE.rows(connection, line.given() | {"flat": flat})
    width = len(_FILLS.c)
    made_of = ((made(Fill, row), row[width]) for row in rows)
    return {fill.execution_id: (fill, risk) for fill, risk in made_of}


def of_account(connection: sa.Connection, account_id: UUID, during: TimeRange) -> list[dict[str, Any]]:
    """The executions of the account in the range that stand, with the symbol, oldest first."""
    columns = _FILLS.c
    wanted = (
        sa.select(
            columns.executed_at, _TRADES.c.symbol, columns.side, columns.quantity, columns.price, columns.commission
        )
        .join(_TRADES, _TRADES.c.id == columns.trade_id)
        .where(columns.account_id == account_id, columns.busted_at.is_(None), sa.not_(columns.is_deleted))
        .order_by(columns.executed_at, _TRADES.c.symbol)
    )
    if during.start is not None:
        wanted = wanted.where(columns.executed_at >= during.start)
    if during.end is not None:
        wanted = wanted.where(columns.executed_at < during.end)
    return [dict(row._mapping) for row in connection.execute(wanted)]
