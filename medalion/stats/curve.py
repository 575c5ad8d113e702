"""Anybody's returns or values, of Polars, pandas, Arrow, numpy or a list, as one curve.

A curve comes as numbers alone (a Series, an array, a list), or with its times: a frame with `ts` and `return` or
`value`, or a pandas Series or frame whose index holds times. Numbers are taken in the order in which they stand, oldest
first, and nothing is dropped, filled or sorted: what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import inf
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame
from medalion.stats.returns import Numbers, levels, number_of, series_of, simple_returns

PERIODS_PER_YEAR: Mapping[InstrumentKind, int] = MappingProxyType(
    {
        InstrumentKind.STOCK: 252,
        InstrumentKind.OPTION: 252,
        InstrumentKind.FUTURE: 252,
        InstrumentKind.FOREX: 252,
        InstrumentKind.CRYPTO: 365,
        InstrumentKind.OUTCOME: 365,
    }
)
"""Daily observations in a year, by what is traded: sessions of exchanges, or every day."""
DAYS_PER_YEAR = 365.25

Data: TypeAlias = "Numbers | Frame | Curve"
"""What the figures take: numbers alone, numbers with their times, or a curve made of either before."""

_UTC = pl.Datetime("us", "UTC")
_SATURDAY = 6
# (least, most days between neighbours, periods of a year); daily series have gaps at weekends and on holidays.
_DAY, _STEPS = (0.98, 1.02), ((6, 8, 52), (27, 32, 12), (88, 93, 4), (360, 370, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Levels, oldest first, and the returns between them, of which there is one fewer.

    `times` stands beside `levels` and is None for numbers without times. Given returns start from the level 1; when
    that was, nobody said: the first of `times` is then one usual (median) step before the first return, or null if
    there is only one, and `is_opening_given` is False.
    """

    levels: pl.Series
    returns: pl.Series
    times: pl.Series | None = None
    is_opening_given: bool = True

    @property
    def start(self) -> date | datetime | None:
        """The time of the first level; None if it is not known."""
        return None if self.times is None or self.times.is_empty() else self.times[0]

    @property
    def end(self) -> date | datetime | None:
        """The time of the last level; None if it is not known."""
        return None if self.times is None or self.times.is_empty() else self.times[-1]

    def defined_returns(self, *, at_least: int = 1) -> pl.Series | None:
        """The returns, or None where there are fewer than `at_least`, or one of them is undefined."""
        return None if len(self.returns) < at_least or self.returns.null_count() else self.returns

    def frame(self) -> pl.DataFrame:
        """`ts` and `value`.

        Raises:
            InputError: the curve has no times.
        """
        if self.times is None:
            raise InputError(
                "the numbers have no times; give a frame with ts and value, or ts and return", expected=["ts", "value"]
            )
        return pl.DataFrame([self.times.alias("ts"), self.levels.alias("value")])


def curve_of(*, returns: Data | None = None, equity: Data | None = None) -> Curve:
    """The curve of either `returns` (fractions) or `equity` (account value, or any positive level such as a price).

    Raises:
        InputError: both or neither is given, a missing column, numbers that are not finite, or times that are naive,
            null, repeated or not ascending.
    """
    if (returns is None) is (equity is None):
        raise InputError("give either returns= or equity=", expected="one of returns and equity")
    return _equity_curve(equity, "equity") if returns is None else _returns_curve(returns, "returns")


def curve_like(data: Data, *, is_returns: bool, name: str) -> Curve:
    """The curve of `data`: a frame's columns say of what kind it is, of numbers alone `is_returns` does."""
    given = data if isinstance(data, Curve) else framed(data, "return" if is_returns else "value")
    if isinstance(given, pl.DataFrame) and ("return" in given.columns) is not ("value" in given.columns):
        is_returns = "return" in given.columns
    return _returns_curve(given, name) if is_returns else _equity_curve(given, name)


def aligned(own: Curve, other: Curve) -> tuple[Curve, Curve]:
    """Both curves over the times that both have; where one has no times they stand beside each other.

    Returns are those between common times, so that a day which one of them lacks is in the next return of both.

    Raises:
        InputError: one has no times, and they differ in length; or no time is in both.
    """
    if own.times is None or other.times is None:
        if len(own.levels) != len(other.levels):
            raise InputError(
                f"{len(own.returns)} returns and {len(other.returns)} of the benchmark; give one for each, or frames "
                "with ts, which are joined",
                given=len(other.returns),
                expected=len(own.returns),
            )
        return own, other
    own, other = (replace(curve, times=None if curve.times is None else _in_utc(curve.times)) for curve in (own, other))
    mine, theirs = own.frame()["ts"], other.frame()["ts"]
    if not own.is_opening_given and not other.is_opening_given and mine[1:2].equals(theirs[1:2]):
        other = replace(other, times=pl.concat([mine[:1], theirs[1:]]))
    both = own.frame().join(other.frame().rename({"value": "other"}), on="ts", how="inner", maintain_order="left")
    if both.is_empty() and len(mine) and len(theirs):
        raise InputError(
            f"the benchmark has none of the times: it ends at {theirs[-1]}, the returns at {mine[-1]} (UTC); give both "
            "by their dates, or at the same time of day",
            given=theirs[-1],
            expected="common times",
        )
    return tuple(  # type: ignore[return-value]  # of two
        Curve(both[name], simple_returns(both[name]), both["ts"]) for name in ("value", "other")
    )


