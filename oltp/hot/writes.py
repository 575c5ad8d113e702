"""The write: rows, their ledger entry and the last values in one transaction.

The order of the statements is the protocol: the open-write mark is taken in a statement of its own, so that whoever
settles a time sees every write that could still carry an earlier one; then id and time are drawn.
"""

import time
from dataclasses import dataclass, replace
from datetime import datetime
from zlib import crc32

import polars as pl
from psycopg import sql
from psycopg.errors import LockNotAvailable

from medalion.core.checksum import checksum
from medalion.core.datasets import Dataset
from medalion.core.enums import WriteKind
from medalion.core.errors import ConflictError, InputError
from medalion.core.time import in_utc
from medalion.core.workers import ahead
from oltp.hot.binary import HEADER, TRAILER, copy_binary
from oltp.hot.instruments import with_instruments
from oltp.hot.sources import enter_sources, is_made
from oltp.hot.tables import HOT_ARRIVAL, LAST_ARRIVAL, NEWEST, last_name, plain
from oltp.server.engine import Connection, one

_OPEN_WRITE = crc32(b"medalion open write")
_MOMENT = 200
"""Milliseconds for which other writes are kept waiting at a time."""
_COPY_BYTES = 1 << 20
_COPY_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class WriteResult:
    """One durable write; `is_duplicate` where its idempotency key had been used and nothing was written now."""

    write_id: int
    dataset: str
    source: str
    rows: int
    recorded_at: datetime
    first_ts: datetime | None
    last_ts: datetime | None
    checksum: int
    idempotency_key: str | None = None
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True)
class OpenWrite:
    """A write that holds the open-write mark until its transaction ends."""

    write_id: int
    recorded_at: datetime
    slot: int


def open_write_mark(dataset: Dataset) -> tuple[int, int]:
    """The advisory lock that every open write of `dataset` shares."""
    return signed32(_OPEN_WRITE), signed32(crc32(dataset.name.encode()))


def signed32(word: int) -> int:
    """An unsigned 32-bit word as PostgreSQL's integer, which is signed."""
    return word - (1 << 32) if word >= 1 << 31 else word


def write(
    connection: Connection,
    dataset: Dataset,
    rows: pl.DataFrame,
    *,
    source: str,
    idempotency_key: str | None = None,
    is_ours: bool = False,
) -> WriteResult:
    """Store conformed `rows` (see `medalion.core.frames.conform`); durable when it returns.

    With `is_ours` they are bars that the store has made, whose instruments are known.

    Raises:
        NotFoundError: a symbol is not known.
        InputError: an `instrument_id` that is not the symbol's, or a source that only the store's own bars have.
        ConflictError: another write has used the idempotency key for other rows.
    """
    if not is_ours:
        _check_source(source)
    with connection.transaction():
        opened = begin(connection, dataset)
        named = rows if is_ours else with_instruments(connection, dataset, rows)
        if idempotency_key is not None and (earlier := earlier_write(connection, dataset, idempotency_key)):
            return _proven(earlier, dataset, named)
        entry = _entered(connection, dataset, numbered(named, opened), opened, source, idempotency_key)
        if entry is None:
            return _proven(one(earlier_write(connection, dataset, idempotency_key)), dataset, named)
    return entry


def hide(connection: Connection, dataset: Dataset, rows: pl.DataFrame, *, is_ours: bool = False) -> None:
    """Store a tombstone of each of the rows, all at one moment: a write for each source, in one transaction.

    Whoever reads, as of any time, sees all of the rows or none. A tombstone keeps the name that its row has, which may
    be nobody's or somebody else's by now. With `is_ours` they may be bars that the store has made.

    Raises:
        InputError: a source is one that only the store's own bars have.
    """
    for source in rows["source"].unique() if not is_ours else ():
        _check_source(source)
    with connection.transaction():
        opened = begin(connection, dataset)
        for place, ((source,), part) in enumerate(rows.group_by("source", maintain_order=True)):
            if place:
                opened = replace(opened, write_id=drawn_now(connection, dataset).write_id)
            _entered(connection, dataset, numbered(part, opened, is_deleted=True), opened, str(source))


def exchange(
    connection: Connection, dataset: Dataset, rows: pl.DataFrame, gone: pl.DataFrame, *, source: str
) -> WriteResult:
    """Store rows, and tombstones of those that are `gone`, as one write; the caller's transaction excludes others.

    Raises:
        InputError: the source is one that only the store's own bars have.
    """
    _check_source(source)
    opened = drawn_now(connection, dataset)
    both = pl.concat([rows, gone])
    is_gone = pl.int_range(pl.len()) >= rows.height
    ordered = numbered(both, opened).with_columns(is_deleted=is_gone)
    return one(_entered(connection, dataset, ordered, opened, source))


