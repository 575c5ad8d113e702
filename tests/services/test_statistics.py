"""The value of an account by session, against sums by hand; and what the statistics make of it."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medalion.core.enums import SettlementType, TradeSide
from medalion.core.errors import InputError, NotFoundError
from medalion.core.money import cash
from medalion.positions.round_trips import Execution
from medalion.stats import equity as valuation
from medalion.store.store import Store
from oltp.entities.reference import Asset
from tests.support.books import Book
from tests.support.real_data import real

FRIDAY = datetime(2024, 3, 1, tzinfo=UTC)
MONDAY = FRIDAY + timedelta(days=3)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BUY, SELL = TradeSide.BUY, TradeSide.SELL


def execution(at: datetime, side: TradeSide, quantity: str | int, price: str | int, fee: str | int = 0) -> Execution:
    return Execution(at, f"{at.isoformat()}{side}", side, Decimal(quantity), Decimal(price), Decimal(fee))


def write_bars(
    store: Store, symbol: str, closes: Mapping[datetime, str | int], *, dataset: str = "stock_bars", frame: str = "1Day"
) -> None:
    rows = [
        {"symbol": symbol, "timeframe": frame, "ts": ts, **dict.fromkeys(("open", "high", "low", "close"), close)}
        for ts, close in closes.items()
    ]
    store.market_data.store(dataset, [{**row, "volume": 1} for row in rows])


def stock(store: Store, symbol: str = "AAPL", **fields: Any) -> Asset:
    found: Asset = store.market_data.create_or_update_asset(symbol, **fields)
    return found


def values_of(equity: pl.DataFrame) -> dict[date, int]:
    """Value by day, of frames in which every value is whole."""
    assert equity["value"].to_list() == equity["value"].cast(pl.Int64).to_list()
    return {ts.date(): int(value) for ts, value in equity.select("ts", "value").iter_rows()}


def rows_of(equity: pl.DataFrame) -> list[tuple[date, Decimal, Decimal, Decimal]]:
    return [(ts.date(), value, money, flow) for ts, value, money, flow in equity.iter_rows()]


@pytest.fixture
def book(store: Store) -> Book:
    """1000 in, 10 AAPL bought at 10 for a commission of 1, 500 in, 5 sold at 12."""
    book = Book.opened(store)
    asset = stock(store)
    write_bars(store, "AAPL", {FRIDAY: 10, MONDAY: 11, MONDAY + DAY: 12})
    book.deposit(FRIDAY + 9 * HOUR, 1000)
    book.deposit(MONDAY + 15 * HOUR, 500)
    book.trade(
        asset,
        [execution(FRIDAY + 15 * HOUR, BUY, 10, 10, 1), execution(MONDAY + DAY + 15 * HOUR, SELL, 5, 12)],
    )
    return book


BY_HAND = [
    (date(2024, 2, 29), Decimal(1000), Decimal(1000), Decimal(0)),
    (date(2024, 3, 1), Decimal(999), Decimal(899), Decimal(0)),
    (date(2024, 3, 4), Decimal(1509), Decimal(1399), Decimal(500)),
    (date(2024, 3, 5), Decimal(1519), Decimal(1459), Decimal(0)),
]


@pytest.mark.parametrize("mirrored", [False, True])
def test_value_is_cash_and_holdings_at_the_close_of_every_session(store: Store, book: Book, mirrored: bool) -> None:
    if mirrored:
        store.mirror.run()
        store.mirror.prune()
    assert rows_of(store.stats.equity(book.account)) == BY_HAND
    assert rows_of(store.stats.equity("paper", "2024-03-01", "2024-03-06")) == BY_HAND


def test_a_range_starts_with_the_session_before_it(store: Store, book: Book) -> None:
    found = rows_of(store.stats.equity("paper", MONDAY, MONDAY + DAY))
    assert found == [(*BY_HAND[1][:3], Decimal(0)), BY_HAND[2]]


def test_deposits_are_no_return(store: Store, book: Book) -> None:
    found = store.stats.performance("paper")
    assert found.total_return == pytest.approx(0.999 * (1009 / 999) * (1519 / 1509) - 1, rel=1e-12)
    assert (found.periods, found.periods_per_year) == (3, 252)


def test_a_summary_adds_up(store: Store, book: Book) -> None:
    found = store.stats.summary("paper", FRIDAY, MONDAY + 2 * DAY)
    assert [found.opening_value, found.closing_value, found.net_flow] == [1000, 1519, 500]
    assert found.profit == 19
    assert (found.sessions, found.currency, found.trades.total_trades) == (3, "USD", 0)


def test_a_day_of_bars_in_new_york_is_one_session(store: Store) -> None:
    book, asset = Book.opened(store), stock(store)
    midnight = FRIDAY + 5 * HOUR
    write_bars(store, "AAPL", {midnight: 10, midnight + 3 * DAY: 11})
    book.deposit(midnight, 100)
    book.trade(asset, [execution(midnight + 20 * HOUR, BUY, 1, 10)])
    found = values_of(store.stats.equity("paper"))
    assert found == {date(2024, 2, 29): 100, date(2024, 3, 1): 100, date(2024, 3, 4): 101}


def test_minute_bars_serve_where_there_are_no_daily_ones(store: Store) -> None:
    book, asset = Book.opened(store), stock(store)
    minutes = {FRIDAY + 15 * HOUR: 10, FRIDAY + 16 * HOUR: 12, MONDAY + 15 * HOUR: 11}
    write_bars(store, "AAPL", minutes, frame="1Min")
    book.deposit(FRIDAY + 14 * HOUR, 100)
    book.trade(asset, [execution(FRIDAY + 15 * HOUR, BUY, 1, 10)])
    found = values_of(store.stats.equity("paper"))
    assert found == {date(2024, 2, 29): 100, date(2024, 3, 1): 102, date(2024, 3, 4): 101}


def test_coins_are_valued_every_day_at_the_last_price_known(store: Store) -> None:
    book, coin = Book.opened(store), stock(store, "BTC/USD", asset_type="crypto")
    write_bars(store, "BTC/USD", {FRIDAY: 100, FRIDAY + 3 * DAY: 90}, dataset="crypto_bars")
    book.deposit(FRIDAY, 1000)
    book.trade(coin, [execution(FRIDAY + HOUR, SELL, 2, 105)])
    found = rows_of(store.stats.equity("paper", FRIDAY, FRIDAY + 5 * DAY))
    assert [row[1] for row in found] == [1000, 1010, 1010, 1010, 1030, 1030]
    assert store.stats.performance("paper").periods_per_year == 365


def test_options_count_their_multiplier_and_keep_their_underlyings_sessions(store: Store) -> None:
    book = Book.opened(store)
    stock(store)
    contract = store.market_data.store_option_contract(
        symbol="AAPL240621C00190000",
        underlying_symbol="AAPL",
        expiration_date=date(2024, 6, 21),
        option_type="call",
        strike_price=Decimal(190),
    )
    write_bars(store, "AAPL", {FRIDAY: 10, MONDAY: 11})
    sides: dict[str, Any] = {"bid_size": 1, "ask_size": 1}
    store.market_data.store_option_quote(
        symbol=contract.symbol, ts=FRIDAY + 15 * HOUR, bid_price="1.5", ask_price="1.7", **sides
    )
    book.deposit(FRIDAY, 1000)
    book.trade(contract, [execution(FRIDAY + 15 * HOUR, BUY, 2, 1)])
    found = values_of(store.stats.equity("paper"))
    assert found == {date(2024, 2, 29): 1000, date(2024, 3, 1): 1120, date(2024, 3, 4): 1120}


def test_outcomes_are_marked_with_their_snapshots(store: Store) -> None:
    book = Book.opened(store)
    outcome = {"token_id": "7" * 77, "outcome": "Yes"}
    market = {"condition_id": "0xabc", "question": "?", "outcomes": [outcome]}
    event = store.market_data.store_polymarket_event(event_id="e", title="?", markets=[market])
    token = event.markets[0].outcomes[0]
    store.market_data.store_polymarket_snapshot(symbol=token.token_id, ts=FRIDAY + 20 * HOUR, price="0.7")
    book.deposit(FRIDAY, 100)
    book.trade(token, [execution(FRIDAY + 10 * HOUR, BUY, 100, "0.6")])
    assert [row[1] for row in rows_of(store.stats.equity("paper"))] == [100, 110]


def test_a_split_changes_shares_and_not_the_value(store: Store) -> None:
    book, asset = Book.opened(store), stock(store)
    write_bars(store, "AAPL", {FRIDAY: 100, MONDAY: 25, MONDAY + DAY: 26})
    book.deposit(FRIDAY, 1000)
    (position,) = book.trade(asset, [execution(FRIDAY + 15 * HOUR, BUY, 10, 100)])
    store.settlements.create(
        account_id=book.account.id,
        instrument_id=position.instrument_id,
        position_id=position.id,
        settlement_type=SettlementType.SPLIT,
        event="split",
        quantity=Decimal(30),
        occurred_at=MONDAY + 5 * HOUR,
    )
    assert [row[1] for row in rows_of(store.stats.equity("paper"))] == [1000, 1000, 1000, 1040]


def test_a_busted_fill_counts_until_it_was_undone(store: Store) -> None:
    book, asset = Book.opened(store), stock(store)
    write_bars(store, "AAPL", {FRIDAY: 10, MONDAY: 11})
    book.deposit(FRIDAY, 1000)
    book.trade(asset, [execution(FRIDAY + 15 * HOUR, BUY, 10, 9)])
    (fill,) = store.fills.find()
    store.fills.update(fill.id, busted_at=MONDAY + HOUR)
    store.cash_movements.create(
        account_id=book.account.id, movement_type="adjustment", amount=Decimal(90), occurred_at=MONDAY + HOUR
    )
    assert [row[1] for row in rows_of(store.stats.equity("paper"))] == [1000, 1010, 1000]


def test_prices_can_be_read_as_they_were(store: Store, book: Book) -> None:
    then = store.jobs.run_statistics(account="paper").inputs["as_of"]
    write_bars(store, "AAPL", {MONDAY + DAY: 20})
    assert rows_of(store.stats.equity("paper", as_of=then)) == BY_HAND
    assert rows_of(store.stats.equity("paper"))[-1][1] == 1559


def test_accounts_do_not_see_each_other(store: Store, book: Book) -> None:
    other = Book.opened(store, "other")
    assert store.stats.equity("other").is_empty()
    assert store.stats.summary("other").closing_value is None
    other.deposit(FRIDAY, 5)
    assert [row[1] for row in rows_of(store.stats.equity("other"))] == [5, 5]
    assert rows_of(store.stats.equity("paper")) == BY_HAND


def test_an_account_without_money_has_no_performance(store: Store) -> None:
    book, asset = Book.opened(store), stock(store)
    write_bars(store, "AAPL", {FRIDAY: 10, MONDAY: 11})
    book.trade(asset, [execution(FRIDAY + 15 * HOUR, BUY, 10, 10)])
    found = store.stats.performance("paper")
    assert (found.total_return, found.sharpe_ratio, found.periods) == (None, None, 2)


def test_what_cannot_be_answered_is_refused(store: Store, book: Book) -> None:
    with pytest.raises(NotFoundError, match="paper"):
        store.stats.equity("papre")
    with pytest.raises(InputError, match="calendar"):
        store.stats.equity("paper", calendar="moon")
    with pytest.raises(InputError, match="before start"):
        store.stats.equity("paper", MONDAY, FRIDAY)
    book.deposit(FRIDAY, 1, currency="EUR")
    with pytest.raises(InputError, match="EUR, USD"):
        store.stats.equity("paper")


def test_the_308_trades_of_a_bot_give_their_sums(store: Store) -> None:
    """Real trades on 175 prediction markets; nothing but their own prices is known, so these mark what is open."""
    with real("F10-cross-signal-data", "crashes_v1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    markets = {row["market_id"]: row["question"] for row in rows}
    event = store.market_data.store_polymarket_event(
        event_id="all",
        title="All",
        markets=[
            {"condition_id": name, "question": question, "outcomes": [{"token_id": name, "outcome": "Yes"}]}
            for name, question in markets.items()
        ],
    )
    tokens = {market.condition_id: market.outcomes[0] for market in event.markets}
    book = Book.opened(store)
    book.deposit(datetime(2026, 3, 28, tzinfo=UTC), 1000)
    events: list[tuple[datetime, str, Decimal, Decimal]] = []
    net: list[Decimal] = []
    trips: list[tuple[Any, list[Execution]]] = []
    for row in rows:
        entered = datetime.fromisoformat(row["entry_time"]).astimezone(UTC)
        left = datetime.fromisoformat(row["exit_time"]).replace(tzinfo=UTC)
        shares, entry, exit_ = (Decimal(row[name]) for name in ("shares", "entry_price", "exit_price"))
        events += [(entered, row["market_id"], shares, entry), (left, row["market_id"], -shares, exit_)]
        net.append(cash(shares * exit_) - cash(shares * entry))
        trip = [
            Execution(entered, f"{row['trade_id']}-in", BUY, shares, entry),
            Execution(left, f"{row['trade_id']}-out", SELL, shares, exit_),
        ]
        trips.append((tokens[row["market_id"]], trip))
    book.trade_all(trips)
    found = store.stats.summary("paper", "2026-03-28", "2026-05-01")
    assert (found.closing_value, found.profit) == (1000 + sum(net), sum(net))
    assert (found.trades.total_trades, found.trades.net_profit) == (308, sum(net))
    assert found.trades.winning_trades == sum(amount > 0 for amount in net)
    assert found.sessions == 34
    by_day = dict(store.stats.equity("paper", "2026-03-28", "2026-05-01").select("ts", "value").iter_rows())
    for day, value in by_day.items():
        assert value == _folded(events, day + DAY)


def _folded(events: list[tuple[datetime, str, Decimal, Decimal]], before: datetime) -> Decimal:
    money, held, marks = Decimal(1000), defaultdict[str, Decimal](Decimal), dict[str, Decimal]()
    for at, name, shares, price in sorted(events):
        if at < before:
            money -= cash(shares * price)
            held[name] += shares
            marks[name] = price
    return money + sum((cash(shares * marks[name]) for name, shares in held.items()), Decimal(0))


AMOUNTS = st.decimals(min_value=-1000, max_value=1000, places=8, allow_nan=False)
PRICES = st.decimals(min_value=0, max_value=1000, places=8, allow_nan=False)
HOURS = st.integers(0, 24 * 6).map(lambda hours: FRIDAY + hours * HOUR)
INSTRUMENTS = st.integers(1, 3)


@example([], [(1, FRIDAY + DAY, Decimal("1E-8"), Decimal("0.50000001"))], [(1, FRIDAY + DAY, Decimal(0))])
@given(
    st.lists(st.tuples(HOURS, AMOUNTS, st.booleans())),
    st.lists(st.tuples(INSTRUMENTS, HOURS, AMOUNTS, PRICES), unique_by=lambda row: (row[0], row[1])),
    st.lists(st.tuples(INSTRUMENTS, HOURS, PRICES), unique_by=lambda row: (row[0], row[1])),
)
def test_value_by_session_is_the_fold_over_all_that_happened_before_its_end(
    moved: list[tuple[datetime, Decimal, bool]],
    changed: list[tuple[int, datetime, Decimal, Decimal]],
    known: list[tuple[int, datetime, Decimal]],
) -> None:
    sessions = valuation.every_day(FRIDAY, FRIDAY + 4 * DAY)
    deposits = [(at, amount, amount if is_flow else Decimal(0)) for at, amount, is_flow in moved]
    found = valuation.equity_by_session(
        sessions,
        cash=pl.DataFrame(deposits, schema=valuation.CASH, orient="row"),
        changes=pl.DataFrame(changed, schema=valuation.CHANGES, orient="row"),
        closes=pl.DataFrame(known, schema=valuation.CLOSES, orient="row"),
    )
    before = Decimal(0)
    for end, (_, value, money, flow) in zip(sessions["end"], found.iter_rows(), strict=True):
        expected = sum((amount for at, amount, _ in deposits if at < end), Decimal(0))
        flows = sum((part for at, _, part in deposits if at < end), Decimal(0))
        assert (money, flow) == (expected, flows - before)
        before = flows
        for instrument in {row[0] for row in changed}:
            units = sum((row[2] for row in changed if row[0] == instrument and row[1] < end), Decimal(0))
            marks = [(at, 0, price) for name, at, _, price in changed if name == instrument and at < end]
            marks += [(at, 1, price) for name, at, price in known if name == instrument and at <= end]
            expected += cash(units * max(marks)[2]) if units else 0
        assert value == expected
