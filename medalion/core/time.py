"""Moments, half-open ranges of them, and the lengths of bars; UTC throughout."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Self, TypeAlias
from zoneinfo import ZoneInfo

from medalion.core.errors import InputError


class TimeUnit(StrEnum):
    """Units of the length of a bar, as they are written."""

    MINUTE = "Min"
    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"


_UNITS = {
    **{unit.value.lower(): unit for unit in TimeUnit},
    "m": TimeUnit.MINUTE,
    "h": TimeUnit.HOUR,
    "d": TimeUnit.DAY,
    "w": TimeUnit.WEEK,
    "mo": TimeUnit.MONTH,
}


@dataclass(frozen=True, slots=True)
class Timeframe:
    """The length of a bar; written `5Min`, `1Hour`, `1Day`, and read from `5m`, `1h`, `1d`, `1mo` too.

    >>> str(Timeframe.parse("5m"))
    '5Min'
    """

    count: int
    unit: TimeUnit

    @classmethod
    def parse(cls, text: "str | Timeframe") -> Self:
        """The timeframe that `text` names.

        Raises:
            InputError: not a positive count followed by a unit.
        """
        match = re.fullmatch(r"([1-9]\d{0,3})\s*([A-Za-z]+)", str(text))
        unit = _UNITS.get(match[2].lower().removesuffix("s") or match[2]) if match else None
        if match is None or unit is None:
            raise InputError(
                f"timeframe {text!r} is not known; give a count and a unit, such as '1Min', '4Hour', '1Day'",
                given=text,
                expected="1Min, 5Min, 15Min, 30Min, 1Hour, 4Hour, 1Day, 1Week, 1Month",
            )
        return cls(int(match[1]), unit)

    @property
    def is_intraday(self) -> bool:
        """Whether it is of minutes or hours, which are counted in UTC whatever the exchange."""
        return self.unit in (TimeUnit.MINUTE, TimeUnit.HOUR)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


Instant: TypeAlias = str | date | datetime


def utc(moment: Instant, *, name: str = "time") -> datetime:
    """`moment` as an aware UTC datetime; a date, or text without a time, is its midnight UTC.

    Raises:
        InputError: a naive datetime, or text that is no ISO 8601 date or time.
    """
    if isinstance(moment, str):
        try:
            moment = date.fromisoformat(moment) if len(moment) <= 10 else datetime.fromisoformat(moment)
        except ValueError as error:
            raise InputError(
                f"{name} {moment!r} is not an ISO 8601 date or time; give '2024-03-01' or '2024-03-01T14:30:00Z'",
                given=moment,
                expected="ISO 8601",
            ) from error
    if not isinstance(moment, date):
        raise InputError(f"{name} {moment!r} is no time", given=moment, expected="text, a date or an aware datetime")
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InputError(
            f"{name} {moment.isoformat()!r} has no time zone; add one, for instance datetime(..., tzinfo=UTC)",
            given=moment,
            expected="an aware datetime",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InputError(
            f"{name} {moment.isoformat()} is out of range", given=moment, expected="years 1 to 9999"
        ) from error


def in_utc(moment: datetime | None) -> datetime | None:
    """The same moment in UTC, of an aware datetime; None of None."""
    return None if moment is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Half-open `[start, end)` in UTC; None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, start: Instant | None = None, end: Instant | None = None) -> Self:
        """Raises InputError for naive times and for an end before its start."""
        low = None if start is None else utc(start, name="start")
        high = None if end is None else utc(end, name="end")
        if low is not None and high is not None and high < low:
            raise InputError(
                f"end {high.isoformat()} is before start {low.isoformat()}", given=(start, end), expected="start <= end"
            )
        return cls(low, high)

    def overlaps(self, first: datetime, last: datetime) -> bool:
        """Whether any instant of the closed span [first, last] lies in this range."""
        return (self.start is None or last >= self.start) and (self.end is None or first < self.end)

    def __str__(self) -> str:
        low = self.start.isoformat() if self.start else "the beginning"
        return f"[{low}, {self.end.isoformat() if self.end else 'now'})"


ALWAYS = TimeRange()
"""Every time there is."""


MICROSECOND = timedelta(microseconds=1)

EXCHANGE_ZONE = ZoneInfo("America/New_York")
"""Whose days are the sessions, ex-dates and expirations of stocks and options."""