def _entered(
    connection: Connection,
    dataset: Dataset,
    rows: pl.DataFrame,
    opened: OpenWrite,
    source: str,
    idempotency_key: str | None = None,
) -> WriteResult | None:
    """The ledger entry, the hot rows and the last values of numbered rows; None where the key is taken."""
    entry = entry_of(dataset, rows, opened, source=source, idempotency_key=idempotency_key)
    if not enter(connection, entry, rows["instrument_id"], kind=WriteKind.HOT, slot=opened.slot):
        return None
    _copy(connection, dataset, rows, opened.slot)
    enter_sources(connection, dataset, rows["instrument_id"], source, write_id=opened.write_id)
    keep_newest(connection, dataset, rows, opened.recorded_at)
    return entry


def _proven(earlier: WriteResult, dataset: Dataset, rows: pl.DataFrame) -> WriteResult:
    """The write that has used the key, if it wrote these rows: under its number they have its checksum."""
    as_then = OpenWrite(earlier.write_id, earlier.recorded_at, slot=0)
    again = rows_checksum(dataset, numbered(rows, as_then))
    if (earlier.rows, earlier.checksum) != (rows.height, again):
        raise ConflictError(
            f"idempotency_key {earlier.idempotency_key!r} was used at {earlier.recorded_at.isoformat()} for "
            f"{earlier.rows:,} rows of {earlier.source!r}, and these {rows.height:,} are others; nothing was written, "
            "give each write a key of its own"
        )
    return earlier


def _check_source(source: str) -> None:
    if is_made(source):
        raise InputError(
            f"source {source!r} is that of bars which the store makes itself; give the feed another name, "
            "and see store.rollups for what is kept of them",
            given=source,
            expected="the name of a feed",
        )


def begin(connection: Connection, dataset: Dataset) -> OpenWrite:
    """Take the open-write mark in a statement of its own, then draw id and time, in the caller's transaction."""
    # In one statement with what follows, id and time could be drawn before the mark is held. `settle` would then find
    # no open write, call a time settled, and this write appear below it.
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", open_write_mark(dataset))
    return drawn_now(connection, dataset)


def exclude_writes(connection: Connection, dataset: Dataset) -> None:
    """From now to the end of the caller's transaction no other write of the dataset is open, and none begins.

    Whoever waits for a write that stays open would hold up all that come after it: it waits for a moment at a time, and
    lets them pass in between.

    Raises:
        LockNotAvailable: one stays open for longer than `lock_timeout`.
    """
    row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'").fetchone()
    (milliseconds,) = one(row)
    until = time.monotonic() + milliseconds / 1000
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{_MOMENT}ms",))
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", open_write_mark(dataset))
                connection.execute("SET LOCAL lock_timeout TO DEFAULT")
            return
        except LockNotAvailable:
            if milliseconds and time.monotonic() >= until:
                raise
        time.sleep(_MOMENT / 1000)


def drawn_now(connection: Connection, dataset: Dataset) -> OpenWrite:
    """An id and a time for a write, of one whose transaction holds back what is settled already."""
    drawn = connection.execute(
        """SELECT nextval('write_id_seq'), greatest(clock_timestamp(), settled + interval '1 microsecond'), slot
           FROM mirror_state WHERE dataset = %s""",
        (dataset.name,),
    ).fetchone()
    return OpenWrite(*one(drawn))


def numbered(rows: pl.DataFrame, opened: OpenWrite, *, is_deleted: bool = False) -> pl.DataFrame:
    """The rows with their order of arrival."""
    return rows.with_columns(
        write_id=pl.lit(opened.write_id, pl.Int64),
        ordinal=pl.int_range(pl.len(), dtype=pl.Int32),
        is_deleted=pl.lit(is_deleted),
    )


def entry_of(
    dataset: Dataset, rows: pl.DataFrame, opened: OpenWrite, *, source: str, idempotency_key: str | None
) -> WriteResult:
    """What the ledger will say of numbered rows."""
    first_ts, last_ts = rows.select(first=pl.col("ts").min(), last=pl.col("ts").max()).row(0)
    return WriteResult(
        write_id=opened.write_id,
        dataset=dataset.name,
        source=source,
        rows=rows.height,
        recorded_at=opened.recorded_at,
        first_ts=in_utc(first_ts),
        last_ts=in_utc(last_ts),
        checksum=rows_checksum(dataset, rows),
        idempotency_key=idempotency_key,
    )


def rows_checksum(dataset: Dataset, rows: pl.DataFrame) -> int:
    """The checksum of stored rows: the dataset's columns and their arrival, without `recorded_at`."""
    names = [column.name for column in (*dataset.columns, *HOT_ARRIVAL)]
    return checksum(rows.select(names).to_arrow(), names)


def earlier_write(connection: Connection, dataset: Dataset, idempotency_key: str | None) -> WriteResult | None:
    """The write that has used the key, if any."""
    row = connection.execute(
        """SELECT id, dataset, source, rows, recorded_at, first_ts, last_ts, checksum, idempotency_key FROM writes
           WHERE dataset = %s AND idempotency_key = %s""",
        (dataset.name, idempotency_key),
    ).fetchone()
    return None if row is None else replace(WriteResult(*row), is_duplicate=True)


