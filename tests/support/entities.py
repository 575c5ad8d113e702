"""Entities for tests of repositories."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from medalion.core.enums import PositionSide, TradeSide
from oltp.entities.base import uuid7
from oltp.entities.reference import Asset
from oltp.entities.trading import Account, Fill, Position, Trade
from oltp.repositories.unit_of_work import UnitOfWork

Units = Callable[[], UnitOfWork]
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def add_asset(units: Units, symbol: str = "AAPL", **fields: Any) -> Asset:
    async with units() as unit:
        return await unit.assets.create(symbol=symbol, name=symbol, **fields)


async def add_book(unit: UnitOfWork, name: str = "paper") -> tuple[Account, Asset]:
    account = await unit.accounts.create(name=name)
    asset = await unit.assets.first(symbol="AAPL") or await unit.assets.create(symbol="AAPL", name="Apple")
    return account, asset


def order_of(account: Account, asset: Asset, **fields: Any) -> Trade:
    values: dict[str, Any] = {"client_order_id": str(uuid7()), "side": TradeSide.BUY, "quantity": Decimal(1), **fields}
    return Trade(
        account_id=account.id, asset_id=asset.id, instrument_id=asset.instrument_id, symbol=asset.symbol, **values
    )


def holding_of(account: Account, asset: Asset, **fields: Any) -> Position:
    values: dict[str, Any] = {
        "side": PositionSide.LONG,
        "quantity": Decimal(1),
        "remaining_quantity": Decimal(1),
        "opened_at": NOON,
        **fields,
    }
    return Position(
        account_id=account.id, asset_id=asset.id, instrument_id=asset.instrument_id, symbol=asset.symbol, **values
    )


def fill_of(trade: Trade, execution_id: str) -> Fill:
    return Fill(
        trade_id=trade.id,
        account_id=trade.account_id,
        instrument_id=trade.instrument_id,
        venue="paper",
        execution_id=execution_id,
        side=trade.side,
        quantity=Decimal(1),
        price=Decimal(10),
        executed_at=NOON,
    )
