"""Lines of an account: what one strategy holds of one instrument there, as conditions and as a lock."""

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from oltp.statements.prepared import Prepared

ACCOUNT = sa.bindparam("account_id", type_=sa.Uuid())
STRATEGY = sa.bindparam("strategy_id", type_=sa.Uuid())
INSTRUMENT = sa.bindparam("instrument_id", type_=sa.BigInteger())


@dataclass(frozen=True, slots=True)
class LineKey:
    """What names a line; without a strategy it is that of orders which belong to none."""

    account_id: UUID
    strategy_id: UUID | None
    instrument_id: int

    def given(self) -> dict[str, Any]:
        """What statements about the line are given."""
        return asdict(self)


def on_line(rows: sa.FromClause) -> sa.ColumnElement[bool]:
    """Whether a position or trade is on the line that the statement is given, and not deleted."""
    columns = rows.c
    return sa.and_(
        columns.account_id == ACCOUNT,
        columns.instrument_id == INSTRUMENT,
        columns.strategy_id.is_not_distinct_from(STRATEGY),
        sa.not_(columns.is_deleted),
    )


def locking(
    account_id: sa.ColumnElement[Any], instrument_id: sa.ColumnElement[Any], strategy_id: sa.ColumnElement[Any]
) -> sa.ColumnElement[Any]:
    """What keeps everyone else from booking on a line until the transaction ends."""
    name = sa.func.concat_ws("/", "line", account_id, instrument_id, strategy_id)
    return sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))


_LOCK = Prepared(sa.select(locking(ACCOUNT, INSTRUMENT, STRATEGY)))


def lock(connection: sa.Connection, *keys: LineKey) -> None:
    """Nobody else books on these lines before the transaction ends; in the order of instruments, as everyone does."""
    for key in sorted(keys, key=lambda key: key.instrument_id):
        _LOCK.rows(connection, key.given())
