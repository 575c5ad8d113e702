"""The books' side of the audit's anchors: heads that changed, the note of each run, and the comparison.

Runs are noted like batches of the mirror: claimed under the next number before the lake has them, and done after. What
is noted are bits of the run's digest, so that a run that vanished from the lake, or was replaced there, shows.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zlib import crc32

import polars as pl

from medalion.core.enums import BatchStatus
from oltp.hot.writes import signed32
from oltp.server.engine import Connection, holding, one

_NOTED_AS = "_audit_anchors"
_LEADER = signed32(crc32(b"medalion leader")), signed32(crc32(_NOTED_AS.encode()))

# Every open transaction holds a lock of its own. That the start of one is hidden from this user, or that one was
# prepared, which forgets its start, leaves the time where it was.
_SETTLED = """
    SELECT CASE WHEN EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
                  OR coalesce(bool_or(xact_start IS NULL), false) THEN %(since)s
           ELSE greatest(%(since)s, least(%(clock)s, min(xact_start)) - %(slack)s) END
    FROM pg_stat_activity AS activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND EXISTS (
        SELECT FROM pg_locks AS held
        WHERE held.pid = activity.pid AND locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND granted)
"""
_HEADS = """
    SELECT DISTINCT ON (entry.entity_type, entry.entity_id)
           entry.entity_type, entry.entity_id::text AS entity_id, entry.version::bigint AS version, entry.hash
    FROM audit_logs AS entry WHERE entry.action_timestamp >= $1
    ORDER BY entry.entity_type, entry.entity_id, entry.version DESC
"""
_ANCHORED = """
    CREATE TEMPORARY TABLE anchored (
        entity_type text, entity_id uuid, version integer, hash bytea, anchored_at timestamptz
    ) ON COMMIT DROP
"""
_DIFFERING = """
    SELECT DISTINCT ON (anchored.entity_type, anchored.entity_id, held.hash IS NULL)
           anchored.entity_type, anchored.entity_id, anchored.version, anchored_at, held.hash IS NULL,
           (SELECT max(version) FROM audit_logs AS entry
            WHERE entry.entity_type = anchored.entity_type AND entry.entity_id = anchored.entity_id)
    FROM anchored LEFT JOIN audit_logs AS held USING (entity_type, entity_id, version)
    WHERE held.hash IS DISTINCT FROM anchored.hash
    ORDER BY 1, 2, 5, version DESC
"""
_UNKNOWN = """
    SELECT entity_type, entity_id, min(version) FROM audit_logs AS entry
    WHERE action_timestamp < %(settled)s AND (%(entity_id)s::uuid IS NULL OR entity_id = %(entity_id)s)
      AND NOT EXISTS (SELECT FROM anchored WHERE anchored.entity_type = entry.entity_type
                      AND anchored.entity_id = entry.entity_id AND anchored.version >= entry.version)
    GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Note:
    """What the books know of a run: 126 bits of its digest."""

    number: int
    nonce: int
    checksum: int
    is_done: bool = False

    @classmethod
    def of(cls, number: int, digest: bytes) -> "Note":
        """The note of an anchor with this digest."""
        return cls(number, int.from_bytes(digest[:8]) >> 2, int.from_bytes(digest[8:16], signed=True))

    def is_of(self, other: "Note") -> bool:
        """Whether both are of the same run."""
        return (self.number, self.nonce, self.checksum) == (other.number, other.nonce, other.checksum)


@dataclass(frozen=True, slots=True)
class Difference:
    """An anchored head that the record does not have, or has otherwise; `last` is the version it ends at, if any."""

    entity_type: str
    entity_id: UUID
    version: int
    anchored_at: datetime
    is_gone: bool
    last: int | None


def leading(connection: Connection, *, wait: bool = True) -> AbstractContextManager[bool]:
    """Within, nobody else anchors; without `wait` it is False where somebody else does already."""
    return holding(connection, _LEADER, wait=wait)


def clock(connection: Connection) -> datetime:
    """The server's, which entries are stamped with."""
    moment: datetime = one(connection.execute("SELECT clock_timestamp()").fetchone())[0]
    return moment


def settled(connection: Connection, since: datetime, slack: timedelta) -> datetime:
    """A time, `since` or later, before which no entry can appear that a statement after this one does not see.

    The clock is read first. An entry is stamped within its transaction: one that is not committed yet is of a
    transaction that is open now, and not older than it, or of one that begins later. `slack` is for a server's clock
    that is set back.
    """
    given = {"since": since, "slack": slack, "clock": clock(connection)}
    moment: datetime = one(connection.execute(_SETTLED, given).fetchone())[0]
    return moment


def heads(connection: Any, since: datetime) -> pl.DataFrame:
    """The newest entry of every entity that has one at or after `since`, by entity. Takes an Arrow connection."""
    with connection.cursor() as cursor:
        cursor.execute(_HEADS, (since,))
        return pl.DataFrame(cursor.fetch_arrow_table())


def notes(connection: Connection) -> dict[int, Note]:
    """Every run that was noted, by its number."""
    rows = connection.execute(
        "SELECT number, nonce, checksum, status = 'done' FROM mirror_batches WHERE dataset = %s ORDER BY number",
        (_NOTED_AS,),
    )
    return {number: Note(number, *rest) for number, *rest in rows}


def claim(connection: Connection, note: Note, rows: int) -> None:
    """Note durably that the run is about to be written."""
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute(
            """INSERT INTO mirror_batches (dataset, number, nonce, kind, status, rows, checksum, claimed_at)
               VALUES (%s, %s, %s, 'hot', %s, %s, %s, clock_timestamp())""",
            (_NOTED_AS, note.number, note.nonce, BatchStatus.CLAIMED, rows, note.checksum),
        )


def done(connection: Connection, number: int, *, delta_version: int | None) -> None:
    """The claimed run is in the lake; `delta_version` where the caller has written it just now."""
    connection.execute(
        """UPDATE mirror_batches SET status = 'done', done_at = clock_timestamp(), delta_version = %s
           WHERE dataset = %s AND number = %s""",
        (delta_version, _NOTED_AS, number),
    )


def forget(connection: Connection, number: int) -> None:
    """The run is not in the lake."""
    connection.execute("DELETE FROM mirror_batches WHERE dataset = %s AND number = %s", (_NOTED_AS, number))


def fill(connection: Connection, anchored: Iterable[tuple[datetime, pl.DataFrame]]) -> None:
    """Bring the heads of runs, each with its time, to the server for the rest of the caller's transaction."""
    connection.execute(_ANCHORED)
    with connection.cursor() as cursor, cursor.copy("COPY anchored FROM STDIN (FORMAT csv)") as copy:
        for anchored_at, rows in anchored:
            as_text = pl.format("\\x{}", pl.col("hash").bin.encode("hex")).alias("hash")
            copy.write(
                rows.with_columns(as_text, anchored_at=pl.lit(anchored_at.isoformat())).write_csv(include_header=False)
            )
    connection.execute("ANALYZE anchored")


def differing(connection: Connection) -> list[Difference]:
    """The newest head of each entity that is gone, and the newest that says otherwise; after `fill`."""
    return [Difference(*row) for row in connection.execute(_DIFFERING)]


def unknown(connection: Connection, settled: datetime, entity_id: UUID | None) -> list[tuple[str, UUID, int]]:
    """Entities with entries before `settled` that are beyond what was anchored, and the first of them; after `fill`."""
    return connection.execute(_UNKNOWN, {"settled": settled, "entity_id": entity_id}).fetchall()
