"""The mirror's side of the books: claim, note, settle, prune. Every rule is one transaction.

Batches of a dataset are numbered without gaps and at most one is undone. Lake and ledger agree while the lake's last
number and nonce are those of the last batch done, or of the one being copied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import randbits
from typing import Any, TypeAlias
from zlib import crc32

from psycopg import sql
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Jsonb

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from medalion.core.enums import BatchStatus, WriteKind
from oltp.hot.tables import SLOTS, partition_name
from oltp.hot.writes import open_write_mark, signed32
from oltp.server.engine import Connection, holding, is_replica, one

_LEADER = crc32(b"medalion leader")
_MAINTAINER = crc32(b"medalion maintainer")
_STAGING = crc32(b"medalion staging")
_CLAIM_WRITES = 20_000


Mark: TypeAlias = tuple[int, int | None]
"""Number and nonce of a batch, as the lake's log has them too; zero and None before the first."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One mirror run's claim, or one import."""

    number: int
    nonce: int
    kind: WriteKind
    status: BatchStatus
    rows: int
    checksum: int
    file_list: list[dict[str, Any]] | None = None


def new_nonce() -> int:
    """62 random bits: Delta keeps application versions as signed 64-bit numbers."""
    return randbits(62)


@contextmanager
def leading(connection: Connection, dataset: Dataset, *, wait: bool = True) -> Iterator[bool]:
    """Within, this connection leads the dataset: nobody else claims, copies or notes. A lost connection ends it too.

    Without `wait` it is False where another leads.
    """
    with holding(connection, _lock(_LEADER, dataset), wait=wait) as leads:
        yield leads


@contextmanager
def maintaining(connection: Connection, dataset: Dataset, *, wait: bool = True) -> Iterator[bool]:
    """The same for who rewrites or removes files of the dataset; batches are appended meanwhile.

    The order of the locks is this one, that against staging, and that of the leader.
    """
    with holding(connection, _lock(_MAINTAINER, dataset), wait=wait) as maintains:
        yield maintains


@contextmanager
def without_staging(connection: Connection, dataset: Dataset) -> Iterator[None]:
    """Within, no import is writing files that no batch lists yet; waits for those that are."""
    with holding(connection, _lock(_STAGING, dataset), wait=True):
        yield


def stage_import(connection: Connection, dataset: Dataset) -> None:
    """Until the caller's transaction ends, files that it writes are not taken for those of a writer that died, and no
    time from its beginning on is called settled: it may draw id and time from now on."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", _lock(_STAGING, dataset))


OPENS_A_WRITE = sql.SQL("""
    held.locktype = 'advisory'
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (held.classid = %(mark)s::bigint::oid AND held.objid = %(mark_of)s::bigint::oid
         OR held.mode = 'ShareLock'
            AND held.classid = %(staging)s::bigint::oid AND held.objid = %(staging_of)s::bigint::oid)
""")
"""Which of `pg_locks AS held` is that of an open write, or of an import that writes files; see `open_writes`."""


def open_writes(dataset: Dataset) -> dict[str, int]:
    """The parameters of `OPENS_A_WRITE`."""
    words = (*open_write_mark(dataset), *_lock(_STAGING, dataset))
    return dict(zip(("mark", "mark_of", "staging", "staging_of"), (word % (1 << 32) for word in words), strict=True))


