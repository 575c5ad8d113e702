"""The tearsheet of one account, of values that whoever asks for it has read."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl

from medalion.plot.charts import drawdown_curve, equity_curve, monthly_heatmap, return_distribution
from medalion.report.tables import (
    drawdown_rows,
    fills_table,
    money,
    performance_cards,
    performance_table,
    tone,
    trade_table,
)
from medalion.report.tearsheet import Card, Figure, write_tearsheet
from medalion.stats.performance import PerformanceStatistics, drawdown_table, drawdowns, monthly_returns
from medalion.stats.returns import simple_returns, time_weighted
from medalion.stats.trades import TradeStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFigures:
    """What the page of an account shows; money is in `currency`.

    `equity` has `ts`, `value` and `flow` by session, as `store.stats.equity` gives it; `fills` has `executed_at`,
    `symbol`, `side`, `quantity`, `price` and `commission`, oldest first.
    """

    account: str
    currency: str
    sessions: int
    closing_value: Decimal | None
    profit: Decimal | None
    performance: PerformanceStatistics
    trades: TradeStatistics
    equity: pl.DataFrame
    fills: pl.DataFrame


def write_account_report(path: Path | str, figures: AccountFigures) -> Path:
    """The path of the page about these figures.

    Returns and drawdowns are time-weighted: deposits and withdrawals are no result.

    Raises:
        InputError: the folder does not exist.
    """
    equity = figures.equity
    value = f"{money(figures.closing_value)} {figures.currency}"
    worth = Card("Account value", value, f"{figures.sessions:,} sessions")
    profit = Card("Profit", money(figures.profit, sign=True), "without deposits and withdrawals", tone(figures.profit))
    growth = pl.DataFrame([equity["ts"], time_weighted(equity["value"], equity["flow"]).alias("value")])
    drawn = [] if growth.height < 2 or growth["value"].null_count() else _growth_charts(growth)
    deepest = [drawdown_rows(drawdown_table(growth))] if drawn else []
    return write_tearsheet(
        path,
        title=figures.account,
        subtitle=_span(equity),
        cards=[worth, profit, *performance_cards(figures.performance)],
        tables=[
            performance_table(figures.performance),
            trade_table(figures.trades),
            *deepest,
            fills_table(figures.fills),
        ],
        charts=[*([Figure("Account value", equity_curve(equity))] if equity.height else []), *drawn],
    )


def _growth_charts(growth: pl.DataFrame) -> list[Figure]:
    return [
        Figure("Drawdown", drawdown_curve(drawdowns(growth)), "Below the peak before, of growth."),
        Figure("Returns by month", monthly_heatmap(monthly_returns(growth)), wide=False),
        Figure("Returns by session", return_distribution(simple_returns(growth["value"])), wide=False),
    ]


def _span(equity: pl.DataFrame) -> str:
    if equity.is_empty():
        return "nothing has happened yet"
    return f"{equity['ts'][0]:%Y-%m-%d} to {equity['ts'][-1]:%Y-%m-%d}"
