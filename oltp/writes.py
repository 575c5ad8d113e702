"""The write: rows, their ledger entry and the last values in one transaction.

The order of the statements is the protocol: the open-write mark is taken in a statement of its own, so that whoever
settles a time sees every write that could still carry an earlier one; then id and time are drawn.
"""

from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from zlib import crc32

import polars as pl
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from medalion.checksum import checksum
from medalion.datasets import Dataset
from medalion.errors import InputError, NotFoundError
from medalion.types import WriteKind
from oltp.hot import HOT_ARRIVAL, LAST_ARRIVAL, copy_text, last_name, plain

_OPEN_WRITE = crc32(b"medalion open write")
_COPY_BYTES = 1 << 20
_COPY_ROWS = 250_000

Connection = psycopg.Connection[TupleRow]


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


def open_write_mark(dataset: Dataset) -> tuple[int, int]:
    """The advisory lock that every open write of `dataset` shares."""
    return signed32(_OPEN_WRITE), signed32(crc32(dataset.name.encode()))


def signed32(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word


def write(
    connection: Connection,
    dataset: Dataset,
    rows: pl.DataFrame,
    *,
    source: str,
    idempotency_key: str | None = None,
    is_deleted: bool = False,
) -> WriteResult:
    """Store conformed `rows` (see `medalion.frames.conform`); durable when it returns.

    Raises:
        NotFoundError: a symbol is not known.
        InputError: an `instrument_id` that is not the symbol's.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", open_write_mark(dataset))
        if idempotency_key is not None and (earlier := _earlier(connection, dataset, idempotency_key)):
            return earlier
        rows = with_instruments(connection, dataset, rows)
        write_id, recorded_at, slot = _draw(connection, dataset)
        rows = rows.with_columns(
            write_id=pl.lit(write_id, pl.Int64),
            ordinal=pl.int_range(pl.len(), dtype=pl.Int32),
            is_deleted=pl.lit(is_deleted),
        )
        entry = WriteResult(
            write_id=write_id,
            dataset=dataset.name,
            source=source,
            rows=rows.height,
            recorded_at=recorded_at,
            first_ts=rows["ts"].min(),  # type: ignore[arg-type]  # a column of times has a time as its least
            last_ts=rows["ts"].max(),  # type: ignore[arg-type]
            checksum=rows_checksum(dataset, rows),
            idempotency_key=idempotency_key,
        )
        if not _enter(connection, entry, rows, slot):
            assert idempotency_key is not None  # the only unique key that can be taken
            earlier = _earlier(connection, dataset, idempotency_key)
            assert earlier is not None  # the insert waited until it was committed
            return earlier
        _copy(connection, dataset, rows, slot)
        keep_primary_source(connection, dataset, rows["instrument_id"], source)
        keep_last(connection, dataset, rows, recorded_at, is_deleted=is_deleted)
    return entry


def rows_checksum(dataset: Dataset, rows: pl.DataFrame) -> int:
    """The checksum of stored rows: the dataset's columns and their arrival, without `recorded_at`."""
    names = [column.name for column in (*dataset.columns, *HOT_ARRIVAL)]
    return checksum(rows.select(names).to_arrow(), names)


def with_instruments(connection: Connection, dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the `instrument_id` of each symbol.

    Raises:
        NotFoundError: a symbol is not known.
        InputError: the rows name another instrument than the symbol's.
    """
    symbols = rows["symbol"].unique().to_list()
    known = dict(
        connection.execute(
            "SELECT symbol, instrument_id FROM instruments WHERE kind = %s AND symbol = ANY(%s)",
            (dataset.kind.value, symbols),
        ).fetchall()
    )
    for symbol in symbols:
        if symbol not in known:
            raise unknown_symbol(connection, dataset, symbol)
    resolved = rows["symbol"].replace_strict(known, return_dtype=pl.Int64)
    wrong = rows["instrument_id"].is_not_null() & (rows["instrument_id"] != resolved)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(
            f"instrument_id {rows['instrument_id'][row]} in row {row} is not that of {rows['symbol'][row]!r}, "
            f"which is {resolved[row]}; leave the column out",
            given=rows["instrument_id"][row],
            expected=resolved[row],
        )
    return rows.with_columns(resolved.alias("instrument_id"))


def unknown_symbol(connection: Connection, dataset: Dataset, symbol: str) -> NotFoundError:
    """The error for a symbol without instrument, with the nearest names."""
    known = connection.execute(
        "SELECT symbol FROM instruments WHERE kind = %s ORDER BY symbol LIMIT 10000", (dataset.kind.value,)
    ).fetchall()
    names = get_close_matches(symbol, [name for (name,) in known])
    return NotFoundError(
        f"{dataset.kind.value} symbol", symbol, known=names, hint="create it first, e.g. store.assets.create(symbol=...)"
    )


def _draw(connection: Connection, dataset: Dataset) -> tuple[int, datetime, int]:
    row = connection.execute(
        """SELECT nextval('write_id_seq'), greatest(clock_timestamp(), settled + interval '1 microsecond'), slot
           FROM mirror_state WHERE dataset = %s""",
        (dataset.name,),
    ).fetchone()
    assert row is not None  # the migration seeds one row a dataset
    return int(row[0]), row[1], int(row[2])


def _earlier(connection: Connection, dataset: Dataset, idempotency_key: str) -> WriteResult | None:
    row = connection.execute(
        """SELECT id, source, rows, recorded_at, first_ts, last_ts, checksum FROM writes
           WHERE dataset = %s AND idempotency_key = %s""",
        (dataset.name, idempotency_key),
    ).fetchone()
    if row is None:
        return None
    write_id, source, count, recorded_at, first_ts, last_ts, total = row
    return WriteResult(
        write_id, dataset.name, source, count, recorded_at, first_ts, last_ts, total, idempotency_key, is_duplicate=True
    )


def _enter(connection: Connection, entry: WriteResult, rows: pl.DataFrame, slot: int) -> bool:
    """Add the ledger entry; False where its idempotency key is taken."""
    cursor = connection.execute(
        """INSERT INTO writes (id, dataset, kind, source, recorded_at, rows, first_ts, last_ts,
                               first_instrument, last_instrument, checksum, idempotency_key, slot)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (dataset, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING""",
        (
            entry.write_id,
            entry.dataset,
            WriteKind.HOT.value,
            entry.source,
            entry.recorded_at,
            entry.rows,
            entry.first_ts,
            entry.last_ts,
            rows["instrument_id"].min(),
            rows["instrument_id"].max(),
            entry.checksum,
            entry.idempotency_key,
            slot,
        ),
    )
    return cursor.rowcount == 1


def _copy(connection: Connection, dataset: Dataset, rows: pl.DataFrame, slot: int) -> None:
    """Rows go in sorted, so that both indexes grow in order; `ordinal` keeps their place."""
    ordered = rows.sort("instrument_id", "ts", maintain_order=True).with_columns(slot=pl.lit(slot, pl.Int16))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(dataset.name), sql.SQL(", ").join(map(sql.Identifier, ordered.columns))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in ordered.iter_slices(_COPY_ROWS):
            text = memoryview(copy_text(chunk))
            for start in range(0, len(text), _COPY_BYTES):
                copy.write(text[start : start + _COPY_BYTES])


def keep_primary_source(connection: Connection, dataset: Dataset, instruments: pl.Series, source: str) -> None:
    """The first source to observe an instrument is what reads take by default."""
    connection.execute(
        """INSERT INTO primary_sources (dataset, instrument_id, source)
           SELECT %s, instrument_id, %s FROM unnest(%s::bigint[]) AS instrument_id ORDER BY instrument_id
           ON CONFLICT DO NOTHING""",
        (dataset.name, source, instruments.unique().to_list()),
    )


def keep_last(
    connection: Connection, dataset: Dataset, rows: pl.DataFrame, recorded_at: datetime, *, is_deleted: bool = False
) -> None:
    """Bring the last values up to date with `rows`, in key order so that writers never wait in a ring.

    A tombstone may have hit the last value: it leaves a stale entry, which a later and newer row or a repair clears.
    `touched_by` changes with every effect, so that a repair can tell that it was overtaken.
    """
    key = list(dataset.series_key)
    columns = [column.name for column in (*dataset.columns, *LAST_ARRIVAL)]
    entries = (
        rows.sort("ts", "write_id", "ordinal")
        .group_by(key)
        .last()
        .with_columns(recorded_at=pl.lit(recorded_at).cast(pl.Datetime("us", "UTC")))
        .select(*columns, is_stale=pl.lit(is_deleted), touched_by="write_id")
        .sort(key)
    )
    with connection.cursor() as cursor:
        cursor.executemany(_upsert_last(dataset, entries.columns, is_deleted), plain(entries).rows())


def _upsert_last(dataset: Dataset, columns: list[str], is_deleted: bool) -> sql.Composable:
    is_newer = "(excluded.ts, excluded.write_id, excluded.ordinal) > (held.ts, held.write_id, held.ordinal)"
    if is_deleted:
        changes = sql.SQL(
            "is_stale = true, touched_by = excluded.touched_by, "
            f"(ts, write_id, ordinal) = (SELECT CASE WHEN {is_newer} THEN excluded.ts ELSE held.ts END, "
            f"CASE WHEN {is_newer} THEN excluded.write_id ELSE held.write_id END, "
            f"CASE WHEN {is_newer} THEN excluded.ordinal ELSE held.ordinal END)"
        )
    else:
        changes = sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
            for name in columns
            if name not in dataset.series_key
        ) + sql.SQL(f" WHERE {is_newer}")
    return sql.SQL("INSERT INTO {} AS held ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}").format(
        sql.Identifier(last_name(dataset)),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        sql.SQL(", ").join(map(sql.Identifier, dataset.series_key)),
        changes,
    )
