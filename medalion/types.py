"""Closed sets and small values that both stores share."""

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from enum import StrEnum
from typing import Self, TypeAlias, TypeGuard
from zoneinfo import ZoneInfo

from medalion.errors import InputError


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


class TimeUnit(StrEnum):
    MINUTE = "Min"
    HOUR = "Hour"
    DAY = "Day"
    WEEK = "Week"
    MONTH = "Month"


_UNITS = {
    **{unit.value.lower(): unit for unit in TimeUnit},
    "m": TimeUnit.MINUTE,
    "h": TimeUnit.HOUR,
    "d": TimeUnit.DAY,
    "w": TimeUnit.WEEK,
    "mo": TimeUnit.MONTH,
}


@dataclass(frozen=True, slots=True)
class Timeframe:
    """The length of a bar; written `5Min`, `1Hour`, `1Day`, and read from `5m`, `1h`, `1d`, `1mo` too.

    >>> str(Timeframe.parse("5m"))
    '5Min'
    """

    count: int
    unit: TimeUnit

    @classmethod
    def parse(cls, text: "str | Timeframe") -> Self:
        """The timeframe that `text` names.

        Raises:
            InputError: not a positive count followed by a unit.
        """
        match = re.fullmatch(r"([1-9]\d{0,3})\s*([A-Za-z]+)", str(text))
        unit = _UNITS.get(match[2].lower().removesuffix("s") or match[2]) if match else None
        if match is None or unit is None:
            raise InputError(
                f"timeframe {text!r} is not known; give a count and a unit, such as '1Min', '4Hour', '1Day'",
                given=text,
                expected="1Min, 5Min, 15Min, 30Min, 1Hour, 4Hour, 1Day, 1Week, 1Month",
            )
        return cls(int(match[1]), unit)

    @property
    def is_intraday(self) -> bool:
        return self.unit in (TimeUnit.MINUTE, TimeUnit.HOUR)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is text that every store can hold: without a NUL or half a surrogate pair."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_name(value: object, what: str, *, longest: int = 500) -> str:
    """`value`, if it is a name that every store can hold.

    Raises:
        InputError: not text, empty, too long, or with a NUL or half a surrogate pair in it.
    """
    if is_text(value) and 0 < len(value) <= longest:
        return value
    raise InputError(f"{what} {value!r} is not a name of 1 to {longest} characters", given=value, expected="a name")


Instant: TypeAlias = str | date | datetime


def utc(moment: Instant, *, name: str = "time") -> datetime:
    """`moment` as an aware UTC datetime; a date, or text without a time, is its midnight UTC.

    Raises:
        InputError: a naive datetime, or text that is no ISO 8601 date or time.
    """
    if isinstance(moment, str):
        try:
            moment = date.fromisoformat(moment) if len(moment) <= 10 else datetime.fromisoformat(moment)
        except ValueError as error:
            raise InputError(
                f"{name} {moment!r} is not an ISO 8601 date or time; give '2024-03-01' or '2024-03-01T14:30:00Z'",
                given=moment,
                expected="ISO 8601",
            ) from error
    if not isinstance(moment, date):
        raise InputError(f"{name} {moment!r} is no time", given=moment, expected="text, a date or an aware datetime")
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), UTC)
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InputError(
            f"{name} {moment.isoformat()!r} has no time zone; add one, for instance datetime(..., tzinfo=UTC)",
            given=moment,
            expected="an aware datetime",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InputError(
            f"{name} {moment.isoformat()} is out of range", given=moment, expected="years 1 to 9999"
        ) from error


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Half-open `[start, end)` in UTC; None is unbounded."""

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, start: Instant | None = None, end: Instant | None = None) -> Self:
        """Raises InputError for naive times and for an end before its start."""
        low = None if start is None else utc(start, name="start")
        high = None if end is None else utc(end, name="end")
        if low is not None and high is not None and high < low:
            raise InputError(
                f"end {high.isoformat()} is before start {low.isoformat()}", given=(start, end), expected="start <= end"
            )
        return cls(low, high)

    def overlaps(self, first: datetime, last: datetime) -> bool:
        """Whether any instant of the closed span [first, last] lies in this range."""
        return (self.start is None or last >= self.start) and (self.end is None or first < self.end)

    def __str__(self) -> str:
        low = self.start.isoformat() if self.start else "the beginning"
        return f"[{low}, {self.end.isoformat() if self.end else 'now'})"


MICROSECOND = timedelta(microseconds=1)

EXCHANGE_ZONE = ZoneInfo("America/New_York")
"""Whose days are the sessions, ex-dates and expirations of stocks and options."""

CASH_PLACES = Decimal("1E-8")
# Three factors of 18 digits have 54 and the default context keeps 28. With 100 a quotient of such numbers can also not
# be rounded onto a tie of the 8th place that it only comes near.
_EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


def exact() -> AbstractContextManager[Context]:
    """A decimal context wide enough for sums and products of our money, prices and sizes to be exact."""
    return localcontext(_EXACT)


def cash(amount: Decimal) -> Decimal:
    """`amount` in quote currency, half-even to 8 places: the one named rounding.

    >>> cash(Decimal(31) / 3)
    Decimal('10.33333333')
    """
    return amount.quantize(CASH_PLACES, context=_EXACT)
