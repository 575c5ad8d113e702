"""Every time series, declared once; hot table, Arrow schema, lake partitions and SQL view are derived.

A row is one observation of one instrument by one source at one time. Rows are never updated: a correction or a
deletion is a later row with the same key, and the current value of a key is its last row in the order of arrival.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import pyarrow as pa

from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError, NotFoundError
from medalion.core.time import Timeframe, TimeUnit

UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
PRICE = pa.decimal128(18, 8)
SIZE = PRICE
VOLUME = pa.decimal128(28, 8)
LEVELS = pa.list_(pa.struct([pa.field("price", PRICE), pa.field("size", SIZE)]))


class Period(StrEnum):
    """Which directory of the lake a row lies in, from its `ts`."""

    DAY = "day"
    BY_TIMEFRAME = "by_timeframe"  # month for minutes and hours, year for days and longer


class Availability(StrEnum):
    """When a row could first be known, where it does not say so itself."""

    AT_TS = "at_ts"
    AT_CLOSE = "at_close"  # ts + timeframe: a bar is known once it has closed


class Rule(StrEnum):
    """What each value of a column obeys; a row in which one does not is a bad one."""

    PROBABILITY = "a probability, from 0 to 1"  # of levels: their prices; sizes are never negative
    NOT_NEGATIVE = "0 or more"
    SIDE = "buy or sell"


@dataclass(frozen=True, slots=True)
class Column:
    """`nullable`: a value may be null; `optional`: the whole column may be left out of a write."""

    name: str
    type: pa.DataType
    doc: str = ""
    nullable: bool = False
    optional: bool = False
    rule: Rule | None = None


def optional(name: str, type: pa.DataType, doc: str = "", rule: Rule | None = None) -> Column:
    """A column that may be null, and that a write may leave out."""
    return Column(name, type, doc, nullable=True, optional=True, rule=rule)


def _size(name: str, doc: str) -> Column:
    return Column(name, SIZE, doc, nullable=True, rule=Rule.NOT_NEGATIVE)


SYMBOL = Column("symbol", pa.string(), "As named when written: ticker, contract symbol or token id.")
TIMEFRAME = Column("timeframe", pa.string(), "Length of the bar: 1Min, 1Hour, 1Day ...")
TS = Column("ts", UTC_MICROSECONDS, "When it happened, UTC; the opening edge of a bar.")
EVENT_ID = Column("event_id", pa.int64(), "The vendor's sequence or id, else a hash of the values.", optional=True)
TAIL = (
    optional("available_at", UTC_MICROSECONDS, "When it could first be known, UTC."),
    Column("source", pa.string(), "The feed that said so, e.g. alpaca-iex, import.", optional=True),
    Column("instrument_id", pa.int64(), "The instrument's number; survives renames.", optional=True),
)
ARRIVAL = (
    Column("write_id", pa.int64(), "The write that brought the row."),
    Column("ordinal", pa.int32(), "The row's place within its write, from 0."),
    Column("is_deleted", pa.bool_(), "A tombstone: the key is absent from here on."),
    Column("recorded_at", UTC_MICROSECONDS, "When this store learned it, UTC."),
)


@dataclass(frozen=True)
class Dataset:
    """One time series of one kind of instrument.

    `bounds` are pairs of columns of which the first is never above the second. `print_id` is the column with a vendor's
    id of a print, if the rows are prints: equal ones without it are several, told apart by their place.
    """

    name: str
    kind: InstrumentKind
    key: tuple[str, ...]
    values: tuple[Column, ...]
    period: Period = Period.DAY
    available: Availability = Availability.AT_TS
    bounds: tuple[tuple[str, str], ...] = ()
    print_id: str | None = None

    @property
    def has_timeframe(self) -> bool:
        """Whether its rows are bars, of which each instrument has a series per timeframe."""
        return TIMEFRAME.name in self.key

    @property
    def series_key(self) -> tuple[str, ...]:
        """What one last value is kept for."""
        return tuple(name for name in self.key if name not in (TS.name, EVENT_ID.name))

    @property
    def order(self) -> tuple[str, ...]:
        """How frames are sorted, ties by arrival."""
        return (SYMBOL.name, *((TIMEFRAME.name,) if self.has_timeframe else ()), TS.name)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The stored columns, without those of arrival."""
        lead = (SYMBOL, TIMEFRAME, TS) if self.has_timeframe else (SYMBOL, TS)
        event = (EVENT_ID,) if EVENT_ID.name in self.key else ()
        return (*lead, *self.values, *event, *TAIL)

    @cached_property
    def stored(self) -> pa.Schema:
        """A row as hot table and lake hold it."""
        return _schema((*self.columns, *ARRIVAL))

    @cached_property
    def derived(self) -> tuple[Column, ...]:
        """Columns computed on every read."""
        names = {column.name for column in self.values}
        return (MID_PRICE,) if {"bid_price", "ask_price"} <= names else ()

    @cached_property
    def schema(self) -> pa.Schema:
        """A row as a read returns it, in this order."""
        lead = tuple(c for c in self.columns if c not in TAIL and c != EVENT_ID)
        rest = tuple(c for c in self.columns if c in TAIL or c == EVENT_ID)
        return _schema((*lead, *self.derived, *rest))


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in columns])


