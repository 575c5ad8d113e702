"""Statistics of closed round trips: what was won and lost, how often, for how long, and how far it went on the way.

Money is Decimal and exact. P&L is net, gross less commission, subtracted once; a trade is won above zero, lost below,
and neither at zero. Losses are positive amounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import polars as pl

from medalion.core.errors import InputError
from medalion.core.frames import Frame, polars_frame
from medalion.core.money import cash, exact

_SUM = pl.Decimal(38, 8)


@dataclass(frozen=True, slots=True)
class TradeStatistics:
    """Statistics of closed round trips; None is undefined.

    `win_rate` is a fraction of all trades, 0 to 1. `total_loss` and `average_loss` are positive, so that
    `net_profit == total_profit - total_loss`. `profit_factor` is total profit by total loss, `payoff_ratio` the average
    profit by the average loss, `expectancy` the average net P&L of a trade; averages are half-even to 8 places. `best`
    and `worst` are the net P&L of one trade. Streaks count trades in the order of closing; one that is neither won nor
    lost ends them.
    """

    total_trades: int
    winning_trades: int
    losing_trades: int
    total_profit: Decimal
    total_loss: Decimal
    net_profit: Decimal
    total_commissions: Decimal
    win_rate: float | None
    average_profit: Decimal | None
    average_loss: Decimal | None
    profit_factor: float | None
    payoff_ratio: float | None
    expectancy: Decimal | None
    best: Decimal | None
    worst: Decimal | None
    longest_winning_streak: int
    longest_losing_streak: int
    average_holding_time: timedelta | None


def trade_statistics(trades: Frame) -> TradeStatistics:
    """Statistics of `trades`: `opened_at`, `closed_at`, `realized_pnl` (gross, Decimal), `commission` (Decimal).

    >>> from datetime import UTC, datetime
    >>> one = {"opened_at": datetime(2024, 1, 2, tzinfo=UTC), "closed_at": datetime(2024, 1, 3, tzinfo=UTC)}
    >>> money = {"realized_pnl": Decimal("12.5"), "commission": Decimal("0.5")}
    >>> trade_statistics(pl.DataFrame([one | money])).net_profit
    Decimal('12.00000000')

    Raises:
        InputError: a missing column, a null (an open trade has no result yet), or money that is not Decimal.
    """
    trades = polars_frame(trades)
    net = _net(trades)
    won, lost = net.filter(net > 0), net.filter(net < 0)
    profit, loss = _total(won), _total(-lost)
    average_profit, average_loss = _average(profit, len(won)), _average(loss, len(lost))
    held = (trades["closed_at"] - trades["opened_at"]).mean()
    return TradeStatistics(
        total_trades=len(net),
        winning_trades=len(won),
        losing_trades=len(lost),
        total_profit=profit,
        total_loss=loss,
        net_profit=_total(net),
        total_commissions=_total(trades["commission"].cast(_SUM)),
        win_rate=len(won) / len(net) if len(net) else None,
        average_profit=average_profit,
        average_loss=average_loss,
        profit_factor=float(profit / loss) if loss else None,
        payoff_ratio=float(average_profit / average_loss) if average_profit is not None and average_loss else None,
        expectancy=_average(_total(net), len(net)),
        best=_decimal(net.max()),
        worst=_decimal(net.min()),
        longest_winning_streak=_longest_run(net > 0),
        longest_losing_streak=_longest_run(net < 0),
        average_holding_time=held if isinstance(held, timedelta) else None,
    )


def excursions(trades: Frame, bars: Frame) -> pl.DataFrame:
    """`trades` with how far the price went against (`mae`) and for (`mfe`) each, as fractions of its entry price.

    Maximum adverse and favourable excursion (Sweeney 1996), at least 0; from the `high` and `low` of the bars of the
    trade's `symbol` that lie wholly within [opened_at, closed_at], null where there is none. `trades` has `symbol`,
    `side` (long, short), `opened_at`, `closed_at`, `entry_price`; `bars` has `symbol`, `ts`, `available_at` (the
    closing edge), `high`, `low`.

    Raises:
        InputError: a missing column, or what is no frame.
    """
    trades, bars = polars_frame(trades), polars_frame(bars)
    _require(trades, ("symbol", "side", "opened_at", "closed_at", "entry_price"))
    _require(bars, ("symbol", "ts", "available_at", "high", "low"))
    numbered = trades.with_row_index("trade")
    seen = (
        numbered.select("trade", "symbol", "opened_at", "closed_at")
        .join_where(
            bars.select(pl.col("symbol").alias("bar_symbol"), "ts", "available_at", "high", "low"),
            pl.col("symbol") == pl.col("bar_symbol"),
            pl.col("ts") >= pl.col("opened_at"),
            pl.col("available_at") <= pl.col("closed_at"),
        )
        .group_by("trade")
        .agg(pl.col("high").max().cast(pl.Float64), pl.col("low").min().cast(pl.Float64))
    )
    entry = pl.col("entry_price").cast(pl.Float64)
    rise, fall = pl.col("high") / entry - 1, 1 - pl.col("low") / entry
    is_long = pl.col("side") == "long"
    return (
        numbered.join(seen, on="trade", how="left", maintain_order="left")
        .with_columns(
            pl.when(is_long).then(fall).otherwise(rise).clip(lower_bound=0.0).alias("mae"),
            pl.when(is_long).then(rise).otherwise(fall).clip(lower_bound=0.0).alias("mfe"),
        )
        .drop("trade", "high", "low")
    )


def _net(trades: pl.DataFrame) -> pl.Series:
    """Net P&L in the order of closing."""
    _require(trades, ("opened_at", "closed_at", "realized_pnl", "commission"))
    for name in ("realized_pnl", "commission"):
        dtype = trades[name].dtype
        if not isinstance(dtype, pl.Decimal) or dtype.scale > 8:
            raise InputError(
                f"{name} is {dtype}; give a Decimal of at most 8 places", given=dtype, expected="Decimal(38, 8)"
            )
    nulls = [name for name in ("opened_at", "closed_at", "realized_pnl", "commission") if trades[name].null_count()]
    if nulls:
        raise InputError(
            f"{' and '.join(nulls)} has nulls; pass closed trades only, with commission 0 where there was none",
            given=nulls,
            expected="closed trades",
        )
    ordered = trades.sort("closed_at", "opened_at", maintain_order=True)
    return ordered["realized_pnl"].cast(_SUM) - ordered["commission"].cast(_SUM)


def _require(frame: pl.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"no column {' and '.join(missing)} among {frame.columns}; give {', '.join(columns)}",
            given=frame.columns,
            expected=columns,
        )


def _decimal(value: object) -> Decimal | None:
    return value if isinstance(value, Decimal) else None


def _total(amounts: pl.Series) -> Decimal:
    return _decimal(amounts.sum()) or Decimal(0)


def _average(total: Decimal, count: int) -> Decimal | None:
    if not count:
        return None
    with exact():
        return cash(total / count)


def _longest_run(flags: pl.Series) -> int:
    return max(flags.rle().struct.unnest().filter("value")["len"].to_list(), default=0)
