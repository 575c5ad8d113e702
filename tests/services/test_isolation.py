"""Accounts are books of their own: same symbols, strategies and order ids in others change no answer of one."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

import polars as pl
import pytest

import medalion
from medalion.core.enums import AccountType, PositionStatus, TradeStatus
from medalion.services.statistics import Statistics
from medalion.services.trading import TradingService
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from oltp.entities.base import Entity
from oltp.repositories.unit_of_work import UnitOfWork
from tests.support.postgres import fresh_database
from tests.support.trading_floor import NOON, Board

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OPTION, TOKEN = "AAPL240308C00100000", "1234567890"
ORDERS = tuple(f"execute_{kind}_order" for kind in ("market", "limit", "stop", "stop_limit", "trailing_stop"))
BOOKS = ("trades", "positions", "fills", "cash_movements", "settlements")


@dataclass
class World:
    """A store in which several accounts do the same, each as many times as it is told."""

    store: Store
    trading: BlockingTradingService
    board: Board
    alone: dict[str, Any] = field(default_factory=dict)

    def found(self, kind: str) -> Any:
        """The asset, strategy or event that all accounts share."""
        return getattr(self.store, kind).first(**({"symbol": "AAPL"} if kind == "assets" else {}))

    def act(self, account: str, times: int) -> None:
        """Round trips, open positions, an option, an outcome and a resting order."""
        self.trading.deposit(account, 10_000 + times, at=NOON)
        traded = (
            ("AAPL", "buy", 10, "100"),
            ("AAPL", "sell", 5, "110"),
            ("MSFT", "buy", 3, "50"),
            ("MSFT", "sell", 3, "60"),
            (OPTION, "buy", 1, "5"),
            (TOKEN, "buy", 10, "0.60"),
        )
        for minute, (symbol, side, quantity, price) in enumerate(traded):
            self.board.show(symbol, price)
            self.trading.execute_market_order(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity * times,
                strategy="momentum",
                client_order_id=f"order {minute}",
                at=NOON + timedelta(minutes=minute),
            )
        for name in ("resting", *(ORDERS if times == 1 else ())):
            self.limit(account, times, name)

    def page(self, account: str) -> list[str]:
        """The cells of the tables of the account's report."""
        path = self.store._parts.settings.data_dir / "report.html"
        text = self.store.stats.report(account, path, end=NOON + 2 * DAY).read_text("utf-8")
        return re.findall(r"<td[^>]*>([^<]+)<", text)

    def limit(self, account: str, times: int, name: str) -> Any:
        return self.trading.execute_limit_order(
            account=account, symbol="AAPL", side="buy", quantity=times, limit_price=1, client_order_id=name, at=NOON
        )


