"""Returns, ratios and drawdowns of one equity series, with stated conventions.

`equity` is account value, or any positive level such as a price, oldest first: a Series of numbers without nulls, whose
first value is where the first return starts. Returns are simple, deviations are of a sample (ddof 1), rates are annual,
fractions are fractions (0.25 is 25 %), and losses (drawdown, value at risk) are positive. `periods_per_year` is how
many observations make a year; `PERIODS_PER_YEAR` has the usual numbers. What is undefined is None: too few
observations, no dispersion, a return after a value that is not above zero.

Formulas are those of `empyrical-reloaded`, but for the sign of losses and for `risk_free` and `required_return`, which
are annual effective rates here and rates per period there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite, sqrt
from types import MappingProxyType

import polars as pl

from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError
from medalion.core.time import Instant, utc

PERIODS_PER_YEAR: Mapping[InstrumentKind, int] = MappingProxyType(
    {
        InstrumentKind.STOCK: 252,
        InstrumentKind.OPTION: 252,
        InstrumentKind.FUTURE: 252,
        InstrumentKind.FOREX: 252,
        InstrumentKind.CRYPTO: 365,
        InstrumentKind.OUTCOME: 365,
    }
)
DAYS_PER_YEAR = 365.25
# Returns of steady growth differ by a few 1e-16, for floats have 53 bits; a ratio to that means nothing.
NOISE = 1e-15


def levels(equity: pl.Series) -> pl.Series:
    """`equity` as floats.

    Raises:
        InputError: not numbers, or a value that is null, NaN or infinite.
    """
    if not equity.dtype.is_numeric():
        raise InputError(f"equity is {equity.dtype}; give numbers", given=equity.dtype, expected="a numeric Series")
    values = equity.cast(pl.Float64)
    bad = len(values) - int(values.is_finite().fill_null(False).sum())
    if bad:
        raise InputError(
            f"equity has {bad} of {len(values)} values that are null, NaN or infinite; drop or fill them first",
            given=bad,
            expected="finite numbers",
        )
    return values


def simple_returns(equity: pl.Series) -> pl.Series:
    """Change from each value to the next as a fraction of the former; one shorter than `equity`.

    Null where the former is not above zero, for a fraction of nothing means nothing.

    >>> simple_returns(pl.Series([100.0, 125.0, 50.0])).to_list()
    [0.25, -0.6]
    """
    values = levels(equity).alias("return")
    before = values.shift(1)
    return (values / before - 1).set(before <= 0, None).slice(1)


def time_weighted(equity: pl.Series, flows: pl.Series) -> pl.Series:
    """Growth of one unit of money, with deposits (positive) and withdrawals (negative) taken out.

    `flows` stands beside `equity`: what came in after the value before and is contained in the value beside it. The
    first flow is ignored. Null from a value that is not above zero on.

    >>> time_weighted(pl.Series([100.0, 210.0, 231.0]), pl.Series([0.0, 100.0, 0.0])).round(6).to_list()
    [1.0, 1.1, 1.21]
    """
    if len(equity) != len(flows):
        raise InputError(
            f"{len(equity)} values and {len(flows)} flows; give one flow beside each value, 0 where there is none",
            given=len(flows),
            expected=len(equity),
        )
    values, moved = levels(equity), levels(flows)
    before = values.shift(1)
    growth = ((values - moved) / before).set(before <= 0, None)
    growth = growth.set(pl.int_range(len(growth), eager=True) == 0, 1.0)
    broken = growth.is_null().cum_max() if len(growth) else growth.is_null()
    return growth.cum_prod().set(broken, None)


def finite(value: object) -> float | None:
    """A number, or None for what is undefined: null, NaN, infinite."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None or abs(below) < NOISE else finite(above / below)


def _per_period(annual_rate: float, periods_per_year: float) -> float:
    return float((1 + annual_rate) ** (1 / periods_per_year) - 1)


def _returns(equity: pl.Series, *, at_least: int = 1) -> pl.Series | None:
    """None if there are too few, or one of them is undefined."""
    returns = simple_returns(equity)
    return None if len(returns) < at_least or returns.null_count() else returns


def _compounded(growth: float, years: float) -> float | None:
    """The annual rate at which one grows to `growth` in `years`."""
    if growth < 0 or years <= 0:
        return None
    try:
        return finite(growth ** (1 / years) - 1)
    except OverflowError:
        return None


def _deviation(returns: pl.Series) -> float | None:
    """Sample deviation; exactly 0 where all that varies is rounding."""
    deviation = finite(returns.std(ddof=1))
    return 0.0 if deviation is not None and deviation < NOISE else deviation


def total_return(equity: pl.Series) -> float | None:
    """From the first value to the last."""
    values = levels(equity)
    return finite(values[-1] / values[0] - 1) if len(values) > 1 and values[0] > 0 else None


def annual_return(equity: pl.Series, *, periods_per_year: float) -> float | None:
    """Count-based: compounded over (number of returns / `periods_per_year`) years. See `cagr` for the calendar's."""
    returns = _returns(equity)
    values = levels(equity)
    return None if returns is None else _compounded(values[-1] / values[0], len(returns) / periods_per_year)


def cagr(equity: pl.Series, start: Instant, end: Instant) -> float | None:
    """Calendar-based: compounded over (end - start) in days / 365.25, whatever the number of observations.

    `start` and `end` are the times of the first and last value. See `annual_return` for the count-based rate.

    >>> round(cagr(pl.Series([100.0, 121.0]), "2020-01-01", "2021-12-31"), 4)
    0.1001
    """
    values = levels(equity)
    if len(values) < 2 or values[0] <= 0:
        return None
    years = (utc(end, name="end") - utc(start, name="start")) / timedelta(days=DAYS_PER_YEAR)
    return _compounded(values[-1] / values[0], years)


