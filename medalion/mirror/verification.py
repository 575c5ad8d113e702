"""What the mirror holds, and whether lake, ledger and hot rows tell the same story."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from medalion.core.checksum import row_hashes, signed
from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError
from olap.delta.lake import Lake
from olap.delta.ownership import foreign, shown_store
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.files.parquet import has_hashes, is_unchanged
from oltp.hot.tables import HOT_ARRIVAL
from oltp.ledger import batches
from oltp.ledger.folding import folded
from oltp.ledger.inspection import WRITES, hot_rows, ledger_writes, mirror_facts, still_hot
from oltp.server.engine import Connection, Postgres

_SMALL_FILE = 1 << 20
_STATUS: dict[str, Any] = {
    "dataset": pl.String,
    "batch": pl.Int64,
    "lake_batch": pl.Int64,
    "unmirrored_writes": pl.Int64,
    "unmirrored_rows": pl.Int64,
    "lag": pl.Duration("us"),
    "hot_rows": pl.Int64,
    "lost_rows": pl.Int64,
    "lake_rows": pl.Int64,
    "lake_bytes": pl.Int64,
    "files": pl.Int64,
    "small_files": pl.Float64,
    "unproven_files": pl.Int64,
    "owner": pl.String,
    "leader": pl.Int64,
    "held_by": pl.Int64,
    "held_for": pl.Duration("us"),
    "settled": pl.Datetime("us", "UTC"),
}
DRIFT: dict[str, Any] = {"dataset": pl.String, "subject": pl.String, "problem": pl.String}
REBOUND: dict[str, Any] = {"dataset": pl.String, "subject": pl.String, "outcome": pl.String}


def status(postgres: Postgres, lake: Lake, datasets: Iterable[Dataset]) -> pl.DataFrame:
    """A row a dataset: how far the lake is, what waits, how long, who leads, and what holds it back.

    `small_files` is the share of files under 1 MiB, `unproven_files` the number of those whose reads prove their footer
    alone; `owner` is the number of the store that the lake belongs to;
    `leader` and `held_by` are PostgreSQL process ids.
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
                    "unproven_files": sum(not has_hashes(str(path)) for path in pin.files.path),
                    "owner": None if pin.owner is None else shown_store(pin.owner),
                    "leader": batches.leader(connection, dataset),
                }
            )
    return pl.DataFrame(rows, schema=_STATUS)


