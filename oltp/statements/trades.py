"""Trades: locked for booking, by the id that we gave the order, and the positions they belong to."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from oltp.entities.trading import Account, Fill, Trade
from oltp.server.engine import one
from oltp.statements.base import made, table_of
from oltp.statements.lines import locking
from oltp.statements.prepared import Prepared

_TRADES, _ACCOUNTS, _FILLS = table_of(Trade), table_of(Account), table_of(Fill)
_ORDERED = sa.and_(
    _TRADES.c.account_id == sa.bindparam("account_id", type_=sa.Uuid()),
    _TRADES.c.client_order_id == sa.bindparam("client_order_id", type_=sa.String()),
    sa.not_(_TRADES.c.is_deleted),
)
_FOUND = Prepared(sa.select(_TRADES).where(_ORDERED))
_BY_ID = Prepared(sa.select(_TRADES).where(_TRADES.c.id == sa.bindparam("id", type_=sa.Uuid())))
_LOCKED = Prepared(
    sa.select(
        _TRADES,
        _ACCOUNTS.c.base_currency,
        locking(_TRADES.c.account_id, _TRADES.c.instrument_id, _TRADES.c.strategy_id),
    )
    .join(_ACCOUNTS, _ACCOUNTS.c.id == _TRADES.c.account_id)
    .where(_ORDERED)
    .with_for_update(of=_TRADES)
)


def find(connection: sa.Connection, account_id: UUID, client_order_id: str) -> Trade | None:
    """The trade under our id of the order; None if there is none."""
    row = _FOUND.row(connection, {"account_id": account_id, "client_order_id": client_order_id})
    return None if row is None else made(Trade, row)


def locked(connection: sa.Connection, account_id: UUID, client_order_id: str) -> tuple[Trade, str] | None:
    """The trade and its account's currency, with the trade and its line locked; None if there is none."""
    row = _LOCKED.row(connection, {"account_id": account_id, "client_order_id": client_order_id})
    return None if row is None else (made(Trade, row), row[len(_TRADES.c)])


def by_id(connection: sa.Connection, trade_id: UUID) -> Trade:
    """The trade that a stored row refers to."""
    return made(Trade, one(_BY_ID.row(connection, {"id": trade_id})))


_RELATED: dict[str, sa.types.TypeEngine[Any]] = {
    "of_trade": sa.Uuid(),
    "to_position": sa.Uuid(),
    "flat": sa.DateTime(timezone=True),
}


def _relation() -> Prepared:
    of, to, flat = (sa.bindparam(name, type_=kind) for name, kind in _RELATED.items())
    earlier = sa.exists().where(
        _FILLS.c.trade_id == _TRADES.c.id, _FILLS.c.busted_at.is_(None), _FILLS.c.executed_at <= flat
    )
    return Prepared(
        sa.update(_TRADES)
        .where(_TRADES.c.id == of, _TRADES.c.position_id.is_distinct_from(to), sa.not_(earlier))
        .values(position_id=to, row_version=_TRADES.c.row_version + 1, updated_at=sa.func.now())
    )


_RELATION = _relation()


def relate(connection: sa.Connection, positions: Mapping[UUID, UUID], flat: datetime | None) -> None:
    """Each trade belongs to the position that its first fill led to; one with a fill up to `flat` to an earlier one."""
    given = [{"of_trade": trade, "to_position": position, "flat": flat} for trade, position in positions.items()]
    if given:
        _RELATION.count(connection, *given)
