"""Statistics as the cards and tables of a tearsheet; what is undefined shows as a dash."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl

from medalion.report.tearsheet import Card, Table, Tone
from medalion.stats.performance import PerformanceStatistics
from medalion.stats.trades import TradeStatistics

DASH = "—"


def percent(fraction: float | None, *, places: int = 2, sign: bool = False) -> str:
    """0.25 as `25.00%`."""
    return DASH if fraction is None else f"{fraction:{'+' if sign else ''},.{places}%}"


def ratio(value: float | None) -> str:
    """Two decimal places."""
    return DASH if value is None else f"{value:,.2f}"


def money(amount: Decimal | float | None, *, sign: bool = False) -> str:
    """Two decimal places with thousands separated; rounded for display."""
    return DASH if amount is None else f"{amount:{'+' if sign else ''},.2f}"


def plain(amount: Decimal | None) -> str:
    """Every decimal place there is, without trailing zeros."""
    if amount is None:
        return DASH
    text = f"{amount:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(at: date | datetime | None) -> str:
    """A date, or a time to the second in the zone it has."""
    if at is None:
        return DASH
    return f"{at:%Y-%m-%d %H:%M:%S}" if isinstance(at, datetime) else f"{at:%Y-%m-%d}"


def duration(length: timedelta | None) -> str:
    """The two largest units: `12d 3h`, `3h 20m`, `20m 5s`."""
    if length is None:
        return DASH
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {seconds}s"


def tone(value: Decimal | float | None) -> Tone:
    """Good above zero, bad below."""
    return Tone.NEUTRAL if not value else Tone.GOOD if value > 0 else Tone.BAD


def performance_cards(found: PerformanceStatistics) -> tuple[Card, ...]:
    """The six key figures of an account."""
    return (
        Card(
            "Total return",
            percent(found.total_return, sign=True),
            f"since {moment(_day(found.start))}",
            tone(found.total_return),
        ),
        Card("CAGR", percent(found.cagr, sign=True), "calendar years", tone(found.cagr)),
        Card("Sharpe ratio", ratio(found.sharpe_ratio), f"{found.periods_per_year:g} periods a year"),
        Card("Sortino ratio", ratio(found.sortino_ratio), f"above {percent(found.risk_free, places=1)}"),
        Card("Largest drawdown", percent(found.max_drawdown), "of the peak before"),
        Card("Volatility", percent(found.annual_volatility), "annual"),
    )


def performance_table(found: PerformanceStatistics) -> Table:
    """All statistics of an account, one a row."""
    rows = (
        ("Total return", percent(found.total_return)),
        ("Annual return (by count)", percent(found.annual_return)),
        ("CAGR (by calendar)", percent(found.cagr)),
        ("Annual volatility", percent(found.annual_volatility)),
        ("Sharpe ratio", ratio(found.sharpe_ratio)),
        ("Sortino ratio", ratio(found.sortino_ratio)),
        ("Calmar ratio", ratio(found.calmar_ratio)),
        ("Omega ratio", ratio(found.omega_ratio)),
        ("Largest drawdown", percent(found.max_drawdown)),
        ("Tail ratio", ratio(found.tail_ratio)),
        ("Value at risk, 5 %", percent(found.value_at_risk)),
        ("Expected shortfall, 5 %", percent(found.expected_shortfall)),
        ("Skewness", ratio(found.skewness)),
        ("Excess kurtosis", ratio(found.kurtosis)),
        ("Best period", percent(found.best_period)),
        ("Worst period", percent(found.worst_period)),
        ("Positive periods", percent(found.positive_periods)),
        ("Up capture", ratio(found.up_capture)),
        ("Down capture", ratio(found.down_capture)),
    )
    note = f"{found.periods:,} returns, {found.periods_per_year:g} a year; risk-free rate {percent(found.risk_free)}."
    return Table("Performance", ("Statistic", "Value"), rows, note)


def trade_table(found: TradeStatistics) -> Table:
    """All statistics of closed round trips, one a row."""
    rows = (
        ("Trades", f"{found.total_trades:,}"),
        ("Won", f"{found.winning_trades:,}"),
        ("Lost", f"{found.losing_trades:,}"),
        ("Win rate", percent(found.win_rate)),
        ("Net profit", money(found.net_profit)),
        ("Total profit", money(found.total_profit)),
        ("Total loss", money(found.total_loss)),
        ("Commissions", money(found.total_commissions)),
        ("Profit factor", ratio(found.profit_factor)),
        ("Payoff ratio", ratio(found.payoff_ratio)),
        ("Expectancy", money(found.expectancy)),
        ("Average profit", money(found.average_profit)),
        ("Average loss", money(found.average_loss)),
        ("Best trade", money(found.best)),
        ("Worst trade", money(found.worst)),
        ("Longest winning streak", f"{found.longest_winning_streak:,}"),
        ("Longest losing streak", f"{found.longest_losing_streak:,}"),
        ("Average holding time", duration(found.average_holding_time)),
    )
    return Table("Closed trades", ("Statistic", "Value"), rows, "Profit and loss are net of commission.")


def drawdown_rows(table: pl.DataFrame) -> Table:
    """The episodes that `medalion.stats.drawdown_table` found."""
    rows = tuple(
        (
            moment(_day(row["peak_at"])),
            moment(_day(row["trough_at"])),
            moment(_day(row["recovered_at"])) if row["recovered_at"] else "not yet",
            percent(row["drawdown"]),
            f"{row['length'].days:,} d",
        )
        for row in table.iter_rows(named=True)
    )
    return Table("Deepest drawdowns", ("Peak", "Trough", "Recovered", "Depth", "Length"), rows, wide=True)


def fills_table(fills: pl.DataFrame, *, last: int = 20) -> Table:
    """The `last` fills, newest first: `executed_at`, `symbol`, `side`, `quantity`, `price`, `commission`."""
    newest = fills.sort("executed_at", descending=True, maintain_order=True).head(last)
    rows = tuple(
        (
            moment(row["executed_at"]),
            str(row["symbol"]),
            str(row["side"]),
            plain(row["quantity"]),
            plain(row["price"]),
            plain(row["commission"]),
        )
        for row in newest.iter_rows(named=True)
    )
    header = ("Time (UTC)", "Symbol", "Side", "Quantity", "Price", "Commission")
    note = f"{newest.height:,} of {fills.height:,}." if newest.height < fills.height else ""
    return Table("Last fills", header, rows, note, wide=True)


def _day(at: date | datetime | None) -> date | None:
    return at.date() if isinstance(at, datetime) else at
