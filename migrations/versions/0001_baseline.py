"""The whole schema as it was first released: entities, ledger, datasets, audit and the rules for deletion."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Uuid
TIME = sa.DateTime(timezone=True)
MONEY = sa.Numeric(18, 8)
WIDE = sa.Numeric(28, 8)
JSON = JSONB
ENUM = sa.String(32)

ACCOUNTTYPE = ("paper", "backtest", "live")
ASSETTYPE = ("stock", "crypto", "option", "forex", "future")
BATCHSTATUS = ("claimed", "done")
CASHMOVEMENTTYPE = ("deposit", "withdrawal", "trade", "commission", "dividend", "settlement", "adjustment")
CORPORATEACTIONTYPE = ("split", "dividend", "rename")
ERRORSEVERITY = ("low", "medium", "high", "critical")
INSTRUMENTKIND = ("stock", "crypto", "option", "outcome", "forex", "future")
JOBSTATUS = ("running", "succeeded", "failed")
LOGLEVEL = ("trace", "debug", "information", "warning", "error", "critical")
OPTIONSTYLE = ("american", "european")
OPTIONTYPE = ("call", "put")
POSITIONSIDE = ("long", "short")
POSITIONSTATUS = ("open", "partially_closed", "closed", "cancelled")
SETTLEMENTTYPE = ("expiry", "exercise", "assignment", "resolution", "dividend", "split")
SIGNALTYPE = ("buy", "sell", "hold", "strong_buy", "strong_sell")
TRADESIDE = ("buy", "sell")
TRADESTATUS = ("pending", "submitted", "partially_filled", "filled", "cancelled", "rejected", "expired")
TRADETYPE = ("market", "limit", "stop", "stop_limit", "trailing_stop")
WRITEKIND = ("hot", "import")

DATASETS = (
    "stock_quote_snapshots",
    "crypto_quote_snapshots",
    "stock_bars",
    "crypto_bars",
    "option_quote_snapshots",
    "polymarket_snapshots",
    "polymarket_trades",
    "polymarket_order_book_snapshots",
)
SLOTS = 8

TABLES = (
    "paper_executions",
    "paper_orders",
    "rollup_series",
    "rollups",
    "primary_sources",
    "mirror_state",
    "mirror_batches",
    "writes",
    "coverage_gaps",
    "stream_sessions",
    "job_runs",
    "audit_logs",
    "performance_metrics",
    "error_logs",
    "application_logs",
    "cash_movements",
    "settlements",
    "fills",
    "trades",
    "positions",
    "trading_signals",
    "strategies",
    "accounts",
    "corporate_actions",
    "polymarket_outcomes",
    "polymarket_markets",
    "polymarket_events",
    "option_contracts",
    "assets",
)
APPEND_ONLY = ("audit_logs", "cash_movements", "settlements")
AUDITED = (
    "accounts",
    "assets",
    "corporate_actions",
    "coverage_gaps",
    "fills",
    "job_runs",
    "option_contracts",
    "polymarket_events",
    "polymarket_markets",
    "polymarket_outcomes",
    "positions",
    "strategies",
    "stream_sessions",
    "trades",
    "trading_signals",
)


def upgrade() -> None:
    op.execute("CREATE SEQUENCE instrument_id_seq AS bigint")
    op.execute("CREATE SEQUENCE write_id_seq AS bigint")
    op.execute("CREATE SEQUENCE paper_execution_seq AS bigint")
    _reference()
    _trading()
    _journal()
    _operations()
    _datasets()
    _paper_venue()
    op.execute(INSTRUMENTS)
    for function in FUNCTIONS.values():
        # Tables are named with their schema, which a table of another schema or a temporary one cannot then stand in
        # for. A search path set per call would do so too, but made an audited change five times slower.
        op.execute(
            f"DO $do$ BEGIN EXECUTE replace($text${function}$text$, '@schema', quote_ident(current_schema())); END $do$"
        )
    _triggers()


def downgrade() -> None:
    op.execute("DROP VIEW instruments")
    for dataset in DATASETS:
        op.drop_table(f"{dataset}_last")
        op.drop_table(dataset)
    op.execute("DROP FUNCTION medalion_audit_content")
    for table in TABLES:
        op.drop_table(table)
    for function in FUNCTIONS:
        if function != "medalion_audit_content":
            op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP SEQUENCE paper_execution_seq")
    op.execute("DROP SEQUENCE write_id_seq")
    op.execute("DROP SEQUENCE instrument_id_seq")


def _reference() -> None:
    _entity(
        "assets",
        _instrument_id(),
        *_required(sa.String(50), "symbol"),
        *_required(sa.String(200), "name"),
        *_required(ENUM, "asset_type"),
        *_required(sa.String(50), "asset_class", "exchange"),
        *_required(sa.Boolean, "is_active", "is_tradable", "is_fractionable"),
        *_required(MONEY, "min_order_quantity"),
        *_optional(JSON, "metadata"),
        checks={
            "assettype": _in("asset_type", ASSETTYPE),
            "min_order_quantity": "min_order_quantity > 0",
        },
    )
    _live_unique("assets", "asset_type", "symbol")
    _index("assets", "is_active")
    _entity(
        "corporate_actions",
        *_required(ID, "asset_id"),
        *_required(ENUM, "action_type"),
        *_required(sa.Date, "ex_date"),
        *_optional(MONEY, "new_shares", "old_shares", "amount"),
        *_optional(sa.String(50), "old_symbol", "new_symbol"),
        *_required(sa.String(100), "source"),
        *_optional(JSON, "metadata"),
        refers={"asset_id": "assets"},
        checks={
            "corporateactiontype": _in("action_type", CORPORATEACTIONTYPE),
            "new_shares": "new_shares > 0",
            "old_shares": "old_shares > 0",
            "dividend": "action_type <> 'dividend' OR amount IS NOT NULL",
            "rename": "action_type <> 'rename' OR new_symbol IS NOT NULL",
            "split": "action_type <> 'split' OR num_nulls(new_shares, old_shares) = 0",
        },
    )
    _live_unique("corporate_actions", "asset_id", "action_type", "ex_date")
    _index("corporate_actions", "asset_id")
    _entity(
        "option_contracts",
        _instrument_id(),
        *_required(ID, "asset_id"),
        *_optional(sa.String(50), "contract_id"),
        *_required(sa.String(50), "symbol", "underlying_symbol"),
        *_optional(sa.String(50), "root_symbol"),
        *_required(sa.String(50), "status"),
        *_required(sa.Boolean, "is_tradable"),
        *_required(sa.Date, "expiration_date"),
        *_required(ENUM, "option_type", "option_style"),
        *_required(MONEY, "strike_price", "multiplier"),
        *_optional(sa.BigInteger, "open_interest"),
        *_optional(sa.Date, "open_interest_date"),
        *_optional(MONEY, "close_price"),
        *_optional(sa.Date, "close_price_date"),
        *_optional(JSON, "metadata"),
        refers={"asset_id": "assets"},
        checks={
            "optiontype": _in("option_type", OPTIONTYPE),
            "optionstyle": _in("option_style", OPTIONSTYLE),
            "strike_price": "strike_price >= 0",
            "multiplier": "multiplier > 0",
        },
    )
    _live_unique("option_contracts", "contract_id")
    _live_unique("option_contracts", "symbol")
    _index("option_contracts", "asset_id")
    _index("option_contracts", "expiration_date")
    _index("option_contracts", "underlying_symbol", "expiration_date")
    _entity(
        "polymarket_events",
        *_required(sa.String(100), "event_id"),
        *_required(sa.String(200), "slug"),
        *_required(sa.String(500), "title"),
        *_required(sa.Text, "description"),
        *_required(sa.String(100), "category"),
        *_required(JSON, "tags"),
        *_required(sa.Boolean, "is_active", "is_closed", "is_monitored"),
        *_optional(TIME, "event_created_at", "end_date"),
        *_required(WIDE, "total_volume", "total_liquidity"),
        *_optional(JSON, "metadata"),
    )
    _live_unique("polymarket_events", "event_id")
    _index("polymarket_events", "category")
    _index("polymarket_events", "is_monitored")
    _index("polymarket_events", "slug")
    _entity(
        "polymarket_markets",
        *_required(ID, "polymarket_event_id"),
        *_optional(sa.String(100), "market_id"),
        *_required(sa.String(100), "condition_id", "question_id"),
        *_required(sa.String(1000), "question"),
        *_required(sa.String(200), "slug"),
        *_optional(TIME, "start_date", "end_date"),
        *_required(sa.Boolean, "is_active", "is_closed", "is_neg_risk"),
        *_optional(MONEY, "tick_size", "min_order_size"),
        *_required(WIDE, "volume", "liquidity"),
        *_optional(TIME, "resolved_at"),
        *_optional(JSON, "metadata"),
        refers={"polymarket_event_id": "polymarket_events"},
        checks={
            "tick_size": "tick_size > 0",
        },
    )
    _live_unique("polymarket_markets", "condition_id")
    _live_unique("polymarket_markets", "market_id")
    _index("polymarket_markets", "polymarket_event_id")
    _index("polymarket_markets", "slug")
    _entity(
        "polymarket_outcomes",
        _instrument_id(),
        *_required(ID, "polymarket_market_id"),
        *_required(sa.String(100), "token_id"),
        *_required(sa.String(200), "outcome"),
        *_required(sa.SmallInteger, "outcome_index"),
        *_optional(MONEY, "price"),
        *_optional(sa.Boolean, "winner"),
        *_optional(JSON, "metadata"),
        refers={"polymarket_market_id": "polymarket_markets"},
    )
    _live_unique("polymarket_outcomes", "polymarket_market_id", "outcome_index")
    _live_unique("polymarket_outcomes", "token_id")
    _index("polymarket_outcomes", "polymarket_market_id")


def _trading() -> None:
    _entity(
        "accounts",
        *_required(sa.String(200), "name"),
        *_required(ENUM, "account_type"),
        *_required(sa.String(10), "base_currency"),
        *_required(sa.Boolean, "is_active"),
        *_required(sa.String(1000), "description"),
        *_optional(JSON, "metadata"),
        checks={
            "accounttype": _in("account_type", ACCOUNTTYPE),
        },
    )
    _live_unique("accounts", "name")
    _entity(
        "strategies",
        *_required(sa.String(200), "name"),
        *_required(sa.String(1000), "description"),
        *_required(sa.String(100), "strategy_type"),
        *_required(sa.String(20), "version"),
        *_required(sa.Boolean, "is_active", "is_backtesting"),
        *_required(JSON, "configuration", "risk_parameters"),
        *_optional(MONEY, "max_position_size", "max_loss_per_trade", "max_daily_loss"),
        *_optional(JSON, "performance_metrics"),
        *_optional(TIME, "last_executed_at"),
        *_row_version(),
    )
    _live_unique("strategies", "name", "version")
    _index("strategies", "is_active")
    _index("strategies", "strategy_type")
    _entity(
        "trading_signals",
        *_required(ID, "strategy_id"),
        *_optional(sa.BigInteger, "instrument_id"),
        *_required(ENUM, "signal_type"),
        *_required(MONEY, "confidence"),
        *_required(TIME, "signal_timestamp"),
        *_optional(TIME, "expires_at"),
        *_optional(MONEY, "target_price", "stop_loss", "take_profit", "suggested_quantity"),
        *_required(JSON, "source_data"),
        *_required(sa.Boolean, "was_acted_upon"),
        *_optional(JSON, "metadata"),
        *_of_instrument(),
        refers={**OF_INSTRUMENT, "strategy_id": "strategies"},
        checks={
            "signaltype": _in("signal_type", SIGNALTYPE),
            "confidence": "confidence BETWEEN 0 AND 100",
            "instrument": "num_nonnulls(asset_id, option_contract_id, outcome_id) <= 1"
            " AND num_nonnulls(asset_id, option_contract_id, outcome_id, polymarket_event_id) >= 1",
        },
    )
    _index("trading_signals", "asset_id", "signal_timestamp")
    _index("trading_signals", "option_contract_id")
    _index("trading_signals", "outcome_id")
    _index("trading_signals", "polymarket_event_id", "signal_timestamp")
    _index("trading_signals", "signal_type")
    _index("trading_signals", "strategy_id", "signal_timestamp")
    _index("trading_signals", "symbol")
    _index("trading_signals", "was_acted_upon", "signal_timestamp")
    _entity(
        "positions",
        *_required(ID, "account_id"),
        *_optional(ID, "strategy_id"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(ENUM, "side", "status"),
        *_required(MONEY, "quantity", "remaining_quantity", "cost_basis", "multiplier", "realized_pnl", "commissions"),
        *_optional(MONEY, "current_price"),
        *_optional(TIME, "marked_at"),
        *_optional(MONEY, "stop_loss", "take_profit"),
        *_required(TIME, "opened_at"),
        *_optional(TIME, "closed_at"),
        *_optional(
            JSON,
            "alpaca_open_snapshot",
            "alpaca_close_snapshot",
            "polymarket_open_snapshot",
            "polymarket_close_snapshot",
        ),
        *_optional(sa.String(2000), "notes"),
        *_optional(JSON, "metadata"),
        *_of_instrument(),
        *_row_version(),
        refers={**OF_INSTRUMENT, "account_id": "accounts", "strategy_id": "strategies"},
        checks={
            "positionside": _in("side", POSITIONSIDE),
            "positionstatus": _in("status", POSITIONSTATUS),
            "quantity": "quantity >= 0",
            "multiplier": "multiplier > 0",
            "closed": "status NOT IN ('closed', 'cancelled') OR (remaining_quantity = 0 AND closed_at IS NOT NULL)",
            "instrument": "num_nonnulls(asset_id, option_contract_id, outcome_id) = 1",
            "remaining_quantity": "remaining_quantity BETWEEN 0 AND quantity",
        },
    )
    _index(
        "positions",
        "account_id",
        "instrument_id",
        "strategy_id",
        name="uq_positions_open",
        unique=True,
        where="status IN ('open', 'partially_closed') AND NOT is_deleted",
        nulls_not_distinct=True,
    )
    _index("positions", "account_id", "status")
    _index("positions", "asset_id", "status")
    _index("positions", "closed_at")
    _index("positions", "instrument_id")
    _index("positions", "opened_at")
    _index("positions", "option_contract_id")
    _index("positions", "outcome_id")
    _index("positions", "polymarket_event_id", "status")
    _index("positions", "status")
    _index("positions", "strategy_id")
    _index("positions", "symbol")
    _entity(
        "trades",
        *_required(ID, "account_id"),
        *_optional(ID, "strategy_id", "signal_id", "position_id"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(sa.String(128), "client_order_id"),
        *_optional(sa.String(100), "external_trade_id"),
        *_required(ENUM, "trade_type", "side", "status"),
        *_optional(sa.String(1000), "status_reason"),
        *_required(MONEY, "quantity", "multiplier"),
        *_optional(MONEY, "limit_price", "stop_price", "trail_price", "trail_percent"),
        *_required(MONEY, "filled_quantity"),
        *_required(WIDE, "filled_value"),
        *_required(MONEY, "commission"),
        *_optional(TIME, "submitted_at", "executed_at"),
        *_optional(JSON, "alpaca_market_data_snapshot", "polymarket_data_snapshot"),
        *_optional(sa.String(2000), "notes"),
        *_optional(JSON, "metadata"),
        *_of_instrument(),
        *_row_version(),
        refers={
            **OF_INSTRUMENT,
            "account_id": "accounts",
            "position_id": "positions",
            "signal_id": "trading_signals",
            "strategy_id": "strategies",
        },
        checks={
            "tradetype": _in("trade_type", TRADETYPE),
            "tradeside": _in("side", TRADESIDE),
            "tradestatus": _in("status", TRADESTATUS),
            "quantity": "quantity > 0",
            "multiplier": "multiplier > 0",
            "filled_quantity": "filled_quantity >= 0",
            "instrument": "num_nonnulls(asset_id, option_contract_id, outcome_id) = 1",
        },
    )
    _live_unique("trades", "account_id", "client_order_id")
    _index("trades", "account_id", "executed_at")
    _index("trades", "asset_id", "executed_at")
    _index("trades", "executed_at")
    _index("trades", "external_trade_id")
    _index("trades", "instrument_id")
    _index("trades", "option_contract_id")
    _index("trades", "outcome_id")
    _index("trades", "polymarket_event_id", "executed_at")
    _index("trades", "position_id")
    _index("trades", "signal_id")
    _index("trades", "status")
    _index("trades", "strategy_id", "executed_at")
    _index("trades", "symbol")
    _entity(
        "fills",
        *_required(ID, "trade_id", "account_id"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(sa.String(50), "venue"),
        *_required(sa.String(128), "execution_id"),
        *_required(ENUM, "side"),
        *_required(MONEY, "quantity", "price", "commission", "realized_pnl"),
        *_required(TIME, "executed_at"),
        *_optional(TIME, "busted_at"),
        *_optional(JSON, "metadata"),
        refers={"account_id": "accounts", "trade_id": "trades"},
        unique=("venue", "execution_id"),
        checks={
            "tradeside": _in("side", TRADESIDE),
            "quantity": "quantity > 0",
            "price": "price >= 0",
        },
    )
    _index("fills", "account_id", "executed_at")
    _index("fills", "account_id", "instrument_id", "executed_at")
    _index("fills", "trade_id")
    _entity(
        "settlements",
        *_required(ID, "account_id"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(ID, "position_id"),
        *_required(ENUM, "settlement_type"),
        *_required(sa.String(200), "event"),
        *_required(MONEY, "quantity"),
        *_optional(MONEY, "price"),
        *_required(MONEY, "cash", "realized_pnl"),
        *_required(TIME, "occurred_at"),
        *_optional(JSON, "details"),
        refers={"account_id": "accounts", "position_id": "positions"},
        checks={
            "settlementtype": _in("settlement_type", SETTLEMENTTYPE),
        },
    )
    _index("settlements", "account_id", "instrument_id", "occurred_at")
    _index("settlements", "position_id")
    _entity(
        "cash_movements",
        *_required(ID, "account_id"),
        *_required(ENUM, "movement_type"),
        *_required(MONEY, "amount"),
        *_required(sa.String(10), "currency"),
        *_required(TIME, "occurred_at"),
        *_optional(ID, "trade_id", "fill_id", "settlement_id"),
        *_optional(sa.String(1000), "note"),
        refers={"account_id": "accounts", "fill_id": "fills", "settlement_id": "settlements", "trade_id": "trades"},
        checks={
            "cashmovementtype": _in("movement_type", CASHMOVEMENTTYPE),
        },
    )
    _index("cash_movements", "account_id", "occurred_at")
    _index("cash_movements", "fill_id")
    _index("cash_movements", "settlement_id")
    _index("cash_movements", "trade_id")


def _journal() -> None:
    _entity(
        "application_logs",
        *_required(ENUM, "log_level"),
        *_required(sa.String(200), "category"),
        *_required(sa.Text, "message"),
        *_optional(sa.Text, "exception", "stack_trace"),
        *_required(TIME, "log_timestamp"),
        *_optional(sa.String(200), "source"),
        *_optional(sa.String(100), "correlation_id", "entity_type"),
        *_optional(ID, "entity_id"),
        *_optional(JSON, "additional_data"),
        checks={
            "loglevel": _in("log_level", LOGLEVEL),
        },
    )
    _index("application_logs", "category")
    _index("application_logs", "correlation_id")
    _index("application_logs", "log_level")
    _index("application_logs", "log_timestamp")
    _entity(
        "error_logs",
        *_required(ENUM, "severity"),
        *_required(sa.String(200), "category"),
        *_optional(sa.String(50), "error_code"),
        *_required(sa.Text, "message"),
        *_optional(sa.String(500), "exception_type"),
        *_optional(sa.Text, "exception_details", "stack_trace", "inner_exception"),
        *_required(TIME, "error_timestamp"),
        *_required(sa.String(200), "source"),
        *_optional(sa.String(100), "correlation_id"),
        *_required(sa.Boolean, "was_handled", "requires_intervention"),
        *_optional(sa.String(100), "entity_type"),
        *_optional(ID, "entity_id"),
        *_optional(sa.String(200), "reported_by"),
        *_optional(sa.String(2000), "resolution_notes"),
        *_optional(TIME, "resolved_at"),
        *_optional(JSON, "additional_data"),
        checks={
            "errorseverity": _in("severity", ERRORSEVERITY),
        },
    )
    _index("error_logs", "category")
    _index("error_logs", "correlation_id")
    _index("error_logs", "error_timestamp")
    _index("error_logs", "requires_intervention", "error_timestamp")
    _index("error_logs", "severity")
    _index("error_logs", "was_handled", "error_timestamp")
    _entity(
        "performance_metrics",
        *_required(sa.String(200), "metric_name"),
        *_required(sa.String(100), "category"),
        *_required(WIDE, "value"),
        *_required(sa.String(50), "unit"),
        *_required(TIME, "metric_timestamp"),
        *_required(sa.String(200), "source"),
        *_optional(JSON, "tags", "metadata"),
    )
    _index("performance_metrics", "category")
    _index("performance_metrics", "metric_name", "metric_timestamp")
    _index("performance_metrics", "metric_timestamp")
    _entity(
        "audit_logs",
        *_required(sa.String(200), "action"),
        *_required(sa.String(100), "entity_type"),
        *_required(ID, "entity_id"),
        *_required(sa.Integer, "version"),
        *_required(sa.String(200), "performed_by"),
        *_required(TIME, "action_timestamp"),
        *_optional(JSON, "previous_state", "new_state", "changes"),
        *_optional(sa.String(1000), "reason"),
        *_optional(sa.String(50), "ip_address"),
        *_optional(sa.String(100), "correlation_id"),
        *_optional(JSON, "metadata"),
        *_optional(sa.LargeBinary, "previous_hash"),
        *_required(sa.LargeBinary, "hash"),
        unique=("entity_type", "entity_id", "version"),
    )
    _index("audit_logs", "action_timestamp")
    _index("audit_logs", "performed_by")


def _operations() -> None:
    _table(
        "writes",
        *_required(sa.BigInteger, "id"),
        *_required(sa.String(63), "dataset"),
        *_required(ENUM, "kind"),
        *_required(sa.Text, "source"),
        *_required(TIME, "recorded_at"),
        *_required(sa.BigInteger, "rows"),
        *_optional(TIME, "first_ts", "last_ts"),
        *_optional(sa.BigInteger, "first_instrument", "last_instrument"),
        *_required(sa.BigInteger, "checksum"),
        *_required(sa.BigInteger, "dropped_rows", "dropped_checksum", "lost_rows", "lost_checksum", default="0"),
        *_optional(sa.Text, "idempotency_key"),
        *_optional(sa.SmallInteger, "slot"),
        *_optional(sa.Integer, "batch"),
        *_optional(JSON, "details"),
        key=("id",),
        checks={
            "writekind": _in("kind", WRITEKIND),
        },
    )
    _index("writes", "dataset", "idempotency_key", unique=True, where="idempotency_key IS NOT NULL")
    _index("writes", "dataset", "batch")
    _index("writes", "dataset", "slot", where="slot IS NOT NULL")
    _index("writes", "dataset", "id", name="ix_writes_unclaimed", where="batch IS NULL")
    _table(
        "mirror_batches",
        *_required(sa.String(63), "dataset"),
        *_required(sa.Integer, "number"),
        *_required(ENUM, "kind"),
        *_required(sa.BigInteger, "nonce"),
        *_required(ENUM, "status"),
        *_required(sa.BigInteger, "rows", "checksum"),
        *_optional(JSON, "file_list"),
        *_required(TIME, "claimed_at"),
        *_optional(TIME, "done_at"),
        *_optional(sa.BigInteger, "delta_version"),
        key=("dataset", "number"),
        checks={
            "writekind": _in("kind", WRITEKIND),
            "batchstatus": _in("status", BATCHSTATUS),
        },
    )
    _index("mirror_batches", "dataset", name="uq_mirror_batches_undone", unique=True, where="status <> 'done'")
    _table(
        "mirror_state",
        *_required(sa.String(63), "dataset"),
        *_required(sa.SmallInteger, "slot", default="0"),
        *_required(sa.BigInteger, "floor", "newest_import", default="0"),
        *_required(
            TIME, "settled", "known_from", "kept_from", "dropped_at", default="'1970-01-01 00:00:00+00'::timestamptz"
        ),
        *_optional(JSON, "removal"),
        *_required(sa.BigInteger, "folded_rows", "folded_checksum", "folded_until", default="0"),
        key=("dataset",),
    )
    _table(
        "primary_sources",
        *_required(sa.String(63), "dataset"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(sa.Text, "source"),
        key=("dataset", "instrument_id"),
    )
    _table(
        "rollups",
        *_required(sa.String(63), "dataset"),
        *_required(sa.Text, "timeframe"),
        *_optional(JSON, "instruments"),
        *_optional(TIME, "refreshed_at"),
        key=("dataset", "timeframe"),
    )
    _table(
        "rollup_series",
        *_required(sa.String(63), "dataset"),
        *_required(sa.Text, "timeframe"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(sa.Text, "source"),
        *_required(sa.String(63), "made_from"),
        *_optional(sa.Text, "finer"),
        *_required(sa.BigInteger, "until"),
        *_required(TIME, "dropped_at", "built_at"),
        key=("dataset", "timeframe", "instrument_id"),
    )
    _entity(
        "job_runs",
        *_required(sa.String(200), "job"),
        *_required(ENUM, "status"),
        *_required(JSON, "parameters", "inputs"),
        *_optional(JSON, "results"),
        *_required(TIME, "started_at"),
        *_optional(TIME, "finished_at"),
        *_optional(sa.Text, "error"),
        checks={
            "jobstatus": _in("status", JOBSTATUS),
        },
    )
    _index("job_runs", "job", "started_at")
    _index("job_runs", "status")
    _entity(
        "stream_sessions",
        *_required(sa.String(100), "feed"),
        *_required(sa.String(63), "dataset"),
        *_required(sa.String(100), "source"),
        *_required(JSON, "symbols"),
        *_required(TIME, "started_at"),
        *_optional(TIME, "ended_at"),
    )
    _index("stream_sessions", "dataset", "source", "started_at")
    _entity(
        "coverage_gaps",
        *_optional(ID, "session_id"),
        *_required(sa.String(63), "dataset"),
        *_required(sa.String(100), "source"),
        *_optional(sa.BigInteger, "instrument_id"),
        *_required(TIME, "starts_at"),
        *_optional(TIME, "ends_at"),
        *_required(sa.String(1000), "reason"),
        refers={"session_id": "stream_sessions"},
    )
    _index("coverage_gaps", "dataset", "source", "starts_at")
    _index("coverage_gaps", "session_id")


def _datasets() -> None:
    """Per dataset the hot table with its ring of slots, and the last values."""

    def quotes() -> list[Column]:
        return _optional(MONEY, "bid_price", "bid_size", "ask_price", "ask_size")

    def bars() -> list[Column]:
        return [
            *_required(MONEY, "open", "high", "low", "close"),
            *_required(WIDE, "volume"),
            *_optional(sa.BigInteger, "trade_count"),
            *_optional(MONEY, "vwap"),
        ]

    def option_quotes() -> list[Column]:
        return [
            *quotes(),
            *_optional(MONEY, "implied_volatility", "delta", "gamma", "theta", "vega", "rho", "underlying_price"),
        ]

    def snapshots() -> list[Column]:
        return [
            *_optional(sa.Text, "market_id", "outcome"),
            *_optional(MONEY, "price", "bid", "ask"),
            *_optional(WIDE, "volume_24h", "liquidity"),
            *_optional(MONEY, "implied_volatility"),
        ]

    def prints() -> list[Column]:
        return [
            *_optional(sa.Text, "trade_id", "market_id", "outcome"),
            *_required(MONEY, "price", "size"),
            *_optional(sa.Text, "side", "maker", "taker"),
        ]

    def books() -> list[Column]:
        return [
            *_optional(sa.Text, "market_id", "outcome"),
            *_required(JSON, "bids", "asks"),
            *_optional(WIDE, "total_bid_size", "total_ask_size"),
            *_optional(sa.Text, "hash"),
        ]

    _dataset("stock_quote_snapshots", quotes)
    _dataset("crypto_quote_snapshots", quotes)
    _dataset("stock_bars", bars, has_timeframe=True, has_event=False)
    _dataset("crypto_bars", bars, has_timeframe=True, has_event=False)
    _dataset("option_quote_snapshots", option_quotes)
    _dataset("polymarket_snapshots", snapshots, has_event=False)
    _dataset("polymarket_trades", prints)
    _dataset("polymarket_order_book_snapshots", books)


Column = sa.Column[Any]


def _dataset(
    name: str, values: Callable[[], list[Column]], *, has_timeframe: bool = False, has_event: bool = True
) -> None:
    def observed() -> list[Column]:
        return [
            *_required(sa.Text, "symbol", *(("timeframe",) if has_timeframe else ())),
            *_required(TIME, "ts"),
            *values(),
            *_required(sa.BigInteger, *(("event_id",) if has_event else ())),
            *_optional(TIME, "available_at"),
            *_required(sa.Text, "source"),
            *_required(sa.BigInteger, "instrument_id"),
        ]

    op.create_table(
        name,
        *observed(),
        *_required(sa.BigInteger, "write_id"),
        *_required(sa.Integer, "ordinal"),
        *_required(sa.Boolean, "is_deleted"),
        *_required(sa.SmallInteger, "slot"),
        postgresql_partition_by="LIST (slot)",
    )
    _index(name, "write_id")
    _index(name, "instrument_id", "ts")
    for slot in range(SLOTS):
        op.execute(f"CREATE TABLE {name}_slot_{slot} PARTITION OF {name} FOR VALUES IN ({slot})")

    key = ("instrument_id", "source", *(("timeframe",) if has_timeframe else ()))
    newest = observed()
    for column in newest:
        column.nullable = column.name not in key
    _table(
        f"{name}_last",
        *newest,
        *_required(sa.BigInteger, "write_id"),
        *_required(sa.Integer, "ordinal"),
        *_required(TIME, "recorded_at"),
        *_required(sa.Boolean, "is_stale"),
        *_required(sa.BigInteger, "touched_by"),
        *_required(TIME, "newest_ts"),
        *_required(sa.BigInteger, "newest_write_id"),
        *_required(sa.Integer, "newest_ordinal"),
        key=key,
    )
    op.execute(f"INSERT INTO mirror_state (dataset) VALUES ('{name}')")  # noqa: S608 - a name from above


def _triggers() -> None:
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER medalion_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION medalion_append_only()"
        )
    for table in AUDITED:
        op.execute(
            f"CREATE TRIGGER medalion_audit AFTER INSERT OR UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION medalion_audit()"
        )
    for table, parents in REFERENCES.items():
        pairs = ", ".join(f"'{column}', '{parent}'" for column, parent in sorted(parents.items()))
        op.execute(
            f"CREATE TRIGGER medalion_live_parents BEFORE INSERT OR UPDATE OF is_deleted, {', '.join(parents)}"
            f" ON {table} FOR EACH ROW EXECUTE FUNCTION medalion_live_parents({pairs})"
        )
    for table in sorted({parent for parents in REFERENCES.values() for parent in parents.values()}):
        op.execute(
            f"CREATE TRIGGER medalion_restrict BEFORE UPDATE OF is_deleted ON {table} FOR EACH ROW"
            " WHEN (NEW.is_deleted AND NOT OLD.is_deleted) EXECUTE FUNCTION medalion_restrict()"
        )


INSTRUMENTS = """
CREATE VIEW instruments AS
SELECT instrument_id, asset_type::text AS kind, symbol::text AS symbol, id AS entity_id
FROM assets WHERE NOT is_deleted AND asset_type <> 'option'
UNION ALL
SELECT instrument_id, 'option'::text, symbol::text, id FROM option_contracts WHERE NOT is_deleted
UNION ALL
SELECT instrument_id, 'outcome'::text, token_id::text, id FROM polymarket_outcomes WHERE NOT is_deleted
"""

FUNCTIONS = {
    # What an entry's hash covers, in an order and spelling that do not depend on the session.
    "medalion_audit_content": """
