"""Scores of forecasts agree with hand and loop, and volatilities with the prices they explain."""

import math
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.errors import InputError
from medalion.stats.forecasts import (
    binary_implied_volatility,
    brier_score,
    calibration_table,
    log_loss,
    logit_volatility,
    score_table,
)

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_brier_score_and_log_loss_by_hand() -> None:
    p, o = pl.Series([0.9, 0.2, 0.5]), pl.Series([1, 0, 1])
    assert brier_score(p, o) == pytest.approx((0.01 + 0.04 + 0.25) / 3)
    assert log_loss(p, o) == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.5)) / 3)
    assert log_loss(pl.Series([1.0, 0.0]), pl.Series([1, 0])) == 0
    assert log_loss(pl.Series([0.0]), pl.Series([1])) is None
    assert brier_score(pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.Boolean)) is None


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans(), st.integers(0, 2)), max_size=50), st.integers(1, 12))
def test_calibration_counts_every_forecast_in_its_own_bin(rows: list[tuple[int, bool, int]], bins: int) -> None:
    p = pl.Series([row[0] / 1000 for row in rows], dtype=pl.Float64)
    o = pl.Series([row[1] for row in rows], dtype=pl.Boolean)
    table = calibration_table(p, o, bins=bins)
    assert table.height == bins
    assert table["forecasts"].sum() == len(rows)
    for low, high, count, mean, frequency in table.rows():
        inside = [row for row in rows if low <= row[0] / 1000 < high or (row[0] == 1000 and high == 1)]
        assert count == len(inside)
        assert (mean is None) is (frequency is None) is (count == 0)
        if inside:
            assert frequency == pytest.approx(sum(row[1] for row in inside) / len(inside))
    horizon = pl.Series([row[2] for row in rows], dtype=pl.Int64)
    by_horizon = calibration_table(p, o, bins=bins, horizon=horizon)
    assert by_horizon.height == bins * len({row[2] for row in rows})
    summed = by_horizon.group_by("low").agg(pl.col("forecasts").sum()).sort("low")
    if rows:
        assert_frame_equal(summed, table.select("low", "forecasts"), check_dtypes=False)


def test_scores_by_horizon_are_those_of_each_horizon() -> None:
    p, o = pl.Series([0.9, 0.2, 0.5, 0.0]), pl.Series([1, 0, 1, 1])
    table = score_table(p, o, horizon=pl.Series(["1d", "1d", "7d", "7d"]))
    assert table["forecasts"].to_list() == [2, 2]
    assert table["base_rate"].to_list() == [0.5, 1.0]
    assert table["brier_score"].to_list() == [brier_score(p[:2], o[:2]), brier_score(p[2:], o[2:])]
    assert table["log_loss"].to_list() == [log_loss(p[:2], o[:2]), None]


@pytest.mark.parametrize(("p", "o"), [(1.1, 1), (-0.1, 0), (0.5, 2), (None, 1), (math.nan, 1)])
def test_forecasts_outside_their_range_are_refused(p: float | None, o: int) -> None:
    with pytest.raises(InputError, match="1 of 2 forecasts"):
        brier_score(pl.Series([0.5, p]), pl.Series([1, o]))


def test_logit_volatility_does_not_depend_on_how_often_a_path_is_sampled() -> None:
    day = timedelta(days=1)
    logits = [0.0, 0.5, 0.0, 0.5, 0.0]
    p = pl.Series([1 / (1 + math.exp(-x)) for x in logits])
    ts = pl.Series([NOON + n * day for n in (0, 1, 2, 4, 8)])
    assert logit_volatility(p, ts) == pytest.approx(math.sqrt(4 * 0.25 / (8 / 365.25)))
    assert logit_volatility(pl.Series([0.5, 1.0]), ts[:2]) is None
    assert logit_volatility(p[:1], ts[:1]) is None


@given(st.floats(0.05, 20), st.floats(0.01, 3), st.floats(0.01, 5), st.sampled_from([0.0, 0.05]))
def test_implied_volatility_of_a_binary_market_reprices_it(
    moneyness: float, volatility: float, years: float, rate: float
) -> None:
    deviation = volatility * math.sqrt(years)
    forward = math.log(moneyness) + rate * years
    price = NormalDist().cdf(forward / deviation - deviation / 2)
    assume(1e-6 < price < 1 - 1e-6)
    found = binary_implied_volatility(price, spot=100 * moneyness, strike=100, years=years, rate=rate)
    assert found is not None
    assert 0 < found <= volatility * (1 + 1e-6)
    solved = found * math.sqrt(years)
    assert NormalDist().cdf(forward / solved - solved / 2) == pytest.approx(price, abs=1e-9)


def test_a_price_that_no_volatility_explains_has_none() -> None:
    assert binary_implied_volatility(0.4, spot=100, strike=105, years=0.25) is None
    assert binary_implied_volatility(0.5, spot=100, strike=100, years=0.25) is None
    assert binary_implied_volatility(1, spot=100, strike=90, years=0.25) is None
    assert binary_implied_volatility(0.4, spot=100, strike=90, years=0) is None
    with pytest.raises(InputError, match="above zero"):
        binary_implied_volatility(0.4, spot=0, strike=90, years=1)
