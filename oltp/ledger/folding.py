"""Old entries of the ledger, folded into one sum a dataset: checksums are sums, so that nothing is lost by it.

What is folded is in the lake, and in the lake alone; its rows are counted together from then on.
"""

from datetime import timedelta

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from oltp.server.engine import Connection, one

_CHUNK = 20_000
_BATCHES_KEPT = 1_000
"""A pin is never so many batches behind; one that is asks for a nonce that is not known, and is taken anew."""


def folded(connection: Connection, dataset: Dataset) -> tuple[int, int, int]:
    """Of the folded writes the rows in the lake, the sum of their hashes, and the highest id."""
    row = connection.execute(
        "SELECT folded_rows, folded_checksum, folded_until FROM mirror_state WHERE dataset = %s", (dataset.name,)
    ).fetchone()
    rows, checksum, until = one(row)
    return int(rows), int(checksum), int(until)


def fold(connection: Connection, dataset: Dataset, *, age: timedelta, key_age: timedelta | None) -> int:
    """Fold entries that old, as the leader; how many. One with an idempotency key only at `key_age`, None being never.

    Nothing is folded while a removal is undone, which names its writes.
    """
    total = 0
    while folded_now := _fold_some(connection, dataset, age, key_age):
        total += folded_now
    connection.execute(
        """DELETE FROM mirror_batches AS batch
           WHERE dataset = %(dataset)s AND status = 'done' AND done_at < clock_timestamp() - %(age)s
             AND number <= (SELECT max(number) FROM mirror_batches WHERE dataset = %(dataset)s) - %(kept)s
             AND NOT EXISTS (SELECT FROM writes AS entry
                             WHERE entry.dataset = batch.dataset AND entry.batch = batch.number)""",
        {"dataset": dataset.name, "age": age, "kept": _BATCHES_KEPT},
    )
    return total


def _fold_some(connection: Connection, dataset: Dataset, age: timedelta, key_age: timedelta | None) -> int:
    with connection.transaction():
        row = connection.execute(
            """WITH old AS (
                   SELECT writes.id FROM writes JOIN mirror_batches AS batches
                     ON batches.dataset = writes.dataset AND batches.number = writes.batch AND batches.status = 'done'
                   WHERE writes.dataset = %(dataset)s AND slot IS NULL
                     AND recorded_at < clock_timestamp() - CASE WHEN idempotency_key IS NULL
                         THEN %(age)s::interval ELSE %(key_age)s::interval END
                     AND EXISTS (SELECT FROM mirror_state WHERE dataset = %(dataset)s AND removal IS NULL)
                   LIMIT %(chunk)s
               ), gone AS (
                   DELETE FROM writes USING old WHERE writes.id = old.id
                   RETURNING writes.id, rows - dropped_rows - lost_rows AS rows,
                             checksum::numeric - dropped_checksum - lost_checksum AS checksum
               )
               SELECT count(*), coalesce(sum(rows), 0)::bigint, coalesce(sum(checksum), 0)::text,
                      coalesce(max(id), 0)::bigint FROM gone""",
            {"dataset": dataset.name, "age": age, "key_age": key_age, "chunk": _CHUNK},
        ).fetchone()
        count, rows, checksums, last = one(row)
        held, checksum, until = folded(connection, dataset)
        connection.execute(
            "UPDATE mirror_state SET folded_rows = %s, folded_checksum = %s, folded_until = %s WHERE dataset = %s",
            (held + rows, signed(checksum + int(checksums)), max(until, last), dataset.name),
        )
    return int(count)
