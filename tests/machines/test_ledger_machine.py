"""The books agree with an independent model after every step of any history, to the last digit.

1,500 steps over PostgreSQL with the paper venue, besides the 10,000 over the pure fold in `test_fold_machine`.
MEDALION_LEDGER_STEPS multiplies both.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Any, ClassVar
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from medalion.core.enums import TradeSide
from medalion.core.errors import ConflictError
from medalion.venues.base import FillReport
from medalion.venues.paper.venue import CommissionSchedule
from oltp.entities.trading import Account as StoredAccount
from tests.machines import ledger_model as model
from tests.machines.ledger_books import Books, Connection, Row, books_of, check, connect, executed, venue_executions
from tests.machines.ledger_draws import TIMES, commissions, prices, quantities
from tests.support.lengths import examples
from tests.support.postgres import fresh_database
from tests.support.server import libpq
from tests.support.trading_floor import NOON, Floor, floor

DEPOSIT = Decimal(100_000)
FEES = CommissionSchedule(bps=Decimal(5), per_unit=Decimal("0.005"), minimum=Decimal("0.35"))
SPLITS = {"AAPL": (2, 1), "MSFT": (1, 4)}
SPLIT_ON, DIVIDEND_ON = date(2024, 3, 2), date(2024, 3, 3)
WORKING = ("pending", "submitted", "partially_filled")


sides = st.sampled_from(TradeSide)
# Hours before the last execution; one later than all is the common case. Actions take effect at whole hours too.
lags = st.one_of(st.just(-1), st.integers(-2, 30))


@dataclass
class Exchange:
    """A floor that machines share, each with an account of its own; everything runs on one event loop."""

    runner: asyncio.Runner
    desk: Floor
    connection: Connection
    actions: dict[UUID, tuple[str, model.EventEntry]]
    strategies: list[UUID]

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @property
    def lines(self) -> list[tuple[UUID | None, str]]:
        """Three on one instrument, which are never netted, and one on another."""
        first, second = self.strategies
        return [(first, "AAPL"), (second, "AAPL"), (None, "AAPL"), (first, "MSFT")]


@pytest.fixture
def exchange(postgres: str) -> Iterator[Exchange]:
    with fresh_database() as url, asyncio.Runner() as runner, connect(libpq(url)) as connection:
        stack = AsyncExitStack()
        desk = runner.run(stack.enter_async_context(floor(url, commission=FEES)))
        actions, strategies = runner.run(_prepare(desk))
        yield Exchange(runner, desk, connection, actions, strategies)
        runner.run(stack.aclose())


async def _prepare(desk: Floor) -> tuple[dict[UUID, tuple[str, model.EventEntry]], list[UUID]]:
    """A split and a dividend of two shares, as the model knows them, and two strategies."""
    known = {}
    async with desk.unit() as unit:
        await unit.assets.create(symbol="MSFT", name="Microsoft")
        strategies = [(await unit.strategies.create(name=f"strategy {number}")).id for number in range(2)]
        for symbol, (new, old) in SPLITS.items():
            asset = await unit.assets.by_symbol(symbol)
            split = await unit.corporate_actions.create(
                asset_id=asset.id, action_type="split", ex_date=SPLIT_ON, new_shares=new, old_shares=old
            )
            paid = await unit.corporate_actions.create(
                asset_id=asset.id, action_type="dividend", ex_date=DIVIDEND_ON, amount=Decimal("0.37000001")
            )
            terms = {split.id: {"ratio": Fraction(new, old)}, paid.id: {"each": Fraction("0.37000001")}}
            for action, day in ((split.id, SPLIT_ON), (paid.id, DIVIDEND_ON)):
                at = datetime(day.year, day.month, day.day, 5, tzinfo=UTC)
                known[action] = symbol, model.EventEntry(at, f"corporate-action/{action}", **terms[action])
    return known, strategies


@pytest.mark.long
@pytest.mark.timeout(1_500)  # of the whole history; each of its calls is short
def test_the_books_agree_with_the_model_after_every_step(
    exchange: Exchange, record_testsuite_property: Callable[[str, object], None]
) -> None:
    LedgerMachine.exchange, LedgerMachine.steps = exchange, 0
    length = settings(max_examples=examples(1_500 * TIMES) // 35, stateful_step_count=40, database=None)
    run_state_machine_as_test(LedgerMachine, settings=length)
    record_testsuite_property("steps of the books", LedgerMachine.steps)
    assert LedgerMachine.steps >= examples(1_000 * TIMES)  # how many a history has is drawn, too


class LedgerMachine(RuleBasedStateMachine):
    """One account: orders, executions in any order, twice, contradicted, undone and corrected; splits and dividends."""

    exchange: ClassVar[Exchange]
    steps = 0
    orders, reports = Bundle("orders"), Bundle("reports")

    def __init__(self) -> None:
        super().__init__()
        self.service, self.board = self.exchange.desk.service, self.exchange.desk.board
        self.account: StoredAccount
        self.expected = model.Account(Fraction(DEPOSIT))
        self.books: Books
        self.last = NOON
        self.booked: dict[str, FillReport] = {}
        self.undone: set[str] = set()
        self.replaced: set[str] = set()
        self.numbers = count()

    @initialize()
    def open_account(self) -> None:
        async def made() -> StoredAccount:
            async with self.exchange.desk.unit() as unit:
                return await unit.accounts.create(name=f"machine {uuid4()}")

        self.account = self.exchange.wait(made())
        self.exchange.wait(self.service.deposit(self.account, DEPOSIT))

    @invariant()
    def agrees(self) -> None:
        type(self).steps += 1
        self.books = books_of(self.exchange.connection, self.account.id)
        check(self.books, self.expected)

    @rule(
        target=reports,
        line=st.integers(0, 3),
        side=sides,
        quantity=quantities,
        price=prices,
        lag=lags,
    )
    def trade_at_the_market(self, line: int, side: TradeSide, quantity: Decimal, price: Decimal, lag: int) -> Any:
        return self._trade(self.exchange.lines[line], side, quantity, price, self._time(lag))

    @precondition(lambda self: self._open())
    @rule(target=reports, which=st.integers(0, 3), extra=quantities, price=prices)
    def cross_zero(self, which: int, extra: Decimal, price: Decimal) -> Any:
        held = self._open()[which % len(self._open())]
        side = TradeSide.SELL if held["side"] == "long" else TradeSide.BUY
        return self._trade(_line_of(held), side, held["remaining_quantity"] + extra, price, self._time(-1))

    @precondition(lambda self: self._open())
    @rule(target=reports, which=st.integers(0, 3), share=st.integers(1, 4), price=prices)
    def close(self, which: int, share: int, price: Decimal) -> Any:
        """In part, or with the largest share whole."""
        held = self._open()[which % len(self._open())]
        quantity = (held["remaining_quantity"] * share / 4).quantize(Decimal("1E-8"))
        at, sign = self._time(-1), -1 if held["side"] == "long" else 1
        on_the_way = sum(
            trade["quantity"] - trade["filled_quantity"]
            for trade in self.books.trades
            if trade["position_id"] == held["id"]
            and trade["status"] in WORKING
            and (trade["side"] == "buy") == (sign > 0)
        )
        if not quantity or not self._may_follow(_line_of(held), _probe(at, Fraction(quantity) * sign)):
            return multiple()
        self.board.show(held["symbol"], str(price))
        closing = (
            self.service.close_position(held["id"], at=at)
            if share == 4
            else self.service.partially_close_position(held["id"], quantity, at=at)
        )
        if quantity > held["remaining_quantity"] - on_the_way:
            self._refused(closing, "on their way")
            return multiple()
        assert self.exchange.wait(closing).id == held["id"]
        return self._executed_at_venue(_line_of(held))

    @rule(target=orders, line=st.integers(0, 3), side=sides, quantity=quantities)
    def leave_an_order_resting(self, line: int, side: TradeSide, quantity: Decimal) -> str:
        strategy, symbol = self.exchange.lines[line]
        self.board.show(symbol, "100")
        name = f"rests-{next(self.numbers)}"
        placing = self.service.execute_limit_order(
            account=self.account,
            symbol=symbol,
            side=side,
            quantity=quantity,
            limit_price=1 if side is TradeSide.BUY else 1000,
            strategy=strategy,
            client_order_id=name,
            at=self._time(-1),
        )
        assert not self.exchange.wait(placing).filled_quantity
        return name

    @rule(
        target=reports,
        order=orders,
        share=st.sampled_from((Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(3, 2))),
        price=prices,
        commission=commissions,
        lag=lags,
    )
    def report_an_execution(self, order: str, share: Fraction, price: Decimal, commission: Decimal, lag: int) -> Any:
        """In part or whole, late or not; refused where it is more than was ordered."""
        trade = self._trade_named(order)
        left = trade["quantity"] - trade["filled_quantity"]
        quantity = (left * share.numerator / share.denominator or Decimal(1)).quantize(Decimal("1E-8"))
        if not quantity:
            return multiple()
        report = self._report(trade, quantity, price, commission, self._time(lag))
        if quantity > left:
            self._refused(self.service.record_fill(report), "of an order for")
            return multiple()
        entry = _entry(report)
        if not self._may_follow(_line_of(trade), entry):
            self._refused(self.service.record_fill(report), "fraction")
            return multiple()
        self.exchange.wait(self.service.record_fill(report))
        self._book(_line_of(trade), report)
        return report

    @rule(report=reports)
    def report_again(self, report: FillReport) -> None:
        self.exchange.wait(self.service.record_fill(report))
        self._nothing_changed()

    @rule(report=reports, what=st.sampled_from(("price", "quantity", "commission")))
    def contradict(self, report: FillReport, what: str) -> None:
        other = replace(report, **{what: getattr(report, what) + Decimal("1E-8")})
        self._refused(self.service.record_fill(other), "again")

    @rule(report=reports)
    def undo(self, report: FillReport) -> None:
        undoing = self.service.bust_fill(report.execution_id, venue=report.venue, at=self.last)
        if report.execution_id in self.undone:
            self.exchange.wait(undoing)
            self._nothing_changed()
            return
        line = _line_of(self._trade_named(report.client_order_id))
        if not self._may_follow(line, without=report.execution_id):
            self._refused(undoing, "fraction")
            return
        self.exchange.wait(undoing)
        self._unbook(line, report)

    @rule(target=reports, report=reports, quantity=st.one_of(st.none(), quantities), price=prices, lag=lags)
    def correct(self, report: FillReport, quantity: Decimal | None, price: Decimal, lag: int) -> Any:
        """At another price and time, and perhaps of another quantity."""
        trade = self._trade_named(report.client_order_id)
        right = self._report(trade, quantity or report.quantity, price, report.commission, self._time(lag))
        right = replace(right, venue=report.venue)
        correcting = self.service.correct_fill(report.execution_id, right, at=self.last)
        if report.execution_id in self.replaced:
            self._refused(correcting, "was replaced by")
            return multiple()
        is_undone = report.execution_id in self.undone
        left = trade["quantity"] - trade["filled_quantity"] + (Decimal(0) if is_undone else report.quantity)
        line = _line_of(trade)
        if right.quantity > left:
            self._refused(correcting, "of an order for")
            return multiple()
        if not self._may_follow(line, _entry(right), without=report.execution_id):
            self._refused(correcting, "fraction")
            return multiple()
        self.exchange.wait(correcting)
        self.replaced.add(report.execution_id)
        self._unbook(line, report)
        self._book(line, right)
        return right

    @rule(which=st.integers(0, 3))
    def settle(self, which: int) -> None:
        """Before or after the executions that follow it; again, it counts for what was booked since."""
        action, (symbol, event) = list(self.exchange.actions.items())[which]
        settling = self.service.settle_corporate_action(action, account=self.account)
        try:
            self.expected = self.expected.settled(symbol, event)
        except model.FractionalUnitError:
            self._refused(settling, "fraction")
            return
        self.exchange.wait(settling)

    def _trade(
        self, line: tuple[UUID | None, str], side: TradeSide, quantity: Decimal, price: Decimal, at: datetime
    ) -> Any:
        strategy, symbol = line
        if not self._may_follow(line, _probe(at, Fraction(quantity) * side.sign)):
            return multiple()
        self.board.show(symbol, str(price))
        trading = self.service.execute_market_order(
            account=self.account,
            symbol=symbol,
            side=side,
            quantity=quantity,
            strategy=strategy,
            client_order_id=f"trades-{next(self.numbers)}",
            at=at,
        )
        assert self.exchange.wait(trading).filled_quantity == quantity
        return self._executed_at_venue(line)

    def _executed_at_venue(self, line: tuple[UUID | None, str]) -> FillReport:
        """The newest execution, as the venue has it."""
        (row,) = [
            row
            for row in venue_executions(self.exchange.connection, self.account.id)
            if row["execution_id"] not in self.booked
        ]
        content = {name: row[name] for name in ("execution_id", "quantity", "price", "commission", "executed_at")}
        side = TradeSide(row["side"])
        report = FillReport("paper", self.account.id, row["client_order_id"], side=side, **content)
        self._book(line, report)
        return report

    def _report(self, trade: Row, quantity: Decimal, price: Decimal, commission: Decimal, at: datetime) -> FillReport:
        name, side = f"{self.account.id}-{next(self.numbers)}", TradeSide(trade["side"])
        order = trade["client_order_id"]
        return FillReport("elsewhere", self.account.id, order, name, side, quantity, price, commission, at)

    def _book(self, line: tuple[UUID | None, str], report: FillReport) -> None:
        self.booked[report.execution_id] = report
        self.expected = self.expected.with_entry(_key(line), _entry(report))

    def _unbook(self, line: tuple[UUID | None, str], report: FillReport) -> None:
        self.undone.add(report.execution_id)
        self.expected = self.expected.with_entry(_key(line), without=report.execution_id)

    def _may_follow(self, line: tuple[UUID | None, str], *entries: model.Entry, without: str | None = None) -> bool:
        """Whether no split would leave a fraction then."""
        try:
            dict(self.expected.with_entry(_key(line), *entries, without=without).folded())
        except model.FractionalUnitError:
            return False
        return True

    def _refused(self, work: Coroutine[Any, Any, Any], said: str) -> None:
        with pytest.raises(ConflictError, match=said):
            self.exchange.wait(work)
        self._nothing_changed()

    def _nothing_changed(self) -> None:
        assert books_of(self.exchange.connection, self.account.id) == self.books

    def _time(self, lag: int) -> datetime:
        at = self.last - timedelta(hours=lag)
        self.last = max(self.last, at)
        return at

    def _open(self) -> list[Row]:
        return [position for position in self.books.positions if position["remaining_quantity"]]

    def _trade_named(self, name: str) -> Row:
        return next(trade for trade in self.books.trades if trade["client_order_id"] == name)


def _line_of(row: Row) -> tuple[UUID | None, str]:
    return row["strategy_id"], row["symbol"]


def _key(line: tuple[UUID | None, str]) -> tuple[str | None, str]:
    return (None if line[0] is None else str(line[0])), line[1]


def _entry(report: FillReport) -> model.ExecutionEntry:
    content = {name: getattr(report, name) for name in FillReport.__slots__}
    return executed(content)


def _probe(at: datetime, quantity: Fraction) -> model.ExecutionEntry:
    """An execution whose price is not known yet."""
    return model.ExecutionEntry(at, "~", quantity, Fraction(1), Fraction(0))
