"""Ratios, volatility and drawdown of one curve, with stated conventions.

Every function takes either `returns=` (simple returns, fractions: 0.01 is 1 %) or `equity=` (account value, or any
positive level such as a price, whose first value is where the first return starts), oldest first, without nulls; see
`medalion.stats.curve` for the forms. Deviations are of a sample (ddof 1), rates are annual and effective, fractions are
fractions, and losses (drawdown, value at risk) are positive. `periods` is how many observations make a year; without it
the times tell (`medalion.stats.curve.periods_of`). What is undefined is None: too few observations, no dispersion, a
return after a value that is not above zero. What does not fit raises an `InputError`.

Formulas are those of `empyrical-reloaded`, but for the sign of losses and for `risk_free` and `required_return`, which
are annual effective rates here and rates per period there.
"""

from __future__ import annotations

from datetime import timedelta
from math import sqrt

from medalion.core.time import Instant, utc
from medalion.stats.curve import DAYS_PER_YEAR, Data, curve_of, periods_of
from medalion.stats.returns import compounded, deviation, finite, number_of, per_period, ratio


def total_return(*, returns: Data | None = None, equity: Data | None = None) -> float | None:
    """Growth from the first value to the last, as a fraction of the first.

    >>> round(total_return(returns=[0.1, -0.05]), 6)
    0.045
    """
    values = curve_of(returns=returns, equity=equity).levels
    return finite(values[-1] / values[0] - 1) if len(values) > 1 and values[0] > 0 else None


def annual_return(
    *, returns: Data | None = None, equity: Data | None = None, periods: float | None = None
) -> float | None:
    """Count-based: compounded over (number of returns / `periods`) years. See `cagr` for the calendar's."""
    curve = curve_of(returns=returns, equity=equity)
    own, values = curve.defined_returns(), curve.levels
    return None if own is None else compounded(values[-1] / values[0], len(own) / periods_of(curve, periods))


def cagr(
    *,
    returns: Data | None = None,
    equity: Data | None = None,
    start: Instant | None = None,
    end: Instant | None = None,
) -> float | None:
    """Calendar-based: compounded over (end - start) in days / 365.25, whatever the number of observations.

    `start` and `end` are the times of the first and last value, by default as given beside them; None without times.
    Of returns the first value stands one usual (median) step before the first of them. See `annual_return` for the
    count-based rate.

    >>> round(cagr(equity=[100.0, 121.0], start="2020-01-01", end="2021-12-31"), 4)
    0.1001
    """
    curve = curve_of(returns=returns, equity=equity)
    first, last = (given if given is not None else told for given, told in ((start, curve.start), (end, curve.end)))
    values = curve.levels
    if len(values) < 2 or values[0] <= 0 or first is None or last is None:
        return None
    years = (utc(last, name="end") - utc(first, name="start")) / timedelta(days=DAYS_PER_YEAR)
    return compounded(values[-1] / values[0], years)


def annual_volatility(
    *, returns: Data | None = None, equity: Data | None = None, periods: float | None = None
) -> float | None:
    """Sample deviation of returns times the root of `periods`: 0.2 is 20 % a year."""
    curve = curve_of(returns=returns, equity=equity)
    own = curve.defined_returns(at_least=2)
    spread = None if own is None else deviation(own)
    return None if spread is None else spread * sqrt(periods_of(curve, periods))


def sharpe_ratio(
    *, returns: Data | None = None, equity: Data | None = None, periods: float | None = None, risk_free: float = 0.0
) -> float | None:
    """Mean excess return by its deviation, annualised (Sharpe 1994).

    >>> round(sharpe_ratio(returns=[0.01, -0.005, 0.02], periods=252), 4)
    10.5131
    """
    curve = curve_of(returns=returns, equity=equity)
    own = curve.defined_returns(at_least=2)
    if own is None:
        return None
    year = periods_of(curve, periods)
    excess = own - per_period(risk_free, year)
    found = ratio(finite(excess.mean()), deviation(excess))
    return None if found is None else found * sqrt(year)


