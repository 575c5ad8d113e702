"""Splits and dividends change what is held, and not what the account is worth."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from medalion.core.errors import ConflictError, InputError
from medalion.store.store import Store
from medalion.trading.corporate_actions import effective_at
from tests.support.trading_floor import Board

EX_DATE = date(2024, 3, 4)
BEFORE, AFTER = datetime(2024, 3, 1, 15, tzinfo=UTC), datetime(2024, 3, 4, 15, tzinfo=UTC)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def trading(store: Store, board: Board) -> Any:
    store.assets.create(symbol="AAPL", name="Apple")
    account = store.accounts.create(name="book")
    service = store.backtest(board)
    service.deposit(account, 10_000, at=BEFORE)
    return service


def action(store: Store, kind: str, **terms: Any) -> Any:
    asset = store.assets.by_symbol("AAPL")
    return store.corporate_actions.create(asset_id=asset.id, action_type=kind, ex_date=EX_DATE, **terms)


def trade(trading: Any, board: Board, side: str, quantity: int, price: str, at: datetime = BEFORE) -> Any:
    board.show("AAPL", price)
    return trading.execute_market_order(account="book", symbol="AAPL", side=side, quantity=quantity, at=at)


def test_an_action_takes_effect_at_midnight_in_new_york(store: Store, trading: Any) -> None:
    split = action(store, "split", new_shares=2, old_shares=1)
    assert effective_at(split) == datetime(2024, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_split_changes_the_units_and_neither_worth_nor_cost(
    store: Store, trading: Any, board: Board, side: str
) -> None:
    trade(trading, board, side, 30, "33.10")
    before = trading.get_portfolio_summary("book")
    (position,) = trading.settle_corporate_action(action(store, "split", new_shares=3, old_shares=2).id, account="book")
    after = trading.get_portfolio_summary("book")
    assert (position.remaining_quantity, position.quantity) == (45, 45)
    assert (after.cost_basis, after.cash, after.realized_pnl) == (before.cost_basis, before.cash, before.realized_pnl)
    assert after.equity is not None
    assert before.equity is not None
    assert abs(after.equity - before.equity) < Decimal("0.000001")
    (settlement,) = store.settlements.by_position(position.id)
    assert settlement.quantity == (15 if side == "buy" else -15)


def test_what_a_split_added_can_be_sold(store: Store, trading: Any, board: Board) -> None:
    trade(trading, board, "buy", 30, "33.10")
    trading.settle_corporate_action(action(store, "split", new_shares=2, old_shares=1).id, account="book")
    trade(trading, board, "sell", 60, "16.60", AFTER)
    (position,) = trading.get_positions_by_asset("AAPL")
    assert not position.is_open
    assert position.realized_pnl == 60 * Decimal("16.60") - 30 * Decimal("33.10")


def test_the_value_by_session_knows_the_split(store: Store, trading: Any, board: Board) -> None:
    trade(trading, board, "buy", 30, "33.10")
    trading.settle_corporate_action(action(store, "split", new_shares=2, old_shares=1).id, account="book")
    trade(trading, board, "sell", 10, "16.55", AFTER)
    assert set(store.stats.equity("book")["value"]) == {Decimal(10_000)}


@pytest.mark.parametrize(("side", "paid"), [("buy", 90), ("sell", -90)])
def test_a_dividend_moves_cash_and_is_realized(store: Store, trading: Any, board: Board, side: str, paid: int) -> None:
    trade(trading, board, side, 30, "33.10")
    before = trading.get_portfolio_summary("book")
    trading.settle_corporate_action(action(store, "dividend", amount=3).id, account="book")
    after = trading.get_portfolio_summary("book")
    assert (after.cash - before.cash, after.realized_pnl - before.realized_pnl) == (paid, paid)
    assert after.equity == after.deposits + after.net_pnl


@pytest.mark.parametrize(
    ("kind", "terms"), [("split", {"new_shares": 2, "old_shares": 1}), ("dividend", {"amount": 3})]
)
def test_settled_twice_is_settled_once(
    store: Store, trading: Any, board: Board, kind: str, terms: dict[str, int]
) -> None:
    trade(trading, board, "buy", 30, "33.10")
    known = action(store, kind, **terms)
    trading.settle_corporate_action(known.id, account="book")
    once = trading.get_portfolio_summary("book")
    assert trading.settle_corporate_action(known.id, account="book") == []
    assert trading.get_portfolio_summary("book") == once
    assert store.settlements.count() == 1


def test_a_position_opened_on_the_ex_date_is_left_alone(store: Store, trading: Any, board: Board) -> None:
    trade(trading, board, "buy", 30, "16.55", AFTER)
    known = action(store, "split", new_shares=2, old_shares=1)
    assert trading.settle_corporate_action(known.id, account="book") == []


def test_an_action_may_come_after_the_fills_that_follow_it(store: Store, trading: Any, board: Board) -> None:
    trade(trading, board, "buy", 30, "33.10")
    trade(trading, board, "sell", 40, "16.55", AFTER)
    known = action(store, "split", new_shares=2, old_shares=1)
    trading.settle_corporate_action(known.id, account="book")
    (position,) = trading.get_open_positions(account="book")
    assert (position.side, position.quantity, position.remaining_quantity) == ("long", 60, 20)
    assert position.realized_pnl == 0
    assert position.cost_basis == Decimal("331")
    assert [held.status for held in store.positions.find() if held.id != position.id] == ["cancelled"]


def test_the_stop_of_a_position_is_split_once(store: Store, trading: Any, board: Board) -> None:
    board.show("AAPL", "33.10")
    held = trading.open_position(account="book", symbol="AAPL", quantity=30, stop_loss=30, take_profit=40, at=BEFORE)
    known = action(store, "split", new_shares=2, old_shares=1)
    for _ in range(2):
        trading.settle_corporate_action(known.id, account="book")
    split = trading.get_position(held.id)
    assert (split.stop_loss, split.take_profit, split.current_price) == (15, 20, Decimal("16.55"))


def test_a_fraction_that_cannot_be_said_is_refused(store: Store, trading: Any, board: Board) -> None:
    trade(trading, board, "buy", 31, "33.10")
    known = action(store, "split", new_shares=1, old_shares=3)
    with pytest.raises(ConflictError, match="fraction"):
        trading.settle_corporate_action(known.id, account="book")


def test_a_rename_settles_nothing(store: Store, trading: Any) -> None:
    with pytest.raises(InputError, match="rename"):
        trading.settle_corporate_action(action(store, "rename", new_symbol="APL").id, account="book")
