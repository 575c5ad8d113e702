"""Tables of the books as they were: the last audit entry of each entity at a time, as rows of its table."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from psycopg import sql

from medalion.core.errors import InputError
from oltp.entities.base import Entity
from oltp.entities.catalogue import entities
from oltp.repositories.snapshot import entity_table
from oltp.server.engine import Connection, one

# In this order the index on type, entity and version may be read backwards instead of sorting. OFFSET 0 keeps the
# planner from expanding an entry anew for every column.
_AUDITED = """(
    SELECT (entity).* FROM (
        SELECT jsonb_populate_record(NULL::{table}, new_state) AS entity FROM (
            SELECT DISTINCT ON (entity_id) new_state FROM audit_logs
            WHERE entity_type = $1 AND action_timestamp <= $2 ORDER BY entity_id DESC, version DESC
        ) AS last WHERE new_state IS NOT NULL OFFSET 0
    ) AS expanded
) AS past"""
_APPEND_ONLY = "(SELECT * FROM {table} WHERE created_at <= $1) AS past"

# Whoever changes a row holds its table's lock from before the change is stamped until it can be seen. A session that
# shows no start has ended that transaction, or began it after the clock was read, unless its start is hidden from this
# user; a prepared transaction has no session.
_WRITERS = """
    SELECT min(xact_start),
           coalesce(bool_or(xact_start IS NULL AND coalesce(state, 'disabled') = 'disabled'), false)
    FROM pg_locks AS held LEFT JOIN pg_stat_activity AS activity USING (pid)
    WHERE locktype = 'relation' AND granted AND relation = ANY(%(tables)s::regclass[])
      AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def check_past(connection: Connection, names: Sequence[str], as_of: datetime) -> None:
    """Raise InputError unless the tables' rows as of `as_of` are known and can no longer change.

    A snapshot taken afterwards sees every change at or before `as_of`. The clock is read first: a transaction that
    begins to change a table later stamps its changes with a later time.
    """
    kept = _entities()
    timeless = [name for name in names if name not in kept]
    if timeless:
        raise InputError(
            f"as_of reads datasets, audited entities and append-only ones; of {', '.join(timeless)} only the present "
            "state is kept: leave them out, or as_of",
            given=timeless,
            expected=sorted(kept),
        )
    if not names:
        return
    # An entry of the audit is stamped while its entity's table is locked, before that of the audit is.
    locked = [*kept] if "audit_logs" in names else [*names]
    (clock,) = one(connection.execute("SELECT clock_timestamp()").fetchone())
    began, is_hidden = one(connection.execute(_WRITERS, {"tables": locked}).fetchone())
    settled: datetime = min(clock, began or clock) - timedelta(microseconds=1)
    if is_hidden:
        raise InputError(
            f"as_of {as_of.isoformat()} is not settled yet: a transaction that changes {' or '.join(names)} is open, "
            "and its start is not shown to this user; wait for its end",
            given=as_of,
            expected="no such transaction, or a user with pg_read_all_stats",
        )
    if as_of > settled:
        raise InputError(
            f"as_of {as_of.isoformat()} is not settled yet: changes of {', '.join(names)} up to {settled.isoformat()} "
            "are all in, a later one may still be open; ask for that time, or wait",
            given=as_of,
            expected=settled,
        )


def past_table(connection: Any, name: str, as_of: datetime) -> pa.Table:
    """What `entity_table` gave at that time; takes an Arrow connection, after `check_past`.

    A change counts from when it was made, within its transaction, by the server's clock; a row of an append-only table
    from its `created_at`. Columns that came with a later migration are null.
    """
    table = sql.Identifier(name)
    if _entities()[name].append_only:
        return entity_table(connection, name, rows=sql.SQL(_APPEND_ONLY).format(table=table), given=(as_of,))
    return entity_table(connection, name, rows=sql.SQL(_AUDITED).format(table=table), given=(name, as_of))


def _entities() -> dict[str, type[Entity]]:
    """The entities whose past is known, by table."""
    return {entity.__tablename__: entity for entity in entities() if entity.audited or entity.append_only}
