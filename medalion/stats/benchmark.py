"""How a curve did beside a benchmark: what of its returns the benchmark explains, and what is its own."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import polars as pl

from medalion.stats.curve import Curve, Data, aligned, curve_like, curve_of, periods_of
from medalion.stats.returns import compounded, deviation, finite, per_period, ratio


@dataclass(frozen=True, slots=True)
class BenchmarkRatios:
    """A curve beside a benchmark, over the times that both have; None is undefined.

    `beta` is the covariance of excess returns by the variance of the benchmark's, `alpha` the mean of what beta leaves,
    compounded to a year (Jensen 1968), `correlation` Pearson's, -1 to 1. `tracking_error` is the annualised sample
    deviation of the difference of returns, `information_ratio` the difference's annualised mean by that. `up_capture`
    and `down_capture` are count-based annual returns over the periods in which the benchmark rose or fell, by the
    benchmark's own over the same periods (1 is all of it); `capture_ratio` is up by down.
    """

    alpha: float | None = None
    beta: float | None = None
    correlation: float | None = None
    tracking_error: float | None = None
    information_ratio: float | None = None
    up_capture: float | None = None
    down_capture: float | None = None
    capture_ratio: float | None = None


def benchmark_ratios(
    *,
    benchmark: Data,
    returns: Data | None = None,
    equity: Data | None = None,
    periods: float | None = None,
    risk_free: float = 0.0,
) -> BenchmarkRatios:
    """A curve beside `benchmark`, which is of the same kind: returns beside `returns=`, levels beside `equity=`.

    Frames are joined by `ts`, and a frame's columns say what it holds; numbers without times stand beside each other.
    `periods` and `risk_free` are those of `medalion.stats.performance`.

    >>> round(benchmark_ratios(returns=[0.02, -0.01, 0.04], benchmark=[0.01, -0.005, 0.02], periods=252).beta, 9)
    2.0

    Raises:
        InputError: numbers without times of different length, or what is no curve.
    """
    curve = curve_of(returns=returns, equity=equity)
    beside = curve_like(benchmark, is_returns=equity is None, name="benchmark")
    own, other = aligned(curve, beside)
    year = periods_of(curve, periods)
    return BenchmarkRatios(**_regression(own, other, year, risk_free), **_captures(own, other, year))


def _regression(own: Curve, other: Curve, year: float, risk_free: float) -> dict[str, float | None]:
    mine, theirs = own.defined_returns(at_least=2), other.defined_returns(at_least=2)
    if mine is None or theirs is None:
        return {}
    rate = per_period(risk_free, year)
    pairs = pl.DataFrame({"mine": mine - rate, "theirs": theirs - rate})
    covariance, correlation = (
        finite(pairs.select(found).item())
        for found in (pl.cov("mine", "theirs"), pl.corr("mine", "theirs", method="pearson"))
    )
    spread = deviation(pairs["theirs"])
    beta = ratio(ratio(covariance, spread), spread)
    left = None if beta is None else finite((pairs["mine"] - beta * pairs["theirs"]).mean())
    difference = mine - theirs
    error = deviation(difference)
    information = ratio(finite(difference.mean()), error)
    return {
        "alpha": None if left is None else compounded(1 + left, 1 / year),
        "beta": beta,
        "correlation": correlation if spread and deviation(mine) else None,
        "tracking_error": None if error is None else error * sqrt(year),
        "information_ratio": None if information is None else information * sqrt(year),
    }


def _captures(own: Curve, other: Curve, year: float) -> dict[str, float | None]:
    mine, theirs = own.defined_returns(), other.defined_returns()
    if mine is None or theirs is None:
        return {}

    def captured(where: pl.Series) -> float | None:
        rates = []
        for returns in (mine, theirs):
            chosen = returns.filter(where) + 1
            rates.append(compounded(float(chosen.product()), len(chosen) / year) if len(chosen) else None)
        return ratio(*rates)

    up, down = captured(theirs > 0), captured(theirs < 0)
    return {"up_capture": up, "down_capture": down, "capture_ratio": ratio(up, down)}
