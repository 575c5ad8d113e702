"""A vendor's columns → those of a dataset; nothing is guessed about time zones, nothing rounded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.decimals import OnBad, refuse
from medalion.core.errors import InputError

TIME_NAMES = ("timestamp", "datetime", "date", "time")
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Per second, of each `time_unit`."""
_MOST_MICROSECONDS = 10**17
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_STAMP = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?$"
_ZONE = r" ?(Z|z|[+-]\d{2}(:?\d{2})?)$"
_EPOCH = r"^-?\d{1,18}$"
_PARSED = "%Y-%m-%d %H:%M:%S%.f"
_EXPONENT = r"^[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}$"

Zones: TypeAlias = dict[str, set[bool]]
"""Per column of times, whether stamps as text have a zone."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How the columns of a source become those of a dataset.

    `columns` gives for a column of the dataset its name in the source; the others are found by their own name, without
    regard to case. `constants` are columns that the source lacks, `ignored` those of it that are left out. `time_zone`
    is that of stamps without one, `time_unit` what whole numbers count since 1970.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    time_zone: str | None = None
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if self.time_unit not in (None, *TICKS):
            raise InputError(
                f"time_unit {self.time_unit!r} is not known; give one of {', '.join(TICKS)}",
                given=self.time_unit,
                expected=tuple(TICKS),
            )
        try:
            ZoneInfo(self.time_zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InputError(
                f"time zone {self.time_zone!r} is not known; give an IANA name, such as America/New_York",
                given=self.time_zone,
            ) from error

    def named(self, dataset: Dataset, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns under their names here, as the source has them, and the constants.

        Raises:
            InputError: a column is missing, unknown, or there twice.
        """
        places = self._places(dataset, frame.columns)
        constants = [pl.lit(value).alias(name) for name, value in self.constants.items()]
        return frame.select(pl.col(theirs).alias(ours) for ours, theirs in places.items()).with_columns(constants)

    def typed(self, dataset: Dataset, named: pl.DataFrame, zones: Zones, on_bad: OnBad = refuse) -> pl.DataFrame:
        """Named columns with their text and whole numbers made into times and numbers, for `conform`.

        `zones` learns which columns have stamps as text with a zone, and without one. `on_bad` is told of rows that do
        not fit, which are null in the result.

        Raises:
            InputError: times without a zone, and no `time_zone` that says which.
        """
        kinds = {column.name: str(column.type) for column in dataset.columns}
        return named.with_columns(
            self._typed(series, kinds.get(series.name, ""), f"{dataset.name}.{series.name}", zones, on_bad)
            for series in named
        )

    def _places(self, dataset: Dataset, given: Sequence[str]) -> dict[str, str]:
        """Of each column here its name in the source."""
        known = [column.name for column in (*dataset.columns, *dataset.derived)]
        for name in (*self.columns, *self.constants):
            if name not in known:
                raise InputError(
                    f"{dataset.name} has no column {name!r}; known: {', '.join(known)}", given=name, expected=known
                )
        for name in (*self.columns.values(), *self.ignored):
            if name not in given:
                raise InputError(f"there is no column {name!r}; the source has {', '.join(given)}", given=name)
        places = dict(self.columns) | self._found(dataset, given)
        for name in self.constants:
            if name in places:
                raise InputError(
                    f"the source has a column {name!r} of its own; leave the constant out, or the column with "
                    "ignore= (--drop)",
                    given=name,
                )
        return places

    def _found(self, dataset: Dataset, given: Sequence[str]) -> dict[str, str]:
        """The same of columns that `columns` does not name."""
        known = [column.name for column in (*dataset.columns, *dataset.derived)]
        mentioned = {*self.columns.values(), *self.ignored}
        left = [(name, plain(name)) for name in given if name not in mentioned]
        times = [name for name, ours in left if ours in TIME_NAMES]
        if times and "ts" not in self.columns and all(ours != "ts" for _, ours in left):
            if len(times) > 1:
                raise InputError(
                    f"columns {' and '.join(times)} could both be the time; say which with columns= (--rename), and "
                    "leave the other out with ignore= (--drop)",
                    given=times,
                )
            left = [(name, "ts" if name in times else ours) for name, ours in left]
        unknown = [name for name, ours in left if ours not in known]
        if unknown and not self.columns:
            raise InputError(
                f"{dataset.name} has no column {unknown[0]!r}; leave it out with ignore= (--drop) or say what it is "
                f"with columns= (--rename); known: {', '.join(known)}",
                given=unknown,
                expected=known,
            )
        found = [(ours, name) for name, ours in left if ours in known and ours not in self.columns]
        twice = sorted({ours for ours, _ in found if sum(ours == other for other, _ in found) > 1})
        if twice:
            raise InputError(
                f"several columns would be {twice[0]!r}; leave out all but one with ignore= (--drop)", given=twice
            )
        return dict(found)

    def _typed(self, series: pl.Series, kind: str, where: str, zones: Zones, on_bad: OnBad) -> pl.Series:
        if kind.startswith("timestamp") and series.dtype == pl.String:
            return self._parsed(series, where, zones.setdefault(series.name, set()), on_bad)
        if kind.startswith("timestamp"):
            return self._times(series, where, on_bad)
        if series.dtype != pl.String:
            return series
        if kind.startswith("int"):
            return _integers(series, where, on_bad)
        return _without_exponents(series) if kind.startswith("decimal") else series

    def _times(self, series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
        if series.dtype.is_integer():
            return self._counted(series, where)
        is_naive = isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None
        if series.dtype == pl.Date and self.time_zone:
            return self._in_zone(series.cast(pl.Datetime("us")), series, where, on_bad)
        return self._in_zone(series, series, where, on_bad) if is_naive else series

    def _counted(self, series: pl.Series, where: str) -> pl.Series:
        """Whole numbers since 1970; what is finer than a microsecond is floored."""
        if self.time_unit is None:
            first = series.drop_nulls().head(1).to_list()
            raise InputError(
                f"{where} has whole numbers (first value {first[0] if first else None}); say what they count since "
                f"1970 with time_unit= (--time-unit), one of {', '.join(TICKS)}",
                given=str(series.dtype),
                expected=tuple(TICKS),
            )
        # What would overflow is far out of range, and stays so.
        most = 2**63 - 1 if self.time_unit == "ns" else _MOST_MICROSECONDS * TICKS[self.time_unit] // 10**6
        counts = series.cast(pl.Int128).clip(-most, most).cast(pl.Int64)
        micros = counts // 1000 if self.time_unit == "ns" else counts * (10**6 // TICKS[self.time_unit])
        return micros.cast(pl.Datetime("us", "UTC"))

    def _parsed(self, series: pl.Series, where: str, zoned: set[bool], on_bad: OnBad) -> pl.Series:
        """ISO 8601 text, or digits with `time_unit`, as UTC times; a date is its midnight, by default in UTC."""
        text = series.str.strip_chars()
        left = text.is_not_null()
        parts: list[pl.Series] = []
        if self.time_unit and (is_count := text.str.contains(_EPOCH).fill_null(False)).any():
            counts = _only(text, is_count).cast(pl.Int64)
            parts.append(self._counted(counts, where))
            left &= ~is_count
        if left.any() and (is_aware := text.str.contains(f"{_STAMP[:-1]}{_ZONE}").fill_null(False)).any():
            parts.append(_aware(_only(text, is_aware)))
            left &= ~is_aware
            zoned.add(True)
        if left.any():
            is_date, is_stamp = (text.str.contains(form).fill_null(False) for form in (_DATE, _STAMP))
            if is_stamp.any() or (is_date.any() and self.time_zone):
                stamps = _with_seconds(_only(text, is_date | is_stamp).str.replace(_DATE, "$0 00:00"))
                naive = stamps.str.to_datetime(_PARSED, time_unit="us", strict=False)
                parts.append(self._in_zone(naive, series, where, on_bad))
            elif is_date.any():
                dates = _only(text, is_date).str.to_date("%Y-%m-%d", strict=False)
                parts.append(dates.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
            if is_stamp.any() or is_date.any():
                zoned.add(False)
            left &= ~(is_date | is_stamp)
            said = "it is no ISO 8601 date or time, such as 2024-03-01T14:30Z, nor counted by time_unit= (--time-unit)"
            on_bad(left, where, series, said)
        if not parts:
            return pl.Series(series.name, [None], dtype=pl.Datetime("us", "UTC")).new_from_index(0, len(series))
        times = pl.select(pl.coalesce(parts).alias(series.name)).to_series()
        on_bad(times.is_null() & text.is_not_null() & ~left, where, series, "that is not in the calendar")
        return times

    def _in_zone(self, naive: pl.Series, given: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
        if self.time_zone is None:
            first = given.filter(naive.is_not_null()).head(1).to_list()
            raise InputError(
                f"{where} has no time zone (first value {first[0] if first else None}); "
                "say which it is with time_zone= (--tz), for instance UTC or America/New_York",
                expected="time_zone=",
            )
        aware = naive.dt.replace_time_zone(self.time_zone, ambiguous="null", non_existent="null")
        lost = aware.is_null() & naive.is_not_null()
        said = f"that is ambiguous or non-existent in {self.time_zone}, where clocks were changed; give offsets"
        on_bad(lost, where, given, said)
        return aware.dt.convert_time_zone("UTC")


def check_zones(zones: Zones) -> None:
    """Refuse a column in which some stamps say their zone and others do not: one of the two would be guessed.

    Raises:
        InputError: there is one.
    """
    for name, zoned in zones.items():
        if len(zoned) > 1:
            raise InputError(
                f"{name} has stamps with a time zone and others without; give a zone everywhere or nowhere", given=name
            )


def plain(name: str) -> str:
    """`Bid Price` as `bid_price`."""
    return re.sub(r"[\s\-./]+", "_", name.strip().lower())


def _only(text: pl.Series, keep: pl.Series) -> pl.Series:
    return text if keep.all() else text.zip_with(keep, pl.Series([None], dtype=pl.String))


def _aware(text: pl.Series) -> pl.Series:
    """Stamps with a zone, `Z` or an offset, as UTC."""
    offset = text.str.extract(_ZONE, 1).str.replace("(?i)z", "+0000").str.replace(":", "", literal=True)
    stamps = _with_seconds(text.str.replace(_ZONE, "")) + offset.str.replace(r"^(.\d{2})$", "${1}00")
    return stamps.str.to_datetime(f"{_PARSED}%z", time_unit="us", strict=False)


def _with_seconds(stamps: pl.Series) -> pl.Series:
    """`2024-03-01T14:30` as `2024-03-01 14:30:00`."""
    return stamps.str.replace("T", " ", literal=True).str.replace(r"( \d{2}:\d{2})$", "${1}:00")


def _integers(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    whole = series.str.strip_chars().str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
    on_bad(whole.is_null() & series.is_not_null(), where, series, "expected a whole number")
    return whole


def _without_exponents(series: pl.Series) -> pl.Series:
    """`1.5e-05` as `0.000015`; other text as it is."""
    text = series.str.strip_chars()
    has_exponent = text.str.contains(_EXPONENT).fill_null(False)
    if not has_exponent.any():
        return series
    plain = {number: f"{Decimal(number):f}" for number in text.filter(has_exponent).unique().to_list()}
    return text.zip_with(~has_exponent, text.replace(plain))
