"""Altair charts of Polars frames; each carries its theme and its data, and fills the width it is given.

Frames hold `ts` (dates, or times in UTC, ascending) and numbers of any type. Axes are in UTC. Charts draw at most
`MAX_POINTS` points: longer lines are thinned so that every extreme stays (`thinned`), more bars are merged into longer
ones (`merged_bars`); trades are drawn all.
"""

from collections.abc import Sequence
from datetime import date, datetime

import altair as alt
import polars as pl

from medalion.core.enums import TradeSide
from medalion.core.errors import InputError
from medalion.core.time import utc
from medalion.plot.themes import BLUE, BUY, CLOCK, CONFIG, FALL, GREY, LOSS_TO_GAIN, ORANGE, RISE, SELL
from medalion.plot.thinning import merged_bars, thinned

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_TIME_AXIS = alt.X(
    "ts:T",
    title=None,
    scale=alt.Scale(type="utc"),
    axis=alt.Axis(grid=False, tickCount=8, labelOverlap=True, format=CLOCK),
)


def equity_curve(equity: pl.DataFrame, *, benchmark: pl.DataFrame | None = None) -> alt.LayerChart:
    """Account value (`ts`, `value`) over time; a benchmark starts at the same value, in grey."""
    own = _prepared(equity, ("value",)).with_columns(series=pl.lit("Account"))
    lines = [thinned(own, "value")]
    if benchmark is not None and own.height and benchmark.height:
        other = _prepared(benchmark, ("value",)).with_columns(series=pl.lit("Benchmark"))
        scale = own["value"][0] / other["value"][0]
        lines.append(thinned(other.with_columns(pl.col("value") * scale), "value"))
    color = alt.Color("series:N", title=None, scale=alt.Scale(domain=["Account", "Benchmark"], range=[BLUE, GREY]))
    line = (
        alt.Chart(_inline(pl.concat(lines)))
        .mark_line(strokeWidth=1.8, interpolate="monotone" if own.height < 200 else "linear")
        .encode(
            x=_TIME_AXIS,
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format="~s")),
            color=color if len(lines) > 1 else alt.value(BLUE),
        )
    )
    shown = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("value:Q", title="Value", format=",.2f")]
    return _finished(line, _hover(lines[0], "value", BLUE, shown), height=280)


def drawdown_curve(drawdowns: pl.DataFrame) -> alt.LayerChart:
    """How far below its peak an account was: `ts` and `drawdown`, a positive fraction, drawn downwards."""
    frame = thinned(_prepared(drawdowns, ("drawdown",)).with_columns(-pl.col("drawdown")), "drawdown")
    area = (
        alt.Chart(_inline(frame))
        .mark_area(color=FALL, opacity=0.25, line={"color": FALL, "strokeWidth": 1.2})
        .encode(x=_TIME_AXIS, y=alt.Y("drawdown:Q", title=None, axis=alt.Axis(format=".0%")))
    )
    shown = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("drawdown:Q", title="Drawdown", format=".2%")]
    return _finished(area, _hover(frame, "drawdown", FALL, shown), height=180)


def candlesticks(bars: pl.DataFrame, *, trades: pl.DataFrame | None = None) -> alt.LayerChart:
    """Bars (`ts`, `open`, `high`, `low`, `close`, `volume`) with the volume below them, and trades as triangles.

    `trades` has `ts`, `side` (buy, sell), `price`, `quantity`: a buy is ▲ green, a sell ▼ red.
    """
    numbers = ("open", "high", "low", "close", "volume")
    frame = merged_bars(_prepared(bars, numbers))
    data = _inline(frame.with_columns(rises=pl.col("close") >= pl.col("open")))
    color = alt.condition("datum.rises", alt.value(RISE), alt.value(FALL))
    width = max(1.0, min(12.0, 620 / max(frame.height, 1)))
    shown = [
        alt.Tooltip("when:N", title="Time"),
        *(alt.Tooltip(f"{name}:Q", title=name.title(), format=",.8~f") for name in numbers),
    ]
    base = alt.Chart(data).encode(x=_TIME_AXIS, color=color, tooltip=shown)
    price = alt.Scale(zero=False, domain=_padded(frame)) if frame.height else alt.Scale(zero=False)
    axis = alt.Axis(format=",~r", orient="right")
    wicks = base.mark_rule().encode(y=alt.Y("low:Q", title=None, scale=price, axis=axis), y2="high:Q")
    bodies = base.mark_bar(size=width).encode(y=alt.Y("open:Q", title=None, scale=price, axis=axis), y2="close:Q")
    layers: list[alt.Chart] = [wicks, bodies]
    if trades is not None and trades.height:
        unknown = trades["side"].cast(pl.String).filter(~trades["side"].is_in(list(TradeSide)).fill_null(False))
        if len(unknown):
            raise InputError(f"side {unknown[0]!r} is neither buy nor sell", given=unknown[0], expected=list(TradeSide))
        marks = alt.Chart(_inline(_prepared(trades, ("price", "quantity"), also=("side",))))
        layers += [_trade_marks(marks, side, price, axis) for side in TradeSide]
    top = frame["volume"].max() if frame.height else None
    volume = base.mark_bar(size=width, opacity=0.35).encode(
        y=alt.Y(
            "volume:Q",
            title=None,
            axis=None,
            scale=alt.Scale(domain=[0, 5 * float(top)]) if isinstance(top, float) and top > 0 else alt.Undefined,
        )
    )
    return _finished(volume, alt.LayerChart(layer=layers), height=400, independent=True)


