"""Sessions of exchanges: which days they trade, and when they open and close on them.

Half days, holidays and closings that nobody foresaw are those of the library `exchange_calendars`. It is imported when
a session is first asked for, since it brings pandas: that takes about two seconds, once in a process. Sessions are
known from 1900 to 2100, or for as long as the library vouches for them.
"""

import logging
from bisect import bisect_left, bisect_right
from datetime import date, datetime
from functools import cache
from typing import Any

import polars as pl

from medalion.core.errors import InputError

NEW_YORK = "XNYS"
"""The calendar of every exchange of the United States, and of those that are not known."""

_FIRST, _LAST = "1900-01-01", "2100-12-31"
# Markets of the United States as vendors name them, where `exchange_calendars` has no such alias; the second, Yahoo.
_AMERICAN = frozenset(
    {"AMEX", "ARCA", "ASCX", "CBOE", "IEX", "LTSE", "MEMX", "NYSEAMERICAN", "NYSEARCA", "OTC", "OTCMKTS", "PINK"}
    | {"ASE", "BTS", "NCM", "NGM", "NMS", "NYQ", "OQB", "OQX", "PCX", "PNK"}
)
_logger = logging.getLogger(__name__)


@cache
def calendar_of(exchange: str = "") -> str:
    """The name in `exchange_calendars` of the calendar of an exchange: New York's for "" and for what is not known.

    An exchange that is not known is warned about, once.

    >>> calendar_of("ARCA"), calendar_of("Nasdaq"), calendar_of("LSE")
    ('XNYS', 'XNYS', 'XLON')
    """
    from exchange_calendars import get_calendar_names, resolve_alias

    given = exchange.strip()
    if not given or "".join(filter(str.isalnum, given.upper())) in _AMERICAN:
        return NEW_YORK
    known = set(get_calendar_names())
    for name in (given, given.upper()):  # `us_futures` is written small
        if name in known:
            return str(resolve_alias(name))
    _logger.warning("exchange %r is not known; its sessions are taken to be those of New York", exchange)
    return NEW_YORK


def sessions_between(start: date, end: date, *, exchange: str = "") -> pl.DataFrame:
    """The sessions whose `day` is in `[start, end)`, in order, with the times at which each `opens` and `closes`.

    >>> sessions_between(date(2024, 7, 3), date(2024, 7, 6))["day"].to_list()
    [datetime.date(2024, 7, 3), datetime.date(2024, 7, 5)]
    """
    known = _sessions(calendar_of(exchange))
    first = bisect_left(known["day"], start)
    return known[first : max(first, bisect_left(known["day"], end))]


def open_of(day: date, *, exchange: str = "") -> datetime:
    """When the session of that day opens, in UTC; on a day without one, when the next one does.

    Raises:
        InputError: the day is before or after all sessions that are known.
    """
    known = _sessions_around(day, exchange)
    opens: datetime = known["opens"][bisect_left(known["day"], day)]
    return opens


def close_of(day: date, *, exchange: str = "") -> datetime:
    """When the session of that day closes, in UTC; on a day without one, when the last one before it did.

    >>> close_of(date(2024, 11, 29)).isoformat()  # 13:00 in New York, on the day after Thanksgiving
    '2024-11-29T18:00:00+00:00'

    Raises:
        InputError: the day is before or after all sessions that are known.
    """
    known = _sessions_around(day, exchange)
    closes: datetime = known["closes"][bisect_right(known["day"], day) - 1]
    return closes


def _sessions_around(day: date, exchange: str) -> pl.DataFrame:
    known = _sessions(calendar_of(exchange))
    first, last = known["day"][0], known["day"][-1]
    if not first <= day <= last:
        raise InputError(
            f"no session around {day} is known, but those from {first} to {last}", given=day, expected=(first, last)
        )
    return known


@cache
def _sessions(name: str) -> pl.DataFrame:
    """Every session that is known of a calendar: `day`, `opens` and `closes`."""
    try:
        calendar = _made(name)
    except (NotImplementedError, ValueError) as error:  # as with pandas 3: that of Athens, of Tel Aviv, and three more
        _logger.warning("exchange_calendars cannot make %s, and New York's sessions are taken: %s", name, error)
        return _sessions(NEW_YORK)
    edges = {"opens": calendar.opens_nanos, "closes": calendar.closes_nanos}
    return pl.DataFrame(
        {
            "day": pl.Series(calendar.sessions_nanos).cast(pl.Datetime("ns")).cast(pl.Date),
            **{edge: pl.Series(nanos // 1000).cast(pl.Datetime("us", "UTC")) for edge, nanos in edges.items()},
        }
    )


def _made(name: str) -> Any:
    from exchange_calendars import get_calendar

    # Both ends are given: by default the library goes back twenty years, and a year ahead.
    try:
        return get_calendar(name, start=_FIRST, end=_LAST)
    except ValueError:  # It vouches for less, and only a calendar that is made says for how much.
        kind = type(get_calendar(name))
        return get_calendar(name, start=kind.bound_min() or _FIRST, end=kind.bound_max() or _LAST)
