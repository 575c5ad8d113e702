"""A CSV or Parquet file → rows with the columns of a dataset; nothing is guessed about time zones, nothing rounded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from medalion.errors import InputError

if TYPE_CHECKING:
    from medalion.datasets import Dataset

TIME_NAMES = ("timestamp", "datetime", "date", "time")
_CSV, _PARQUET = (".csv", ".csv.gz", ".csv.zst"), (".parquet", ".pq")
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_STAMP = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?$"
_ZONE = r" ?(Z|z|[+-]\d{2}(:?\d{2})?)$"
_PARSED = "%Y-%m-%d %H:%M:%S%.f"
_EXPONENT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}\s*")


@dataclass(frozen=True, slots=True)
class Mapped:
    """How the columns of a file become those of a dataset.

    `rename` gives a column of the file its name here, `drop` leaves columns out; both in the file's spelling. `zone` is
    that of stamps without one. `constants` are columns that the file lacks.
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    zone: str | None = None
    constants: Mapping[str, str] = field(default_factory=dict)

    def rows(self, dataset: Dataset, path: Path) -> pl.DataFrame:
        """The file's rows, as `store.write` wants them.

        Raises:
            InputError: the file cannot be read, or its columns or stamps are not understood.
        """
        frame = self._named(_read(path))
        for name, value in self.constants.items():
            if name in frame.columns:
                raise InputError(
                    f"the file has a column {name!r} of its own; leave --{name} out, or pass --drop", given=name
                )
            frame = frame.with_columns(pl.lit(value).alias(name))
        known = [column.name for column in (*dataset.columns, *dataset.derived)]
        for name in frame.columns:
            if name not in known:
                raise InputError(
                    f"{dataset.name} has no column {name!r}; leave it out with --drop or name it with --rename; "
                    f"known: {', '.join(known)}",
                    given=name,
                    expected=known,
                )
        return frame.with_columns(self._typed(dataset, column) for column in frame)

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name in (*self.rename, *self.drop):
            if name not in frame.columns:
                raise InputError(f"the file has no column {name!r}; it has {', '.join(frame.columns)}", given=name)
        frame = frame.drop(self.drop)
        names = [self.rename.get(name) or _plain(name) for name in frame.columns]
        if "ts" not in names:
            times = [name for name in TIME_NAMES if name in names]
            if len(times) > 1:
                raise InputError(
                    f"columns {' and '.join(times)} could both be the time; say which: --rename {times[0]}=ts, "
                    "and --drop the other",
                    given=times,
                )
            names = ["ts" if name in times else name for name in names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"several columns of the file would be {twice[0]!r}; --drop or --rename one", given=twice)
        frame.columns = names
        return frame

    def _typed(self, dataset: Dataset, column: pl.Series) -> pl.Series:
        kinds = {declared.name: str(declared.type) for declared in dataset.columns}
        kind = kinds.get(column.name, "")
        if kind.startswith("timestamp"):
            return self._times(column)
        if column.dtype != pl.String:
            return column
        if kind.startswith("int"):
            return _integers(column)
        return _without_exponents(column) if kind.startswith("decimal") else column

    def _times(self, column: pl.Series) -> pl.Series:
        if column.dtype == pl.String:
            return self._parsed(column)
        is_naive = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None
        if column.dtype == pl.Date and self.zone:
            column = column.cast(pl.Datetime("us"))
        elif not is_naive:
            return column
        return self._in_zone(column)

    def _parsed(self, column: pl.Series) -> pl.Series:
        """ISO 8601 text as UTC times; a date is its midnight, of `zone` or else UTC."""
        text = column.str.strip_chars()
        is_date = text.str.contains(_DATE).fill_null(True)
        is_stamp = text.str.contains(_STAMP).fill_null(True)
        is_aware = text.str.contains(f"{_STAMP[:-1]}{_ZONE}").fill_null(True)
        for row in (~(is_date | is_stamp | is_aware)).arg_true().head(1):
            raise InputError(
                f"{column.name} {text[row]!r} in row {row} is no ISO 8601 date or time, such as 2024-03-01T14:30:00Z",
                given=text[row],
                expected="ISO 8601",
            )
        if is_aware.all():
            return _aware(text)
        for row in (is_aware & text.is_not_null()).arg_true().head(1):
            raise InputError(
                f"{column.name} has stamps with a time zone, such as {text[row]!r} in row {row}, and others without",
                given=text[row],
                expected="a zone everywhere or nowhere",
            )
        if is_date.all() and self.zone is None:
            return _in_calendar(text, text.str.to_date("%Y-%m-%d", strict=False))
        stamps = _with_seconds((text + " 00:00").zip_with(is_date, text))
        return self._in_zone(_in_calendar(text, stamps.str.to_datetime(_PARSED, time_unit="us", strict=False)))

    def _in_zone(self, column: pl.Series) -> pl.Series:
        if self.zone is None:
            first = column.drop_nulls().head(1).to_list()
            raise InputError(
                f"{column.name} has no time zone (first value {first[0] if first else None}); "
                "say which it is with --tz, for instance --tz UTC or --tz America/New_York",
                expected="--tz",
            )
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise InputError(
                f"time zone {self.zone!r} is not known; give an IANA name, such as America/New_York", given=self.zone
            ) from error
        try:
            return column.dt.replace_time_zone(self.zone).dt.convert_time_zone("UTC")
        except pl.exceptions.ComputeError as error:
            said = str(error).split(". ")[0]
            raise InputError(
                f"{column.name}: {said}; the clock was changed then, give stamps with their offset", given=self.zone
            ) from error


