"""The store for callers that block, and every part of it that is awaited."""

# Generated from the bodies by tools/faces.py: do not edit, run `make faces`.
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import EllipsisType
from typing import Any, Generic, Unpack
from uuid import UUID

import duckdb
import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.enums import AssetType, ErrorSeverity, InstrumentKind, LogLevel, PositionStatus, TradeStatus
from medalion.core.frames import Frame
from medalion.core.time import Instant
from medalion.ingest.history import ImportResult
from medalion.ingest.records import Record, Records
from medalion.ingest.replacement import ReplaceResult
from medalion.ingest.sources import ImportData, ImportProgress
from medalion.journal.anchors import AnchorRun
from medalion.journal.handler import DatabaseLogHandler
from medalion.journal.retention import Age
from medalion.market.names import AccountLike, Tradable
from medalion.market.quotes import Market
from medalion.observations.arguments import ReadRange, SourceNames, Symbols
from medalion.observations.plan import ReadPlan
from medalion.services.audit import Audit, AuditProblem
from medalion.services.jobs import Jobs
from medalion.services.journal import Journal
from medalion.services.market_data import MarketDataService
from medalion.services.mirror import Mirror
from medalion.services.rollups import Rollups
from medalion.services.sources import Sources
from medalion.services.statistics import PortfolioStatistics, Statistics
from medalion.services.trading import TradingService
from medalion.stats.performance import PerformanceStatistics
from medalion.stats.trades import TradeStatistics
from medalion.store.awaited import (
    AwaitedAccountRepository,
    AwaitedApplicationLogRepository,
    AwaitedAssetRepository,
    AwaitedAuditLogRepository,
    AwaitedCashMovementRepository,
    AwaitedCorporateActionRepository,
    AwaitedCoverageGapRepository,
    AwaitedErrorLogRepository,
    AwaitedFillRepository,
    AwaitedJobRunRepository,
    AwaitedOptionContractRepository,
    AwaitedPerformanceMetricRepository,
    AwaitedPolymarketEventRepository,
    AwaitedPolymarketMarketRepository,
    AwaitedPolymarketOutcomeRepository,
    AwaitedPositionRepository,
    AwaitedRepository,
    AwaitedSettlementRepository,
    AwaitedStrategyRepository,
    AwaitedStreamSessionRepository,
    AwaitedTradeRepository,
    AwaitedTradingSignalRepository,
)
from medalion.store.backups import Backup
from medalion.store.faces import BlockingFace
from medalion.store.fields import (
    AccountFields,
    ApplicationLogFields,
    AssetFields,
    AuditLogFields,
    CashMovementFields,
    CorporateActionFields,
    CoverageGapFields,
    ErrorLogFields,
    FillFields,
    JobRunFields,
    OptionContractFields,
    PerformanceMetricFields,
    PolymarketEventFields,
    PolymarketMarketFields,
    PolymarketOutcomeFields,
    PositionFields,
    SettlementFields,
    StrategyFields,
    StreamSessionFields,
    TradeFields,
    TradingSignalFields,
)
from medalion.store.services import Services
from medalion.trading.portfolio import Which
from medalion.trading.reconciliation import Reconciliation
from medalion.trading.requests import ClosingFields, CreateTradeRequest, OpeningFields, OrderFields
from medalion.trading.views import PortfolioPerformanceDto, PortfolioSummaryDto, PositionDto, TradeDto
from medalion.venues.base import FillReport, Venue
from medalion.venues.paper.venue import CommissionSchedule
from oltp.entities.base import Entity
from oltp.entities.journal import ApplicationLog, AuditLog, ErrorLog, PerformanceMetric
from oltp.entities.operations import CoverageGap, JobRun, StreamSession
from oltp.entities.reference import (
    Asset,
    CorporateAction,
    OptionContract,
    PolymarketEvent,
    PolymarketMarket,
    PolymarketOutcome,
)
from oltp.entities.trading import Account, CashMovement, Fill, Position, Settlement, Strategy, Trade, TradingSignal
from oltp.hot.writes import WriteResult
from oltp.repositories.base import Criterion, Order, Page, T
from oltp.repositories.base import Which as BaseWhich


