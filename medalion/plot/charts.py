"""Altair charts of Polars, pandas or Arrow frames; each carries its theme and data, and fills the width it is given.

Frames hold `ts` (dates, or times in UTC, ascending) and numbers of any type. Axes are in UTC. Charts draw at most
`MAX_POINTS` points: longer lines are thinned so that every extreme stays (`thinned`), more bars are merged into longer
ones (`merged_bars`); trades are drawn all.
"""

from __future__ import annotations

from datetime import date, datetime

import altair as alt
import polars as pl

from medalion.core.enums import TradeSide
from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame
from medalion.plot.layers import TIME_AXIS, finished, hover, resolution, trade_marks
from medalion.plot.rows import Drawn, columns_of, inline, prepared
from medalion.plot.themes import BLUE, FALL, GREY, LOSS_TO_GAIN, ORANGE, RISE
from medalion.plot.thinning import merged_bars, thinned
from medalion.stats.returns import Numbers, series_of

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def equity_curve(equity: Drawn, *, benchmark: Drawn | None = None) -> alt.LayerChart:
    """Account value (`ts`, `value`) over time; a benchmark of the same columns starts at the same value, in grey.

    >>> equity = pl.DataFrame({"ts": [date(2024, 1, 2), date(2024, 1, 3)], "value": [100.0, 101.5]})
    >>> chart = equity_curve(equity)  # a notebook displays it; chart.save("equity.html") keeps it

    Raises:
        InputError: no frame, a missing column, or a `ts` that is not of dates or aware times.
    """
    own = prepared(equity, ("value",)).with_columns(series=pl.lit("Account"))
    lines = [thinned(own, "value")]
    if benchmark is not None:
        other = prepared(benchmark, ("value",)).with_columns(series=pl.lit("Benchmark"))
        if own.height and other.height:
            if not other["value"][0]:
                raise InputError("the benchmark starts at 0 or at nothing, from which no line can be scaled", given=0)
            scale = own["value"][0] / other["value"][0]
            lines.append(thinned(other.with_columns(pl.col("value") * scale), "value"))
    color = alt.Color("series:N", title=None, scale=alt.Scale(domain=["Account", "Benchmark"], range=[BLUE, GREY]))
    line = (
        alt.Chart(inline(pl.concat(lines)))
        .mark_line(strokeWidth=1.8, interpolate="monotone" if own.height < 200 else "linear")
        .encode(
            x=TIME_AXIS,
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format="~s")),
            color=color if len(lines) > 1 else alt.value(BLUE),
        )
    )
    shown = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("value:Q", title="Value", format=",.2f")]
    return finished(line, hover(lines[0], "value", BLUE, shown), height=280)


def drawdown_curve(drawdowns: Drawn) -> alt.LayerChart:
    """How far below its peak an account was: `ts` and `drawdown`, a positive fraction, drawn downwards.

    `medalion.stats.drawdowns` gives such a frame.

    Raises:
        InputError: no frame, a missing column, or a `ts` that is not of dates or aware times.
    """
    frame = thinned(prepared(drawdowns, ("drawdown",)).with_columns(-pl.col("drawdown")), "drawdown")
    area = (
        alt.Chart(inline(frame))
        .mark_area(color=FALL, opacity=0.25, line={"color": FALL, "strokeWidth": 1.2})
        .encode(x=TIME_AXIS, y=alt.Y("drawdown:Q", title=None, axis=alt.Axis(format=".0%")))
    )
    shown = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("drawdown:Q", title="Drawdown", format=".2%")]
    return finished(area, hover(frame, "drawdown", FALL, shown), height=180)