def leader(connection: Connection, dataset: Dataset) -> int | None:
    """Process id of the server session that leads, if any."""
    classid, objid = (word % (1 << 32) for word in _lock(_LEADER, dataset))
    row = connection.execute(
        """SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s::bigint::oid
           AND objid = %s::bigint::oid
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        (classid, objid),
    ).fetchone()
    return None if row is None else int(row[0])


def _lock(purpose: int, dataset: Dataset) -> tuple[int, int]:
    return signed32(purpose), signed32(crc32(dataset.name.encode()))


def last_batches(connection: Connection, dataset: Dataset) -> list[Batch]:
    """The newest batch and the one before it, newest first."""
    rows = connection.execute(
        """SELECT number, nonce, kind, status, rows, checksum, file_list FROM mirror_batches
           WHERE dataset = %s ORDER BY number DESC LIMIT 2""",
        (dataset.name,),
    ).fetchall()
    return [Batch(n, nonce, WriteKind(kind), BatchStatus(status), *rest) for n, nonce, kind, status, *rest in rows]


def marks(batches: Sequence[Batch]) -> list[Mark]:
    """Where a lake may be that belongs to these newest batches: at the last one; or, while that is claimed, before it.

    The last of the marks is where the lake is known to have been.
    """
    known = [*((batch.number, batch.nonce) for batch in batches), (0, None)]
    is_claimed = bool(batches) and batches[0].status is BatchStatus.CLAIMED
    return known[: 1 + is_claimed]


def claim(connection: Connection, dataset: Dataset, *, number: int, rows: int) -> Batch | None:
    """Give committed, unclaimed writes of about `rows` rows (at least one write) the next number; None if none wait.

    Whichever writes are committed now are in; one still open is in a later batch, whatever its id or time.
    """
    nonce = new_nonce()
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        row = connection.execute(
            """WITH waiting AS (
                   SELECT id, sum(rows) OVER (ORDER BY id) - rows AS before
                   FROM (SELECT id, rows - lost_rows AS rows FROM writes
                         WHERE dataset = %(dataset)s AND batch IS NULL AND kind = 'hot'
                         ORDER BY id LIMIT %(limit)s) AS first
               ), claimed AS (
                   UPDATE writes SET batch = %(number)s FROM waiting
                   WHERE writes.id = waiting.id AND waiting.before < %(rows)s AND batch IS NULL
                   RETURNING writes.rows - lost_rows AS rows, writes.checksum::numeric - lost_checksum AS checksum
               )
               SELECT count(*), coalesce(sum(rows), 0)::bigint,
                      coalesce(mod(sum(checksum), 18446744073709551616), 0)::text FROM claimed""",
            {"dataset": dataset.name, "number": number, "rows": rows, "limit": _CLAIM_WRITES},
        ).fetchone()
        writes, total, checksums = one(row)
        if not writes:
            return None
        batch = Batch(number, nonce, WriteKind.HOT, BatchStatus.CLAIMED, total, signed(int(checksums)))
        enter_batch(connection, dataset, batch)
    return batch


def newest_waiting(connection: Connection, dataset: Dataset) -> int:
    """The highest number of the writes that are committed and not claimed; 0 if none wait."""
    row = connection.execute(
        "SELECT coalesce(max(id), 0) FROM writes WHERE dataset = %s AND batch IS NULL AND kind = 'hot'", (dataset.name,)
    ).fetchone()
    return int(one(row)[0])


def is_waiting(connection: Connection, dataset: Dataset, newest: int) -> bool:
    """Whether any write up to that number is committed and not claimed."""
    row = connection.execute(
        """SELECT EXISTS (SELECT FROM writes WHERE dataset = %s AND batch IS NULL AND kind = 'hot' AND id <= %s)""",
        (dataset.name, newest),
    ).fetchone()
    return bool(one(row)[0])


def enter_batch(connection: Connection, dataset: Dataset, batch: Batch) -> None:
    """Add a claimed batch to the books, in the caller's transaction."""
    file_list = None if batch.file_list is None else Jsonb(batch.file_list)
    connection.execute(
        """INSERT INTO mirror_batches (dataset, number, nonce, kind, status, rows, checksum, file_list, claimed_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())""",
        (dataset.name, batch.number, batch.nonce, batch.kind, batch.status, batch.rows, batch.checksum, file_list),
    )


def note(connection: Connection, dataset: Dataset, batch: Batch, *, delta_version: int) -> None:
    """The batch is in the lake; in the caller's transaction."""
    connection.execute(
        """UPDATE mirror_batches SET status = 'done', done_at = clock_timestamp(), delta_version = %s
           WHERE dataset = %s AND number = %s AND nonce = %s""",
        (delta_version, dataset.name, batch.number, batch.nonce),
    )
    if batch.kind is WriteKind.IMPORT:
        connection.execute(
            "UPDATE mirror_state SET newest_import = %s WHERE dataset = %s", (batch.number, dataset.name)
        )


def lag(connection: Connection, dataset: Dataset, batch: Batch) -> timedelta:
    """Time since the oldest write of the batch, by the server's clock."""
    row = connection.execute(
        """SELECT coalesce(clock_timestamp() - min(recorded_at), interval '0') FROM writes
           WHERE dataset = %s AND batch = %s""",
        (dataset.name, batch.number),
    ).fetchone()
    waited: timedelta = one(row)[0]
    return waited


def settle(connection: Connection, dataset: Dataset) -> datetime:
    """Raise the time before which no write can still appear, and return it.

    The clock is read first: whoever takes the open-write mark later draws a later time. Holders of the mark, imports
    that write files, and those that are claimed but not done, hold it back. A holder whose start is hidden stops it. A
    replica has the time that its primary has found.
    """
    if is_replica(connection):
        row = connection.execute("SELECT settled FROM mirror_state WHERE dataset = %s", (dataset.name,)).fetchone()
        found: datetime = one(row)[0]
        return found
    with connection.transaction():
        (clock,) = one(connection.execute("SELECT clock_timestamp()").fetchone())
        row = connection.execute(
            sql.SQL("""WITH holders AS (
                   SELECT activity.xact_start FROM pg_locks AS held
                   LEFT JOIN pg_stat_activity AS activity USING (pid)
                   WHERE {opens_a_write}
               ), imports AS (
                   SELECT recorded_at FROM writes JOIN mirror_batches USING (dataset)
                   WHERE dataset = %(dataset)s AND writes.kind = 'import' AND writes.batch = mirror_batches.number
                     AND mirror_batches.status <> 'done'
               )
               UPDATE mirror_state SET settled = greatest(settled, CASE
                   WHEN EXISTS (SELECT FROM holders WHERE xact_start IS NULL) THEN settled
                   ELSE least(%(clock)s, (SELECT min(xact_start) FROM holders), (SELECT min(recorded_at) FROM imports))
                        - interval '1 microsecond' END)
               WHERE dataset = %(dataset)s RETURNING settled""").format(opens_a_write=OPENS_A_WRITE),
            {"dataset": dataset.name, "clock": clock, **open_writes(dataset)},
        ).fetchone()
    settled: datetime = one(row)[0]
    return settled


def slot_rows(connection: Connection, dataset: Dataset) -> dict[int, int]:
    """Rows that lie in each slot of the ring, by the books."""
    rows = connection.execute(
        "SELECT slot, sum(rows)::bigint FROM writes WHERE dataset = %s AND slot IS NOT NULL GROUP BY slot",
        (dataset.name,),
    ).fetchall()
    return dict.fromkeys(range(SLOTS), 0) | {int(slot): int(count) for slot, count in rows}


def current_slot(connection: Connection, dataset: Dataset) -> int:
    """Where new writes go."""
    (slot,) = one(connection.execute("SELECT slot FROM mirror_state WHERE dataset = %s", (dataset.name,)).fetchone())
    return int(slot)


def slots_behind(connection: Connection, dataset: Dataset) -> list[int]:
    """Slots with rows that new writes no longer go to."""
    slot = current_slot(connection, dataset)
    return [place for place, rows in slot_rows(connection, dataset).items() if rows and place != slot]


def advance(connection: Connection, dataset: Dataset, *, rows: int) -> bool:
    """Send new writes to the next empty slot once the current one has `rows` rows; False if not, or none is empty."""
    held, slot = slot_rows(connection, dataset), current_slot(connection, dataset)
    following = next((s % SLOTS for s in range(slot + 1, slot + SLOTS) if held[s % SLOTS] == 0), None)
    if held[slot] < rows or following is None:
        return False
    connection.execute(
        "UPDATE mirror_state SET slot = %s WHERE dataset = %s AND slot = %s", (following, dataset.name, slot)
    )
    return True


def prune(connection: Connection, dataset: Dataset, slot: int) -> int | None:
    """Empty a slot whose writes are all in the lake; rows removed, or None where it is in use or not mirrored yet.

    The lock comes before the check: a writer that commits between a check and the lock would lose its rows.
    """
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(partition_name(dataset, slot)))
            )
            row = connection.execute(
                """SELECT coalesce(sum(writes.rows), 0)::bigint, coalesce(max(batch), 0),
                          coalesce(bool_and(status IS NOT DISTINCT FROM 'done'), true)
                   FROM writes LEFT JOIN mirror_batches AS batches
                     ON batches.dataset = writes.dataset AND batches.number = writes.batch
                   WHERE writes.dataset = %s AND slot = %s""",
                (dataset.name, slot),
            ).fetchone()
            rows, newest, all_done = one(row)
            if not all_done:
                return None
            if not newest:
                return 0
            connection.execute(
                "UPDATE mirror_state SET floor = greatest(floor, %s) WHERE dataset = %s", (newest, dataset.name)
            )
            connection.execute("UPDATE writes SET slot = NULL WHERE dataset = %s AND slot = %s", (dataset.name, slot))
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(partition_name(dataset, slot))))
    except LockNotAvailable:
        return None
    return int(rows)
