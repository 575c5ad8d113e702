"""What the paper venue promises: the same order once, fills at the quote and never through the limit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import InstrumentKind, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, NotFoundError
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote
from medalion.venues.base import Order
from medalion.venues.paper.matching import fill_price
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from oltp.repositories.unit_of_work import sessions
from oltp.server.engine import parse_url
from tests.support.trading_floor import NOON, Board

pytestmark = pytest.mark.anyio
AAPL = Instrument(InstrumentKind.STOCK, 1, "AAPL")
CENTS = st.decimals("0.01", 1000, places=2)


@pytest.fixture
def board() -> Board:
    board = Board()
    board.show("AAPL", "99", "101")
    return board


@pytest.fixture
async def venue(url: str, board: Board) -> AsyncIterator[PaperVenue]:
    engine = create_async_engine(parse_url(url))
    yield PaperVenue(sessions(engine), board, commission=CommissionSchedule(bps=Decimal(10)))
    await engine.dispose()


def order(
    side: TradeSide = TradeSide.BUY, quantity: str = "2", limit: str | None = None, *, account: UUID | None = None
) -> Order:
    return Order(
        account_id=account or uuid4(),
        client_order_id="mine",
        instrument=AAPL,
        side=side,
        quantity=Decimal(quantity),
        trade_type=TradeType.MARKET if limit is None else TradeType.LIMIT,
        at=NOON,
        limit_price=None if limit is None else Decimal(limit),
    )


async def test_market_orders_fill_at_the_other_side_of_the_quote(venue: PaperVenue) -> None:
    bought, sold = await venue.submit(order()), await venue.submit(order(TradeSide.SELL))
    assert [fill.price for fill in (*bought.fills, *sold.fills)] == [101, 99]
    (fill,) = bought.fills
    assert (bought.status, fill.quantity, fill.commission) == (TradeStatus.FILLED, Decimal(2), Decimal("0.202"))
    assert fill.execution_id.isdigit()


async def test_the_same_order_again_is_the_order_as_it_stands(venue: PaperVenue, board: Board) -> None:
    asked = order()
    first = await venue.submit(asked)
    board.show("AAPL", "50", "51")
    assert await venue.submit(asked) == first
    assert await venue.find_order(asked.account_id, "mine") == first
    assert await venue.executions(asked.account_id, NOON) == list(first.fills)
    with pytest.raises(ConflictError, match="another order: buy 2"):
        await venue.submit(replace(asked, quantity=Decimal(3)))


async def test_of_the_same_order_sent_at_once_one_is_executed(venue: PaperVenue) -> None:
    asked = order()
    sending = [venue.submit(asked) for _ in range(4)]
    assert len(set(await asyncio.gather(*sending))) == 1
    assert len(await venue.executions(asked.account_id, NOON)) == 1


async def test_a_marketable_limit_order_fills_at_the_better_quote(venue: PaperVenue) -> None:
    (fill,) = (await venue.submit(order(limit="105"))).fills
    assert fill.price == 101


async def test_a_resting_order_fills_once_when_the_quote_reaches_it(venue: PaperVenue, board: Board) -> None:
    asked = order(limit="95")
    assert (await venue.submit(asked)).status is TradeStatus.SUBMITTED
    assert await venue.advance(NOON) == []
    board.show("AAPL", "93", "94")
    (filled,) = await venue.advance(NOON)
    assert (filled.client_order_id, filled.status, filled.fills[0].price) == ("mine", TradeStatus.FILLED, Decimal(94))
    assert await venue.advance(NOON) == []
    assert await venue.find_order(asked.account_id, "mine") == filled


async def test_of_several_who_advance_at_once_one_fills(venue: PaperVenue, board: Board) -> None:
    asked = order(limit="95")
    await venue.submit(asked)
    board.show("AAPL", "93", "94")
    advancing = [venue.advance(NOON) for _ in range(4)]
    reports = [report for found in await asyncio.gather(*advancing) for report in found]
    assert [report.account_id for report in reports] == [asked.account_id]


async def test_a_cancelled_order_never_fills_and_a_filled_one_is_not_cancelled(venue: PaperVenue, board: Board) -> None:
    resting, done = order(limit="95"), order()
    await venue.submit(resting)
    await venue.submit(done)
    assert (await venue.cancel(resting.account_id, "mine", NOON)).status is TradeStatus.CANCELLED
    assert (await venue.cancel(done.account_id, "mine", NOON)).status is TradeStatus.FILLED
    board.show("AAPL", "93", "94")
    assert await venue.advance(NOON) == []
    with pytest.raises(NotFoundError):
        await venue.cancel(uuid4(), "mine", NOON)
    assert await venue.find_order(uuid4(), "mine") is None


@pytest.mark.parametrize(
    ("bid", "ask", "reason"), [("99", None, "nobody offers AAPL: bid 99, ask None"), (None, None, "nobody offers")]
)
async def test_a_market_order_without_other_side_is_rejected(
    venue: PaperVenue, board: Board, bid: str | None, ask: str | None, reason: str
) -> None:
    board.quotes["AAPL"] = Quote(None if bid is None else Decimal(bid), None, NOON)
    report = await venue.submit(order())
    assert (report.status, report.fills) == (TradeStatus.REJECTED, ())
    assert report.reason is not None
    assert reason in report.reason


async def test_an_unknown_market_is_a_rejection(venue: PaperVenue, board: Board) -> None:
    board.quotes.clear()
    report = await venue.submit(order())
    assert (report.status, report.fills) == (TradeStatus.REJECTED, ())
    assert report.reason == "no quote of AAPL is stored; store quotes, snapshots or bars of it first"


@pytest.mark.parametrize(
    ("kind", "prices", "said"),
    [
        ("market", {"limit_price": Decimal(1)}, "a market order takes no price, and was given limit_price"),
        ("limit", {}, "a limit order takes limit_price, and was given none"),
        ("stop", {}, "a stop order takes stop_price, and was given none"),
        ("stop_limit", {"stop_price": Decimal(1)}, "takes limit_price and stop_price, and was given stop_price"),
        (
            "trailing_stop",
            {"trail_price": Decimal(1), "trail_percent": Decimal(1)},
            "takes trail_price or trail_percent, and was given trail_percent and trail_price",
        ),
    ],
)
async def test_an_order_without_the_prices_of_its_type_is_rejected(
    venue: PaperVenue, kind: str, prices: dict[str, Any], said: str
) -> None:
    report = await venue.submit(replace(order(), trade_type=TradeType(kind), **prices))
    assert report.status is TradeStatus.REJECTED
    assert report.reason is not None
    assert report.reason.endswith(said)


@given(side=st.sampled_from(TradeSide), limit=CENTS, bid=CENTS, spread=CENTS, slippage=st.integers(0, 500))
def test_a_fill_is_never_through_the_limit_nor_better_than_the_quote(
    side: TradeSide, limit: Decimal, bid: Decimal, spread: Decimal, slippage: int
) -> None:
    quote = Quote(bid, bid + spread, NOON)
    price = fill_price(order(side, limit=str(limit)), quote, slippage_bps=Decimal(slippage))
    met = quote.price_for(side)
    assert met is not None
    if price is None:
        assert (met - limit) * side.sign > 0
    else:
        assert met * side.sign <= price * side.sign <= limit * side.sign


def test_an_outcome_never_costs_more_than_what_it_can_pay() -> None:
    yes = replace(order(), instrument=Instrument(InstrumentKind.OUTCOME, 2, "1"))
    assert fill_price(yes, Quote(None, Decimal("0.999"), NOON), slippage_bps=Decimal(100)) == 1


@pytest.mark.parametrize(
    ("schedule", "cost"),
    [
        (CommissionSchedule(), "0"),
        (CommissionSchedule(bps=Decimal(10)), "1.9002"),
        (CommissionSchedule(per_unit=Decimal("0.005")), "0.05"),
        (CommissionSchedule(bps=Decimal(10), per_unit=Decimal("0.005")), "1.9502"),
        (CommissionSchedule(per_unit=Decimal("0.005"), minimum=Decimal("0.35")), "0.35"),
    ],
)
def test_a_commission_is_basis_points_plus_per_unit_but_at_least_the_minimum(
    schedule: CommissionSchedule, cost: str
) -> None:
    assert schedule.commission(Decimal(10), Decimal("1900.2")) == Decimal(cost)
