"""What resting orders promise: the venue keeps their state, works them as time goes on, and the books follow it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import exact
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote
from medalion.store.store import Store
from medalion.venues.base import Order
from medalion.venues.paper.venue import PaperVenue
from oltp.repositories.unit_of_work import sessions
from oltp.server.engine import parse_url
from tests.support.postgres import fresh_database
from tests.support.trading_floor import NOON, Board, Floor, floor, identities

pytestmark = pytest.mark.anyio
AAPL = Instrument(InstrumentKind.STOCK, 1, "AAPL")
BUY, SELL = TradeSide.BUY, TradeSide.SELL
SECOND = timedelta(seconds=1)
SUBMITTED, PARTIALLY_FILLED, FILLED = TradeStatus.SUBMITTED, TradeStatus.PARTIALLY_FILLED, TradeStatus.FILLED


@pytest.fixture(scope="module")
def crowded_url(postgres: str) -> Iterator[str]:
    """Of a database in which orders are left resting, which others' advancing would fill."""
    with fresh_database() as made:
        yield made


@pytest.fixture
async def books(url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    engine = create_async_engine(parse_url(url))
    yield sessions(engine)
    await engine.dispose()


@pytest.fixture
def board() -> Board:
    board = Board()
    board.show("AAPL", "99", "101")
    return board


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        opened.board.show("AAPL", "99", "101")
        yield opened


def order(kind: TradeType, side: TradeSide = SELL, quantity: int = 10, **prices: str) -> Order:
    given: dict[str, Any] = {name: Decimal(price) for name, price in prices.items()}
    return Order(uuid4(), "mine", AAPL, side, Decimal(quantity), kind, NOON, **given)


async def test_a_stop_order_waits_for_its_price_and_fills_once(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue, asked = PaperVenue(books, board), order(TradeType.STOP, stop_price="95")
    placed = await venue.submit(asked)
    assert (placed.status, await venue.submit(asked)) == (SUBMITTED, placed)
    board.show("AAPL", "95.01")
    assert await venue.advance(NOON) == []
    board.show("AAPL", "90")
    (filled,) = await venue.advance(NOON + SECOND)
    assert (filled.account_id, filled.status, filled.at) == (asked.account_id, FILLED, NOON + SECOND)
    assert [(fill.quantity, fill.price) for fill in filled.fills] == [(Decimal(10), Decimal(90))]
    assert await venue.advance(NOON + SECOND) == []
    assert await venue.submit(asked) == await venue.find_order(asked.account_id, "mine") == filled
    with pytest.raises(ConflictError, match="another order"):
        await venue.submit(replace(asked, stop_price=Decimal(94)))


async def test_what_a_trailing_or_triggered_order_has_seen_outlives_the_venue(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    trailing, limited = (
        order(TradeType.TRAILING_STOP, trail_percent="10"),
        order(TradeType.STOP_LIMIT, stop_price="95", limit_price="94"),
    )
    for asked in (trailing, limited):
        await PaperVenue(books, board).submit(asked)
    for price in ("200", "181"):
        board.show("AAPL", price)
        assert await PaperVenue(books, board).advance(NOON) == []
    board.show("AAPL", "93")
    (sold,) = await PaperVenue(books, board).advance(NOON)
    assert (sold.account_id, sold.fills[0].price) == (trailing.account_id, Decimal(93))
    board.show("AAPL", "96")
    (kept,) = await PaperVenue(books, board).advance(NOON)
    assert (kept.account_id, kept.fills[0].price) == (limited.account_id, Decimal(96))


async def test_with_sizes_respected_an_account_fills_no_more_than_each_quote_shows(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue = PaperVenue(books, board, respect_size=True)
    first = order(TradeType.MARKET)
    second = replace(first, client_order_id="next", quantity=Decimal(3))
    other = replace(first, account_id=uuid4(), quantity=Decimal(2))
    board.show("AAPL", "99", size="7")
    sent = [venue.submit(asked) for asked in (first, second, other)]
    reports = await asyncio.gather(*sent)
    mine = sum(fill.quantity for report in reports[:2] for fill in report.fills)
    assert (mine, reports[2].status) == (7, FILLED)
    assert await venue.advance(NOON + SECOND) == []
    board.clock()
    board.show("AAPL", "98", size="6")
    advancing = [venue.advance(NOON + 2 * SECOND) for _ in range(3)]
    await asyncio.gather(*advancing)
    for asked in (first, second):
        found = await venue.find_order(asked.account_id, asked.client_order_id)
        assert found is not None
        assert (found.status, sum(fill.quantity for fill in found.fills)) == (FILLED, asked.quantity)
        names = [fill.execution_id for fill in found.fills]
        assert names == sorted(set(names))


async def test_bids_and_offers_are_taken_apart(books: async_sessionmaker[AsyncSession], board: Board) -> None:
    venue, sold = PaperVenue(books, board, respect_size=True), order(TradeType.MARKET, quantity=5)
    board.show("AAPL", "99", size="5")
    bought = replace(sold, client_order_id="back", side=BUY)
    assert [(await venue.submit(asked)).status for asked in (sold, bought)] == [FILLED, FILLED]


async def test_the_rest_of_an_order_filled_in_part_can_be_cancelled(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue, asked = PaperVenue(books, board, respect_size=True), order(TradeType.LIMIT, limit_price="99")
    board.show("AAPL", "99", size="4")
    assert (await venue.submit(asked)).status is PARTIALLY_FILLED
    cancelled = await venue.cancel(asked.account_id, "mine", NOON + SECOND)
    assert (cancelled.status, [fill.quantity for fill in cancelled.fills]) == (TradeStatus.CANCELLED, [Decimal(4)])
    board.clock()
    board.show("AAPL", "100", size="9")
    assert await venue.advance(NOON + SECOND) == []


async def test_with_latency_an_order_meets_the_first_quote_after_it_arrived(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue, asked = PaperVenue(books, board, latency=2 * SECOND), order(TradeType.MARKET)
    assert (await venue.submit(asked)).status is SUBMITTED
    for seconds, price in ((1, "98"), (2, "97")):
        assert await venue.advance(NOON + seconds * SECOND) == []
        board.clock()
        board.show("AAPL", price)
    (filled,) = await venue.advance(NOON + 2 * SECOND)
    assert (filled.status, filled.fills[0].price) == (FILLED, Decimal(97))


async def test_after_its_way_a_market_order_that_nobody_takes_is_rejected(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue, asked = PaperVenue(books, board, latency=SECOND), order(TradeType.MARKET)
    await venue.submit(asked)
    board.quotes["AAPL"] = Quote(None, Decimal(101), NOON + SECOND)
    (rejected,) = await venue.advance(NOON + SECOND)
    assert rejected.status is TradeStatus.REJECTED
    assert rejected.reason is not None
    assert rejected.reason.startswith("nobody offers AAPL")


async def test_an_old_quote_rejects_market_orders_and_leaves_others_resting(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue = PaperVenue(books, board, max_quote_age=SECOND)
    late = NOON + 2 * SECOND
    rejected = await venue.submit(replace(order(TradeType.MARKET), at=late))
    assert rejected.status is TradeStatus.REJECTED
    assert rejected.reason is not None
    assert "0:00:02 before the order is worked; at most 0:00:01" in rejected.reason
    asked = replace(order(TradeType.LIMIT, limit_price="90"), at=late)
    assert (await venue.submit(asked)).status is SUBMITTED
    board.moment = late
    board.show("AAPL", "99")
    (filled,) = await venue.advance(late)
    assert filled.account_id == asked.account_id


@pytest.mark.parametrize("name", ["latency", "max_quote_age"])
def test_a_venue_does_not_work_backwards_in_time(board: Board, name: str) -> None:
    options: dict[str, Any] = {name: -SECOND}
    with pytest.raises(InputError, match=f"{name} -1 day, 23:59:59 is negative"):
        PaperVenue(async_sessionmaker(), board, **options)


async def test_an_order_is_not_worked_before_it_was_submitted(
    books: async_sessionmaker[AsyncSession], board: Board
) -> None:
    venue, asked = PaperVenue(books, board), order(TradeType.LIMIT, limit_price="100")
    await venue.submit(asked)
    board.show("AAPL", "100")
    assert await venue.advance(NOON - SECOND) == []
    assert len(await venue.advance(NOON)) == 1


async def test_a_stop_protects_a_position_through_the_books(desk: Floor) -> None:
    mine: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "quantity": 4}
    await desk.service.execute_market_order(**mine, side="buy")
    stop = await desk.service.execute_stop_order(**mine, side="sell", stop_price=95, client_order_id="stop")
    assert (stop.trade_type, stop.status, stop.stop_price) == (TradeType.STOP, SUBMITTED, Decimal(95))
    again = await desk.service.execute_stop_order(**mine, side="sell", stop_price=95, client_order_id="stop")
    assert again.id == stop.id
    with pytest.raises(ConflictError, match="stop_price is 95"):
        await desk.service.execute_stop_order(**mine, side="sell", stop_price=96, client_order_id="stop")
    desk.board.show("AAPL", "94.5")
    (sold,) = await desk.service.advance()
    assert (sold.id, sold.status, sold.average_price) == (stop.id, FILLED, Decimal("94.5"))
    assert await desk.service.get_open_positions(account=desk.account) == []
    await identities(desk)


async def test_stop_limit_and_trailing_orders_go_the_same_way(desk: Floor) -> None:
    mine: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "quantity": 2, "side": "buy"}
    breakout = await desk.service.execute_stop_limit_order(**mine, stop_price=105, limit_price=Decimal("105.5"))
    trailing = await desk.service.execute_trailing_stop_order(**mine, trail_price=Decimal("2.5"))
    percent = await desk.service.execute_trailing_stop_order(**mine, trail_percent=10)
    others: list[dict[str, Any]] = [
        {"client_order_id": trailing.client_order_id, "trail_price": 3},
        {"client_order_id": percent.client_order_id, "trail_percent": 11},
    ]
    for other in others:
        with pytest.raises(ConflictError, match="whose trail_p"):
            await desk.service.execute_trailing_stop_order(**mine, **other)
    assert {trade.status for trade in (breakout, trailing, percent)} == {SUBMITTED}
    assert (trailing.trail_price, percent.trail_percent) == (Decimal("2.5"), Decimal(10))
    for price, filled in (("92", []), ("94.49", []), ("94.5", [trailing.id]), ("106", [percent.id])):
        desk.board.show("AAPL", price)
        assert [trade.id for trade in await desk.service.advance()] == filled
    desk.board.show("AAPL", "105.4")
    (bought,) = await desk.service.advance()
    assert (bought.id, bought.average_price) == (breakout.id, Decimal("105.4"))
    await identities(desk)


@pytest.mark.parametrize(
    ("method", "given", "said"),
    [
        ("stop", {"stop_price": 0}, "stop_price 0 is not above zero"),
        ("stop", {"stop_price": Decimal("1.123456789")}, "stop_price"),
        ("stop", {"stop_price": 9_999_999, "quantity": 9_999_999}, "value of the order"),
        ("stop_limit", {"stop_price": 95, "limit_price": 94}, "a buy with stop 95 and limit 94 could not fill"),
        ("stop_limit", {"stop_price": 95, "limit_price": 96, "side": "sell"}, "at the stop or below it"),
        ("trailing_stop", {}, "takes trail_price or trail_percent, and was given none"),
        ("trailing_stop", {"trail_price": 1, "trail_percent": 1}, "was given trail_percent and trail_price"),
        ("trailing_stop", {"trail_percent": 100}, "trail_percent 100 is not below 100"),
        ("trailing_stop", {"trail_price": -1}, "trail_price -1 is not above zero"),
    ],
)
async def test_prices_that_make_no_sense_are_refused_and_nothing_is_written(
    desk: Floor, method: str, given: dict[str, Any], said: str
) -> None:
    execute = getattr(desk.service, f"execute_{method}_order")
    order = {"account": desk.account, "symbol": "AAPL", "side": "buy", "quantity": 1, **given}
    with pytest.raises(InputError, match=said):
        await execute(**order)
    async with desk.unit() as unit:
        assert not await unit.trades.any(account_id=desk.account.id)


def test_a_backtest_takes_the_options_of_the_venue(store: Store) -> None:
    board = Board()
    trading = store.backtest(board, respect_size=True, latency=SECOND, max_quote_age=60 * SECOND)
    store.assets.create(symbol="AAPL", name="Apple")
    account = store.accounts.create(name="past")
    trade = trading.execute_market_order(account=account, symbol="AAPL", side="buy", quantity=3, at=NOON)
    assert trade.status is SUBMITTED
    board.moment = NOON + SECOND
    board.show("AAPL", "100", size="2")
    assert trading.advance(at=NOON + 62 * SECOND)[0].status is TradeStatus.REJECTED
    trade = trading.execute_market_order(account=account, symbol="AAPL", side="buy", quantity=3, at=NOON)
    assert trading.advance(at=NOON + 61 * SECOND)[0].filled_quantity == 2


PRICES = st.integers(90, 110)
KINDS = st.sampled_from(["market", "limit", "stop", "stop_limit", "trailing_stop"])
ORDERS = st.tuples(KINDS, st.sampled_from(["buy", "sell"]), st.integers(1, 9), PRICES)
QUOTES = st.tuples(PRICES, st.integers(0, 3), st.none() | st.integers(0, 8))


def _prices(kind: str, price: int) -> dict[str, int]:
    return {
        "market": {},
        "limit": {"limit_price": price},
        "stop": {"stop_price": price},
        "stop_limit": {"stop_price": price, "limit_price": price},
        "trailing_stop": {"trail_price": price - 89},
    }[kind]


@settings(max_examples=12, deadline=None)
@given(
    orders=st.lists(ORDERS, min_size=1, max_size=4),
    quotes=st.lists(st.tuples(QUOTES, st.booleans()), min_size=1, max_size=6),
)
def test_whatever_quotes_come_venue_and_books_agree(
    crowded_url: str, orders: list[tuple[Any, ...]], quotes: list[tuple[tuple[int, int, int | None], bool]]
) -> None:
    """A quote that is not advanced through the service reaches the venue alone, as in a crash before it was booked."""

    async def trade() -> None:
        async with floor(crowded_url, respect_size=True) as desk:
            desk.board.show("AAPL", "100", "101", size="5")
            for kind, side, quantity, price in orders:
                execute = getattr(desk.service, f"execute_{kind}_order")
                await execute(account=desk.account, symbol="AAPL", side=side, quantity=quantity, **_prices(kind, price))
            for (bid, spread, size), is_booked in quotes:
                now = desk.board.clock()
                desk.board.show("AAPL", str(bid), str(bid + spread), size=None if size is None else str(size))
                await (desk.service.advance(at=now) if is_booked else desk.venue.advance(now))
            await desk.service.reconcile(account=desk.account)
            await identities(desk)
            async with desk.unit() as unit:
                trades = await unit.trades.find(account_id=desk.account.id)
                fills = await unit.fills.find(account_id=desk.account.id)
            executed = await desk.venue.executions(desk.account.id, NOON)
            assert {(fill.execution_id, fill.quantity, fill.price) for fill in fills} == {
                (fill.execution_id, fill.quantity, fill.price) for fill in executed
            }
            for trade in trades:
                known = await desk.venue.find_order(desk.account.id, trade.client_order_id)
                assert known is not None
                with exact():
                    assert sum(fill.quantity for fill in known.fills) == trade.filled_quantity <= trade.quantity
                assert known.status is trade.status

    anyio.run(trade)
