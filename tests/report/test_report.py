"""Charts hold the data they are given; the tearsheet is one private page that fetches nothing."""

import json
import math
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.errors import InputError
from medalion.plot import charts, themes, thinning
from medalion.report import tables
from medalion.report.tearsheet import Card, Figure, Table, Tone, render_tearsheet, write_tearsheet
from medalion.stats.forecasts import calibration_table
from medalion.stats.performance import drawdown_table, drawdowns, monthly_returns, performance
from medalion.stats.returns import simple_returns
from medalion.stats.trades import trade_statistics

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MONEY = pl.Decimal(18, 8)


def equity(days: int = 400) -> pl.DataFrame:
    values = [100_000 * (1 + 0.1 * math.sin(n / 17) + n / 500) for n in range(days)]
    ts = [date(2023, 1, 2) + timedelta(days=n) for n in range(days)]
    return pl.DataFrame({"ts": ts, "value": values}, schema={"ts": pl.Date, "value": pl.Float64})


def bars(count: int = 50) -> pl.DataFrame:
    rows = [
        (NOON + timedelta(minutes=n), Decimal(100 + n % 7), Decimal(110 + n % 5), Decimal(90), Decimal(101), Decimal(n))
        for n in range(count)
    ]
    columns = ("open", "high", "low", "close", "volume")
    schema = {"ts": pl.Datetime("us", "UTC"), **dict.fromkeys(columns, MONEY)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def fills() -> pl.DataFrame:
    at = [NOON + timedelta(minutes=3), NOON + timedelta(minutes=20)]
    prices = pl.Series([Decimal("102.5"), Decimal("104.25")], dtype=MONEY)
    sizes = pl.Series([Decimal("0.00000001"), Decimal(7)], dtype=MONEY)
    return pl.DataFrame({"ts": at, "side": ["buy", "sell"], "price": prices, "quantity": sizes})


def snapshots() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": [NOON + timedelta(seconds=n) for n in range(3)],
            "price": [0.5, 0.55, 0.61],
            "bid": [0.48, None, 0.6],
            "ask": [0.54, 0.58, 0.64],
        }
    )


def calibration() -> pl.DataFrame:
    return calibration_table(pl.Series([0.1, 0.4, 0.45, 0.9]), pl.Series([0, 1, 0, 1]))


CHARTS: dict[str, Callable[[], alt.LayerChart]] = {
    "equity": lambda: charts.equity_curve(equity()),
    "equity beside a benchmark": lambda: charts.equity_curve(equity(), benchmark=equity(90)),
    "drawdown": lambda: charts.drawdown_curve(drawdowns(equity())),
    "candlesticks": lambda: charts.candlesticks(bars(), trades=fills()),
    "probability": lambda: charts.probability_path(snapshots()),
    "resolved": lambda: charts.probability_path(snapshots(), resolved_at=NOON + timedelta(minutes=1), outcome=True),
    "months": lambda: charts.monthly_heatmap(monthly_returns(equity())),
    "distribution": lambda: charts.return_distribution(simple_returns(equity()["value"])),
    "calibration": lambda: charts.calibration_plot(calibration()),
    "no equity": lambda: charts.equity_curve(equity(0)),
    "no bars": lambda: charts.candlesticks(bars(0), trades=fills()[:0]),
    "no snapshots": lambda: charts.probability_path(snapshots()[:0]),
    "no months": lambda: charts.monthly_heatmap(monthly_returns(equity(0))),
    "no returns": lambda: charts.return_distribution(pl.Series([], dtype=pl.Float64)),
    "no forecasts": lambda: charts.calibration_plot(calibration()[:0]),
}