MID_PRICE = Column("mid_price", PRICE, "Half of bid plus ask, half-even to 8 places; null if either is.", nullable=True)

_QUOTE = (
    Column("bid_price", PRICE, "Best bid, quote currency.", nullable=True),
    _size("bid_size", "Units at the best bid."),
    Column("ask_price", PRICE, "Best offer, quote currency.", nullable=True),
    _size("ask_size", "Units at the best offer."),
)
_EVENT_KEY = ("instrument_id", "source", "ts", "event_id")
_MARKET = (
    optional("market_id", pa.string(), "The venue's market (condition) id."),
    optional("outcome", pa.string(), "Name of the outcome, e.g. Yes."),
)

STOCK_QUOTES = Dataset("stock_quote_snapshots", InstrumentKind.STOCK, _EVENT_KEY, _QUOTE)
CRYPTO_QUOTES = replace(STOCK_QUOTES, name="crypto_quote_snapshots", kind=InstrumentKind.CRYPTO)

STOCK_BARS = Dataset(
    name="stock_bars",
    kind=InstrumentKind.STOCK,
    key=("instrument_id", "source", "timeframe", "ts"),
    values=(
        *(Column(name, PRICE, f"{name.title()} price, quote currency.") for name in ("open", "high", "low", "close")),
        Column(
            "volume",
            VOLUME,
            "Units traded; whole for shares, fractional for coins.",
            rule=Rule.NOT_NEGATIVE,
        ),
        optional("trade_count", pa.int64(), "Number of prints.", Rule.NOT_NEGATIVE),
        optional("vwap", PRICE, "Volume-weighted average price."),
    ),
    period=Period.BY_TIMEFRAME,
    available=Availability.AT_CLOSE,
    bounds=(("low", "open"), ("low", "close"), ("low", "high"), ("open", "high"), ("close", "high")),
)
CRYPTO_BARS = replace(STOCK_BARS, name="crypto_bars", kind=InstrumentKind.CRYPTO)

OPTION_QUOTES = Dataset(
    name="option_quote_snapshots",
    kind=InstrumentKind.OPTION,
    key=_EVENT_KEY,
    values=(
        *_QUOTE,
        optional("implied_volatility", PRICE, "Annualised, as a fraction: 0.25 is 25 %."),
        optional("delta", PRICE),
        optional("gamma", PRICE),
        optional("theta", PRICE, "Per day."),
        optional("vega", PRICE, "Per percentage point of volatility."),
        optional("rho", PRICE, "Per percentage point of interest."),
        optional("underlying_price", PRICE),
    ),
)