CREATE FUNCTION medalion_audit_content(entry @schema.audit_logs) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_array(
        entry.entity_type, entry.entity_id, entry.version, entry.action, entry.performed_by,
        (extract(epoch FROM entry.action_timestamp) * 1000000)::bigint, entry.reason, entry.ip_address,
        entry.correlation_id, entry.previous_state, entry.new_state, entry.changes, entry.metadata
    )::text
$$
""",
    # One entry per changed row, in the transaction that changes it, chained to the entity's previous entry. The states
    # are hashed as text, and therefore written in UTC whatever the session's zone. Without the setting, a plan made
    # while the table is empty scans all of it for every row of a first bulk change.
    "medalion_audit": """
CREATE FUNCTION medalion_audit() RETURNS trigger
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    entry @schema.audit_logs;
    stamp timestamptz := clock_timestamp();
    zone text := current_setting('TimeZone');
BEGIN
    IF zone <> 'UTC' THEN
        PERFORM set_config('TimeZone', 'UTC', true);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        entry.previous_state := to_jsonb(OLD);
        entry.entity_id := OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        entry.new_state := to_jsonb(NEW);
        entry.entity_id := NEW.id;
    END IF;
    IF zone <> 'UTC' THEN
        PERFORM set_config('TimeZone', zone, true);
    END IF;
    entry.action := lower(TG_OP);
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(key, jsonb_build_array(entry.previous_state -> key, value)) INTO entry.changes
        FROM jsonb_each(entry.new_state)
        WHERE value <> entry.previous_state -> key AND key NOT IN ('updated_at', 'row_version');
        IF entry.changes IS NULL THEN
            RETURN NULL;
        END IF;
        IF NEW.is_deleted <> OLD.is_deleted THEN
            entry.action := CASE WHEN NEW.is_deleted THEN 'soft_delete' ELSE 'restore' END;
        END IF;
    END IF;
    SELECT version, hash INTO entry.version, entry.previous_hash FROM @schema.audit_logs
    WHERE entity_type = TG_TABLE_NAME AND entity_id = entry.entity_id ORDER BY version DESC LIMIT 1;
    -- A version 7 id: the random bits of a version 4 one behind 48 bits of milliseconds.
    entry.id := encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM stamp) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1),
        'hex')::uuid;
    entry.entity_type := TG_TABLE_NAME;
    entry.version := coalesce(entry.version, 0) + 1;
    entry.action_timestamp := stamp;
    entry.performed_by := coalesce(nullif(current_setting('medalion.actor', true), ''), session_user);
    entry.correlation_id := nullif(current_setting('medalion.correlation_id', true), '');
    entry.reason := nullif(current_setting('medalion.reason', true), '');
    entry.ip_address := host(inet_client_addr());
    entry.created_at := stamp;
    entry.updated_at := stamp;
    entry.is_deleted := false;
    entry.hash := sha256(coalesce(entry.previous_hash, ''::bytea)
        || convert_to(@schema.medalion_audit_content(entry), 'UTF8'));
    INSERT INTO @schema.audit_logs VALUES (entry.*);
    RETURN NULL;
