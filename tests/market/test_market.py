"""What the stored market shows: quotes first, the newest closed bar else, and the read models' exact copies."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from medalion.core.enums import InstrumentKind, SignalType, TradeSide
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote, StoredMarket, look, quote_of
from medalion.store.store import Store
from medalion.trading.views import AssetDto, MarketBarDto, PolymarketEventDto, StrategyDto, TradingSignalDto
from oltp.entities.base import uuid7
from oltp.entities.reference import Asset, PolymarketEvent
from oltp.entities.trading import Strategy, TradingSignal

pytestmark = pytest.mark.anyio
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SIDES = ("bid_price", "ask_price")


def bar(close: str, ts: datetime, length: timedelta) -> dict[str, Any]:
    return {"close": Decimal(close), "ts": ts, "available_at": ts + length, "source": "sip"}


Rows = dict[tuple[str, str | None], dict[str, Any]]
QUOTE: dict[str, Any] = {
    "bid_price": Decimal(9),
    "bid_size": Decimal(3),
    "ask_price": Decimal("9.01"),
    "ask_size": None,
    "ts": NOON,
    "source": "iex",
}
BARS: Rows = {
    ("stock_bars", "1Min"): bar("11", NOON, MINUTE),
    ("stock_bars", "1Day"): bar("10", NOON, timedelta(hours=-1)),
}


class Shelf:
    """Stored rows of "X": the newest of each series, and what was newest an hour before."""

    def __init__(self, rows: Rows, earlier: Rows) -> None:
        self._rows = rows
        self._earlier = earlier

    async def latest(self, dataset: str, symbol: str, /, *, timeframe: str | None = None) -> dict[str, Any] | None:
        return self._rows.get((dataset, timeframe)) if symbol == "X" else None

    async def latest_at(
        self, dataset: str, symbol: str, t: datetime, /, *, timeframe: str | None = None
    ) -> dict[str, Any] | None:
        return self._earlier.get((dataset, timeframe)) if symbol == "X" else None


def market(rows: Rows, earlier: Rows | None = None) -> StoredMarket:
    return StoredMarket(Shelf(rows, earlier or {}))


@pytest.mark.parametrize(
    ("kind", "rows", "bid", "ask"),
    [
        ("stock", {("stock_quote_snapshots", None): QUOTE, **BARS}, "9", "9.01"),
        ("stock", BARS, "11", "11"),
        ("crypto", {("crypto_quote_snapshots", None): QUOTE}, "9", "9.01"),
        ("option", {("option_quote_snapshots", None): QUOTE}, "9", "9.01"),
        (
            "outcome",
            {("polymarket_snapshots", None): {"price": Decimal("0.5"), "bid": Decimal("0.4"), "ask": None, "ts": NOON}},
            "0.4",
            None,
        ),
        (
            "outcome",
            {("polymarket_snapshots", None): {"price": Decimal("0.5"), "bid": None, "ask": None, "ts": NOON}},
            "0.5",
            "0.5",
        ),
    ],
)
async def test_a_quote_is_the_newest_stored_quote_else_the_last_close(
    kind: str, rows: Rows, bid: str, ask: str | None
) -> None:
    found = await market(rows).now(Instrument(InstrumentKind(kind), 1, "X"))
    assert found is not None
    assert (found.bid, found.ask) == (Decimal(bid), None if ask is None else Decimal(ask))
    shown = rows.get((f"{kind}_quote_snapshots", None), {})
    assert (found.bid_size, found.ask_size) == (shown.get("bid_size"), shown.get("ask_size"))


@pytest.mark.parametrize("kind", [InstrumentKind.STOCK, InstrumentKind.FOREX, InstrumentKind.OUTCOME])
async def test_nothing_stored_is_no_quote(kind: InstrumentKind) -> None:
    assert await market({}).now(Instrument(kind, 1, "X")) is None
    assert await market({}).at(Instrument(kind, 1, "X"), NOON) is None
    assert await market({}).snapshot(Instrument(kind, 1, "X"), NOON) is None


def test_a_buy_meets_the_ask_a_sell_the_bid_and_a_mark_is_between() -> None:
    quote = Quote(Decimal("9.99"), Decimal("10.02"), NOON)
    assert quote.price_for(TradeSide.BUY) == Decimal("10.02")
    assert quote.price_for(TradeSide.SELL) == Decimal("9.99")
    assert quote.mark == Decimal("10.005")
    sized = Quote(None, None, NOON, bid_size=Decimal(1), ask_size=Decimal(2))
    assert [sized.size_for(side) for side in (TradeSide.BUY, TradeSide.SELL)] == [2, 1]
    assert Quote(None, Decimal(3), NOON).mark == Quote(Decimal(3), None, NOON).mark == Decimal(3)
    assert Quote(None, None, NOON).mark is None


def test_read_models_copy_the_entity() -> None:
    asset = Asset(id=uuid7(), symbol="AAPL", name="Apple", min_order_quantity=Decimal("0.1"))
    strategy = Strategy(id=uuid7(), name="momentum", max_daily_loss=Decimal("250.5"), configuration={"window": 5})
    event = PolymarketEvent(id=uuid7(), event_id="1", title="Will it?", tags=["a, b"], total_volume=Decimal("1.5"))
    signal = TradingSignal(
        id=uuid7(),
        strategy_id=strategy.id,
        symbol="AAPL",
        signal_type=SignalType.BUY,
        confidence=Decimal("66.6"),
        signal_timestamp=NOON,
    )
    for model, entity in (
        (AssetDto, asset),
        (StrategyDto, strategy),
        (PolymarketEventDto, event),
        (TradingSignalDto, signal),
    ):
        made = asdict(model.of(entity))
        assert made
        assert made == {name: getattr(entity, name) for name in made}


def test_a_bar_is_read_from_a_row_of_a_frame() -> None:
    prices = {name: Decimal(10) for name in ("open", "high", "low", "close", "volume")}
    row: dict[str, Any] = {"symbol": "AAPL", "timeframe": "1Min", "ts": NOON, "source": "x", **prices}
    row |= {"trade_count": None, "vwap": None}
    made = asdict(MarketBarDto.of(row))
    assert made == {name: value for name, value in row.items() if name != "source"}


async def test_at_a_time_the_newest_row_answers_if_it_was_known_then() -> None:
    shelf = market({("stock_quote_snapshots", None): QUOTE}, {})
    found = await shelf.at(Instrument(InstrumentKind.STOCK, 1, "X"), QUOTE["ts"])
    assert found is not None
    assert found.row is QUOTE


async def test_at_an_earlier_time_the_row_of_then_answers() -> None:
    earlier = QUOTE | {"bid_price": Decimal(7), "ts": QUOTE["ts"] - HOUR}
    shelf = market({("stock_quote_snapshots", None): QUOTE}, {("stock_quote_snapshots", None): earlier})
    instrument = Instrument(InstrumentKind.STOCK, 1, "X")
    now, then = await shelf.now(instrument), await shelf.at(instrument, QUOTE["ts"] - MINUTE)
    assert now is not None
    assert then is not None
    assert (now.bid, then.bid) == (QUOTE["bid_price"], Decimal(7))
    assert await shelf.snapshot(instrument, QUOTE["ts"] - MINUTE) is earlier


async def test_a_look_reads_what_is_traded_once() -> None:
    rows: Rows = {("stock_quote_snapshots", None): QUOTE}
    seen = await look(market(rows), [Instrument(InstrumentKind.STOCK, 1, "X")], NOON, is_now=True)
    assert seen.quote == quote_of(QUOTE)
    assert (seen.alpaca, seen.polymarket) == ({"at": NOON, "seen": {"X": QUOTE}}, None)


def test_the_stored_market_shows_what_was_known_at_a_time(store: Store) -> None:
    store.assets.create(symbol="AAPL", name="Apple")
    for mirrored, minutes in ((True, 0), (True, 60), (False, 120)):
        rows = {"symbol": ["AAPL"], "ts": [NOON + minutes * MINUTE], "bid_size": ["1"], "ask_size": ["1"]}
        store.write("stock_quote_snapshots", pl.DataFrame(rows | {name: [str(100 + minutes)] for name in SIDES}))
        if mirrored:
            store.mirror.run()
    for minutes, price in ((-1, None), (0, 100), (59, 100), (60, 160), (119, 160), (120, 220), (500_000, 220)):
        row = store.latest_at("stock_quote_snapshots", "AAPL", NOON + minutes * MINUTE)
        assert (row and row["bid_price"]) == price
    newest = store.latest("stock_quote_snapshots", "AAPL")
    assert newest is not None
    assert newest["bid_price"] == 220


def test_a_bar_is_known_at_its_close(store: Store) -> None:
    store.assets.create(symbol="AAPL", name="Apple")
    bars = {"symbol": ["AAPL"] * 2, "timeframe": ["1Hour"] * 2, "ts": [NOON, NOON + HOUR], "volume": ["1"] * 2}
    prices = {name: ["10", "11"] for name in ("open", "high", "low", "close")}
    store.write("stock_bars", pl.DataFrame(bars | prices))
    for minutes, close in ((59, None), (60, 10), (119, 10), (120, 11)):
        row = store.latest_at("stock_bars", "AAPL", NOON + minutes * MINUTE, timeframe="1Hour")
        assert (row and row["close"]) == close
