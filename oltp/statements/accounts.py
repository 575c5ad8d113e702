"""Accounts: by id or name, and what one holds and has closed, each in one statement."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import CashMovementType, PositionStatus
from oltp.entities.trading import Account, CashMovement, Position
from oltp.statements.base import made, table_of
from oltp.statements.prepared import Prepared, among

_ACCOUNTS, _POSITIONS, _CASH = table_of(Account), table_of(Position), table_of(CashMovement)
_ID = sa.bindparam("id", type_=sa.Uuid())
_NAME = sa.bindparam("name", type_=sa.String())
_ACCOUNT = sa.bindparam("account_id", type_=sa.Uuid())
_OPEN = among(PositionStatus.OPEN, PositionStatus.PARTIALLY_CLOSED)
_PAID_IN = among(CashMovementType.DEPOSIT, CashMovementType.WITHDRAWAL)

_BY_ID = Prepared(sa.select(_ACCOUNTS).where(sa.not_(_ACCOUNTS.c.is_deleted), _ACCOUNTS.c.id == _ID))
_BY_NAME = Prepared(sa.select(_ACCOUNTS).where(sa.not_(_ACCOUNTS.c.is_deleted), _ACCOUNTS.c.name == _NAME))


def find(connection: sa.Connection, which: UUID | str) -> Account | None:
    """The account of that id or name; None if there is none."""
    by_id = isinstance(which, UUID)
    row = _BY_ID.row(connection, {"id": which}) if by_id else _BY_NAME.row(connection, {"name": which})
    return None if row is None else made(Account, row)


def _summary() -> Prepared:
    """Totals beside each open position; at least one row."""
    held = _POSITIONS.alias("held")
    counted = _POSITIONS.c
    totals = (
        sa.select(
            sa.func.count().label("positions"),
            sa.func.count().filter(counted.status.in_(_OPEN)).label("open"),
            sa.func.coalesce(sa.func.sum(counted.realized_pnl), 0).label("realized"),
            sa.func.coalesce(sa.func.sum(counted.commissions), 0).label("paid"),
        )
        .where(counted.account_id == _ACCOUNT, counted.status != PositionStatus.CANCELLED, sa.not_(counted.is_deleted))
        .subquery("totals")
    )
    moved = _CASH.c
    is_deposit = moved.movement_type.in_(_PAID_IN)
    money = (
        sa.select(
            sa.func.coalesce(sa.func.sum(moved.amount), 0).label("cash"),
            sa.func.coalesce(sa.func.sum(moved.amount).filter(is_deposit), 0).label("deposits"),
        )
        .where(
            moved.account_id == _ACCOUNT,
            moved.currency == sa.bindparam("currency", type_=sa.String()),
            sa.not_(moved.is_deleted),
        )
        .subquery("money")
    )
    is_held = sa.and_(held.c.account_id == _ACCOUNT, held.c.status.in_(_OPEN), sa.not_(held.c.is_deleted))
    return Prepared(
        sa.select(held, totals, money)
        .select_from(totals.join(money, sa.true()).outerjoin(held, is_held))
        .order_by(held.c.symbol, held.c.id)
    )


_SUMMARY = _summary()
_TOTALS = ("positions", "open", "realized", "paid", "cash", "deposits")


def summary(connection: sa.Connection, account: Account) -> tuple[dict[str, Any], Iterator[Position]]:
    """How many positions of the account there are and are open, what they realized and paid, its cash and deposits;
    and the open positions, by symbol. One statement, so that cash and positions are of the same moment.
    """
    rows = _SUMMARY.rows(connection, {"account_id": account.id, "currency": account.base_currency})
    width = len(_POSITIONS.c)
    totals = dict(zip(_TOTALS, rows[0][width:], strict=True))
    # One after the other: ten thousand entities at once are looked through by the collector of garbage again and again.
    return totals, (made(Position, row) for row in rows if row[0] is not None)


def _packed(column: sa.ColumnElement[Any], scale: int) -> sa.ColumnElement[Any]:
    """The column as whole units, one big-endian 64-bit integer after another."""
    # The n-th number of each column has to be of the same position, and nothing in the result says so. It is, because
    # all columns are aggregates of one query level without an order of their own: PostgreSQL feeds each row to all of
    # them before the next, also where workers have a part each. An ORDER BY or DISTINCT in one of them would break it,
    # and so would a null, which `string_agg` passes over: a CHECK of the table gives every closed position its times.
    # The units are exact: `extract` gives a numeric, and an amount of 18 digits in units of the 8th place fits.
    # The Arrow driver is no way around: its connection would be another one, with another snapshot, and it
    # gives numerics as text.
    whole = sa.cast(column * scale, sa.BigInteger)
    return sa.func.string_agg(sa.func.int8send(whole), sa.cast(sa.literal(b""), sa.LargeBinary))


def _closed() -> sa.Select[Any]:
    columns = _POSITIONS.c
    start, end = (sa.bindparam(name, type_=sa.DateTime(timezone=True)) for name in ("start", "end"))
    microseconds, places = 1_000_000, 100_000_000
    return sa.select(
        _packed(sa.extract("epoch", columns.opened_at), microseconds).label("opened_at"),
        _packed(sa.extract("epoch", columns.closed_at), microseconds).label("closed_at"),
        _packed(columns.realized_pnl, places).label("realized_pnl"),
        _packed(columns.commissions, places).label("commission"),
    ).where(
        columns.account_id == _ACCOUNT,
        columns.status == PositionStatus.CLOSED,
        sa.not_(columns.is_deleted),
        sa.or_(start.is_(None), columns.closed_at >= start),
        sa.or_(end.is_(None), columns.closed_at < end),
    )


_CLOSED = _closed()


def closed_positions(
    connection: sa.Connection, account: Account, start: datetime | None, end: datetime | None
) -> Mapping[str, bytes]:
    """Of the positions closed in `[start, end)` when they opened and closed, in microseconds, and what they realized
    and paid, in units of the 8th place: big-endian 64-bit integers, one after another.

    As rows, a million positions would be four million objects, and take ten times as long.
    """
    row = connection.execute(_CLOSED, {"account_id": account.id, "start": start, "end": end}).one()
    return {name: column or b"" for name, column in row._mapping.items()}
