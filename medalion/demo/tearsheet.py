"""`reports/demo.html`: what the strategy made of an account, how it traded one stock, and one market's probability."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from medalion.core.datasets import POLYMARKET_SNAPSHOTS, STOCK_BARS
from medalion.core.time import utc
from medalion.demo import sources
from medalion.plot import charts
from medalion.report.tables import drawdown_rows, fills_table, performance_cards, performance_table, trade_table
from medalion.report.tearsheet import Figure, write_tearsheet
from medalion.stats.performance import drawdown_table, drawdowns, monthly_returns
from medalion.store.store import Store
from oltp.entities.trading import Account

SHOWN_SYMBOL, SHOWN_FROM = "AAPL", date(2011, 3, 1)
HELD = ("AAPL", "IBM", "MSFT")
_CREDITS = (
    "Stock prices: bokeh-sampledata, public domain. Polymarket books: resolvedkit, © Resolved Markets, CC BY 4.0, "
    "reduced to best bid and ask. Nothing here is advice."
)


def buy_and_hold(store: Store) -> pl.DataFrame:
    """`ts`, `value`: an equal amount in each stock that the data has from its first day, held to the end, from 1."""
    closes = store.bars(list(HELD), "1Day", adjust="split", columns=["symbol", "ts", "close"])
    growth = pl.col("close").cast(pl.Float64) / pl.col("close").cast(pl.Float64).first().over("symbol")
    return (
        closes.with_columns(growth.alias("value"), pl.col("ts").dt.date())
        .group_by("ts")
        .agg(pl.col("value").mean())
        .sort("ts")
    )


@dataclass(frozen=True, slots=True)
class Upset:
    """The market whose winner had looked most lost: its path, and what it came to."""

    question: str
    outcome: str
    ends_at: datetime
    lowest: float
    path: pl.DataFrame


def biggest_upset(snapshots: pl.DataFrame, markets: pl.DataFrame) -> Upset:
    """Of all markets the one whose winning outcome was cheapest up to a minute before its end."""
    winners = markets.with_columns(pl.format("{}:{}", "market_id", "winner").alias("symbol")).select(
        "symbol", "question", "end", pl.col("winner").str.to_titlecase()
    )
    paths = snapshots.join(winners, on="symbol")
    lows = (
        paths.filter(pl.col("ts") < pl.col("end") - timedelta(minutes=1))
        .group_by("symbol", "question", "winner", "end")
        .agg(pl.col("price").min().cast(pl.Float64).alias("lowest"))
        .sort("lowest", "symbol")
    )
    first = lows.row(0, named=True)
    path = paths.filter(pl.col("symbol") == first["symbol"]).select("ts", "price", "bid", "ask").sort("ts")
    return Upset(first["question"], first["winner"], first["end"], first["lowest"], path)


def write_report(store: Store, path: Path, *, account: Account, rule: str) -> Path:
    """The page's path; `rule` says in a few words how the account trades."""
    equity = store.stats.equity(account)
    found = store.stats.performance(account)
    fills = store.sql(
        "SELECT f.executed_at, t.symbol, f.side, f.quantity, f.price, f.commission FROM fills AS f "
        "JOIN trades AS t ON t.id = f.trade_id WHERE f.account_id = $account ORDER BY f.executed_at, t.symbol",
        account=account.id,
    ).pl()
    bars = store.bars(SHOWN_SYMBOL, "1Day", start=SHOWN_FROM)
    shown = fills.filter(pl.col("symbol") == SHOWN_SYMBOL, pl.col("executed_at") >= utc(SHOWN_FROM))
    upset = biggest_upset(store.read(POLYMARKET_SNAPSHOTS, source=sources.BOOKS_SOURCE), sources.polymarket_markets())
    stocks = ", ".join(store.read(STOCK_BARS, timeframe="1Day", columns=["symbol"])["symbol"].unique().sort())
    span = f"{found.start:%Y-%m-%d} to {found.end:%Y-%m-%d}"
    return write_tearsheet(
        path,
        title="A moving-average cross on five stocks",
        subtitle=f"{rule} · {stocks} · daily bars, {span}. {_CREDITS}",
        cards=performance_cards(found),
        charts=(
            Figure(
                "Account value",
                charts.equity_curve(equity, benchmark=buy_and_hold(store)),
                f"After every close, in US dollars. Benchmark: {', '.join(HELD)} in equal parts, bought and held.",
            ),
            Figure("Drawdown", charts.drawdown_curve(drawdowns(equity).select("ts", "drawdown"))),
            Figure(
                f"{SHOWN_SYMBOL} with the strategy's trades",
                charts.candlesticks(
                    bars, trades=shown.select(pl.col("executed_at").alias("ts"), "side", "price", "quantity")
                ),
                "Daily bars as traded; ▲ bought and ▼ sold at the open after a cross.",
            ),
            Figure("Monthly returns", charts.monthly_heatmap(monthly_returns(equity))),
            Figure(
                f"Polymarket: {upset.question}: {upset.outcome}",
                charts.probability_path(upset.path, resolved_at=upset.ends_at, outcome=True),
                f"The outcome that came true, once priced at {upset.lowest:.1%}: middle of best bid and ask, and the "
                "band between them.",
            ),
        ),
        tables=(
            performance_table(found),
            trade_table(store.stats.trades(account)),
            drawdown_rows(drawdown_table(equity)),
            fills_table(fills, last=10),
        ),
    )
