"""Closed sets that everything shares."""

from enum import StrEnum


class AssetType(StrEnum):
    """What kind of thing an asset is; symbols are unique within one."""

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
    """What a strategy advises."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"
    STRONG_BUY = "strong_buy"
    STRONG_SELL = "strong_sell"


class TradeType(StrEnum):
    """What an order asks of its venue: at which price, and from when on."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class TradeSide(StrEnum):
    """Whether an order or fill buys or sells."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell: what a fill does to the quantity held."""
        return 1 if self is TradeSide.BUY else -1


class TradeStatus(StrEnum):
    """How far an order is; `medalion.venues.states` has what may follow what."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"


class PositionSide(StrEnum):
    """Whether a position gains when the price rises (long) or falls (short)."""

    LONG = "long"
    SHORT = "short"


class PositionStatus(StrEnum):
    """How much of a position is left; one whose fills were all undone is cancelled."""

    OPEN = "open"
    PARTIALLY_CLOSED = "partially_closed"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class OptionType(StrEnum):
    """The right to buy (call) or to sell (put)."""

    CALL = "call"
    PUT = "put"


class OptionStyle(StrEnum):
    """Whether an option may be exercised at any time (American) or at its expiry alone (European)."""

    AMERICAN = "american"
    EUROPEAN = "european"


class AccountType(StrEnum):
    """Whose money an account trades: none (paper, backtest), or the owner's."""

    PAPER = "paper"
    BACKTEST = "backtest"
    LIVE = "live"


class CashMovementType(StrEnum):
    """Why cash moved; deposits and withdrawals are flows and no result."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    TRADE = "trade"
    COMMISSION = "commission"
    DIVIDEND = "dividend"
    SETTLEMENT = "settlement"
    ADJUSTMENT = "adjustment"


class SettlementType(StrEnum):
    """What other than a fill changed a position."""

    EXPIRY = "expiry"
    EXERCISE = "exercise"
    ASSIGNMENT = "assignment"
    RESOLUTION = "resolution"
    DIVIDEND = "dividend"
    SPLIT = "split"


class CorporateActionType(StrEnum):
    """What a company did to its shares."""

    SPLIT = "split"
    DIVIDEND = "dividend"
    RENAME = "rename"


class LogLevel(StrEnum):
    """How much a log entry matters, the least first."""

    TRACE = "trace"
    DEBUG = "debug"
    INFORMATION = "information"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class ErrorSeverity(StrEnum):
    """How bad an error is, the mildest first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class JobStatus(StrEnum):
    """How a run of a job stands or ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class WriteKind(StrEnum):
    """`hot`: rows entered through PostgreSQL; `import`: straight into the lake."""

    HOT = "hot"
    IMPORT = "import"


class BatchStatus(StrEnum):
    """Whether a batch of the mirror is on its way (claimed) or in the lake (done)."""

    CLAIMED = "claimed"
    DONE = "done"
