"""Figures of anybody's returns, equity, trades and forecasts; pure, and without a store.

`performance` gives every figure of a curve at once, and each has a function of its own. All take either `returns=` or
`equity=`: a Polars or pandas Series, an array or a list of numbers, or a frame with `ts` and `return` or `value`.
Conventions and formulas are in docs/statistics.md; what is undefined is None (in frames null), never 0 or infinity.

>>> import polars as pl
>>> from datetime import date
>>> days = pl.date_range(date(2024, 1, 1), date(2024, 1, 5), eager=True)
>>> equity = pl.DataFrame({"ts": days, "value": [100.0, 102.0, 101.0, 104.0, 103.0]})
>>> found = performance(equity=equity)
>>> found.periods_per_year, round(found.total_return, 4), round(found.max_drawdown, 4)
(252.0, 0.03, 0.0098)
"""

from medalion.stats.benchmark import BenchmarkRatios, benchmark_ratios
from medalion.stats.curve import PERIODS_PER_YEAR
from medalion.stats.forecasts import (
    binary_implied_volatility,
    brier_score,
    calibration_table,
    log_loss,
    logit_volatility,
    score_table,
)

# The function takes the name that the import system gave to its module: `from medalion.stats.performance import …`
# works all the same, and the module is no part of the public surface.
from medalion.stats.performance import (
    PerformanceStatistics,
    drawdown_table,
    drawdowns,
    monthly_returns,
    performance,
)
from medalion.stats.ratios import (
    annual_return,
    annual_volatility,
    cagr,
    calmar_ratio,
    expected_shortfall,
    kurtosis,
    max_drawdown,
    omega_ratio,
    sharpe_ratio,
    skewness,
    sortino_ratio,
    tail_ratio,
    total_return,
    value_at_risk,
)
from medalion.stats.returns import simple_returns, time_weighted
from medalion.stats.trades import TradeStatistics, excursions, trade_statistics

__all__ = [
    "PERIODS_PER_YEAR",
    "BenchmarkRatios",
    "PerformanceStatistics",
    "TradeStatistics",
    "annual_return",
    "annual_volatility",
    "benchmark_ratios",
    "binary_implied_volatility",
    "brier_score",
    "cagr",
    "calibration_table",
    "calmar_ratio",
    "drawdown_table",
    "drawdowns",
    "excursions",
    "expected_shortfall",
    "kurtosis",
    "log_loss",
    "logit_volatility",
    "max_drawdown",
    "monthly_returns",
    "omega_ratio",
    "performance",
    "score_table",
    "sharpe_ratio",
    "simple_returns",
    "skewness",
    "sortino_ratio",
    "tail_ratio",
    "time_weighted",
    "total_return",
    "trade_statistics",
    "value_at_risk",
]