END
$$
""",
    "medalion_append_only": """
CREATE FUNCTION medalion_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: its rows are neither changed nor deleted; add one that says otherwise',
        TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$
""",
    # A foreign key is content with a hidden row. The lock is the one a foreign key takes: it waits for whoever is about
    # to hide the row, and then sees that it is hidden.
    "medalion_live_parents": """
CREATE FUNCTION medalion_live_parents() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    becomes jsonb := to_jsonb(NEW);
    was jsonb := CASE WHEN TG_OP = 'UPDATE' AND NOT OLD.is_deleted THEN to_jsonb(OLD) END;
    parent uuid;
    hidden boolean;
BEGIN
    IF NEW.is_deleted THEN
        RETURN NEW;
    END IF;
    FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
        parent := (becomes ->> TG_ARGV[place])::uuid;
        CONTINUE WHEN parent IS NULL OR parent = (was ->> TG_ARGV[place])::uuid;
        EXECUTE format('SELECT is_deleted FROM @schema.%I WHERE id = $1 FOR KEY SHARE', TG_ARGV[place + 1])
        INTO hidden USING parent;
        IF hidden THEN
            RAISE EXCEPTION '%.% refers to a deleted row of %', TG_TABLE_NAME, TG_ARGV[place], TG_ARGV[place + 1]
            USING ERRCODE = 'foreign_key_violation', DETAIL = format('Key (%s)=(%s) is deleted in table "%s".',
                TG_ARGV[place], parent, TG_ARGV[place + 1]);
        END IF;
    END LOOP;
    RETURN NEW;
