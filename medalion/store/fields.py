"""What callers give by name: fields of entities, and settings."""

# Generated from the bodies by tools/faces.py: do not edit, run `make faces`.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

from medalion.core.enums import (
    AccountType,
    AssetType,
    CashMovementType,
    CorporateActionType,
    ErrorSeverity,
    JobStatus,
    LogLevel,
    OptionStyle,
    OptionType,
    PositionSide,
    PositionStatus,
    SettlementType,
    SignalType,
    TradeSide,
    TradeStatus,
    TradeType,
)
from medalion.core.settings import LakeRetention


class AssetFields(TypedDict, total=False):
    """What can be given of an Asset."""

    symbol: str
    name: str
    asset_type: AssetType | str
    asset_class: str
    """The venue's word, e.g. us_equity."""
    exchange: str
    is_active: bool
    """Whether it is followed."""
    is_tradable: bool
    is_fractionable: bool
    min_order_quantity: Decimal | int
    extra: Mapping[str, Any] | None


class OptionContractFields(TypedDict, total=False):
    """What can be given of an OptionContract."""

    asset_id: UUID | str
    contract_id: str | None
    """The vendor's id."""
    symbol: str
    underlying_symbol: str
    root_symbol: str | None
    status: str
    is_tradable: bool
    expiration_date: date
    option_type: OptionType | str
    option_style: OptionStyle | str
    strike_price: Decimal | int
    multiplier: Decimal | int
    """Units per contract."""
    open_interest: int | None
    open_interest_date: date | None
    close_price: Decimal | int | None
    close_price_date: date | None
    extra: Mapping[str, Any] | None


class PolymarketEventFields(TypedDict, total=False):
    """What can be given of a PolymarketEvent."""

    event_id: str
    """The venue's id."""
    slug: str
    title: str
    description: str
    category: str
    tags: Sequence[str]
    is_active: bool
    is_closed: bool
    is_monitored: bool
    event_created_at: datetime | None
    end_date: datetime | None
    total_volume: Decimal | int
    """Quote currency."""
    total_liquidity: Decimal | int
    """Quote currency."""
    extra: Mapping[str, Any] | None


class PolymarketMarketFields(TypedDict, total=False):
    """What can be given of a PolymarketMarket."""

    polymarket_event_id: UUID | str
    market_id: str | None
    """The venue's number of the market."""
    condition_id: str
    """The market's id on the chain and in its feeds."""
    question_id: str
    question: str
    slug: str
    start_date: datetime | None
    end_date: datetime | None
    is_active: bool
    is_closed: bool
    is_neg_risk: bool
    """Exactly one market of the event resolves to Yes."""
    tick_size: Decimal | int | None
    min_order_size: Decimal | int | None
    volume: Decimal | int
    """Quote currency."""
    liquidity: Decimal | int
    """Quote currency."""
    resolved_at: datetime | None
    extra: Mapping[str, Any] | None


class PolymarketOutcomeFields(TypedDict, total=False):
    """What can be given of a PolymarketOutcome."""

    polymarket_market_id: UUID | str
    token_id: str
    """Up to 78 digits, and therefore text."""
    outcome: str
    """Its name, e.g. Yes."""
    outcome_index: int
    price: Decimal | int | None
    """Last known probability, 0 to 1."""
    winner: bool | None
    """Null until the market is resolved."""
    extra: Mapping[str, Any] | None


class CorporateActionFields(TypedDict, total=False):
    """What can be given of a CorporateAction."""

    asset_id: UUID | str
    action_type: CorporateActionType | str
    ex_date: date
    new_shares: Decimal | int | None
    """4 for a 4-for-1 split."""
    old_shares: Decimal | int | None
    """1 for a 4-for-1 split."""
    amount: Decimal | int | None
    """Cash per share, in the asset's quote currency."""
    old_symbol: str | None
    new_symbol: str | None
    source: str
    extra: Mapping[str, Any] | None


class AccountFields(TypedDict, total=False):
    """What can be given of an Account."""

    name: str
    account_type: AccountType | str
    base_currency: str
    is_active: bool
    description: str
    extra: Mapping[str, Any] | None


class StrategyFields(TypedDict, total=False):
    """What can be given of a Strategy."""

    name: str
    description: str
    strategy_type: str
    """Family, e.g. momentum."""
    version: str
    is_active: bool
    is_backtesting: bool
    configuration: Mapping[str, Any]
    risk_parameters: Mapping[str, Any]
    max_position_size: Decimal | int | None
    """Quote currency."""
    max_loss_per_trade: Decimal | int | None
    """Quote currency."""
    max_daily_loss: Decimal | int | None
    """Quote currency."""
    performance_metrics: Mapping[str, Any] | None
    last_executed_at: datetime | None


