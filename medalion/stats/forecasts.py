"""How good the probabilities of prediction markets were, and how volatile they are.

A probability lies in [0, 1]; an outcome is what came true: 1 or 0, True or False. Both are a Polars or pandas Series,
an array or a list; what is out of range or null raises an `InputError`. Undefined is None, in frames null.
"""

from __future__ import annotations

from datetime import timedelta
from math import log, sqrt
from statistics import NormalDist

import polars as pl

from medalion.core.errors import InputError
from medalion.stats.curve import DAYS_PER_YEAR
from medalion.stats.returns import Numbers, finite, series_of

_NORMAL = NormalDist()


def _forecasts(probabilities: Numbers, outcomes: Numbers) -> pl.DataFrame:
    """`p` and `o` as floats."""
    probabilities = series_of(probabilities, name="probabilities")
    outcomes = series_of(outcomes, name="outcomes")
    if len(probabilities) != len(outcomes):
        raise InputError(
            f"{len(probabilities)} probabilities and {len(outcomes)} outcomes; give one outcome beside each",
            given=len(outcomes),
            expected=len(probabilities),
        )
    frame = pl.DataFrame({"p": probabilities.cast(pl.Float64), "o": outcomes.cast(pl.Float64)})
    bad = frame.filter(~(pl.col("p").is_between(0, 1) & pl.col("o").is_in([0.0, 1.0])).fill_null(False))
    if bad.height:
        raise InputError(
            f"{bad.height} of {frame.height} forecasts are outside their range, for instance {bad.row(0)}; "
            "a probability is 0 to 1, an outcome 0 or 1, and neither is null",
            given=bad.row(0),
            expected="0 <= p <= 1, outcome 0 or 1",
        )
    return frame


def _log_loss() -> pl.Expr:
    likelihood = pl.when(pl.col("o") == 1).then("p").otherwise(1 - pl.col("p"))
    return -likelihood.log().mean()


def _brier_score() -> pl.Expr:
    return ((pl.col("p") - pl.col("o")) ** 2).mean()


def brier_score(probabilities: Numbers, outcomes: Numbers) -> float | None:
    """Mean square error of the probabilities (Brier 1950): 0 is perfect, 0.25 is what always saying one half scores.

    >>> brier_score(pl.Series([0.5, 1.0]), pl.Series([True, True]))
    0.125
    """
    return finite(_forecasts(probabilities, outcomes).select(_brier_score()).item())


def log_loss(probabilities: Numbers, outcomes: Numbers) -> float | None:
    """Mean negative logarithm, base e, of the probability given to what came true (Good 1952); 0 is perfect.

    None, not infinity, if something was called impossible and came true: nothing is clipped.

    >>> round(log_loss([0.5, 0.9], [True, True]), 4)
    0.3993
    """
    return finite(_forecasts(probabilities, outcomes).select(_log_loss()).item())


def score_table(probabilities: Numbers, outcomes: Numbers, *, horizon: Numbers) -> pl.DataFrame:
    """Scores for each value of `horizon`, such as the days to resolution cut to buckets; in its order.

    Columns: `horizon`, `forecasts` (count), `base_rate` (share that came true), `brier_score`, `log_loss`.
    """
    return (
        _forecasts(probabilities, outcomes)
        .with_columns(series_of(horizon).alias("horizon"))
        .group_by("horizon")
        .agg(
            pl.len().alias("forecasts"),
            pl.col("o").mean().alias("base_rate"),
            _brier_score().alias("brier_score"),
            _log_loss().alias("log_loss"),
        )
        .with_columns(pl.when(pl.col("log_loss").is_finite()).then("log_loss"))
        .sort("horizon")
    )


