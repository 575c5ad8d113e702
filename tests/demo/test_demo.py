"""The demo on its real data: what is read, what the strategy knew, what the books hold, and that twice is once."""

import io
import sys
from collections import deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import anyio
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import medalion
from medalion.core.enums import InstrumentKind, TradeSide
from medalion.core.errors import InputError, MedalionError, NotFoundError
from medalion.demo import bot, loading, run, sources
from medalion.demo.replay import Broker, ReplayMarket, ReplayResult, replay, session_open
from medalion.demo.strategy import Cross, MovingAverageCross, shares_for
from medalion.demo.tearsheet import biggest_upset
from medalion.market.instrument import Instrument
from medalion.store.store import Store

pytest.importorskip("bokeh_sampledata")

SPRING = datetime(2000, 2, 25, tzinfo=UTC)
EXCHANGE = ZoneInfo("America/New_York")
AAPL_SPLITS = [(day, Fraction(2)) for symbol, day in loading.SPLITS if symbol == "AAPL"]
closes = st.lists(st.decimals("0.01", "999", places=2), min_size=4, max_size=40)


def crosses(
    bars: Iterable[tuple[datetime, Decimal]], splits: Iterable[tuple[date, Fraction]], *, fast: int = 20, slow: int = 50
) -> list[tuple[datetime, Cross]]:
    """Every cross of bars (`ts`, close as traded), oldest first; a split is known when the bar of its ex-date comes."""
    average = MovingAverageCross(fast, slow)
    coming = deque(sorted(splits))
    found = []
    for ts, close in bars:
        while coming and coming[0][0] <= ts.date():
            average.split(coming.popleft()[1])
        if (cross := average.close(close)) is not None:
            found.append((ts, cross))
    return found


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return sources.stock_bars()


@pytest.fixture(scope="module")
def books() -> pl.DataFrame:
    return sources.polymarket_books()


def closes_of(bars: pl.DataFrame, symbol: str) -> list[tuple[datetime, Decimal]]:
    rows = bars.filter(pl.col("symbol") == symbol)
    return list(zip(rows["ts"], rows["close"], strict=True))


def test_bars_are_the_numbers_of_the_file_to_the_last_digit(bars: pl.DataFrame) -> None:
    text = pl.read_csv(sources.data_file(sources.STOCKS_SOURCE), infer_schema=False)
    assert bars.height == text.height == 12_154
    for name in ("open", "high", "low", "close", "volume"):
        assert bars[name].to_list() == [Decimal(number) for number in text[name.title()]]


def test_a_daily_bar_begins_at_midnight_in_new_york(bars: pl.DataFrame) -> None:
    local = bars["ts"].dt.convert_time_zone("America/New_York")
    assert (local.dt.time() == datetime.min.time()).all()
    assert local.dt.date().min() == date(2000, 3, 1)


@pytest.mark.parametrize(("symbol", "day"), loading.SPLITS)
def test_prices_halve_where_a_split_is_known(bars: pl.DataFrame, symbol: str, day: date) -> None:
    around = [price for ts, price in closes_of(bars, symbol) if abs(ts.date() - day) < timedelta(days=5)]
    later = [price for ts, price in closes_of(bars, symbol) if ts.date() == day]
    before = around[around.index(later[0]) - 1]
    assert Decimal("1.7") < before / later[0] < Decimal("2.1")


def test_books_and_snapshots_keep_what_is_odd(books: pl.DataFrame) -> None:
    snapshots = sources.polymarket_snapshots(books)
    assert books.height == snapshots.height == 38_333
    assert (snapshots["bid"].null_count(), snapshots["ask"].null_count()) == (1_624, 1_622)
    assert snapshots.filter(pl.col("bid") >= pl.col("ask")).height == 22
    assert snapshots["price"].null_count() == 1_624 + 1_622
    two_sided = snapshots.drop_nulls()
    assert (two_sided["price"] * 2 == two_sided["bid"] + two_sided["ask"]).all()