@dataclass
class Sums:
    """Per write the number of its rows and the sum of their hashes."""

    held: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, dataset: Dataset, rows: pl.DataFrame) -> None:
        """Count these rows in, each with its write."""
        names = [column.name for column in (*dataset.columns, *HOT_ARRIVAL)]
        hashes = row_hashes(rows.select(names).to_arrow(), names)
        writes, place, counts = np.unique(rows["write_id"].to_numpy(), return_inverse=True, return_counts=True)
        totals = np.zeros(len(writes), np.uint64)
        np.add.at(totals, place, hashes)
        for write_id, count, total in zip(writes.tolist(), counts.tolist(), totals.tolist(), strict=True):
            self.count(write_id, count, total)

    def count(self, write_id: int, rows: int, total: int) -> None:
        """Add rows of a write, and the sum of their hashes."""
        earlier = self.of(write_id)
        self.held[write_id] = (earlier[0] + rows, earlier[1] + total)

    def of(self, *write_ids: int) -> tuple[int, int]:
        """Rows and sum of one write, or of several together."""
        held = [self.held.get(write_id, (0, 0)) for write_id in write_ids]
        return sum(rows for rows, _ in held), sum(total for _, total in held)

    @property
    def rows(self) -> int:
        """Of all writes."""
        return sum(rows for rows, _ in self.held.values())

    def problem(self, write_id: int, rows: int, checksum: int) -> str | None:
        """What differs from the ledger, if anything."""
        count, total = self.of(write_id)
        if count != rows:
            return f"{count:,} rows instead of {rows:,}"
        return None if signed(total) == checksum else "the checksum differs"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at every row has found: (subject, problem) of all that does not agree, and what it is told from.

    `in_lake` counts the files that are whole, `damaged` are the others; `pin` is None where the log cannot be read.
    """

    pin: Pin | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    writes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=WRITES))
    folded: tuple[int, int, int] = (0, 0, 0)
    in_lake: Sums = field(default_factory=Sums)
    in_hot: Sums = field(default_factory=Sums)
    damaged: list[str] = field(default_factory=list)


def examine(postgres: Postgres, table: LakeTable, connection: Connection) -> Findings:
    """Compare ledger, lake and hot rows; the caller leads the dataset, so that no batch moves.

    Every file is read whole: its bytes against the hash in its name, its rows against the checksums of their writes.
    """
    dataset = table.dataset
    try:
        pin = table.refresh()
    except CorruptLakeError as error:
        return Findings(problems=[("Delta log", str(error))])
    from oltp.repositories.snapshot import snapshot  # with what maps the books

    with snapshot(postgres) as arrow:
        found = Findings(pin, writes=ledger_writes(arrow, dataset), folded=folded(connection, dataset))
        for rows in hot_rows(arrow, dataset):
            found.in_hot.add(dataset, rows)
    expected = batches.marks(batches.last_batches(connection, dataset))[-1]
    if pin.owner not in (None, table.store):
        found.problems.append(("Delta log", str(foreign(table.place, pin.owner, table.store))))
    if pin.mark != expected:
        differs = f"the lake is at batch {pin.batch}, the ledger at {expected[0]}, or their nonces differ"
        found.problems.append(("Delta log", differs))
    for path in pin.files.path:
        if problem := _add_file(table, str(path), found.in_lake):
            found.damaged.append(str(path))
            found.problems.append((str(path), problem))
    found.problems.extend(_against_ledger(connection, found, pin))
    return found


def _add_file(table: LakeTable, path: str, sums: Sums) -> str | None:
    try:
        content = table.place.read(path)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if not is_unchanged(path, content):
        return "its bytes have changed since it was written"
    sums.add(table.dataset, pl.read_parquet(content, hive_partitioning=False))
    return None


def _against_ledger(connection: Connection, found: Findings, pin: Pin) -> Iterator[tuple[str, str]]:
    writes, in_lake, in_hot = found.writes, found.in_lake, found.in_hot
    emptied = set(writes.filter("is_hot")["write_id"]) - still_hot(connection, writes["write_id"].to_list())
    for entry in writes.iter_rows(named=True):
        write_id, batch = entry["write_id"], entry["batch"]
        if entry["is_done"] and batch <= pin.batch and (problem := in_lake.problem(write_id, *kept_of(entry))):
            yield f"write {write_id}, batch {batch}", f"in the lake {problem}"
        if not entry["is_done"] and write_id in in_lake.held:
            yield f"write {write_id}", "in the lake although no batch that is done holds it"
        if entry["is_hot"] and write_id not in emptied and (problem := in_hot.problem(write_id, *entered_of(entry))):
            yield f"write {write_id}", f"in the hot table {problem}"
    unknown = sorted(in_lake.held.keys() - set(writes["write_id"]))
    rows, checksum, until = found.folded
    together = in_lake.of(*(write_id for write_id in unknown if write_id <= until))
    if (together[0], signed(together[1])) != (rows, checksum):
        yield f"folded writes up to {until}", f"in the lake {together[0]:,} rows instead of {rows:,}, or changed ones"
    for write_id in unknown:
        if write_id > until:
            yield f"write {write_id}", "in the lake but not in the ledger"


def entered_of(entry: dict[str, Any]) -> tuple[int, int]:
    """Rows and checksum that a write has where it was entered, by the ledger."""
    return entry["rows"] - entry["lost_rows"], signed(entry["checksum"] - entry["lost_checksum"])


def kept_of(entry: dict[str, Any]) -> tuple[int, int]:
    """The same in the lake, from which retention may have removed some."""
    rows, checksum = entered_of(entry)
    return rows - entry["dropped_rows"], signed(checksum - entry["dropped_checksum"])