class BlockingMarketDataService(BlockingFace[MarketDataService]):
    """Stores observations and finds them again; each call is durable when it returns.

    What `store_…` takes is one row or many, each a mapping or a dataclass, or the values of one row by name: `symbol`
    (ticker, contract symbol or token id), `ts` (aware; for bars the opening edge) and the dataset's columns. Numbers
    are Decimals, ints, floats or text, and never rounded. Many rows are one write: all or nothing, and far faster.

    Raises, from every `store_…` of observations:
        NotFoundError: a symbol, or the market that a row names, is not known.
        InputError: a column is missing or unknown, or a value does not fit.
    """

    _called = "market_data"

    def store(
        self, dataset: str | Dataset, rows: Records, *, source: str = "manual", idempotency_key: str | None = None
    ) -> WriteResult:
        """One write of all rows into any dataset; rows of prediction markets get their market and outcome."""
        return self._wait(self._body.store, dataset, rows, source=source, idempotency_key=idempotency_key)

    def store_stock_quote(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store quotes of stocks."""
        return self._wait(self._body.store_stock_quote, rows, source=source, **values)

    def store_stock_bar(self, rows: Records | None = None, /, *, source: str = "manual", **values: Any) -> WriteResult:
        """Store bars of stocks."""
        return self._wait(self._body.store_stock_bar, rows, source=source, **values)

    def store_stock_bars(self, rows: Records, /, *, source: str = "manual") -> WriteResult:
        """Store bars of stocks as one write."""
        return self._wait(self._body.store_stock_bars, rows, source=source)

    def store_crypto_quote(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store quotes of coins."""
        return self._wait(self._body.store_crypto_quote, rows, source=source, **values)

    def store_crypto_bar(self, rows: Records | None = None, /, *, source: str = "manual", **values: Any) -> WriteResult:
        """Store bars of coins."""
        return self._wait(self._body.store_crypto_bar, rows, source=source, **values)

    def store_crypto_bars(self, rows: Records, /, *, source: str = "manual") -> WriteResult:
        """Store bars of coins as one write."""
        return self._wait(self._body.store_crypto_bars, rows, source=source)

    def store_option_quote(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store quotes of option contracts, with implied volatility and Greeks where a feed has them."""
        return self._wait(self._body.store_option_quote, rows, source=source, **values)

    def store_polymarket_snapshot(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store snapshots of outcomes, named by their token."""
        return self._wait(self._body.store_polymarket_snapshot, rows, source=source, **values)

    def store_polymarket_trade(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store public prints, which are no trades of ours."""
        return self._wait(self._body.store_polymarket_trade, rows, source=source, **values)

    def store_polymarket_order_book(
        self, rows: Records | None = None, /, *, source: str = "manual", **values: Any
    ) -> WriteResult:
        """Store books: `bids` and `asks` are lists of (price, size), best first; total sizes not given are added up."""
        return self._wait(self._body.store_polymarket_order_book, rows, source=source, **values)

    def get_latest_stock_quote(self, symbol: str) -> dict[str, Any] | None:
        """The newest quote of a stock, or None."""
        return self._wait(self._body.get_latest_stock_quote, symbol)

    def get_latest_crypto_quote(self, symbol: str) -> dict[str, Any] | None:
        """The newest quote of a coin, or None."""
        return self._wait(self._body.get_latest_crypto_quote, symbol)

    def get_latest_option_quote(self, symbol: str) -> dict[str, Any] | None:
        """The newest quote of a contract, with its Greeks, or None."""
        return self._wait(self._body.get_latest_option_quote, symbol)

    def get_latest_polymarket_snapshot(self, token: str) -> dict[str, Any] | None:
        """The newest snapshot of an outcome, named by its token, or None."""
        return self._wait(self._body.get_latest_polymarket_snapshot, token)

    def get_stock_bars(
        self,
        symbol: str,
        timeframe: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        floats: bool = False,
    ) -> pl.DataFrame:
        """The stored bars of a stock that open in `[start, end)`, oldest first."""
        return self._wait(self._body.get_stock_bars, symbol, timeframe, start, end, floats=floats)

    def get_crypto_bars(
        self,
        symbol: str,
        timeframe: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        floats: bool = False,
    ) -> pl.DataFrame:
        """The stored bars of a coin that open in `[start, end)`, oldest first."""
        return self._wait(self._body.get_crypto_bars, symbol, timeframe, start, end, floats=floats)

    def get_polymarket_snapshots(
        self, token: str, start: Instant | None = None, end: Instant | None = None, *, floats: bool = False
    ) -> pl.DataFrame:
        """The snapshots of an outcome in `[start, end)`, oldest first."""
        return self._wait(self._body.get_polymarket_snapshots, token, start, end, floats=floats)

    def get_latest_stock_bars(
        self, symbol: str, timeframe: str, count: int = 1, *, floats: bool = False
    ) -> pl.DataFrame:
        """The last `count` stored bars of a stock, oldest first."""
        return self._wait(self._body.get_latest_stock_bars, symbol, timeframe, count, floats=floats)

    def get_latest_crypto_bars(
        self, symbol: str, timeframe: str, count: int = 1, *, floats: bool = False
    ) -> pl.DataFrame:
        """The last `count` stored bars of a coin, oldest first."""
        return self._wait(self._body.get_latest_crypto_bars, symbol, timeframe, count, floats=floats)

    def get_latest_polymarket_snapshots(self, token: str, count: int = 1, *, floats: bool = False) -> pl.DataFrame:
        """The last `count` snapshots of an outcome, oldest first."""
        return self._wait(self._body.get_latest_polymarket_snapshots, token, count, floats=floats)

    def create_or_update_asset(
        self, symbol: str, *, asset_type: AssetType | str = AssetType.STOCK, **fields: Any
    ) -> Asset:
        """The asset of that symbol and type, with these fields; named by its symbol if it is new and has no name."""
        return self._wait(self._body.create_or_update_asset, symbol, asset_type=asset_type, **fields)

    def get_asset_by_symbol(self, symbol: str, asset_type: AssetType | None = None) -> Asset:
        """The asset; raises NotFoundError without one, InputError where several types share the symbol."""
        return self._wait(self._body.get_asset_by_symbol, symbol, asset_type)

    def get_active_assets(self) -> list[Asset]:
        """The assets that are followed, by symbol."""
        return self._wait(self._body.get_active_assets)

    def store_option_contract(self, contract: Record | None = None, /, **values: Any) -> OptionContract:
        """The contract of that `symbol`, new or with these fields; a new one names its `underlying_symbol`.

        Raises:
            NotFoundError: the underlying is not known.
            InputError: a field is missing, unknown or does not fit.
        """
        return self._wait(self._body.store_option_contract, contract, **values)

    def store_polymarket_event(self, event: Record | None = None, /, **values: Any) -> PolymarketEvent:
        """The event of that `event_id`, new or with these fields, with `markets` and their `outcomes` loaded.

        `markets` may be a list of rows with `condition_id`, each with `outcomes`, a list of rows with `token_id` in the
        venue's order. Markets and outcomes that are not listed stay as they are.

        Raises:
            InputError: a field is missing, unknown or does not fit.
        """
        return self._wait(self._body.store_polymarket_event, event, **values)

    def newest(self, dataset: str | Dataset, symbol: str) -> dict[str, Any] | None:
        """The newest row of a symbol in any dataset without timeframes, or None; raises NotFoundError if unknown."""
        return self._wait(self._body.newest, dataset, symbol)

    def between(
        self,
        dataset: str | Dataset,
        symbol: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        timeframe: str | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """The stored rows of a symbol in `[start, end)`, oldest first; with `floats` no decimals."""
        return self._wait(self._body.between, dataset, symbol, start, end, timeframe=timeframe, floats=floats)

    def last(
        self, dataset: str | Dataset, symbol: str, count: int = 1, *, timeframe: str | None = None, floats: bool = False
    ) -> pl.DataFrame:
        """The last `count` stored rows of a symbol, oldest first; raises InputError for less than one."""
        return self._wait(self._body.last, dataset, symbol, count, timeframe=timeframe, floats=floats)


class BlockingJournal(BlockingFace[Journal]):
    """Writes to the logs and finds in them again; each call commits on its own, so that a log outlives a rollback.

    Correlation ids and actors are by default those of `acting_as`. Texts may hold anything: what PostgreSQL cannot
    store (NUL, half a surrogate pair) is replaced by `�`.
    """

    _called = "journal"

    def handler(self, level: int | str = logging.INFO, *, source: str | None = None) -> DatabaseLogHandler:
        """A new handler for `logging` that writes to `application_logs`; closed with the store.

        Add it once, to the logger whose records are to be kept: `logging.getLogger().addHandler(...)`.
        """
        return self._body.handler(level, source=source)

    def prune(self, older_than: Age) -> dict[str, int]:
        """Remove old rows for good, in chunks; by table, how many.

        `older_than` is one age for `application_logs`, `error_logs` and `performance_metrics`, or one for each of those
        to be pruned. Errors that nobody has resolved stay, unless they were handled and ask for nobody.

        Raises:
            InputError: an age that is not positive, or an unknown table.
        """
        return self._wait(self._body.prune, older_than)

    def log(
        self,
        level: LogLevel | str,
        category: str,
        message: str,
        *,
        exception: BaseException | None = None,
        source: str | None = None,
        entity: Entity | None = None,
        correlation_id: str | None = None,
        at: Instant | None = None,
        additional_data: Mapping[str, Any] | None = None,
    ) -> ApplicationLog:
        """The line as stored; `entity` is what it is about."""
        return self._wait(
            self._body.log,
            level,
            category,
            message,
            exception=exception,
            source=source,
            entity=entity,
            correlation_id=correlation_id,
            at=at,
            additional_data=additional_data,
        )

    def error(
        self,
        what: BaseException | str,
        *,
        severity: ErrorSeverity | str = ErrorSeverity.MEDIUM,
        category: str = "",
        message: str | None = None,
        handled: bool = True,
        requires_intervention: bool = False,
        error_code: str | None = None,
        source: str = "",
        entity: Entity | None = None,
        correlation_id: str | None = None,
        at: Instant | None = None,
        additional_data: Mapping[str, Any] | None = None,
    ) -> ErrorLog:
        """The error as stored: an exception with its type, traceback and cause, or a message.

        `handled`: the program went on as planned. `requires_intervention`: somebody has to do something.
        """
        return self._wait(
            self._body.error,
            what,
            severity=severity,
            category=category,
            message=message,
            handled=handled,
            requires_intervention=requires_intervention,
            error_code=error_code,
            source=source,
            entity=entity,
            correlation_id=correlation_id,
            at=at,
            additional_data=additional_data,
        )

    def resolve(self, error: ErrorLog | UUID | str, notes: str = "") -> ErrorLog:
        """The error, resolved now; `notes` say how.

        Raises:
            NotFoundError: there is no such error.
        """
        return self._wait(self._body.resolve, error, notes)

    def metric(
        self,
        name: str,
        value: Decimal | float,
        unit: str,
        *,
        category: str = "",
        source: str = "",
        tags: Mapping[str, Any] | None = None,
        at: Instant | None = None,
    ) -> PerformanceMetric:
        """The measurement as stored; a float, measured anyway, is rounded half-even to 8 places, a Decimal is not."""
        return self._wait(self._body.metric, name, value, unit, category=category, source=source, tags=tags, at=at)

    def recent_logs(
        self, count: int = 50, *, level: LogLevel | str | None = None, category: str | None = None
    ) -> list[ApplicationLog]:
        """The last `count` lines, newest first; of one level or category if given."""
        return self._wait(self._body.recent_logs, count, level=level, category=category)

    def recent_errors(self, count: int = 50) -> list[ErrorLog]:
        """The last `count` errors, newest first."""
        return self._wait(self._body.recent_errors, count)

    def unresolved_errors(self, count: int | None = None) -> list[ErrorLog]:
        """Errors that nobody has resolved, and that were not handled or require intervention; newest first."""
        return self._wait(self._body.unresolved_errors, count)

    def unacknowledged_error_count(self) -> int:
        """How many errors `unresolved_errors` would list."""
        return self._wait(self._body.unacknowledged_error_count)

    def metrics(self, name: str, start: Instant | None = None, end: Instant | None = None) -> list[PerformanceMetric]:
        """The measurements of that name in `[start, end)`, oldest first."""
        return self._wait(self._body.metrics, name, start, end)


class BlockingAudit(BlockingFace[Audit]):
    """Reads the entries that the database writes with every change of an entity, in the same transaction."""

    _called = "audit"

    def history(self, which: Entity | UUID | str, entity_type: str | None = None) -> list[AuditLog]:
        """Every change of the entity, by itself or its id, oldest first; also after its deletion."""
        return self._wait(self._body.history, which, entity_type)

    def state_at(
        self, which: Entity | UUID | str, moment: Instant, entity_type: str | None = None
    ) -> dict[str, Any] | None:
        """The entity's columns after its last change at or before `moment`; None if it did not exist.

        Values are those of JSON: numbers as written, times as text in UTC. A deleted entity says `is_deleted`. A change
        counts from when it was made, within its transaction.
        """
        return self._wait(self._body.state_at, which, moment, entity_type)

    def verify(self, which: Entity | UUID | str | None = None) -> list[AuditProblem]:
        """What is wrong with the record of one entity, or of all: empty if nothing is.

        Found are entries that were changed, removed or slipped in, rows that were changed behind the triggers' back,
        and rows that vanished; from the anchors in the lake also newest entries that were removed, whole records that
        were removed or slipped in, and entries that were written anew with hashes that fit. What happened since the
        last `anchor` is known from the entries alone.
        """
        return self._wait(self._body.verify, which)

    def anchor(self) -> AnchorRun:
        """Keep the newest entry of every entity in the lake, where it has changed since it was last kept.

        A store that mirrors itself does so a minute after it was opened, and then once an hour.

        Raises:
            CorruptLakeError: the lake is that of another store, or anchors were changed or removed.
            StoreError: the lake cannot be written to.
        """
        return self._wait(self._body.anchor)


class BlockingTradingService(BlockingFace[TradingService]):
    """Orders, positions and portfolios of all accounts.

    `venue` takes the orders of every account, or is a mapping that has one for each type of account. Every method is a
    unit of work of its own; where `account=` may be left out, every account is meant.
    """

    _called = "trading"

    def execute_market_order(self, **order: Unpack[OrderFields]) -> TradeDto:
        """The trade as its venue left it: filled, rejected with the reason, or still working.

        For what may be left out see `CreateTradeRequest`. The same client order id again is the same order, once.

        >>> from decimal import Decimal
        >>> order = {"account": "paper", "symbol": "BTC/USD", "side": "buy", "quantity": Decimal("0.5")}
        >>> store.trading.execute_market_order(**order, client_order_id="first").filled_quantity
        Decimal('0.50000000')

        Raises:
            InputError: a number, time or name that cannot be understood; nothing is written.
            NotFoundError: account, strategy, signal or instrument is not known.
            ConflictError: one of them may not trade, or the client order id is that of another order.
            VenueError: whether the order arrived is not known; the trade is pending until `reconcile` finds out.
        """
        return self._wait(self._body.execute_market_order, **order)

    def execute_limit_order(self, *, limit_price: Decimal | int, **order: Unpack[OrderFields]) -> TradeDto:
        """The trade: filled at the limit or better, or submitted and resting; raises as `execute_market_order`.

        >>> trade = store.trading.execute_limit_order(
        ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, limit_price=60_000
        ... )
        >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
        ('submitted', 'cancelled')
        """
        return self._wait(self._body.execute_limit_order, limit_price=limit_price, **order)

    def execute_stop_order(self, *, stop_price: Decimal | int, **order: Unpack[OrderFields]) -> TradeDto:
        """The trade, which fills as a market order once the market reaches `stop_price`, at once if it has already.

        A buy triggers when the ask is at the stop or above, a sell when the bid is at it or below. The fill may be at a
        worse price than the stop. Raises as `execute_market_order`.

        >>> trade = store.trading.execute_stop_order(
        ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, stop_price=70_000
        ... )
        >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
        ('submitted', 'cancelled')
        """
        return self._wait(self._body.execute_stop_order, stop_price=stop_price, **order)

    def execute_stop_limit_order(
        self, *, stop_price: Decimal | int, limit_price: Decimal | int, **order: Unpack[OrderFields]
    ) -> TradeDto:
        """The trade, which rests as a limit order once the market reaches `stop_price`: see `execute_stop_order`.

        The limit of a buy is at the stop or above, that of a sell at it or below. Raises as `execute_market_order`.

        >>> trade = store.trading.execute_stop_limit_order(
        ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, stop_price=70_000, limit_price=71_000
        ... )
        >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
        ('submitted', 'cancelled')
        """
        return self._wait(self._body.execute_stop_limit_order, stop_price=stop_price, limit_price=limit_price, **order)

    def execute_trailing_stop_order(
        self,
        *,
        trail_price: Decimal | int | None = None,
        trail_percent: Decimal | int | None = None,
        **order: Unpack[OrderFields],
    ) -> TradeDto:
        """The trade, whose stop follows the best price its venue has seen, and then fills as `execute_stop_order`.

        The stop of a sell stands `trail_price`, in quote currency per unit, or `trail_percent` below the highest bid,
        that of a buy as much above the lowest ask. Give one of the two. Raises as `execute_market_order`.

        >>> trade = store.trading.execute_trailing_stop_order(
        ...     account="paper", symbol="BTC/USD", side="buy", quantity=1, trail_percent=5
        ... )
        >>> str(trade.status), str(store.trading.cancel_trade(trade.id).status)
        ('submitted', 'cancelled')
        """
        return self._wait(
            self._body.execute_trailing_stop_order, trail_price=trail_price, trail_percent=trail_percent, **order
        )

    def create_trade(self, request: CreateTradeRequest) -> TradeDto:
        """The trade that the request asks for; raises as `execute_market_order`.

        >>> from medalion import CreateTradeRequest
        >>> request = CreateTradeRequest(account="paper", symbol="BTC/USD", side="buy", quantity=1)
        >>> str(store.trading.create_trade(request).status)
        'filled'
        """
        return self._wait(self._body.create_trade, request)

    def cancel_trade(self, trade: Which, *, at: datetime | None = None) -> TradeDto:
        """The trade, cancelled; filled, if the venue filled it first.

        >>> order = {"account": "paper", "symbol": "BTC/USD", "side": "buy", "quantity": 1, "limit_price": 50_000}
        >>> str(store.trading.cancel_trade(store.trading.execute_limit_order(**order).id).status)
        'cancelled'

        Raises:
            ConflictError: it is over already.
        """
        return self._wait(self._body.cancel_trade, trade, at=at)

    def advance(self, *, at: datetime | None = None) -> list[TradeDto]:
        """The trades that changed because time went on to `at`: resting orders that the market now reaches."""
        return self._wait(self._body.advance, at=at)

    def reconcile(self, *, account: AccountLike | None = None, since: datetime | None = None) -> Reconciliation:
        """What was found by asking the venues about every order that is not over, and booking what was missing.

        An order that its venue never saw is submitted, under the same id. With `since`, the executions from then on are
        asked for as well, so that one that came after the end of its order is found.

        >>> found = store.trading.reconcile(account="paper")  # on every start of a bot
        >>> found.unknown
        ()
        """
        return self._wait(self._body.reconcile, account=account, since=since)

    def record_fill(self, fill: FillReport, *, overfill: bool = False) -> PositionDto:
        """The position that the execution led to; reported again, nothing changes.

        It may arrive late: positions are what all executions add up to by their time. More than was ordered is refused
        unless `overfill` says that the venue confirms it.

        Raises:
            NotFoundError: no trade has the fill's client order id.
            InputError: a negative commission, or a number that the books cannot hold.
            ConflictError: it contradicts the order, or what was booked under the same execution id.
        """
        return self._wait(self._body.record_fill, fill, overfill=overfill)

    def bust_fill(self, execution_id: str, *, venue: str, at: datetime | None = None) -> TradeDto:
        """The trade once the venue undid one of its executions, as if it had never been; undone before, no change.

        What was paid comes back at `at`, by default now, and positions are made anew without the execution. A filled
        order ends as cancelled: what is undone of it is not worked again.

        Raises:
            NotFoundError: no such execution is booked.
        """
        return self._wait(self._body.bust_fill, execution_id, venue=venue, at=at)

    def correct_fill(self, execution_id: str, fill: FillReport, *, at: datetime | None = None) -> TradeDto:
        """The trade once the venue replaced an execution by `fill`, which has an id of its own; done again, no change.

        Raises:
            NotFoundError: no such execution is booked.
            InputError, ConflictError: as `record_fill`; or the fill is of another order or itself undone, or another
                has replaced the execution before. Nothing is undone then.
        """
        return self._wait(self._body.correct_fill, execution_id, fill, at=at)

    def open_position(self, **position: Unpack[OpeningFields]) -> PositionDto:
        """The position after a market order for it, added to if there is one; raises as `execute_market_order`, and:

        >>> position = store.trading.open_position(account="paper", symbol="BTC/USD", quantity=1)
        >>> store.trading.partially_close_position(position.id, 1).quantity >= 1
        True

        Raises:
            VenueError: the venue rejected the order.
            ConflictError: a position on the other side is open; or the venue has the order but filled nothing yet.
        """
        return self._wait(self._body.open_position, **position)

    def close_position(self, position: Which, **closing: Unpack[ClosingFields]) -> PositionDto:
        """The position after a market order for all that is left of it; it is closed once that has filled.

        >>> position = store.trading.open_position(account="paper", symbol="BTC/USD", quantity=1)
        >>> str(store.trading.close_position(position.id).status)
        'closed'

        Raises:
            ConflictError: it is closed, or an order that closes it is on its way.
            VenueError: the venue rejected the order, or whether it arrived is not known.
        """
        return self._wait(self._body.close_position, position, **closing)

    def partially_close_position(
        self, position: Which, quantity: Decimal | int, **closing: Unpack[ClosingFields]
    ) -> PositionDto:
        """The position after a market order for `quantity` of what is left of it; raises as `close_position`."""
        return self._wait(self._body.partially_close_position, position, quantity, **closing)

    def settle_corporate_action(self, action: Which, *, account: AccountLike) -> list[PositionDto]:
        """The account's positions that a split or dividend changed; settled before, none.

        See `medalion.trading.corporate_actions.settle_corporate_action`, also for what it raises.
        """
        return self._wait(self._body.settle_corporate_action, action, account=account)

    def exercise_option(
        self,
        position: Which,
        quantity: Decimal | int | None = None,
        *,
        reference: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The long option position after `quantity` contracts of it, by default all, were exercised.

        The underlying is bought (call) or sold (put) at the strike, on the line of the same account and strategy. With
        a `reference`, the same again is the same exercise, once.

        Raises:
            ConflictError: it is short, or has not so many contracts left.
            InputError: it is no position in an option.
        """
        return self._wait(self._body.exercise_option, position, quantity, reference=reference, at=at)

    def assign_option(
        self,
        position: Which,
        quantity: Decimal | int | None = None,
        *,
        reference: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The short option position after `quantity` contracts of it, by default all, were assigned.

        The underlying is sold (call) or bought (put) at the strike. Else as `exercise_option`, also for what it raises.
        """
        return self._wait(self._body.assign_option, position, quantity, reference=reference, at=at)

    def settle_expired_options(
        self,
        *,
        account: AccountLike | None = None,
        prices: Mapping[str, Decimal] | None = None,
        at: datetime | None = None,
    ) -> list[PositionDto]:
        """The option positions that ended because their contracts had expired by then; working orders are cancelled.

        Options in the money by 0.01 or more are exercised if long and assigned if short, others end worthless. The
        price of an underlying at expiry is that in `prices`, by symbol, else a quote of the expiration day.

        Raises:
            InputError: no price of an underlying on the day of expiry is known; give it in `prices`.
        """
        return self._wait(self._body.settle_expired_options, account=account, prices=prices, at=at)

    def resolve_market(
        self,
        market: PolymarketMarket | Which,
        *,
        winner: PolymarketOutcome | str | None = None,
        payouts: Mapping[str, Decimal] | None = None,
        at: datetime | None = None,
    ) -> list[PositionDto]:
        """The positions of all accounts that ended because the market was resolved: the winning token pays 1, others 0.

        `winner` is the outcome, its token id or its name. A market that pays otherwise gives `payouts` by token id or
        name instead, which add up to 1. Outcomes, market and positions are settled together, after working orders are
        cancelled; resolved again, what has been booked since is settled too.

        Raises:
            NotFoundError: there is no such market or outcome.
            ConflictError: it was resolved otherwise before.
        """
        return self._wait(self._body.resolve_market, market, winner=winner, payouts=payouts, at=at)

    def get_trade(self, trade: Which) -> TradeDto:
        """The trade of that id; raises NotFoundError."""
        return self._wait(self._body.get_trade, trade)

    def get_trades_by_position(self, position: Which) -> list[TradeDto]:
        """The trades whose fills made the position what it is, in the order they were placed."""
        return self._wait(self._body.get_trades_by_position, position)

    def get_trades_by_date_range(
        self, start: Instant, end: Instant, *, account: AccountLike | None = None
    ) -> list[TradeDto]:
        """The trades executed in `[start, end)`, newest first."""
        return self._wait(self._body.get_trades_by_date_range, start, end, account=account)

    def get_position(self, position: Which) -> PositionDto:
        """The position of that id; raises NotFoundError."""
        return self._wait(self._body.get_position, position)

    def get_open_positions(self, *, account: AccountLike | None = None) -> list[PositionDto]:
        """The positions that still hold something, partially closed ones too, newest first."""
        return self._wait(self._body.get_open_positions, account=account)

    def get_positions_by_asset(
        self, symbol: Tradable, *, asset_type: AssetType | str | None = None, account: AccountLike | None = None
    ) -> list[PositionDto]:
        """The positions, open and closed, in one instrument, newest first."""
        return self._wait(self._body.get_positions_by_asset, symbol, asset_type=asset_type, account=account)

    def update_position_risk_parameters(
        self,
        position: Which,
        *,
        stop_loss: Decimal | int | EllipsisType | None = ...,
        take_profit: Decimal | int | EllipsisType | None = ...,
    ) -> PositionDto:
        """The open position with these prices; what is left out stays, None removes it.

        Raises:
            ConflictError: the position is closed.
        """
        return self._wait(
            self._body.update_position_risk_parameters, position, stop_loss=stop_loss, take_profit=take_profit
        )

    def update_position_market_data(
        self, position: Which, price: Decimal | int, *, at: datetime | None = None
    ) -> PositionDto:
        """The open position marked at `price`, unless a later mark is known.

        Raises:
            ConflictError: the position is closed.
        """
        return self._wait(self._body.update_position_market_data, position, price, at=at)

    def mark_to_market(self, *, account: AccountLike | None = None, at: datetime | None = None) -> list[PositionDto]:
        """The open positions, each marked at the middle of its quote; one without a quote keeps its mark."""
        return self._wait(self._body.mark_to_market, account=account, at=at)

    def deposit(
        self, account: AccountLike, quantity: Decimal | int, *, at: datetime | None = None, note: str | None = None
    ) -> Decimal:
        """The account's cash after `quantity` of its base currency came in."""
        return self._wait(self._body.deposit, account, quantity, at=at, note=note)

    def withdraw(
        self, account: AccountLike, quantity: Decimal | int, *, at: datetime | None = None, note: str | None = None
    ) -> Decimal:
        """The account's cash after `quantity` of its base currency went out."""
        return self._wait(self._body.withdraw, account, quantity, at=at, note=note)

    def get_portfolio_summary(self, account: AccountLike) -> PortfolioSummaryDto:
        """Cash, positions and P&L of the account at the last marks, all of one moment."""
        return self._wait(self._body.get_portfolio_summary, account)

    def get_portfolio_performance(
        self, account: AccountLike, start: Instant | None = None, end: Instant | None = None
    ) -> PortfolioPerformanceDto:
        """What the account did in `[start, end)`, by the positions closed in it."""
        return self._wait(self._body.get_portfolio_performance, account, start, end)

    def get_trade_statistics(
        self, account: AccountLike, start: Instant | None = None, end: Instant | None = None
    ) -> TradeStatistics:
        """Statistics of the account's positions closed in `[start, end)`."""
        return self._wait(self._body.get_trade_statistics, account, start, end)


class BlockingStatistics(BlockingFace[Statistics]):
    """Statistics of one account each; `account` is the account, its id or its name.

    Raises, from every method:
        NotFoundError: there is no such account.
        InputError: a naive time, `end` before `start`, an `as_of` that is not settled, or cash in several currencies.
    """

    _called = "stats"

    def equity(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Account value by session: `ts`, `value`, `cash`, `flow`, oldest first; exact decimals, or Float64.

        `ts` is midnight UTC of the session's day, as the `ts` of its daily bar, and `value` is cash and holdings at its
        end; the sessions are those of `[start, end)`. The first row stands before them: the session before, or the day
        before with the first deposits of an account that was empty until then. `flow` is what was deposited, less
        what was withdrawn, between the row before and this.

        Sessions are the days on which what was traded has a bar (for options, their underlyings), and every UTC day for
        an account that traded coins or prediction markets, or where there are no bars; `calendar` decides otherwise. A
        holding is marked with the last price known: a bar's close, an option quote's middle, a snapshot, or an own
        fill. Prices are taken as stored, and so have to be of the shares of their day, not adjusted for later splits.
        """
        return self._wait(self._body.equity, account, start, end, calendar=calendar, as_of=as_of, floats=floats)

    def performance(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        risk_free: float = 0.0,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
    ) -> PerformanceStatistics:
        """Statistics of the time-weighted growth of `equity`: deposits and withdrawals are no result.

        Annualised with 252 or 365 periods a year, by the calendar. All are None where the account was worth nothing at
        some time, for then there is no growth.
        """
        return self._wait(
            self._body.performance, account, start, end, risk_free=risk_free, calendar=calendar, as_of=as_of
        )

    def trades(self, account: AccountLike, start: Instant | None = None, end: Instant | None = None) -> TradeStatistics:
        """Of the positions that were closed in `[start, end)`."""
        return self._wait(self._body.trades, account, start, end)

    def summary(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        risk_free: float = 0.0,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
    ) -> PortfolioStatistics:
        """Value, flows, performance and closed trades of the account at once."""
        return self._wait(self._body.summary, account, start, end, risk_free=risk_free, calendar=calendar, as_of=as_of)

    def report(
        self, account: AccountLike, path: Path | str, start: Instant | None = None, end: Instant | None = None
    ) -> Path:
        """The path of the account's tearsheet over the sessions of `[start, end)`: one HTML page that needs no network.

        Raises, besides:
            MedalionError: the extra `report` is not installed.
            InputError: the folder does not exist.
        """
        return self._wait(self._body.report, account, path, start, end)


class BlockingJobs(BlockingFace[Jobs]):
    """Starts batch jobs, and lists and shows their runs."""

    _called = "jobs"

    def run_statistics(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        account: AccountLike | None = None,
        risk_free: float = 0.0,
        as_of: Instant | None = None,
    ) -> JobRun:
        """The finished run of the portfolio statistics over `[start, end)`: of one account, by default of every one.

        `results` has each account's figures, decimals as text. `inputs` says what was read: per dataset the lake's
        batch and the last write, and for each account a digest of its books. Prices are read as of one settled time, by
        default the newest. Runs with the same parameters and inputs have the same results; with `as_of` an earlier
        run's prices are read again.

        Raises:
            NotFoundError: there is no such account; this and every other failure is kept with the run too.
            InputError: a naive time, `end` before `start`, or an `as_of` that is not settled.
        """
        return self._wait(self._body.run_statistics, start, end, account=account, risk_free=risk_free, as_of=as_of)

    def get(self, run: UUID | str) -> JobRun:
        """The run of that id; raises NotFoundError if there is none."""
        return self._wait(self._body.get, run)

    def recent(self, count: int = 20, *, job: str | None = None) -> list[JobRun]:
        """The last `count` runs, newest first; of one job if given."""
        return self._wait(self._body.recent, count, job=job)


class BlockingRepository(BlockingFace[AwaitedRepository[T]], Generic[T]):
    """Entities of one kind, as the unit of work sees them; deleted ones are hidden.

    Filters are field names with the value wanted (None for null), or SQL expressions.
    """

    def get(self, which: UUID | str, *, lock: bool = False) -> T:
        """The entity of that id; with `lock` nobody else changes it before this unit of work ends.

        Raises:
            NotFoundError: there is none, or it is deleted.
        """
        return self._wait(self._body.get, which, lock=lock)

    def find(
        self,
        *criteria: Criterion,
        order: Sequence[Order] = (),
        limit: int | None = None,
        lock: bool = False,
        **equal: Any,
    ) -> list[T]:
        """Every entity that meets all filters, in the given order, else in the repository's own."""
        return self._wait(self._body.find, *criteria, order=order, limit=limit, lock=lock, **equal)

    def first(self, *criteria: Criterion, order: Sequence[Order] = (), lock: bool = False, **equal: Any) -> T | None:
        """The first that `find` would give; None if there is none."""
        return self._wait(self._body.first, *criteria, order=order, lock=lock, **equal)

    def any(self, *criteria: Criterion, **equal: Any) -> bool:
        """Whether any entity meets all filters."""
        return self._wait(self._body.any, *criteria, **equal)

    def count(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities meet all filters."""
        return self._wait(self._body.count, *criteria, **equal)

    def page(
        self, *criteria: Criterion, number: int = 1, size: int = 50, order: Sequence[Order] = (), **equal: Any
    ) -> Page[T]:
        """Page `number` of those that meet all filters, and how many there are."""
        return self._wait(self._body.page, *criteria, number=number, size=size, order=order, **equal)

    def page_after(
        self, after: UUID | str | None = None, *criteria: Criterion, size: int = 50, **equal: Any
    ) -> list[T]:
        """The next `size` by id, which is the order of creation; None begins. Fast however far in."""
        return self._wait(self._body.page_after, after, *criteria, size=size, **equal)

    def add(self, entity: T) -> T:
        """The entity, stored; raises as `create`."""
        return self._wait(self._body.add, entity)

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """The entities, stored; raises as `create`."""
        return self._wait(self._body.add_many, entities)

    def delete(self, which: T | UUID | str) -> None:
        """Hide the entity from now on; `restore` brings it back.

        Raises:
            ConflictError: it is append-only, or something that is not deleted still refers to it.
            NotFoundError: there is no such entity.
        """
        return self._wait(self._body.delete, which)

    def restore(self, which: T | UUID | str) -> T:
        """The entity, no longer deleted.

        Raises:
            ConflictError: its name was given to another meanwhile.
            NotFoundError: it never existed, or what it refers to is deleted.
        """
        return self._wait(self._body.restore, which)

    def update_where(self, changes: Mapping[str, Any], *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were changed in one statement.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all), an unknown field, or a value it cannot hold.
        """
        return self._wait(self._body.update_where, changes, *criteria, **equal)

    def delete_where(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were deleted in one statement, or none.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all).
            ConflictError: something that is not deleted still refers to one of them.
        """
        return self._wait(self._body.delete_where, *criteria, **equal)


class BlockingAssetRepository(BlockingRepository[Asset]):
    """Assets by symbol."""

    _called = "assets"
    _body: AwaitedAssetRepository

    def create(self, **fields: Unpack[AssetFields]) -> Asset:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Asset | UUID | str, **changes: Unpack[AssetFields]) -> Asset:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_symbol(self, symbol: str, asset_type: AssetType | None = None) -> Asset:
        """The asset of that symbol.

        Raises:
            NotFoundError: there is none; names the nearest.
            InputError: assets of several types share it and `asset_type` is not given.
        """
        return self._wait(self._body.by_symbol, symbol, asset_type)

    def by_type(self, asset_type: AssetType) -> list[Asset]:
        """The assets of a type, by symbol."""
        return self._wait(self._body.by_type, asset_type)

    def active(self) -> list[Asset]:
        """The assets that are followed, by symbol."""
        return self._wait(self._body.active)

    def tradable(self) -> list[Asset]:
        """Those that are active and can be traded."""
        return self._wait(self._body.tradable)


class BlockingOptionContractRepository(BlockingRepository[OptionContract]):
    """Option contracts by symbol."""

    _called = "option_contracts"
    _body: AwaitedOptionContractRepository

    def create(self, **fields: Unpack[OptionContractFields]) -> OptionContract:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: OptionContract | UUID | str, **changes: Unpack[OptionContractFields]) -> OptionContract:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_symbol(self, symbol: str) -> OptionContract:
        """The contract with this OCC symbol; raises NotFoundError without one."""
        return self._wait(self._body.by_symbol, symbol)

    def by_underlying(self, symbol: str, *, expiration: date | None = None) -> list[OptionContract]:
        """The contracts on a symbol, of one expiration or of all."""
        return self._wait(self._body.by_underlying, symbol, expiration=expiration)

    def expiring(self, start: date, end: date) -> list[OptionContract]:
        """Contracts whose expiration date is in `[start, end)`, the nearest first."""
        return self._wait(self._body.expiring, start, end)


class BlockingPolymarketEventRepository(BlockingRepository[PolymarketEvent]):
    """Prediction-market events by title."""

    _called = "polymarket_events"
    _body: AwaitedPolymarketEventRepository

    def create(self, **fields: Unpack[PolymarketEventFields]) -> PolymarketEvent:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: PolymarketEvent | UUID | str, **changes: Unpack[PolymarketEventFields]) -> PolymarketEvent:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_event_id(self, event_id: str) -> PolymarketEvent:
        """The event of the venue's id."""
        return self._wait(self._body.by_event_id, event_id)

    def monitored(self) -> list[PolymarketEvent]:
        """Those that are monitored and active."""
        return self._wait(self._body.monitored)

    def by_category(self, category: str) -> list[PolymarketEvent]:
        """The events of a category."""
        return self._wait(self._body.by_category, category)

    def with_markets(self, which: UUID | str) -> PolymarketEvent:
        """The event with `markets` and their `outcomes` loaded."""
        return self._wait(self._body.with_markets, which)


class BlockingPolymarketMarketRepository(BlockingRepository[PolymarketMarket]):
    """Prediction markets by question."""

    _called = "polymarket_markets"
    _body: AwaitedPolymarketMarketRepository

    def create(self, **fields: Unpack[PolymarketMarketFields]) -> PolymarketMarket:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(
        self, which: PolymarketMarket | UUID | str, **changes: Unpack[PolymarketMarketFields]
    ) -> PolymarketMarket:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_condition_id(self, condition_id: str) -> PolymarketMarket:
        """The market with this condition id; raises NotFoundError without one."""
        return self._wait(self._body.by_condition_id, condition_id)

    def by_event(self, event: BaseWhich) -> list[PolymarketMarket]:
        """The markets of an event."""
        return self._wait(self._body.by_event, event)

    def with_outcomes(self, which: UUID | str) -> PolymarketMarket:
        """The market with `outcomes` loaded."""
        return self._wait(self._body.with_outcomes, which)


class BlockingPolymarketOutcomeRepository(BlockingRepository[PolymarketOutcome]):
    """Outcomes by their place in the market."""

    _called = "polymarket_outcomes"
    _body: AwaitedPolymarketOutcomeRepository

    def create(self, **fields: Unpack[PolymarketOutcomeFields]) -> PolymarketOutcome:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(
        self, which: PolymarketOutcome | UUID | str, **changes: Unpack[PolymarketOutcomeFields]
    ) -> PolymarketOutcome:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_token(self, token_id: str) -> PolymarketOutcome:
        """The outcome of that token, with its `market` and the market's `event` loaded."""
        return self._wait(self._body.by_token, token_id)

    def by_market(self, market: BaseWhich) -> list[PolymarketOutcome]:
        """The outcomes of a market."""
        return self._wait(self._body.by_market, market)


class BlockingCorporateActionRepository(BlockingRepository[CorporateAction]):
    """Corporate actions, oldest first."""

    _called = "corporate_actions"
    _body: AwaitedCorporateActionRepository

    def create(self, **fields: Unpack[CorporateActionFields]) -> CorporateAction:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: CorporateAction | UUID | str, **changes: Unpack[CorporateActionFields]) -> CorporateAction:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def for_asset(self, asset: BaseWhich) -> list[CorporateAction]:
        """The corporate actions of an asset."""
        return self._wait(self._body.for_asset, asset)


class BlockingAccountRepository(BlockingRepository[Account]):
    """Accounts by name."""

    _called = "accounts"
    _body: AwaitedAccountRepository

    def create(self, **fields: Unpack[AccountFields]) -> Account:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Account | UUID | str, **changes: Unpack[AccountFields]) -> Account:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_name(self, name: str) -> Account:
        """The account with this name; raises NotFoundError without one."""
        return self._wait(self._body.by_name, name)


class BlockingStrategyRepository(BlockingRepository[Strategy]):
    """Strategies by name."""

    _called = "strategies"
    _body: AwaitedStrategyRepository

    def create(self, **fields: Unpack[StrategyFields]) -> Strategy:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Strategy | UUID | str, **changes: Unpack[StrategyFields]) -> Strategy:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def active(self) -> list[Strategy]:
        """The strategies that may trade."""
        return self._wait(self._body.active)

    def by_type(self, strategy_type: str) -> list[Strategy]:
        """The strategies of a type."""
        return self._wait(self._body.by_type, strategy_type)

    def by_name(self, name: str, version: str | None = None) -> Strategy:
        """The strategy of that name; its newest version, if none is given."""
        return self._wait(self._body.by_name, name, version)

    def with_signals(self, which: UUID | str) -> Strategy:
        """The strategy with `signals` loaded, newest first."""
        return self._wait(self._body.with_signals, which)


class BlockingTradingSignalRepository(BlockingRepository[TradingSignal]):
    """Signals, newest first."""

    _called = "signals"
    _body: AwaitedTradingSignalRepository

    def create(self, **fields: Unpack[TradingSignalFields]) -> TradingSignal:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: TradingSignal | UUID | str, **changes: Unpack[TradingSignalFields]) -> TradingSignal:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def active(self, at: Instant | None = None) -> list[TradingSignal]:
        """Those not acted upon and not expired at that time, by default now."""
        return self._wait(self._body.active, at)

    def unacted(self) -> list[TradingSignal]:
        """Those not acted upon, expired ones too."""
        return self._wait(self._body.unacted)

    def by_strategy(self, strategy: BaseWhich) -> list[TradingSignal]:
        """Those of a strategy."""
        return self._wait(self._body.by_strategy, strategy)

    def by_asset(self, asset: BaseWhich) -> list[TradingSignal]:
        """Those of an asset."""
        return self._wait(self._body.by_asset, asset)


class BlockingTradeRepository(BlockingRepository[Trade]):
    """Trades, newest first."""

    _called = "trades"
    _body: AwaitedTradeRepository

    def create(self, **fields: Unpack[TradeFields]) -> Trade:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Trade | UUID | str, **changes: Unpack[TradeFields]) -> Trade:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_asset(self, asset: BaseWhich, *, account: BaseWhich | None = None) -> list[Trade]:
        """Those of an asset, in one account or all."""
        return self._wait(self._body.by_asset, asset, account=account)

    def by_polymarket_event(self, event: BaseWhich, *, account: BaseWhich | None = None) -> list[Trade]:
        """Those of an event, in one account or all."""
        return self._wait(self._body.by_polymarket_event, event, account=account)

    def by_strategy(self, strategy: BaseWhich, *, account: BaseWhich | None = None) -> list[Trade]:
        """Those of a strategy, in one account or all."""
        return self._wait(self._body.by_strategy, strategy, account=account)

    def by_position(self, position: BaseWhich) -> list[Trade]:
        """The orders that led to a position or changed it."""
        return self._wait(self._body.by_position, position)

    def by_status(self, *statuses: TradeStatus, account: BaseWhich | None = None) -> list[Trade]:
        """Those with one of these statuses, in one account or all."""
        return self._wait(self._body.by_status, *statuses, account=account)

    def by_date_range(self, start: Instant, end: Instant, *, account: BaseWhich | None = None) -> list[Trade]:
        """Those executed in `[start, end)`."""
        return self._wait(self._body.by_date_range, start, end, account=account)

    def profitable(self, *, account: BaseWhich | None = None) -> list[Trade]:
        """Filled trades of positions whose realized P&L is above their commissions."""
        return self._wait(self._body.profitable, account=account)

    def with_fills(self, which: UUID | str) -> Trade:
        """The trade with `fills` loaded, in the order of execution."""
        return self._wait(self._body.with_fills, which)


class BlockingFillRepository(BlockingRepository[Fill]):
    """Fills in the order of execution."""

    _called = "fills"
    _body: AwaitedFillRepository

    def create(self, **fields: Unpack[FillFields]) -> Fill:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Fill | UUID | str, **changes: Unpack[FillFields]) -> Fill:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_trade(self, trade: BaseWhich) -> list[Fill]:
        """The executions of an order."""
        return self._wait(self._body.by_trade, trade)

    def by_position(self, position: BaseWhich) -> list[Fill]:
        """The executions of the orders of a position."""
        return self._wait(self._body.by_position, position)

    def by_date_range(self, start: Instant, end: Instant, *, account: BaseWhich | None = None) -> list[Fill]:
        """Those executed in `[start, end)`."""
        return self._wait(self._body.by_date_range, start, end, account=account)