def sortino_ratio(
    *,
    returns: Data | None = None,
    equity: Data | None = None,
    periods: float | None = None,
    required_return: float = 0.0,
) -> float | None:
    """Mean return above `required_return` by its downside deviation, annualised (Sortino and Price 1994).

    The downside deviation is the root of the mean square shortfall over all periods, not only those that fell short.
    """
    curve = curve_of(returns=returns, equity=equity)
    own = curve.defined_returns(at_least=2)
    if own is None:
        return None
    year = periods_of(curve, periods)
    excess = own - per_period(required_return, year)
    downside = sqrt((excess.clip(upper_bound=0.0) ** 2).mean())  # type: ignore[arg-type]
    found = ratio(finite(excess.mean()), downside)
    return None if found is None else found * sqrt(year)


def omega_ratio(
    *,
    returns: Data | None = None,
    equity: Data | None = None,
    periods: float | None = None,
    required_return: float = 0.0,
) -> float | None:
    """Sum of gains above `required_return` by the sum of shortfalls below it (Keating and Shadwick 2002)."""
    curve = curve_of(returns=returns, equity=equity)
    own = curve.defined_returns(at_least=2)
    if own is None:
        return None
    excess = own - per_period(required_return, periods_of(curve, periods))
    return ratio(float(excess.clip(lower_bound=0.0).sum()), -float(excess.clip(upper_bound=0.0).sum()))


def calmar_ratio(
    *, returns: Data | None = None, equity: Data | None = None, periods: float | None = None
) -> float | None:
    """Count-based annual return by the largest drawdown (Young 1991)."""
    curve = curve_of(returns=returns, equity=equity)
    return ratio(annual_return(equity=curve, periods=periods), max_drawdown(equity=curve))


def tail_ratio(*, returns: Data | None = None, equity: Data | None = None) -> float | None:
    """Size of the 95th percentile of returns by that of the 5th, interpolated; above 1 gains have the fatter tail."""
    own = curve_of(returns=returns, equity=equity).defined_returns()
    if own is None:
        return None
    high, low = (finite(own.quantile(q, interpolation="linear")) for q in (0.95, 0.05))
    return None if high is None or low is None else ratio(abs(high), abs(low))


def value_at_risk(*, returns: Data | None = None, equity: Data | None = None, cutoff: float = 0.05) -> float | None:
    """Loss of one period that a share `cutoff` of periods exceeded, historical and interpolated; negative is a gain."""
    own = curve_of(returns=returns, equity=equity).defined_returns()
    value = None if own is None else finite(own.quantile(_share(cutoff), interpolation="linear"))
    return None if value is None else -value


def expected_shortfall(
    *, returns: Data | None = None, equity: Data | None = None, cutoff: float = 0.05
) -> float | None:
    """Mean loss of the worst share `cutoff` of periods, at least of one; negative is a gain."""
    share, own = _share(cutoff), curve_of(returns=returns, equity=equity).defined_returns()
    if own is None:
        return None
    worst = own.sort().head(int((len(own) - 1) * share) + 1)
    value = finite(worst.mean())
    return None if value is None else -value


def _share(cutoff: float) -> float:
    return number_of(cutoff, lambda share: 0 <= share <= 1, name="cutoff", wanted="a share of periods, 0 to 1")


def skewness(*, returns: Data | None = None, equity: Data | None = None) -> float | None:
    """Of returns, corrected for the size of the sample (Fisher-Pearson G1)."""
    own = curve_of(returns=returns, equity=equity).defined_returns(at_least=3)
    return None if own is None or not deviation(own) else finite(own.skew(bias=False))


def kurtosis(*, returns: Data | None = None, equity: Data | None = None) -> float | None:
    """Excess kurtosis of returns (0 for a normal), corrected for the size of the sample (G2)."""
    own = curve_of(returns=returns, equity=equity).defined_returns(at_least=4)
    return None if own is None or not deviation(own) else finite(own.kurtosis(bias=False))


def max_drawdown(*, returns: Data | None = None, equity: Data | None = None) -> float | None:
    """Largest fall from a running peak, as a fraction of that peak: 0.25 is 25 %.

    >>> max_drawdown(equity=[100.0, 120.0, 90.0])
    0.25
    """
    values = curve_of(returns=returns, equity=equity).levels
    if len(values) < 2 or values[0] <= 0:
        return None
    return finite((1 - values / values.cum_max()).max())