def probability_path(
    snapshots: pl.DataFrame, *, resolved_at: date | datetime | None = None, outcome: bool | None = None
) -> alt.LayerChart:
    """A prediction market's probability over time: the middle of bid and ask, and the band between them, 0 to 100 %.

    `snapshots` has `ts`, and `bid` and `ask` or `price`, which stands in where one side is missing. `resolved_at` draws
    a line there, and `outcome` says what it came to: True is 100 %.
    """
    numbers = tuple(name for name in ("price", "bid", "ask") if name in snapshots.columns)
    if not {"bid", "ask"} <= set(numbers) and "price" not in numbers:
        raise InputError("snapshots have neither bid and ask nor price", given=snapshots.columns, expected="bid, ask")
    frame = _prepared(snapshots, numbers)
    middle = [(pl.col("bid") + pl.col("ask")) / 2] if {"bid", "ask"} <= set(numbers) else []
    price = [pl.col("price")] if "price" in numbers else []
    frame = thinned(frame.with_columns(pl.coalesce(*middle, *price).alias("mid")), "mid")
    scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    layers: list[alt.Chart | alt.LayerChart] = []
    chart = alt.Chart(_inline(frame)).encode(x=_TIME_AXIS)
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
        layers.append(_resolution(resolved_at, outcome, scale, axis))
    names = {"mid": "Middle", "price": "Price", "bid": "Bid", "ask": "Ask"}
    shown = [
        alt.Tooltip("when:N", title="Time"),
        *(alt.Tooltip(f"{name}:Q", title=names[name], format=".2%") for name in ("mid", *numbers)),
    ]
    return _finished(*layers, _hover(frame, "mid", BLUE, shown), height=260)