def enter(
    connection: Connection,
    entry: WriteResult,
    instruments: pl.Series,
    *,
    kind: WriteKind,
    slot: int | None = None,
    batch: int | None = None,
) -> bool:
    """Add the ledger entry; False where its idempotency key is taken, by a write that is committed by now."""
    if kind is WriteKind.IMPORT:
        _check_source(entry.source)
    cursor = connection.execute(
        """INSERT INTO writes (id, dataset, kind, source, recorded_at, rows, first_ts, last_ts,
                               first_instrument, last_instrument, checksum, idempotency_key, slot, batch)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (dataset, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING""",
        (
            entry.write_id,
            entry.dataset,
            kind.value,
            entry.source,
            entry.recorded_at,
            entry.rows,
            entry.first_ts,
            entry.last_ts,
            instruments.min(),
            instruments.max(),
            entry.checksum,
            entry.idempotency_key,
            slot,
            batch,
        ),
    )
    return cursor.rowcount == 1


def _copy(connection: Connection, dataset: Dataset, rows: pl.DataFrame, slot: int) -> None:
    """Rows go in sorted, so that both indexes grow in order; `ordinal` keeps their place."""
    ordered = rows.sort("instrument_id", "ts", maintain_order=True).with_columns(slot=pl.lit(slot, pl.Int16))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(dataset.name), sql.SQL(", ").join(map(sql.Identifier, ordered.columns))
    )
    parts = map(copy_binary, ordered.iter_slices(_COPY_ROWS))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        # While the server takes one part of many, the next is being written down.
        copy.write(HEADER)
        for part in ahead(parts) if rows.height > _COPY_ROWS else parts:
            for start in range(0, len(part), _COPY_BYTES):
                copy.write(part[start : start + _COPY_BYTES])
        copy.write(TRAILER)


def keep_newest(connection: Connection, dataset: Dataset, rows: pl.DataFrame, recorded_at: datetime) -> None:
    """Bring the last values up to date with rows of which some may be tombstones."""
    # Tombstones first: a newer row then clears the mark that they leave.
    for is_deleted in (True, False):
        part = rows.filter(pl.col("is_deleted") == is_deleted)
        if part.height:
            keep_last(connection, dataset, part, recorded_at, is_deleted=is_deleted)


def keep_last(
    connection: Connection, dataset: Dataset, rows: pl.DataFrame, recorded_at: datetime, *, is_deleted: bool = False
) -> None:
    """Bring the last values up to date with `rows`, in key order so that writers never wait in a ring.

    A tombstone may have hit the last value: it leaves a stale entry, which a later and newer row or a repair clears.
    `touched_by` changes with every effect, so that a repair can tell that it was overtaken.
    """
    key = list(dataset.series_key)
    entries = (
        rows.sort(*NEWEST)
        .group_by(key)
        .last()
        .with_columns(recorded_at=pl.lit(recorded_at).cast(pl.Datetime("us", "UTC")))
        .select(
            *(column.name for column in (*dataset.columns, *LAST_ARRIVAL)),
            is_stale=pl.lit(is_deleted),
            touched_by="write_id",
            **{f"newest_{name}": name for name in NEWEST},
        )
        .sort(key)
    )
    with connection.cursor() as cursor:
        cursor.executemany(_upsert_last(dataset, entries.columns, is_deleted), plain(entries).rows())


def _upsert_last(dataset: Dataset, columns: list[str], is_deleted: bool) -> sql.Composed:
    """A row newer than all seen replaces the entry; one that is newer only than the row shown makes it stale."""
    given, shown, newest = (
        sql.SQL("({})").format(sql.SQL(", ").join(sql.Identifier(table, f"{prefix}{name}") for name in NEWEST))
        for table, prefix in (("excluded", ""), ("held", ""), ("held", "newest_"))
    )
    is_newest = sql.SQL("{} > {}").format(given, newest)
    touched: dict[str, sql.Composable] = {"touched_by": sql.SQL("excluded.touched_by"), "is_stale": sql.SQL("true")}
    replaced = [name for name in columns if name not in dataset.series_key and name not in touched]
    condition: sql.Composable = sql.SQL(" WHERE {} > {}").format(given, shown)
    if is_deleted:
        replaced, condition = [f"newest_{name}" for name in NEWEST], sql.SQL("")
    else:
        touched["is_stale"] = sql.SQL("NOT ({})").format(is_newest)
    changes = touched | {
        name: sql.SQL("CASE WHEN {0} THEN excluded.{1} ELSE held.{1} END").format(is_newest, sql.Identifier(name))
        for name in replaced
    }
    return sql.SQL("INSERT INTO {} AS held ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}{}").format(
        sql.Identifier(last_name(dataset)),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        sql.SQL(", ").join(map(sql.Identifier, dataset.series_key)),
        sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in changes.items()),
        condition,
    )
