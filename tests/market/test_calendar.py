"""Sessions are those that exchanges had, half days, holidays and closings included."""

import logging
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.errors import InputError
from medalion.market import calendar
from medalion.market.calendar import NEW_YORK, calendar_of, close_of, open_of, sessions_between

ZONE = ZoneInfo("America/New_York")
DAY = timedelta(days=1)
FULL, HALF = time(16), time(13)
DAYS = {
    "1968-06-12": None,  # the paperwork crisis: closed on Wednesdays
    "1977-07-14": None,  # New York was without power
    "1985-09-27": None,  # Hurricane Gloria
    "1990-12-24": time(14),
    "1992-11-27": time(14),
    "1994-04-27": None,  # mourning for President Nixon
    "1997-12-26": HALF,
    "2001-07-03": HALF,
    "2001-07-04": None,
    "2001-07-05": FULL,
    "2001-09-10": FULL,
    "2001-09-11": None,
    "2001-09-12": None,
    "2001-09-13": None,
    "2001-09-14": None,
    "2001-09-17": FULL,
    "2002-07-05": HALF,
    "2002-11-28": None,
    "2002-11-29": HALF,
    "2003-12-24": HALF,
    "2003-12-26": HALF,
    "2004-06-11": None,  # mourning for President Reagan
    "2009-12-24": HALF,
    "2012-10-29": None,  # Hurricane Sandy
    "2012-10-30": None,
    "2015-07-03": None,  # Independence Day is a Saturday
    "2018-12-05": None,  # mourning for President Bush
    "2021-06-18": FULL,
    "2022-06-20": None,  # Juneteenth is a Sunday
    "2024-03-10": None,  # a Sunday, when clocks go forward
    "2024-03-11": FULL,
    "2024-03-29": None,  # Good Friday
    "2024-07-03": HALF,
    "2024-11-28": None,
    "2024-11-29": HALF,
    "2024-12-24": HALF,
    "2024-12-31": FULL,
    "2025-01-09": None,  # mourning for President Carter
}
days = st.dates(date(1900, 1, 5), date(2100, 12, 25))


@pytest.mark.parametrize(("text", "closes"), DAYS.items())
def test_new_york_traded_on_these_days_until_then(text: str, closes: time | None) -> None:
    day = date.fromisoformat(text)
    rows = sessions_between(day, day + DAY).rows()
    if closes is None:
        assert rows == []
        return
    opening, closing = (datetime.combine(day, at, ZONE).astimezone(UTC) for at in (time(9, 30), closes))
    assert rows == [(day, opening, closing)]
    assert (open_of(day), close_of(day)) == (opening, closing)
    assert closing.utcoffset() == timedelta(0)


def test_a_day_without_a_session_has_the_close_before_it_and_the_open_after_it() -> None:
    for day in (date(2001, 9, 11), date(2001, 9, 14), date(2001, 9, 16)):
        assert close_of(day) == datetime(2001, 9, 10, 20, tzinfo=UTC)
        assert open_of(day) == datetime(2001, 9, 17, 13, 30, tzinfo=UTC)
    # An option that expires on a Saturday, as they did until 2015, ends on Friday.
    assert close_of(date(2014, 7, 19)) == datetime(2014, 7, 18, 20, tzinfo=UTC)


@given(days, st.integers(0, 400), st.integers(0, 400))
def test_ranges_of_sessions_are_half_open_and_add_up(start: date, first: int, second: int) -> None:
    middle, end = start + first * DAY, start + (first + second) * DAY
    whole = sessions_between(start, end)
    assert whole.equals(pl.concat([sessions_between(start, middle), sessions_between(middle, end)]))
    found = whole["day"].to_list()
    assert found == sorted(set(found))
    assert all(start <= day < end and day.weekday() < 5 for day in found)
    assert sessions_between(end, start).is_empty() or start == end


@given(days)
def test_the_close_of_a_day_is_that_of_its_last_session_and_the_open_that_of_its_next(day: date) -> None:
    until, since = sessions_between(day - 30 * DAY, day + DAY), sessions_between(day, day + 30 * DAY)
    assert close_of(day) == until["closes"].last()
    assert open_of(day) == since["opens"].first()
    for opening, closing in since.select("opens", "closes").iter_rows():
        assert timedelta(0) < closing - opening <= timedelta(hours=6, minutes=30)
        assert opening.astimezone(ZONE).date() == closing.astimezone(ZONE).date()


@pytest.mark.parametrize(
    ("exchange", "name"),
    [
        *((exchange, NEW_YORK) for exchange in ("", "NYSE", "nasdaq", "XNAS", "ARCA", "NYSE Arca", "AMEX", "OTC")),
        *((exchange, NEW_YORK) for exchange in ("BATS", " Cboe ", "NYSE American", "NMS", "NYQ")),
        ("LSE", "XLON"),
        ("xtks", "XTKS"),
        ("CME", "CMES"),
        ("24/7", "24/7"),
        ("us_futures", "us_futures"),
    ],
)
def test_exchanges_are_known_by_the_names_that_vendors_use(exchange: str, name: str) -> None:
    assert calendar_of(exchange) == name


def test_an_exchange_that_is_not_known_is_new_york_and_said_to_be_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, calendar.__name__):
        for _ in range(3):
            assert close_of(date(2024, 7, 3), exchange="Atlantis") == close_of(date(2024, 7, 3))
    assert [record.getMessage() for record in caplog.records] == [
        "exchange 'Atlantis' is not known; its sessions are taken to be those of New York"
    ]


def test_other_exchanges_have_sessions_of_their_own() -> None:
    assert sessions_between(date(2024, 7, 4), date(2024, 7, 5)).is_empty()
    assert close_of(date(2024, 7, 4), exchange="LSE") == datetime(2024, 7, 4, 15, 30, tzinfo=UTC)
    assert close_of(date(2024, 12, 24), exchange="LSE") == datetime(2024, 12, 24, 12, 30, tzinfo=UTC)


def test_where_the_library_vouches_for_less_sessions_are_known_for_as_long() -> None:
    known = sessions_between(date(1900, 1, 1), date(2101, 1, 1), exchange="XSHG")
    assert known["day"].first() == date(1990, 12, 3)
    with pytest.raises(InputError, match="no session around 1980-01-02 is known"):
        close_of(date(1980, 1, 2), exchange="XSHG")
    for day in (date(1899, 12, 29), date(2101, 1, 3)):
        assert sessions_between(day, day + DAY).is_empty()
        for edge in (open_of, close_of):
            with pytest.raises(InputError, match="is known"):
                edge(day)
