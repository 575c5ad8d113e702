"""What an order may ask of its instrument; everything else is refused with a typed error, and nothing is written."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from medalion.core.enums import SignalType, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, InputError, MedalionError
from medalion.trading.requests import CreateTradeRequest
from medalion.trading.views import TradeDto
from medalion.venues.paper.venue import CommissionSchedule
from oltp.entities.reference import OptionContract, PolymarketOutcome
from tests.support.trading_floor import NOON, Floor, floor

pytestmark = pytest.mark.anyio
LIMIT, STOP, STOP_LIMIT = TradeType.LIMIT, TradeType.STOP, TradeType.STOP_LIMIT


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    """A floor with an account of its own, on which AAPL stands at 100."""
    async with floor(url) as opened:
        opened.board.show("AAPL", "100")
        yield opened


@pytest.fixture
async def yes(desk: Floor) -> PolymarketOutcome:
    """An outcome at 0.60, of a market with a tick of 0.01 that takes orders of 5 and more."""
    async with desk.unit() as unit:
        event = await unit.polymarket_events.create(event_id=str(uuid4()), title="Will it?")
        market = await unit.polymarket_markets.create(
            polymarket_event_id=event.id,
            condition_id=str(uuid4()),
            question="Will it?",
            tick_size=Decimal("0.01"),
            min_order_size=Decimal(5),
        )
        outcome = await unit.polymarket_outcomes.create(
            polymarket_market_id=market.id, token_id=str(uuid4().int), outcome="Yes", outcome_index=0
        )
    desk.board.show(outcome.token_id, "0.60")
    return outcome


@pytest.fixture
async def call(desk: Floor) -> OptionContract:
    """An option at 5 that expires on 1 March 2024."""
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        contract = await unit.option_contracts.create(
            asset_id=asset.id,
            symbol=f"AAPL{uuid4().hex[:10]}",
            underlying_symbol="AAPL",
            expiration_date=date(2024, 3, 1),
            option_type="call",
            strike_price=Decimal(100),
        )
    desk.board.show(contract.symbol, "5")
    return contract


async def order(desk: Floor, symbol: Any, side: str = "buy", quantity: Any = 10, **given: Any) -> TradeDto:
    request = CreateTradeRequest(account=desk.account, symbol=symbol, side=side, quantity=quantity, **given)
    return await desk.service.create_trade(request)


async def refused(desk: Floor, error: type[MedalionError], said: str, symbol: Any, **given: Any) -> None:
    async with desk.unit() as unit:
        before = await unit.trades.count()
    with pytest.raises(error, match=said):
        await order(desk, symbol, **given)
    async with desk.unit() as unit:
        assert await unit.trades.count() == before


async def test_an_option_trades_through_its_last_day_in_new_york_and_is_settled_then(
    desk: Floor, call: OptionContract
) -> None:
    evening, night = datetime(2024, 3, 2, 4, 59, tzinfo=UTC), datetime(2024, 3, 2, 5, tzinfo=UTC)
    bought = await order(desk, call.symbol, quantity=2, at=evening)
    assert bought.status is TradeStatus.FILLED
    await refused(desk, ConflictError, "expired on 2024-03-01.*settle", call.symbol, at=night)
    assert bought.position_id is not None
    with pytest.raises(ConflictError, match=r"expired on 2024-03-01.*settle"):
        await desk.service.close_position(bought.position_id, at=night)
    assert (await desk.service.close_position(bought.position_id, at=evening)).remaining_quantity == 0


async def test_contracts_of_an_option_are_whole(desk: Floor, call: OptionContract) -> None:
    await refused(desk, InputError, "no whole number of contracts", call.symbol, quantity=Decimal("1.5"))
    assert (await order(desk, call, quantity=Decimal("2.0"))).status is TradeStatus.FILLED


@pytest.mark.parametrize("known", ["winner", "resolved_at"])
async def test_a_resolved_market_takes_no_orders_not_even_to_close(
    desk: Floor, yes: PolymarketOutcome, known: str
) -> None:
    bought = await order(desk, yes)
    async with desk.unit() as unit:
        if known == "winner":
            await unit.polymarket_outcomes.update(yes.id, winner=False)
        else:
            await unit.polymarket_markets.update(yes.polymarket_market_id, resolved_at=NOON)
    for symbol in (yes, yes.token_id):
        await refused(desk, ConflictError, "resolution settles", symbol)
    assert bought.position_id is not None
    with pytest.raises(ConflictError, match="resolution settles"):
        await desk.service.close_position(bought.position_id)


async def test_a_market_that_is_only_closed_can_still_be_left(desk: Floor, yes: PolymarketOutcome) -> None:
    bought = await order(desk, yes)
    async with desk.unit() as unit:
        await unit.polymarket_markets.update(yes.polymarket_market_id, is_closed=True)
    await refused(desk, ConflictError, "not tradable", yes)
    assert bought.position_id is not None
    assert (await desk.service.close_position(bought.position_id)).remaining_quantity == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trade_type": LIMIT, "limit_price": Decimal("1.01")}, "limit_price 1.01 of an outcome is above 1"),
        ({"trade_type": STOP, "stop_price": 2}, "stop_price 2 of an outcome is above 1"),
        ({"take_profit": Decimal("1.5")}, "take_profit 1.5 of an outcome is above 1"),
        ({"side": "sell", "stop_loss": 60}, "stop_loss 60 of an outcome is above 1"),
        ({"trade_type": LIMIT, "limit_price": Decimal("-0.1")}, "not above zero"),
        (
            {"trade_type": LIMIT, "limit_price": Decimal("0.615")},
            r"multiple of .* tick 0\.01; give 0\.61 or 0\.62$",
        ),
        (
            {"trade_type": STOP_LIMIT, "stop_price": Decimal("0.601"), "limit_price": Decimal("0.62")},
            r"stop_price 0\.601 is no multiple .* give 0\.6 or 0\.61$",
        ),
        ({"quantity": Decimal("4.99")}, "quantity 4.99 is below 5,"),
    ],
)
async def test_an_outcome_trades_at_probabilities_on_its_grid(
    desk: Floor, yes: PolymarketOutcome, given: dict[str, Any], said: str
) -> None:
    await refused(desk, InputError, said, yes.token_id, **given)


async def test_prices_on_the_grid_and_markets_without_one_are_taken(desk: Floor, yes: PolymarketOutcome) -> None:
    for price in ("0.01", "0.62", "1"):
        assert (await order(desk, yes, trade_type=LIMIT, limit_price=Decimal(price))).quantity == 10
    async with desk.unit() as unit:
        await unit.polymarket_markets.update(yes.polymarket_market_id, tick_size=None, min_order_size=None)
    taken = await order(desk, yes, quantity=Decimal("0.5"), trade_type=LIMIT, limit_price=Decimal("0.6123"))
    assert taken.limit_price == Decimal("0.6123")


async def test_what_is_left_can_be_closed_however_little_it_is(desk: Floor, yes: PolymarketOutcome) -> None:
    first = await order(desk, yes, quantity=7)
    assert first.position_id is not None
    with pytest.raises(InputError, match="quantity 3 is below 5"):
        await desk.service.partially_close_position(first.position_id, 3)
    await desk.service.partially_close_position(first.position_id, 5)
    assert (await desk.service.close_position(first.position_id)).remaining_quantity == 0
    await order(desk, yes, quantity=7)
    await order(desk, yes, "sell", 5)
    for side, quantity in (("sell", 1), ("buy", 2), ("sell", 3)):
        await refused(desk, InputError, "is below 5", yes, side=side, quantity=quantity)
    assert (await order(desk, yes, "sell", 2)).status is TradeStatus.FILLED
    assert await desk.service.get_open_positions(account=desk.account) == []


@pytest.mark.parametrize(
    "given",
    [
        {"trade_type": LIMIT, "limit_price": 100, "stop_loss": 101},
        {"trade_type": STOP, "stop_price": 100, "stop_loss": 101},
        {"trade_type": STOP_LIMIT, "stop_price": 100, "limit_price": 102, "stop_loss": 103},
        {"trade_type": LIMIT, "limit_price": 100, "stop_loss": 99, "side": "sell"},
    ],
)
async def test_a_stop_loss_on_the_side_of_the_profit_is_refused(desk: Floor, given: dict[str, Any]) -> None:
    await refused(desk, InputError, "is on the side of its profit", "AAPL", **given)


async def test_the_prices_of_a_signal_are_checked_as_those_of_the_order(desk: Floor, yes: PolymarketOutcome) -> None:
    async with desk.unit() as unit:
        strategy = await unit.strategies.create(name=f"sure {uuid4()}")
        signal = await unit.signals.create(
            strategy_id=strategy.id,
            outcome_id=yes.id,
            instrument_id=yes.instrument_id,
            symbol=yes.token_id,
            signal_type=SignalType.BUY,
            confidence=Decimal(80),
            signal_timestamp=NOON,
            take_profit=Decimal(90),
        )
    await refused(desk, InputError, "take_profit 90.* of an outcome is above 1", None, signal=signal)
    taken = await order(desk, None, signal=signal, take_profit=Decimal("0.9"))
    assert taken.status is TradeStatus.FILLED


async def test_an_unknown_type_of_order_is_refused_and_a_known_one_may_be_text(desk: Floor) -> None:
    await refused(desk, InputError, "trade_type is 'iceberg'; give one of market, limit", "AAPL", trade_type="iceberg")
    once: dict[str, Any] = {"client_order_id": "once", "trade_type": "limit", "limit_price": 90}
    resting = await order(desk, "AAPL", **once)
    assert resting.trade_type is LIMIT
    assert await order(desk, "AAPL", **once) == resting
    with pytest.raises(InputError, match="iceberg"):
        await order(desk, "AAPL", **{**once, "trade_type": "iceberg"})


async def test_an_order_to_close_names_the_owner_of_the_position(desk: Floor) -> None:
    bought = await order(desk, "AAPL")
    async with desk.unit() as unit:
        strategy = await unit.strategies.create(name=f"another {uuid4()}")
        other = await unit.accounts.create(name=f"another {uuid4()}")
    request = CreateTradeRequest(account=desk.account, symbol="AAPL", position_id=bought.position_id)
    for strange in (replace(request, strategy=strategy.id), replace(request, account=other)):
        with pytest.raises(InputError, match="give those of the position"):
            await desk.service.create_trade(strange)
    # A stop loss is of what an order opens, so that one which a signal to buy carries does no harm here.
    leaving = replace(request, trade_type=LIMIT, limit_price=Decimal(100), stop_loss=Decimal(95))
    assert (await desk.service.create_trade(leaving)).side is TradeSide.SELL


@pytest.mark.parametrize("name", ["bps", "per_unit", "minimum"])
def test_a_commission_is_never_negative(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} -1 is negative"):
        CommissionSchedule(**{name: Decimal(-1)})
