"""Statistics agree with their reference implementation, with plain loops, and with themselves."""

import math
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError
from medalion.stats import ratios
from medalion.stats.benchmark import benchmark_ratios
from medalion.stats.curve import PERIODS_PER_YEAR
from medalion.stats.performance import drawdown_table, drawdowns, monthly_returns, performance
from medalion.stats.returns import simple_returns, time_weighted
from tests.support.real_data import real

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)

steps = st.integers(-3000, 3000).map(lambda basis_points: basis_points / 10_000)


def grown(returns: list[float], start: float = 1e6) -> pl.Series:
    return pl.Series(np.cumprod([start, *(1 + r for r in returns)]))


def curve(values: list[float], *, first: date = date(2024, 1, 1)) -> pl.DataFrame:
    days = [first + timedelta(days=n) for n in range(len(values))]
    return pl.DataFrame({"ts": days, "value": values}, schema={"ts": pl.Date, "value": pl.Float64})


def agrees(ours: float | None, reference: float) -> bool:
    """Equal to 1e-9; what the reference calls NaN or infinite is None."""
    if not math.isfinite(reference):
        return ours is None
    return ours is not None and math.isclose(ours, reference, rel_tol=1e-9, abs_tol=1e-9)


def disagreements(
    equity: pl.Series, benchmark: pl.Series, *, year: int, rate: float
) -> dict[str, tuple[object, float]]:
    """Each statistic that differs from empyrical's, with both values."""
    emp = pytest.importorskip("empyrical", reason="empyrical-reloaded is not installed")
    own = np.asarray(simple_returns(equity))
    other = np.asarray(simple_returns(benchmark))
    per_period = (1 + rate) ** (1 / year) - 1
    beside = benchmark_ratios(equity=equity, benchmark=benchmark, periods=year, risk_free=rate)
    with np.errstate(all="ignore"):
        pairs = {
            "annual_return": (
                ratios.annual_return(equity=equity, periods=year),
                emp.annual_return(own, annualization=year),
            ),
            "volatility": (
                ratios.annual_volatility(equity=equity, periods=year),
                emp.annual_volatility(own, annualization=year),
            ),
            "sharpe": (
                ratios.sharpe_ratio(equity=equity, periods=year, risk_free=rate),
                emp.sharpe_ratio(own, per_period, annualization=year),
            ),
            "sortino": (
                ratios.sortino_ratio(equity=equity, periods=year, required_return=rate),
                emp.sortino_ratio(own, per_period, annualization=year),
            ),
            "omega": (
                ratios.omega_ratio(equity=equity, periods=year, required_return=rate),
                emp.omega_ratio(own, required_return=rate, annualization=year),
            ),
            "calmar": (ratios.calmar_ratio(equity=equity, periods=year), emp.calmar_ratio(own, annualization=year)),
            "max_drawdown": (ratios.max_drawdown(equity=equity), -emp.max_drawdown(own)),
            "tail": (ratios.tail_ratio(equity=equity), emp.tail_ratio(own)),
            "value_at_risk": (ratios.value_at_risk(equity=equity), -emp.value_at_risk(own)),
            "expected_shortfall": (ratios.expected_shortfall(equity=equity), -emp.conditional_value_at_risk(own)),
        }
        if year == 252:  # the reference passes no other factor on to its capture ratios
            alpha, beta = emp.alpha_beta(own, other, per_period)
            excess = emp.excess_sharpe(own, other)
            pairs |= {
                "alpha": (beside.alpha, alpha),
                "beta": (beside.beta, beta),
                "correlation": (beside.correlation, float(np.corrcoef(own, other)[0, 1])),
                "information": (beside.information_ratio, excess * np.sqrt(252)),
                "up_capture": (beside.up_capture, emp.up_capture(own, other)),
                "down_capture": (beside.down_capture, emp.down_capture(own, other)),
                "capture": (beside.capture_ratio, emp.up_down_capture(own, other)),
            }
    return {name: pair for name, pair in pairs.items() if not agrees(*pair)}


@pytest.mark.parametrize("year", [252, 365])
@pytest.mark.parametrize("rate", [0.0, 0.04])
def test_ratios_of_a_real_backtest_agree_with_empyrical(year: int, rate: float) -> None:
    file = real("F11-pyfolio", "test_returns.csv.gz")
    frame = pl.read_csv(file, has_header=False, new_columns=["ts", "return"])
    equity = grown(frame["return"].to_list())
    benchmark = grown((frame["return"].shift(1, fill_value=0.001) * 0.7 + 0.0002).to_list())
    assert len(equity) == 1512
    assert disagreements(equity, benchmark, year=year, rate=rate) == {}


