"""The repositories of what is traded and of the books; the named queries are one line over the generic one."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm

from medalion.core.enums import AssetType, PositionStatus, TradeStatus
from medalion.core.errors import InputError
from medalion.core.time import Instant, TimeRange, utc
from oltp.entities.base import now
from oltp.entities.reference import (
    Asset,
    CorporateAction,
    OptionContract,
    PolymarketEvent,
    PolymarketMarket,
    PolymarketOutcome,
)
from oltp.entities.trading import Account, CashMovement, Fill, Position, Settlement, Strategy, Trade, TradingSignal
from oltp.repositories.base import Criterion, Repository, T, Which, id_of
from oltp.server.translation import translated

OPEN = (PositionStatus.OPEN, PositionStatus.PARTIALLY_CLOSED)


class _AccountRepository(Repository[T]):
    """Entities of one account each; `account=None` finds those of all."""

    async def _in(self, account: Which | None, *criteria: Criterion, **equal: Any) -> list[T]:
        if account is not None:
            equal["account_id"] = id_of(account)
        return await self.find(*criteria, **equal)


class AssetRepository(Repository[Asset]):
    """Assets by symbol."""

    model = Asset
    order = (Asset.symbol,)

    async def by_symbol(self, symbol: str, asset_type: AssetType | None = None) -> Asset:
        """The asset of that symbol.

        Raises:
            NotFoundError: there is none; names the nearest.
            InputError: assets of several types share it and `asset_type` is not given.
        """
        kind = AssetType.STOCK if asset_type is None else asset_type
        hint = f"create it first: `store.assets.create(symbol={symbol!r}, name={symbol!r}, asset_type={str(kind)!r})`"
        if asset_type is not None:
            return await self._named(Asset.symbol, symbol, hint=hint, asset_type=asset_type)
        types = [asset.asset_type.value for asset in await self.find(symbol=symbol)]
        if len(types) > 1:
            raise InputError(f"{symbol!r} is {' and '.join(types)}; give asset_type", given=symbol, expected=types)
        return await self._named(Asset.symbol, symbol, hint=hint)

    async def by_type(self, asset_type: AssetType) -> list[Asset]:
        """The assets of a type, by symbol."""
        return await self.find(asset_type=asset_type)

    async def active(self) -> list[Asset]:
        """The assets that are followed, by symbol."""
        return await self.find(is_active=True)

    async def tradable(self) -> list[Asset]:
        """Those that are active and can be traded."""
        return await self.find(is_active=True, is_tradable=True)


class OptionContractRepository(Repository[OptionContract]):
    """Option contracts by symbol."""

    model = OptionContract
    order = (OptionContract.symbol,)

    async def by_symbol(self, symbol: str) -> OptionContract:
        """The contract with this OCC symbol; raises NotFoundError without one."""
        return await self._named(OptionContract.symbol, symbol)

    async def by_underlying(self, symbol: str, *, expiration: date | None = None) -> list[OptionContract]:
        """The contracts on a symbol, of one expiration or of all."""
        if expiration is None:
            return await self.find(underlying_symbol=symbol)
        return await self.find(underlying_symbol=symbol, expiration_date=expiration)

    async def expiring(self, start: date, end: date) -> list[OptionContract]:
        """Contracts whose expiration date is in `[start, end)`, the nearest first."""
        days = (OptionContract.expiration_date >= start, OptionContract.expiration_date < end)
        return await self.find(*days, order=(OptionContract.expiration_date, OptionContract.symbol))


class PolymarketEventRepository(Repository[PolymarketEvent]):
    """Prediction-market events by title."""

    model = PolymarketEvent
    order = (PolymarketEvent.title,)

    async def by_event_id(self, event_id: str) -> PolymarketEvent:
        """The event of the venue's id."""
        return await self._named(PolymarketEvent.event_id, event_id)

    async def monitored(self) -> list[PolymarketEvent]:
        """Those that are monitored and active."""
        return await self.find(is_monitored=True, is_active=True)

    async def by_category(self, category: str) -> list[PolymarketEvent]:
        """The events of a category."""
        return await self.find(category=category)

    async def with_markets(self, which: UUID | str) -> PolymarketEvent:
        """The event with `markets` and their `outcomes` loaded."""
        markets = orm.selectinload(PolymarketEvent.markets).selectinload(PolymarketMarket.outcomes)
        return await self._loaded(which, markets)


