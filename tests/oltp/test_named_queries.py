"""What the named queries of each repository find."""

from datetime import date
from decimal import Decimal

import pytest

from medalion.core.enums import AssetType, CashMovementType, OptionType, PositionStatus, SignalType, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from oltp.entities.base import uuid7
from oltp.entities.trading import TradingSignal
from tests.support.entities import HOUR, NOON, Units, add_asset, add_book, fill_of, holding_of, order_of

pytestmark = pytest.mark.anyio


async def test_assets_are_found_by_symbol_type_and_use(units: Units) -> None:
    for symbol, kind, fields in (
        ("AAPL", "stock", {}),
        ("BTC", "crypto", {"is_tradable": False}),
        ("BTC", "stock", {"is_active": False}),
    ):
        await add_asset(units, symbol, asset_type=kind, **fields)
    async with units() as unit:
        assert (await unit.assets.by_symbol("AAPL")).asset_type is AssetType.STOCK
        assert (await unit.assets.by_symbol("BTC", AssetType.CRYPTO)).asset_type is AssetType.CRYPTO
        with pytest.raises(InputError, match="give asset_type"):
            await unit.assets.by_symbol("BTC")
        with pytest.raises(NotFoundError, match="did you mean 'AAPL'"):
            await unit.assets.by_symbol("APPL")
        assert [asset.symbol for asset in await unit.assets.by_type(AssetType.STOCK)] == ["AAPL", "BTC"]
        assert [asset.asset_type for asset in await unit.assets.active()] == [AssetType.STOCK, AssetType.CRYPTO]
        assert [asset.symbol for asset in await unit.assets.tradable()] == ["AAPL"]


async def test_option_contracts_are_found_by_symbol_underlying_and_expiration(units: Units) -> None:
    asset = await add_asset(units)
    async with units() as unit:
        for day in (21, 28):
            await unit.option_contracts.create(
                asset_id=asset.id,
                symbol=f"AAPL2406{day}C00190000",
                underlying_symbol="AAPL",
                expiration_date=date(2024, 6, day),
                option_type=OptionType.CALL,
                strike_price=Decimal(190),
            )
        contracts = unit.option_contracts
        assert (await contracts.by_symbol("AAPL240621C00190000")).multiplier == 100
        assert len(await contracts.by_underlying("AAPL")) == 2
        assert len(await contracts.by_underlying("AAPL", expiration=date(2024, 6, 28))) == 1
        expiring = await contracts.expiring(date(2024, 6, 21), date(2024, 6, 28))
        assert [contract.expiration_date.day for contract in expiring] == [21]


async def test_an_outcome_token_leads_to_its_market_and_event(units: Units) -> None:
    token = "9" * 77
    async with units() as unit:
        event = await unit.polymarket_events.create(
            event_id="e1", title="Will it?", category="weather", is_monitored=True, tags=["rain, or snow"]
        )
        market = await unit.polymarket_markets.create(
            polymarket_event_id=event.id, condition_id="0xc", question="Will it rain?"
        )
        for index, (name, token_id) in enumerate((("Yes", token), ("No", "8" * 77))):
            await unit.polymarket_outcomes.create(
                polymarket_market_id=market.id, token_id=token_id, outcome=name, outcome_index=index
            )
    async with units() as unit:
        outcome = await unit.polymarket_outcomes.by_token(token)
        assert (outcome.outcome, outcome.market.event.tags) == ("Yes", ["rain, or snow"])
        loaded = await unit.polymarket_events.with_markets(event.id)
        assert [outcome.outcome for outcome in loaded.markets[0].outcomes] == ["Yes", "No"]
        events = unit.polymarket_events
        found = [await events.by_event_id("e1"), *await events.monitored(), *await events.by_category("weather")]
        assert {event.id for event in found} == {loaded.id}
        assert len(found) == 3
        assert (await unit.polymarket_markets.by_event(event))[0].condition_id == "0xc"


async def test_signals_are_active_until_acted_upon_or_expired(units: Units) -> None:
    async with units() as unit:
        _, asset = await add_book(unit)
        strategy = await unit.strategies.create(name="momentum", strategy_type="trend")
        for hours, fields in ((0, {}), (1, {"expires_at": NOON + HOUR}), (2, {"was_acted_upon": True})):
            await unit.signals.create(
                strategy_id=strategy.id,
                asset_id=asset.id,
                symbol="AAPL",
                signal_type=SignalType.BUY,
                confidence=Decimal(hours),
                signal_timestamp=NOON + hours * HOUR,
                **fields,
            )

        def numbers(signals: list[TradingSignal]) -> list[int]:
            return [int(signal.confidence) for signal in signals]

        assert numbers(await unit.signals.active(NOON)) == [1, 0]
        assert numbers(await unit.signals.active(NOON + HOUR)) == [0]
        assert numbers(await unit.signals.active()) == [0]
        assert numbers(await unit.signals.unacted()) == [1, 0]
        assert numbers(await unit.signals.by_strategy(strategy)) == [2, 1, 0]
        assert numbers(await unit.signals.by_asset(asset.id)) == [2, 1, 0]
        assert numbers((await unit.strategies.with_signals(strategy.id)).signals) == [2, 1, 0]
        assert (await unit.strategies.by_name("momentum")).id == strategy.id
        assert [await unit.strategies.by_type("trend"), await unit.strategies.active()] == [[strategy], [strategy]]


