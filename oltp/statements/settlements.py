"""Settlements of a line, by the event that they settle."""

from collections import defaultdict
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from oltp.entities.trading import Position, Settlement
from oltp.statements.base import made, table_of
from oltp.statements.lines import LineKey, on_line
from oltp.statements.prepared import Prepared

_SETTLEMENTS, _HELD = table_of(Settlement), table_of(Position).alias("held")
_FLAT = sa.bindparam("flat", type_=sa.DateTime(timezone=True))
_ON_LINE = Prepared(
    sa.select(_SETTLEMENTS)
    .join(_HELD, _HELD.c.id == _SETTLEMENTS.c.position_id)
    .where(
        on_line(_HELD),
        _SETTLEMENTS.c.account_id == _HELD.c.account_id,
        _SETTLEMENTS.c.instrument_id == _HELD.c.instrument_id,
        sa.or_(_FLAT.is_(None), _SETTLEMENTS.c.occurred_at > _FLAT),
    )
    .order_by(_SETTLEMENTS.c.id)
)
_BOOKED = Prepared(
    sa.select(_SETTLEMENTS.c.id).where(
        _SETTLEMENTS.c.position_id == sa.bindparam("position_id", type_=sa.Uuid()),
        _SETTLEMENTS.c.event == sa.bindparam("event", type_=sa.String()),
    )
)


def on_line_since(connection: sa.Connection, line: LineKey, flat: datetime | None) -> dict[str, list[Settlement]]:
    """The settlements of the line after `flat`, by event, in the order they were booked."""
    by_event: dict[str, list[Settlement]] = defaultdict(list)
    for row in _ON_LINE.rows(connection, line.given() | {"flat": flat}):
        settlement = made(Settlement, row)
        by_event[settlement.event].append(settlement)
    return dict(by_event)


def is_booked(connection: sa.Connection, position_id: UUID, event: str) -> bool:
    """Whether the event has settled something of the position."""
    return _BOOKED.row(connection, {"position_id": position_id, "event": event}) is not None
