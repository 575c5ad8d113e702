"""What an import is given → pieces of bounded size: frames, readers, CSV and Parquet files, folders of them."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame

ImportPart: TypeAlias = "Frame | pa.RecordBatchReader | str | os.PathLike[str]"
ImportData: TypeAlias = "ImportPart | Iterable[ImportPart]"

PIECE_ROWS = 131_072
_BLOCK_BYTES = 8 << 20
_CSV = {".csv": None, ".csv.gz": "gzip", ".csv.zst": "zstd"}
_PARQUET = (".parquet", ".pq")
_ENDINGS = (*_CSV, *_PARQUET)
_BEYOND = "\0beyond"


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import is; what is not known beforehand is None.

    `rows` counts what was read so far, rejected rows included, `bytes` what was read of files as they lie on disk.
    """

    rows: int
    total_rows: int | None
    bytes: int
    total_bytes: int | None
    files: int
    total_files: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of one source; `first_row` is the place of the first, from 1, in the file named, if any.

    `beyond` holds what a line of CSV has after its last column, null where that is nothing; None: no line has more.
    """

    frame: pl.DataFrame
    file: str
    first_row: int
    beyond: pl.Series | None = None


@dataclass
class Source:
    """Rows to be read once, in order, a piece at a time; `progress` says how far that is."""

    given: ImportData
    _rows: int = 0
    _bytes: int = 0
    _files: int = 0
    _total_rows: int | None = None
    _total_bytes: int | None = None
    _total_files: int | None = None
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if isinstance(self.given, list | tuple):
            self.given = [each for one in self.given for each in (_files_of(one) if _is_path(one) else [one])]
        elif _is_path(self.given):
            self.given = list(_files_of(self.given))
        given: Any = self.given
        paths = [Path(one) for one in given if _is_path(one)] if isinstance(given, list) else []
        if paths and len(paths) == len(given):
            self._total_files = len(paths)
            self._total_bytes = sum(_size(path) for path in paths)
            if all(_ending(path) in _PARQUET for path in paths):
                self._total_rows = sum(_read(path, lambda file: pq.read_metadata(file).num_rows) for path in paths)
        elif isinstance(given, pl.DataFrame | pa.Table | pa.RecordBatch) or hasattr(given, "iloc"):
            self._total_rows = len(given)

    def progress(self) -> ImportProgress:
        """How many rows and bytes have been read, of how many where that is known."""
        return ImportProgress(
            rows=self._rows,
            total_rows=self._total_rows,
            bytes=self._bytes,
            total_bytes=self._total_bytes,
            files=self._files,
            total_files=self._total_files,
            seconds=time.monotonic() - self._started,
        )

    def pieces(self) -> Iterator[Piece]:
        """The rows in order, a bounded number at a time.

        Raises:
            InputError: what was given is no source of rows, or a file cannot be read.
        """
        given: Any = self.given
        is_one = isinstance(given, _TABLES) or hasattr(given, "__arrow_c_stream__") or not isinstance(given, Iterable)
        first_row = 1
        for one in [given] if is_one else given:
            if _is_path(one):
                for path in _files_of(one):
                    yield from self._file(path)
                continue
            for frame in _frames(one):
                yield self._piece(frame, "", first_row)
                first_row += frame.height

    def _file(self, path: Path) -> Iterator[Piece]:
        before, first_row = self._bytes, 1
        for frame, read in _file_frames(path):
            self._bytes = before + read
            yield self._piece(frame, str(path), first_row)
            first_row += frame.height
        self._bytes = before + _size(path)
        self._files += 1

    def _piece(self, frame: pl.DataFrame, file: str, first_row: int) -> Piece:
        self._rows += frame.height
        beyond = frame[_BEYOND] if _BEYOND in frame.columns else None
        return Piece(frame.drop(_BEYOND, strict=False), file, first_row, beyond)


_TABLES = (pl.DataFrame, pl.LazyFrame, pa.Table, pa.RecordBatch, pa.RecordBatchReader, str, bytes, dict, os.PathLike)


def _is_path(given: object) -> bool:
    return isinstance(given, str | os.PathLike)


def _frames(given: Any) -> Iterator[pl.DataFrame]:
    """Slices of a table, or what a reader or plan gives; at least one, so that an empty one has its columns checked."""
    if isinstance(given, pl.LazyFrame):
        yield from _sliced(_batches(given), given)
    elif hasattr(given, "iloc"):
        yield from (polars_frame(given.iloc[at : at + PIECE_ROWS]) for at in range(0, max(len(given), 1), PIECE_ROWS))
    elif isinstance(given, pa.RecordBatchReader) or (hasattr(given, "__arrow_c_stream__") and not _is_table(given)):
        reader = given if isinstance(given, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(given)
        yield from _sliced((polars_frame(batch) for batch in reader), reader.schema.empty_table())
    else:
        frame = polars_frame(given)
        yield from _sliced([frame], frame)


def _is_table(given: object) -> bool:
    return isinstance(given, pl.DataFrame | pa.Table)


def _batches(lazy: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    try:
        yield from lazy.collect_batches(chunk_size=PIECE_ROWS, maintain_order=True)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the lazy frame fails: {error}", expected="a frame") from error


def _sliced(frames: Iterable[pl.DataFrame], otherwise: Frame) -> Iterator[pl.DataFrame]:
    """The frames, cut where they are long; an empty one with the columns of `otherwise` if there is none."""
    is_empty = True
    for frame in frames:
        for part in frame.iter_slices(PIECE_ROWS) if frame.height else [frame]:
            is_empty = False
            yield part
    if is_empty:
        yield polars_frame(otherwise.head(0) if isinstance(otherwise, pl.LazyFrame) else otherwise)


def _files_of(given: Any) -> Iterator[Path]:
    """A file itself; of a folder every CSV and Parquet file in it, by name."""
    path = Path(given)
    if not path.is_dir():
        _ending(path)
        yield path
        return
    if (path / "_delta_log").exists():
        raise InputError(f"{path} is a Delta table, and some of its files may be out of date; give a scan of it")
    inside = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not inside:
        raise InputError(f"there is no file in {path}", given=str(path), expected=", ".join(_ENDINGS))
    for file in inside:
        _ending(file)
    yield from inside


def _ending(path: Path) -> str:
    """How the name ends, by which its format is known."""
    for ending in _ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    expected = ", ".join(_ENDINGS)
    raise InputError(f"{path} is neither CSV nor Parquet by its name; expected one of {expected}", given=str(path))


def _size(path: Path) -> int:
    return int(_read(path, lambda file: os.fstat(file.fileno()).st_size))


def _read(path: Path, work: Callable[[IO[bytes]], Any]) -> Any:
    try:
        with path.open("rb") as file:
            return work(file)
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path}", given=str(path))
    return InputError(f"{path} cannot be read: {error}", given=str(path))


def _file_frames(path: Path) -> Iterator[tuple[pl.DataFrame, int]]:
    """Pieces of a file, and how many of its bytes were read by then."""
    ending = _ending(path)
    try:
        with path.open("rb") as file:
            if ending in _PARQUET:
                yield from _parquet(file)
            else:
                yield from _csv(file, _CSV[ending])
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _parquet(file: IO[bytes]) -> Iterator[tuple[pl.DataFrame, int]]:
    """Row group by row group, and within one a batch at a time."""
    size = os.fstat(file.fileno()).st_size
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parquet:
        done, rows = 0, max(parquet.metadata.num_rows, 1)
        batches = (polars_frame(batch) for batch in parquet.iter_batches(PIECE_ROWS))
        for frame in _sliced(batches, parquet.schema_arrow.empty_table()):
            done += frame.height
            yield frame, size * done // rows


# Blocks are cut here and parsed by Polars, because `pyarrow.csv` streams no faster and keeps less: a quote that the
# file never closes ends with it, so that a file cut short is imported as if it were whole; a record longer than a block
# is an error; a row with too few or too many cells goes to a callback as raw text, to be parsed and put in its place.
def _csv(file: IO[bytes], compression: Any) -> Iterator[tuple[pl.DataFrame, int]]:
    """Every column as text, so that each digit survives; each block of lines is parsed with the header before it."""
    raw: Any = pa.PythonFile(cast(Any, file), "r")
    stream = raw if compression is None else pa.CompressedInputStream(raw, compression)
    header = b""
    for block in _lines(stream):
        frame = _parsed(header + block)
        if not header:
            header = block[: _record_end(block, block.find(b"\n"), 1)]
        for part in frame.iter_slices(PIECE_ROWS) if frame.height else [frame]:
            yield part, file.tell()


def _parsed(text: bytes) -> pl.DataFrame:
    """The lines after the header; with a column more where some have more cells than it."""
    try:
        return pl.read_csv(text, infer_schema=False)
    except pl.exceptions.ComputeError as error:
        frame = pl.read_csv(text, infer_schema=False, truncate_ragged_lines=True)
        lines = list(csv.reader(StringIO(text.decode(), newline="")))[1:]
        if len(lines) != frame.height:
            raise error
        beyond = [",".join(line[frame.width :]) if len(line) > frame.width else None for line in lines]
        return frame.with_columns(pl.Series(_BEYOND, beyond, dtype=pl.String))


def _lines(stream: Any) -> Iterator[bytes]:
    """Blocks that end where a record does."""
    left, is_first = b"", True
    while more := stream.read(_BLOCK_BYTES):
        block = left + more
        end = _record_end(block, block.rfind(b"\n"), -1)
        if end:
            yield block[:end]
            is_first = False
        left = block[end:]
    if left or is_first:
        yield left


def _record_end(block: bytes, newline: int, step: int) -> int:
    """Where the record ends that a newline ends, or the next one before or after it that stands in no quotes."""
    quotes = block.count(b'"', 0, max(newline, 0))
    while newline >= 0 and quotes % 2:
        before = newline
        newline = block.find(b"\n", before + 1) if step > 0 else block.rfind(b"\n", 0, before)
        quotes += step * block.count(b'"', *sorted((before, max(newline, 0))))
    return newline + 1
