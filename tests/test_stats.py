"""Statistics agree with their reference implementation, with plain loops, and with themselves."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.errors import InputError
from medalion.types import InstrumentKind
from olap import stats
from olap.forecast_stats import (
    binary_implied_volatility,
    brier_score,
    calibration_table,
    log_loss,
    logit_volatility,
    score_table,
)
from olap.performance import drawdown_table, drawdowns, monthly_returns, performance
from olap.trade_stats import excursions, trade_statistics

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)

steps = st.integers(-3000, 3000).map(lambda basis_points: basis_points / 10_000)


def real(*parts: str) -> Path:
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data {'/'.join(parts)} is not beside the checkout")
    return path


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
    own = np.asarray(stats.simple_returns(equity))
    other = np.asarray(stats.simple_returns(benchmark))
    per_period = (1 + rate) ** (1 / year) - 1
    capture = stats.capture_ratios(equity, benchmark, periods_per_year=year)
    with np.errstate(all="ignore"):
        pairs = {
            "annual_return": (
                stats.annual_return(equity, periods_per_year=year),
                emp.annual_return(own, annualization=year),
            ),
            "volatility": (
                stats.annual_volatility(equity, periods_per_year=year),
                emp.annual_volatility(own, annualization=year),
            ),
            "sharpe": (
                stats.sharpe_ratio(equity, periods_per_year=year, risk_free=rate),
                emp.sharpe_ratio(own, per_period, annualization=year),
            ),
            "sortino": (
                stats.sortino_ratio(equity, periods_per_year=year, required_return=rate),
                emp.sortino_ratio(own, per_period, annualization=year),
            ),
            "omega": (
                stats.omega_ratio(equity, periods_per_year=year, required_return=rate),
                emp.omega_ratio(own, required_return=rate, annualization=year),
            ),
            "calmar": (stats.calmar_ratio(equity, periods_per_year=year), emp.calmar_ratio(own, annualization=year)),
            "max_drawdown": (stats.max_drawdown(equity), -emp.max_drawdown(own)),
            "tail": (stats.tail_ratio(equity), emp.tail_ratio(own)),
            "value_at_risk": (stats.value_at_risk(equity), -emp.value_at_risk(own)),
            "expected_shortfall": (stats.expected_shortfall(equity), -emp.conditional_value_at_risk(own)),
        }
        if year == 252:  # the reference passes no other factor on to its capture ratios
            pairs |= {
                "up_capture": (capture.up, emp.up_capture(own, other)),
                "down_capture": (capture.down, emp.down_capture(own, other)),
                "capture": (capture.ratio, emp.up_down_capture(own, other)),
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
    assert stats.max_drawdown(equity) == pytest.approx(0.6039, abs=5e-5)
    assert stats.sharpe_ratio(equity, periods_per_year=252) == pytest.approx(0.4511, abs=5e-5)
    assert stats.total_return(equity) == pytest.approx(0.6540, abs=5e-5)


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
    returns = stats.simple_returns(equity).to_numpy()
    gains, losses = (np.prod(1 + returns[chosen]) for chosen in (returns > 0, returns < 0))
    figures = [np.std(returns), np.percentile(returns, 5), returns.min(), gains - 1, losses - 1]
    return bool(min(abs(figure) for figure in figures) > 1e-6 and returns.min() < 0)


@given(st.floats(-0.1, 0.1), st.integers(2, 50))
def test_steady_growth_has_no_ratio_to_its_rounding(rate: float, periods: int) -> None:
    equity = grown([rate] * periods)
    assert stats.sharpe_ratio(equity, periods_per_year=252) is None
    assert stats.annual_volatility(equity, periods_per_year=252) == 0
    assert stats.skewness(equity) is None


def test_cagr_goes_by_the_calendar_and_annual_return_by_the_count() -> None:
    equity = pl.Series(np.linspace(100, 121, 101))
    assert stats.cagr(equity, date(2020, 1, 1), datetime(2021, 12, 31, 12, tzinfo=UTC)) == pytest.approx(0.1)
    assert stats.annual_return(equity, periods_per_year=50) == pytest.approx(0.1)
    assert stats.annual_return(equity, periods_per_year=100) == pytest.approx(0.21)


def test_a_year_has_sessions_for_shares_and_days_for_coins() -> None:
    assert stats.PERIODS_PER_YEAR[InstrumentKind.STOCK] == 252
    assert stats.PERIODS_PER_YEAR[InstrumentKind.CRYPTO] == stats.PERIODS_PER_YEAR[InstrumentKind.OUTCOME] == 365
    assert set(stats.PERIODS_PER_YEAR) == set(InstrumentKind)


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
    found = performance(curve(values), periods_per_year=252, benchmark=curve(values))
    numbers = {name: getattr(found, name) for name in found.__slots__ if isinstance(getattr(found, name), float)}
    assert all(math.isfinite(number) for number in numbers.values())
    assert found.sharpe_ratio is None
    assert found.calmar_ratio is None
    assert found.sortino_ratio is None


def test_losing_everything_is_a_loss_of_one() -> None:
    found = performance(curve([100.0, 150.0, 0.0]), periods_per_year=252)
    assert (found.total_return, found.annual_return, found.max_drawdown) == (-1.0, -1.0, 1.0)


@pytest.mark.parametrize("bad", [[1.0, None], [1.0, math.nan], [1.0, math.inf]])
def test_equity_with_holes_is_refused(bad: list[float | None]) -> None:
    with pytest.raises(InputError, match="1 of 2 values"):
        stats.max_drawdown(pl.Series(bad))


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
    assert (months["return"] + 1).product() - 1 == pytest.approx(stats.total_return(equity["value"]))


def test_deposits_are_no_returns() -> None:
    index = stats.time_weighted(pl.Series([100.0, 210.0, 231.0, 115.5]), pl.Series([100.0, 100.0, 0.0, -115.5]))
    assert index.to_list() == pytest.approx([1.0, 1.1, 1.21, 1.21])


def test_performance_reports_every_statistic_by_its_own_function() -> None:
    equity = curve(grown([0.01, -0.02, 0.015, 0.003] * 30).to_list())
    benchmark = curve(grown([0.008, -0.01, 0.01, -0.001] * 30).to_list())[10:]
    found = performance(equity, periods_per_year=365, risk_free=0.02, benchmark=benchmark)
    values = equity["value"]
    assert (found.start, found.end, found.periods) == (date(2024, 1, 1), date(2024, 4, 30), 120)
    assert found.sharpe_ratio == stats.sharpe_ratio(values, periods_per_year=365, risk_free=0.02)
    assert found.omega_ratio == stats.omega_ratio(values, periods_per_year=365, required_return=0.02)
    assert found.cagr == stats.cagr(values, date(2024, 1, 1), date(2024, 4, 30))
    capture = stats.capture_ratios(values[10:], benchmark["value"], periods_per_year=365)
    assert (found.up_capture, found.down_capture, found.capture_ratio) == (capture.up, capture.down, capture.ratio)
    assert found.capture_ratio is not None
    assert found.worst_period == pytest.approx(-0.02)
    assert found.positive_periods == 0.75
    scipy = pytest.importorskip("scipy.stats")
    returns = stats.simple_returns(values).to_numpy()
    assert found.skewness == pytest.approx(scipy.skew(returns, bias=False))
    assert found.kurtosis == pytest.approx(scipy.kurtosis(returns, bias=False))


def test_performance_refuses_times_out_of_order_and_missing_columns() -> None:
    with pytest.raises(InputError, match="ascending"):
        performance(curve([1.0, 2.0]).reverse(), periods_per_year=252)
    with pytest.raises(InputError, match="no column value"):
        performance(curve([1.0]).rename({"value": "equity"}), periods_per_year=252)


def closed(*results: tuple[str, str], hours: int = 1) -> pl.DataFrame:
    """Round trips of (gross, commission), one after the other."""
    rows = [
        (NOON + timedelta(hours=n), NOON + timedelta(hours=n + hours), Decimal(gross), Decimal(commission))
        for n, (gross, commission) in enumerate(results)
    ]
    times = pl.Datetime("us", "UTC")
    money = pl.Decimal(18, 8)
    schema = {"opened_at": times, "closed_at": times, "realized_pnl": money, "commission": money}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_trade_statistics_subtract_commission_once() -> None:
    found = trade_statistics(closed(("10", "1"), ("-5", "1"), ("0.5", "0.5"), ("4", "1"), ("8", "2"), hours=2))
    assert (found.total_trades, found.winning_trades, found.losing_trades) == (5, 3, 1)
    assert found.total_profit == 18
    assert found.total_loss == 6
    assert found.net_profit == 12
    assert found.total_commissions == Decimal("5.5")
    assert (found.win_rate, found.profit_factor, found.payoff_ratio) == (0.6, 3.0, 1.0)
    assert found.average_profit == 6
    assert found.average_loss == 6
    assert found.expectancy == Decimal("2.4")
    assert found.best == 9
    assert found.worst == -6
    assert (found.longest_winning_streak, found.longest_losing_streak) == (2, 1)
    assert found.average_holding_time == timedelta(hours=2)


money = st.integers(-(10**12), 10**12).map(lambda units: Decimal(units).scaleb(-8))


@given(st.lists(st.tuples(money, money.map(abs)), max_size=20), st.randoms(use_true_random=False))
def test_trade_statistics_are_exact_and_do_not_depend_on_order(
    results: list[tuple[Decimal, Decimal]], random: object
) -> None:
    frame = closed(*((str(gross), str(commission)) for gross, commission in results))
    found = trade_statistics(frame)
    nets = [gross - commission for gross, commission in results]
    assert found.net_profit == found.total_profit - found.total_loss == sum(nets, Decimal(0))
    assert found.winning_trades == sum(net > 0 for net in nets)
    assert found.losing_trades == sum(net < 0 for net in nets)
    assert found.best == max(nets, default=None)
    assert trade_statistics(frame.reverse()) == found
    letters = "".join("w" if net > 0 else "l" if net < 0 else "-" for net in nets)
    assert found.longest_winning_streak == max(map(len, letters.replace("l", "-").split("-")))
    assert found.longest_losing_streak == max(map(len, letters.replace("w", "-").split("-")))


def test_a_book_without_trades_has_counts_of_zero_and_no_averages() -> None:
    found = trade_statistics(closed())
    assert (found.total_trades, found.net_profit, found.longest_losing_streak) == (0, Decimal(0), 0)
    undefined = [
        found.win_rate,
        found.average_profit,
        found.profit_factor,
        found.expectancy,
        found.average_holding_time,
    ]
    assert undefined == [None] * 5


def test_without_a_loss_the_profit_factor_is_undefined() -> None:
    found = trade_statistics(closed(("1", "0")))
    assert (found.profit_factor, found.payoff_ratio, found.average_loss) == (None, None, None)


def test_open_trades_and_float_money_are_refused() -> None:
    frame = closed(("1", "0"))
    with pytest.raises(InputError, match="closed trades only"):
        trade_statistics(frame.with_columns(closed_at=pl.lit(None, dtype=pl.Datetime("us", "UTC"))))
    with pytest.raises(InputError, match="realized_pnl is Float64"):
        trade_statistics(frame.cast({"realized_pnl": pl.Float64}))


def test_a_real_bots_trades_add_up() -> None:
    file = real("F10-cross-signal-data", "crashes_v1.csv")
    rows = pl.read_csv(file, schema_overrides={"pnl_usd": pl.String})
    trades = rows.select(
        pl.col("entry_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_zone="UTC").alias("opened_at"),
        pl.col("exit_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_zone="UTC").alias("closed_at"),
        pl.col("pnl_usd").str.to_decimal(scale=8).alias("realized_pnl"),
        pl.lit(Decimal(0), dtype=pl.Decimal(18, 8)).alias("commission"),
    )
    found = trade_statistics(trades)
    assert (found.total_trades, found.winning_trades) == (308, 247)
    assert found.net_profit == Decimal("231.1177")


def test_excursions_are_measured_inside_the_trade() -> None:
    minute = timedelta(minutes=1)
    bars = pl.DataFrame(
        {
            "symbol": ["A"] * 4,
            "ts": [NOON + n * minute for n in range(4)],
            "available_at": [NOON + (n + 1) * minute for n in range(4)],
            "high": [500.0, 120.0, 110.0, 500.0],
            "low": [1.0, 95.0, 80.0, 1.0],
        }
    )
    trades = pl.DataFrame(
        {
            "symbol": ["A", "A", "B"],
            "side": ["long", "short", "long"],
            "opened_at": [NOON + minute] * 3,
            "closed_at": [NOON + 3 * minute] * 3,
            "entry_price": [100.0, 100.0, 100.0],
        }
    )
    found = excursions(trades, bars)
    assert found["mae"].to_list() == [pytest.approx(0.2), pytest.approx(0.2), None]
    assert found["mfe"].to_list() == [pytest.approx(0.2), pytest.approx(0.2), None]
    gap = excursions(trades[:1].with_columns(entry_price=pl.lit(75.0)), bars)
    assert (gap["mae"][0], gap["mfe"][0]) == (0.0, pytest.approx(0.6))


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