class BlockingPositionRepository(BlockingRepository[Position]):
    """Positions, newest first."""

    _called = "positions"
    _body: AwaitedPositionRepository

    def create(self, **fields: Unpack[PositionFields]) -> Position:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Position | UUID | str, **changes: Unpack[PositionFields]) -> Position:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def open(self, *, account: BaseWhich | None = None) -> list[Position]:
        """Those that still hold something, partially closed ones too."""
        return self._wait(self._body.open, account=account)

    def closed(self, *, account: BaseWhich | None = None) -> list[Position]:
        """The positions that are closed, in one account or all."""
        return self._wait(self._body.closed, account=account)

    def by_asset(self, asset: BaseWhich, *, account: BaseWhich | None = None) -> list[Position]:
        """Those of an asset, in one account or all."""
        return self._wait(self._body.by_asset, asset, account=account)

    def by_polymarket_event(self, event: BaseWhich, *, account: BaseWhich | None = None) -> list[Position]:
        """Those of an event, in one account or all."""
        return self._wait(self._body.by_polymarket_event, event, account=account)

    def by_strategy(self, strategy: BaseWhich, *, account: BaseWhich | None = None) -> list[Position]:
        """Those of a strategy, in one account or all."""
        return self._wait(self._body.by_strategy, strategy, account=account)

    def by_status(self, *statuses: PositionStatus, account: BaseWhich | None = None) -> list[Position]:
        """Those with one of these statuses, in one account or all."""
        return self._wait(self._body.by_status, *statuses, account=account)

    def by_date_range(self, start: Instant, end: Instant, *, account: BaseWhich | None = None) -> list[Position]:
        """Those opened in `[start, end)`."""
        return self._wait(self._body.by_date_range, start, end, account=account)

    def with_trades(self, which: UUID | str) -> Position:
        """The position with `trades` and their `fills` loaded."""
        return self._wait(self._body.with_trades, which)

    def find_open(
        self, *, account: BaseWhich, strategy: BaseWhich | None, instrument_id: int, lock: bool = False
    ) -> Position | None:
        """The one open position of that account, strategy and instrument; None if it is flat."""
        return self._wait(
            self._body.find_open, account=account, strategy=strategy, instrument_id=instrument_id, lock=lock
        )