def periods_of(curve: Curve, periods: float | None) -> float:
    """How many observations make a year: `periods` where given, else by the usual (median) step between the times.

    Days make 252, or 365 where there are Saturdays among them; weeks 52, months 12, quarters 4, years 1. Numbers
    without times count as days of sessions: 252.

    Raises:
        InputError: `periods` is not above zero, or it is not given and the step is none of these.
    """
    if periods is not None:
        return number_of(periods, lambda given: 0 < given < inf, name="periods", wanted="how many make a year")
    step = None if curve.times is None else _usual_step(curve.times)
    if curve.times is None or step is None:
        return 252.0
    days = step / timedelta(days=1)
    if _DAY[0] <= days <= _DAY[1]:
        given = curve.times if curve.is_opening_given else curve.times[1:]
        return 365.0 if (given.dt.weekday() == _SATURDAY).any() else 252.0
    for least, most, found in _STEPS:
        if least <= days <= most:
            return float(found)
    raise InputError(
        f"the usual step between times is {step}, of which nobody knows how many make a year; give periods=, for "
        "instance 252 * 390 for the minutes of sessions",
        given=step,
        expected="periods=",
    )


def _equity_curve(data: Data | None, name: str) -> Curve:
    if isinstance(data, Curve):
        return data
    times, numbers = _parts(data, "value", name)
    values = levels(numbers, name=name).alias("value")
    return Curve(values, simple_returns(values), times)


def _returns_curve(data: Data, name: str) -> Curve:
    if isinstance(data, Curve):
        return data
    times, numbers = _parts(data, "return", name)
    returns = levels(numbers, name=name).alias("return")
    if times is not None and len(times):
        step = _usual_step(times)
        opening = pl.Series("ts", [None if step is None else times[0] - step], dtype=times.dtype)
        times = pl.concat([opening, times])
    grown = pl.concat([pl.Series("value", [1.0]), (returns + 1).cum_prod().alias("value")])
    return Curve(grown if len(returns) else grown.clear(), returns, times, is_opening_given=False)


def _parts(data: Any, column: str, name: str) -> tuple[pl.Series | None, pl.Series]:
    """The times, if there are any, and the numbers."""
    frame = framed(data, column)
    if not isinstance(frame, pl.DataFrame):
        return None, series_of(frame, name=name)
    missing = [wanted for wanted in ("ts", column) if wanted not in frame.columns]
    if missing:
        raise InputError(
            f"{name} has no column {' and '.join(missing)} among {frame.columns}; rename yours",
            given=frame.columns,
            expected=["ts", column],
        )
    return _checked_times(frame["ts"], name), frame[column]


def framed(data: Any, column: str) -> Any:
    """What has times as a Polars frame, numbers alone as they are; a pandas Series with times becomes `column`.

    A pandas index of times, dates or periods is `ts`, unless there is such a column; one of whole numbers is the place
    of rows.

    Raises:
        InputError: an index of something else.
    """
    if isinstance(data, pl.Series | np.ndarray):
        return data
    if hasattr(data, "index") and hasattr(data, "reset_index") and "ts" not in getattr(data, "columns", ()):
        times = _times_in(data.index)
        if times is not None:
            data = data.set_axis(times.rename("ts"))
            data = data if hasattr(data, "columns") else data.rename(column).to_frame()
    return polars_frame(data) if isinstance(data, pl.LazyFrame) or hasattr(data, "columns") else data


def _times_in(index: Any) -> Any:
    """The times of a pandas index as one of times; None where it only counts rows."""
    kind = getattr(index.dtype, "kind", "")
    if kind == "M":
        return index
    if kind in "iufb":
        return None
    if hasattr(index, "to_timestamp"):
        return index.to_timestamp()
    if len(index) == 0:
        return None
    if index.nlevels == 1 and all(isinstance(each, date) for each in index):
        return index.astype("datetime64[us]")
    raise InputError(
        f"the index is {index.dtype}, of {index[0]!r} and others; give times, which pandas.to_datetime makes of text, "
        "or leave it with reset_index(drop=True)",
        given=str(index.dtype),
        expected="times",
    )


def times_of(times: pl.Series, name: str) -> pl.Series:
    """Dates or aware times; naive midnights, which pandas makes of dates, are dates.

    Raises:
        InputError: something else, or naive times.
    """
    if not isinstance(times.dtype, pl.Date | pl.Datetime) or times.null_count():
        raise InputError(f"{name}: ts is {times.dtype}; give dates or times, none null", given=times.dtype)
    if isinstance(times.dtype, pl.Date) or times.dtype.time_zone is not None:
        return times
    if not (times.dt.truncate("1d") == times).all():
        raise InputError(
            f"{name}: ts has no time zone; add one: .dt.replace_time_zone('UTC')", given=times.dtype, expected="UTC"
        )
    return times.dt.date()


def _checked_times(times: pl.Series, name: str) -> pl.Series:
    """Those of `times_of`, ascending and distinct."""
    times = times_of(times, name)
    if not times.is_sorted() or times.n_unique() < len(times):
        raise InputError(f"{name}: ts is not ascending or repeats; sort it, one value for each time", given=name)
    return times


def _usual_step(times: pl.Series) -> timedelta | None:
    step = times.diff().median()
    return step if isinstance(step, timedelta) else None


def _in_utc(times: pl.Series) -> pl.Series:
    """Dates as their midnights in UTC, so that they can be joined with times."""
    if times.dtype == pl.Date:
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return times.cast(_UTC)
