"""Anybody's frame as the rows of a chart: times as milliseconds, numbers as floats, all of it inside the chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import altair as alt
import polars as pl

from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame
from medalion.stats.curve import framed, times_of

if TYPE_CHECKING:
    import pandas as pd

Drawn: TypeAlias = "Frame | pd.Series[Any]"
"""Any frame, or the values of a pandas Series by the times of its index."""


def columns_of(frame: Drawn, names: Sequence[str]) -> pl.DataFrame:
    """The columns `names` of any frame, in their order; of a pandas Series by times, its values are the only number.

    Raises:
        InputError: no frame, or one of them is missing.
    """
    found = polars_frame(framed(frame, next(name for name in names if name != "ts")))
    missing = [name for name in names if name not in found.columns]
    if missing:
        raise InputError(
            f"the chart needs {' and '.join(missing)}, which is not among {found.columns}",
            given=found.columns,
            expected=list(names),
        )
    return found.select(names)


def prepared(frame: Drawn, numbers: Sequence[str], *, also: Sequence[str] = ()) -> pl.DataFrame:
    """`ts` as milliseconds since 1970, `when` as text, `numbers` as floats, NaN and infinity as null.

    Raises:
        InputError: no frame, a missing column, or a `ts` that is not of dates or aware times.
    """
    frame = columns_of(frame, ("ts", *numbers, *also))
    ts = times_of(frame["ts"], "the chart")
    if isinstance(ts.dtype, pl.Datetime):
        ts = ts.dt.convert_time_zone("UTC")
    whole_days = isinstance(ts.dtype, pl.Date) or bool((ts.dt.truncate("1d") == ts).all())
    floats = (pl.col(name).cast(pl.Float64) for name in numbers)
    return frame.select(
        ts.dt.epoch("ms").alias("ts"),
        ts.dt.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%d %H:%M:%S UTC").alias("when"),
        *(pl.when(number.is_finite()).then(number) for number in floats),
        *also,
    )


def inline(frame: pl.DataFrame) -> alt.InlineData:
    """The rows as the chart's own data; given so, no limit on their number applies."""
    # As text, because every value of a list would be copied and validated again with each layer around it.
    return alt.InlineData(values=frame.write_json(), format=alt.JsonDataFormat(type="json"))
