"""Options and prediction markets end without a trade, and the books agree with the cash to the last digit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from medalion.core.enums import PositionSide, PositionStatus, SettlementType, TradeSide, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.store.store import Store
from tests.support.ledger import agreement, cash, hold, late_fill, rest, settlements
from tests.support.trading_floor import NOON, Board, Floor, floor

pytestmark = pytest.mark.anyio
EXPIRATION = date(2024, 3, 15)
CLOSE = datetime(2024, 3, 15, 20, tzinfo=UTC)
AFTER = CLOSE + timedelta(hours=1)


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        yield opened
        await agreement(opened)


async def contract(desk: Floor, option_type: str = "call", strike: int = 190, expires: date = EXPIRATION) -> str:
    """The symbol of a new option on AAPL."""
    symbol = f"AAPL{uuid4().hex[:12]}"
    async with desk.unit() as unit:
        asset = await unit.assets.by_symbol("AAPL")
        await unit.option_contracts.create(
            asset_id=asset.id,
            symbol=symbol,
            underlying_symbol="AAPL",
            expiration_date=expires,
            option_type=option_type,
            strike_price=Decimal(strike),
        )
    return symbol


async def shares(desk: Floor) -> Any:
    """The open position in AAPL; None if there is none."""
    held = await desk.service.get_positions_by_asset("AAPL", account=desk.account)
    return next((position for position in held if position.is_open), None)


async def settle(desk: Floor, **how: Any) -> list[Any]:
    return await desk.service.settle_expired_options(account=desk.account, at=AFTER, **how)


ENDS = {
    "long call": ("call", 2, 200),
    "long put": ("put", 2, -200),
    "short call": ("call", -2, -200),
    "short put": ("put", -2, 200),
}


@pytest.mark.parametrize(("option_type", "held", "delivered"), ENDS.values(), ids=ENDS)
async def test_the_underlying_changes_hands_at_the_strike(
    desk: Floor, option_type: str, held: int, delivered: int
) -> None:
    position = await hold(desk, await contract(desk, option_type), held)
    before = await cash(desk)
    end = desk.service.exercise_option if held > 0 else desk.service.assign_option
    ended = await end(position.id)
    premium, zero = Decimal("5.20") * held * 100, Decimal(0)
    assert (ended.id, ended.status, ended.remaining_quantity) == (position.id, PositionStatus.CLOSED, Decimal(0))
    assert (ended.realized_pnl, ended.cost_basis) == (-premium, Decimal(0))
    stock = await shares(desk)
    assert (stock.side, stock.remaining_quantity) == (
        PositionSide.LONG if delivered > 0 else PositionSide.SHORT,
        Decimal(200),
    )
    assert (stock.cost_basis, stock.average_entry_price, stock.realized_pnl) == (delivered * 190, Decimal(190), 0)
    assert await cash(desk) - before == -delivered * 190
    kind = SettlementType.EXERCISE if held > 0 else SettlementType.ASSIGNMENT
    assert await settlements(desk) == [
        (kind, Decimal(-held), zero, zero, -premium),
        (kind, Decimal(delivered), Decimal(190), Decimal(-delivered * 190), zero),
    ]


async def test_part_of_a_position_is_exercised_once_for_a_reference(desk: Floor) -> None:
    position = await hold(desk, await contract(desk), 3)
    for _ in range(2):
        ended = await desk.service.exercise_option(position.id, 1, reference="notice 7")
        assert (ended.remaining_quantity, ended.status) == (Decimal(2), PositionStatus.PARTIALLY_CLOSED)
        assert (ended.cost_basis, ended.realized_pnl) == (Decimal(1040), Decimal(-520))
    assert (await shares(desk)).remaining_quantity == 100
    ended = await desk.service.exercise_option(position.id)
    assert (ended.remaining_quantity, ended.realized_pnl) == (Decimal(0), Decimal(-1560))
    assert (await shares(desk)).remaining_quantity == 300
    again = await desk.service.exercise_option(position.id, 1, reference="notice 7")
    assert again == ended


async def test_what_several_settle_at_the_same_time_is_settled_once(desk: Floor) -> None:
    position = await hold(desk, await contract(desk), 2)
    exercising = [desk.service.exercise_option(position.id, reference="notice 8") for _ in range(3)]
    assert {ended.remaining_quantity for ended in await asyncio.gather(*exercising)} == {Decimal(0)}
    await hold(desk, await contract(desk), 1)
    settled = await asyncio.gather(*(settle(desk, prices={"AAPL": Decimal(250)}) for _ in range(3)))
    assert sorted(len(ended) for ended in settled) == [0, 0, 1]
    assert (await shares(desk)).remaining_quantity == 300


async def test_one_reference_may_stand_for_options_of_several_contracts(desk: Floor) -> None:
    for strike in (180, 190):
        position = await hold(desk, await contract(desk, strike=strike), 1)
        await desk.service.exercise_option(position.id, reference="2024-03-08")
    stock = await shares(desk)
    assert (stock.remaining_quantity, stock.cost_basis) == (Decimal(200), Decimal(37_000))


async def test_what_is_delivered_is_added_to_what_is_held(desk: Floor) -> None:
    stock = await hold(desk, "AAPL", 50, "200")
    option = await hold(desk, await contract(desk), 1)
    await desk.service.exercise_option(option.id)
    more = await shares(desk)
    assert (more.id, more.remaining_quantity, more.cost_basis) == (stock.id, Decimal(150), Decimal(29_000))


async def test_what_is_delivered_may_turn_the_underlying_around(desk: Floor) -> None:
    short = await hold(desk, "AAPL", -50, "200")
    option = await hold(desk, await contract(desk), 1)
    await desk.service.exercise_option(option.id)
    closed = await desk.service.get_position(short.id)
    assert (closed.status, closed.realized_pnl) == (PositionStatus.CLOSED, Decimal(500))
    long = await shares(desk)
    assert (long.side, long.remaining_quantity, long.cost_basis) == (PositionSide.LONG, Decimal(50), Decimal(9500))
    delivered = (await settlements(desk))[-1]
    assert delivered == (SettlementType.EXERCISE, Decimal(100), Decimal(190), Decimal(-19_000), Decimal(500))


@pytest.mark.parametrize(
    ("held", "end", "given", "error", "said"),
    [
        (-1, "exercise_option", {}, ConflictError, "short ones assigned"),
        (1, "assign_option", {}, ConflictError, "long ones are exercised"),
        (1, "exercise_option", {"quantity": 2}, ConflictError, "are held"),
        (1, "exercise_option", {"quantity": Decimal("0.5")}, InputError, "whole number"),
        (1, "exercise_option", {"quantity": 0}, InputError, "above zero"),
        (1, "exercise_option", {"at": NOON - timedelta(days=1)}, ConflictError, "held since"),
    ],
)
async def test_what_cannot_be_delivered_changes_nothing(
    desk: Floor, held: int, end: str, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    position = await hold(desk, await contract(desk), held)
    with pytest.raises(error, match=said):
        await getattr(desk.service, end)(position.id, **given)
    assert await desk.service.get_position(position.id) == position
    assert await settlements(desk) == []


async def test_only_what_is_held_of_an_option_is_exercised(desk: Floor) -> None:
    option = await hold(desk, await contract(desk), 1)
    await desk.service.exercise_option(option.id)
    with pytest.raises(ConflictError, match="all of AAPL"):
        await desk.service.exercise_option(option.id)
    with pytest.raises(InputError, match="no option"):
        await desk.service.exercise_option((await shares(desk)).id)
    with pytest.raises(NotFoundError):
        await desk.service.exercise_option(uuid4())


EXPIRES = {
    "call below": ("call", "190.00", False),
    "call a cent above": ("call", "190.01", True),
    "call half a cent above": ("call", "190.005", False),
    "put above": ("put", "190.00", False),
    "put a cent below": ("put", "189.99", True),
}


@pytest.mark.parametrize("held", [2, -2])
@pytest.mark.parametrize(("option_type", "price", "in_the_money"), EXPIRES.values(), ids=EXPIRES)
async def test_at_expiry_a_cent_decides(
    desk: Floor, option_type: str, price: str, in_the_money: bool, held: int
) -> None:
    position = await hold(desk, await contract(desk, option_type), held)
    before = await cash(desk)
    (ended,) = await settle(desk, prices={"AAPL": Decimal(price)})
    assert (ended.id, ended.status, ended.closed_at) == (position.id, PositionStatus.CLOSED, CLOSE)
    assert ended.realized_pnl == Decimal("-5.20") * held * 100
    units = (held if option_type == "call" else -held) * 100 if in_the_money else 0
    assert await cash(desk) - before == -units * 190
    stock = await shares(desk)
    assert (0 if stock is None else stock.remaining_quantity * (1 if stock.side == "long" else -1)) == units
    kinds = {SettlementType.EXERCISE if held > 0 else SettlementType.ASSIGNMENT}
    assert {row[0] for row in await settlements(desk)} == (kinds if in_the_money else {SettlementType.EXPIRY})
    assert await settle(desk, prices={"AAPL": Decimal(price)}) == []


async def test_nothing_ends_before_the_close_of_its_last_day(desk: Floor) -> None:
    await hold(desk, await contract(desk), 1)
    early = CLOSE - timedelta(seconds=1)
    how: dict[str, Any] = {"account": desk.account, "prices": {"AAPL": Decimal(1)}}
    assert await desk.service.settle_expired_options(**how, at=early) == []
    assert len(await desk.service.settle_expired_options(**how, at=CLOSE)) == 1


async def test_the_price_at_expiry_is_a_quote_of_that_day_in_new_york(desk: Floor) -> None:
    await hold(desk, await contract(desk), 1)
    desk.board.moment = datetime(2024, 3, 15, 3, tzinfo=UTC)  # still the 14th there
    desk.board.show("AAPL", "300")
    with pytest.raises(InputError, match=r"no price of AAPL on 2024-03-15.*prices="):
        await settle(desk)
    assert await settlements(desk) == []
    desk.board.moment = datetime(2024, 3, 16, 2, tzinfo=UTC)  # still the 15th
    desk.board.show("AAPL", "189", "190")
    (ended,) = await settle(desk)
    assert ended.status is PositionStatus.CLOSED
    assert await shares(desk) is None


@pytest.mark.parametrize("holds", [True, False])
async def test_working_orders_on_an_expired_contract_are_cancelled(desk: Floor, holds: bool) -> None:
    symbol, other = await contract(desk), await contract(desk, expires=EXPIRATION + timedelta(days=7))
    if holds:
        await hold(desk, symbol, 1)
    trade, alive = await rest(desk, symbol), await rest(desk, other)
    assert len(await settle(desk, prices={"AAPL": Decimal(1)})) == holds
    assert (await desk.service.get_trade(trade.id)).status is TradeStatus.CANCELLED
    assert (await desk.service.get_trade(alive.id)).status is TradeStatus.SUBMITTED


LATE = {"nothing": (0, 1, 1), "more": (2, 1, 1), "less": (2, -1, 1), "the other side": (2, -3, 1)}


@pytest.mark.parametrize("price", ["250", "150"], ids=["in the money", "worthless"])
@pytest.mark.parametrize(("held", "late", "runs"), LATE.values(), ids=LATE)
async def test_a_fill_from_before_the_expiry_is_settled_by_the_next_run(
    desk: Floor, held: int, late: int, runs: int, price: str
) -> None:
    symbol = await contract(desk)
    trade = await rest(desk, symbol, late)
    if held:
        await hold(desk, symbol, held)
    prices = {"AAPL": Decimal(price)}
    await settle(desk, prices=prices)
    await desk.service.record_fill(late_fill(trade))
    await agreement(desk)
    await settle(desk, prices=prices)
    assert await settle(desk, prices=prices) == []
    stock = await shares(desk)
    units = (held + late) * 100 if price == "250" else 0
    assert (0 if stock is None else stock.remaining_quantity * (1 if stock.side == "long" else -1)) == units
    assert [each.symbol for each in await desk.service.get_open_positions(account=desk.account)] == ["AAPL"] * bool(
        units
    )


async def test_what_was_bought_after_the_close_of_the_last_day_ends_too(desk: Floor) -> None:
    symbol = await contract(desk)
    desk.board.moment = CLOSE + timedelta(minutes=5)
    position = await hold(desk, symbol, 1)
    (ended,) = await settle(desk, prices={"AAPL": Decimal(250)})
    assert (ended.id, ended.status) == (position.id, PositionStatus.CLOSED)
    assert (await shares(desk)).remaining_quantity == 100


def test_the_value_of_an_account_is_cash_after_all_has_ended(store: Store) -> None:
    board, moment = Board(), NOON
    store.accounts.create(name="book")
    asset = store.assets.create(symbol="AAPL", name="Apple")
    store.option_contracts.create(
        asset_id=asset.id,
        symbol="AAPL240315C00190000",
        underlying_symbol="AAPL",
        expiration_date=EXPIRATION,
        option_type="call",
        strike_price=Decimal(190),
    )
    event = store.polymarket_events.create(event_id="1", title="?")
    made = store.polymarket_markets.create(polymarket_event_id=event.id, condition_id="0x1", question="?")
    for index, name in enumerate(("Yes", "No")):
        store.polymarket_outcomes.create(
            polymarket_market_id=made.id, token_id=f"{index}", outcome=name, outcome_index=index
        )
    trading = store.backtest(board)
    trading.deposit("book", 10_000, at=moment)
    for symbol, price in (("AAPL240315C00190000", "5"), ("0", "0.60")):
        board.show(symbol, price)
        trading.execute_market_order(account="book", symbol=symbol, side=TradeSide.BUY, quantity=1, at=moment)
    trading.settle_expired_options(prices={"AAPL": Decimal(150)}, at=AFTER)
    trading.resolve_market("0x1", winner="Yes", at=AFTER + timedelta(days=2))
    equity = store.stats.equity("book", end="2024-03-19")
    by_day = dict(zip(equity["ts"].dt.date(), equity["value"], strict=True))
    assert by_day[date(2024, 3, 14)] == 10_000
    assert by_day[date(2024, 3, 15)] == by_day[date(2024, 3, 16)] == 9_500
    assert by_day[date(2024, 3, 17)] == by_day[date(2024, 3, 18)] == Decimal("9500.40")
    assert equity["cash"][-1] == equity["value"][-1] == trading.get_portfolio_summary("book").cash
    summary = store.stats.summary("book", end="2024-03-19")
    assert (summary.profit, summary.trades.net_profit) == (Decimal("-499.60"), Decimal("-499.60"))
    assert summary.trades.total_trades == 2


def test_an_option_is_settled_at_the_last_price_before_the_close_also_days_later(store: Store) -> None:
    asset = store.assets.create(symbol="AAPL", name="Apple")
    store.option_contracts.create(
        asset_id=asset.id,
        symbol="AAPL240315C00190000",
        underlying_symbol="AAPL",
        expiration_date=EXPIRATION,
        option_type="call",
        strike_price=Decimal(190),
    )
    store.accounts.create(name="paper")
    store.trading.deposit("paper", 100_000, at=NOON)
    bought = CLOSE - timedelta(days=1)
    for dataset, symbol, at, price in (
        ("option_quote_snapshots", "AAPL240315C00190000", bought, "5"),
        ("stock_quote_snapshots", "AAPL", CLOSE - timedelta(minutes=1), "200"),
        ("stock_quote_snapshots", "AAPL", CLOSE + timedelta(hours=1), "150"),
        ("stock_quote_snapshots", "AAPL", CLOSE + timedelta(days=3), "120"),
    ):
        sides = {name: [price] for name in ("bid_price", "ask_price")}
        sizes = {name: ["9"] for name in ("bid_size", "ask_size")}
        store.write(dataset, pl.DataFrame({"symbol": [symbol], "ts": [at]} | sides | sizes))
    store.mirror.run()
    store.trading.open_position(account="paper", symbol="AAPL240315C00190000", quantity=1, at=bought)
    (ended,) = store.trading.settle_expired_options(account="paper", at=CLOSE + timedelta(days=3, hours=1))
    assert ended.status is PositionStatus.CLOSED
    (shares,) = store.trading.get_positions_by_asset("AAPL", account="paper")
    assert (shares.remaining_quantity, shares.cost_basis) == (Decimal(100), Decimal(19_000))