def monthly_heatmap(months: pl.DataFrame) -> alt.LayerChart:
    """Returns by month and year: `year`, `month` (1 to 12) and `return`, a fraction."""
    frame = months.select(
        pl.col("year").cast(pl.String),
        pl.col("month").replace_strict(dict(enumerate(MONTHS, 1)), return_dtype=pl.String),
        pl.col("return").cast(pl.Float64),
    ).drop_nulls()
    most = max((abs(value) for value in frame["return"].to_list()), default=0.0) or 1.0
    base = alt.Chart(_inline(frame)).encode(
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
    return _finished(cells, texts, height=26 * max(1, frame["year"].n_unique()))


def return_distribution(returns: pl.Series, *, bins: int = 60) -> alt.LayerChart:
    """How often returns of each size occurred; fractions, nulls left out, with the mean as a line."""
    values = returns.cast(pl.Float64).drop_nulls()
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
        alt.Chart(_inline(counted))
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
    line = alt.Chart(_inline(mean)).mark_rule(color=ORANGE, strokeWidth=2).encode(x="mean:Q")
    return _finished(bars, line, height=260)


def calibration_plot(table: pl.DataFrame) -> alt.LayerChart:
    """Forecasts against what came true: `mean_probability`, `frequency`, `forecasts`; on the diagonal is perfect."""
    frame = table.select("mean_probability", "frequency", "forecasts").drop_nulls()
    unit, percent = alt.Scale(domain=[0, 1]), alt.Axis(format=".0%")
    diagonal = pl.DataFrame({"mean_probability": [0.0, 1.0], "frequency": [0.0, 1.0]})
    x = alt.X("mean_probability:Q", title="Forecast", scale=unit, axis=percent)
    y = alt.Y("frequency:Q", title="Came true", scale=unit, axis=percent)
    line = alt.Chart(_inline(diagonal)).mark_line(color=GREY, strokeDash=[5, 4]).encode(x=x, y=y)
    dots = (
        alt.Chart(_inline(frame))
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
    return _finished(line, dots, height=260)


def _prepared(frame: pl.DataFrame, numbers: Sequence[str], *, also: Sequence[str] = ()) -> pl.DataFrame:
    """`ts` as milliseconds since 1970, `when` as text, `numbers` as floats, NaN and infinity as null."""
    missing = [name for name in ("ts", *numbers, *also) if name not in frame.columns]
    if missing:
        raise InputError(
            f"the chart needs {' and '.join(missing)}, which is not among {frame.columns}",
            given=frame.columns,
            expected=["ts", *numbers, *also],
        )
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


def _inline(frame: pl.DataFrame) -> alt.InlineData:
    """The rows as the chart's own data; given so, no limit on their number applies."""
    # As text, because every value of a list would be copied and validated again with each layer around it.
    return alt.InlineData(values=frame.write_json(), format=alt.JsonDataFormat(type="json"))


def _padded(bars: pl.DataFrame) -> list[float]:
    """From the lowest to the highest price, with room for the volume below and markers above."""
    low, high = (float(edge) if isinstance(edge, float) else 0.0 for edge in (bars["low"].min(), bars["high"].max()))
    room = (high - low) or abs(high) or 1.0
    return [low - 0.28 * room, high + 0.06 * room]


def _hover(frame: pl.DataFrame, column: str, color: str, tooltip: list[alt.Tooltip]) -> alt.LayerChart:
    """A dot and a tooltip at the point nearest to the pointer."""
    nearest = alt.selection_point(
        name=f"nearest_{column}", on="pointerover", clear="pointerout", nearest=True, encodings=["x"], empty=False
    )
    chart = alt.Chart(_inline(frame)).encode(x=_TIME_AXIS, y=alt.Y(f"{column}:Q", title=None))
    shown = alt.condition(nearest, alt.value(1), alt.value(0))
    targets = chart.mark_point(opacity=0, size=1).encode(tooltip=tooltip).add_params(nearest)
    return alt.LayerChart(layer=[targets, chart.mark_circle(size=55, color=color).encode(opacity=shown)])


def _trade_marks(marks: alt.Chart, side: TradeSide, scale: alt.Scale, axis: alt.Axis) -> alt.Chart:
    """▲ a little below the price of a buy, ▼ above that of a sell, so that the bar stays in sight."""
    is_buy = side is TradeSide.BUY
    chart: alt.Chart = (
        marks.transform_filter(alt.datum.side == side.value)
        .mark_point(
            shape="triangle-up" if is_buy else "triangle-down",
            filled=True,
            size=170,
            color=BUY if is_buy else SELL,
            stroke="white",
            strokeWidth=1,
            opacity=1,
            yOffset=10 if is_buy else -10,
        )
        .encode(
            x=_TIME_AXIS,
            y=alt.Y("price:Q", title=None, scale=scale, axis=axis),
            tooltip=[
                alt.Tooltip("when:N", title="Time"),
                alt.Tooltip("side:N", title="Side"),
                alt.Tooltip("quantity:Q", title="Quantity", format=",.8~f"),
                alt.Tooltip("price:Q", title="Price", format=",.8~f"),
            ],
        )
    )
    return chart


def _resolution(at: date | datetime, outcome: bool | None, scale: alt.Scale, axis: alt.Axis) -> alt.LayerChart:
    label = "resolved" if outcome is None else f"resolved {'YES' if outcome else 'NO'}"
    color = ORANGE if outcome is None else BUY if outcome else SELL
    row = pl.DataFrame({"ts": [utc(at)], "level": [0.5 if outcome is None else float(outcome)]})
    chart = alt.Chart(_inline(_prepared(row, ("level",)).with_columns(label=pl.lit(label)))).encode(x=_TIME_AXIS)
    level = alt.Y("level:Q", title=None, scale=scale, axis=axis)
    # Half-way up it is clear of the path, which ends near 0 or 100 %.
    text = chart.mark_text(align="right", dx=-10, fontSize=12, fontWeight="bold", color=color).encode(
        y=alt.Y(datum=0.5), text="label:N"
    )
    layers = [chart.mark_rule(color=color, strokeDash=[4, 4], strokeWidth=1.5), text]
    if outcome is not None:
        layers.append(chart.mark_point(filled=True, size=90, color=color, opacity=1).encode(y=level))
    return alt.LayerChart(layer=layers)


def _finished(*layers: alt.Chart | alt.LayerChart, height: int, independent: bool = False) -> alt.LayerChart:
    chart: alt.LayerChart = alt.LayerChart(layer=list(layers)).properties(width="container", height=height)
    if independent:
        chart = chart.resolve_scale(y="independent")
    finished: alt.LayerChart = chart.configure(**CONFIG)
    return finished