def test_best_levels_come_first_and_totals_add_up(books: pl.DataFrame) -> None:
    for side, total, best in (("bids", "total_bid_size", max), ("asks", "total_ask_size", min)):
        for levels, size in zip(books[side][::997], books[total][::997], strict=True):
            rows = levels.to_list()
            assert not rows or rows[0]["price"] == best(level["price"] for level in rows)
            assert size == sum((level["size"] for level in rows), Decimal(0))


def test_every_market_has_one_winner_and_two_books() -> None:
    markets = sources.polymarket_markets()
    assert markets.height == 18
    assert set(markets["winner"]) == {"UP", "DOWN"}
    assert (markets["end"] - markets["start"] == timedelta(minutes=15)).all()


def test_the_bots_fills_make_what_it_states_but_for_its_last_eleven_trades() -> None:
    trades = sorted(sources.bot_trades(), key=lambda trade: trade.number)
    differ = [trade.number for trade in trades if abs(trade.pnl - trade.stated_pnl) > Decimal("0.006")]
    assert (len(trades), differ) == (308, list(range(297, 308)))
    assert bot.stated_pnl(trades) == Decimal("231.1177")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resolvedkit", None)
    with pytest.raises(
        MedalionError, match=r"resolvedkit, which is not installed; run: pip install 'medalion\[demo\]'"
    ):
        run()


@given(closes, st.integers(1, 3), st.integers(1, 4))
def test_a_cross_is_where_the_sign_of_the_difference_turns(prices: list[Decimal], fast: int, more: int) -> None:
    slow, average = fast + more, MovingAverageCross(fast, fast + more)
    above: bool | None = None
    for place, price in enumerate(prices, 1):
        cross = average.close(price)
        seen = [Fraction(one) for one in prices[:place]]
        means = [sum(seen[-length:]) / length for length in (fast, slow)] if place >= slow else [Fraction(0)] * 2
        before, above = above, (means[0] > means[1] if means[0] != means[1] else above)
        turned = before is not None and before is not above
        assert (cross is not None) == turned
        if cross is not None:
            assert (cross.side is TradeSide.BUY) == above


@given(closes, st.integers(0, 39), st.fractions("1/5", 5).filter(bool))
def test_a_split_known_on_its_day_gives_the_crosses_of_the_adjusted_series(
    prices: list[Decimal], place: int, ratio: Fraction
) -> None:
    day = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(len(prices))]
    traded = [price if n < place else price * ratio.denominator for n, price in enumerate(prices)]
    adjusted = [price * ratio.denominator if n < place else price * ratio.numerator for n, price in enumerate(traded)]
    splits = [(day[place].date(), ratio)] if place < len(day) else []
    as_traded = crosses(zip(day, traded, strict=True), splits, fast=2, slow=3)
    as_adjusted = crosses(zip(day, adjusted, strict=True), [], fast=2, slow=3)
    assert [(ts, cross.side) for ts, cross in as_traded] == [(ts, cross.side) for ts, cross in as_adjusted]


@given(closes, st.integers(0, 40))
def test_no_cross_depends_on_a_later_bar(prices: list[Decimal], place: int) -> None:
    day = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(len(prices))]
    rows = list(zip(day, prices, strict=True))
    all_of_them = crosses(rows, [], fast=2, slow=3)
    assert crosses(rows[:place], [], fast=2, slow=3) == [found for found in all_of_them if found[0] in day[:place]]


def test_unknown_splits_would_make_phantom_crosses(bars: pl.DataFrame) -> None:
    rows = closes_of(bars, "AAPL")
    known, unknown = ({ts.date() for ts, _ in crosses(rows, splits)} for splits in (AAPL_SPLITS, []))
    assert unknown - known == {date(2005, 3, 9)}
    assert len(known - unknown) == 3


def test_averages_must_differ_in_length() -> None:
    with pytest.raises(InputError, match="the fast one must be the shorter"):
        MovingAverageCross(50, 20)


@given(*[st.decimals("0.01", "100000", places=2)] * 3, st.decimals("0.01", "1", places=2))
def test_shares_are_whole_and_within_cash_and_fraction(
    equity: Decimal, cash_held: Decimal, price: Decimal, fraction: Decimal
) -> None:
    shares = shares_for(equity=equity, cash_held=cash_held, fraction=fraction, price=price)
    assert shares == int(shares) >= 0
    assert shares * price <= min(equity * fraction, cash_held)


