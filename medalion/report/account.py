"""The tearsheet of one account, from what the store holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from medalion.core.time import Instant, TimeRange
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
from medalion.stats.performance import drawdown_table, drawdowns, monthly_returns
from medalion.stats.returns import simple_returns, time_weighted

if TYPE_CHECKING:
    from medalion.store.store import Store
    from oltp.entities.trading import Account

_FILLS = """
    SELECT f.executed_at, t.symbol, f.side, f.quantity, f.price, f.commission
    FROM fills AS f JOIN trades AS t ON t.id = f.trade_id
    WHERE f.account_id = $account AND f.busted_at IS NULL
    ORDER BY f.executed_at, t.symbol
"""


def write_account_report(
    store: Store, path: Path | str, *, account: str, start: Instant | None = None, end: Instant | None = None
) -> Path:
    """The path of the page about the sessions of `[start, end)`; `account` is its name or id.

    Returns and drawdowns are time-weighted: deposits and withdrawals are no result.

    Raises:
        NotFoundError: there is no such account.
        InputError: the folder does not exist, a naive time, or `end` before `start`.
    """
    found = store.stats.summary(account, start, end)
    equity = store.stats.equity(account, start, end)
    worth = Card("Account value", f"{money(found.closing_value)} {found.currency}", f"{found.sessions:,} sessions")
    profit = Card("Profit", money(found.profit, sign=True), "without deposits and withdrawals", tone(found.profit))
    growth = pl.DataFrame([equity["ts"], time_weighted(equity["value"], equity["flow"]).alias("value")])
    drawn = [] if growth.height < 2 or growth["value"].null_count() else _growth_charts(growth)
    deepest = [drawdown_rows(drawdown_table(growth))] if drawn else []
    return write_tearsheet(
        path,
        title=found.account,
        subtitle=_span(equity),
        cards=[worth, profit, *performance_cards(found.performance)],
        tables=[
            performance_table(found.performance),
            trade_table(found.trades),
            *deepest,
            fills_table(_fills(store, store.accounts.by_name(found.account), TimeRange.of(start, end))),
        ],
        charts=[*([Figure("Account value", equity_curve(equity))] if equity.height else []), *drawn],
    )


def _growth_charts(growth: pl.DataFrame) -> list[Figure]:
    return [
        Figure("Drawdown", drawdown_curve(drawdowns(growth)), "Below the peak before, of growth."),
        Figure("Returns by month", monthly_heatmap(monthly_returns(growth)), wide=False),
        Figure("Returns by session", return_distribution(simple_returns(growth["value"])), wide=False),
    ]


def _fills(store: Store, account: Account, during: TimeRange) -> pl.DataFrame:
    """The account's fills that stand, in the range."""
    rows: pl.DataFrame = store.sql(_FILLS, account=account.id).pl()
    inside = [during.overlaps(moment, moment) for moment in rows["executed_at"]]
    return rows.filter(pl.Series(inside, dtype=pl.Boolean))


def _span(equity: pl.DataFrame) -> str:
    if equity.is_empty():
        return "nothing has happened yet"
    return f"{equity['ts'][0]:%Y-%m-%d} to {equity['ts'][-1]:%Y-%m-%d}"