def layers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The leaves of a layered spec."""
    return [leaf for layer in spec["layer"] for leaf in layers(layer)] if "layer" in spec else [spec]


def values(spec: dict[str, Any], layer: int = 0) -> list[dict[str, Any]]:
    """The data of a leaf, where altair keeps it."""
    found = layers(spec)[layer].get("data") or spec["data"]
    rows = json.loads(found["values"] if "values" in found else spec["datasets"][found["name"]])
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_renders_to_an_image_without_warnings(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    png = vl_convert.vegalite_to_png(CHARTS[name]().to_dict(), show_warnings=True)
    assert png.startswith(b"\x89PNG")
    assert capfd.readouterr().err == ""


def test_a_chart_holds_the_rows_it_was_given() -> None:
    given_ = equity(30)
    rows = values(charts.equity_curve(given_).to_dict())
    assert [row["value"] for row in rows] == given_["value"].to_list()
    assert [row["ts"] for row in rows] == given_["ts"].dt.epoch("ms").to_list()
    assert rows[0]["when"] == "2023-01-02"


def test_candles_hold_bars_and_trades_with_their_side() -> None:
    spec = charts.candlesticks(bars(9), trades=fills()).to_dict()
    found = [values(spec, n) for n in range(len(layers(spec)))]
    assert [row["high"] for row in found[0]] == [float(high) for high in bars(9)["high"]]
    assert found[0][1]["when"] == "2024-03-01 12:01:00 UTC"
    assert [(row["side"], row["price"]) for row in found[-1]] == [("buy", 102.5), ("sell", 104.25)]
    marks = {layer["mark"]["shape"]: layer["mark"]["color"] for layer in layers(spec) if "shape" in layer["mark"]}
    assert marks == {"triangle-up": themes.BUY, "triangle-down": themes.SELL}


def test_a_probability_is_the_middle_and_the_price_where_a_side_is_missing() -> None:
    rows = values(charts.probability_path(snapshots()).to_dict())
    assert [row["mid"] for row in rows] == pytest.approx([0.51, 0.55, 0.62])


def test_a_benchmark_starts_where_the_account_starts() -> None:
    rows = values(charts.equity_curve(equity(10), benchmark=equity(10).with_columns(pl.col("value") / 7)).to_dict())
    own, other = ([row["value"] for row in rows if row["series"] == name] for name in ("Account", "Benchmark"))
    assert own == pytest.approx(other)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(10, 60))
def test_thinning_keeps_the_ends_and_the_extremes(numbers: list[float], most: int) -> None:
    frame = pl.DataFrame({"ts": range(len(numbers)), "value": numbers})
    found = thinning.thinned(frame, "value", max_points=most)
    assert found.height <= max(most, 1)
    assert found["ts"].is_sorted()
    assert (found["ts"][0], found["ts"][-1]) == (0, len(numbers) - 1)
    assert (found["value"].min(), found["value"].max()) == (min(numbers), max(numbers))
    assert set(found.rows()) <= set(frame.rows())


@given(st.integers(1, 200), st.integers(1, 40))
def test_merging_bars_keeps_range_and_volume(count: int, most: int) -> None:
    given_ = bars(count)
    found = thinning.merged_bars(given_, max_points=most)
    assert found.height <= most
    assert (found["high"].max(), found["low"].min()) == (given_["high"].max(), given_["low"].min())
    assert found["volume"].sum() == given_["volume"].sum()
    assert (found["open"][0], found["close"][-1], found["ts"][0]) == (
        given_["open"][0],
        given_["close"][-1],
        given_["ts"][0],
    )


def test_more_rows_than_altair_allows_are_drawn_thinned() -> None:
    long = equity(20_000)
    rows = values(charts.equity_curve(long).to_dict())
    assert 3_000 < len(rows) <= thinning.MAX_POINTS
    assert max(row["value"] for row in rows) == long["value"].max()
    assert len(values(charts.candlesticks(bars(12_000)).to_dict())) == 4_000


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"ts": [NOON]}), "needs value"),
        (pl.DataFrame({"ts": [NOON.replace(tzinfo=None)], "value": [1.0]}), "no time zone"),
        (pl.DataFrame({"ts": [1], "value": [1.0]}), "Int64"),
    ],
)
def test_frames_a_chart_cannot_place_in_time_are_refused(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        charts.equity_curve(frame)


class Page(HTMLParser):
    """The tags of a page with their attributes, and the texts of its scripts and cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and data.strip():
            self.texts.setdefault(self.tags[-1][0], []).append(data.strip())


