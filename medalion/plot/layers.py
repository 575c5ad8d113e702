"""What several charts share: the axis of time, the point under the pointer, marks of trades and of resolutions."""

from datetime import date, datetime

import altair as alt
import polars as pl

from medalion.core.enums import TradeSide
from medalion.core.time import utc
from medalion.plot.rows import inline, prepared
from medalion.plot.themes import BUY, CLOCK, CONFIG, ORANGE, SELL

TIME_AXIS = alt.X(
    "ts:T",
    title=None,
    scale=alt.Scale(type="utc"),
    axis=alt.Axis(grid=False, tickCount=8, labelOverlap=True, format=CLOCK),
)


def hover(frame: pl.DataFrame, column: str, color: str, tooltip: list[alt.Tooltip]) -> alt.LayerChart:
    """A dot and a tooltip at the point nearest to the pointer."""
    nearest = alt.selection_point(
        name=f"nearest_{column}", on="pointerover", clear="pointerout", nearest=True, encodings=["x"], empty=False
    )
    chart = alt.Chart(inline(frame)).encode(x=TIME_AXIS, y=alt.Y(f"{column}:Q", title=None))
    shown = alt.condition(nearest, alt.value(1), alt.value(0))
    targets = chart.mark_point(opacity=0, size=1).encode(tooltip=tooltip).add_params(nearest)
    return alt.LayerChart(layer=[targets, chart.mark_circle(size=55, color=color).encode(opacity=shown)])


def trade_marks(marks: alt.Chart, side: TradeSide, scale: alt.Scale, axis: alt.Axis) -> alt.Chart:
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
            x=TIME_AXIS,
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


def resolution(at: date | datetime, outcome: bool | None, scale: alt.Scale, axis: alt.Axis) -> alt.LayerChart:
    """A line where a market was resolved, and what it came to, if that is given."""
    label = "resolved" if outcome is None else f"resolved {'YES' if outcome else 'NO'}"
    color = ORANGE if outcome is None else BUY if outcome else SELL
    row = pl.DataFrame({"ts": [utc(at)], "level": [0.5 if outcome is None else float(outcome)]})
    chart = alt.Chart(inline(prepared(row, ("level",)).with_columns(label=pl.lit(label)))).encode(x=TIME_AXIS)
    level = alt.Y("level:Q", title=None, scale=scale, axis=axis)
    # Half-way up it is clear of the path, which ends near 0 or 100 %.
    text = chart.mark_text(align="right", dx=-10, fontSize=12, fontWeight="bold", color=color).encode(
        y=alt.Y(datum=0.5), text="label:N"
    )
    layers = [chart.mark_rule(color=color, strokeDash=[4, 4], strokeWidth=1.5), text]
    if outcome is not None:
        layers.append(chart.mark_point(filled=True, size=90, color=color, opacity=1).encode(y=level))
    return alt.LayerChart(layer=layers)


def finished(*layers: alt.Chart | alt.LayerChart, height: int, independent: bool = False) -> alt.LayerChart:
    """The layers as one chart in the common theme, as wide as its place; `independent`: a vertical axis for each."""
    chart: alt.LayerChart = alt.LayerChart(layer=list(layers)).properties(width="container", height=height)
    if independent:
        chart = chart.resolve_scale(y="independent")
    finished: alt.LayerChart = chart.configure(**CONFIG)
    return finished
