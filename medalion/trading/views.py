"""Requests in, immutable read models out; decimals are exact, times UTC, and None is unknown or undefined."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from medalion.core.enums import AssetType, PositionSide, PositionStatus, SignalType, TradeSide, TradeStatus, TradeType
from medalion.stats.trades import TradeStatistics
from oltp.entities.columns import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel:
    """A copy of an entity's fields, as they were when it was made."""

    @classmethod
    def of(cls, entity: object) -> Self:
        """The read model of an entity that has every one of these fields."""
        held = vars(entity)  # what is there already is had without the mapper
        names: tuple[str, ...] = cls.__slots__
        return cls(**{name: held[name] if name in held else getattr(entity, name) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeDto(ReadModel):
    """One order and its life. `average_price` is None before the first fill, `executed_at` the time of the last."""

    id: UUID
    account_id: UUID
    strategy_id: UUID | None
    signal_id: UUID | None
    position_id: UUID | None
    instrument_id: int
    symbol: str
    asset_id: UUID | None
    option_contract_id: UUID | None
    outcome_id: UUID | None
    polymarket_event_id: UUID | None
    client_order_id: str
    external_trade_id: str | None
    trade_type: TradeType
    side: TradeSide
    status: TradeStatus
    status_reason: str | None
    quantity: Decimal
    filled_quantity: Decimal
    multiplier: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    trail_percent: Decimal | None
    average_price: Decimal | None
    total_value: Decimal
    commission: Decimal
    submitted_at: datetime | None
    executed_at: datetime | None
    alpaca_market_data_snapshot: JsonObject | None
    polymarket_data_snapshot: JsonObject | None
    notes: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionDto(ReadModel):
    """What the fills of one account, strategy and instrument add up to.

    Quantities have no sign. `cost_basis` and `market_value` are of what remains, negative for a short. P&L is gross;
    `net_pnl` is realized less commissions. `unrealized_pnl` is at the last mark, None without one.
    """

    id: UUID
    account_id: UUID
    strategy_id: UUID | None
    instrument_id: int
    symbol: str
    asset_id: UUID | None
    option_contract_id: UUID | None
    outcome_id: UUID | None
    polymarket_event_id: UUID | None
    side: PositionSide
    status: PositionStatus
    quantity: Decimal
    remaining_quantity: Decimal
    multiplier: Decimal
    average_entry_price: Decimal | None
    current_price: Decimal | None
    marked_at: datetime | None
    cost_basis: Decimal
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal
    commissions: Decimal
    opened_at: datetime
    closed_at: datetime | None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    alpaca_open_snapshot: JsonObject | None
    alpaca_close_snapshot: JsonObject | None
    polymarket_open_snapshot: JsonObject | None
    polymarket_close_snapshot: JsonObject | None
    notes: str | None

    @property
    def is_open(self) -> bool:
        """Whether something of it is held still."""
        return self.closed_at is None

    @property
    def net_pnl(self) -> Decimal:
        """Realized P&L less all commissions so far."""
        return self.realized_pnl - self.commissions


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioSummaryDto:
    """An account as a whole, at the last marks, in its base currency; P&L counts closed positions too.

    `deposits` are less withdrawals. `equity` is cash plus market value, which is deposits plus `net_pnl` plus what came
    in or went out otherwise, such as dividends. `net_pnl` is realized plus unrealized less commissions.
    `return_on_deposits` is `net_pnl` as a fraction of the deposits, None without any. What needs a mark is None while
    an open position has none.
    """

    account_id: UUID
    account: str
    currency: str
    total_positions: int
    open_positions_count: int
    closed_positions_count: int
    deposits: Decimal
    cash: Decimal
    market_value: Decimal | None
    equity: Decimal | None
    cost_basis: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal | None
    total_pnl: Decimal | None
    total_commissions: Decimal
    net_pnl: Decimal | None
    return_on_deposits: Decimal | None
    open_positions: tuple[PositionDto, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioPerformanceDto:
    """What an account did in `[start, end)`: statistics of the positions closed in it, and how many it opened.

    `realized_pnl` is gross, `net_pnl` less the commissions of the same positions. `return_on_deposits` is `net_pnl` as
    a fraction of what had been deposited by `end`.
    """

    account_id: UUID
    start: datetime | None
    end: datetime | None
    statistics: TradeStatistics
    opened_positions: int
    closed_positions: int
    realized_pnl: Decimal
    total_commissions: Decimal
    net_pnl: Decimal
    win_rate: float | None
    profit_factor: float | None
    return_on_deposits: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyDto(ReadModel):
    """A way of trading, with its configuration and limits in quote currency."""

    id: UUID
    name: str
    description: str
    strategy_type: str
    version: str
    is_active: bool
    is_backtesting: bool
    configuration: JsonObject
    risk_parameters: JsonObject
    max_position_size: Decimal | None
    max_loss_per_trade: Decimal | None
    max_daily_loss: Decimal | None
    last_executed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingSignalDto(ReadModel):
    """A strategy's advice; `confidence` in percent, prices per unit."""

    id: UUID
    strategy_id: UUID
    asset_id: UUID | None
    option_contract_id: UUID | None
    outcome_id: UUID | None
    polymarket_event_id: UUID | None
    symbol: str
    signal_type: SignalType
    confidence: Decimal
    signal_timestamp: datetime
    expires_at: datetime | None
    target_price: Decimal | None
    stop_loss: Decimal | None
    take_profit: Decimal | None
    suggested_quantity: Decimal | None
    source_data: JsonObject
    was_acted_upon: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetDto(ReadModel):
    """A stock, coin or currency pair."""

    id: UUID
    instrument_id: int
    symbol: str
    name: str
    asset_type: AssetType
    asset_class: str
    exchange: str
    is_active: bool
    is_tradable: bool
    is_fractionable: bool
    min_order_quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketBarDto:
    """One bar; `ts` is its opening edge, prices are per unit and `volume` in units."""

    symbol: str
    timeframe: str
    ts: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trade_count: int | None
    vwap: Decimal | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """The bar in a row of a bars frame, as `frame.iter_rows(named=True)` gives it."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolymarketEventDto(ReadModel):
    """A question of the world; volume and liquidity in quote currency."""

    id: UUID
    event_id: str
    slug: str
    title: str
    category: str
    tags: list[str]
    is_active: bool
    is_closed: bool
    is_monitored: bool
    end_date: datetime | None
    total_volume: Decimal
    total_liquidity: Decimal
