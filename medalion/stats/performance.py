"""What an equity frame (`ts`, `value`) shows: its drawdowns, its months, every figure of `ratios` at once."""

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from medalion.core.errors import InputError
from medalion.stats import ratios


def _checked(equity: pl.DataFrame, *, name: str = "equity") -> pl.DataFrame:
    """`ts` and `value` as float, oldest first."""
    missing = {"ts", "value"} - set(equity.columns)
    if missing:
        raise InputError(
            f"{name} has no column {' and '.join(sorted(missing))} among {equity.columns}; rename yours",
            given=equity.columns,
            expected=["ts", "value"],
        )
    if not equity["ts"].dtype.is_temporal() or equity["ts"].null_count():
        raise InputError(f"{name}: ts is {equity['ts'].dtype}; give dates or times", given=equity["ts"].dtype)
    if not equity["ts"].is_sorted() or equity["ts"].n_unique() < equity.height:
        raise InputError(f"{name}: ts is not ascending or repeats; sort it, one value for each time", given=name)
    return pl.DataFrame([equity["ts"], ratios.levels(equity["value"]).alias("value")])


def drawdowns(equity: pl.DataFrame) -> pl.DataFrame:
    """`ts`, `value`, its running `peak`, and `drawdown`: how far below the peak, as a positive fraction of it.

    `drawdown` is null while no value above zero has been seen.
    """
    peak = pl.col("value").cum_max()
    return _checked(equity).with_columns(
        peak.alias("peak"), pl.when(peak > 0).then(1 - pl.col("value") / peak).alias("drawdown")
    )


def drawdown_table(equity: pl.DataFrame, *, top: int = 5) -> pl.DataFrame:
    """The deepest falls from a peak, deepest first; at most `top`.

    Columns: `peak_at` (last time at the peak), `trough_at`, `recovered_at` (first time at or above the peak again; null
    if not yet), `drawdown` (positive fraction), `length` (peak to recovery, or to the last value).
    """
    below = drawdowns(equity).with_columns((pl.col("value") >= pl.col("peak")).cum_sum().alias("episode"))
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


def monthly_returns(equity: pl.DataFrame) -> pl.DataFrame:
    """`year`, `month`, `return`: from the last value of the month before to the last of each month, oldest first.

    The first month counts from the first value. A month without a value is absent; its change is in the next one.
    """
    values = _checked(equity)
    ends = (
        values.group_by(pl.col("ts").dt.year().alias("year"), pl.col("ts").dt.month().alias("month"))
        .agg(pl.col("value").last())
        .sort("year", "month")
    )
    chain = pl.concat([values["value"].head(1), ends["value"]])
    return ends.select(
        pl.col("year").cast(pl.Int32), pl.col("month").cast(pl.Int32), ratios.simple_returns(chain).alias("return")
    )


@dataclass(frozen=True, slots=True)
class PerformanceStatistics:
    """Statistics of one equity series by the conventions of `medalion.stats.ratios`; None is undefined.

    `periods` counts returns, one fewer than the values. `annual_return` is count-based, `cagr` calendar-based. The best
    and worst period and `positive_periods` (a share of all) are of single returns; `value_at_risk` and
    `expected_shortfall` are at 5 %. The capture ratios are None without a benchmark.
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
    up_capture: float | None
    down_capture: float | None
    capture_ratio: float | None


def performance(
    equity: pl.DataFrame,
    *,
    periods_per_year: float,
    risk_free: float = 0.0,
    benchmark: pl.DataFrame | None = None,
) -> PerformanceStatistics:
    """Every statistic of an equity frame (`ts`, `value`), oldest first.

    `risk_free` is an annual effective rate; Sortino and omega take it as the required return. A `benchmark` has the
    same columns; capture is reckoned over the times both have.

    Raises:
        InputError: a missing column, times that are not ascending and distinct, or values that are not finite numbers.
    """
    frame = _checked(equity)
    values, times = frame["value"], frame["ts"]
    start, end = (times[0], times[-1]) if len(times) else (None, None)
    returns = ratios.simple_returns(values)
    defined = len(returns) > 0 and not returns.null_count()
    capture = ratios.CaptureRatios(None, None, None)
    if benchmark is not None:
        both = frame.join(_checked(benchmark, name="benchmark"), on="ts", how="inner", maintain_order="left")
        capture = ratios.capture_ratios(both["value"], both["value_right"], periods_per_year=periods_per_year)
    return PerformanceStatistics(
        start=start,
        end=end,
        periods=len(returns),
        periods_per_year=periods_per_year,
        risk_free=risk_free,
        total_return=ratios.total_return(values),
        annual_return=ratios.annual_return(values, periods_per_year=periods_per_year),
        cagr=None if start is None or end is None else ratios.cagr(values, start, end),
        annual_volatility=ratios.annual_volatility(values, periods_per_year=periods_per_year),
        sharpe_ratio=ratios.sharpe_ratio(values, periods_per_year=periods_per_year, risk_free=risk_free),
        sortino_ratio=ratios.sortino_ratio(values, periods_per_year=periods_per_year, required_return=risk_free),
        calmar_ratio=ratios.calmar_ratio(values, periods_per_year=periods_per_year),
        omega_ratio=ratios.omega_ratio(values, periods_per_year=periods_per_year, required_return=risk_free),
        max_drawdown=ratios.max_drawdown(values),
        tail_ratio=ratios.tail_ratio(values),
        value_at_risk=ratios.value_at_risk(values),
        expected_shortfall=ratios.expected_shortfall(values),
        skewness=ratios.skewness(values),
        kurtosis=ratios.kurtosis(values),
        best_period=ratios.finite(returns.max()) if defined else None,
        worst_period=ratios.finite(returns.min()) if defined else None,
        positive_periods=ratios.finite((returns > 0).mean()) if defined else None,
        up_capture=capture.up,
        down_capture=capture.down,
        capture_ratio=capture.ratio,
    )