class TradingSignalFields(TypedDict, total=False):
    """What can be given of a TradingSignal."""

    strategy_id: UUID | str
    instrument_id: int | None
    signal_type: SignalType | str
    confidence: Decimal | int
    """Percent, 0 to 100."""
    signal_timestamp: datetime
    expires_at: datetime | None
    target_price: Decimal | int | None
    stop_loss: Decimal | int | None
    take_profit: Decimal | int | None
    suggested_quantity: Decimal | int | None
    source_data: Mapping[str, Any]
    """What the signal was derived from."""
    was_acted_upon: bool
    extra: Mapping[str, Any] | None
    symbol: str
    asset_id: UUID | str | None
    option_contract_id: UUID | str | None
    outcome_id: UUID | str | None
    polymarket_event_id: UUID | str | None


class TradeFields(TypedDict, total=False):
    """What can be given of a Trade."""

    account_id: UUID | str
    strategy_id: UUID | str | None
    signal_id: UUID | str | None
    position_id: UUID | str | None
    instrument_id: int
    client_order_id: str
    """Ours; the same on every retry."""
    external_trade_id: str | None
    """The venue's id of the order."""
    trade_type: TradeType | str
    side: TradeSide | str
    status: TradeStatus | str
    status_reason: str | None
    quantity: Decimal | int
    """Ordered."""
    multiplier: Decimal | int
    """Units per contract."""
    limit_price: Decimal | int | None
    stop_price: Decimal | int | None
    trail_price: Decimal | int | None
    trail_percent: Decimal | int | None
    filled_quantity: Decimal | int
    filled_value: Decimal | int
    """Sum of the fills' price × quantity × multiplier, each as cash."""
    commission: Decimal | int
    """Negative for a rebate."""
    submitted_at: datetime | None
    executed_at: datetime | None
    alpaca_market_data_snapshot: Mapping[str, Any] | None
    """What Alpaca showed at decision time."""
    polymarket_data_snapshot: Mapping[str, Any] | None
    """What Polymarket showed then."""
    notes: str | None
    extra: Mapping[str, Any] | None
    symbol: str
    asset_id: UUID | str | None
    option_contract_id: UUID | str | None
    outcome_id: UUID | str | None
    polymarket_event_id: UUID | str | None


class FillFields(TypedDict, total=False):
    """What can be given of a Fill."""

    trade_id: UUID | str
    account_id: UUID | str
    instrument_id: int
    venue: str
    execution_id: str
    side: TradeSide | str
    quantity: Decimal | int
    price: Decimal | int
    commission: Decimal | int
    """Negative for a rebate."""
    realized_pnl: Decimal | int
    """What it realized, gross."""
    executed_at: datetime
    busted_at: datetime | None
    """When the venue undid it; null if it stands."""
    extra: Mapping[str, Any] | None


class PositionFields(TypedDict, total=False):
    """What can be given of a Position."""

    account_id: UUID | str
    strategy_id: UUID | str | None
    instrument_id: int
    side: PositionSide | str
    status: PositionStatus | str
    quantity: Decimal | int
    """The sum of what was entered."""
    remaining_quantity: Decimal | int
    """Still held; 0 once closed."""
    cost_basis: Decimal | int
    """Of what remains, signed."""
    multiplier: Decimal | int
    """Units per contract."""
    realized_pnl: Decimal | int
    commissions: Decimal | int
    current_price: Decimal | int | None
    """The last mark."""
    marked_at: datetime | None
    stop_loss: Decimal | int | None
    take_profit: Decimal | int | None
    opened_at: datetime
    closed_at: datetime | None
    alpaca_open_snapshot: Mapping[str, Any] | None
    alpaca_close_snapshot: Mapping[str, Any] | None
    polymarket_open_snapshot: Mapping[str, Any] | None
    polymarket_close_snapshot: Mapping[str, Any] | None
    notes: str | None
    extra: Mapping[str, Any] | None
    symbol: str
    asset_id: UUID | str | None
    option_contract_id: UUID | str | None
    outcome_id: UUID | str | None
    polymarket_event_id: UUID | str | None


class CashMovementFields(TypedDict, total=False):
    """What can be given of a CashMovement."""

    account_id: UUID | str
    movement_type: CashMovementType | str
    amount: Decimal | int
    currency: str
    occurred_at: datetime
    trade_id: UUID | str | None
    fill_id: UUID | str | None
    settlement_id: UUID | str | None
    note: str | None


class SettlementFields(TypedDict, total=False):
    """What can be given of a Settlement."""

    account_id: UUID | str
    instrument_id: int
    position_id: UUID | str
    settlement_type: SettlementType | str
    event: str
    """What happened; several settlements of one add up."""
    quantity: Decimal | int
    """Units or contracts added to the position, signed."""
    price: Decimal | int | None
    """Or payment, per unit."""
    cash: Decimal | int
    """Paid to the account; negative if it pays."""
    realized_pnl: Decimal | int
    """What it realized, gross."""
    occurred_at: datetime
    details: Mapping[str, Any] | None