END
$$
""",
    # The lock keeps out whoever is about to refer to the row; the rows that do are looked for after it is held.
    "medalion_restrict": """
CREATE FUNCTION medalion_restrict() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    child record;
    found_rows bigint;
BEGIN
    EXECUTE format('SELECT 1 FROM @schema.%I WHERE id = $1 FOR UPDATE', TG_TABLE_NAME) USING OLD.id;
    FOR child IN
        SELECT c.relname AS name, a.attname AS key
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        WHERE k.contype = 'f' AND k.confrelid = TG_RELID ORDER BY c.relname, a.attname
    LOOP
        EXECUTE format('SELECT count(*) FROM @schema.%I WHERE %I = $1 AND NOT is_deleted', child.name, child.key)
        INTO found_rows USING OLD.id;
        IF found_rows > 0 THEN
            RAISE EXCEPTION '% % is still referred to by % of %', TG_TABLE_NAME, OLD.id, found_rows, child.name
            USING ERRCODE = 'restrict_violation';
        END IF;
    END LOOP;
    RETURN NEW;
END
$$
""",
}

REFERENCES: dict[str, dict[str, str]] = {}
"""Table → column → the table it refers to; filled as the tables are made."""


def _entity(name: str, *columns: Column, checks: Mapping[str, str] | None = None, **rules: Any) -> None:
    """A table with what every entity has."""
    _table(
        name,
        sa.Column("id", ID, nullable=False),
        *columns,
        *_required(TIME, "created_at", "updated_at", default="now()"),
        *_required(sa.Boolean, "is_deleted", default="false"),
        *_optional(TIME, "deleted_at"),
        checks={"deletion": "is_deleted = (deleted_at IS NOT NULL)", **(checks or {})},
        **rules,
    )


def _table(
    name: str,
    *columns: Column,
    key: tuple[str, ...] = ("id",),
    refers: Mapping[str, str] | None = None,
    unique: tuple[str, ...] = (),
    checks: Mapping[str, str] | None = None,
) -> None:
    numbered = any(column.name == "instrument_id" and column.server_default is not None for column in columns)
    op.create_table(
        name,
        *columns,
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")),
        *(
            sa.ForeignKeyConstraint([column], [f"{parent}.id"], op.f(f"fk_{name}_{column}"), ondelete="RESTRICT")
            for column, parent in (refers or {}).items()
        ),
        *(
            sa.UniqueConstraint(*names, name=op.f(f"uq_{name}_{'_'.join(names)}"))
            for names in (unique, ("instrument_id",) if numbered else ())
            if names
        ),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_{name}_{what}")) for what, rule in (checks or {}).items()),
    )
    if refers:
        REFERENCES[name] = dict(refers)


def _required(kind: Any, *names: str, default: str | None = None) -> list[Column]:
    given = None if default is None else sa.text(default)
    return [sa.Column(name, kind, nullable=False, server_default=given, autoincrement=False) for name in names]


def _optional(kind: Any, *names: str) -> list[Column]:
    return [sa.Column(name, kind, nullable=True) for name in names]


def _instrument_id() -> Column:
    return sa.Column(
        "instrument_id", sa.BigInteger, nullable=False, server_default=sa.text("nextval('instrument_id_seq')")
    )


OF_INSTRUMENT = {
    "asset_id": "assets",
    "option_contract_id": "option_contracts",
    "outcome_id": "polymarket_outcomes",
    "polymarket_event_id": "polymarket_events",
}


def _of_instrument() -> list[Column]:
    return [*_required(sa.String(100), "symbol"), *_optional(ID, *OF_INSTRUMENT)]


def _row_version() -> list[Column]:
    return _required(sa.Integer, "row_version", default="1")


def _in(column: str, members: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(member) for member in members)})"


def _live_unique(table: str, *columns: str) -> None:
    _index(table, *columns, unique=True, where="NOT is_deleted")


def _index(
    table: str,
    *columns: str,
    name: str | None = None,
    unique: bool = False,
    where: str | None = None,
    nulls_not_distinct: bool | None = None,
) -> None:
    op.create_index(
        op.f(name or f"ix_{table}_{'_'.join(columns)}"),
        table,
        list(columns),
        unique=unique,
        postgresql_where=None if where is None else sa.text(where),
        postgresql_nulls_not_distinct=nulls_not_distinct,
    )


def _paper_venue() -> None:
    """The simulated venue's own books; no key leads from here to ours."""
    _table(
        "paper_orders",
        *_required(ID, "id", "account_id"),
        *_required(sa.String(128), "client_order_id"),
        *_required(ENUM, "instrument_kind"),
        *_required(sa.BigInteger, "instrument_id"),
        *_required(sa.String(100), "symbol"),
        *_required(MONEY, "multiplier"),
        *_required(ENUM, "trade_type", "side"),
        *_required(MONEY, "quantity"),
        *_optional(MONEY, "limit_price", "stop_price", "trail_price", "trail_percent"),
        *_required(ENUM, "status"),
        *_optional(sa.String(1000), "reason"),
        *_required(MONEY, "filled_quantity"),
        *_optional(MONEY, "water_mark"),
        *_optional(TIME, "triggered_at", "works_from"),
        *_required(TIME, "submitted_at", "changed_at"),
        unique=("account_id", "client_order_id"),
        checks={
            "instrumentkind": _in("instrument_kind", INSTRUMENTKIND),
            "tradetype": _in("trade_type", TRADETYPE),
            "tradeside": _in("side", TRADESIDE),
            "tradestatus": _in("status", TRADESTATUS),
            "quantity": "quantity > 0",
            "filled_quantity": "filled_quantity >= 0 AND filled_quantity <= quantity",
        },
    )
    _index("paper_orders", "id", name="ix_paper_orders_working", where="status IN ('submitted', 'partially_filled')")
    _table(
        "paper_executions",
        *_required(sa.String(128), "execution_id"),
        *_required(ID, "order_id", "account_id"),
        *_required(MONEY, "quantity", "price", "commission"),
        *_required(TIME, "quoted_at", "executed_at"),
        key=("execution_id",),
        checks={"quantity": "quantity > 0", "price": "price >= 0"},
    )
    op.create_foreign_key(
        op.f("fk_paper_executions_order_id"),
        "paper_executions",
        "paper_orders",
        ["order_id"],
        ["id"],
        ondelete="RESTRICT",
    )
    _index("paper_executions", "account_id", "executed_at")
    _index("paper_executions", "order_id")
