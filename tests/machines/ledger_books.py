"""An account's books as PostgreSQL holds them, read without any of the ledger's code, and held against the model."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.machines.ledger_model import Account, ExecutionEntry, FoldedLine, ModelPosition

Row = dict[str, Any]
Connection = psycopg.Connection[Row]

_POSITIONS = "SELECT * FROM positions WHERE account_id = %s AND NOT is_deleted ORDER BY id"
_FILLS = "SELECT * FROM fills WHERE account_id = %s AND NOT is_deleted ORDER BY executed_at, execution_id"
_TRADES = "SELECT * FROM trades WHERE account_id = %s AND NOT is_deleted ORDER BY id"
_SETTLEMENTS = "SELECT * FROM settlements WHERE account_id = %s ORDER BY id"
_CASH = "SELECT movement_type, sum(amount) AS amount FROM cash_movements WHERE account_id = %s GROUP BY 1 ORDER BY 1"
_EXECUTIONS = """
    SELECT executed.*, ordered.client_order_id, ordered.side, ordered.symbol
    FROM paper_executions AS executed JOIN paper_orders AS ordered ON ordered.id = executed.order_id
    WHERE executed.account_id = %s ORDER BY executed.executed_at, executed.execution_id
"""
_ORDERS = "SELECT * FROM paper_orders WHERE account_id = %s"


@dataclass(frozen=True)
class Books:
    """The rows of one account; `cash` is by type of movement."""

    positions: list[Row]
    fills: list[Row]
    trades: list[Row]
    settlements: list[Row]
    cash: dict[str, Decimal]

    @property
    def standing(self) -> list[Row]:
        """The fills that were not undone, by time."""
        return [fill for fill in self.fills if fill["busted_at"] is None]


def connect(libpq: str) -> Connection:
    return psycopg.connect(libpq, autocommit=True, row_factory=dict_row, options="-c timezone=UTC")


def books_of(connection: Connection, account_id: UUID) -> Books:
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        texts = (_POSITIONS, _FILLS, _TRADES, _SETTLEMENTS, _CASH)
        *rows, moved = [connection.execute(text, [account_id]).fetchall() for text in texts]
    positions, fills, trades, settlements = rows
    return Books(positions, fills, trades, settlements, {row["movement_type"]: row["amount"] for row in moved})


def venue_executions(connection: Connection, account_id: UUID) -> list[Row]:
    """What the paper venue executed, by its own books."""
    return connection.execute(_EXECUTIONS, [account_id]).fetchall()


def venue_orders(connection: Connection, account_id: UUID) -> dict[str, Row]:
    """The paper venue's orders, by client order id."""
    return {row["client_order_id"]: row for row in connection.execute(_ORDERS, [account_id]).fetchall()}


def executed(row: Row) -> ExecutionEntry:
    """An execution of the venue, or a fill of the books, for the model."""
    quantity, price, commission = (Fraction(row[name]) for name in ("quantity", "price", "commission"))
    return ExecutionEntry(
        row["executed_at"], row["execution_id"], quantity if row["side"] == "buy" else -quantity, price, commission
    )


def model_of_venue(connection: Connection, account_id: UUID, deposits: Decimal) -> Account:
    """What the books must be if each execution of the paper venue is in them once, and no strategy trades."""
    lines: dict[tuple[str | None, str], list[ExecutionEntry]] = defaultdict(list)
    for row in venue_executions(connection, account_id):
        lines[None, row["symbol"]].append(executed(row))
    return Account(Fraction(deposits), {line: tuple(entries) for line, entries in lines.items()})


def check_against_venue(connection: Connection, account_id: UUID, deposits: Decimal) -> Books:
    """The books, in which each execution of the paper venue stands once, and each trade as its order does there."""
    books = books_of(connection, account_id)
    check(books, model_of_venue(connection, account_id, deposits))
    booked = [(fill["execution_id"], *_content(fill)) for fill in books.fills]
    found = venue_executions(connection, account_id)
    assert sorted(booked) == sorted((row["execution_id"], *_content(row)) for row in found)
    orders = venue_orders(connection, account_id)
    for trade in books.trades:
        order = orders[trade["client_order_id"]]
        assert (trade["status"], trade["filled_quantity"]) == (order["status"], order["filled_quantity"])
    assert len(books.trades) == len(orders)
    return books


def check(books: Books, account: Account) -> None:
    """The books are what the model says, and agree with themselves, to the last digit."""
    _check_positions(books, account)
    _check_identities(books, account.deposits)
    _check_trades(books)