class ApplicationLogFields(TypedDict, total=False):
    """What can be given of an ApplicationLog."""

    log_level: LogLevel | str
    category: str
    message: str
    exception: str | None
    stack_trace: str | None
    log_timestamp: datetime
    source: str | None
    correlation_id: str | None
    entity_type: str | None
    entity_id: UUID | str | None
    additional_data: Mapping[str, Any] | None


class ErrorLogFields(TypedDict, total=False):
    """What can be given of an ErrorLog."""

    severity: ErrorSeverity | str
    category: str
    error_code: str | None
    message: str
    exception_type: str | None
    exception_details: str | None
    stack_trace: str | None
    inner_exception: str | None
    error_timestamp: datetime
    source: str
    correlation_id: str | None
    was_handled: bool
    requires_intervention: bool
    entity_type: str | None
    entity_id: UUID | str | None
    reported_by: str | None
    resolution_notes: str | None
    resolved_at: datetime | None
    additional_data: Mapping[str, Any] | None


class PerformanceMetricFields(TypedDict, total=False):
    """What can be given of a PerformanceMetric."""

    metric_name: str
    category: str
    value: Decimal | int
    unit: str
    metric_timestamp: datetime
    source: str
    tags: Mapping[str, Any] | None
    extra: Mapping[str, Any] | None


class AuditLogFields(TypedDict, total=False):
    """What can be given of an AuditLog."""

    action: str
    """insert, update, delete, soft_delete or restore."""
    entity_type: str
    """The table."""
    entity_id: UUID | str
    version: int
    performed_by: str
    action_timestamp: datetime
    previous_state: Mapping[str, Any] | None
    new_state: Mapping[str, Any] | None
    changes: Mapping[str, Any] | None
    """Field → [before, after], for an update."""
    reason: str | None
    ip_address: str | None
    correlation_id: str | None
    extra: Mapping[str, Any] | None
    previous_hash: bytes | None
    """Null for version 1."""
    hash: bytes


class JobRunFields(TypedDict, total=False):
    """What can be given of a JobRun."""

    job: str
    status: JobStatus | str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]
    """Lineage: pins of the lake, versions of the code."""
    results: Mapping[str, Any] | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None


class StreamSessionFields(TypedDict, total=False):
    """What can be given of a StreamSession."""

    feed: str
    dataset: str
    source: str
    symbols: Sequence[str]
    started_at: datetime
    ended_at: datetime | None
    """Null while it runs."""


class CoverageGapFields(TypedDict, total=False):
    """What can be given of a CoverageGap."""

    session_id: UUID | str | None
    dataset: str
    source: str
    instrument_id: int | None
    """Null for every instrument of the session."""
    starts_at: datetime
    ends_at: datetime | None
    """Null while it lasts."""
    reason: str


class LakeRetentionFields(TypedDict, total=False):
    """How long the lake keeps rows and superseded versions of a dataset, and which bars stay of dropped quotes."""

    rows_days: int | None
    versions_days: int | None
    downsample: str | None


class SettingsFields(TypedDict, total=False):
    """Where the stores are and how much they may use; an argument of `open()` wins over the environment."""

    start_timeout: float
    """Seconds to wait for the embedded server's recovery."""
    lock_timeout: float
    """Seconds to wait for what another process holds."""
    mirror_interval: float
    """Seconds between two looks of the background mirror."""
    mirror_background: bool
    """Whether open() starts the background mirror."""
    compact_interval: float
    """Seconds between two turns of compaction."""
    compact_background: bool
    """Whether a store that mirrors itself compacts too."""
    cache_mb: int
    """MiB of decoded columns kept in memory; 0 keeps none."""
    batch_rows: int
    """Rows of one mirror batch, about."""
    slot_rows: int
    """Rows after which the next hot slot is taken."""
    log_retention_days: int
    """0 keeps logs for ever."""
    error_retention_days: int
    """Of errors that are over; 0 for ever."""
    metric_retention_days: int
    """0 keeps measurements for ever."""
    retention_interval: float
    """Seconds between two looks for what is old."""
    anchor_interval: float
    """Seconds between two anchors of the audit."""
    upkeep_background: bool
    """Whether a store that mirrors itself looks after it."""
    upkeep_interval: float
    """Seconds between two turns of the upkeep."""
    vacuum_days: int
    """Age of lake files that go; 0 keeps them for ever."""
    ledger_days: int
    """Age of ledger entries that are folded; 0 never."""
    key_days: int
    """The same of those with an idempotency key."""
    lake_retention: Mapping[str, LakeRetention | LakeRetentionFields]
    """By dataset; else all stays."""
    slow_query_ms: float | None
    """Reads and queries from here on are recorded."""
