"""What a venue's report changes: the position it leads to, its executions, the cash they moved, and the trade."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from oltp.entities.base import Base
from oltp.entities.trading import CashMovement, Fill, Position, Trade
from oltp.statements.base import change_of, changing, check_changed, insertion, insertion_of, table_of
from oltp.statements.prepared import Prepared


def book(
    connection: sa.Connection,
    trade: Trade,
    attributes: tuple[str, ...],
    *,
    fills: Sequence[Fill],
    movements: Sequence[CashMovement],
    opened: Sequence[Position] = (),
    changed: tuple[Position, tuple[str, ...]] | None = None,
) -> None:
    """Store executions and the cash they moved, however many, these attributes of the trade, and the position they led
    to: one that they opened, or what of a stored one they changed. One statement, since each costs a round trip.

    Raises:
        ConflictError: trade or position are not as they were read, or an execution is booked already.
    """
    added: tuple[tuple[type[Base], Sequence[Any]], ...] = ((Position, opened), (Fill, fills), (CashMovement, movements))
    given = change_of(trade, *attributes)
    for kind, entities in added:
        given |= insertion_of(kind, entities) if entities else {}
    if changed is not None:
        given |= change_of(changed[0], *changed[1])
    shape = tuple((kind, len(entities) == 1) for kind, entities in added if entities)
    statement = _booking(attributes, shape, None if changed is None else changed[1])
    check_changed(statement.count(connection, given), 1)


@cache
def _booking(
    attributes: tuple[str, ...], added: tuple[tuple[type[Base], bool], ...], of_position: tuple[str, ...] | None
) -> Prepared:
    booking = changing(Trade, attributes)
    for kind, is_one in added:
        booking = booking.add_cte(insertion(kind, is_one).cte(f"new_{table_of(kind).name}_rows"))
    if of_position is None:
        return Prepared(booking)
    held = changing(Position, of_position).returning(table_of(Position).c.id).cte("held")
    # A position that is not as it was read leaves the trade as it is, too, which is noticed.
    return Prepared(booking.where(sa.exists(sa.select(held.c.id))))