def _check_positions(books: Books, account: Account) -> None:
    by_line: dict[tuple[str | None, str], list[Row]] = defaultdict(list)
    for position in books.positions:
        strategy = None if position["strategy_id"] is None else str(position["strategy_id"])
        by_line[strategy, position["symbol"]].append(position)
    fills = {fill["execution_id"]: fill for fill in books.standing}
    by_id = {str(position["id"]): position for position in books.positions}
    cash, names = Fraction(account.deposits), set()
    lines = dict(account.folded())
    assert by_line.keys() <= lines.keys()
    for line, model in lines.items():
        held = by_line[line]
        live = [position for position in held if position["status"] != "cancelled"]
        assert sorted(map(_said, live)) == sorted(map(_expected, model.positions))
        assert len([position for position in live if position["status"] != "closed"]) == (model.open is not None)
        for position in held:
            if position["status"] == "cancelled":
                amounts = ("quantity", "remaining_quantity", "cost_basis", "realized_pnl", "commissions")
                assert [position[name] for name in amounts] == [0] * len(amounts)
        _check_settlements(books, {position["id"] for position in held}, model)
        for name in {entry.name for entry in account.lines[line] if isinstance(entry, ExecutionEntry)}:
            fill = fills[name]
            assert fill["realized_pnl"] == model.realized[name]
            led = [_said(by_id[position]) for position in fill["metadata"]["positions"]]
            assert led == [_expected(model.positions[number]) for number in model.led[name]]
            names.add(name)
        cash += model.cash
    assert names == fills.keys()
    assert total(books.cash.values()) == cash


def _check_settlements(books: Books, positions: set[UUID], model: FoldedLine) -> None:
    sums: dict[str, list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 3)
    for row in books.settlements:
        if row["position_id"] in positions:
            parts = zip(sums[row["event"]], (row["quantity"], row["cash"], row["realized_pnl"]), strict=True)
            sums[row["event"]] = [before + Fraction(part) for before, part in parts]
    for event, said in sums.items():
        quantity, paid = model.effects.get(event, (Fraction(0), Fraction(0)))
        assert said == [quantity, paid, paid]
    assert {event for event, effect in model.effects.items() if any(effect)} <= sums.keys()


def _check_identities(books: Books, deposits: Fraction) -> None:
    standing, settlements, positions = books.standing, books.settlements, books.positions
    realized, commissions = (total(row[name] for row in positions) for name in ("realized_pnl", "commissions"))
    assert total(row["realized_pnl"] for row in (*standing, *settlements)) == realized
    # What came in and is not in cash was paid for what is held, lost, or paid in commissions.
    cash, basis = total(books.cash.values()), total(row["cost_basis"] for row in positions)
    assert cash + basis - realized == deposits - commissions
    assert total(fill["commission"] for fill in standing) == commissions
    assert -Fraction(books.cash.get("commission", 0)) == commissions
    held: dict[Any, Fraction] = defaultdict(Fraction)
    for position in positions:
        held[position["instrument_id"]] += _signed(position["remaining_quantity"], position["side"] == "long")
    for fill in standing:
        held[fill["instrument_id"]] -= _signed(fill["quantity"], fill["side"] == "buy")
    for settlement in settlements:
        held[settlement["instrument_id"]] -= Fraction(settlement["quantity"])
    assert not any(held.values())


def _check_trades(books: Books) -> None:
    by_trade: dict[UUID, list[Row]] = defaultdict(list)
    for fill in books.standing:
        by_trade[fill["trade_id"]].append(fill)
    for trade in books.trades:
        fills = by_trade[trade["id"]]
        assert trade["filled_quantity"] == total(fill["quantity"] for fill in fills)
        assert trade["commission"] == total(fill["commission"] for fill in fills)
        assert (trade["status"] == "filled") == (trade["filled_quantity"] == trade["quantity"])
        assert trade["executed_at"] == max((fill["executed_at"] for fill in fills), default=None)
        if fills:
            assert str(trade["position_id"]) == fills[0]["metadata"]["positions"][0]


def _said(position: Row) -> tuple[Any, ...]:
    amounts = ("remaining_quantity", "quantity", "cost_basis", "realized_pnl", "commissions")
    ended = None if position["closed_at"] is None else position["closed_at"].isoformat()
    amount = (str(Fraction(position[name])) for name in amounts)
    return position["opened_at"].isoformat(), ended or "", position["status"], position["side"], *amount


def _expected(held: ModelPosition) -> tuple[Any, ...]:
    remaining = abs(held.quantity)
    status = "closed" if not remaining else "open" if remaining == held.entered else "partially_closed"
    ended = "" if held.closed_at is None else held.closed_at.isoformat()
    amounts = (str(amount) for amount in (remaining, held.entered, held.basis, held.realized, held.commissions))
    return held.opened_at.isoformat(), ended, status, "long" if held.is_long else "short", *amounts


def _content(row: Row) -> tuple[Any, ...]:
    return row["side"], row["quantity"], row["price"], row["commission"], row["executed_at"]


def _signed(quantity: Decimal, is_positive: bool) -> Fraction:
    return Fraction(quantity) if is_positive else -Fraction(quantity)


def total(amounts: Iterable[Decimal]) -> Fraction:
    return sum((Fraction(amount) for amount in amounts), Fraction(0))
