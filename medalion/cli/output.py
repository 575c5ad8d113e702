"""Frames on standard output or in a file; messages on standard error."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence, Set
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import typer

from medalion.core.errors import InputError

if TYPE_CHECKING:
    import polars as pl

TABLE_ROWS = 20
_WIDE = 100_000
_WRAPPED = 12
"""The least width of a column of text whose cells are broken into lines."""
_UNBROKEN = re.compile(r"[0-9a-f-]{32,36}|[0-9]{4}-[0-9]{2}-[0-9]{2}.*")
_GAP = 3
_shows_all: ContextVar[bool] = ContextVar("shows_all", default=False)


def show_all_columns(is_wide: bool) -> None:
    """Whether tables from here on are as wide as they are, instead of as the terminal is."""
    _shows_all.set(is_wide)


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def say(message: str) -> None:
    """One line on standard error, where it does not mix with rows."""
    typer.echo(one_line(message), err=True)


def log(message: str) -> None:
    """The same with the time, of a command that runs on and on."""
    say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {message}")


def put(text: str) -> None:
    """The text on standard output, all of it: unbuffered, one call may write a part and say so only by its result."""
    sys.stdout.flush()
    left = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def one_line(text: str) -> str:
    """The text with line breaks and runs of spaces folded, and nothing that would steer a terminal."""
    return shown(" ".join(text.split()))


def shown(text: str) -> str:
    r"""The text with what cannot be printed as `\n`, `\x1b` and the like."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_of(format: Format | None, output: Path | None) -> Format:
    """The format asked for, else the one that the file's name ends in, else a table.

    Raises:
        InputError: Parquet without a file, or a file whose name tells no format.
    """
    if format is None and output is not None:
        suffix = output.suffix.lower().removeprefix(".")
        if suffix not in (Format.CSV, Format.JSON, Format.PARQUET):
            raise InputError(
                f"the name {output.name!r} tells no format; end it in .csv, .json or .parquet, or pass --format",
                given=output.name,
            )
        return Format(suffix)
    if format is Format.PARQUET and output is None:
        raise InputError("Parquet is not for the terminal; pass --output FILE", given=format, expected="--output FILE")
    return format or Format.TABLE


def emit(frame: pl.DataFrame, *, format: Format = Format.TABLE, output: Path | None = None) -> None:
    """Print the rows, or write them to `output`.

    Decimals keep every digit (in tables without trailing zeros; in JSON they are strings), times are ISO 8601 in UTC.

    Raises:
        InputError: the file cannot be written, or Parquet without a file.
    """
    if output is None:
        put(_text(frame, format_of(format, None), file=sys.stdout))
        return
    try:
        if format is Format.PARQUET:
            frame.write_parquet(output)
        else:
            output.write_text(_text(frame, format, file=io.StringIO()), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror or error}", given=str(output)) from error
    say(f"wrote {frame.height:,} rows to {output}")


def _text(frame: pl.DataFrame, format: Format, *, file: IO[str]) -> str:
    """The rows as they are written to `file`."""
    if format is Format.TABLE:
        numbers = {name for name, kind in frame.schema.items() if kind.is_numeric()}
        return _table(frame.columns, frame.iter_rows(), right=numbers, file=file)
    printable = _printable(frame, flat=format is Format.CSV)
    return printable.write_csv() if format is Format.CSV else f"{printable.write_json()}\n"