class BlockingCashMovementRepository(BlockingRepository[CashMovement]):
    """Cash movements, oldest first."""

    _called = "cash_movements"
    _body: AwaitedCashMovementRepository

    def create(self, **fields: Unpack[CashMovementFields]) -> CashMovement:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: CashMovement | UUID | str, **changes: Unpack[CashMovementFields]) -> CashMovement:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_account(self, account: BaseWhich) -> list[CashMovement]:
        """Every movement of an account's cash."""
        return self._wait(self._body.by_account, account)

    def balance(self, account: BaseWhich, *, before: Instant | None = None) -> Decimal:
        """What the account holds in its base currency, of all movements or of those before a time."""
        return self._wait(self._body.balance, account, before=before)


class BlockingSettlementRepository(BlockingRepository[Settlement]):
    """Settlements, oldest first."""

    _called = "settlements"
    _body: AwaitedSettlementRepository

    def create(self, **fields: Unpack[SettlementFields]) -> Settlement:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: Settlement | UUID | str, **changes: Unpack[SettlementFields]) -> Settlement:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_position(self, position: BaseWhich) -> list[Settlement]:
        """The settlements of a position."""
        return self._wait(self._body.by_position, position)


class BlockingApplicationLogRepository(BlockingRepository[ApplicationLog]):
    """The program's log, newest first."""

    _called = "application_logs"
    _body: AwaitedApplicationLogRepository

    def create(self, **fields: Unpack[ApplicationLogFields]) -> ApplicationLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: ApplicationLog | UUID | str, **changes: Unpack[ApplicationLogFields]) -> ApplicationLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)


