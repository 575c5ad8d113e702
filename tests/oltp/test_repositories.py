"""What every repository promises, and what a unit of work leaves behind."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from medalion.core.enums import AssetType, PositionStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError, StoreUnavailableError
from oltp.entities.base import uuid7
from oltp.entities.reference import Asset, PolymarketEvent, PolymarketOutcome
from oltp.entities.trading import Account, Position, Strategy, Trade
from oltp.repositories.unit_of_work import UnitOfWork, acting, acting_as, sessions
from oltp.server.engine import parse_url
from tests.support.entities import NOON, Units, add_asset, add_book, holding_of, order_of

pytestmark = pytest.mark.anyio
Attempt = Callable[[UnitOfWork], Awaitable[object]]


async def test_what_is_created_is_read_back_by_another_unit_of_work(units: Units) -> None:
    made = await add_asset(units, min_order_quantity=Decimal("0.00000001"), extra={"lot": Decimal("0.10")})
    async with units() as unit:
        read = await unit.assets.get(made.id)
    assert read is not made
    assert (read.symbol, read.asset_type, read.min_order_quantity) == ("AAPL", AssetType.STOCK, Decimal("0.00000001"))
    assert read.extra == {"lot": "0.10"}
    assert read.instrument_id == made.instrument_id > 0
    assert read.created_at.tzinfo is UTC
    assert read.created_at == made.created_at


async def test_an_error_undoes_everything_of_its_unit(units: Units) -> None:
    async def create_and_fail() -> None:
        async with units() as unit:
            await unit.assets.create(symbol="AAPL", name="Apple")
            raise RuntimeError("after")

    with pytest.raises(RuntimeError, match="after"):
        await create_and_fail()
    async with units() as unit:
        assert await unit.assets.count() == 0


async def test_filters_are_fields_or_expressions_and_unknown_fields_name_the_nearest(units: Units) -> None:
    for symbol in ("MSFT", "AAPL"):
        await add_asset(units, symbol)
    async with units() as unit:
        assert [asset.symbol for asset in await unit.assets.find()] == ["AAPL", "MSFT"]
        assert [asset.symbol for asset in await unit.assets.find(Asset.symbol > "B", asset_type="stock")] == ["MSFT"]
        assert await unit.assets.count(extra=None) == 2
        assert await unit.assets.any(symbol="AAPL")
        assert not await unit.assets.any(symbol="TSLA")
        assert await unit.assets.first(symbol="TSLA") is None
        with pytest.raises(InputError, match="no field 'symbl'; known: symbol"):
            await unit.assets.find(symbl="AAPL")
        with pytest.raises(InputError, match="min_order_quantity"):
            await unit.assets.find(min_order_quantity=1.5)


async def test_pages_cover_everything_once(units: Units) -> None:
    async with units() as unit:
        await unit.assets.add_many(Asset(symbol=f"S{number:02}", name="") for number in range(25))
    async with units() as unit:
        pages = [await unit.assets.page(number=number, size=10) for number in (1, 2, 3, 4)]
        assert [asset.symbol for page in pages for asset in page.items] == [f"S{number:02}" for number in range(25)]
        assert {page.total for page in pages} == {25}
        seen: list[str] = []
        after: UUID | None = None
        while found := await unit.assets.page_after(after, size=10):
            seen += [asset.symbol for asset in found]
            after = found[-1].id
        assert seen == [f"S{number:02}" for number in range(25)]
        with pytest.raises(InputError):
            await unit.assets.page(number=0)


async def test_an_update_changes_the_named_fields_only(units: Units) -> None:
    made = await add_asset(units)
    async with units() as unit:
        changed = await unit.assets.update(made.id, name="Apple", is_active=False)
    assert (changed.name, changed.is_active, changed.symbol) == ("Apple", False, "AAPL")
    assert changed.updated_at > made.updated_at
    async with units() as unit:
        with pytest.raises(InputError, match="kept by the store"):
            await unit.assets.update(made.id, instrument_id=5)
        with pytest.raises(InputError, match="no field 'colour'"):
            await unit.assets.update(made.id, colour="red")
        with pytest.raises(NotFoundError):
            await unit.assets.update(uuid7(), name="nobody")


async def test_a_deleted_entity_is_hidden_until_restored(units: Units) -> None:
    made = await add_asset(units)
    async with units() as unit:
        await unit.assets.delete(made.id)
    async with units() as unit:
        assert await unit.assets.find() == []
        assert await unit.assets.count() == 0
        with pytest.raises(NotFoundError, match="no Asset"):
            await unit.assets.get(made.id)
        hidden = await unit.session.scalars(sa.select(Asset), execution_options={"include_deleted": True})
        assert [asset.id for asset in hidden] == [made.id]
    async with units() as unit:
        restored = await unit.assets.restore(made.id)
    assert (restored.is_deleted, restored.deleted_at) == (False, None)
    async with units() as unit:
        assert (await unit.assets.get(made.id)).symbol == "AAPL"


async def test_deleting_through_the_session_hides_too(units: Units) -> None:
    made = await add_asset(units)
    async with units() as unit:
        await unit.session.delete(await unit.assets.get(made.id))
    async with units() as unit:
        assert await unit.assets.count() == 0
        await unit.assets.restore(made.id)


async def test_deleted_entities_are_hidden_in_loaded_lists(units: Units) -> None:
    async with units() as unit:
        event = await unit.polymarket_events.create(event_id="1", title="Will it?")
        for number in range(2):
            await unit.polymarket_markets.create(
                polymarket_event_id=event.id, condition_id=f"0x{number}", question="Will it?"
            )
        await unit.polymarket_markets.delete((await unit.polymarket_markets.by_condition_id("0x1")).id)
    async with units() as unit:
        loaded = await unit.polymarket_events.with_markets(event.id)
        assert [market.condition_id for market in loaded.markets] == ["0x0"]
        assert loaded.markets[0].outcomes == []


async def test_a_taken_name_is_a_conflict_that_names_it(units: Units) -> None:
    made = await add_asset(units)
    with pytest.raises(ConflictError, match=r"assets: .*\(stock, AAPL\) already exists"):
        await add_asset(units)
    async with units() as unit:
        await unit.assets.delete(made.id)
    await add_asset(units)
    with pytest.raises(ConflictError, match="already exists"):
        async with units() as unit:
            await unit.assets.restore(made.id)


async def test_what_is_referred_to_can_be_deleted_by_no_method(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
        trade = await unit.trades.add(order_of(account, asset))
    attempts: list[Attempt] = [
        lambda unit: unit.assets.delete(asset.id),
        lambda unit: unit.assets.delete_where(symbol="AAPL"),
        lambda unit: unit.accounts.delete(account),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError, match="still referred to by 1 of trades"):
            async with units() as unit:
                await attempt(unit)
    async with units() as unit:
        await unit.trades.delete(trade.id)
        await unit.assets.delete(asset.id)


async def test_nothing_can_refer_to_what_is_absent_or_deleted(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
    async with units() as unit:
        await unit.assets.delete(asset.id)
    with pytest.raises(NotFoundError, match=f"no assets '{asset.id}'"):
        async with units() as unit:
            await unit.trades.add(order_of(account, asset))
    asset = await add_asset(units, "MSFT")
    with pytest.raises(NotFoundError, match="no accounts"):
        async with units() as unit:
            await unit.trades.add(order_of(Account(id=uuid7()), asset))


async def test_append_only_entities_can_be_neither_changed_nor_deleted(units: Units) -> None:
    async with units() as unit:
        account = await unit.accounts.create(name="paper")
        movement = await unit.cash_movements.create(
            account_id=account.id, movement_type="deposit", amount=Decimal(5), occurred_at=NOON
        )
    attempts: list[Attempt] = [
        lambda unit: unit.cash_movements.update(movement.id, amount=Decimal(6)),
        lambda unit: unit.cash_movements.delete(movement.id),
        lambda unit: unit.cash_movements.delete_where(account_id=account.id),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError, match="append-only"):
            async with units() as unit:
                await attempt(unit)


async def test_the_second_of_two_changes_of_one_reading_is_refused(units: Units) -> None:
    async with units() as unit:
        strategy = await unit.strategies.create(name="momentum")
    async with units() as unit:
        await unit.strategies.update(strategy.id, description="first")
    with pytest.raises(ConflictError, match="changed by someone else") as refused:
        async with units() as unit:
            await unit.strategies.update(strategy, description="second")
    assert not refused.value.retryable
    async with units() as unit:
        assert (await unit.strategies.by_name("momentum")).description == "first"


async def test_locked_changes_of_many_tasks_all_count(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
        position = await unit.positions.add(holding_of(account, asset, quantity=Decimal(100)))

    async def add_one() -> None:
        async with units() as unit:
            held = await unit.positions.get(position.id, lock=True)
            await unit.positions.update(held, remaining_quantity=held.remaining_quantity + 1)

    await asyncio.gather(*(add_one() for _ in range(5)))
    async with units() as unit:
        assert (await unit.positions.get(position.id)).remaining_quantity == 6


async def test_a_deadlock_is_a_conflict_that_may_be_retried(units: Units) -> None:
    first, second = await add_asset(units, "A"), await add_asset(units, "B")
    both_hold_one = asyncio.Barrier(2)

    async def lock(one: Asset, other: Asset) -> None:
        async with units() as unit:
            await unit.assets.get(one.id, lock=True)
            await both_hold_one.wait()
            await unit.assets.get(other.id, lock=True)

    results = await asyncio.gather(lock(first, second), lock(second, first), return_exceptions=True)
    (error,) = [result for result in results if result is not None]
    assert isinstance(error, ConflictError)
    assert error.retryable


async def test_one_statement_changes_many_and_is_seen_versioned_and_audited(units: Units) -> None:
    async with units() as unit:
        held = await unit.strategies.add_many(Strategy(name=name, is_active=name != "c") for name in ("a", "b", "c"))
    with acting_as("batch", reason="renamed"):
        async with units() as unit:
            seen = await unit.strategies.find()
            assert await unit.strategies.update_where({"description": "new"}, is_active=True) == 2
            assert [strategy.description for strategy in seen] == ["new", "new", ""]
            assert [strategy.row_version for strategy in seen] == [2, 2, 1]
            assert seen[0].updated_at > held[0].updated_at
    async with units() as unit:
        histories = [await unit.audit_logs.history("strategies", strategy) for strategy in held]
        assert [[entry.action for entry in history] for history in histories] == [
            ["insert", "update"],
            ["insert", "update"],
            ["insert"],
        ]
        entry = histories[0][1]
        assert (entry.changes, entry.performed_by, entry.reason) == ({"description": ["", "new"]}, "batch", "renamed")
        assert await unit.strategies.delete_where(Strategy.name < "c") == 2
        assert [strategy.name for strategy in await unit.strategies.find()] == ["c"]
        with pytest.raises(InputError, match="no filter"):
            await unit.strategies.delete_where()
        assert await unit.strategies.delete_where(sa.true()) == 1


async def test_who_acts_is_kept_per_task_and_nested(units: Units) -> None:
    async def rename(asset: Asset, actor: str) -> None:
        with acting_as(actor, correlation_id="order-1"), acting_as(reason="why"):
            async with units() as unit:
                await unit.assets.update(asset.id, name=actor)

    assets = [await add_asset(units, symbol) for symbol in ("A", "B")]
    await asyncio.gather(*(rename(asset, f"bot {asset.symbol}") for asset in assets))
    async with units() as unit:
        for asset in assets:
            entry = (await unit.audit_logs.history("assets", asset.id))[-1]
            told = (entry.performed_by, entry.correlation_id, entry.reason)
            assert told == (f"bot {asset.symbol}", "order-1", "why")
    assert acting().actor is None
    with pytest.raises(InputError, match="longer than 200"), acting_as("x" * 201):
        raise AssertionError("entered")


async def test_an_open_position_is_unique_per_account_strategy_and_instrument(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
        other, _ = await add_book(unit, "other")
        await unit.positions.add(holding_of(account, asset))
        await unit.positions.add(holding_of(other, asset))
        closed = {"status": PositionStatus.CLOSED, "remaining_quantity": Decimal(0), "closed_at": NOON}
        await unit.positions.add(holding_of(account, asset, **closed))
        found = await unit.positions.find_open(account=account, strategy=None, instrument_id=asset.instrument_id)
        assert found is not None
        assert (found.account_id, found.status) == (account.id, PositionStatus.OPEN)
    with pytest.raises(ConflictError, match="already exists"):
        async with units() as unit:
            await unit.positions.add(holding_of(account, asset))


async def test_a_naive_time_in_a_query_is_refused(units: Units) -> None:
    naive = datetime(2024, 3, 1)  # noqa: DTZ001
    async with units() as unit:
        with pytest.raises(InputError, match="no time zone"):
            await unit.trades.by_date_range(naive, NOON)
        with pytest.raises(InputError, match="no time zone"):
            await unit.trades.find(Trade.executed_at > naive)
        with pytest.raises(InputError, match="Decimal made from text"):
            await unit.trades.find(Trade.quantity > 0.1)


async def test_a_rule_of_the_table_is_an_input_error(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
    with pytest.raises(InputError, match="ck_trades_quantity"):
        async with units() as unit:
            await unit.trades.add(order_of(account, asset, quantity=Decimal(0)))
    with pytest.raises(InputError, match='"name"'):
        async with units() as unit:
            await unit.assets.create(symbol="MSFT")


@pytest.mark.server
async def test_a_database_that_is_away_is_reported_as_unavailable() -> None:
    engine = create_async_engine(parse_url("postgresql:///medalion?host=/nonexistent"), poolclass=NullPool)
    with pytest.raises(StoreUnavailableError, match="not available"):
        async with UnitOfWork(sessions(engine)) as unit:
            await unit.assets.find()


def test_what_was_not_loaded_says_so_instead_of_waiting() -> None:
    loads = {
        relation.lazy
        for entity in (Trade, Position, PolymarketEvent, PolymarketOutcome)
        for relation in orm.class_mapper(entity).relationships
    }
    assert loads == {"raise"}