POLYMARKET_SNAPSHOTS = Dataset(
    name="polymarket_snapshots",
    kind=InstrumentKind.OUTCOME,
    key=("instrument_id", "source", "ts"),
    values=(
        *_MARKET,
        Column("price", PRICE, "Probability of the outcome, 0 to 1.", nullable=True, rule=Rule.PROBABILITY),
        optional("bid", PRICE, rule=Rule.PROBABILITY),
        optional("ask", PRICE, rule=Rule.PROBABILITY),
        optional("volume_24h", VOLUME, "Quote currency.", Rule.NOT_NEGATIVE),
        optional("liquidity", VOLUME, "Quote currency.", Rule.NOT_NEGATIVE),
        optional("implied_volatility", PRICE, "Of the linked underlying, annualised; null without one."),
    ),
)
POLYMARKET_TRADES = Dataset(
    name="polymarket_trades",
    kind=InstrumentKind.OUTCOME,
    key=_EVENT_KEY,
    values=(
        optional("trade_id", pa.string(), "The venue's id of the print."),
        *_MARKET,
        Column("price", PRICE, "Probability of the outcome, 0 to 1.", rule=Rule.PROBABILITY),
        Column("size", SIZE, "Outcome tokens.", rule=Rule.NOT_NEGATIVE),
        optional("side", pa.string(), "The taker's: buy or sell.", Rule.SIDE),
        optional("maker", pa.string(), "Address."),
        optional("taker", pa.string(), "Address."),
    ),
    print_id="trade_id",
)
POLYMARKET_BOOKS = Dataset(
    name="polymarket_order_book_snapshots",
    kind=InstrumentKind.OUTCOME,
    key=_EVENT_KEY,
    values=(
        *_MARKET,
        Column("bids", LEVELS, "Levels (price, size), best first.", rule=Rule.PROBABILITY),
        Column("asks", LEVELS, "Levels (price, size), best first.", rule=Rule.PROBABILITY),
        optional("total_bid_size", VOLUME, "Sum of the bids' sizes.", Rule.NOT_NEGATIVE),
        optional("total_ask_size", VOLUME, "Sum of the asks' sizes.", Rule.NOT_NEGATIVE),
        optional("hash", pa.string(), "The venue's hash of the book."),
    ),
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        STOCK_QUOTES,
        CRYPTO_QUOTES,
        STOCK_BARS,
        CRYPTO_BARS,
        OPTION_QUOTES,
        POLYMARKET_SNAPSHOTS,
        POLYMARKET_TRADES,
        POLYMARKET_BOOKS,
    )
}


def dataset(name: "str | Dataset") -> Dataset:
    """The dataset called `name`.

    Raises:
        NotFoundError: there is none; names the nearest.
    """
    if isinstance(name, Dataset):
        return name
    try:
        return DATASETS[name]
    except (KeyError, TypeError):
        raise NotFoundError("dataset", name, known=list(DATASETS), hint=f"known: {', '.join(DATASETS)}") from None


def datasets_of(names: "str | Dataset | Iterable[str | Dataset]") -> list[Dataset]:
    """The datasets of some names; one name is a list of one.

    >>> [each.name for each in datasets_of("stock_bars")]
    ['stock_bars']
    """
    return list(map(dataset, (names,) if isinstance(names, str | Dataset) else names))


BARS_OF = {STOCK_QUOTES.name: STOCK_BARS, CRYPTO_QUOTES.name: CRYPTO_BARS}
"""In which dataset the bars are that quotes make."""


def downsampled(dataset: Dataset, timeframe: str) -> Timeframe:
    """The timeframe to which quotes of a dataset can be downsampled.

    It divides half an hour, so that every session, hour and longer bar begins and ends with one of them.

    Raises:
        InputError: the dataset has no quotes that bars are made of, or its days and sessions would cut a bar in two.
    """
    if dataset.name not in BARS_OF:
        raise InputError(
            f"{dataset.name} cannot be downsampled; bars are made of quotes of stocks and coins",
            given=dataset.name,
            expected=sorted(BARS_OF),
        )
    asked = Timeframe.parse(timeframe)
    if asked.unit is not TimeUnit.MINUTE or 30 % asked.count:
        raise InputError(
            f"quotes cannot be downsampled to {asked}; give minutes that divide half an hour, such as '1Min'",
            given=str(timeframe),
            expected="1Min, 2Min, 3Min, 5Min, 6Min, 10Min, 15Min, 30Min",
        )
    return asked