def candlesticks(bars: Frame, *, trades: Frame | None = None) -> alt.LayerChart:
    """Bars (`ts`, `open`, `high`, `low`, `close`, `volume`) with the volume below them, and trades as triangles.

    `trades` has `ts`, `side` (buy, sell), `price`, `quantity`: a buy is ▲ green, a sell ▼ red.

    Raises:
        InputError: no frame, a missing column, a `ts` that is not of dates or aware times, or another side.
    """
    numbers = ("open", "high", "low", "close", "volume")
    frame = merged_bars(prepared(bars, numbers))
    data = inline(frame.with_columns(rises=pl.col("close") >= pl.col("open")))
    color = alt.condition("datum.rises", alt.value(RISE), alt.value(FALL))
    width = max(1.0, min(12.0, 620 / max(frame.height, 1)))
    shown = [
        alt.Tooltip("when:N", title="Time"),
        *(alt.Tooltip(f"{name}:Q", title=name.title(), format=",.8~f") for name in numbers),
    ]
    base = alt.Chart(data).encode(x=TIME_AXIS, color=color, tooltip=shown)
    price = alt.Scale(zero=False, domain=_padded(frame)) if frame.height else alt.Scale(zero=False)
    axis = alt.Axis(format=",~r", orient="right")
    wicks = base.mark_rule().encode(y=alt.Y("low:Q", title=None, scale=price, axis=axis), y2="high:Q")
    bodies = base.mark_bar(size=width).encode(y=alt.Y("open:Q", title=None, scale=price, axis=axis), y2="close:Q")
    layers: list[alt.Chart] = [wicks, bodies]
    traded = None if trades is None else prepared(trades, ("price", "quantity"), also=("side",))
    if traded is not None and traded.height:
        sides = traded["side"].cast(pl.String)
        unknown = sides.filter(~sides.is_in(list(TradeSide)).fill_null(False))
        if len(unknown):
            raise InputError(f"side {unknown[0]!r} is neither buy nor sell", given=unknown[0], expected=list(TradeSide))
        marks = alt.Chart(inline(traded.with_columns(sides)))
        layers += [trade_marks(marks, side, price, axis) for side in TradeSide]
    top = frame["volume"].max() if frame.height else None
    volume = base.mark_bar(size=width, opacity=0.35).encode(
        y=alt.Y(
            "volume:Q",
            title=None,
            axis=None,
            scale=alt.Scale(domain=[0, 5 * float(top)]) if isinstance(top, float) and top > 0 else alt.Undefined,
        )
    )
    return finished(volume, alt.LayerChart(layer=layers), height=400, independent=True)


def probability_path(
    snapshots: Frame, *, resolved_at: date | datetime | None = None, outcome: bool | None = None
) -> alt.LayerChart:
    """A prediction market's probability over time: the middle of bid and ask, and the band between them, 0 to 100 %.

    `snapshots` has `ts`, and `bid` and `ask` or `price`, which stands in where one side is missing. `resolved_at` draws
    a line there, and `outcome` says what it came to: True is 100 %.

    Raises:
        InputError: no frame, neither bid and ask nor price, or a `ts` that is not of dates or aware times.
    """
    snapshots = polars_frame(snapshots)
    numbers = tuple(name for name in ("price", "bid", "ask") if name in snapshots.columns)
    if not {"bid", "ask"} <= set(numbers) and "price" not in numbers:
        raise InputError("snapshots have neither bid and ask nor price", given=snapshots.columns, expected="bid, ask")
    frame = prepared(snapshots, numbers)
    middle = [(pl.col("bid") + pl.col("ask")) / 2] if {"bid", "ask"} <= set(numbers) else []
    price = [pl.col("price")] if "price" in numbers else []
    frame = thinned(frame.with_columns(pl.coalesce(*middle, *price).alias("mid")), "mid")
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    layers: list[alt.Chart | alt.LayerChart] = []
    chart = alt.Chart(inline(frame)).encode(x=TIME_AXIS)
    if middle:
        layers.append(
            chart.transform_filter("isValid(datum.bid) && isValid(datum.ask)")
            .mark_area(color=BLUE, opacity=0.22)
            .encode(y=alt.Y("bid:Q", title=None, scale=scale, axis=axis), y2="ask:Q")
        )
    layers.append(
        chart.mark_line(color=BLUE, strokeWidth=1.6).encode(y=alt.Y("mid:Q", title=None, scale=scale, axis=axis))
    )
    if resolved_at is not None:
        layers.append(resolution(resolved_at, outcome, scale, axis))
    names = {"mid": "Middle", "price": "Price", "bid": "Bid", "ask": "Ask"}
    shown = [
        alt.Tooltip("when:N", title="Time"),
        *(alt.Tooltip(f"{name}:Q", title=names[name], format=".2%") for name in ("mid", *numbers)),
    ]
    return finished(*layers, hover(frame, "mid", BLUE, shown), height=260)


