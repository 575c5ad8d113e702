"""The data store of a trading bot, and of the people who study what it did.

>>> import medalion
>>> store = medalion.open()  # doctest: +SKIP
"""

from importlib import import_module

# As a type checker knows it: `typing` itself would take more than half of the time that the import takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from medalion import plot as plot
    from medalion import stats as stats
    from medalion.core.datasets import Dataset as Dataset
    from medalion.core.enums import AccountType as AccountType
    from medalion.core.enums import AssetType as AssetType
    from medalion.core.enums import CashMovementType as CashMovementType
    from medalion.core.enums import CorporateActionType as CorporateActionType
    from medalion.core.enums import ErrorSeverity as ErrorSeverity
    from medalion.core.enums import InstrumentKind as InstrumentKind
    from medalion.core.enums import LogLevel as LogLevel
    from medalion.core.enums import OptionStyle as OptionStyle
    from medalion.core.enums import OptionType as OptionType
    from medalion.core.enums import PositionSide as PositionSide
    from medalion.core.enums import PositionStatus as PositionStatus
    from medalion.core.enums import SettlementType as SettlementType
    from medalion.core.enums import SignalType as SignalType
    from medalion.core.enums import TradeSide as TradeSide
    from medalion.core.enums import TradeStatus as TradeStatus
    from medalion.core.enums import TradeType as TradeType
    from medalion.core.errors import ConflictError as ConflictError
    from medalion.core.errors import CorruptLakeError as CorruptLakeError
    from medalion.core.errors import EmptyResultWarning as EmptyResultWarning
    from medalion.core.errors import InputError as InputError
    from medalion.core.errors import MedalionError as MedalionError
    from medalion.core.errors import MixedSourcesWarning as MixedSourcesWarning
    from medalion.core.errors import NotFoundError as NotFoundError
    from medalion.core.errors import StoreError as StoreError
    from medalion.core.errors import StoreUnavailableError as StoreUnavailableError
    from medalion.core.errors import VenueError as VenueError
    from medalion.core.time import Timeframe as Timeframe
    from medalion.ingest.history import ImportResult as ImportResult
    from medalion.ingest.replacement import ReplaceResult as ReplaceResult
    from medalion.market.instrument import Instrument as Instrument
    from medalion.market.quotes import Market as Market
    from medalion.market.quotes import Quote as Quote
    from medalion.observations.plan import ReadPlan as ReadPlan
    from medalion.store.store import AsyncStore as AsyncStore
    from medalion.store.store import Store as Store
    from medalion.store.store import open as open
    from medalion.store.store import open_async as open_async
    from medalion.trading.requests import CreateTradeRequest as CreateTradeRequest
    from medalion.trading.requests import OpenPositionRequest as OpenPositionRequest
    from medalion.trading.views import PortfolioSummaryDto as PortfolioSummaryDto
    from medalion.trading.views import PositionDto as PositionDto
    from medalion.trading.views import TradeDto as TradeDto
    from medalion.venues.alpaca.venue import AlpacaVenue as AlpacaVenue
    from medalion.venues.base import FillReport as FillReport
    from medalion.venues.base import Order as Order
    from medalion.venues.base import OrderReport as OrderReport
    from medalion.venues.base import Venue as Venue
    from medalion.venues.paper.venue import CommissionSchedule as CommissionSchedule
    from medalion.venues.paper.venue import PaperVenue as PaperVenue
    from oltp.hot.writes import WriteResult as WriteResult
    from oltp.repositories.unit_of_work import acting_as as acting_as

__version__ = "0.1.0"

_NAMES = {
    "medalion": ("plot", "stats"),
    "medalion.core.datasets": ("Dataset",),
    "medalion.core.enums": (
        "AccountType",
        "AssetType",
        "CashMovementType",
        "CorporateActionType",
        "ErrorSeverity",
        "InstrumentKind",
        "LogLevel",
        "OptionStyle",
        "OptionType",
        "PositionSide",
        "PositionStatus",
        "SettlementType",
        "SignalType",
        "TradeSide",
        "TradeStatus",
        "TradeType",
    ),
    "medalion.core.errors": (
        "ConflictError",
        "CorruptLakeError",
        "EmptyResultWarning",
        "InputError",
        "MedalionError",
        "MixedSourcesWarning",
        "NotFoundError",
        "StoreError",
        "StoreUnavailableError",
        "VenueError",
    ),
    "medalion.core.time": ("Timeframe",),
    "medalion.ingest.history": ("ImportResult",),
    "medalion.ingest.replacement": ("ReplaceResult",),
    "medalion.market.instrument": ("Instrument",),
    "medalion.market.quotes": ("Market", "Quote"),
    "medalion.observations.plan": ("ReadPlan",),
    "medalion.store.store": ("AsyncStore", "Store", "open", "open_async"),
    "medalion.trading.requests": ("CreateTradeRequest", "OpenPositionRequest"),
    "medalion.trading.views": ("PortfolioSummaryDto", "PositionDto", "TradeDto"),
    "medalion.venues.alpaca.venue": ("AlpacaVenue",),
    "medalion.venues.base": ("FillReport", "Order", "OrderReport", "Venue"),
    "medalion.venues.paper.venue": ("CommissionSchedule", "PaperVenue"),
    "oltp.hot.writes": ("WriteResult",),
    "oltp.repositories.unit_of_work": ("acting_as",),
}
"""The same for the interpreter, which has no imports that wait; a test holds the two equal."""

_HOMES = {name: home for home, names in _NAMES.items() for name in names}
_WITH_EXTRAS = {"AlpacaVenue", "plot"}

# Without what may not be installed, for else `from medalion import *` would fail.
__all__ = sorted(_HOMES.keys() - _WITH_EXTRAS)

# A type checker that saw it would take every name for one that there is.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Public names are bound on first use, so that importing the package loads no engine."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, *(name for name in globals() if name.startswith("__"))})