class PolymarketMarketRepository(Repository[PolymarketMarket]):
    """Prediction markets by question."""

    model = PolymarketMarket
    order = (PolymarketMarket.question,)

    async def by_condition_id(self, condition_id: str) -> PolymarketMarket:
        """The market with this condition id; raises NotFoundError without one."""
        return await self._named(PolymarketMarket.condition_id, condition_id)

    async def by_event(self, event: Which) -> list[PolymarketMarket]:
        """The markets of an event."""
        return await self.find(polymarket_event_id=id_of(event))

    async def with_outcomes(self, which: UUID | str) -> PolymarketMarket:
        """The market with `outcomes` loaded."""
        return await self._loaded(which, orm.selectinload(PolymarketMarket.outcomes))


class PolymarketOutcomeRepository(Repository[PolymarketOutcome]):
    """Outcomes by their place in the market."""

    model = PolymarketOutcome
    order = (PolymarketOutcome.polymarket_market_id, PolymarketOutcome.outcome_index)

    async def by_token(self, token_id: str) -> PolymarketOutcome:
        """The outcome of that token, with its `market` and the market's `event` loaded."""
        found = await self._named(PolymarketOutcome.token_id, token_id)
        path = orm.selectinload(PolymarketOutcome.market).selectinload(PolymarketMarket.event)
        return await self._loaded(found.id, path)

    async def by_market(self, market: Which) -> list[PolymarketOutcome]:
        """The outcomes of a market."""
        return await self.find(polymarket_market_id=id_of(market))


class CorporateActionRepository(Repository[CorporateAction]):
    """Corporate actions, oldest first."""

    model = CorporateAction
    order = (CorporateAction.ex_date,)

    async def for_asset(self, asset: Which) -> list[CorporateAction]:
        """The corporate actions of an asset."""
        return await self.find(asset_id=id_of(asset))


class AccountRepository(Repository[Account]):
    """Accounts by name."""

    model = Account
    order = (Account.name,)

    async def by_name(self, name: str) -> Account:
        """The account with this name; raises NotFoundError without one."""
        return await self._named(Account.name, name)


class StrategyRepository(Repository[Strategy]):
    """Strategies by name."""

    model = Strategy
    order = (Strategy.name,)

    async def active(self) -> list[Strategy]:
        """The strategies that may trade."""
        return await self.find(is_active=True)

    async def by_type(self, strategy_type: str) -> list[Strategy]:
        """The strategies of a type."""
        return await self.find(strategy_type=strategy_type)

    async def by_name(self, name: str, version: str | None = None) -> Strategy:
        """The strategy of that name; its newest version, if none is given."""
        return await self._named(Strategy.name, name, **({} if version is None else {"version": version}))

    async def with_signals(self, which: UUID | str) -> Strategy:
        """The strategy with `signals` loaded, newest first."""
        return await self._loaded(which, orm.selectinload(Strategy.signals))


class TradingSignalRepository(Repository[TradingSignal]):
    """Signals, newest first."""

    model = TradingSignal
    order = (TradingSignal.signal_timestamp.desc(),)

    async def active(self, at: Instant | None = None) -> list[TradingSignal]:
        """Those not acted upon and not expired at that time, by default now."""
        moment = now() if at is None else utc(at, name="at")
        expires = TradingSignal.expires_at
        return await self.find(sa.or_(expires.is_(None), expires > moment), was_acted_upon=False)

    async def unacted(self) -> list[TradingSignal]:
        """Those not acted upon, expired ones too."""
        return await self.find(was_acted_upon=False)

    async def by_strategy(self, strategy: Which) -> list[TradingSignal]:
        """Those of a strategy."""
        return await self.find(strategy_id=id_of(strategy))

    async def by_asset(self, asset: Which) -> list[TradingSignal]:
        """Those of an asset."""
        return await self.find(asset_id=id_of(asset))


