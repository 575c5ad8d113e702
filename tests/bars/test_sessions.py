"""Bars of days and longer count what the sessions of the exchange had, on half days and around holidays too."""

from datetime import date

import exchange_calendars

from tests.support.bar_rows import NEW_YORK, bar, frame, local, made


def test_sessions_end_early_when_the_exchange_closes_early() -> None:
    calendar = exchange_calendars.get_calendar("XNYS", start="1990-01-01", end="2027-12-31")
    closes = {day.date(): close for day, close in calendar.closes.items()}
    minutes = ("12:59", "13:59", "15:59", "16:00")  # until 1992 half days ended at 14:00
    late = [(local(day, at), price) for day in closes for price, at in enumerate(minutes)]
    bars = made(frame(bar(ts, price) for ts, price in late), "1Day", is_stock=True)
    assert bars["volume"].unique().to_list() == [4]
    ends = dict(zip(bars["ts"].dt.convert_time_zone("America/New_York").dt.date(), bars["close"], strict=True))
    prices = {13: 0, 14: 1, 16: 2}
    assert ends == {day: prices[close.astimezone(NEW_YORK).hour] for day, close in closes.items()}
    assert set(ends.values()) == {0, 1, 2}


def test_a_day_without_a_session_has_no_bar_and_adds_nothing_to_its_week() -> None:
    days = [date(2024, 3, 28), date(2024, 3, 29), date(2024, 3, 30)]  # Good Friday is the second
    rows = frame(bar(local(day, "11:00"), price) for price, day in enumerate(days, 1))
    assert made(rows, "1Day", is_stock=True).select("close", "volume").rows() == [(1, 1)]
    assert made(rows, "1Week", is_stock=True).select("close", "volume").rows() == [(1, 1)]
    assert made(rows, "1Week", is_stock=False).select("close", "volume").rows() == [(3, 3)]
