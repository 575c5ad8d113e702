"""`medalion.stats` takes anybody's data, in any of the usual forms, and says what it cannot take."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion import stats
from medalion.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FRIDAY = date(2024, 3, 1)
RETURNS = [0.01, -0.02, 0.015, 0.003, -0.001, 0.02]
VALUES = np.cumprod([100.0, *(1 + r for r in RETURNS)]).tolist()


def days(count: int, *, first: date = FRIDAY, step: int = 1) -> list[date]:
    return [first + timedelta(days=step * n) for n in range(count)]


def midnights(dates: list[date]) -> list[datetime]:
    return [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in dates]


NUMBERS: dict[str, Callable[[list[float]], Any]] = {
    "a Polars Series": pl.Series,
    "a pandas Series": pd.Series,
    "an array": np.array,
    "a list": list,
}
FRAMES: dict[str, Callable[[list[date], str, list[float]], Any]] = {
    "a Polars frame": lambda ts, name, values: pl.DataFrame({"ts": ts, name: values}),
    "a lazy frame": lambda ts, name, values: pl.LazyFrame({"ts": ts, name: values}),
    "aware times": lambda ts, name, values: pl.DataFrame({"ts": midnights(ts), name: values}),
    "an Arrow table": lambda ts, name, values: pa.table({"ts": ts, name: values}),
    "a pandas frame": lambda ts, name, values: pd.DataFrame({"ts": midnights(ts), name: values}),
    "a pandas frame by its index": lambda ts, name, values: pd.DataFrame({name: values}, index=pd.DatetimeIndex(ts)),
    "a pandas Series by its index": lambda ts, _, values: pd.Series(values, index=pd.DatetimeIndex(ts)),
}


@pytest.mark.parametrize("form", NUMBERS)
def test_numbers_without_times_have_every_figure_but_the_calendars(form: str) -> None:
    by_list = stats.performance(returns=RETURNS)
    assert stats.performance(returns=NUMBERS[form](RETURNS)) == by_list
    assert (by_list.start, by_list.end, by_list.cagr) == (None, None, None)
    assert (by_list.periods, by_list.periods_per_year) == (6, 252)
    by_equity = stats.performance(equity=NUMBERS[form](VALUES))
    assert by_equity.sharpe_ratio == pytest.approx(by_list.sharpe_ratio)
    assert by_equity.total_return == pytest.approx(by_list.total_return)


@pytest.mark.parametrize("form", FRAMES)
def test_a_frame_brings_its_times(form: str) -> None:
    by_equity = stats.performance(equity=FRAMES[form](days(7), "value", VALUES))
    expected = stats.performance(equity=pl.DataFrame({"ts": days(7), "value": VALUES}))
    assert replace(by_equity, start=None, end=None) == replace(expected, start=None, end=None)
    assert (expected.start, expected.end, expected.periods_per_year) == (FRIDAY, date(2024, 3, 7), 365)
    assert expected.cagr is not None
    by_returns = stats.performance(returns=FRAMES[form](days(7)[1:], "return", RETURNS))
    assert by_returns.cagr == pytest.approx(expected.cagr)
    assert by_returns.sharpe_ratio == pytest.approx(expected.sharpe_ratio)
    assert by_returns.start in (FRIDAY, midnights([FRIDAY])[0])
    months = stats.monthly_returns(returns=FRAMES[form](days(7)[1:], "return", RETURNS))
    assert months.rows() == [(2024, 3, pytest.approx(expected.total_return))]


def test_a_first_return_of_a_month_makes_no_month_of_the_day_before() -> None:
    frame = pl.DataFrame({"ts": days(4, first=date(2024, 1, 1)), "return": [0.1, 0.1, 0.1, 0.1]})
    assert stats.monthly_returns(returns=frame).rows() == [(2024, 1, pytest.approx(1.1**4 - 1))]
    assert stats.drawdowns(returns=frame)["value"][0] == 1


@pytest.mark.parametrize(
    ("times", "year"),
    [
        ([day for day in days(20) if day.weekday() < 5], 252),
        (days(20), 365),
        (days(9, step=7), 52),
        ([date(2023, month, 28) for month in range(1, 13)], 12),
        ([date(2023, month, 28) for month in (1, 4, 7, 10)], 4),
        ([date(year, 1, 1) for year in range(2020, 2024)], 1),
        (days(1), 252),
    ],
)
def test_the_times_tell_how_many_make_a_year(times: list[date], year: int) -> None:
    frame = pl.DataFrame({"ts": times, "value": [100.0 + n for n in range(len(times))]})
    assert stats.performance(equity=frame).periods_per_year == year
    assert stats.performance(equity=frame, periods=7).periods_per_year == 7


def test_a_step_nobody_knows_asks_for_periods() -> None:
    minutes = [datetime(2024, 3, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(7)]
    frame = pl.DataFrame({"ts": minutes, "value": VALUES})
    with pytest.raises(InputError, match=r"step between times is 0:01:00.*periods="):
        stats.sharpe_ratio(equity=frame)
    assert stats.sharpe_ratio(equity=frame, periods=252 * 390) is not None


def test_a_ruined_account_keeps_the_figures_of_given_returns() -> None:
    found = stats.performance(returns=[0.1, -1.0, 0.5])
    assert (found.total_return, found.max_drawdown, found.worst_period) == (-1, 1, -1)
    assert found.sharpe_ratio is not None


@given(st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=30))
def test_a_curve_beside_itself_is_wholly_explained(returns: list[float]) -> None:
    found = stats.benchmark_ratios(returns=returns, benchmark=returns)
    assert found.beta is None or found.beta == pytest.approx(1)
    assert found.alpha is None or found.alpha == pytest.approx(0, abs=1e-9)
    assert found.tracking_error == 0
    assert found.information_ratio is None
    assert found.up_capture in (None, 1)


def test_a_benchmark_of_frames_is_joined_by_time_and_may_be_of_the_other_kind() -> None:
    own = pl.DataFrame({"ts": days(7)[1:], "return": RETURNS})
    same_days = pl.DataFrame({"ts": days(7), "value": VALUES})
    assert stats.performance(returns=own, benchmark=same_days).beta == pytest.approx(1)
    without_a_day = own.filter(pl.col("ts") != days(7)[3])
    held = without_a_day.with_columns(pl.Series("return", [0.01, -0.02, 1.015 * 1.003 - 1, -0.001, 0.02]))
    found = stats.benchmark_ratios(returns=own, benchmark=held)
    assert found.tracking_error == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match="6 returns and 5 of the benchmark"):
        stats.performance(returns=RETURNS, benchmark=RETURNS[1:])


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "either returns= or equity="),
        ({"returns": RETURNS, "equity": VALUES}, "either returns= or equity="),
        ({"returns": [0.1, None]}, "1 of 2 values"),
        ({"returns": pd.Series(VALUES).pct_change()}, "returns has 1 of 7 values"),
        ({"returns": "0.1"}, "returns is a str"),
        ({"returns": object()}, "returns is a object"),
        ({"equity": ["a", "b"]}, "give numbers"),
        ({"equity": pl.DataFrame({"ts": days(2), "close": [1, 2]})}, "no column value"),
        ({"equity": pl.DataFrame({"value": [1, 2]})}, "no column ts"),
        ({"equity": pl.DataFrame({"ts": days(2)[::-1], "value": [1, 2]})}, "not ascending"),
        ({"equity": pl.DataFrame({"ts": [1, 2], "value": [1, 2]})}, "ts is Int64"),
        ({"equity": pl.DataFrame({"ts": [datetime(2024, 1, 1, 9)], "value": [1]})}, "no time zone"),  # noqa: DTZ001
        ({"returns": RETURNS, "periods": 0}, "periods is 0"),
    ],
)
def test_what_does_not_fit_is_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stats.performance(**given_)
    with pytest.raises(InputError, match="have no times"):
        stats.drawdown_table(VALUES)


def test_forecasts_and_trades_of_pandas_are_those_of_polars() -> None:
    p, o = [0.9, 0.2, 0.5], [True, False, True]
    assert stats.brier_score(np.array(p), pd.Series(o)) == stats.brier_score(pl.Series(p), pl.Series(o))
    table = stats.calibration_table(pd.Series(p), o, bins=2, horizon=["near", "far", "far"])
    assert table["forecasts"].sum() == 3
    money = pl.Series(["12.5", "-3"]).cast(pl.Decimal(18, 8))
    trades = pl.DataFrame({"opened_at": midnights(days(2)), "closed_at": midnights(days(2)), "realized_pnl": money})
    trades = trades.with_columns(commission=money.abs() * 0)
    assert stats.trade_statistics(trades.to_pandas(use_pyarrow_extension_array=True)) == stats.trade_statistics(trades)


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert sorted(stats.__all__) == sorted(set(stats.__all__))
    assert callable(stats.performance)
    for name in stats.__all__:
        member = getattr(stats, name)
        assert name == "PERIODS_PER_YEAR" or (inspect.getdoc(member) or "")[-1:], name


def test_figures_need_no_store() -> None:
    engines = ("sqlalchemy", "psycopg", "duckdb", "deltalake", "oltp", "olap", "pandas")
    listing = f"import medalion.stats, sys; print(*sorted(sys.modules.keys() & set({engines!r})))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    ("index", "periods"),
    [
        (pd.Index(days(7)), 365),
        (pd.period_range("2024-01-31", periods=7, freq="M"), 12),
        (pd.date_range("2024-01-31", periods=7, freq="ME"), 12),
        (pd.date_range("2024-01-05", periods=7, freq="W", tz="America/New_York"), 52),
        (pd.RangeIndex(7), 252),
        (pd.Index([7, 5, 3, 9, 11, 2, 1]), 252),
    ],
    ids=str,
)
def test_an_index_is_times_or_counts_rows(index: Any, periods: int) -> None:
    assert stats.performance(equity=pd.Series(VALUES, index=index)).periods_per_year == periods
    assert (
        stats.performance(equity=pd.DataFrame({"value": VALUES}, index=index).get("value")).periods_per_year == periods
    )


@pytest.mark.parametrize(
    "index",
    [pd.Index([str(day) for day in days(7)]), pd.MultiIndex.from_product([["AAA"], days(7)])],
    ids=["text", "two levels"],
)
def test_an_index_of_something_else_is_refused(index: Any) -> None:
    with pytest.raises(InputError, match="the index is"):
        stats.performance(equity=pd.Series(VALUES, index=index))


@pytest.mark.parametrize("step", ["25h", "36h", "2D", "3D", "4D", "5D", "10D", "14D", "20h", "1h"])
def test_steps_of_which_nobody_knows_how_many_make_a_year_ask(step: str) -> None:
    with pytest.raises(InputError, match="give periods="):
        stats.performance(equity=pd.Series(VALUES, index=pd.date_range("2024-01-01", periods=7, freq=step, tz="UTC")))


def test_numbers_of_several_types_are_floats() -> None:
    assert stats.total_return(returns=[0, 0.5, Decimal("-0.25")]) == pytest.approx(0.125)
    assert stats.total_return(equity=[100, 101.5, np.float32(150)]) == pytest.approx(0.5)
    assert stats.brier_score([1, 0.5], [1, 0]) == pytest.approx(0.125)
    with pytest.raises(InputError, match="cannot be read as numbers"):
        stats.total_return(returns=[0, "0.5"])


def test_dates_and_times_stand_beside_each_other_and_nothing_in_common_is_said() -> None:
    own = pd.Series(RETURNS, index=pd.DatetimeIndex(days(6)))
    expected = stats.benchmark_ratios(returns=own, benchmark=own)
    assert expected.beta == pytest.approx(1)
    assert stats.benchmark_ratios(returns=own, benchmark=own.tz_localize("UTC")) == expected
    assert stats.benchmark_ratios(returns=own.tz_localize("UTC"), benchmark=own) == expected
    closes = own.tz_localize("America/New_York")
    closes.index += pd.Timedelta(hours=16)
    with pytest.raises(InputError, match=r"none of the times.*by their dates"):
        stats.performance(returns=own.tz_localize("UTC"), benchmark=closes)


@pytest.mark.parametrize(
    "settings",
    [{"periods": "252"}, {"periods": True}, {"risk_free": -2}, {"risk_free": "0.1"}, {"risk_free": float("nan")}],
)
def test_settings_are_numbers_that_make_sense(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="; give "):
        stats.performance(returns=RETURNS, **settings)
    wrong: list[Any] = [-1, 2, float("nan"), "0.05"]
    for cutoff in wrong:
        with pytest.raises(InputError, match="cutoff is"):
            stats.value_at_risk(returns=RETURNS, cutoff=cutoff)