class BlockingErrorLogRepository(BlockingRepository[ErrorLog]):
    """Errors, newest first."""

    _called = "error_logs"
    _body: AwaitedErrorLogRepository

    def create(self, **fields: Unpack[ErrorLogFields]) -> ErrorLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: ErrorLog | UUID | str, **changes: Unpack[ErrorLogFields]) -> ErrorLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def unhandled(self) -> list[ErrorLog]:
        """The errors that the program did not handle itself."""
        return self._wait(self._body.unhandled)


class BlockingPerformanceMetricRepository(BlockingRepository[PerformanceMetric]):
    """Measurements of the system, newest first."""

    _called = "performance_metrics"
    _body: AwaitedPerformanceMetricRepository

    def create(self, **fields: Unpack[PerformanceMetricFields]) -> PerformanceMetric:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(
        self, which: PerformanceMetric | UUID | str, **changes: Unpack[PerformanceMetricFields]
    ) -> PerformanceMetric:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)


class BlockingAuditLogRepository(BlockingRepository[AuditLog]):
    """Who changed what, oldest first."""

    _called = "audit_logs"
    _body: AwaitedAuditLogRepository

    def create(self, **fields: Unpack[AuditLogFields]) -> AuditLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: AuditLog | UUID | str, **changes: Unpack[AuditLogFields]) -> AuditLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def history(self, entity_type: str, which: BaseWhich) -> list[AuditLog]:
        """Every change of one entity, by its table and id, also after its deletion."""
        return self._wait(self._body.history, entity_type, which)


