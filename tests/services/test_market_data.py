"""What the market data service stores is what it finds again; what is not known is refused."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from medalion.core.datasets import CRYPTO_BARS, STOCK_BARS
from medalion.core.enums import AssetType, OptionType
from medalion.core.errors import InputError, NotFoundError
from medalion.store.store import Store
from medalion.trading.views import MarketBarDto

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
YES, NO = "7" * 77, "8" * 77


def quote(symbol: str = "AAPL", **values: Any) -> dict[str, Any]:
    prices = {"bid_price": Decimal("9.99"), "bid_size": 3, "ask_price": Decimal("10.01"), "ask_size": 0.5}
    return {"symbol": symbol, "ts": NOON, **prices, **values}


def bar(minute: int = 0, **values: Any) -> dict[str, Any]:
    prices = {"open": "10", "high": "10.5", "low": "9.5", "close": "10.25", "volume": 1000}
    return {"symbol": "AAPL", "timeframe": "1Min", "ts": NOON + minute * MINUTE, **prices, **values}


def event(**values: Any) -> dict[str, Any]:
    outcomes = [{"token_id": YES, "outcome": "Yes"}, {"token_id": NO, "outcome": "No, or never"}]
    market = {"condition_id": "0xabc", "market_id": "512", "question": "Will it?", "outcomes": outcomes}
    return {"event_id": "e1", "title": "It", "tags": ["a, b", "c"], "markets": [market], **values}


@pytest.fixture(autouse=True)
def known(store: Store) -> None:
    store.market_data.create_or_update_asset("AAPL", name="Apple")
    store.market_data.create_or_update_asset("BTC/USD", asset_type=AssetType.CRYPTO)


def test_a_quote_stored_by_its_values_is_the_latest(store: Store) -> None:
    store.market_data.store_stock_quote(**quote(), source="feed")
    store.market_data.store_stock_quote(quote(ts=NOON + MINUTE, bid_price="10.00"), source="feed")
    found = store.market_data.get_latest_stock_quote("AAPL")
    assert found is not None
    assert found["ts"] == NOON + MINUTE
    assert (found["bid_price"], found["ask_size"], found["mid_price"]) == (
        Decimal("10.00000000"),
        Decimal("0.50000000"),
        Decimal("10.00500000"),
    )
    assert found["source"] == "feed"


def test_nothing_is_the_latest_of_a_symbol_without_quotes(store: Store) -> None:
    assert store.market_data.get_latest_crypto_quote("BTC/USD") is None


def test_many_bars_are_one_write_and_come_back_in_order(store: Store) -> None:
    written = store.market_data.store_stock_bars([bar(2), bar(0), bar(1)])
    assert written.rows == 3
    found = store.market_data.get_stock_bars("AAPL", "1m", NOON, NOON + 2 * MINUTE)
    assert found["ts"].to_list() == [NOON, NOON + MINUTE]


def test_a_bar_read_as_a_dto_is_stored_again_as_it_was(store: Store) -> None:
    store.market_data.store_stock_bar(bar(vwap="10.1"))
    row = store.market_data.get_stock_bars("AAPL", "1Min").row(0, named=True)
    store.market_data.store_stock_bar(MarketBarDto.of(row), source="again")
    again = store.read(STOCK_BARS, symbols="AAPL", source="again").row(0, named=True)
    assert MarketBarDto.of(again) == MarketBarDto.of(row)


def test_the_last_bars_are_found_however_far_apart_they_are(store: Store) -> None:
    store.market_data.store_crypto_bars(
        [{**bar(days * 1440), "symbol": "BTC/USD"} for days in (0, 40, 500, 501)],
    )
    for count in (1, 2, 3, 4, 5):
        found = store.market_data.get_latest_crypto_bars("BTC/USD", "1Min", count)
        assert found.equals(store.read(CRYPTO_BARS, symbols="BTC/USD", timeframe="1Min").tail(count))


def test_a_write_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(NotFoundError, match="MSFT"):
        store.market_data.store_stock_quote([quote(), quote("MSFT")])
    assert store.read("stock_quote_snapshots").is_empty()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bid_price": True},
        {"bid_price": "much"},
        {"bid_price": float("nan")},
        {"bid_price": Decimal("0.000000001")},
        {"ts": NOON.replace(tzinfo=None)},
        {"ts": 1709294400},
        {"symbol": 5},
        {"price": 1},
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_written(store: Store, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        store.market_data.store_stock_quote({**quote(), **wrong})
    assert store.read("stock_quote_snapshots").is_empty()


@pytest.mark.parametrize("rows", [None, "AAPL", 5, ["AAPL"]])
def test_what_is_no_row_is_refused(store: Store, rows: Any) -> None:
    with pytest.raises(InputError):
        store.market_data.store_stock_quote(rows)


def test_an_option_contract_is_stored_once_and_updated(store: Store) -> None:
    symbol = "AAPL240621C00190000"
    fields = {"expiration_date": datetime(2024, 6, 21).date(), "option_type": "call", "strike_price": 190}  # noqa: DTZ001
    with pytest.raises(NotFoundError, match="MSFT"):
        store.market_data.store_option_contract(symbol=symbol, underlying_symbol="MSFT", **fields)
    first = store.market_data.store_option_contract(symbol=symbol, underlying_symbol="AAPL", **fields)
    again = store.market_data.store_option_contract({"symbol": symbol, "open_interest": 12})
    assert (again.id, again.open_interest, again.option_type) == (first.id, 12, OptionType.CALL)
    store.market_data.store_option_quote(quote(symbol, implied_volatility="0.25", delta=0.5))
    found = store.market_data.get_latest_option_quote(symbol)
    assert found is not None
    assert (found["implied_volatility"], found["delta"]) == (Decimal("0.25"), Decimal("0.5"))


def test_an_event_is_stored_whole_and_updated_without_doubling(store: Store) -> None:
    first = store.market_data.store_polymarket_event(event())
    market = {
        "condition_id": "0xabc",
        "volume": 77,
        "outcomes": [{"token_id": NO, "outcome_index": 1, "price": Decimal("0.4")}],
    }
    again = store.market_data.store_polymarket_event(event(title="It, soon", total_volume=100, markets=[market]))
    assert (again.id, again.title, again.tags) == (first.id, "It, soon", ["a, b", "c"])
    assert again.total_volume == 100
    (stored,) = again.markets
    assert (stored.question, stored.volume) == ("Will it?", Decimal(77))
    assert [(o.token_id, o.outcome, o.price) for o in stored.outcomes] == [
        (YES, "Yes", None),
        (NO, "No, or never", Decimal("0.4")),
    ]


def test_an_event_with_a_bad_market_is_not_stored_at_all(store: Store) -> None:
    with pytest.raises(InputError, match="condition_id"):
        store.market_data.store_polymarket_event(event(markets=[{"question": "?"}]))
    assert store.polymarket_events.count() == 0


def test_rows_of_a_prediction_market_know_their_market_and_outcome(store: Store) -> None:
    store.market_data.store_polymarket_event(event())
    store.market_data.store_polymarket_snapshot(symbol=NO, ts=NOON, price=0.4)
    store.market_data.store_polymarket_trade(symbol=YES, ts=NOON, price=0.6, size=10, side="buy", trade_id="t1")
    found = store.market_data.get_latest_polymarket_snapshot(NO)
    assert found is not None
    assert (found["market_id"], found["outcome"], found["price"]) == ("0xabc", "No, or never", Decimal("0.4"))
    assert store.market_data.get_polymarket_snapshots(NO, NOON, NOON + MINUTE).height == 1
    assert store.market_data.get_latest_polymarket_snapshots(NO, 5).height == 1
    assert store.read("polymarket_trades", symbols=YES)["outcome"].to_list() == ["Yes"]


def test_a_book_says_how_much_is_offered_in_total(store: Store) -> None:
    store.market_data.store_polymarket_event(event())
    store.market_data.store_polymarket_order_book(
        symbol=YES, ts=NOON, bids=[("0.59", 10), {"price": 0.58, "size": "20.5"}], asks=[], total_ask_size=7
    )
    book = store.read("polymarket_order_book_snapshots", symbols=YES)
    assert book.select("total_bid_size", "total_ask_size").row(0) == (Decimal("30.5"), Decimal(7))
    assert book["bids"].to_list() == [
        [{"price": Decimal("0.59"), "size": Decimal(10)}, {"price": Decimal("0.58"), "size": Decimal("20.5")}]
    ]


@pytest.mark.parametrize("method", ["snapshot", "trade", "order_book"])
@pytest.mark.parametrize("wrong", [{"symbol": "9" * 77}, {"market_id": "0xdef"}])
def test_an_unknown_market_is_refused(store: Store, method: str, wrong: dict[str, str]) -> None:
    store.market_data.store_polymarket_event(event())
    rows: dict[str, dict[str, Any]] = {
        "snapshot": {"price": 0.5},
        "trade": {"price": 0.5, "size": 1},
        "order_book": {"bids": [], "asks": []},
    }
    with pytest.raises(NotFoundError):
        getattr(store.market_data, f"store_polymarket_{method}")({"symbol": YES, "ts": NOON, **rows[method], **wrong})


def test_an_asset_is_created_once_per_type_and_updated(store: Store) -> None:
    stock = store.market_data.get_asset_by_symbol("AAPL")
    again = store.market_data.create_or_update_asset("AAPL", exchange="NASDAQ")
    coin = store.market_data.create_or_update_asset("AAPL", asset_type="crypto", is_active=False)
    assert (again.id, again.name, again.exchange) == (stock.id, "Apple", "NASDAQ")
    assert coin.id != stock.id
    assert [asset.symbol for asset in store.market_data.get_active_assets()] == ["AAPL", "BTC/USD"]


def test_a_frame_belongs_to_another_method(store: Store) -> None:
    with pytest.raises(InputError, match=r"store\.write"):
        store.market_data.store_stock_bars(pl.DataFrame([bar()]))  # type: ignore[arg-type]  # which is what it says
