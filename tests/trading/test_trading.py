"""What trading promises: every order once, every fill once, and books that agree with the cash to the last digit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from medalion.core.enums import AccountType, PositionSide, SignalType, TradeSide, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError, VenueError
from medalion.trading.requests import CreateTradeRequest
from medalion.venues.base import FillReport, Order, OrderReport
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from tests.support.trading_floor import NOON, Floor, floor, identities

pytestmark = pytest.mark.anyio
FEES = CommissionSchedule(bps=Decimal(5), per_unit=Decimal("0.005"), minimum=Decimal("0.35"))


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    """A floor with an account of its own, on which AAPL stands at 189.98 and 190.02."""
    async with floor(url, commission=FEES) as opened:
        opened.board.show("AAPL", "189.98", "190.02")
        yield opened


async def test_a_market_order_becomes_a_fill_a_position_cash_and_audit(desk: Floor) -> None:
    trade = await desk.service.execute_market_order(
        account=desk.account.name, symbol="AAPL", side="buy", quantity=10, client_order_id="first", notes="why not"
    )
    assert (trade.status, trade.filled_quantity, trade.average_price) == (
        TradeStatus.FILLED,
        Decimal(10),
        Decimal("190.02"),
    )
    assert trade.total_value == Decimal("1900.2")
    assert trade.commission == Decimal("1.0001")
    assert trade.external_trade_id is not None
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.id == trade.position_id
    assert (position.side, position.remaining_quantity, position.cost_basis) == (
        PositionSide.LONG,
        Decimal(10),
        trade.total_value,
    )
    assert [found.id for found in await desk.service.get_trades_by_position(position.id)] == [trade.id]
    summary = await desk.service.get_portfolio_summary(desk.account)
    assert summary.cash == Decimal(100_000) - trade.total_value - trade.commission
    await identities(desk)
    async with desk.unit() as unit:
        history = await unit.audit_logs.history("trades", trade.id)
        entries = await unit.audit_logs.find(correlation_id="first", entity_id=position.id)
    assert [entry.action for entry in history] == ["insert", "update"]
    assert {entry.correlation_id for entry in history} == {"first"}
    assert history[0].new_state is not None
    assert history[0].new_state["status"] == "pending"
    assert len(entries) == 1


async def test_what_the_market_showed_at_decision_and_fill_is_kept(desk: Floor) -> None:
    trade = await desk.service.execute_limit_order(
        account=desk.account, symbol="AAPL", side="buy", quantity=2, limit_price=Decimal(180)
    )
    desk.board.show("AAPL", "178", "179")
    (filled,) = await desk.service.advance()
    (position,) = await desk.service.get_open_positions(account=desk.account)
    desk.board.show("AAPL", "200", "201")
    closed = await desk.service.close_position(position.id)
    assert filled.id == trade.id
    assert filled.alpaca_market_data_snapshot is not None
    seen = {when: view["seen"]["AAPL"]["ask_price"] for when, view in filled.alpaca_market_data_snapshot.items()}
    assert seen == {"decision": "190.02", "fill": "179"}
    assert filled.polymarket_data_snapshot is None
    assert closed.alpaca_open_snapshot is not None
    assert closed.alpaca_close_snapshot is not None
    assert closed.alpaca_open_snapshot["seen"]["AAPL"]["bid_price"] == "178"
    assert closed.alpaca_close_snapshot["seen"]["AAPL"]["bid_price"] == "200"


async def test_a_limit_order_rests_until_the_market_reaches_it(desk: Floor) -> None:
    order: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "side": "buy", "quantity": 3}
    trade = await desk.service.execute_limit_order(**order, limit_price=Decimal(185), client_order_id="low")
    assert (trade.status, trade.filled_quantity, trade.average_price) == (TradeStatus.SUBMITTED, Decimal(0), None)
    assert await desk.service.advance() == []
    desk.board.show("AAPL", "184.90", "184.95")
    (filled,) = await desk.service.advance()
    assert (filled.id, filled.status, filled.average_price) == (trade.id, TradeStatus.FILLED, Decimal("184.95"))
    assert await desk.service.advance() == []
    await identities(desk)


async def test_the_same_client_order_id_is_the_same_order(desk: Floor) -> None:
    order: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "quantity": 5, "client_order_id": "once"}
    first = await desk.service.execute_market_order(**order, side="buy")
    again = await desk.service.execute_market_order(**order, side="buy")
    assert again == first
    with pytest.raises(ConflictError, match="side is buy, not sell"):
        await desk.service.execute_market_order(**order, side="sell")
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.remaining_quantity == 5


async def test_the_same_order_placed_at_once_by_several_tasks_is_placed_once(desk: Floor) -> None:
    placing = [
        desk.service.execute_market_order(
            account=desk.account, symbol="AAPL", side="buy", quantity=1, client_order_id="together"
        )
        for _ in range(4)
    ]
    trades = await asyncio.gather(*placing)
    assert len({trade.id for trade in trades}) == 1
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.remaining_quantity == 1
    await identities(desk)


async def test_an_order_without_id_gets_one_that_finds_it_again(desk: Floor) -> None:
    order: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "side": "buy", "quantity": 1}
    first, second = [await desk.service.execute_market_order(**order) for _ in range(2)]
    assert first.client_order_id != second.client_order_id
    again = await desk.service.execute_market_order(**order, client_order_id=first.client_order_id)
    assert again.id == first.id


async def test_a_signal_gives_side_quantity_and_id_and_is_marked_as_acted_upon(desk: Floor) -> None:
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        strategy = await unit.strategies.create(name=f"momentum {uuid4()}")
        event = await unit.polymarket_events.create(event_id=str(uuid4()), title="Will Apple ship?")
        market = await unit.polymarket_markets.create(
            polymarket_event_id=event.id, condition_id=str(uuid4()), question="Will Apple ship?"
        )
        yes = await unit.polymarket_outcomes.create(
            polymarket_market_id=market.id, token_id=str(uuid4().int), outcome="Yes", outcome_index=0
        )
        signal = await unit.signals.create(
            strategy_id=strategy.id,
            asset_id=asset.id,
            instrument_id=asset.instrument_id,
            polymarket_event_id=event.id,
            symbol="AAPL",
            signal_type=SignalType.STRONG_BUY,
            confidence=Decimal(80),
            signal_timestamp=NOON,
            suggested_quantity=Decimal(7),
            stop_loss=Decimal(180),
        )
    desk.board.show(yes.token_id, "0.60", "0.62")
    trade = await desk.service.execute_market_order(account=desk.account, signal=signal)
    assert (trade.side, trade.quantity, trade.strategy_id) == (TradeSide.BUY, Decimal(7), strategy.id)
    assert trade.client_order_id == f"signal-{signal.id}"
    assert trade.polymarket_data_snapshot is not None
    assert trade.polymarket_data_snapshot["decision"]["seen"][yes.token_id]["bid_price"] == "0.60"
    assert (await desk.service.execute_market_order(account=desk.account, signal=signal.id)).id == trade.id
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert (position.stop_loss, position.remaining_quantity) == (Decimal(180), Decimal(7))
    async with desk.unit() as unit:
        assert (await unit.signals.get(signal.id)).was_acted_upon
        entries = await unit.audit_logs.find(correlation_id=str(signal.id))
    assert {entry.entity_type for entry in entries} == {"trading_signals", "trades", "positions", "fills"}


async def test_what_is_expired_inactive_or_halted_places_nothing(desk: Floor) -> None:
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        strategy = await unit.strategies.create(name=f"retired {uuid4()}")
        signal = await unit.signals.create(
            strategy_id=strategy.id,
            asset_id=asset.id,
            symbol="AAPL",
            signal_type=SignalType.BUY,
            confidence=Decimal(80),
            signal_timestamp=NOON - timedelta(days=1),
            suggested_quantity=Decimal(7),
            expires_at=NOON,
        )
    with pytest.raises(ConflictError, match="expired"):
        await desk.service.execute_market_order(account=desk.account, signal=signal)
    async with desk.unit() as unit:
        await unit.strategies.update(strategy.id, is_active=False)
    with pytest.raises(ConflictError, match="not active"):
        await desk.service.execute_market_order(
            account=desk.account, symbol="AAPL", side="buy", quantity=1, strategy=strategy.name
        )
    async with desk.unit() as unit:
        halted = await unit.assets.create(symbol=f"H{uuid4().hex[:8]}", name="", is_tradable=False)
    for symbol in (halted, halted.symbol):
        with pytest.raises(ConflictError, match="not tradable"):
            await desk.service.execute_market_order(account=desk.account, symbol=symbol, side="buy", quantity=1)
    async with desk.unit() as unit:
        assert not await unit.trades.any(account_id=desk.account.id)
        assert not (await unit.signals.get(signal.id)).was_acted_upon


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"quantity": Decimal(0)}, InputError, "not above zero"),
        ({"quantity": Decimal("0.000000001")}, InputError, r"decimal\(18,8\)"),
        ({"quantity": 0.5}, InputError, "float"),
        ({"quantity": None}, InputError, "needed"),
        ({"symbol": "APPL"}, NotFoundError, "did you mean 'AAPL'"),
        ({"symbol": None}, InputError, "nothing to trade"),
        ({"side": "hold"}, InputError, "give one of buy, sell"),
        ({"account": "papr"}, NotFoundError, "no Account"),
        ({"strategy": "none"}, NotFoundError, "no Strategy"),
        ({"at": NOON.replace(tzinfo=None)}, InputError, "no time zone"),
        ({"client_order_id": "x" * 101}, InputError, "101 characters"),
        ({"limit_price": Decimal(-1)}, InputError, "not above zero"),
        ({"quantity": Decimal(9_999_999), "limit_price": Decimal(9_999_999)}, InputError, "value of the order"),
    ],
)
async def test_what_cannot_be_accepted_is_refused_and_nothing_is_written(
    desk: Floor, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    order: dict[str, Any] = {
        "account": desk.account,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": 1,
        "limit_price": 190,
        **given,
    }
    with pytest.raises(error, match=said):
        await desk.service.execute_limit_order(**order)
    async with desk.unit() as unit:
        assert not await unit.trades.any(account_id=desk.account.id)


async def test_what_the_venue_refuses_is_a_rejected_trade_with_the_reason(desk: Floor) -> None:
    desk.board.quotes.clear()
    order: dict[str, Any] = {"account": desk.account, "symbol": "AAPL", "quantity": 1}
    trade = await desk.service.execute_market_order(**order, side="buy")
    assert trade.status is TradeStatus.REJECTED
    assert trade.status_reason is not None
    assert "no quote of AAPL" in trade.status_reason
    with pytest.raises(VenueError, match="no quote of AAPL"):
        await desk.service.open_position(**order)
    assert await desk.service.get_open_positions(account=desk.account) == []


async def test_orders_at_the_same_time_add_up_in_one_position(desk: Floor) -> None:
    buying = [
        desk.service.execute_market_order(account=desk.account, symbol="AAPL", side="buy", quantity=1) for _ in range(4)
    ]
    await asyncio.gather(*buying)
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.remaining_quantity == 4
    await identities(desk)


class Crash(BaseException):
    """The process ends here."""


class CrashingVenue(PaperVenue):
    """A paper venue whose answer is never received: the order arrived, or with `before`, it did not."""

    before = False

    async def submit(self, order: Order) -> OrderReport:
        if not self.before:
            await super().submit(order)
        raise Crash


@pytest.mark.parametrize("before", [True, False])
async def test_after_a_crash_between_venue_and_books_every_fill_is_booked_once(desk: Floor, before: bool) -> None:
    crashing = CrashingVenue(desk.venue._sessions, desk.board, commission=FEES)
    crashing.before = before
    service = desk.service
    healthy = service._desk
    service._desk = replace(healthy, venues=dict.fromkeys(AccountType, crashing))
    with pytest.raises(Crash):
        await service.execute_market_order(
            account=desk.account, symbol="AAPL", side="buy", quantity=3, client_order_id="lost"
        )
    async with desk.unit() as unit:
        (trade,) = await unit.trades.find(account_id=desk.account.id)
    assert (trade.status, trade.filled_quantity) == (TradeStatus.PENDING, Decimal(0))
    service._desk = healthy
    found = await service.reconcile(account=desk.account)
    assert (found.asked, found.filled) == (("lost",), ("lost",))
    assert found.submitted == (("lost",) if before else ())
    assert (await service.get_trade(trade.id)).status is TradeStatus.FILLED
    again = await service.reconcile(account=desk.account, since=NOON)
    assert (again.asked, again.filled, again.submitted, again.unknown) == ((), (), (), ())
    (position,) = await service.get_open_positions(account=desk.account)
    assert position.remaining_quantity == 3
    await identities(desk)


async def test_a_retry_after_a_crash_finishes_the_same_order(desk: Floor) -> None:
    healthy = desk.service._desk
    crashing = CrashingVenue(desk.venue._sessions, desk.board, commission=FEES)
    desk.service._desk = replace(healthy, venues=dict.fromkeys(AccountType, crashing))
    order = CreateTradeRequest(account=desk.account, symbol="AAPL", side="buy", quantity=3, client_order_id="again")
    with pytest.raises(Crash):
        await desk.service.create_trade(order)
    desk.service._desk = healthy
    assert (await desk.service.create_trade(order)).status is TradeStatus.FILLED
    (position,) = await desk.service.get_open_positions(account=desk.account)
    assert position.remaining_quantity == 3


def fill_of(trade_id: str, account_id: UUID, execution_id: str, quantity: str, price: str = "180") -> FillReport:
    return FillReport(
        venue="elsewhere",
        account_id=account_id,
        client_order_id=trade_id,
        execution_id=execution_id,
        side=TradeSide.BUY,
        quantity=Decimal(quantity),
        price=Decimal(price),
        commission=Decimal("0.10"),
        executed_at=NOON,
    )


async def test_fills_reported_twice_or_at_once_are_booked_once(desk: Floor) -> None:
    await desk.service.execute_limit_order(
        account=desk.account, symbol="AAPL", side="buy", quantity=3, limit_price=180, client_order_id="parts"
    )
    parts = [fill_of("parts", desk.account.id, f"{desk.account.id}-{part}", "1") for part in (1, 2)]
    reports = [desk.service.record_fill(fill) for fill in (*parts, *parts)]
    await asyncio.gather(*reports)
    async with desk.unit() as unit:
        (trade,) = await unit.trades.find(account_id=desk.account.id)
    assert (trade.status, trade.filled_quantity) == (TradeStatus.PARTIALLY_FILLED, Decimal(2))
    with pytest.raises(ConflictError, match="reports execution"):
        await desk.service.record_fill(fill_of("parts", desk.account.id, parts[0].execution_id, "1", "181"))
    with pytest.raises(ConflictError, match="of an order for 3"):
        await desk.service.record_fill(fill_of("parts", desk.account.id, f"{desk.account.id}-9", "2"))
    with pytest.raises(NotFoundError, match="nobody's"):
        await desk.service.record_fill(fill_of("nobody's", desk.account.id, "x", "2"))
    await identities(desk)
    late = await desk.service.cancel_trade(trade.id)
    assert (late.status, late.filled_quantity) == (TradeStatus.CANCELLED, Decimal(2))
    await desk.service.record_fill(fill_of("parts", desk.account.id, f"{desk.account.id}-3", "1"))
    assert (await desk.service.get_trade(trade.id)).status is TradeStatus.FILLED
    await identities(desk)


async def test_a_cancelled_order_is_over_and_is_never_filled(desk: Floor) -> None:
    trade = await desk.service.execute_limit_order(
        account=desk.account, symbol="AAPL", side="buy", quantity=3, limit_price=180
    )
    cancelled = await desk.service.cancel_trade(trade.id)
    assert cancelled.status is TradeStatus.CANCELLED
    desk.board.show("AAPL", "170")
    assert await desk.service.advance() == []
    with pytest.raises(ConflictError, match="cancelled and cannot be cancelled"):
        await desk.service.cancel_trade(trade.id)


async def test_options_carry_their_multiplier_and_show_their_underlying(desk: Floor) -> None:
    symbol = f"AAPL{uuid4().hex[:10]}"
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        await unit.option_contracts.create(
            asset_id=asset.id,
            symbol=symbol,
            underlying_symbol="AAPL",
            expiration_date=NOON.date(),
            option_type="call",
            strike_price=Decimal(190),
        )
    desk.board.show(symbol, "5.10", "5.20")
    trade = await desk.service.execute_market_order(account=desk.account, symbol=symbol, side="buy", quantity=2)
    assert (trade.total_value, trade.multiplier, trade.average_price) == (Decimal(1040), Decimal(100), Decimal("5.2"))
    assert trade.alpaca_market_data_snapshot is not None
    assert set(trade.alpaca_market_data_snapshot["decision"]["seen"]) == {symbol, "AAPL"}
    await identities(desk)