def annual_volatility(equity: pl.Series, *, periods_per_year: float) -> float | None:
    """Sample deviation of returns times the root of `periods_per_year`."""
    returns = _returns(equity, at_least=2)
    deviation = None if returns is None else _deviation(returns)
    return None if deviation is None else deviation * sqrt(periods_per_year)


def sharpe_ratio(equity: pl.Series, *, periods_per_year: float, risk_free: float = 0.0) -> float | None:
    """Mean excess return by its deviation, annualised (Sharpe 1994)."""
    returns = _returns(equity, at_least=2)
    if returns is None:
        return None
    excess = returns - _per_period(risk_free, periods_per_year)
    ratio = _ratio(finite(excess.mean()), _deviation(excess))
    return None if ratio is None else ratio * sqrt(periods_per_year)


def sortino_ratio(equity: pl.Series, *, periods_per_year: float, required_return: float = 0.0) -> float | None:
    """Mean return above `required_return` by its downside deviation, annualised (Sortino and Price 1994).

    The downside deviation is the root of the mean square shortfall over all periods, not only those that fell short.
    """
    returns = _returns(equity, at_least=2)
    if returns is None:
        return None
    excess = returns - _per_period(required_return, periods_per_year)
    downside = sqrt((excess.clip(upper_bound=0.0) ** 2).mean())  # type: ignore[arg-type]
    ratio = _ratio(finite(excess.mean()), downside)
    return None if ratio is None else ratio * sqrt(periods_per_year)


def omega_ratio(equity: pl.Series, *, periods_per_year: float, required_return: float = 0.0) -> float | None:
    """Sum of gains above `required_return` by the sum of shortfalls below it (Keating and Shadwick 2002)."""
    returns = _returns(equity, at_least=2)
    if returns is None:
        return None
    excess = returns - _per_period(required_return, periods_per_year)
    return _ratio(float(excess.clip(lower_bound=0.0).sum()), -float(excess.clip(upper_bound=0.0).sum()))


def calmar_ratio(equity: pl.Series, *, periods_per_year: float) -> float | None:
    """Count-based annual return by the largest drawdown (Young 1991)."""
    return _ratio(annual_return(equity, periods_per_year=periods_per_year), max_drawdown(equity))


def tail_ratio(equity: pl.Series) -> float | None:
    """Size of the 95th percentile of returns by that of the 5th, interpolated; above 1 gains have the fatter tail."""
    returns = _returns(equity)
    if returns is None:
        return None
    high, low = (finite(returns.quantile(q, interpolation="linear")) for q in (0.95, 0.05))
    return None if high is None or low is None else _ratio(abs(high), abs(low))


def value_at_risk(equity: pl.Series, *, cutoff: float = 0.05) -> float | None:
    """Loss of one period that a share `cutoff` of periods exceeded, historical and interpolated; negative is a gain."""
    returns = _returns(equity)
    value = None if returns is None else finite(returns.quantile(cutoff, interpolation="linear"))
    return None if value is None else -value


def expected_shortfall(equity: pl.Series, *, cutoff: float = 0.05) -> float | None:
    """Mean loss of the worst share `cutoff` of periods, at least of one; negative is a gain."""
    returns = _returns(equity)
    if returns is None:
        return None
    worst = returns.sort().head(int((len(returns) - 1) * cutoff) + 1)
    value = finite(worst.mean())
    return None if value is None else -value


def skewness(equity: pl.Series) -> float | None:
    """Of returns, corrected for the size of the sample (Fisher-Pearson G1)."""
    returns = _returns(equity, at_least=3)
    return None if returns is None or not _deviation(returns) else finite(returns.skew(bias=False))


def kurtosis(equity: pl.Series) -> float | None:
    """Excess kurtosis of returns (0 for a normal), corrected for the size of the sample (G2)."""
    returns = _returns(equity, at_least=4)
    return None if returns is None or not _deviation(returns) else finite(returns.kurtosis(bias=False))


def max_drawdown(equity: pl.Series) -> float | None:
    """Largest fall from a running peak, as a fraction of that peak: 0.25 is 25 %.

    >>> max_drawdown(pl.Series([100.0, 120.0, 90.0]))
    0.25
    """
    values = levels(equity)
    if len(values) < 2 or values[0] <= 0:
        return None
    return finite((1 - values / values.cum_max()).max())


@dataclass(frozen=True, slots=True)
class CaptureRatios:
    """How much of a benchmark's rises and falls an equity series took part in; 1 is all of it.

    `up` and `down` are count-based annual returns over the periods in which the benchmark rose or fell, by the
    benchmark's own over the same periods; `ratio` is `up` by `down`.
    """

    up: float | None
    down: float | None
    ratio: float | None


def capture_ratios(equity: pl.Series, benchmark: pl.Series, *, periods_per_year: float) -> CaptureRatios:
    """Capture of `benchmark`, whose values stand beside those of `equity`.

    Raises:
        InputError: they differ in length.
    """
    if len(equity) != len(benchmark):
        raise InputError(
            f"equity has {len(equity)} values and the benchmark {len(benchmark)}; join them by time first",
            given=len(benchmark),
            expected=len(equity),
        )
    own, other = _returns(equity), _returns(benchmark)
    if own is None or other is None:
        return CaptureRatios(None, None, None)

    def captured(where: pl.Series) -> float | None:
        rates = []
        for returns in (own, other):
            chosen = returns.filter(where) + 1
            rates.append(_compounded(float(chosen.product()), len(chosen) / periods_per_year) if len(chosen) else None)
        return _ratio(*rates)

    up, down = captured(other > 0), captured(other < 0)
    return CaptureRatios(up, down, _ratio(up, down))