async def test_trades_are_found_per_account_status_and_half_open_time(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
        other, _ = await add_book(unit, "other")
        won = await unit.positions.add(holding_of(account, asset, realized_pnl=Decimal(2), commissions=Decimal(1)))
        evened = await unit.positions.add(holding_of(other, asset, realized_pnl=Decimal(1), commissions=Decimal(1)))
        for hours, book, position in ((0, account, won), (1, account, won), (0, other, evened)):
            trade = order_of(book, asset, executed_at=NOON + hours * HOUR, status=TradeStatus.FILLED)
            trade.position_id = position.id
            await unit.trades.add(trade)
        await unit.trades.add(order_of(account, asset, status=TradeStatus.PENDING))

        trades = unit.trades
        assert len(await trades.by_date_range(NOON, NOON + HOUR)) == 2
        assert len(await trades.by_date_range(NOON, NOON + HOUR, account=account)) == 1
        assert len(await trades.by_status(TradeStatus.PENDING, TradeStatus.FILLED, account=account)) == 3
        assert len(await trades.by_asset(asset, account=other)) == 1
        assert {trade.account_id for trade in await trades.profitable()} == {account.id}
        assert len(await trades.by_position(won)) == 2
        assert await trades.by_strategy(uuid7()) == await trades.by_polymarket_event(uuid7()) == []


async def test_positions_are_open_until_closed_and_lead_to_trades_and_fills(units: Units) -> None:
    async with units() as unit:
        account, asset = await add_book(unit)
        other, _ = await add_book(unit, "other")
        part = await unit.positions.add(holding_of(account, asset, status=PositionStatus.PARTIALLY_CLOSED))
        done = await unit.positions.add(
            holding_of(
                other,
                asset,
                status=PositionStatus.CLOSED,
                remaining_quantity=Decimal(0),
                opened_at=NOON - HOUR,
                closed_at=NOON,
            )
        )
        trade = order_of(account, asset, filled_quantity=Decimal(3), filled_value=Decimal(31))
        trade.position_id = part.id
        await unit.trades.add(trade)
        await unit.fills.add_many(fill_of(trade, number) for number in ("2", "1"))
        positions = unit.positions
        assert [position.id for position in await positions.open()] == [part.id]
        assert [position.id for position in await positions.closed()] == [done.id]
        assert await positions.closed(account=account) == []
        assert [position.id for position in await positions.by_asset(asset)] == [part.id, done.id]
        assert [position.id for position in await positions.by_date_range(NOON - HOUR, NOON)] == [done.id]
        assert [position.id for position in await positions.by_status(PositionStatus.CLOSED)] == [done.id]
    async with units() as unit:
        loaded = await unit.positions.with_trades(part.id)
        assert [fill.execution_id for fill in loaded.trades[0].fills] == ["1", "2"]
        assert loaded.trades[0].average_price == Decimal("10.33333333")
        assert [fill.execution_id for fill in await unit.fills.by_position(part)] == ["1", "2"]
    with pytest.raises(ConflictError, match=r"\(paper, 1\) already exists"):
        async with units() as unit:
            await unit.fills.add(fill_of(trade, "1"))


async def test_a_balance_is_the_sum_of_movements_in_the_base_currency(units: Units) -> None:
    async with units() as unit:
        account = await unit.accounts.create(name="paper")
        assert await unit.cash_movements.balance(account) == 0
        for hours, amount, currency in ((0, "10.00000001", "USD"), (1, "-3", "USD"), (0, "99", "EUR")):
            await unit.cash_movements.create(
                account_id=account.id,
                movement_type=CashMovementType.DEPOSIT,
                amount=Decimal(amount),
                currency=currency,
                occurred_at=NOON + hours * HOUR,
            )
        assert await unit.cash_movements.balance(account) == Decimal("7.00000001")
        assert await unit.cash_movements.balance(account.id, before=NOON + HOUR) == Decimal("10.00000001")


async def test_an_outcome_is_one_instrument_and_an_event_alone_only_a_signal(units: Units) -> None:
    async with units() as unit:
        event = await unit.polymarket_events.create(event_id="e1", title="Will it?")
        strategy = await unit.strategies.create(name="news")
        values = {"strategy_id": strategy.id, "signal_type": "buy", "confidence": Decimal(5), "signal_timestamp": NOON}
        await unit.signals.create(polymarket_event_id=event.id, symbol="e1", **values)
    with pytest.raises(InputError, match="ck_trading_signals_instrument"):
        async with units() as unit:
            await unit.signals.create(symbol="e1", **values)
