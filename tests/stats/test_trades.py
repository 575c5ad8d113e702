"""Statistics of trades are exact and agree with the sums of a real bot."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.errors import InputError
from medalion.stats.trades import excursions, trade_statistics
from tests.support.real_data import real

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def closed(*results: tuple[str, str], hours: int = 1) -> pl.DataFrame:
    """Round trips of (gross, commission), one after the other."""
    rows = [
        (NOON + timedelta(hours=n), NOON + timedelta(hours=n + hours), Decimal(gross), Decimal(commission))
        for n, (gross, commission) in enumerate(results)
    ]
    times = pl.Datetime("us", "UTC")
    money = pl.Decimal(18, 8)
    schema = {"opened_at": times, "closed_at": times, "realized_pnl": money, "commission": money}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_trade_statistics_subtract_commission_once() -> None:
    found = trade_statistics(closed(("10", "1"), ("-5", "1"), ("0.5", "0.5"), ("4", "1"), ("8", "2"), hours=2))
    assert (found.total_trades, found.winning_trades, found.losing_trades) == (5, 3, 1)
    assert found.total_profit == 18
    assert found.total_loss == 6
    assert found.net_profit == 12
    assert found.total_commissions == Decimal("5.5")
    assert (found.win_rate, found.profit_factor, found.payoff_ratio) == (0.6, 3.0, 1.0)
    assert found.average_profit == 6
    assert found.average_loss == 6
    assert found.expectancy == Decimal("2.4")
    assert found.best == 9
    assert found.worst == -6
    assert (found.longest_winning_streak, found.longest_losing_streak) == (2, 1)
    assert found.average_holding_time == timedelta(hours=2)


money = st.integers(-(10**12), 10**12).map(lambda units: Decimal(units).scaleb(-8))


@given(st.lists(st.tuples(money, money.map(abs)), max_size=20), st.randoms(use_true_random=False))
def test_trade_statistics_are_exact_and_do_not_depend_on_order(
    results: list[tuple[Decimal, Decimal]], random: object
) -> None:
    frame = closed(*((str(gross), str(commission)) for gross, commission in results))
    found = trade_statistics(frame)
    nets = [gross - commission for gross, commission in results]
    assert found.net_profit == found.total_profit - found.total_loss == sum(nets, Decimal(0))
    assert found.winning_trades == sum(net > 0 for net in nets)
    assert found.losing_trades == sum(net < 0 for net in nets)
    assert found.best == max(nets, default=None)
    assert trade_statistics(frame.reverse()) == found
    letters = "".join("w" if net > 0 else "l" if net < 0 else "-" for net in nets)
    assert found.longest_winning_streak == max(map(len, letters.replace("l", "-").split("-")))
    assert found.longest_losing_streak == max(map(len, letters.replace("w", "-").split("-")))


def test_a_book_without_trades_has_counts_of_zero_and_no_averages() -> None:
    found = trade_statistics(closed())
    assert (found.total_trades, found.net_profit, found.longest_losing_streak) == (0, Decimal(0), 0)
    undefined = [
        found.win_rate,
        found.average_profit,
        found.profit_factor,
        found.expectancy,
        found.average_holding_time,
    ]
    assert undefined == [None] * 5


def test_without_a_loss_the_profit_factor_is_undefined() -> None:
    found = trade_statistics(closed(("1", "0")))
    assert (found.profit_factor, found.payoff_ratio, found.average_loss) == (None, None, None)


def test_open_trades_and_float_money_are_refused() -> None:
    frame = closed(("1", "0"))
    with pytest.raises(InputError, match="closed trades only"):
        trade_statistics(frame.with_columns(closed_at=pl.lit(None, dtype=pl.Datetime("us", "UTC"))))
    with pytest.raises(InputError, match="realized_pnl is Float64"):
        trade_statistics(frame.cast({"realized_pnl": pl.Float64}))


def test_a_real_bots_trades_add_up() -> None:
    file = real("F10-cross-signal-data", "crashes_v1.csv")
    rows = pl.read_csv(file, schema_overrides={"pnl_usd": pl.String})
    trades = rows.select(
        pl.col("entry_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%z", time_zone="UTC").alias("opened_at"),
        pl.col("exit_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_zone="UTC").alias("closed_at"),
        pl.col("pnl_usd").str.to_decimal(scale=8).alias("realized_pnl"),
        pl.lit(Decimal(0), dtype=pl.Decimal(18, 8)).alias("commission"),
    )
    found = trade_statistics(trades)
    assert (found.total_trades, found.winning_trades) == (308, 247)
    assert found.net_profit == Decimal("231.1177")


def test_excursions_are_measured_inside_the_trade() -> None:
    minute = timedelta(minutes=1)
    bars = pl.DataFrame(
        {
            "symbol": ["A"] * 4,
            "ts": [NOON + n * minute for n in range(4)],
            "available_at": [NOON + (n + 1) * minute for n in range(4)],
            "high": [500.0, 120.0, 110.0, 500.0],
            "low": [1.0, 95.0, 80.0, 1.0],
        }
    )
    trades = pl.DataFrame(
        {
            "symbol": ["A", "A", "B"],
            "side": ["long", "short", "long"],
            "opened_at": [NOON + minute] * 3,
            "closed_at": [NOON + 3 * minute] * 3,
            "entry_price": [100.0, 100.0, 100.0],
        }
    )
    found = excursions(trades, bars)
    assert found["mae"].to_list() == [pytest.approx(0.2), pytest.approx(0.2), None]
    assert found["mfe"].to_list() == [pytest.approx(0.2), pytest.approx(0.2), None]
    gap = excursions(trades[:1].with_columns(entry_price=pl.lit(75.0)), bars)
    assert (gap["mae"][0], gap["mfe"][0]) == (0.0, pytest.approx(0.6))