def _printable(frame: pl.DataFrame, *, flat: bool) -> pl.DataFrame:
    """Times, spans and bytes as text; with `flat` nested columns too, as JSON."""
    import polars as pl

    columns: list[pl.Expr | pl.Series] = []
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if isinstance(kind, pl.Datetime):
            utc = column if kind.time_zone is None else column.dt.convert_time_zone("UTC")
            columns.append(utc.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{'Z' if kind.time_zone else ''}"))
        elif isinstance(kind, pl.Duration):
            columns.append(column.dt.to_string("iso"))
        elif kind == pl.Binary:
            columns.append(column.bin.encode("hex"))
        elif flat and kind.is_nested():
            cells = [None if cell is None else cell_text(cell) for cell in frame[name].to_list()]
            columns.append(pl.Series(name, cells, dtype=pl.String))
    return frame.with_columns(columns)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output."""
    put(_table(header, rows, file=sys.stdout))


def _table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, right: Set[str] = frozenset(), file: IO[str]
) -> str:
    """The table as text for `file`, without markup, so that every cell shows as it is.

    On a terminal, and where standard output goes elsewhere, it is not wider than 80 columns or the terminal: long texts
    are broken into lines, then columns are left out from the last, and named on standard error. `--wide` and files show
    all.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [[cell_text(cell) for cell in row] for row in rows]
    names = [shown(name) for name in header]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    most = shutil.get_terminal_size().columns if file is sys.stdout and not _shows_all.get() else _WIDE
    columns = zip(names, *cells, strict=True)
    least = [
        width if name in right else min(width, max(_WRAPPED, *map(_unbroken, column)))
        for name, width, column in zip(header, widths, columns, strict=True)
    ]
    fitting = _fitting(widths, least, most)
    console = Console(file=file, width=most, markup=False, highlight=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in zip(names, fitting, strict=False):
        side: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(name, justify=side, width=width, no_wrap=width is None, overflow="fold")
    for row in cells:
        table.add_row(*row[: len(fitting)])
    with console.capture() as capture:
        console.print(table)
    if cells and (left := names[len(fitting) :]):
        say(f"left out for want of room: {', '.join(left)}; --wide shows all")
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _unbroken(cell: str) -> int:
    """The width below which a cell is not read any more: of ids, which are to be copied, and of times."""
    return len(cell) if _UNBROKEN.fullmatch(cell) else 0


def _fitting(widths: Sequence[int], least: Sequence[int], most: int) -> list[int | None]:
    """The widths of the columns that are shown, from the first: None is as wide as its widest cell.

    >>> _fitting([10, 30, 100], [10, 30, 12], 80)
    [None, None, 34]
    >>> _fitting([30, 30, 30], [30, 30, 30], 80)
    [None, None]
    """
    count = len(widths)
    while count > 1 and sum(least[:count]) + _GAP * (count - 1) > most:
        count -= 1
    left = most - sum(least[:count]) - _GAP * (count - 1)
    fitting: list[int | None] = []
    for width, needed in zip(widths[:count], least, strict=False):
        given = min(width, needed + max(left, 0))
        left -= given - needed
        fitting.append(None if given == width else given)
    return fitting


def cell_text(value: object) -> str:
    """One value on one line: `-` for null, decimals without trailing zeros, times in UTC."""
    match value:
        case None:
            return "-"
        case Decimal():
            text = f"{value:f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime():
            utc = value if value.tzinfo is None else value.astimezone(UTC)
            return utc.isoformat().replace("+00:00", "Z")
        case bytes():
            return value.hex()
        case list() | dict():
            return shown(json.dumps(value, default=cell_text, ensure_ascii=False, separators=(",", ":")))
    return shown(str(value))


def emit_records(names: Sequence[str], records: Iterable[object], *, format: Format = Format.TABLE) -> None:
    """Print the named attributes of each record, as rows."""
    emit(frame_of(names, ([getattr(record, name) for name in names] for record in records)), format=format)


def frame_of(names: Sequence[str], rows: Iterable[Sequence[object]]) -> pl.DataFrame:
    """Values of entities as a frame; ids, choices and JSON as text."""
    import polars as pl

    plain = (bool, int, float, str, Decimal, datetime)
    columns: dict[str, list[object]] = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            is_plain = value is None or (isinstance(value, plain) and not isinstance(value, StrEnum))
            columns[name].append(value if is_plain else cell_text(value))
    return pl.DataFrame(columns, strict=False)