class TradeRepository(_AccountRepository[Trade]):
    """Trades, newest first."""

    model = Trade
    order = (Trade.executed_at.desc().nulls_first(), Trade.id.desc())

    async def by_asset(self, asset: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of an asset, in one account or all."""
        return await self._in(account, asset_id=id_of(asset))

    async def by_polymarket_event(self, event: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of an event, in one account or all."""
        return await self._in(account, polymarket_event_id=id_of(event))

    async def by_strategy(self, strategy: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of a strategy, in one account or all."""
        return await self._in(account, strategy_id=id_of(strategy))

    async def by_position(self, position: Which) -> list[Trade]:
        """The orders that led to a position or changed it."""
        return await self.find(position_id=id_of(position))

    async def by_status(self, *statuses: TradeStatus, account: Which | None = None) -> list[Trade]:
        """Those with one of these statuses, in one account or all."""
        return await self._in(account, Trade.status.in_(statuses))

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Trade]:
        """Those executed in `[start, end)`."""
        return await self._in(account, *_within(Trade.executed_at, start, end))

    async def profitable(self, *, account: Which | None = None) -> list[Trade]:
        """Filled trades of positions whose realized P&L is above their commissions."""
        won = Trade.position.has(Position.realized_pnl > Position.commissions)
        return await self._in(account, won, status=TradeStatus.FILLED)

    async def with_fills(self, which: UUID | str) -> Trade:
        """The trade with `fills` loaded, in the order of execution."""
        return await self._loaded(which, orm.selectinload(Trade.fills))


class FillRepository(_AccountRepository[Fill]):
    """Fills in the order of execution."""

    model = Fill
    order = (Fill.executed_at, Fill.execution_id)

    async def by_trade(self, trade: Which) -> list[Fill]:
        """The executions of an order."""
        return await self.find(trade_id=id_of(trade))

    async def by_position(self, position: Which) -> list[Fill]:
        """The executions of the orders of a position."""
        return await self.find(Fill.trade.has(Trade.position_id == id_of(position)))

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Fill]:
        """Those executed in `[start, end)`."""
        return await self._in(account, *_within(Fill.executed_at, start, end))


class PositionRepository(_AccountRepository[Position]):
    """Positions, newest first."""

    model = Position
    order = (Position.opened_at.desc(),)

    async def open(self, *, account: Which | None = None) -> list[Position]:
        """Those that still hold something, partially closed ones too."""
        return await self._in(account, Position.status.in_(OPEN))

    async def closed(self, *, account: Which | None = None) -> list[Position]:
        """The positions that are closed, in one account or all."""
        return await self._in(account, status=PositionStatus.CLOSED)

    async def by_asset(self, asset: Which, *, account: Which | None = None) -> list[Position]:
        """Those of an asset, in one account or all."""
        return await self._in(account, asset_id=id_of(asset))

    async def by_polymarket_event(self, event: Which, *, account: Which | None = None) -> list[Position]:
        """Those of an event, in one account or all."""
        return await self._in(account, polymarket_event_id=id_of(event))

    async def by_strategy(self, strategy: Which, *, account: Which | None = None) -> list[Position]:
        """Those of a strategy, in one account or all."""
        return await self._in(account, strategy_id=id_of(strategy))

    async def by_status(self, *statuses: PositionStatus, account: Which | None = None) -> list[Position]:
        """Those with one of these statuses, in one account or all."""
        return await self._in(account, Position.status.in_(statuses))

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Position]:
        """Those opened in `[start, end)`."""
        return await self._in(account, *_within(Position.opened_at, start, end))

    async def with_trades(self, which: UUID | str) -> Position:
        """The position with `trades` and their `fills` loaded."""
        return await self._loaded(which, orm.selectinload(Position.trades).selectinload(Trade.fills))

    async def find_open(
        self, *, account: Which, strategy: Which | None, instrument_id: int, lock: bool = False
    ) -> Position | None:
        """The one open position of that account, strategy and instrument; None if it is flat."""
        return await self.first(
            Position.status.in_(OPEN),
            lock=lock,
            account_id=id_of(account),
            strategy_id=None if strategy is None else id_of(strategy),
            instrument_id=instrument_id,
        )


class CashMovementRepository(_AccountRepository[CashMovement]):
    """Cash movements, oldest first."""

    model = CashMovement
    order = (CashMovement.occurred_at,)

    async def by_account(self, account: Which) -> list[CashMovement]:
        """Every movement of an account's cash."""
        return await self._in(account)

    async def balance(self, account: Which, *, before: Instant | None = None) -> Decimal:
        """What the account holds in its base currency, of all movements or of those before a time."""
        when = () if before is None else (CashMovement.occurred_at < utc(before, name="before"),)
        base = sa.select(Account.base_currency).where(Account.id == id_of(account)).scalar_subquery()
        total = sa.select(sa.func.sum(CashMovement.amount)).where(
            CashMovement.account_id == id_of(account), CashMovement.currency == base, *when
        )
        with translated():
            return await self._session.scalar(total) or Decimal(0)


class SettlementRepository(_AccountRepository[Settlement]):
    """Settlements, oldest first."""

    model = Settlement
    order = (Settlement.occurred_at,)

    async def by_position(self, position: Which) -> list[Settlement]:
        """The settlements of a position."""
        return await self.find(position_id=id_of(position))


def _within(column: orm.InstrumentedAttribute[Any], start: Instant, end: Instant) -> Sequence[Criterion]:
    during = TimeRange.of(start, end)
    return column >= during.start, column < during.end