def known_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """As a read returns them."""
    return bars.with_columns(available_at=pl.col("ts") + timedelta(days=1), source=pl.lit("demo"))


@given(at=st.integers(0, 70 * 24 * 60).map(lambda minutes: SPRING + timedelta(minutes=minutes)))
def test_the_market_never_shows_what_was_not_known(bars: pl.DataFrame, at: datetime) -> None:
    market = ReplayMarket(known_bars(bars.filter(pl.col("ts") < SPRING + timedelta(days=60))))
    instrument = Instrument(InstrumentKind.STOCK, 1, "AAPL")
    quote, seen = anyio.run(market.at, instrument, at), anyio.run(market.snapshot, instrument, at)
    if quote is not None:
        assert quote.ts <= at
    if seen is not None:
        assert seen["available_at"] <= at


def test_orders_meet_the_open_and_marks_the_close(bars: pl.DataFrame) -> None:
    rows = known_bars(bars.filter(pl.col("symbol") == "AAPL"))
    market, instrument = ReplayMarket(rows), Instrument(InstrumentKind.STOCK, 1, "AAPL")
    second = rows.row(1, named=True)
    opens = session_open(second["ts"])
    assert opens.astimezone(EXCHANGE).hour == 9
    for at, price in (
        (opens - timedelta(seconds=1), rows["close"][0]),
        (opens, second["open"]),
        (second["available_at"], second["close"]),
    ):
        quote = anyio.run(market.at, instrument, at)
        assert quote is not None
        assert (quote.bid, quote.ask) == (price, price)


def replayed(store: Store, **span: Any) -> tuple[Any, ReplayResult]:
    """The strategy over a part of the store's bars, in the account `demo`."""
    market = ReplayMarket(store.read("stock_bars", timeframe="1Day", **span))
    trading = store.backtest(market)
    account = store.accounts.first(name="demo") or store.accounts.create(name="demo", account_type="backtest")
    if not store.cash_movements.by_account(account):
        trading.deposit(account, 10_000, at=market.sessions()[0][0]["ts"])
    strategy = store.strategies.first(name="cross") or store.strategies.create(name="cross")
    symbols = {asset.id: asset.symbol for asset in store.assets.find()}
    done = replay(
        market,
        Broker(store=store, trading=trading, account=account, strategy=strategy),
        deposit=Decimal(10_000),
        fraction=Decimal("0.3"),
        windows=(10, 20),
        actions=[(symbols[action.asset_id], action) for action in store.corporate_actions.find()],
        on_day=lambda day: None,
    )
    trading.mark_to_market(account=account, at=market.ends_at)
    return trading, done


@pytest.fixture
def stocks(store: Store, bars: pl.DataFrame) -> Store:
    """With the bars of two stocks around a split and a special dividend."""
    loading.make_stocks(store)
    first, last = datetime(2004, 6, 1, tzinfo=UTC), datetime(2005, 6, 1, tzinfo=UTC)
    kept = bars.filter(pl.col("symbol").is_in(["AAPL", "MSFT"]), pl.col("ts").is_between(first, last))
    store.write("stock_bars", kept, source="demo")
    return store


def test_the_books_agree_with_what_the_strategy_believes(stocks: Store) -> None:
    trading, done = replayed(stocks)
    summary = trading.get_portfolio_summary("demo")
    held = {position.symbol: position.remaining_quantity for position in summary.open_positions}
    assert summary.cash == done.book.cash
    assert held == {symbol: shares for symbol, shares in done.book.shares.items() if shares}
    assert summary.equity == done.equity["value"][-1]
    assert stocks.stats.equity("demo")["value"][1:].to_list() == done.equity["value"].to_list()


def test_a_position_is_held_through_a_split_and_paid_a_dividend(stocks: Store) -> None:
    _, done = replayed(stocks)
    kinds = {settlement.settlement_type.value for settlement in stocks.settlements.find()}
    assert kinds == {"split", "dividend"}
    day = done.equity.filter(pl.col("ts").is_between(date(2005, 2, 25), date(2005, 2, 28)))["value"].to_list()
    assert abs(day[1] / day[0] - 1) < Decimal("0.02")


