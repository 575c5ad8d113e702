"""Bulk history: years of rows straight into the lake, as one write, all or nothing.

An import is a batch. Its files are written first, under the open-write mark; then, leading the dataset, the batch is
claimed with the list of its files in one transaction, committed to the lake and noted. Whoever leads next finishes a
claimed import from that list.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields

import polars as pl

from medalion.checksum import checksum
from medalion.datasets import Dataset
from medalion.frames import Frame, conform
from medalion.mirror import Mirror
from medalion.types import BatchStatus, WriteKind
from olap.lake import Lake, LakeTable
from olap.parquet import StagedFile
from oltp import ledger
from oltp.engine import Postgres, one
from oltp.instruments import keep_primary_source, with_instruments
from oltp.ledger import Batch
from oltp.writes import OpenWrite, WriteResult, begin, earlier_write, enter, entry_of, numbered

_CHUNK_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class ImportResult(WriteResult):
    """One durable import; `is_duplicate` where the same content had been imported and nothing was written now."""

    @classmethod
    def of(cls, write: WriteResult) -> "ImportResult":
        return cls(**{field.name: getattr(write, field.name) for field in fields(WriteResult)})


class History:
    """Imports into the lake of one store."""

    def __init__(self, postgres: Postgres, lake: Lake, mirror: Mirror) -> None:
        self._postgres = postgres
        self._lake = lake
        self._mirror = mirror

    def import_rows(self, dataset: Dataset, frame: Frame, *, feed: str, generation: int) -> ImportResult:
        """Bring the rows into the lake; see `Observations.import_history`."""
        rows = conform(dataset, frame, source=feed)
        names = [column.name for column in dataset.columns if column.name != "instrument_id"]
        content = checksum(rows.select(names).to_arrow(), names)
        identity = f"import:{content}:{rows.height}:{generation}"
        table = self._lake.table(dataset)
        files: list[StagedFile] = []
        with self._postgres.connection() as writer, self._postgres.connection() as leader, ExitStack() as lead:
            try:
                with writer.transaction():
                    ledger.stage_import(writer, dataset)
                    opened = begin(writer, dataset)
                    if earlier := earlier_write(writer, dataset, identity):
                        return ImportResult.of(earlier)
                    rows = numbered(with_instruments(writer, dataset, rows), opened)
                    entry = entry_of(dataset, rows, opened, source=feed, idempotency_key=identity)
                    _stage(table, rows, opened, files)
                    lead.enter_context(ledger.leading(leader, dataset))
                    number = self._mirror.finish(leader, dataset) + 1
                    if not enter(writer, entry, rows["instrument_id"], kind=WriteKind.IMPORT, batch=number):
                        raise _TakenError
                    ledger.enter_batch(writer, dataset, _batch(number, entry, files))
                    keep_primary_source(writer, dataset, rows["instrument_id"], feed)
            except _TakenError:
                table.discard(files)
                return ImportResult.of(one(earlier_write(leader, dataset, identity)))
            except BaseException:
                table.discard(files)
                raise
            self._mirror.finish(leader, dataset)
        return ImportResult.of(entry)


class _TakenError(Exception):
    """The same content was imported by another process meanwhile."""


def _stage(table: LakeTable, rows: pl.DataFrame, opened: OpenWrite, files: list[StagedFile]) -> None:
    """Write the rows to files, appending each to `files` as soon as it exists."""
    newest = table.refresh().files.newest()
    recorded_at = pl.lit(opened.recorded_at).cast(pl.Datetime("us", "UTC"))
    for chunk in rows.iter_slices(_CHUNK_ROWS):
        files += table.stage(chunk.with_columns(recorded_at=recorded_at), newest)


def _batch(number: int, entry: WriteResult, files: list[StagedFile]) -> Batch:
    return Batch(
        number=number,
        nonce=ledger.new_nonce(),
        kind=WriteKind.IMPORT,
        status=BatchStatus.CLAIMED,
        rows=entry.rows,
        checksum=entry.checksum,
        file_list=[asdict(file) for file in files],
    )
