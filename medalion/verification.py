"""What the mirror holds, and whether lake, ledger and hot rows tell the same story."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from medalion.checksum import row_hashes, signed
from medalion.datasets import Dataset
from medalion.errors import CorruptLakeError
from olap.lake import Lake, LakeTable, Pin
from olap.parquet import digest, digest_in
from oltp import ledger
from oltp.engine import Connection, Postgres
from oltp.hot import HOT_ARRIVAL
from oltp.inspection import hot_rows, ledger_writes, mirror_facts, still_hot
from oltp.snapshot import snapshot

_SMALL_FILE = 1 << 20
_STATUS: dict[str, Any] = {
    "dataset": pl.String,
    "batch": pl.Int64,
    "lake_batch": pl.Int64,
    "unmirrored_writes": pl.Int64,
    "unmirrored_rows": pl.Int64,
    "lag": pl.Duration("us"),
    "hot_rows": pl.Int64,
    "lake_rows": pl.Int64,
    "lake_bytes": pl.Int64,
    "files": pl.Int64,
    "small_files": pl.Float64,
    "leader": pl.Int64,
    "held_by": pl.Int64,
    "held_for": pl.Duration("us"),
    "settled": pl.Datetime("us", "UTC"),
}
DRIFT = pl.Schema({"dataset": pl.String, "subject": pl.String, "problem": pl.String})


def status(postgres: Postgres, lake: Lake, datasets: Iterable[Dataset]) -> pl.DataFrame:
    """A row a dataset: how far the lake is, what waits, how long, who leads, and what holds it back.

    `small_files` is the share of files under 1 MiB; `leader` and `held_by` are PostgreSQL process ids.
    """
    rows = []
    with postgres.connection() as connection:
        for dataset in datasets:
            pin = lake.table(dataset).refresh()
            rows.append(
                mirror_facts(connection, dataset)
                | {
                    "lake_batch": pin.batch,
                    "lake_rows": int(pin.files.rows.sum()),
                    "lake_bytes": int(pin.files.bytes.sum()),
                    "files": len(pin.files),
                    "small_files": float((pin.files.bytes < _SMALL_FILE).mean()) if len(pin.files) else None,
                    "leader": ledger.leader(connection, dataset),
                }
            )
    return pl.DataFrame(rows, schema=_STATUS)


@dataclass
class Sums:
    """Per write the number of its rows and the sum of their hashes."""

    held: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, dataset: Dataset, rows: pl.DataFrame) -> None:
        names = [column.name for column in (*dataset.columns, *HOT_ARRIVAL)]
        hashes = row_hashes(rows.select(names).to_arrow(), names)
        writes, place, counts = np.unique(rows["write_id"].to_numpy(), return_inverse=True, return_counts=True)
        totals = np.zeros(len(writes), np.uint64)
        np.add.at(totals, place, hashes)
        for write_id, count, total in zip(writes.tolist(), counts.tolist(), totals.tolist(), strict=True):
            earlier = self.held.get(write_id, (0, 0))
            self.held[write_id] = (earlier[0] + count, earlier[1] + total)

    def problem(self, write_id: int, rows: int, checksum: int) -> str | None:
        """What differs from the ledger, if anything."""
        count, total = self.held.get(write_id, (0, 0))
        if count != rows:
            return f"{count:,} rows instead of {rows:,}"
        return None if signed(total) == checksum else "the checksum differs"


def verify(postgres: Postgres, table: LakeTable, dataset: Dataset, connection: Connection) -> Iterator[tuple[str, str]]:
    """(subject, problem) of everything that does not agree; the caller leads the dataset, so that no batch moves.

    Every file is read whole: its bytes against the hash in its name, its rows against the checksums of their writes.
    """
    try:
        pin = table.refresh()
    except CorruptLakeError as error:
        yield "Delta log", str(error)
        return
    last = next((batch for batch in ledger.last_batches(connection, dataset) if batch.status == "done"), None)
    expected = (last.number, last.nonce) if last else (0, None)
    if (pin.batch, pin.nonce) != expected:
        yield "Delta log", f"the lake is at batch {pin.batch}, the ledger at {expected[0]}, or their nonces differ"
    in_lake, in_hot = Sums(), Sums()
    for path in pin.files.path:
        if problem := _add_file(dataset, table.path / path, in_lake):
            yield str(path), problem
    with snapshot(postgres) as arrow:
        writes = ledger_writes(arrow, dataset)
        for rows in hot_rows(arrow, dataset):
            in_hot.add(dataset, rows)
    yield from _against_ledger(connection, writes, pin, in_lake, in_hot)


def _add_file(dataset: Dataset, file: Path, sums: Sums) -> str | None:
    try:
        content = file.read_bytes()
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if digest(content) != digest_in(file.name):
        return "its bytes have changed since it was written"
    sums.add(dataset, pl.read_parquet(content, hive_partitioning=False))
    return None


def _against_ledger(
    connection: Connection, writes: pl.DataFrame, pin: Pin, in_lake: Sums, in_hot: Sums
) -> Iterator[tuple[str, str]]:
    emptied = set(writes.filter("is_hot")["write_id"]) - still_hot(connection, writes["write_id"].to_list())
    for write_id, rows, checksum, dropped_rows, dropped_checksum, batch, is_done, is_hot in writes.iter_rows():
        left = (rows - dropped_rows, signed(checksum - dropped_checksum))
        if is_done and batch <= pin.batch and (problem := in_lake.problem(write_id, *left)):
            yield f"write {write_id}, batch {batch}", f"in the lake {problem}"
        if not is_done and write_id in in_lake.held:
            yield f"write {write_id}", "in the lake although no batch that is done holds it"
        if is_hot and write_id not in emptied and (problem := in_hot.problem(write_id, rows, checksum)):
            yield f"write {write_id}", f"in the hot table {problem}"
    for write_id in sorted(in_lake.held.keys() - set(writes["write_id"])):
        yield f"write {write_id}", "in the lake but not in the ledger"
