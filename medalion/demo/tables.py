"""What the demo prints as tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich import box
from rich.table import Table

from medalion.demo.loading import LoadedHistory
from medalion.observations.plan import ReadPlan
from medalion.report.tables import duration, money, percent, ratio
from medalion.stats.performance import PerformanceStatistics
from medalion.stats.trades import TradeStatistics
from medalion.trading.views import PortfolioSummaryDto

T = TypeVar("T")


def loaded_table(loaded: Sequence[LoadedHistory]) -> Table:
    """The datasets and their rows."""
    table = _table("LoadedHistory", ("dataset", "from"), right=("instruments", "rows"), last=("",))
    for one in loaded:
        there = "was there" if one.was_there else "new"
        table.add_row(one.dataset, one.source, f"{one.instruments:,}", f"{one.rows:,}", there)
    return table


def plans_table(title: str, plans: Mapping[str, ReadPlan]) -> Table:
    """How reads are answered, as the router tells it; `rows` is what is opened at most."""
    table = _table(title, ("read", "store", "engine"), right=("files", "rows"), last=("why",))
    for name, plan in plans.items():
        rows = plan.rows + plan.hot_rows
        table.add_row(name, plan.store, plan.engine, f"{plan.files:,}", f"{rows:,}", plan.reason)
    return table


def portfolios_table(found: Mapping[str, PortfolioSummaryDto]) -> Table:
    """What the accounts are worth at their last marks."""
    return _side_by_side(
        "Portfolios",
        found,
        {
            "Deposits": lambda one: money(one.deposits),
            "Cash": lambda one: money(one.cash),
            "Market value": lambda one: money(one.market_value),
            "Equity": lambda one: money(one.equity),
            "Realized P&L": lambda one: money(one.realized_pnl, sign=True),
            "Unrealized P&L": lambda one: money(one.unrealized_pnl, sign=True),
            "Commissions": lambda one: money(one.total_commissions),
            "Net P&L": lambda one: money(one.net_pnl, sign=True),
            "Positions (open)": lambda one: f"{one.total_positions:,} ({one.open_positions_count:,})",
        },
    )


def trades_table(found: Mapping[str, TradeStatistics]) -> Table:
    """Statistics of closed round trips, net of commissions."""
    return _side_by_side(
        "Closed trades",
        found,
        {
            "Trades": lambda one: f"{one.total_trades:,}",
            "Win rate": lambda one: percent(one.win_rate),
            "Profit factor": lambda one: ratio(one.profit_factor),
            "Payoff ratio": lambda one: ratio(one.payoff_ratio),
            "Expectancy": lambda one: money(one.expectancy, sign=True),
            "Best": lambda one: money(one.best, sign=True),
            "Worst": lambda one: money(one.worst, sign=True),
            "Average holding time": lambda one: duration(one.average_holding_time),
        },
    )


def performance_table(found: Mapping[str, PerformanceStatistics]) -> Table:
    """Statistics of the accounts' values by session."""
    return _side_by_side(
        "Performance",
        found,
        {
            "Total return": lambda one: percent(one.total_return, sign=True),
            "CAGR (by calendar)": lambda one: percent(one.cagr, sign=True),
            "Volatility, annual": lambda one: percent(one.annual_volatility),
            "Sharpe ratio": lambda one: ratio(one.sharpe_ratio),
            "Sortino ratio": lambda one: ratio(one.sortino_ratio),
            "Largest drawdown": lambda one: percent(one.max_drawdown),
            "Returns a year": lambda one: f"{one.periods_per_year:g}",
        },
    )


def _side_by_side(title: str, found: Mapping[str, T], rows: Mapping[str, Callable[[T], str]]) -> Table:
    table = _table(title, ("",), right=tuple(found))
    for name, value in rows.items():
        table.add_row(name, *(value(one) for one in found.values()))
    return table


def _table(title: str, left: Sequence[str], *, right: Sequence[str] = (), last: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for names, justify in ((left, "left"), (right, "right"), (last, "left")):
        for name in names:
            table.add_column(name, justify="right" if justify == "right" else "left")
    return table
