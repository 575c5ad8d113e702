"""Closed sets that everything shares."""

from enum import StrEnum


class AssetType(StrEnum):
    STOCK = "stock"
    CRYPTO = "crypto"
    OPTION = "option"
    FOREX = "forex"
    FUTURE = "future"


class InstrumentKind(StrEnum):
    """What an `instrument_id` names; each dataset observes one kind."""

    STOCK = "stock"
    CRYPTO = "crypto"
    OPTION = "option"
    OUTCOME = "outcome"
    FOREX = "forex"
    FUTURE = "future"


class SignalType(StrEnum):
    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"
    STRONG_BUY = "strong_buy"
    STRONG_SELL = "strong_sell"


class TradeType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class TradeSide(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell: what a fill does to the quantity held."""
        return 1 if self is TradeSide.BUY else -1


class TradeStatus(StrEnum):
    PENDING = "pending"
    SUBMITTED = "submitted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"


class PositionSide(StrEnum):
    LONG = "long"
    SHORT = "short"


class PositionStatus(StrEnum):
    OPEN = "open"
    PARTIALLY_CLOSED = "partially_closed"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class OptionType(StrEnum):
    CALL = "call"
    PUT = "put"


class OptionStyle(StrEnum):
    AMERICAN = "american"
    EUROPEAN = "european"


class AccountType(StrEnum):
    PAPER = "paper"
    BACKTEST = "backtest"
    LIVE = "live"


class CashMovementType(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRADE = "trade"
    COMMISSION = "commission"
    DIVIDEND = "dividend"
    SETTLEMENT = "settlement"
    ADJUSTMENT = "adjustment"


class SettlementType(StrEnum):
    EXPIRY = "expiry"
    EXERCISE = "exercise"
    ASSIGNMENT = "assignment"
    RESOLUTION = "resolution"
    DIVIDEND = "dividend"
    SPLIT = "split"


class CorporateActionType(StrEnum):
    SPLIT = "split"
    DIVIDEND = "dividend"
    RENAME = "rename"


class LogLevel(StrEnum):
    TRACE = "trace"
    DEBUG = "debug"
    INFORMATION = "information"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class ErrorSeverity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class JobStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WriteKind(StrEnum):
    """`hot`: rows entered through PostgreSQL; `import`: straight into the lake."""

    HOT = "hot"
    IMPORT = "import"


class BatchStatus(StrEnum):
    CLAIMED = "claimed"
    DONE = "done"
