"""Charts of anybody's frames; no store needed. Needs the extra `report`.

Each function takes a Polars, pandas or Arrow frame and gives an Altair chart with its data inside: a notebook displays
it, `.save("chart.html")` or `.save("chart.png")` keeps it. What `medalion.stats` and the store give fits as it is.

>>> import polars as pl
>>> from datetime import date
>>> from medalion import stats
>>> days = pl.date_range(date(2024, 1, 1), date(2024, 1, 5), eager=True)
>>> equity = pl.DataFrame({"ts": days, "value": [100.0, 102.0, 101.0, 104.0, 103.0]})
>>> chart = drawdown_curve(stats.drawdowns(equity))
"""

from medalion.core.errors import MedalionError

try:
    import altair  # noqa: F401
except ModuleNotFoundError as error:
    raise MedalionError(
        f"charts need {error.name}, which is not installed; run: pip install 'medalion[report]'"
    ) from error

from medalion.plot.charts import (
    calibration_plot,
    candlesticks,
    drawdown_curve,
    equity_curve,
    monthly_heatmap,
    probability_path,
    return_distribution,
)
from medalion.plot.thinning import MAX_POINTS

__all__ = [
    "MAX_POINTS",
    "calibration_plot",
    "candlesticks",
    "drawdown_curve",
    "equity_curve",
    "monthly_heatmap",
    "probability_path",
    "return_distribution",
]