@pytest.fixture(scope="module")
def world(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What the first account was told before there were others, and then the others."""
    folder: Path = tmp_path_factory.mktemp("isolated")
    with fresh_database() as url, medalion.open(url, data_dir=folder, mirror_background=False) as store:
        board = Board()
        made = World(store, store.backtest(board), board)
        for symbol in ("AAPL", "MSFT"):
            store.assets.create(symbol=symbol, name=symbol)
        asset = store.assets.by_symbol("AAPL")
        store.strategies.create(name="momentum")
        store.option_contracts.create(
            asset_id=asset.id,
            symbol=OPTION,
            underlying_symbol="AAPL",
            expiration_date=date(2024, 3, 8),
            option_type="call",
            strike_price=Decimal(100),
        )
        event = store.polymarket_events.create(event_id="1", title="?")
        market = store.polymarket_markets.create(polymarket_event_id=event.id, condition_id="0x1", question="?")
        store.polymarket_outcomes.create(polymarket_market_id=market.id, token_id=TOKEN, outcome="Yes", outcome_index=0)
        store.corporate_actions.create(
            asset_id=asset.id, action_type="split", ex_date=date(2024, 3, 6), new_shares=2, old_shares=1
        )
        for kind in AccountType:
            store.accounts.create(name=kind.value, account_type=kind)
        made.act("paper", 1)
        made.alone = {name: told(ask(made, "paper")) for name, ask in READS.items()}
        made.act("backtest", 2)
        made.act("live", 3)
        yield made


def told(answer: Any) -> Any:
    """The answer as what can be compared: entities by their ids, frames by their rows."""
    if isinstance(answer, Entity):
        return answer.id
    if isinstance(answer, pl.DataFrame):
        return answer.rows()
    return [told(part) for part in answer] if isinstance(answer, list) else answer


Ask = Callable[[World, str], Any]


def of(repository: str, method: str, *given: str | object, **named: Any) -> Ask:
    """A query of a repository; what is given as the name of a repository is the entity that all accounts share."""

    def ask(world: World, account: str) -> Any:
        shared = [world.found(each) if isinstance(each, str) and hasattr(world.store, each) else each for each in given]
        others = {name: value(world) if callable(value) else value for name, value in named.items()}
        owner = world.store.accounts.by_name(account)
        return getattr(getattr(world.store, repository), method)(*shared, **others, account=owner)

    return ask


def by(service: str, method: str, *given: Any, **named: Any) -> Ask:
    """A query of the trading service or the statistics."""

    def ask(world: World, account: str) -> Any:
        body = world.trading if service == "trading" else getattr(world.store, service)
        return getattr(body, method)(*given, **named, account=account)

    return ask


SPAN = (NOON - DAY, NOON + DAY)
READS: dict[str, Ask] = {
    "trades.by_asset": of("trades", "by_asset", "assets"),
    "trades.by_polymarket_event": of("trades", "by_polymarket_event", "polymarket_events"),
    "trades.by_strategy": of("trades", "by_strategy", "strategies"),
    "trades.by_status": of("trades", "by_status", TradeStatus.SUBMITTED),
    "trades.by_date_range": of("trades", "by_date_range", *SPAN),
    "trades.profitable": of("trades", "profitable"),
    "fills.by_date_range": of("fills", "by_date_range", *SPAN),
    "positions.open": of("positions", "open"),
    "positions.closed": of("positions", "closed"),
    "positions.by_asset": of("positions", "by_asset", "assets"),
    "positions.by_polymarket_event": of("positions", "by_polymarket_event", "polymarket_events"),
    "positions.by_strategy": of("positions", "by_strategy", "strategies"),
    "positions.by_status": of("positions", "by_status", PositionStatus.PARTIALLY_CLOSED),
    "positions.by_date_range": of("positions", "by_date_range", *SPAN),
    "positions.find_open": of(
        "positions",
        "find_open",
        strategy=lambda world: world.found("strategies"),
        instrument_id=lambda world: world.found("assets").instrument_id,
    ),
    "cash_movements.by_account": of("cash_movements", "by_account"),
    "cash_movements.balance": of("cash_movements", "balance", before=NOON + DAY),
    "trading.get_trades_by_date_range": by("trading", "get_trades_by_date_range", *SPAN),
    "trading.get_open_positions": by("trading", "get_open_positions"),
    "trading.get_positions_by_asset": by("trading", "get_positions_by_asset", "AAPL"),
    "trading.get_portfolio_summary": by("trading", "get_portfolio_summary"),
    "trading.get_portfolio_performance": by("trading", "get_portfolio_performance"),
    "trading.get_trade_statistics": by("trading", "get_trade_statistics"),
    "stats.equity": by("stats", "equity", end=NOON + 2 * DAY),
    "stats.performance": by("stats", "performance", end=NOON + 2 * DAY),
    "stats.report": lambda world, account: world.page(account),
    "stats.summary": by("stats", "summary", end=NOON + 2 * DAY),
    "stats.trades": by("stats", "trades"),
}


def order(method: str, **named: Any) -> Ask:
    """An order under an id that only the first account has given so far."""
    return by("trading", method, symbol="MSFT", side="buy", quantity=1, client_order_id=method, at=NOON + HOUR, **named)


def split(world: World, account: str) -> Any:
    (action,) = world.store.corporate_actions.find()
    return world.trading.settle_corporate_action(action.id, account=account)


WRITES: dict[str, Ask] = {
    "trading.execute_market_order": order("execute_market_order"),
    "trading.execute_limit_order": order("execute_limit_order", limit_price=1),
    "trading.execute_stop_order": order("execute_stop_order", stop_price=900),
    "trading.execute_stop_limit_order": order("execute_stop_limit_order", stop_price=900, limit_price=901),
    "trading.execute_trailing_stop_order": order("execute_trailing_stop_order", trail_percent=5),
    "trading.open_position": by("trading", "open_position", symbol="MSFT", quantity=1, at=NOON + HOUR),
    "trading.deposit": by("trading", "deposit", quantity=5),
    "trading.withdraw": by("trading", "withdraw", quantity=5),
    "trading.mark_to_market": by("trading", "mark_to_market"),
    "trading.settle_corporate_action": split,
    "trading.settle_expired_options": by(
        "trading", "settle_expired_options", prices={"AAPL": Decimal(150)}, at=NOON + 30 * DAY
    ),
    "trading.reconcile": by("trading", "reconcile", since=NOON - DAY),
}


def taking_account() -> set[str]:
    """Every method that takes an account, of the repositories of the books and of both services."""
    of_books = {name: kind for name, kind in UnitOfWork.repositories().items() if name in BOOKS}
    return {
        f"{name}.{method}"
        for name, kind in {**of_books, "trading": TradingService, "stats": Statistics}.items()
        for method, body in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if method[0] != "_" and "account" in arguments_of(body)
    }


def arguments_of(body: Callable[..., Any]) -> set[str]:
    """The names that a call may give, those of a typed dictionary of keywords too."""
    named = inspect.signature(body).parameters
    keywords = [get_type_hints(body)[name] for name, one in named.items() if one.kind is one.VAR_KEYWORD]
    shared = [get_args(kind)[0] for kind in keywords if get_origin(kind) is Unpack]
    return {*named, *(name for fields in shared for name in get_type_hints(fields))}


def test_every_method_that_takes_an_account_is_tested_here() -> None:
    assert set(READS) | set(WRITES) == taking_account()
    assert not set(READS) & set(WRITES)


@pytest.mark.parametrize("name", READS)
def test_no_answer_about_an_account_knows_of_another(world: World, name: str) -> None:
    own, other = (told(READS[name](world, account)) for account in ("paper", "backtest"))
    assert own == world.alone[name]
    assert own
    assert other != own


@pytest.mark.parametrize("name", WRITES)
def test_what_is_done_in_one_account_changes_no_other(world: World, name: str) -> None:
    for symbol in ("AAPL", "MSFT", OPTION, TOKEN):
        world.board.show(symbol, "0.70" if symbol == TOKEN else "70")
    before = {kind: rows(world, kind) for kind in ("paper", "backtest")}
    done = WRITES[name](world, "live")
    assert done
    assert {kind: rows(world, kind) for kind in before} == before
    owner = world.store.accounts.by_name("live").id
    results = done if isinstance(done, list) else [done]
    assert {getattr(result, "account_id", owner) for result in results} == {owner}


def rows(world: World, account: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored of the account."""
    owner = world.store.accounts.by_name(account).id
    return {
        name: [
            tuple(getattr(row, column.key) for column in type(row).__mapper__.column_attrs)
            for row in getattr(world.store, name).find(account_id=owner)
        ]
        for name in BOOKS
    }


def test_one_order_id_is_an_order_of_each_account(world: World) -> None:
    found = world.store.trades.find(client_order_id="resting")
    assert len({trade.account_id for trade in found}) == len(found) == len(AccountType)
    again = world.limit("paper", 1, "resting")
    assert again.id == next(trade.id for trade in found if trade.account_id == again.account_id)