def test_a_real_backtest_has_the_published_figures() -> None:
    frame = pl.read_csv(real("F11-pyfolio", "test_returns.csv.gz"), has_header=False, new_columns=["ts", "return"])
    equity = grown(frame["return"].to_list())
    assert ratios.max_drawdown(equity=equity) == pytest.approx(0.6039, abs=5e-5)
    assert ratios.sharpe_ratio(equity=equity, periods=252) == pytest.approx(0.4511, abs=5e-5)
    assert ratios.total_return(equity=equity) == pytest.approx(0.6540, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_ratios_of_random_walks_agree_with_empyrical(seed: int) -> None:
    random = np.random.default_rng(seed)
    own, other = random.normal(0.0004, 0.012, (2, 750)).tolist()
    assert disagreements(grown(own), grown(other), year=252, rate=0.03) == {}


@given(st.lists(st.tuples(steps, steps), min_size=4, max_size=40))
def test_short_and_odd_series_agree_with_empyrical(pairs: list[tuple[float, float]]) -> None:
    own, other = grown([pair[0] for pair in pairs]), grown([pair[1] for pair in pairs])
    # A figure within rounding of zero is a denominator to the reference, and to us it is none.
    assume(is_settled(own) and is_settled(other))
    assert disagreements(own, other, year=252, rate=0.0) == {}


def is_settled(equity: pl.Series) -> bool:
    returns = simple_returns(equity).to_numpy()
    gains, losses = (np.prod(1 + returns[chosen]) for chosen in (returns > 0, returns < 0))
    figures = [np.std(returns), np.percentile(returns, 5), returns.min(), gains - 1, losses - 1]
    return bool(min(abs(figure) for figure in figures) > 1e-6 and returns.min() < 0)


@given(st.floats(-0.1, 0.1), st.integers(2, 50))
def test_steady_growth_has_no_ratio_to_its_rounding(rate: float, periods: int) -> None:
    equity = grown([rate] * periods)
    assert ratios.sharpe_ratio(equity=equity, periods=252) is None
    assert ratios.annual_volatility(equity=equity, periods=252) == 0
    assert ratios.skewness(equity=equity) is None


def test_cagr_goes_by_the_calendar_and_annual_return_by_the_count() -> None:
    equity = pl.Series(np.linspace(100, 121, 101))
    assert ratios.cagr(
        equity=equity, start=date(2020, 1, 1), end=datetime(2021, 12, 31, 12, tzinfo=UTC)
    ) == pytest.approx(0.1)
    assert ratios.annual_return(equity=equity, periods=50) == pytest.approx(0.1)
    assert ratios.annual_return(equity=equity, periods=100) == pytest.approx(0.21)


def test_a_year_has_sessions_for_shares_and_days_for_coins() -> None:
    assert PERIODS_PER_YEAR[InstrumentKind.STOCK] == 252
    assert PERIODS_PER_YEAR[InstrumentKind.CRYPTO] == PERIODS_PER_YEAR[InstrumentKind.OUTCOME] == 365
    assert set(PERIODS_PER_YEAR) == set(InstrumentKind)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [100.0],
        [100.0, 100.0, 100.0],
        [0.0, 0.0, 0.0],
        [100.0, 0.0, 50.0],
        [100.0, -20.0, 3.0, 7.0],
        [1e-300, 1e300],
    ],
    ids=["empty", "one", "constant", "zero", "ruined", "negative", "absurd"],
)
def test_what_is_undefined_is_none_and_never_nan_or_infinite(values: list[float]) -> None:
    found = performance(equity=curve(values), periods=252, benchmark=curve(values))
    numbers = {name: getattr(found, name) for name in found.__slots__ if isinstance(getattr(found, name), float)}
    assert all(math.isfinite(number) for number in numbers.values())
    assert found.sharpe_ratio is None
    assert found.calmar_ratio is None
    assert found.sortino_ratio is None


def test_losing_everything_is_a_loss_of_one() -> None:
    found = performance(equity=curve([100.0, 150.0, 0.0]), periods=252)
    assert (found.total_return, found.annual_return, found.max_drawdown) == (-1.0, -1.0, 1.0)


