"""An option expires with the last session of its underlying."""

from datetime import UTC, date, datetime

import pytest

from medalion.trading.settlements import expired_at
from oltp.entities.reference import OptionContract


@pytest.mark.parametrize(
    ("day", "hour"),
    [
        (date(2024, 3, 8), 21),
        (date(2024, 3, 15), 20),  # in summer time
        (date(2024, 7, 3), 17),
        (date(2024, 11, 29), 18),
    ],
)
def test_an_option_expires_at_the_close_which_half_days_have_at_one(day: date, hour: int) -> None:
    assert expired_at(OptionContract(expiration_date=day)) == datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def test_an_option_that_expires_on_a_day_without_a_session_ends_with_the_one_before() -> None:
    assert expired_at(OptionContract(expiration_date=date(2014, 7, 19))) == datetime(2014, 7, 18, 20, tzinfo=UTC)
