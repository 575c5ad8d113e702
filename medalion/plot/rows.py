"""Anybody's frame as the rows of a chart: times as milliseconds, numbers as floats, all of it inside the chart."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame


def columns_of(frame: Frame, names: Sequence[str]) -> pl.DataFrame:
    """The columns `names` of any frame, in their order.

    Raises:
        InputError: no frame, or one of them is missing.
    """
    found = polars_frame(frame)
    missing = [name for name in names if name not in found.columns]
    if missing:
        raise InputError(
            f"the chart needs {' and '.join(missing)}, which is not among {found.columns}",
            given=found.columns,
            expected=list(names),
        )
    return found.select(names)


def prepared(frame: Frame, numbers: Sequence[str], *, also: Sequence[str] = ()) -> pl.DataFrame:
    """`ts` as milliseconds since 1970, `when` as text, `numbers` as floats, NaN and infinity as null.

    Raises:
        InputError: no frame, a missing column, or a `ts` that is not of dates or aware times.
    """
    frame = columns_of(frame, ("ts", *numbers, *also))
    ts = frame["ts"]
    if not isinstance(ts.dtype, pl.Date | pl.Datetime):
        raise InputError(f"ts is {ts.dtype}; give dates or times", given=ts.dtype, expected="Date or Datetime")
    if isinstance(ts.dtype, pl.Datetime):
        if ts.dtype.time_zone is None:
            raise InputError("ts has no time zone; add one: .dt.replace_time_zone('UTC')", given=ts.dtype)
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