def test_every_trade_tells_its_signal_and_what_was_seen(stocks: Store) -> None:
    replayed(stocks)
    trades = stocks.trades.find()
    assert trades
    for trade in trades:
        assert trade.signal_id is not None
        assert trade.alpaca_market_data_snapshot is not None
        assert trade.executed_at is not None
        signal = stocks.signals.get(trade.signal_id)
        seen = trade.alpaca_market_data_snapshot["decision"]["seen"][trade.symbol]
        assert signal.was_acted_upon
        assert signal.signal_timestamp < trade.executed_at
        assert Decimal(seen["close"]) == Decimal(signal.source_data["bar"]["close"])
        assert datetime.fromisoformat(seen["available_at"]) == signal.signal_timestamp


def test_a_replay_that_was_stopped_goes_on_and_a_second_adds_nothing(stocks: Store) -> None:
    replayed(stocks, end="2005-03-10")
    _, whole = replayed(stocks)
    counts = [len(rows.find()) for rows in (stocks.trades, stocks.fills, stocks.signals, stocks.settlements)]
    trading, again = replayed(stocks)
    assert [len(rows.find()) for rows in (stocks.trades, stocks.fills, stocks.signals, stocks.settlements)] == counts
    assert counts[:3] == [whole.trades, whole.trades, whole.signals]
    assert again.equity.equals(whole.equity)
    assert trading.get_portfolio_summary("demo").cash == whole.book.cash


def test_recorded_orders_are_known_and_others_are_not() -> None:
    record = bot.Record(sources.bot_trades())
    account = uuid4()
    assert anyio.run(record.find_order, account, "bot-999-buy") is None
    with pytest.raises(NotFoundError, match="bot-999-buy"):
        anyio.run(record.cancel, account, "bot-999-buy", datetime(2026, 4, 1, tzinfo=UTC))


def test_the_biggest_upset_won_from_far_behind(books: pl.DataFrame) -> None:
    upset = biggest_upset(sources.polymarket_snapshots(books), sources.polymarket_markets())
    assert upset.lowest < 0.2
    assert upset.path["bid"][-1] > Decimal("0.95")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_demo_runs_a_second_run_adds_nothing_and_the_notebooks_run_on_it(
    database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALION_DATABASE_URL", database_url)
    monkeypatch.setenv("MEDALION_DATA_DIR", str(data_dir))
    counted = (
        "SELECT (SELECT count(*) FROM stock_bars), (SELECT count(*) FROM polymarket_order_book_snapshots), "
        "(SELECT count(*) FROM trades), (SELECT count(*) FROM fills), (SELECT count(*) FROM cash_movements), "
        "(SELECT count(*) FROM trading_signals), (SELECT sum(realized_pnl) FROM positions)"
    )
    told, counts = [], []
    for _ in range(2):
        console = Console(file=io.StringIO(), width=140)
        path = run(data_dir, console)
        told.append(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO
        with medalion.open(data_dir=data_dir) as store:
            counts.append(store.sql(counted).fetchall())
            bot_pnl = sum(
                position.realized_pnl
                for position in store.positions.by_strategy(store.strategies.by_name("crash-recovery").id)
            )
    assert counts[0] == counts[1]
    assert counts[0][0][:2] == (12_154, 38_333)
    assert bot_pnl == sum(trade.pnl for trade in sources.bot_trades())
    page = path.read_text(encoding="utf-8")
    assert path == data_dir / "reports" / "demo.html"
    for title in ("Account value", "Drawdown", "AAPL with the strategy", "Polymarket: Bitcoin Up or Down"):
        assert title in page
    for said in ("nothing of the range is in the lake yet", "Portfolios", "Win rate", "Sharpe ratio"):
        assert said in told[0]
    assert "was there" in told[1]
    tables = [text[text.index("Portfolios") : text.index("The report")] for text in told]
    assert tables[0] == tables[1]
    for notebook in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
        run_notebook(notebook)


def run_notebook(path: Path) -> None:
    """Every cell of it, over the store that the environment names."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    nbclient.NotebookClient(nbformat.read(path, as_version=4), timeout=300, kernel_name="python3").execute()
