"""Rows that an import cannot take: why each of them, and the file in which they are set aside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError, StoreError
from medalion.ingest.sources import Piece

FILE, ROW, REASON = "file", "row", "reason"
_SHOWN = 3
_ENDINGS = (".csv", ".parquet")


class Faults:
    """The bad rows of one frame, each with the first reason it was given; what `conform` is told."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}

    def __call__(self, bad: pl.Series, where: str, given: pl.Series, expected: str) -> None:
        """Note why each bad row is; the first reason of a row counts."""
        rows = bad.arg_true()
        for row, value in zip(rows.to_list(), given.gather(rows).to_list(), strict=True):
            said = "null" if value is None else str(value).replace("\0", "\\0")
            self.reasons.setdefault(row, f"{where} is {said}; {expected}")

    def rows(self) -> list[int]:
        """The places of the bad rows, ascending."""
        return sorted(self.reasons)

    def rejected(self, dataset: Dataset, piece: Piece, named: pl.DataFrame) -> pl.DataFrame:
        """The bad rows as the rejects file shows them: where they stood, why, and their columns as text."""
        rows = self.rows()
        given = named.select(pl.all().gather(pl.lit(pl.Series(rows, dtype=pl.UInt32))))
        columns = [
            _text(given[name]) if name in given.columns else pl.Series(name, [None] * len(rows), dtype=pl.String)
            for name in _columns(dataset)
        ]
        return pl.DataFrame(
            [
                pl.Series(FILE, [piece.file] * len(rows), dtype=pl.String),
                pl.Series(ROW, [piece.first_row + row for row in rows], dtype=pl.Int64),
                pl.Series(REASON, [self.reasons[row] for row in rows], dtype=pl.String),
                *columns,
            ]
        )


def refused(rejected: pl.DataFrame, *, hint: str) -> InputError:
    """The error that names the first of the rejected rows."""
    said = [
        f"row {row}{f' of {file}' if file else ''}: {reason}"
        for file, row, reason in rejected.select(FILE, ROW, REASON).head(_SHOWN).iter_rows()
    ]
    return InputError(f"{'; '.join(said)}; nothing was imported, {hint}", given=rejected.row(0, named=True))


class RejectsFile:
    """A file that appears whole, under its name, when it is published; until then it lies hidden beside it.

    Columns are `file`, `row` (from 1), `reason`, and those of the dataset as the source had them, as text.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        if not path.name.lower().endswith(_ENDINGS):
            raise InputError(
                f"rejects {str(path)!r} should end in .csv or .parquet", given=str(path), expected=_ENDINGS
            )
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {path.parent} for the rejected rows", given=str(path))
        if path.exists() or path.is_symlink():
            raise InputError(f"there is a file {path} already, and it is never overwritten; give another name")
        self.path, self.count = path, 0
        self._hidden = path.with_name(f".{path.name}.{token_hex(4)}")
        self._names = (FILE, ROW, REASON, *_columns(dataset))
        self._sink: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, rejected: pl.DataFrame) -> None:
        """Write rows to the hidden file.

        Raises:
            StoreError: the folder cannot be written to.
        """
        try:
            sink = self._opened()
            if self._writer is not None:
                self._writer.write_table(rejected.to_arrow().cast(self._schema()))
            else:
                rejected.write_csv(sink, include_header=not self.count)
        except OSError as error:
            raise self._unwritable(error) from error
        self.count += rejected.height

    def publish(self) -> Path | None:
        """Give the file its name; None if there was nothing to write.

        Raises:
            StoreError: it cannot be, for instance because the name was taken meanwhile; says where the rows are.
        """
        if self._sink is None:
            return None
        try:
            if self._writer is not None:
                self._writer.close()
            self._sink.flush()
            os.fsync(self._sink.fileno())
            self._sink.close()
            os.link(self._hidden, self.path)
        except OSError as error:
            raise StoreError(
                f"the import is done, but its {self.count:,} rejected rows stay in {self._hidden}: "
                f"{self.path} cannot be written ({error.strerror})"
            ) from error
        self._hidden.unlink()
        self._sync_folder()
        return self.path

    def discard(self) -> None:
        """Remove what was not published."""
        if self._sink is not None:
            self._sink.close()
            self._hidden.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        if self._sink is None:
            descriptor = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._sink = os.fdopen(descriptor, "wb")
            if self.path.name.lower().endswith(".parquet"):
                self._writer = pq.ParquetWriter(self._sink, self._schema(), compression="zstd")
        return self._sink

    def _schema(self) -> pa.Schema:
        return pa.schema([pa.field(name, pa.int64() if name == ROW else pa.string()) for name in self._names])

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"rejected rows cannot be written to {self.path} ({error.strerror}); nothing was imported")


def _columns(dataset: Dataset) -> Sequence[str]:
    return [column.name for column in (*dataset.columns, *dataset.derived)]


def _text(series: pl.Series) -> pl.Series:
    """The values as text; nested ones as Python writes them."""
    if series.dtype.is_nested() or series.dtype == pl.Object:
        cells = [None if value is None else str(value) for value in series.to_list()]
        return pl.Series(series.name, cells, dtype=pl.String)
    if isinstance(series.dtype, pl.Datetime):
        return series.dt.to_string("iso:strict")
    return series.cast(pl.String)
