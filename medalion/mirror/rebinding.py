"""A lake and a ledger that come from different moments made one store again, without a row lost that either holds.

PostgreSQL restored from an older backup knows less than the lake, a lake copied earlier less than PostgreSQL. Writers
and imports are kept out; every file is read; the ledger then takes over what only the lake knows, and gives the lake
again what only hot rows hold. What neither holds is booked as lost, by name. An empty batch under a fresh nonce ends
it, so that whoever still reads by an older pin, or mirrors into a copy of this lake, is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import polars as pl

from medalion.core.checksum import signed
from medalion.core.datasets import Dataset
from medalion.core.enums import WriteKind
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.frames import newest_of
from medalion.mirror.verification import Sums
from olap.delta.compaction import checked
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from oltp.hot.export import rows_of_writes
from oltp.hot.sources import enter_sources
from oltp.hot.writes import keep_last, rows_checksum
from oltp.ledger import batches, losses, rebinding
from oltp.ledger.folding import folded
from oltp.ledger.rebinding import RebindResult, WriteEntry
from oltp.server.engine import Connection, Postgres

Outcome: TypeAlias = tuple[str, str]
"""What of the dataset, and what became of it."""


@dataclass
class LakeContents:
    """What a lake holds: sums by write, what is known of each write, the names of instruments, and the newest rows."""

    sums: Sums = field(default_factory=Sums)
    writes: list[pl.DataFrame] = field(default_factory=list)
    names: set[tuple[int, str]] = field(default_factory=set)
    newest: list[pl.DataFrame] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)


def rebind(postgres: Postgres, table: LakeTable, connection: Connection) -> list[Outcome]:
    """Bind the lake to the ledger; what became of what only one of them knew. The caller maintains, leads, and keeps
    imports and writers out.

    Raises:
        InputError: the lake is that of another store; nothing was changed.
    """
    dataset, pin = table.dataset, table.refresh()
    held = _read(table, pin)
    told = [(path, f"{problem}; it was taken out of the table") for path, problem in held.damaged]
    told += _instruments(connection, table, held)
    pin = table.adopt()
    known = rebinding.entries_of(connection, dataset)
    writes = pl.concat([_NO_WRITES, *held.writes])
    writes = writes.group_by("id").agg(
        pl.col("source").first(),
        pl.col("recorded_at").first(),
        *(pl.col(f"first_{name}").min() for name in ("ts", "instrument")),
        *(pl.col(f"last_{name}").max() for name in ("ts", "instrument")),
    )
    until = folded(connection, dataset)[2]
    rebinding.reserve(
        connection,
        write_id=max([until, 1, *held.sums.held]),
        instrument_id=max([1, *(instrument for instrument, _ in held.names)]),
    )
    recorded = dict(writes.select("id", "recorded_at").iter_rows())
    found = _sorted_out(postgres, connection, dataset, known, recorded)
    adopted = writes.filter((pl.col("id") > until) & ~pl.col("id").is_in(found.held)).sort("id")
    sums = [held.sums.of(write_id) for write_id in adopted["id"]]
    adopted = adopted.with_columns(
        rows=pl.Series([rows for rows, _ in sums], dtype=pl.Int64),
        checksum=pl.Series([signed(total) for _, total in sums], dtype=pl.Int64),
    )
    told += _told(connection, dataset, known, found, adopted)
    if held.damaged:
        damaged = {path for path, _ in held.damaged}
        place = [place for place, path in enumerate(pin.files.path) if path in damaged]
        files = pin.files.where(np.array(place, np.int64))
        pin = table.replace(pin, files, [], removal=batches.new_nonce()) or table.refresh()
    rebinding.rebind(
        connection,
        dataset,
        known,
        found,
        adopted,
        batch=pin.batch,
        nonce=pin.nonce,
        known_until=writes["recorded_at"].max(),  # type: ignore[arg-type]  # a column of times
    )
    _last_values(postgres, connection, dataset, held, found)
    return told


_NO_WRITES = pl.DataFrame(
    schema={
        "id": pl.Int64,
        "source": pl.String,
        "recorded_at": pl.Datetime("us", "UTC"),
        "first_ts": pl.Datetime("us", "UTC"),
        "last_ts": pl.Datetime("us", "UTC"),
        "first_instrument": pl.Int64,
        "last_instrument": pl.Int64,
    }
)


def _read(table: LakeTable, pin: Pin) -> LakeContents:
    held, dataset = LakeContents(), table.dataset
    for path in pin.files.path:
        try:
            rows = pl.read_parquet(checked(table, path), hive_partitioning=False)
        except CorruptLakeError as error:
            held.damaged.append((str(path), str(error)))
            continue
        held.sums.add(dataset, rows)
        held.names.update(rows.select("instrument_id", "symbol").unique().iter_rows())
        held.newest.append(newest_of(dataset, rows))
        held.writes.append(
            rows.group_by(pl.col("write_id").alias("id")).agg(
                pl.col("source").first(),
                pl.col("recorded_at").first(),
                pl.col("ts").min().alias("first_ts"),
                pl.col("ts").max().alias("last_ts"),
                pl.col("instrument_id").min().alias("first_instrument"),
                pl.col("instrument_id").max().alias("last_instrument"),
            )
        )
    return held


def _instruments(connection: Connection, table: LakeTable, held: LakeContents) -> Iterator[Outcome]:
    """Instruments that the books do not know.

    Raises:
        InputError: a number stands for one instrument in the lake and for another in the books.
    """
    known = rebinding.names_of(connection, [instrument for instrument, _ in held.names])
    unknown: dict[int, str] = {}
    for instrument, symbol in sorted(held.names):
        name = known.get(instrument)
        if name is None:
            unknown[instrument] = symbol
        elif name != symbol and not rebinding.was_called(connection, instrument, symbol):
            raise InputError(
                f"{table.place} is the lake of another store: instrument {instrument} is {symbol!r} there and {name!r} "
                "in the books; nothing was changed, give the lake that belongs to them",
                given=symbol,
                expected=name,
            )
    if held.names and not known:
        raise InputError(
            f"{table.place} is the lake of another store: the books know none of its {len(unknown)} instruments; "
            "nothing was changed, restore the books from a backup first",
            given=sorted(unknown.values())[:10],
            expected="instruments of these books",
        )
    return (
        (f"instrument {instrument}", f"{symbol!r} is not in the books: only sql() shows its rows")
        for instrument, symbol in unknown.items()
    )


def _sorted_out(
    postgres: Postgres, connection: Connection, dataset: Dataset, known: list[WriteEntry], recorded: dict[int, object]
) -> RebindResult:
    """What becomes of each entry; one number and one time of recording are one write, in ledger and lake."""
    found = RebindResult()
    for entry in known:
        write_id, is_taken = entry.write_id, entry.write_id in recorded
        if recorded.get(write_id) == entry.recorded_at or (entry.rows == 0 and not entry.is_hot and not is_taken):
            found.held.append(write_id)
        elif entry.is_hot and is_taken:
            fresh = rebinding.fresh_id(connection)
            found.renumbered[write_id] = (fresh, _checksum_as(postgres, dataset, write_id, fresh))
        elif entry.is_hot:
            found.waiting.append(write_id)
        elif entry.kind is WriteKind.IMPORT and not entry.is_done:
            found.withdrawn.append(write_id)
        else:
            found.lost[write_id] = rebinding.fresh_id(connection) if is_taken else write_id
    return found


def _checksum_as(postgres: Postgres, dataset: Dataset, write_id: int, fresh: int) -> int:
    """The checksum that the hot rows of a write have under another number."""
    total = 0
    with postgres.arrow() as source:
        for rows in rows_of_writes(source, dataset, [write_id]):
            total += rows_checksum(dataset, rows.with_columns(write_id=pl.lit(fresh, pl.Int64)))
    return signed(total)


def _told(
    connection: Connection, dataset: Dataset, known: list[WriteEntry], found: RebindResult, adopted: pl.DataFrame
) -> Iterator[Outcome]:
    by_id = {entry.write_id: entry for entry in known}
    if adopted.height:
        yield f"{adopted.height:,} writes", f"{adopted['rows'].sum():,} rows that only the lake held are in the ledger"
    were_there = [write_id for write_id in found.waiting if by_id[write_id].is_done]
    for again in (were_there, list(found.renumbered)):
        if again:
            yield f"{len(again):,} writes", f"{sum(by_id[i].rows for i in again):,} rows go to the lake again"
    for write_id in found.withdrawn:
        yield f"write {write_id}", "an import that never reached the lake was withdrawn; import it again"
    for write_id in found.lost:
        rows = by_id[write_id].rows
        yield f"write {write_id}", f"{rows:,} rows are lost, {losses.described(connection, dataset, write_id)}"


def _last_values(
    postgres: Postgres, connection: Connection, dataset: Dataset, held: LakeContents, found: RebindResult
) -> None:
    """An entry a series, each of them stale: the next look at one reads the range and repairs it."""
    parts = list(held.newest)
    hot = [*found.waiting, *(fresh for fresh, _ in found.renumbered.values())]
    with postgres.arrow() as source:
        parts += (newest_of(dataset, rows) for rows in rows_of_writes(source, dataset, hot))
    if not parts:
        return
    newest = newest_of(dataset, pl.concat(parts))
    with connection.transaction():
        for (source_name,), rows in newest.group_by("source"):
            first = min(rows["write_id"].to_list())
            enter_sources(connection, dataset, rows["instrument_id"], str(source_name), write_id=first)
        keep_last(connection, dataset, newest, newest["recorded_at"][0])
        rebinding.mark_stale(connection, dataset)