def _read(path: Path) -> pl.DataFrame:
    """The file as it is; of CSV every column as text, so that each digit survives."""
    name = path.name.lower()
    if not name.endswith((*_CSV, *_PARQUET)):
        expected = ", ".join((*_CSV, *_PARQUET))
        raise InputError(f"{path} is neither CSV nor Parquet by its name; expected one of {expected}", given=str(path))
    try:
        if name.endswith(_PARQUET):
            return pl.read_parquet(path, glob=False)
        return pl.read_csv(path, infer_schema=False, glob=False)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}", given=str(path)) from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read: {error}", given=str(path)) from error


def _plain(name: str) -> str:
    """`Bid Price` as `bid_price`."""
    return re.sub(r"[\s\-./]+", "_", name.strip().lower())


def _aware(text: pl.Series) -> pl.Series:
    """Stamps with a zone, `Z` or an offset, as UTC."""
    offset = text.str.extract(_ZONE, 1).str.replace("(?i)z", "+0000").str.replace(":", "", literal=True)
    stamps = _with_seconds(text.str.replace(_ZONE, "")) + offset.str.replace(r"^(.\d{2})$", "${1}00")
    return _in_calendar(text, stamps.str.to_datetime(f"{_PARSED}%z", time_unit="us", strict=False))


def _with_seconds(stamps: pl.Series) -> pl.Series:
    """`2024-03-01T14:30` as `2024-03-01 14:30:00`."""
    return stamps.str.replace("T", " ", literal=True).str.replace(r"( \d{2}:\d{2})$", "${1}:00")


def _in_calendar(text: pl.Series, times: pl.Series) -> pl.Series:
    """`times`, if each was understood."""
    for row in (times.is_null() & text.is_not_null()).arg_true().head(1):
        raise InputError(f"{text.name} {text[row]!r} in row {row} is not in the calendar", given=text[row])
    return times


def _integers(column: pl.Series) -> pl.Series:
    whole = column.str.strip_chars().str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    for row in (whole.is_null() & column.is_not_null()).arg_true().head(1):
        raise InputError(f"{column.name} is {column[row]!r} in row {row}; expected a whole number", given=column[row])
    return whole


def _without_exponents(column: pl.Series) -> pl.Series:
    """`1.5e-05` as `0.000015`; other text as it is."""
    if not column.str.contains("[eE]").any():
        return column
    plain = [
        f"{Decimal(text.strip()):f}" if text is not None and _EXPONENT.fullmatch(text) else text
        for text in column.to_list()
    ]
    return pl.Series(column.name, plain, dtype=pl.String)
