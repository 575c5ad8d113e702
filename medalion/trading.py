"""TradingService: from a decision to an order, its fills, the position they add up to and the cash that moves.

An order is stored as a pending trade and committed before its venue is asked, under an id that stays the same on every
retry; what the venue reports is booked in a unit of work of its own. A crash between the two leaves a pending trade,
which `reconcile` asks the venue about.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa

from medalion import accounting, summaries
from medalion.dtos import (
    AccountLike,
    CreateTradeRequest,
    OpenPositionRequest,
    PortfolioPerformanceDto,
    PortfolioSummaryDto,
    PositionDto,
    SignalLike,
    StrategyLike,
    Tradable,
    TradeDto,
)
from medalion.errors import ConflictError, InputError, NotFoundError, VenueError
from medalion.intents import (
    Intent,
    MarketView,
    account_of,
    amount,
    chosen,
    client_order_id,
    existing,
    instrument_behind,
    instrument_of,
    intend,
    order_of,
    strategy_of,
    viewed,
    watched,
)
from medalion.market import Instrument, Market
from medalion.orders import WORKING, is_working
from medalion.types import (
    AccountType,
    AssetType,
    CashMovementType,
    Instant,
    PositionSide,
    TimeRange,
    TradeSide,
    TradeStatus,
    TradeType,
    utc,
)
from medalion.venues.base import FillReport, OrderReport, Venue
from olap.trade_stats import TradeStatistics
from oltp.base import now
from oltp.repository import id_of
from oltp.trading import Account, CashMovement, Fill, Position, Trade
from oltp.unit_of_work import UnitOfWork, acting, acting_as

_ATTEMPTS = 4
T = TypeVar("T")
Which = UUID | str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What `reconcile` found: trades it asked about, fills that were missing, orders that had never arrived and were
    submitted, and the client order ids of what only one side knows."""

    asked: int
    fills: int
    submitted: tuple[str, ...]
    unknown: tuple[str, ...]
