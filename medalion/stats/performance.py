"""What a curve of returns or values shows: its drawdowns, its months, and every figure of it at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime

import polars as pl

from medalion.stats import ratios
from medalion.stats.benchmark import BenchmarkRatios, benchmark_ratios
from medalion.stats.curve import Data, curve_like, curve_of, periods_of
from medalion.stats.returns import finite, simple_returns


def drawdowns(equity: Data | None = None, *, returns: Data | None = None) -> pl.DataFrame:
    """`ts`, `value`, its running `peak`, and `drawdown`: how far below the peak, as a positive fraction of it.

    `equity` has `ts` and `value`; of `returns`, with `ts` and `return`, the value starts from 1 one usual (median) step
    before the first of them. `drawdown` is null while no value above zero has been seen.

    Raises:
        InputError: no times, a missing column, times that are not ascending, or numbers that are not finite.
    """
    peak = pl.col("value").cum_max()
    return (
        curve_of(returns=returns, equity=equity)
        .frame()
        .with_columns(peak.alias("peak"), pl.when(peak > 0).then(1 - pl.col("value") / peak).alias("drawdown"))
    )


def drawdown_table(equity: Data | None = None, *, returns: Data | None = None, top: int = 5) -> pl.DataFrame:
    """The deepest falls from a peak, deepest first; at most `top`.

    `equity` or `returns` as for `drawdowns`. Columns: `peak_at` (last time at the peak), `trough_at`, `recovered_at`
    (first time at or above the peak again; null if not yet), `drawdown` (positive fraction), `length` (peak to
    recovery, or to the last value).

    >>> days = [date(2024, 1, day) for day in (1, 2, 3, 4)]
    >>> drawdown_table(pl.DataFrame({"ts": days, "value": [100.0, 80.0, 90.0, 110.0]})).row(0)[:4]
    (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), datetime.date(2024, 1, 4), 0.19999999999999996)

    Raises:
        InputError: as `drawdowns`.
    """
    below = drawdowns(equity, returns=returns).with_columns(
        (pl.col("value") >= pl.col("peak")).cum_sum().alias("episode")
    )
    episodes = (
        below.group_by("episode", maintain_order=True)
        .agg(
            pl.col("ts").first().alias("peak_at"),
            pl.col("ts").gather(pl.col("drawdown").arg_max()).first().alias("trough_at"),
            pl.col("drawdown").max(),
        )
        .with_columns(pl.col("peak_at").shift(-1).alias("recovered_at"))
        .with_columns(
            (pl.coalesce("recovered_at", below["ts"].max()) - pl.col("peak_at")).cast(pl.Duration("us")).alias("length")
        )
    )
    columns = ("peak_at", "trough_at", "recovered_at", "drawdown", "length")
    return (
        episodes.filter(pl.col("drawdown") > 0)
        .sort("drawdown", descending=True, maintain_order=True)
        .select(columns)
        .head(top)
    )


def monthly_returns(equity: Data | None = None, *, returns: Data | None = None) -> pl.DataFrame:
    """`year`, `month`, `return`: from the last value of the month before to the last of each month, oldest first.

    `equity` or `returns` as for `drawdowns`. The first month counts from the first value. A month without a value is
    absent; its change is in the next one.

    Raises:
        InputError: as `drawdowns`.
    """
    curve = curve_of(returns=returns, equity=equity)
    values = curve.frame()
    # Where given returns start from was not said to lie in a month of theirs, and would be a month without a return.
    dated = values if curve.is_opening_given else values[1:]
    ends = (
        dated.group_by(pl.col("ts").dt.year().alias("year"), pl.col("ts").dt.month().alias("month"))
        .agg(pl.col("value").last())
        .sort("year", "month")
    )
    chain = pl.concat([values["value"].head(1), ends["value"]])
    return ends.select(
        pl.col("year").cast(pl.Int32), pl.col("month").cast(pl.Int32), simple_returns(chain).alias("return")
    )


@dataclass(frozen=True, slots=True)
class PerformanceStatistics:
    """Statistics of one curve by the conventions of `medalion.stats.ratios`; None is undefined.

    `start` and `end` are the times of the first and the last value, None where there are none; `periods` counts
    returns, one fewer than the values. `annual_return` is count-based, `cagr` calendar-based. The best and worst period
    and `positive_periods` (a share of all) are of single returns; `value_at_risk` and `expected_shortfall` are at 5 %.
    What compares with a benchmark, from `alpha` on, is as in `medalion.stats.BenchmarkRatios`, and None without one.
    """

    start: date | datetime | None
    end: date | datetime | None
    periods: int
    periods_per_year: float
    risk_free: float
    total_return: float | None
    annual_return: float | None
    cagr: float | None
    annual_volatility: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    calmar_ratio: float | None
    omega_ratio: float | None
    max_drawdown: float | None
    tail_ratio: float | None
    value_at_risk: float | None
    expected_shortfall: float | None
    skewness: float | None
    kurtosis: float | None
    best_period: float | None
    worst_period: float | None
    positive_periods: float | None
    alpha: float | None
    beta: float | None
    correlation: float | None
    tracking_error: float | None
    information_ratio: float | None
    up_capture: float | None
    down_capture: float | None
    capture_ratio: float | None


def performance(
    *,
    returns: Data | None = None,
    equity: Data | None = None,
    periods: float | None = None,
    risk_free: float = 0.0,
    benchmark: Data | None = None,
) -> PerformanceStatistics:
    """Every statistic of anybody's `returns` (fractions: 0.01 is 1 %) or `equity` (any positive level), oldest first.

    Either is numbers alone (a Polars or pandas Series, an array, a list), or has its times: a frame with `ts` and
    `return` or `value`, or a pandas object indexed by time. Times are dates, or aware.

    `periods` is how many observations make a year. Without it the times tell: 252 for days, 365 where Saturdays are
    among them, 52 weeks, 12 months, 4 quarters; numbers without times are days of sessions, and have no `cagr`.
    `risk_free` is an annual effective rate; Sortino and omega take it as the required return. `benchmark` is of the
    same kind; frames are joined by `ts`, numbers without times stand beside each other.

    >>> found = performance(returns=[0.01, -0.005, 0.02], periods=252)
    >>> found.periods, round(found.total_return, 6), round(found.sharpe_ratio, 4), found.cagr
    (3, 0.025049, 10.5131, None)

    Raises:
        InputError: neither or both of `returns` and `equity`, a missing column, numbers that are null or not finite,
            times that are naive, repeated or not ascending, or steps between them that ask for `periods`.
    """
    curve = curve_of(returns=returns, equity=equity)
    year = periods_of(curve, periods)
    single = curve.defined_returns()
    beside = BenchmarkRatios()
    if benchmark is not None:
        other = curve_like(benchmark, is_returns=equity is None, name="benchmark")
        beside = benchmark_ratios(benchmark=other, equity=curve, periods=year, risk_free=risk_free)
    return PerformanceStatistics(
        start=curve.start,
        end=curve.end,
        periods=len(curve.returns),
        periods_per_year=year,
        risk_free=risk_free,
        total_return=ratios.total_return(equity=curve),
        annual_return=ratios.annual_return(equity=curve, periods=year),
        cagr=ratios.cagr(equity=curve),
        annual_volatility=ratios.annual_volatility(equity=curve, periods=year),
        sharpe_ratio=ratios.sharpe_ratio(equity=curve, periods=year, risk_free=risk_free),
        sortino_ratio=ratios.sortino_ratio(equity=curve, periods=year, required_return=risk_free),
        calmar_ratio=ratios.calmar_ratio(equity=curve, periods=year),
        omega_ratio=ratios.omega_ratio(equity=curve, periods=year, required_return=risk_free),
        max_drawdown=ratios.max_drawdown(equity=curve),
        tail_ratio=ratios.tail_ratio(equity=curve),
        value_at_risk=ratios.value_at_risk(equity=curve),
        expected_shortfall=ratios.expected_shortfall(equity=curve),
        skewness=ratios.skewness(equity=curve),
        kurtosis=ratios.kurtosis(equity=curve),
        best_period=None if single is None else finite(single.max()),
        worst_period=None if single is None else finite(single.min()),
        positive_periods=None if single is None else finite((single > 0).mean()),
        **asdict(beside),
    )
