"""What the limits of a strategy promise: no order opens more than they allow, and none that only reduces is refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import InstrumentKind, SettlementType, SignalType, TradeSide, TradeStatus, TradeType
from medalion.core.errors import InputError, VenueError
from medalion.market.instrument import Instrument
from medalion.services.trading import TradingService
from medalion.trading.intents import intend
from medalion.trading.requests import CreateTradeRequest
from medalion.trading.risk import Exposure, loss_of, size_after
from medalion.trading.views import TradeDto
from medalion.venues.paper.venue import CommissionSchedule
from oltp.entities.trading import Strategy
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import parse_url
from tests.support.trading_floor import NOON, Floor, floor, identities

pytestmark = pytest.mark.anyio
FEES = CommissionSchedule(per_unit=Decimal("0.5"))
FILLED, SUBMITTED, REJECTED = TradeStatus.FILLED, TradeStatus.SUBMITTED, TradeStatus.REJECTED


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    """A floor with an account of its own, on which AAPL stands at 100 and an execution costs 0.5 per unit."""
    async with floor(url, commission=FEES) as opened:
        opened.board.show("AAPL", "100")
        yield opened


async def limited(desk: Floor, **limits: int | str) -> Strategy:
    async with desk.unit() as unit:
        exact = {name: Decimal(limit) for name, limit in limits.items()}
        return await unit.strategies.create(name=f"careful {uuid4()}", **exact)


async def limit(desk: Floor, strategy: Strategy, **limits: int | str | None) -> None:
    async with desk.unit() as unit:
        changes = {name: None if given is None else Decimal(given) for name, given in limits.items()}
        await unit.strategies.update(strategy.id, **changes)


async def order(desk: Floor, strategy: Strategy | None, side: str, quantity: Decimal | int, **given: Any) -> TradeDto:
    return await desk.service.create_trade(
        CreateTradeRequest(
            **{
                "account": desk.account,
                "symbol": "AAPL",
                "strategy": None if strategy is None else strategy.id,
                **given,
            },
            side=side,
            quantity=quantity,
            trade_type=TradeType.LIMIT if "limit_price" in given else TradeType.MARKET,
        )
    )


def why(trade: TradeDto) -> str:
    assert trade.status is REJECTED
    assert trade.status_reason is not None
    return trade.status_reason


async def test_a_position_grows_to_the_limit_and_not_beyond_counting_what_is_on_its_way(desk: Floor) -> None:
    strategy = await limited(desk, max_position_size=1000)
    assert (await order(desk, strategy, "buy", 6)).status is FILLED
    assert (await order(desk, strategy, "buy", 3, limit_price=90)).status is SUBMITTED
    assert why(await order(desk, strategy, "buy", 2)) == (
        f"max_position_size of strategy {strategy.name!r} is 1000: with this order and those on their way it would "
        "hold AAPL for 1070"
    )
    assert (await order(desk, strategy, "buy", 2, limit_price=65)).status is SUBMITTED
    assert (await order(desk, strategy, "sell", 2, limit_price=300)).status is SUBMITTED
    assert "for 1000.01" in why(await order(desk, strategy, "buy", 1, limit_price=Decimal("0.01")))
    await identities(desk)


async def test_a_refusal_is_kept_and_the_venue_is_never_asked(desk: Floor) -> None:
    strategy = await limited(desk, max_position_size=100)
    refused = await order(desk, strategy, "buy", 2, client_order_id="much")
    assert (refused.external_trade_id, refused.submitted_at, refused.filled_quantity) == (None, None, Decimal(0))
    assert refused.alpaca_market_data_snapshot is not None
    assert refused.alpaca_market_data_snapshot["decision"]["seen"]["AAPL"]["ask_price"] == "100"
    assert await desk.venue.find_order(desk.account.id, "much") is None
    await limit(desk, strategy, max_position_size=None)
    assert await order(desk, strategy, "buy", 2, client_order_id="much") == refused
    await limit(desk, strategy, max_position_size=100)
    with pytest.raises(VenueError, match="order for AAPL was rejected: max_position_size"):
        await desk.service.open_position(account=desk.account, symbol="AAPL", quantity=2, strategy=strategy.id)
    assert (await desk.service.reconcile(account=desk.account)).asked == ()
    assert await desk.service.get_open_positions(account=desk.account) == []


async def test_the_limits_are_of_one_strategy_and_a_null_one_binds_nothing(desk: Floor) -> None:
    strategy, other = await limited(desk, max_position_size=100), await limited(desk)
    for free in (other, None):
        assert (await order(desk, free, "buy", 9)).status is FILLED
        assert (await order(desk, free, "buy", 9, limit_price=90)).status is SUBMITTED
    async with desk.unit() as unit:
        account = await unit.accounts.create(name=f"another {uuid4()}")
    assert (await order(desk, strategy, "buy", 1, limit_price=90, account=account)).status is SUBMITTED
    assert (await order(desk, strategy, "buy", 1)).status is FILLED
    assert "for 200" in why(await order(desk, strategy, "buy", 1))
    assert "for 190" in why(await order(desk, strategy, "buy", 1, account=account))


async def test_what_only_reduces_is_never_refused(desk: Floor) -> None:
    strategy = await limited(desk)
    for _ in range(2):
        assert (await order(desk, strategy, "buy", 10)).status is FILLED
    await limit(desk, strategy, max_position_size=0, max_loss_per_trade=0, max_daily_loss=0)
    assert (await order(desk, strategy, "sell", 8)).status is FILLED
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert (await desk.service.partially_close_position(position.id, 2)).remaining_quantity == 10
    assert (await order(desk, strategy, "sell", 4, limit_price=120)).status is SUBMITTED
    # Six are left that no order on its way takes off.
    assert (await order(desk, strategy, "sell", 7)).status is REJECTED
    assert (await order(desk, strategy, "sell", 6)).status is FILLED
    assert (await desk.service.close_position(position.id)).remaining_quantity == 0


async def test_of_an_order_that_crosses_zero_the_part_beyond_counts(desk: Floor) -> None:
    strategy = await limited(desk, max_position_size=600)
    assert (await order(desk, strategy, "buy", 6)).status is FILLED
    resting = await order(desk, strategy, "sell", 6, limit_price=110)
    # The six at 100 close, and those at 110 then open.
    assert "for 660" in why(await order(desk, strategy, "sell", 6))
    await desk.service.cancel_trade(resting.id)
    assert "for 700" in why(await order(desk, strategy, "sell", 13))
    assert (await order(desk, strategy, "sell", 12)).status is FILLED
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.cost_basis == -600


async def test_a_trade_may_lose_up_to_its_limit_at_its_stop_loss(desk: Floor) -> None:
    strategy = await limited(desk, max_loss_per_trade=50)
    wanted: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "strategy": strategy.id}
    for side, stop_loss in (("long", 95), ("short", 105)):
        with pytest.raises(
            VenueError, match=rf"is 50: opened at 100, 11 of AAPL may lose 55 at its stop_loss {stop_loss}"
        ):
            await desk.service.open_position(**wanted, side=side, quantity=11, stop_loss=stop_loss)
        opened = await desk.service.open_position(**wanted, side=side, quantity=10, stop_loss=stop_loss)
        await desk.service.close_position(opened.id)
    await desk.service.open_position(**wanted, quantity=10, stop_loss=95)
    assert "10.5 of AAPL may lose 52.5" in why(await order(desk, strategy, "sell", Decimal("20.5"), stop_loss=105))
    assert (await order(desk, strategy, "sell", 20, stop_loss=105)).status is FILLED


async def test_an_option_counts_with_the_units_of_its_contracts(desk: Floor) -> None:
    strategy = await limited(desk, max_position_size=500, max_loss_per_trade=500)
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        call = await unit.option_contracts.create(
            asset_id=asset.id,
            symbol=f"AAPL{uuid4().hex[:10]}",
            underlying_symbol="AAPL",
            expiration_date=NOON.date(),
            option_type="call",
            strike_price=Decimal(100),
        )
    desk.board.show(call.symbol, "5")
    assert (await order(desk, strategy, "buy", 1, symbol=call)).status is FILLED
    assert "for 1000" in why(await order(desk, strategy, "buy", 1, symbol=call))


async def test_without_a_stop_loss_a_trade_may_lose_all_it_can(desk: Floor) -> None:
    strategy = await limited(desk, max_loss_per_trade=100)
    assert "may lose 200 without a stop_loss" in why(await order(desk, strategy, "buy", 2))
    assert "may lose any amount without a stop_loss" in why(await order(desk, strategy, "sell", 1))
    assert (await order(desk, strategy, "buy", 1)).status is FILLED
    assert (await order(desk, strategy, "sell", 1)).status is FILLED


async def test_the_stop_loss_of_a_signal_counts_and_its_refusal_acts_upon_it(desk: Floor) -> None:
    strategy = await limited(desk, max_loss_per_trade=50)
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        advice: dict[str, Any] = {
            "strategy_id": strategy.id,
            "asset_id": asset.id,
            "instrument_id": asset.instrument_id,
            "symbol": "AAPL",
            "signal_type": SignalType.BUY,
            "confidence": Decimal(80),
            "signal_timestamp": NOON,
            "suggested_quantity": Decimal(10),
        }
        good = await unit.signals.create(**advice, stop_loss=Decimal(95))
        bad = await unit.signals.create(**advice, stop_loss=Decimal(94))
        wrong = await unit.signals.create(**advice, stop_loss=Decimal(101))
    assert (await desk.service.execute_market_order(account=desk.account, signal=good)).status is FILLED
    assert "may lose 60" in why(await desk.service.execute_market_order(account=desk.account, signal=bad))
    with pytest.raises(InputError, match="side of its profit; give one below"):
        await desk.service.execute_market_order(account=desk.account, signal=wrong)
    async with desk.unit() as unit:
        assert [(await unit.signals.get(each.id)).was_acted_upon for each in (good, bad, wrong)] == [True, True, False]


async def test_a_limit_that_cannot_be_checked_is_not_kept(desk: Floor) -> None:
    by_size, by_loss = await limited(desk, max_position_size=900), await limited(desk, max_loss_per_trade=900)
    by_day = await limited(desk, max_daily_loss=1)
    desk.board.quotes.clear()
    for strategy in (by_size, by_loss):
        assert "the market shows no price of AAPL" in why(await order(desk, strategy, "buy", 1))
        assert (await order(desk, strategy, "buy", 1, limit_price=90)).status is SUBMITTED
    assert "no quote of AAPL" in why(await order(desk, by_day, "buy", 1))  # by the venue: no price is needed
    desk.board.show("AAPL", "100", "1000")
    assert "for 1090" in why(await order(desk, by_size, "buy", 1))
    desk.board.quotes["AAPL"] = replace(desk.board.quotes["AAPL"], ask=None)
    assert "nobody offers" in why(await order(desk, by_size, "buy", 1))  # by the venue: the bid is within the limit


async def lose(desk: Floor, strategy: Strategy, **given: Any) -> None:
    """10 and twice the commission of 0.5."""
    desk.board.show("AAPL", "100")
    assert (await order(desk, strategy, "buy", 1, **given)).status is FILLED
    desk.board.show("AAPL", "90")
    assert (await order(desk, strategy, "sell", 1, **given)).status is FILLED


async def test_after_the_loss_of_a_day_nothing_is_opened_until_the_next(desk: Floor) -> None:
    strategy = await limited(desk, max_daily_loss="22.00000001")
    for _ in range(2):
        await lose(desk, strategy)
    assert (await order(desk, strategy, "buy", 1)).status is FILLED  # and a commission of 0.5
    assert "on 2024-03-01 (UTC) it has realized -22.5" in why(await order(desk, strategy, "buy", 1))
    assert (await order(desk, strategy, "sell", 1)).status is FILLED
    midnight = NOON + timedelta(hours=12)
    assert (await order(desk, strategy, "buy", 1, at=midnight - timedelta(seconds=1))).status is REJECTED
    assert (await order(desk, strategy, "buy", 1, at=midnight)).status is FILLED


async def test_a_loss_of_exactly_the_limit_is_the_last(desk: Floor) -> None:
    strategy = await limited(desk, max_daily_loss="11.00000001")
    await lose(desk, strategy)
    await limit(desk, strategy, max_daily_loss=11)
    assert "max_daily_loss" in why(await order(desk, strategy, "buy", 1))
    assert (await order(desk, strategy, "buy", 1, limit_price=1, at=NOON - timedelta(days=1))).status is SUBMITTED
    async with desk.unit() as unit:
        last = (await unit.fills.find(account_id=desk.account.id))[-1]
        await unit.fills.update(last, busted_at=NOON)
    assert (await order(desk, strategy, "buy", 1)).status is FILLED


async def test_the_result_of_a_day_is_of_one_account_and_counts_settlements(desk: Floor) -> None:
    strategy = await limited(desk, max_daily_loss=12)
    await lose(desk, strategy)
    async with desk.unit() as unit:
        other = await unit.accounts.create(name=f"other {uuid4()}")
        (position,) = await unit.positions.find(account_id=desk.account.id)
        await unit.settlements.create(
            account_id=desk.account.id,
            instrument_id=position.instrument_id,
            position_id=position.id,
            settlement_type=SettlementType.DIVIDEND,
            event="dividend",
            quantity=Decimal(-1),
            cash=Decimal(-1),
            realized_pnl=Decimal(-1),
            occurred_at=NOON,
        )
    assert "realized -12;" in why(await order(desk, strategy, "buy", 1))
    neighbour = await limited(desk, max_daily_loss=1)
    await limit(desk, strategy, max_daily_loss=1)
    assert (await order(desk, strategy, "buy", 1, account=other)).status is FILLED
    assert (await order(desk, neighbour, "buy", 1)).status is FILLED


async def test_of_orders_at_once_only_so_many_pass_as_the_limit_allows(desk: Floor, url: str) -> None:
    strategy = await limited(desk, max_position_size=200)
    engine = create_async_engine(parse_url(url))
    other = TradingService(lambda: UnitOfWork(sessions(engine)), desk.venue, desk.board, desk.board.clock)
    request = CreateTradeRequest(account=desk.account, symbol="AAPL", strategy=strategy.id, side="buy", quantity=1)
    trades = await asyncio.gather(*(service.create_trade(request) for service in (desk.service, other) * 3))
    await engine.dispose()
    assert sorted(trade.status for trade in trades) == [FILLED] * 2 + [REJECTED] * 4
    await identities(desk)


async def test_an_order_waits_for_the_one_that_is_being_checked(desk: Floor) -> None:
    strategy = await limited(desk, max_position_size=100)
    first = CreateTradeRequest(account=desk.account, symbol="AAPL", strategy=strategy.id, side="buy", quantity=1)
    waiting = sa.text("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with desk.unit() as unit:
        await intend(unit, desk.service._desk, first, "first", NOON)
        second = asyncio.create_task(order(desk, strategy, "buy", 1))
        async with asyncio.timeout(30), desk.unit() as watching:
            while await watching.session.scalar(waiting) is None:
                assert not second.done()
    assert "for 200" in why(await second)


@pytest.mark.parametrize(
    ("kind", "side", "stop_loss", "loss"),
    [
        (InstrumentKind.STOCK, "buy", None, "120"),
        (InstrumentKind.STOCK, "sell", None, None),
        (InstrumentKind.STOCK, "sell", "0.70", "20"),
        (InstrumentKind.OUTCOME, "buy", None, "120"),
        (InstrumentKind.OUTCOME, "buy", "0.55", "10"),
        (InstrumentKind.OUTCOME, "sell", None, "80"),
        (InstrumentKind.OPTION, "sell", None, None),
    ],
)
def test_what_a_trade_may_lose(kind: InstrumentKind, side: str, stop_loss: str | None, loss: str | None) -> None:
    instrument = Instrument(kind, 1, "X", multiplier=Decimal(100))
    stopped = None if stop_loss is None else Decimal(stop_loss)
    lost = loss_of(instrument, TradeSide(side), Decimal(2), Decimal("0.60"), stopped)
    assert lost == (None if loss is None else Decimal(loss))


UNITS = st.decimals(Decimal("0.1"), 20, places=1)
EXPOSURES = st.builds(
    Exposure,
    held=st.decimals(-20, 20, places=1),
    size=UNITS,
    working=st.lists(st.tuples(UNITS, UNITS), max_size=3).map(tuple),
)


@given(EXPOSURES, UNITS, UNITS, UNITS)
def test_an_order_in_two_parts_opens_as_much_and_is_as_large(
    before: Exposure, first: Decimal, second: Decimal, price: Decimal
) -> None:
    between = replace(before, working=(*before.working, (first, price)))
    whole, part = before.opened_by(first + second), between.opened_by(second)
    assert before.opened_by(first) + part == whole
    assert 0 <= whole <= first + second
    assert size_after(between, second, price, shown=None) == size_after(before, first + second, price, shown=None)


def test_a_working_order_without_a_price_stands_at_what_the_market_shows() -> None:
    before = Exposure(working=((Decimal(2), None), (Decimal(3), Decimal(10))))
    assert size_after(before, Decimal(1), Decimal(20), shown=None) is None
    assert size_after(before, Decimal(1), Decimal(20), shown=Decimal(7)) == 64
