"""`medalion.plot` draws anybody's frames, in any of the usual forms, and says what it cannot draw."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import polars as pl
import pytest

from medalion import plot, stats
from medalion.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
TIMES = [NOON + timedelta(days=n) for n in range(4)]
EQUITY = pl.DataFrame({"ts": TIMES, "value": [100.0, 102.0, 101.0, 104.0]})
BARS = pl.DataFrame(
    {"ts": TIMES, **{name: [1.0, 2.0, 3.0, 4.0] for name in ("open", "high", "low", "close", "volume")}}
)
TRADES = pl.DataFrame({"ts": TIMES[:2], "side": ["buy", "sell"], "price": [1.5, 2.5], "quantity": [1, 1]})
SNAPSHOTS = pl.DataFrame({"ts": TIMES, "bid": [0.4, 0.5, 0.6, 0.7], "ask": [0.5, 0.6, 0.7, 0.8]})

DRAWN: dict[str, tuple[pl.DataFrame, Callable[[Any], alt.LayerChart]]] = {
    "equity_curve": (EQUITY, lambda frame: plot.equity_curve(frame, benchmark=frame)),
    "drawdown_curve": (stats.drawdowns(EQUITY), plot.drawdown_curve),
    "candlesticks": (BARS, lambda frame: plot.candlesticks(frame, trades=TRADES)),
    "trades": (TRADES, lambda frame: plot.candlesticks(BARS, trades=frame)),
    "probability_path": (SNAPSHOTS, plot.probability_path),
    "monthly_heatmap": (stats.monthly_returns(EQUITY), plot.monthly_heatmap),
    "calibration_plot": (stats.calibration_table([0.2, 0.7], [0, 1]), plot.calibration_plot),
}


@pytest.mark.parametrize("name", DRAWN)
def test_frames_of_others_are_drawn_as_those_of_polars(name: str) -> None:
    frame, draw = DRAWN[name]
    expected = draw(frame).to_dict()
    assert draw(frame.to_arrow()).to_dict() == expected
    assert draw(frame.lazy()).to_dict() == expected
    assert draw(frame.to_pandas()).to_dict() == expected


@pytest.mark.parametrize("name", DRAWN)
def test_a_missing_column_is_named(name: str) -> None:
    frame, draw = DRAWN[name]
    with pytest.raises(InputError, match=r"chart needs|have neither"):
        draw(frame.select(pl.lit(1).alias("other")))
    with pytest.raises(InputError, match="not a frame"):
        draw(3)


def test_returns_are_drawn_from_any_numbers_without_what_is_none() -> None:
    expected = plot.return_distribution([0.01, 0.02, -0.01]).to_dict()
    for given in (
        np.array([0.01, np.nan, 0.02, -0.01]),
        pd.Series([0.01, 0.02, -0.01]),
        pl.Series([0.01, 0.02, None, -0.01]),
    ):
        assert plot.return_distribution(given).to_dict() == expected


def test_every_public_chart_says_what_it_takes() -> None:
    charts = [name for name in plot.__all__ if callable(getattr(plot, name))]
    assert len(charts) == 7
    for name in charts:
        assert "Raises:" in (inspect.getdoc(getattr(plot, name)) or ""), name


def test_charts_need_no_store() -> None:
    engines = ("sqlalchemy", "psycopg", "duckdb", "deltalake", "oltp", "olap")
    listing = f"import medalion.plot, sys; print(*sorted(sys.modules.keys() & set({engines!r})))"
    loaded = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []


def test_what_the_statistics_read_is_drawn() -> None:
    values = pd.DataFrame({"value": [100.0, 110.0, 105.0]}, index=pd.date_range("2024-01-01", periods=3))
    expected = plot.equity_curve(pl.from_pandas(values.rename_axis("ts").reset_index()).cast({"ts": pl.Date})).to_dict()
    forms: list[Any] = [values, values.rename_axis("ts"), values.value, values.reset_index(names="ts")]
    for form in forms:
        assert stats.total_return(equity=form) == pytest.approx(0.05)
        assert plot.equity_curve(form).to_dict() == expected


def test_a_benchmark_that_starts_at_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="starts at 0"):
        plot.equity_curve(EQUITY, benchmark=EQUITY.with_columns(value=pl.lit(0.0)))