def calibration_table(
    probabilities: Numbers, outcomes: Numbers, *, bins: int = 10, horizon: Numbers | None = None
) -> pl.DataFrame:
    """Forecasts in `bins` equal ranges of probability, against how often they came true; for each `horizon` if given.

    Columns: (`horizon`,) `low`, `high` (a bin is [low, high), the last one includes 1), `forecasts` (count),
    `mean_probability`, `frequency` (share that came true). Every bin stands in the table; an empty one has nulls.
    """
    if bins < 1:
        raise InputError(f"bins is {bins}; give at least 1", given=bins, expected=">= 1")
    frame = _forecasts(probabilities, outcomes)
    groups = ["horizon"] if horizon is not None else []
    if horizon is not None:
        frame = frame.with_columns(series_of(horizon).alias("horizon"))
    edges = pl.DataFrame({"bin": range(bins)}, schema={"bin": pl.Int64}).with_columns(
        (pl.col("bin") / bins).alias("low"), ((pl.col("bin") + 1) / bins).alias("high")
    )
    # The bin comes from the edges themselves: multiplying would put 0.29 of 100 bins into the 28th.
    placed = frame.sort("p").join_asof(edges.select("bin", "low"), left_on="p", right_on="low", check_sortedness=False)
    counted = placed.group_by(*groups, "bin").agg(
        pl.len().alias("forecasts"), pl.col("p").mean().alias("mean_probability"), pl.col("o").mean().alias("frequency")
    )
    grid = frame.select(groups).unique().join(edges, how="cross") if groups else edges
    return (
        grid.join(counted, on=[*groups, "bin"], how="left", nulls_equal=True)
        .sort(*groups, "bin")
        .with_columns(pl.col("forecasts").fill_null(0))
        .drop("bin")
    )


def logit_volatility(prices: Numbers, ts: Numbers) -> float | None:
    """Realised volatility of the log-odds ln(p / (1 - p)): root of the sum of squared changes by the years they took.

    `ts` stands beside `prices`, ascending; spacing may vary, and a year has 365.25 days. None for fewer than two
    prices, no time between them, or a price at 0 or 1, whose log-odds are infinite. It is a volatility of the market's
    own price, and not implied by anything: see `binary_implied_volatility` for that.
    """
    times = series_of(ts, name="ts")
    if len(prices) != len(times) or not times.is_sorted() or times.null_count():
        raise InputError("ts is not ascending or not as long as prices; sort both by time", given=len(times))
    p = _forecasts(prices, pl.repeat(0.0, len(prices), eager=True))["p"]
    if len(p) < 2 or times[0] == times[-1]:
        return None
    logit = (p / (1 - p)).log()
    squares = finite((logit.diff() ** 2).sum())
    years = (times[-1] - times[0]) / timedelta(days=DAYS_PER_YEAR)
    return None if squares is None else sqrt(squares / years)


def binary_implied_volatility(
    price: float, *, spot: float, strike: float, years: float, rate: float = 0.0
) -> float | None:
    """The annual volatility at which "above `strike` in `years`" has the probability `price` = N(d2).

    d2 = (ln(spot / strike) + rate * years) / s - s / 2 with s = volatility * sqrt(years) (Black and Scholes 1973) is a
    quadratic equation in s. With spot below strike the probability first rises and then falls with volatility, so that
    two volatilities fit; the smaller is given. None where none fits: at 0 or 1, at or after expiry, or a probability
    that spot, strike and lognormal prices rule out. `rate` is continuously compounded.

    >>> round(binary_implied_volatility(0.3, spot=100, strike=105, years=0.25), 4)
    0.2064
    """
    if not 0 <= price <= 1 or spot <= 0 or strike <= 0:
        raise InputError(
            f"price {price}, spot {spot}, strike {strike}: a price is 0 to 1, spot and strike are above zero",
            given=(price, spot, strike),
            expected="0 <= price <= 1, spot > 0, strike > 0",
        )
    if price in (0, 1) or years <= 0:
        return None
    z = _NORMAL.inv_cdf(price)
    forward = log(spot / strike) + rate * years
    # s² / 2 + z s - forward = 0. The roots' product is -2 forward, which gives the smaller without cancellation.
    discriminant = z * z + 2 * forward
    if discriminant < 0:
        return None
    root = sqrt(discriminant)
    if forward < 0:
        s = -2 * forward / (root - z) if z < 0 else None
    elif forward > 0:
        s = 2 * forward / (root + z) if z > 0 else root - z
    else:
        s = -2 * z if z < 0 else None
    return None if s is None else finite(s / sqrt(years))