def monthly_heatmap(months: Frame) -> alt.LayerChart:
    """Returns by month and year: `year`, `month` (1 to 12) and `return`, a fraction.

    `medalion.stats.monthly_returns` gives such a frame.

    Raises:
        InputError: no frame, or a missing column.
    """
    frame = (
        columns_of(months, ("year", "month", "return"))
        .select(
            pl.col("year").cast(pl.String),
            pl.col("month").replace_strict(dict(enumerate(MONTHS, 1)), return_dtype=pl.String),
            pl.col("return").cast(pl.Float64),
        )
        .drop_nulls()
    )
    most = max((abs(value) for value in frame["return"].to_list()), default=0.0) or 1.0
    base = alt.Chart(inline(frame)).encode(
        x=alt.X("month:O", title=None, sort=list(MONTHS), axis=alt.Axis(labelAngle=0, orient="top", ticks=False)),
        y=alt.Y("year:O", title=None, axis=alt.Axis(ticks=False)),
    )
    steps = [-most, -most / 2, 0, most / 2, most]
    scale = alt.Scale(domain=steps, range=list(LOSS_TO_GAIN), interpolate="rgb")
    color = alt.Color("return:Q", legend=None, scale=scale)
    shown = [
        alt.Tooltip("year:O", title="Year"),
        alt.Tooltip("month:O", title="Month"),
        alt.Tooltip("return:Q", title="Return", format="+.2%"),
    ]
    cells = base.mark_rect(cornerRadius=3, stroke="#94a3b8", strokeOpacity=0.25).encode(color=color, tooltip=shown)
    texts = base.mark_text(fontSize=11, color="#0f172a").encode(text=alt.Text("return:Q", format="+.1%"))
    return finished(cells, texts, height=26 * max(1, frame["year"].n_unique()))


def return_distribution(returns: Numbers, *, bins: int = 60) -> alt.LayerChart:
    """How often returns of each size occurred: a Series, an array or a list of fractions, and their mean as a line.

    What is null, NaN or infinite is left out. The `bins` are of equal width, from the lowest return to the highest.

    >>> chart = return_distribution([0.01, -0.005, 0.02])

    Raises:
        InputError: no numbers.
    """
    values = series_of(returns, name="returns").cast(pl.Float64)
    values = values.filter(values.is_finite().fill_null(False))
    low, high = (float(edge) if isinstance(edge, float) else 0.0 for edge in (values.min(), values.max()))
    width = (high - low) / bins or 1.0
    counted = (
        values.to_frame("return")
        .group_by(((pl.col("return") - low) / width).floor().clip(0, bins - 1).alias("bin"))
        .agg(pl.len().alias("count"))
        .sort("bin")
        .select((low + pl.col("bin") * width).alias("from"), (low + (pl.col("bin") + 1) * width).alias("to"), "count")
    )
    percent = alt.Axis(format=".1%", grid=False)
    bars = (
        alt.Chart(inline(counted))
        .mark_bar(color=BLUE, opacity=0.75, binSpacing=1)
        .encode(
            x=alt.X("from:Q", bin="binned", title=None, axis=percent),
            x2="to:Q",
            y=alt.Y("count:Q", title=None),
            tooltip=[
                alt.Tooltip("from:Q", title="From", format=".2%"),
                alt.Tooltip("to:Q", title="To", format=".2%"),
                alt.Tooltip("count:Q", title="Count"),
            ],
        )
    )
    mean = pl.DataFrame({"mean": [values.mean()]}).drop_nulls()
    line = alt.Chart(inline(mean)).mark_rule(color=ORANGE, strokeWidth=2).encode(x="mean:Q")
    return finished(bars, line, height=260)


def calibration_plot(table: Frame) -> alt.LayerChart:
    """Forecasts against what came true: `mean_probability`, `frequency`, `forecasts`; on the diagonal is perfect.

    `medalion.stats.calibration_table` gives such a frame; the larger a dot, the more forecasts.

    Raises:
        InputError: no frame, or a missing column.
    """
    frame = columns_of(table, ("mean_probability", "frequency", "forecasts")).drop_nulls()
    unit, percent = alt.Scale(domain=[0, 1]), alt.Axis(format=".0%")
    diagonal = pl.DataFrame({"mean_probability": [0.0, 1.0], "frequency": [0.0, 1.0]})
    x = alt.X("mean_probability:Q", title="Forecast", scale=unit, axis=percent)
    y = alt.Y("frequency:Q", title="Came true", scale=unit, axis=percent)
    line = alt.Chart(inline(diagonal)).mark_line(color=GREY, strokeDash=[5, 4]).encode(x=x, y=y)
    dots = (
        alt.Chart(inline(frame))
        .mark_circle(color=BLUE, opacity=0.85)
        .encode(
            x=x,
            y=y,
            size=alt.Size("forecasts:Q", legend=None, scale=alt.Scale(range=[40, 600])),
            tooltip=[
                alt.Tooltip("mean_probability:Q", title="Forecast", format=".1%"),
                alt.Tooltip("frequency:Q", title="Came true", format=".1%"),
                alt.Tooltip("forecasts:Q", title="Forecasts", format=","),
            ],
        )
    )
    return finished(line, dots, height=260)


def _padded(bars: pl.DataFrame) -> list[float]:
    """From the lowest to the highest price, with room for the volume below and markers above."""
    low, high = (float(edge) if isinstance(edge, float) else 0.0 for edge in (bars["low"].min(), bars["high"].max()))
    room = (high - low) or abs(high) or 1.0
    return [low - 0.28 * room, high + 0.06 * room]