def full_page() -> str:
    frame = equity()
    closed = pl.DataFrame(
        {
            "opened_at": [NOON],
            "closed_at": [NOON + timedelta(days=118, hours=12)],
            "realized_pnl": pl.Series([Decimal("-1234.5")], dtype=MONEY),
            "commission": pl.Series([Decimal("1.5")], dtype=MONEY),
        }
    )
    executed = fills().select(
        pl.col("ts").alias("executed_at"), pl.lit("BTC/USD").alias("symbol"), "side", "quantity", "price", commission=0
    )
    found = performance(equity=frame, periods=365)
    return render_tearsheet(
        title="Two & two",
        subtitle="a book",
        cards=tables.performance_cards(found),
        tables=[
            tables.performance_table(found),
            tables.trade_table(trade_statistics(closed)),
            tables.drawdown_rows(drawdown_table(frame)),
            tables.fills_table(executed.cast({"commission": MONEY}), last=1),
            Table("Nothing yet", ("A", "B"), ()),
        ],
        charts=[Figure(name, CHARTS[name](), wide=False) for name in ("equity", "candlesticks", "months")],
        generated_at=NOON,
    )


def test_the_page_fetches_nothing() -> None:
    html = full_page()
    page = Page(html)
    fetching = {"src", "href", "srcset", "action", "data", "poster", "background"}
    assert [(tag, attrs) for tag, attrs in page.tags if fetching & set(attrs)] == []
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    styles = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert styles is not None
    assert "url(" not in styles[1]
    assert "@import" not in styles[1]


def test_the_page_carries_its_scripts_once_and_each_chart_with_its_data() -> None:
    html = full_page()
    assert html.count("window.vegaEmbed=") == 1
    specs = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)]
    assert [len(values(spec)) for spec in specs] == [400, 50, len(monthly_returns(equity()))]
    places = [attrs["id"] for _, attrs in Page(html).tags if attrs.get("role") == "img"]
    assert places == ["chart-0", "chart-1", "chart-2"]


def test_numbers_stand_right_and_losses_are_marked() -> None:
    html = full_page()
    assert '<td class="figure negative">-1,236.00</td>' in html
    assert '<td class="figure">118d 12h</td>' in html
    assert '<td class="text">Win rate</td><td class="figure">0.00%</td>' in html
    assert '<td class="text">BTC/USD</td>' in html
    assert '<td class="text" colspan="2">none</td>' in html
    assert "1 of 2." in html
    assert "at 2024-03-01 12:00:00 UTC" in html


@given(st.text(alphabet="<>&\"'/scriptx=", min_size=1, max_size=30))
def test_texts_are_shown_and_never_become_markup(text: str) -> None:
    def shape(word: str) -> Page:
        return Page(
            render_tearsheet(
                title=word,
                subtitle=word,
                cards=[Card(word, word, word, Tone.BAD)],
                tables=[Table(word, (word,), ((word,),), word)],
            )
        )

    found, harmless = shape(text), shape("harmless")
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags]
    assert "".join(found.texts["h1"]) == text


def test_markup_in_a_charts_data_stays_data() -> None:
    hostile = alt.InlineData(values=[{"name": "</script><script>alert(1)</script>"}])
    chart = alt.LayerChart(layer=[alt.Chart(hostile).mark_text().encode(text="name:N")])
    html = render_tearsheet(title="t", charts=[Figure("<b>", chart)])
    assert "alert(1)</script>" not in html
    assert "<h2>&lt;b&gt;</h2>" in html


def test_a_trade_that_is_neither_bought_nor_sold_is_refused() -> None:
    with pytest.raises(InputError, match="'short' is neither"):
        charts.candlesticks(bars(), trades=fills().with_columns(side=pl.lit("short")))


def test_a_page_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    path.write_text("old")
    assert write_tearsheet(path, title="new") == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "<h1>new</h1>" in path.read_text(encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(InputError, match="2 columns and a row of 1"):
        write_tearsheet(path, title="broken", tables=[Table("t", ("a", "b"), (("1",),))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder cannot be written: Is a directory"):
        write_tearsheet(tmp_path / "folder", title="t")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*absent"):
        write_tearsheet(tmp_path / "absent" / "x.html", title="t")


NEEDS = [
    ("altair", "plot.charts", "charts"),
    ("vl_convert", "report.tearsheet", "reports"),
    ("jinja2", "report.tearsheet", "reports"),
]


@pytest.mark.parametrize(("package", "module", "what"), NEEDS)
def test_without_the_extra_the_command_that_installs_it_is_told(package: str, module: str, what: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nimport medalion.{module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"MedalionError: {what} need {package}" in run.stderr
    assert "pip install 'medalion[report]'" in run.stderr