@pytest.mark.parametrize("bad", [[1.0, None], [1.0, math.nan], [1.0, math.inf]])
def test_equity_with_holes_is_refused(bad: list[float | None]) -> None:
    with pytest.raises(InputError, match="1 of 2 values"):
        ratios.max_drawdown(equity=pl.Series(bad))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_drawdown_episodes_are_those_a_plain_loop_finds(values: list[int]) -> None:
    days = curve([float(v) for v in values])["ts"].to_list()
    expected = []
    peak = trough = 0
    for now in range(1, len(values) + 1):
        if now == len(values) or values[now] >= values[peak]:
            if values[trough] < values[peak]:
                recovered = days[now] if now < len(values) else None
                depth = 1 - values[trough] / values[peak]
                length = (recovered or days[-1]) - days[peak]
                expected.append((days[peak], days[trough], recovered, depth, length))
            peak = trough = now
        elif values[now] < values[trough]:
            trough = now
    found = drawdown_table(curve([float(v) for v in values]), top=100).rows()
    assert found == sorted(expected, key=lambda row: -row[3])
    deepest = drawdowns(curve([float(v) for v in values]))["drawdown"].max()
    assert deepest == max((row[3] for row in expected), default=0.0)


def test_the_drawdown_table_keeps_the_deepest() -> None:
    found = drawdown_table(curve([100.0, 90.0, 100.0, 50.0, 100.0, 80.0]), top=2)
    assert found["drawdown"].to_list() == [0.5, pytest.approx(0.2)]
    assert found["recovered_at"].to_list() == [date(2024, 1, 5), None]
    assert found["length"].to_list() == [timedelta(days=2), timedelta(days=1)]


def test_months_chain_to_the_whole_return() -> None:
    equity = curve(grown([0.01, -0.02, 0.015] * 40, start=100.0).to_list(), first=date(2023, 11, 20))
    months = monthly_returns(equity)
    assert months.select("year", "month").rows() == [(2023, 11), (2023, 12), (2024, 1), (2024, 2), (2024, 3)]
    assert (months["return"] + 1).product() - 1 == pytest.approx(ratios.total_return(equity=equity["value"]))


def test_deposits_are_no_returns() -> None:
    index = time_weighted(pl.Series([100.0, 210.0, 231.0, 115.5]), pl.Series([100.0, 100.0, 0.0, -115.5]))
    assert index.to_list() == pytest.approx([1.0, 1.1, 1.21, 1.21])


def test_performance_reports_every_statistic_by_its_own_function() -> None:
    equity = curve(grown([0.01, -0.02, 0.015, 0.003] * 30).to_list())
    benchmark = curve(grown([0.008, -0.01, 0.01, -0.001] * 30).to_list())[10:]
    found = performance(equity=equity, periods=365, risk_free=0.02, benchmark=benchmark)
    values = equity["value"]
    assert (found.start, found.end, found.periods) == (date(2024, 1, 1), date(2024, 4, 30), 120)
    assert found.sharpe_ratio == ratios.sharpe_ratio(equity=values, periods=365, risk_free=0.02)
    assert found.omega_ratio == ratios.omega_ratio(equity=values, periods=365, required_return=0.02)
    assert found.cagr == ratios.cagr(equity=values, start=date(2024, 1, 1), end=date(2024, 4, 30))
    beside = benchmark_ratios(equity=values[10:], benchmark=benchmark["value"], periods=365, risk_free=0.02)
    assert {name: getattr(found, name) for name in beside.__slots__} == asdict(beside)
    assert None not in asdict(beside).values()
    assert found.worst_period == pytest.approx(-0.02)
    assert found.positive_periods == 0.75
    scipy = pytest.importorskip("scipy.stats")
    returns = simple_returns(values).to_numpy()
    assert found.skewness == pytest.approx(scipy.skew(returns, bias=False))
    assert found.kurtosis == pytest.approx(scipy.kurtosis(returns, bias=False))


def test_performance_refuses_times_out_of_order_and_missing_columns() -> None:
    with pytest.raises(InputError, match="ascending"):
        performance(equity=curve([1.0, 2.0]).reverse(), periods=252)
    with pytest.raises(InputError, match="no column value"):
        performance(equity=curve([1.0]).rename({"value": "equity"}), periods=252)
