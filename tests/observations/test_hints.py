"""Errors that propose a call propose one that works, and an empty answer says what there is instead."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import medalion
from medalion.core.errors import EmptyResultWarning, InputError, MedalionError, NotFoundError
from medalion.store.store import Store
from tests.support.observed import instruments

DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3, 4)]
OCC = "AAPL240119C00190500"


@pytest.fixture
def stocked(store: Store) -> Store:
    """Daily bars of a stock, quotes of a coin, and an account."""
    store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
    store.assets.create(symbol="BTC/USD", name="Bitcoin", asset_type="crypto")
    bars = pl.DataFrame({"symbol": ["AAPL"] * 3, "timeframe": ["1Day"] * 3, "ts": DAYS, "volume": [1] * 3})
    store.write("stock_bars", bars.with_columns(pl.lit(185).alias(name) for name in ("open", "high", "low", "close")))
    quote = {"bid_price": [1], "bid_size": [1], "ask_price": [2], "ask_size": [1]}
    store.write("crypto_quote_snapshots", pl.DataFrame({"symbol": ["BTC/USD"], "ts": DAYS[:1], **quote}))
    store.accounts.create(name="paper")
    return store


def paste(store: Store, error: MedalionError) -> None:
    """Do what the error says, until it says nothing more."""
    calls = re.findall(r"`(.*?)`", str(error))
    assert calls, error
    for call in calls:
        names: dict[str, Any] = {"store": store}
        try:
            exec(call, names)  # noqa: S102 - it is what a reader would do
        except NotFoundError as deeper:
            paste(store, deeper)
            exec(call, names)  # noqa: S102 - it is what a reader would do


REFUSED: dict[str, Callable[[Store], object]] = {
    "a stock": lambda store: store.bars("MSFT", "1Day"),
    "a stock of several": lambda store: store.bars(["AAPL", "MSFT"], "1Day"),
    "a coin": lambda store: store.read("crypto_bars", symbols="ETH/USD"),
    "quotes": lambda store: store.quotes("MSFT"),
    "an option": lambda store: store.read("option_quote_snapshots", symbols=OCC),
    "the option of a stock not known": lambda store: store.latest("option_quote_snapshots", "F240119P00011000"),
    "what is asked about": lambda store: store.coverage("stock_bars", symbols="MSFT"),
    "what is written": lambda store: _write_as(store, "X"),
    "what is ordered": lambda store: store.trading.execute_market_order(
        account="paper", symbol="MSFT", side="buy", quantity=1
    ),
    "what has another kind": lambda store: store.bars(OCC, "1Day"),
}


@pytest.mark.filterwarnings("ignore::medalion.EmptyResultWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_a_proposed_call_works_when_pasted(stocked: Store, case: str) -> None:
    if case == "what has another kind":
        contract = {"symbol": OCC, "underlying_symbol": "AAPL", "expiration_date": date(2024, 1, 19)}
        stocked.market_data.store_option_contract(**contract, option_type="call", strike_price=Decimal("190.5"))
    with pytest.raises(MedalionError) as caught:
        REFUSED[case](stocked)
    paste(stocked, caught.value)
    if case not in ("what is ordered", "what has another kind"):  # without a quote, and of a kind without bars
        REFUSED[case](stocked)


def test_the_terms_of_an_option_are_those_of_its_symbol(stocked: Store) -> None:
    with pytest.raises(NotFoundError) as caught:
        stocked.read("option_quote_snapshots", symbols=OCC)
    paste(stocked, caught.value)
    made = stocked.option_contracts.by_symbol(OCC)
    assert (made.expiration_date, made.strike_price, made.option_type) == (date(2024, 1, 19), Decimal("190.5"), "call")


def test_a_name_in_other_case_is_named(stocked: Store) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'AAPL'"):
        stocked.bars("aapl", "1Day")
    with pytest.raises(NotFoundError, match="did you mean 'BTC/USD'"):
        stocked.read("crypto_bars", symbols="btc/usd")
    with pytest.raises(NotFoundError) as caught:
        stocked.bars("BTC/USDT", "1Day")
    assert "did you mean 'BTC/USD'?" in str(caught.value)


def test_symbols_of_two_kinds_are_told_apart(stocked: Store) -> None:
    with pytest.raises(InputError, match=re.escape("['BTC/USD'] (crypto) and ['AAPL'] (stock)")):
        stocked.bars(["AAPL", "BTC/USD"], "1Day")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda store: store.bars("AAPL", "7Min"),
            "there is AAPL 1Day from 2024-01-02 to 2024-01-04 (manual); none of 7Min",
        ),
        (
            lambda store: store.bars("AAPL", "1Day", start="2025-01-01"),
            "no 1Day rows of stock_bars for AAPL from 2025-01-01",
        ),
        (lambda store: store.bars("BTC/USD", "1Min", end="2023-01-01"), "quotes BTC/USD from 2024-01-02"),
        (lambda store: store.quotes("AAPL"), "no rows of stock_quote_snapshots for AAPL; nothing of it is stored"),
        (lambda store: store.read("crypto_bars"), "no rows of crypto_bars; nothing is stored in it"),
        (lambda store: store.read("stock_bars", end="2024-01-01"), "until 2024-01-01; there is AAPL 1Day"),
    ],
)
def test_an_empty_answer_says_what_there_is(stocked: Store, ask: Callable[[Store], pl.DataFrame], said: str) -> None:
    with pytest.warns(EmptyResultWarning) as warned:
        rows = ask(stocked)
    assert rows.is_empty()
    (one,) = warned
    assert said in str(one.message)
    assert one.filename == __file__
    assert medalion.EmptyResultWarning is EmptyResultWarning


@pytest.mark.filterwarnings("error::medalion.EmptyResultWarning")
def test_whoever_gets_rows_is_not_warned(stocked: Store) -> None:
    assert stocked.bars("AAPL", "1Week", start="2024-01-01").height == 1
    assert stocked.delete("stock_bars", symbols="AAPL", start="2025-01-01") == 0


def test_floats_are_floats_all_the_way_down(stocked: Store) -> None:
    stocked.write("polymarket_order_book_snapshots", _book(stocked))
    frames = [
        stocked.read("stock_bars", floats=True),
        stocked.scan("stock_bars", floats=True).collect(),
        stocked.bars("AAPL", "1Week", floats=True),
        stocked.quotes("BTC/USD", floats=True),
        stocked.asof(pl.DataFrame({"symbol": ["AAPL"], "ts": DAYS[2:]}), "stock_bars", timeframe="1Day", floats=True),
        stocked.read("polymarket_order_book_snapshots", floats=True),
        stocked.market_data.last("stock_bars", "AAPL", timeframe="1Day", floats=True),
        stocked.market_data.get_stock_bars("AAPL", "1Day", floats=True),
        stocked.stats.equity("paper", floats=True),
        stocked.coverage(floats=True),
    ]
    for frame in frames:
        assert "Decimal" not in str(frame.schema), frame.schema
    assert stocked.read("stock_bars", columns="close", floats=True).to_pandas()["close"].mean() == 185.0


def _write_as(store: Store, symbol: str) -> None:
    rows = store.read("stock_bars", columns=["timeframe", "ts", "open", "high", "low", "close", "volume"])
    store.write("stock_bars", rows.with_columns(symbol=pl.lit(symbol)))


def _book(store: Store) -> pl.DataFrame:
    instruments(store, medalion.InstrumentKind.OUTCOME, ("token",))
    level = [{"price": Decimal("0.5"), "size": Decimal(10)}]
    return pl.DataFrame({"symbol": ["token"], "ts": DAYS[:1], "bids": [level], "asks": [level]})
