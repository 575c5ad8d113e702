"""Bars as reads give them with kept ones, and without."""

from typing import Any

import polars as pl
import pytest

from medalion.bars.kept import KeptBars, KeptRoutes
from medalion.core.datasets import STOCK_BARS, Dataset
from medalion.store.store import Store


def reason(store: Store, timeframe: str, symbols: Any = "AAA", dataset: Dataset = STOCK_BARS, **during: Any) -> str:
    return store.explain(dataset, symbols=symbols, timeframe=timeframe, rollup=True, **during).reason


def on_reading(store: Store, *arguments: Any, **named: Any) -> pl.DataFrame:
    """The bars as they are made without any that are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptBars, "split", lambda self, asked, route: KeptRoutes([route]))
        return store.bars(*arguments, **named)