class BlockingJobRunRepository(BlockingRepository[JobRun]):
    """Runs of batch jobs, newest first."""

    _called = "job_runs"
    _body: AwaitedJobRunRepository

    def create(self, **fields: Unpack[JobRunFields]) -> JobRun:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: JobRun | UUID | str, **changes: Unpack[JobRunFields]) -> JobRun:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)

    def by_job(self, job: str) -> list[JobRun]:
        """The runs of a job."""
        return self._wait(self._body.by_job, job)


class BlockingStreamSessionRepository(BlockingRepository[StreamSession]):
    """Recordings, newest first."""

    _called = "stream_sessions"
    _body: AwaitedStreamSessionRepository

    def create(self, **fields: Unpack[StreamSessionFields]) -> StreamSession:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: StreamSession | UUID | str, **changes: Unpack[StreamSessionFields]) -> StreamSession:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)


class BlockingCoverageGapRepository(BlockingRepository[CoverageGap]):
    """What recordings missed, oldest first."""

    _called = "coverage_gaps"
    _body: AwaitedCoverageGapRepository

    def create(self, **fields: Unpack[CoverageGapFields]) -> CoverageGap:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return self._wait(self._body.create, **fields)

    def update(self, which: CoverageGap | UUID | str, **changes: Unpack[CoverageGapFields]) -> CoverageGap:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        return self._wait(self._body.update, which, **changes)


class BlockingServices(BlockingFace[Services]):
    """Every part of the store, for callers that block."""

    @property
    def mirror(self) -> Mirror:
        """The mirror: `run()`, `status()`, `verify()`, `prune()`, `compact()`, `vacuum()`, `retain()`, `move()`."""
        return self._body.mirror

    @property
    def sources(self) -> Sources:
        """Which feeds have rows, and which of them answers first: `list()`, `prefer()`."""
        return self._body.sources

    @property
    def rollups(self) -> Rollups:
        """Bars that are made beforehand: `keep()`, `list()`, `drop()`, `refresh()`."""
        return self._body.rollups

    @property
    def market_data(self) -> BlockingMarketDataService:
        """Observations one by one or in lists, the instruments they belong to, and the newest of each."""
        return BlockingMarketDataService(self._body.market_data, self._portal)

    @property
    def journal(self) -> BlockingJournal:
        """Logs, errors and measurements of the system."""
        return BlockingJournal(self._body.journal, self._portal)

    @property
    def audit(self) -> BlockingAudit:
        """Who changed what and when, and whether the record is whole."""
        return BlockingAudit(self._body.audit, self._portal)

    @property
    def trading(self) -> BlockingTradingService:
        """Orders and positions, on the simulated venue at the stored market; see `live` and `backtest` for others."""
        return BlockingTradingService(self._body.trading, self._portal)

    def live(self, venue: Venue) -> BlockingTradingService:
        """Orders and positions at that venue, such as `medalion.venues.alpaca.AlpacaVenue`, at the stored market."""
        return BlockingTradingService(self._body.live(venue), self._portal)

    def backtest(
        self,
        market: Market,
        *,
        venue: Venue | None = None,
        commission: CommissionSchedule = CommissionSchedule(),
        slippage_bps: Decimal = Decimal(0),
        respect_size: bool = False,
        latency: timedelta | None = None,
        max_quote_age: timedelta | None = None,
    ) -> BlockingTradingService:
        """Trading in the same books on a market of the past: orders fill at its quotes of their `at`.

        Without `venue` they go to a simulated one, for which the other arguments are: see `PaperVenue`.
        """
        return BlockingTradingService(
            self._body.backtest(
                market,
                venue=venue,
                commission=commission,
                slippage_bps=slippage_bps,
                respect_size=respect_size,
                latency=latency,
                max_quote_age=max_quote_age,
            ),
            self._portal,
        )

    @property
    def stats(self) -> BlockingStatistics:
        """Value by session, performance and closed trades of accounts."""
        return BlockingStatistics(self._body.stats, self._portal)

    @property
    def jobs(self) -> BlockingJobs:
        """Batch jobs and their runs."""
        return BlockingJobs(self._body.jobs, self._portal)

    def read(
        self,
        dataset: str | Dataset,
        *,
        columns: Sequence[str] | None = None,
        floats: bool = False,
        **rows: Unpack[ReadRange],
    ) -> pl.DataFrame:
        """The current rows of `[start, end)`, sorted by symbol, (timeframe,) ts, with the dataset's schema.

        `symbols` None reads every instrument; `as_of` reads what this store held at that time. Of bars there is one a
        time, from the most preferred source that has it (see `store.sources`); of all else the rows of every source,
        unless `source` names one or several.

        >>> store.read("stock_bars", symbols="AAPL", start="2024-01-02", end="2024-01-04").height
        2

        Raises:
            NotFoundError: the dataset or a symbol is not known.
            InputError: a naive time, `end` before `start`, an unknown column, or an `as_of` that is not settled.
            CorruptLakeError: lake and ledger do not belong together, or a file is damaged.
        """
        return self._body.observations.read(dataset, columns=columns, floats=floats, **rows)

    def scan(
        self,
        dataset: str | Dataset,
        *,
        columns: Sequence[str] | None = None,
        floats: bool = False,
        **rows: Unpack[ReadRange],
    ) -> pl.LazyFrame:
        """The same as `read`, lazily: filters and projections reach the files, and the result may exceed memory.

        The frame owns its pinned files and unmirrored rows: collecting it twice gives the same answer.

        >>> store.scan("stock_bars", end="2024-01-06").select("close").max().collect().item() > 180
        True
        """
        return self._body.observations.scan(dataset, columns=columns, floats=floats, **rows)

    def explain(self, dataset: str | Dataset, *, rollup: bool = False, **rows: Unpack[ReadRange]) -> ReadPlan:
        """How `read` with the same arguments would be answered: store, engine, files, rows and the reason.

        With `rollup` how `bars` would: the reason says what its bars are made from, if they are not stored.

        >>> store.explain("stock_bars", symbols="AAPL", end="2024-01-06").engine
        'polars'
        """
        return self._body.observations.explain(dataset, rollup=rollup, **rows)

    def bars(
        self,
        symbol: Symbols,
        timeframe: str,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        as_of: Instant | None = None,
        adjust: str = "none",
        columns: Sequence[str] | None = None,
        source: SourceNames = None,
        rollup: bool = True,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Bars of a stock or coin; `adjust="split"` restates earlier prices and volumes in today's shares.

        Stored bars are continued by bars made of the next finer ones: before the first of a series, after the last, and
        in place of one that was recorded long before it closed. Holes between them stay. Where a symbol has none of the
        timeframe, all are made so, else of quotes; `source` says of each that was made `rollup:` and from whom. A bar
        made is known when it closes. With `rollup` False there are stored ones alone. `explain` tells.

        >>> store.bars("AAPL", "1Week", start="2024-01-01", end="2024-01-08")["volume"].cast(int).to_list()
        [273]

        Raises:
            NotFoundError: the symbol is neither a stock's nor a coin's.
            InputError: `adjust` or the timeframe is not known, or a sum of volumes does not fit.
        """
        return self._body.observations.bars(
            symbol,
            timeframe,
            start=start,
            end=end,
            as_of=as_of,
            adjust=adjust,
            columns=columns,
            source=source,
            rollup=rollup,
            floats=floats,
        )

    def quotes(
        self,
        symbol: Symbols,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Quotes of a stock, coin or option contract, with `mid_price`, of `[start, end)`, oldest first.

        >>> store.quotes("BTC/USD", start="2024-01-01", end="2024-02-01")["mid_price"].cast(float).to_list()
        [43999.5]

        Raises:
            NotFoundError: the symbol is not known, or of none of these kinds.
            InputError: a naive time, or `end` before `start`.
        """
        return self._body.observations.quotes(symbol, start=start, end=end, as_of=as_of, source=source, floats=floats)

    def latest(
        self,
        dataset: str | Dataset,
        symbol: str,
        *,
        timeframe: str | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
    ) -> dict[str, Any] | None:
        """The newest row of a symbol, whichever source it is of, or None where there is none.

        >>> quote = store.latest("crypto_quote_snapshots", "BTC/USD")
        >>> quote["bid_price"], quote["ask_price"]
        (Decimal('67250.00000000'), Decimal('67251.00000000'))

        Raises:
            NotFoundError: the dataset or symbol is not known.
            InputError: bars without `timeframe`.
        """
        return self._body.observations.latest(dataset, symbol, timeframe=timeframe, as_of=as_of, source=source)

    def latest_at(
        self, dataset: str | Dataset, symbol: str, t: Instant, *, timeframe: str | None = None
    ) -> dict[str, Any] | None:
        """The newest row of a symbol that was available at `t`, by what is known now, or None; raises as `latest`."""
        return self._body.observations.latest_at(dataset, symbol, t, timeframe=timeframe)

    def asof(
        self,
        left: Frame,
        dataset: str | Dataset,
        *,
        tolerance: timedelta | None = None,
        timeframe: str | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """`left` with, beside each row, the newest row of its symbol that was available at its `ts`.

        `left` needs `symbol` and `ts`; its rows and their order stay. Columns that both have get the suffix `_right`.
        A row older than `tolerance` is not taken; nulls where there is none. `as_of` and `source` as `read`.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> mine = pl.DataFrame({"symbol": ["AAPL"], "ts": [datetime(2024, 1, 4, 15, tzinfo=UTC)]})
        >>> store.asof(mine, "stock_bars", timeframe="1Day")["close"].cast(float).item()  # that of the 3rd
        182.5

        Raises:
            InputError: `left` lacks a column, or its times have no zone; bars without `timeframe`.
        """
        return self._body.observations.asof(
            left, dataset, tolerance=tolerance, timeframe=timeframe, as_of=as_of, source=source, floats=floats
        )

    def sql(
        self, query: str, /, *, as_of: Instant | None = None, timeout: float | None = None, **params: Any
    ) -> duckdb.DuckDBPyRelation:
        """One SELECT in DuckDB's dialect over every dataset and entity by its table name, all as of one moment.

        Named parameters are written `$name`. Datasets answer as `read` does; `stock_bars_by_source` and its like have
        the rows of every source. Deleted entities are absent. The relation owns its files and rows: evaluating it twice
        gives the same answer. `.pl()` makes it a Polars frame. `as_of` reads what this store held at that time: of
        entities, what the audit says that they were. An evaluation that takes longer than `timeout` seconds is stopped,
        and so is one at Ctrl-C.

        >>> store.sql("SELECT max(close) FROM stock_bars WHERE symbol = $name", name="AAPL").pl().item() > 180
        True

        Raises:
            InputError: not one SELECT, something in it is wrong, or `as_of` is not settled or not known of a table.
            NotFoundError: a table is not known.
            CorruptLakeError: a file is damaged; also when it is evaluated, as the others, and StoreError at `timeout`.
        """
        return self._body.observations.sql(query, as_of=as_of, timeout=timeout, **params)

    def write(
        self, dataset: str | Dataset, frame: Frame, *, source: str = "manual", idempotency_key: str | None = None
    ) -> WriteResult:
        """Store rows durably and at once visible; all or nothing.

        `frame` is a Polars, pandas or Arrow table with the dataset's columns: `symbol`, `ts` (aware), its values, and
        for bars `timeframe`. A row with the key of an earlier one corrects it. A repeated `idempotency_key` writes
        nothing and returns the first result.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> bar = {"symbol": "AAPL", "timeframe": "1Day", "ts": datetime(2024, 1, 8, tzinfo=UTC), "volume": 59}
        >>> frame = pl.DataFrame([bar | dict.fromkeys(("open", "high", "low", "close"), 185.5)])
        >>> store.write("stock_bars", frame).rows
        1

        Raises:
            InputError: a column is missing or unknown, a type is wrong, a key is null, a number does not fit.
            NotFoundError: a symbol has no asset, option contract or outcome.
            ConflictError: the `idempotency_key` was used for other rows.
        """
        return self._body.ingestion.write(dataset, frame, source=source, idempotency_key=idempotency_key)

    def import_history(
        self,
        dataset: str | Dataset,
        data: ImportData,
        *,
        source: str = "manual",
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, object] | None = None,
        ignore: Sequence[str] = (),
        time_zone: str | None = None,
        time_unit: str | None = None,
        rejects: str | Path | None = None,
        max_rejects: int | None = None,
        progress: Callable[[ImportProgress], object] | None = None,
    ) -> ImportResult:
        """Bring bulk history straight into the lake as one write, all or nothing, in bounded memory.

        `data` is a frame, a reader, a CSV or Parquet file, a folder of them, or several of these; of rows with one
        key the last counts. What differs from the current rows of the `source` is stored, and nothing else: the same
        file again changes nothing, and after a correction or a deletion it brings its rows back.

        `columns` says what a column is called in the data, which may then have others that are left out; without it
        those are an error unless in `ignore`. `constants` are columns it lacks. Stamps without a zone need `time_zone`,
        whole numbers `time_unit` (s, ms, us, ns). Bad rows go to the new file `rejects`, each with its reason, at most
        `max_rejects` of them; without it one bad row refuses all. `progress` is called as rows are read.

        >>> import polars as pl
        >>> daily = pl.DataFrame({"Date": ["2023-12-28", "2023-12-29"], "Close": [193, 192]})
        >>> names = {"ts": "Date"} | dict.fromkeys(("open", "high", "low", "close"), "Close")
        >>> same = {"symbol": "AAPL", "timeframe": "1Day", "volume": 0}
        >>> store.import_history("stock_bars", daily, columns=names, constants=same, time_zone="UTC").rows
        2

        Raises:
            InputError, NotFoundError: as `write`; or the data cannot be read.
            CorruptLakeError: lake and ledger do not belong together.
        """
        return self._body.ingestion.import_history(
            dataset,
            data,
            source=source,
            columns=columns,
            constants=constants,
            ignore=ignore,
            time_zone=time_zone,
            time_unit=time_unit,
            rejects=rejects,
            max_rejects=max_rejects,
            progress=progress,
        )

    def replace(
        self,
        dataset: str | Dataset,
        frame: Frame,
        *,
        start: Instant,
        end: Instant,
        symbols: Symbols = None,
        timeframe: str | None = None,
        source: str = "manual",
    ) -> ReplaceResult:
        """Make `[start, end)` of the `source` what the frame says, in one write of which nobody sees a part.

        Of `symbols`, and of bars of `timeframe`, by default the frame's, what the frame lacks is deleted, what differs
        is corrected and what is new is added.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> bar = {"symbol": "AAPL", "timeframe": "1Day", "ts": datetime(2024, 1, 9, tzinfo=UTC), "volume": 60}
        >>> frame = pl.DataFrame([bar | dict.fromkeys(("open", "high", "low", "close"), 186.5)])
        >>> store.replace("stock_bars", frame, start="2024-01-09", end="2024-01-12").deleted
        0

        Raises:
            InputError: as `write`; or a row lies outside of the range, or is of another symbol or timeframe.
            NotFoundError: as `write`.
        """
        return self._body.ingestion.replace(
            dataset, frame, start=start, end=end, symbols=symbols, timeframe=timeframe, source=source
        )

    def delete(
        self,
        dataset: str | Dataset,
        *,
        symbols: Symbols,
        start: Instant | None = None,
        end: Instant | None = None,
        timeframe: str | None = None,
        source: SourceNames = None,
    ) -> int:
        """Hide the rows of `[start, end)` by tombstones, of every source unless one is named; the number of rows.

        All of them at one moment. What an earlier `as_of` read stays.

        >>> store.delete("stock_bars", symbols="AAPL", start="2024-02-01", end="2024-03-01")
        0
        """
        return self._body.ingestion.delete(
            dataset, symbols=symbols, start=start, end=end, timeframe=timeframe, source=source
        )

    def backup(self, folder: str | Path) -> Backup:
        """Books, ledger and lake of one moment in a new private folder, while bots write and the lake is looked after.

        `medalion restore` makes a store of it, here or elsewhere. The folder appears whole or not at all. It holds the
        books in PostgreSQL's own format and links to the files of the lake, or copies where it lies on another disk.

        >>> store.backup("/backups/monday").lake_rows  # doctest: +SKIP
        1204000

        Raises:
            InputError: the folder is not empty, or cannot be made.
            CorruptLakeError: lake and ledger do not belong together, or a file is damaged.
            StoreError: there is no pg_dump for the server, it failed, or the server is a read replica.
        """
        return self._body.backup(folder)

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets, whether they hold rows or not.

        >>> store.datasets[:3]
        ['stock_quote_snapshots', 'crypto_quote_snapshots', 'stock_bars']
        """
        return self._body.datasets

    def symbols(self, dataset: str | Dataset | None = None) -> list[str]:
        """What there are rows of, in one dataset or in any, sorted; an instrument without rows is in `assets` alone.

        >>> store.symbols("stock_bars")
        ['AAPL']

        Raises:
            NotFoundError: the dataset is not known.
        """
        return self._body.symbols(dataset)

    def coverage(
        self,
        dataset: str | Dataset | None = None,
        *,
        symbols: Symbols = None,
        start: Instant | None = None,
        end: Instant | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """What is here, a row a series: dataset, symbol, timeframe, source, first and last `ts`, and how many rows.

        Nothing is read for it. Where `is_exact` is false the rows lie within first and last, and there are no more of
        them than `rows`: an hour that was corrected is counted twice. `is_made` are bars that the store keeps of
        others, `unmirrored_rows` those of the rows that wait for the mirror. Of `[start, end)` are the series that may
        have rows in it, with the figures of the whole series.

        >>> store.coverage("stock_bars").select("symbol", "timeframe", "source").row(0)
        ('AAPL', '1Day', 'manual')

        Raises:
            NotFoundError: the dataset or a symbol is not known.
            InputError: a naive time, or `end` before `start`.
        """
        return self._body.coverage(dataset, symbols=symbols, start=start, end=end, floats=floats)

    @property
    def assets(self) -> BlockingAssetRepository:
        """Assets by symbol."""
        return BlockingAssetRepository(AwaitedAssetRepository(self._body.units), self._portal)

    @property
    def option_contracts(self) -> BlockingOptionContractRepository:
        """Option contracts by symbol."""
        return BlockingOptionContractRepository(AwaitedOptionContractRepository(self._body.units), self._portal)

    @property
    def polymarket_events(self) -> BlockingPolymarketEventRepository:
        """Prediction-market events by title."""
        return BlockingPolymarketEventRepository(AwaitedPolymarketEventRepository(self._body.units), self._portal)

    @property
    def polymarket_markets(self) -> BlockingPolymarketMarketRepository:
        """Prediction markets by question."""
        return BlockingPolymarketMarketRepository(AwaitedPolymarketMarketRepository(self._body.units), self._portal)

    @property
    def polymarket_outcomes(self) -> BlockingPolymarketOutcomeRepository:
        """Outcomes by their place in the market."""
        return BlockingPolymarketOutcomeRepository(AwaitedPolymarketOutcomeRepository(self._body.units), self._portal)

    @property
    def corporate_actions(self) -> BlockingCorporateActionRepository:
        """Corporate actions, oldest first."""
        return BlockingCorporateActionRepository(AwaitedCorporateActionRepository(self._body.units), self._portal)

    @property
    def accounts(self) -> BlockingAccountRepository:
        """Accounts by name."""
        return BlockingAccountRepository(AwaitedAccountRepository(self._body.units), self._portal)

    @property
    def strategies(self) -> BlockingStrategyRepository:
        """Strategies by name."""
        return BlockingStrategyRepository(AwaitedStrategyRepository(self._body.units), self._portal)

    @property
    def signals(self) -> BlockingTradingSignalRepository:
        """Signals, newest first."""
        return BlockingTradingSignalRepository(AwaitedTradingSignalRepository(self._body.units), self._portal)

    @property
    def trades(self) -> BlockingTradeRepository:
        """Trades, newest first."""
        return BlockingTradeRepository(AwaitedTradeRepository(self._body.units), self._portal)

    @property
    def fills(self) -> BlockingFillRepository:
        """Fills in the order of execution."""
        return BlockingFillRepository(AwaitedFillRepository(self._body.units), self._portal)

    @property
    def positions(self) -> BlockingPositionRepository:
        """Positions, newest first."""
        return BlockingPositionRepository(AwaitedPositionRepository(self._body.units), self._portal)

    @property
    def cash_movements(self) -> BlockingCashMovementRepository:
        """Cash movements, oldest first."""
        return BlockingCashMovementRepository(AwaitedCashMovementRepository(self._body.units), self._portal)

    @property
    def settlements(self) -> BlockingSettlementRepository:
        """Settlements, oldest first."""
        return BlockingSettlementRepository(AwaitedSettlementRepository(self._body.units), self._portal)

    @property
    def application_logs(self) -> BlockingApplicationLogRepository:
        """The program's log, newest first."""
        return BlockingApplicationLogRepository(AwaitedApplicationLogRepository(self._body.units), self._portal)

    @property
    def error_logs(self) -> BlockingErrorLogRepository:
        """Errors, newest first."""
        return BlockingErrorLogRepository(AwaitedErrorLogRepository(self._body.units), self._portal)

    @property
    def performance_metrics(self) -> BlockingPerformanceMetricRepository:
        """Measurements of the system, newest first."""
        return BlockingPerformanceMetricRepository(AwaitedPerformanceMetricRepository(self._body.units), self._portal)

    @property
    def audit_logs(self) -> BlockingAuditLogRepository:
        """Who changed what, oldest first."""
        return BlockingAuditLogRepository(AwaitedAuditLogRepository(self._body.units), self._portal)

    @property
    def job_runs(self) -> BlockingJobRunRepository:
        """Runs of batch jobs, newest first."""
        return BlockingJobRunRepository(AwaitedJobRunRepository(self._body.units), self._portal)

    @property
    def stream_sessions(self) -> BlockingStreamSessionRepository:
        """Recordings, newest first."""
        return BlockingStreamSessionRepository(AwaitedStreamSessionRepository(self._body.units), self._portal)

    @property
    def coverage_gaps(self) -> BlockingCoverageGapRepository:
        """What recordings missed, oldest first."""
        return BlockingCoverageGapRepository(AwaitedCoverageGapRepository(self._body.units), self._portal)
