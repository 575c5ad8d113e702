"""The store on an event loop, and every part of it that would block the loop."""

# Generated from the bodies by tools/faces.py: do not edit, run `make faces`.
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Unpack
from uuid import UUID

import duckdb
import polars as pl

from medalion.bars.refresh import RefreshRun
from medalion.core.datasets import DATASETS, Dataset
from medalion.core.enums import AssetType, PositionStatus, TradeStatus
from medalion.core.frames import Frame
from medalion.core.time import Instant
from medalion.ingest.history import ImportResult
from medalion.ingest.replacement import ReplaceResult
from medalion.ingest.sources import ImportData, ImportProgress
from medalion.market.quotes import Market
from medalion.mirror.compaction import CompactionRun
from medalion.mirror.copy import MirrorRun
from medalion.mirror.relocation import Relocation
from medalion.mirror.removal import RetentionRun
from medalion.mirror.vacuum import VacuumRun
from medalion.observations.arguments import ReadRange, SourceNames, Symbols
from medalion.observations.plan import ReadPlan
from medalion.services.audit import Audit
from medalion.services.jobs import Jobs
from medalion.services.journal import Journal
from medalion.services.market_data import MarketDataService
from medalion.services.mirror import Mirror
from medalion.services.rollups import Rollups
from medalion.services.sources import Sources
from medalion.services.statistics import Statistics
from medalion.services.trading import TradingService
from medalion.store.backups import Backup
from medalion.store.faces import ThreadedFace, UnitFace
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
from medalion.venues.base import Venue
from medalion.venues.paper.venue import CommissionSchedule
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
from oltp.repositories.base import Criterion, Order, Page, Repository, T, Which
from oltp.repositories.books import (
    AccountRepository,
    AssetRepository,
    CashMovementRepository,
    CorporateActionRepository,
    FillRepository,
    OptionContractRepository,
    PolymarketEventRepository,
    PolymarketMarketRepository,
    PolymarketOutcomeRepository,
    PositionRepository,
    SettlementRepository,
    StrategyRepository,
    TradeRepository,
    TradingSignalRepository,
)
from oltp.repositories.records import (
    ApplicationLogRepository,
    AuditLogRepository,
    CoverageGapRepository,
    ErrorLogRepository,
    JobRunRepository,
    PerformanceMetricRepository,
    StreamSessionRepository,
)
from oltp.repositories.unit_of_work import UnitOfWork


class AwaitedMirror(ThreadedFace[Mirror]):
    """Keeps the lake up with PostgreSQL; several in several processes are harmless, one at a time leads a dataset."""

    _called = "mirror"

    async def run(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        wait: bool = True,
        settle: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> MirrorRun:
        """Copy everything committed so far; with `wait` False, pass over datasets that another process leads.

        With `settle` the time up to which `as_of` may ask is raised too. Once `is_stopping` says so, no further batch
        is begun: the one at hand is finished first, and takes about five seconds at most.

        >>> _ = store.mirror.run()
        >>> store.mirror.run().rows  # all of it is there
        0

        Raises:
            CorruptLakeError: lake and ledger do not belong together; nothing was written.
        """
        return await self._run(self._body.run, datasets, wait=wait, settle=settle, is_stopping=is_stopping)

    async def prune(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> int:
        """Empty every hot slot whose rows are all in the lake; the number of rows removed."""
        return await self._run(self._body.prune, datasets)

    async def compact(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> CompactionRun:
        """Rewrite many small files of a partition as few sorted ones; every row is kept, and a second run does nothing.

        Reads and mirroring go on meanwhile. The old files stay until `vacuum` removes them. A partition is one commit.

        Raises:
            CorruptLakeError: a file is missing or damaged.
        """
        return await self._run(self._body.compact, datasets)

    async def compact_meanwhile(
        self, dataset: str | Dataset, *, stopping: threading.Event | None = None
    ) -> CompactionRun:
        """Compact the one partition that gains most by it, if any is worth it yet and no other process maintains.

        With `stopping` set it is given up, and nothing has changed.
        """
        return await self._run(self._body.compact_meanwhile, dataset, stopping=stopping)

    async def vacuum(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta = timedelta(days=7),
        dry_run: bool = False,
    ) -> VacuumRun:
        """Remove files of the lake that no version within the age refers to, and those that a dead writer left.

        Reads and relations that were begun before may still need a file that was replaced since: `older_than` is how
        long they may last. With `dry_run` nothing is removed, and the run lists what would be.

        Raises:
            InputError: a negative age, or one beyond the 30 days for which Delta keeps its log.
            CorruptLakeError: lake and ledger do not belong together; nothing was removed.
        """
        return await self._run(self._body.vacuum, datasets, older_than=older_than, dry_run=dry_run)

    async def retain(
        self,
        datasets: str | Dataset | Iterable[str | Dataset],
        *,
        versions_older_than: timedelta | None = None,
        rows_older_than: timedelta | None = None,
        downsample: str | None = None,
    ) -> RetentionRun:
        """Remove from the lake, for good, what is older than the ages given; what is not mirrored yet stays.

        `versions_older_than`: versions that were superseded so long ago, and rows that were deleted; reads without
        `as_of`, or with a later one, stay as they are, and an earlier `as_of` is refused from then on.
        `rows_older_than`: whole partitions (days, months, years) whose rows all have an older `ts`; reads with an
        `as_of` before the removal are refused where their range starts earlier than what is left. The files stay
        until `vacuum`. `downsample`: of quotes, the timeframe of the bars that stay in their place.

        Raises:
            InputError: no age, or a negative one; or nothing that can be downsampled.
            CorruptLakeError: a file is missing or damaged, or lake and ledger do not belong together.
        """
        return await self._run(
            self._body.retain,
            datasets,
            versions_older_than=versions_older_than,
            rows_older_than=rows_older_than,
            downsample=downsample,
        )

    async def fold(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta,
        keys_older_than: timedelta | None = None,
    ) -> int:
        """Fold the ledger's entries of so old writes, whose rows are in the lake alone, into one sum; how many.

        Rows stay, and `verify` proves them together from then on. Those with an idempotency key stay, which holds for
        as long as they do, but for what `keys_older_than` gives.
        """
        return await self._run(self._body.fold, datasets, older_than=older_than, keys_older_than=keys_older_than)

    async def status(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> pl.DataFrame:
        """A row a dataset: how far the lake is, what waits and how long, who leads, and what holds it back.

        >>> store.mirror.status(["stock_bars"])["dataset"].to_list()
        ['stock_bars']
        """
        return await self._run(self._body.status, datasets)

    async def verify(
        self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS), *, heal: bool = False
    ) -> pl.DataFrame:
        """Everything in which lake, ledger and hot rows disagree: dataset, subject, problem. Empty is clean.

        Reads every row once. Each dataset is led meanwhile, so that mirroring waits. With `heal` what can be proven
        is repaired, and a fourth column, `outcome`, says of each problem whether it is `repaired`; rows that nothing
        proves any more are `lost`, and are booked so; `changed` rows stay as they were found; the rest is `left`.

        >>> store.mirror.verify().is_empty()
        True
        """
        return await self._run(self._body.verify, datasets, heal=heal)

    async def rebind(
        self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS), *, adopt: str | None = None
    ) -> pl.DataFrame:
        """Make one store again of a lake and a ledger that are copies of different moments; see `mirror.rebinding`.

        What became of what only one of the two knew: dataset, subject, outcome. Datasets that agree are left as they
        are. Writers, imports and mirroring wait meanwhile; every row of the lake is read. A lake that belongs to
        another store is taken over only where `adopt` is that store's number, as refusals and `status` show it.

        Raises:
            InputError: the lake is that of another store; nothing was changed.
        """
        return await self._run(self._body.rebind, datasets, adopt=adopt)

    async def move(self, to: str | Path) -> Relocation:
        """Copy the lake to another folder or `s3://bucket/prefix`, and have it be the store's from then on.

        Writes go on meanwhile, and mirroring until most is copied. This store, and any other that is open on the old
        lake, is refused afterwards: close it, and open one with `lake=` as the result says. The old lake stays as it
        is. Its newest versions are copied; what only older ones refer to is left behind.

        Raises:
            InputError: `to` is not empty, cannot be made, or lies in the lake.
            CorruptLakeError: a file is damaged, or lake and ledger do not belong together; the lake stays where it is.
            StoreError: `to` cannot be written to; the lake stays where it is.
        """
        return await self._run(self._body.move, to)


class AwaitedSources(ThreadedFace[Sources]):
    """The sources of one store's rows."""

    _called = "sources"

    async def list(
        self, dataset: str | Dataset | None = None, *, symbols: Symbols = None, as_of: Instant | None = None
    ) -> pl.DataFrame:
        """A row for each source of each symbol, in the order in which they answer: `rank` 1 is the first to.

        `is_preferred` tells what `prefer` has put there from what comes in the order in which sources first wrote.

        >>> store.sources.list("stock_bars", symbols="AAPL")["source"].to_list()
        ['manual']

        Raises:
            NotFoundError: the dataset or a symbol is not known.
        """
        return await self._run(self._body.list, dataset, symbols=symbols, as_of=as_of)

    async def prefer(self, dataset: str | Dataset, sources: SourceNames, symbols: Symbols = None) -> None:
        """Have these sources answer before all others from now on, of the symbols or of every one without its own.

        The first that has a bar at a time answers for it; the others only fill its gaps. What is preferred has a
        history: a read with `as_of` goes by what was preferred then. An empty list takes it back. A source may be named
        before it has rows.

        >>> store.sources.prefer("stock_bars", ["manual"], symbols="AAPL")
        >>> store.sources.list("stock_bars", symbols="AAPL")["is_preferred"].item()
        True
        >>> store.sources.prefer("stock_bars", [], symbols="AAPL")

        Raises:
            InputError: no list of names.
            NotFoundError: the dataset or a symbol is not known.
        """
        return await self._run(self._body.prefer, dataset, sources, symbols)


class AwaitedRollups(ThreadedFace[Rollups]):
    """The rollups that one store keeps."""

    _called = "rollups"

    async def keep(self, dataset: str | Dataset, *, timeframe: str, symbols: Symbols = None) -> None:
        """Have `refresh` keep bars of this timeframe, of the symbols or of every one; changes what was kept before.

        Raises:
            InputError: no dataset of bars, or a timeframe of which none can be made.
            NotFoundError: the dataset or a symbol is not known.
        """
        return await self._run(self._body.keep, dataset, timeframe=timeframe, symbols=symbols)

    async def drop(self, dataset: str | Dataset, *, timeframe: str) -> int:
        """Keep them no longer; the number of bars deleted. Reads make them from then on, and the answers stay.

        Raises:
            NotFoundError: none of this timeframe are kept.
        """
        return await self._run(self._body.drop, dataset, timeframe=timeframe)

    async def refresh(
        self,
        dataset: str | Dataset | None = None,
        *,
        timeframe: str | None = None,
        wait: bool = True,
        stopping: threading.Event | None = None,
    ) -> RefreshRun:
        """Bring what is kept up to date: only what has changed since the last time is made again.

        Without arguments all of it. With `wait` False what another process refreshes is passed over; with `stopping`
        set it ends early. Wherever it ends, reads stay right.

        Raises:
            NotFoundError: nothing of the dataset and timeframe is kept.
        """
        return await self._run(self._body.refresh, dataset, timeframe=timeframe, wait=wait, stopping=stopping)

    async def list(self) -> pl.DataFrame:
        """A row a rollup: what is kept, the number of its series, and when it was last brought up to date.

        `symbols` is null for every instrument.
        """
        return await self._run(self._body.list)


class AwaitedRepository(UnitFace, Generic[T]):
    """Entities of one kind, as the unit of work sees them; deleted ones are hidden.

    Filters are field names with the value wanted (None for null), or SQL expressions.
    """

    def _in(self, unit: UnitOfWork) -> Repository[T]:
        raise NotImplementedError

    async def get(self, which: UUID | str, *, lock: bool = False) -> T:
        """The entity of that id; with `lock` nobody else changes it before this unit of work ends.

        Raises:
            NotFoundError: there is none, or it is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).get(which, lock=lock)

    async def find(
        self,
        *criteria: Criterion,
        order: Sequence[Order] = (),
        limit: int | None = None,
        lock: bool = False,
        **equal: Any,
    ) -> list[T]:
        """Every entity that meets all filters, in the given order, else in the repository's own."""
        async with self._units() as unit:
            return await self._in(unit).find(*criteria, order=order, limit=limit, lock=lock, **equal)

    async def first(
        self, *criteria: Criterion, order: Sequence[Order] = (), lock: bool = False, **equal: Any
    ) -> T | None:
        """The first that `find` would give; None if there is none."""
        async with self._units() as unit:
            return await self._in(unit).first(*criteria, order=order, lock=lock, **equal)

    async def any(self, *criteria: Criterion, **equal: Any) -> bool:
        """Whether any entity meets all filters."""
        async with self._units() as unit:
            return await self._in(unit).any(*criteria, **equal)

    async def count(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities meet all filters."""
        async with self._units() as unit:
            return await self._in(unit).count(*criteria, **equal)

    async def page(
        self, *criteria: Criterion, number: int = 1, size: int = 50, order: Sequence[Order] = (), **equal: Any
    ) -> Page[T]:
        """Page `number` of those that meet all filters, and how many there are."""
        async with self._units() as unit:
            return await self._in(unit).page(*criteria, number=number, size=size, order=order, **equal)

    async def page_after(
        self, after: UUID | str | None = None, *criteria: Criterion, size: int = 50, **equal: Any
    ) -> list[T]:
        """The next `size` by id, which is the order of creation; None begins. Fast however far in."""
        async with self._units() as unit:
            return await self._in(unit).page_after(after, *criteria, size=size, **equal)

    async def add(self, entity: T) -> T:
        """The entity, stored; raises as `create`."""
        async with self._units() as unit:
            return await self._in(unit).add(entity)

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """The entities, stored; raises as `create`."""
        async with self._units() as unit:
            return await self._in(unit).add_many(entities)

    async def delete(self, which: T | UUID | str) -> None:
        """Hide the entity from now on; `restore` brings it back.

        Raises:
            ConflictError: it is append-only, or something that is not deleted still refers to it.
            NotFoundError: there is no such entity.
        """
        async with self._units() as unit:
            return await self._in(unit).delete(which)

    async def restore(self, which: T | UUID | str) -> T:
        """The entity, no longer deleted.

        Raises:
            ConflictError: its name was given to another meanwhile.
            NotFoundError: it never existed, or what it refers to is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).restore(which)

    async def update_where(self, changes: Mapping[str, Any], *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were changed in one statement.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all), an unknown field, or a value it cannot hold.
        """
        async with self._units() as unit:
            return await self._in(unit).update_where(changes, *criteria, **equal)

    async def delete_where(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were deleted in one statement, or none.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all).
            ConflictError: something that is not deleted still refers to one of them.
        """
        async with self._units() as unit:
            return await self._in(unit).delete_where(*criteria, **equal)


class AwaitedAssetRepository(AwaitedRepository[Asset]):
    """Assets by symbol."""

    _called = "assets"

    def _in(self, unit: UnitOfWork) -> AssetRepository:
        return unit.assets

    async def create(self, **fields: Unpack[AssetFields]) -> Asset:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Asset | UUID | str, **changes: Unpack[AssetFields]) -> Asset:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_symbol(self, symbol: str, asset_type: AssetType | None = None) -> Asset:
        """The asset of that symbol.

        Raises:
            NotFoundError: there is none; names the nearest.
            InputError: assets of several types share it and `asset_type` is not given.
        """
        async with self._units() as unit:
            return await self._in(unit).by_symbol(symbol, asset_type)

    async def by_type(self, asset_type: AssetType) -> list[Asset]:
        """The assets of a type, by symbol."""
        async with self._units() as unit:
            return await self._in(unit).by_type(asset_type)

    async def active(self) -> list[Asset]:
        """The assets that are followed, by symbol."""
        async with self._units() as unit:
            return await self._in(unit).active()

    async def tradable(self) -> list[Asset]:
        """Those that are active and can be traded."""
        async with self._units() as unit:
            return await self._in(unit).tradable()


class AwaitedOptionContractRepository(AwaitedRepository[OptionContract]):
    """Option contracts by symbol."""

    _called = "option_contracts"

    def _in(self, unit: UnitOfWork) -> OptionContractRepository:
        return unit.option_contracts

    async def create(self, **fields: Unpack[OptionContractFields]) -> OptionContract:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: OptionContract | UUID | str, **changes: Unpack[OptionContractFields]
    ) -> OptionContract:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_symbol(self, symbol: str) -> OptionContract:
        """The contract with this OCC symbol; raises NotFoundError without one."""
        async with self._units() as unit:
            return await self._in(unit).by_symbol(symbol)

    async def by_underlying(self, symbol: str, *, expiration: date | None = None) -> list[OptionContract]:
        """The contracts on a symbol, of one expiration or of all."""
        async with self._units() as unit:
            return await self._in(unit).by_underlying(symbol, expiration=expiration)

    async def expiring(self, start: date, end: date) -> list[OptionContract]:
        """Contracts whose expiration date is in `[start, end)`, the nearest first."""
        async with self._units() as unit:
            return await self._in(unit).expiring(start, end)


class AwaitedPolymarketEventRepository(AwaitedRepository[PolymarketEvent]):
    """Prediction-market events by title."""

    _called = "polymarket_events"

    def _in(self, unit: UnitOfWork) -> PolymarketEventRepository:
        return unit.polymarket_events

    async def create(self, **fields: Unpack[PolymarketEventFields]) -> PolymarketEvent:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: PolymarketEvent | UUID | str, **changes: Unpack[PolymarketEventFields]
    ) -> PolymarketEvent:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_event_id(self, event_id: str) -> PolymarketEvent:
        """The event of the venue's id."""
        async with self._units() as unit:
            return await self._in(unit).by_event_id(event_id)

    async def monitored(self) -> list[PolymarketEvent]:
        """Those that are monitored and active."""
        async with self._units() as unit:
            return await self._in(unit).monitored()

    async def by_category(self, category: str) -> list[PolymarketEvent]:
        """The events of a category."""
        async with self._units() as unit:
            return await self._in(unit).by_category(category)

    async def with_markets(self, which: UUID | str) -> PolymarketEvent:
        """The event with `markets` and their `outcomes` loaded."""
        async with self._units() as unit:
            return await self._in(unit).with_markets(which)


class AwaitedPolymarketMarketRepository(AwaitedRepository[PolymarketMarket]):
    """Prediction markets by question."""

    _called = "polymarket_markets"

    def _in(self, unit: UnitOfWork) -> PolymarketMarketRepository:
        return unit.polymarket_markets

    async def create(self, **fields: Unpack[PolymarketMarketFields]) -> PolymarketMarket:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: PolymarketMarket | UUID | str, **changes: Unpack[PolymarketMarketFields]
    ) -> PolymarketMarket:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_condition_id(self, condition_id: str) -> PolymarketMarket:
        """The market with this condition id; raises NotFoundError without one."""
        async with self._units() as unit:
            return await self._in(unit).by_condition_id(condition_id)

    async def by_event(self, event: Which) -> list[PolymarketMarket]:
        """The markets of an event."""
        async with self._units() as unit:
            return await self._in(unit).by_event(event)

    async def with_outcomes(self, which: UUID | str) -> PolymarketMarket:
        """The market with `outcomes` loaded."""
        async with self._units() as unit:
            return await self._in(unit).with_outcomes(which)


class AwaitedPolymarketOutcomeRepository(AwaitedRepository[PolymarketOutcome]):
    """Outcomes by their place in the market."""

    _called = "polymarket_outcomes"

    def _in(self, unit: UnitOfWork) -> PolymarketOutcomeRepository:
        return unit.polymarket_outcomes

    async def create(self, **fields: Unpack[PolymarketOutcomeFields]) -> PolymarketOutcome:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: PolymarketOutcome | UUID | str, **changes: Unpack[PolymarketOutcomeFields]
    ) -> PolymarketOutcome:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_token(self, token_id: str) -> PolymarketOutcome:
        """The outcome of that token, with its `market` and the market's `event` loaded."""
        async with self._units() as unit:
            return await self._in(unit).by_token(token_id)

    async def by_market(self, market: Which) -> list[PolymarketOutcome]:
        """The outcomes of a market."""
        async with self._units() as unit:
            return await self._in(unit).by_market(market)


class AwaitedCorporateActionRepository(AwaitedRepository[CorporateAction]):
    """Corporate actions, oldest first."""

    _called = "corporate_actions"

    def _in(self, unit: UnitOfWork) -> CorporateActionRepository:
        return unit.corporate_actions

    async def create(self, **fields: Unpack[CorporateActionFields]) -> CorporateAction:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: CorporateAction | UUID | str, **changes: Unpack[CorporateActionFields]
    ) -> CorporateAction:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def for_asset(self, asset: Which) -> list[CorporateAction]:
        """The corporate actions of an asset."""
        async with self._units() as unit:
            return await self._in(unit).for_asset(asset)


class AwaitedAccountRepository(AwaitedRepository[Account]):
    """Accounts by name."""

    _called = "accounts"

    def _in(self, unit: UnitOfWork) -> AccountRepository:
        return unit.accounts

    async def create(self, **fields: Unpack[AccountFields]) -> Account:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Account | UUID | str, **changes: Unpack[AccountFields]) -> Account:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_name(self, name: str) -> Account:
        """The account with this name; raises NotFoundError without one."""
        async with self._units() as unit:
            return await self._in(unit).by_name(name)


class AwaitedStrategyRepository(AwaitedRepository[Strategy]):
    """Strategies by name."""

    _called = "strategies"

    def _in(self, unit: UnitOfWork) -> StrategyRepository:
        return unit.strategies

    async def create(self, **fields: Unpack[StrategyFields]) -> Strategy:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Strategy | UUID | str, **changes: Unpack[StrategyFields]) -> Strategy:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def active(self) -> list[Strategy]:
        """The strategies that may trade."""
        async with self._units() as unit:
            return await self._in(unit).active()

    async def by_type(self, strategy_type: str) -> list[Strategy]:
        """The strategies of a type."""
        async with self._units() as unit:
            return await self._in(unit).by_type(strategy_type)

    async def by_name(self, name: str, version: str | None = None) -> Strategy:
        """The strategy of that name; its newest version, if none is given."""
        async with self._units() as unit:
            return await self._in(unit).by_name(name, version)

    async def with_signals(self, which: UUID | str) -> Strategy:
        """The strategy with `signals` loaded, newest first."""
        async with self._units() as unit:
            return await self._in(unit).with_signals(which)


class AwaitedTradingSignalRepository(AwaitedRepository[TradingSignal]):
    """Signals, newest first."""

    _called = "signals"

    def _in(self, unit: UnitOfWork) -> TradingSignalRepository:
        return unit.signals

    async def create(self, **fields: Unpack[TradingSignalFields]) -> TradingSignal:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: TradingSignal | UUID | str, **changes: Unpack[TradingSignalFields]) -> TradingSignal:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def active(self, at: Instant | None = None) -> list[TradingSignal]:
        """Those not acted upon and not expired at that time, by default now."""
        async with self._units() as unit:
            return await self._in(unit).active(at)

    async def unacted(self) -> list[TradingSignal]:
        """Those not acted upon, expired ones too."""
        async with self._units() as unit:
            return await self._in(unit).unacted()

    async def by_strategy(self, strategy: Which) -> list[TradingSignal]:
        """Those of a strategy."""
        async with self._units() as unit:
            return await self._in(unit).by_strategy(strategy)

    async def by_asset(self, asset: Which) -> list[TradingSignal]:
        """Those of an asset."""
        async with self._units() as unit:
            return await self._in(unit).by_asset(asset)


class AwaitedTradeRepository(AwaitedRepository[Trade]):
    """Trades, newest first."""

    _called = "trades"

    def _in(self, unit: UnitOfWork) -> TradeRepository:
        return unit.trades

    async def create(self, **fields: Unpack[TradeFields]) -> Trade:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Trade | UUID | str, **changes: Unpack[TradeFields]) -> Trade:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_asset(self, asset: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of an asset, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_asset(asset, account=account)

    async def by_polymarket_event(self, event: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of an event, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_polymarket_event(event, account=account)

    async def by_strategy(self, strategy: Which, *, account: Which | None = None) -> list[Trade]:
        """Those of a strategy, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_strategy(strategy, account=account)

    async def by_position(self, position: Which) -> list[Trade]:
        """The orders that led to a position or changed it."""
        async with self._units() as unit:
            return await self._in(unit).by_position(position)

    async def by_status(self, *statuses: TradeStatus, account: Which | None = None) -> list[Trade]:
        """Those with one of these statuses, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_status(*statuses, account=account)

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Trade]:
        """Those executed in `[start, end)`."""
        async with self._units() as unit:
            return await self._in(unit).by_date_range(start, end, account=account)

    async def profitable(self, *, account: Which | None = None) -> list[Trade]:
        """Filled trades of positions whose realized P&L is above their commissions."""
        async with self._units() as unit:
            return await self._in(unit).profitable(account=account)

    async def with_fills(self, which: UUID | str) -> Trade:
        """The trade with `fills` loaded, in the order of execution."""
        async with self._units() as unit:
            return await self._in(unit).with_fills(which)


class AwaitedFillRepository(AwaitedRepository[Fill]):
    """Fills in the order of execution."""

    _called = "fills"

    def _in(self, unit: UnitOfWork) -> FillRepository:
        return unit.fills

    async def create(self, **fields: Unpack[FillFields]) -> Fill:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Fill | UUID | str, **changes: Unpack[FillFields]) -> Fill:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_trade(self, trade: Which) -> list[Fill]:
        """The executions of an order."""
        async with self._units() as unit:
            return await self._in(unit).by_trade(trade)

    async def by_position(self, position: Which) -> list[Fill]:
        """The executions of the orders of a position."""
        async with self._units() as unit:
            return await self._in(unit).by_position(position)

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Fill]:
        """Those executed in `[start, end)`."""
        async with self._units() as unit:
            return await self._in(unit).by_date_range(start, end, account=account)


class AwaitedPositionRepository(AwaitedRepository[Position]):
    """Positions, newest first."""

    _called = "positions"

    def _in(self, unit: UnitOfWork) -> PositionRepository:
        return unit.positions

    async def create(self, **fields: Unpack[PositionFields]) -> Position:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Position | UUID | str, **changes: Unpack[PositionFields]) -> Position:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def open(self, *, account: Which | None = None) -> list[Position]:
        """Those that still hold something, partially closed ones too."""
        async with self._units() as unit:
            return await self._in(unit).open(account=account)

    async def closed(self, *, account: Which | None = None) -> list[Position]:
        """The positions that are closed, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).closed(account=account)

    async def by_asset(self, asset: Which, *, account: Which | None = None) -> list[Position]:
        """Those of an asset, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_asset(asset, account=account)

    async def by_polymarket_event(self, event: Which, *, account: Which | None = None) -> list[Position]:
        """Those of an event, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_polymarket_event(event, account=account)

    async def by_strategy(self, strategy: Which, *, account: Which | None = None) -> list[Position]:
        """Those of a strategy, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_strategy(strategy, account=account)

    async def by_status(self, *statuses: PositionStatus, account: Which | None = None) -> list[Position]:
        """Those with one of these statuses, in one account or all."""
        async with self._units() as unit:
            return await self._in(unit).by_status(*statuses, account=account)

    async def by_date_range(self, start: Instant, end: Instant, *, account: Which | None = None) -> list[Position]:
        """Those opened in `[start, end)`."""
        async with self._units() as unit:
            return await self._in(unit).by_date_range(start, end, account=account)

    async def with_trades(self, which: UUID | str) -> Position:
        """The position with `trades` and their `fills` loaded."""
        async with self._units() as unit:
            return await self._in(unit).with_trades(which)

    async def find_open(
        self, *, account: Which, strategy: Which | None, instrument_id: int, lock: bool = False
    ) -> Position | None:
        """The one open position of that account, strategy and instrument; None if it is flat."""
        async with self._units() as unit:
            return await self._in(unit).find_open(
                account=account, strategy=strategy, instrument_id=instrument_id, lock=lock
            )


class AwaitedCashMovementRepository(AwaitedRepository[CashMovement]):
    """Cash movements, oldest first."""

    _called = "cash_movements"

    def _in(self, unit: UnitOfWork) -> CashMovementRepository:
        return unit.cash_movements

    async def create(self, **fields: Unpack[CashMovementFields]) -> CashMovement:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: CashMovement | UUID | str, **changes: Unpack[CashMovementFields]) -> CashMovement:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_account(self, account: Which) -> list[CashMovement]:
        """Every movement of an account's cash."""
        async with self._units() as unit:
            return await self._in(unit).by_account(account)

    async def balance(self, account: Which, *, before: Instant | None = None) -> Decimal:
        """What the account holds in its base currency, of all movements or of those before a time."""
        async with self._units() as unit:
            return await self._in(unit).balance(account, before=before)


class AwaitedSettlementRepository(AwaitedRepository[Settlement]):
    """Settlements, oldest first."""

    _called = "settlements"

    def _in(self, unit: UnitOfWork) -> SettlementRepository:
        return unit.settlements

    async def create(self, **fields: Unpack[SettlementFields]) -> Settlement:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: Settlement | UUID | str, **changes: Unpack[SettlementFields]) -> Settlement:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_position(self, position: Which) -> list[Settlement]:
        """The settlements of a position."""
        async with self._units() as unit:
            return await self._in(unit).by_position(position)


class AwaitedApplicationLogRepository(AwaitedRepository[ApplicationLog]):
    """The program's log, newest first."""

    _called = "application_logs"

    def _in(self, unit: UnitOfWork) -> ApplicationLogRepository:
        return unit.application_logs

    async def create(self, **fields: Unpack[ApplicationLogFields]) -> ApplicationLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: ApplicationLog | UUID | str, **changes: Unpack[ApplicationLogFields]
    ) -> ApplicationLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)


class AwaitedErrorLogRepository(AwaitedRepository[ErrorLog]):
    """Errors, newest first."""

    _called = "error_logs"

    def _in(self, unit: UnitOfWork) -> ErrorLogRepository:
        return unit.error_logs

    async def create(self, **fields: Unpack[ErrorLogFields]) -> ErrorLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: ErrorLog | UUID | str, **changes: Unpack[ErrorLogFields]) -> ErrorLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def unhandled(self) -> list[ErrorLog]:
        """The errors that the program did not handle itself."""
        async with self._units() as unit:
            return await self._in(unit).unhandled()


class AwaitedPerformanceMetricRepository(AwaitedRepository[PerformanceMetric]):
    """Measurements of the system, newest first."""

    _called = "performance_metrics"

    def _in(self, unit: UnitOfWork) -> PerformanceMetricRepository:
        return unit.performance_metrics

    async def create(self, **fields: Unpack[PerformanceMetricFields]) -> PerformanceMetric:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(
        self, which: PerformanceMetric | UUID | str, **changes: Unpack[PerformanceMetricFields]
    ) -> PerformanceMetric:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)


class AwaitedAuditLogRepository(AwaitedRepository[AuditLog]):
    """Who changed what, oldest first."""

    _called = "audit_logs"

    def _in(self, unit: UnitOfWork) -> AuditLogRepository:
        return unit.audit_logs

    async def create(self, **fields: Unpack[AuditLogFields]) -> AuditLog:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: AuditLog | UUID | str, **changes: Unpack[AuditLogFields]) -> AuditLog:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def history(self, entity_type: str, which: Which) -> list[AuditLog]:
        """Every change of one entity, by its table and id, also after its deletion."""
        async with self._units() as unit:
            return await self._in(unit).history(entity_type, which)


class AwaitedJobRunRepository(AwaitedRepository[JobRun]):
    """Runs of batch jobs, newest first."""

    _called = "job_runs"

    def _in(self, unit: UnitOfWork) -> JobRunRepository:
        return unit.job_runs

    async def create(self, **fields: Unpack[JobRunFields]) -> JobRun:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: JobRun | UUID | str, **changes: Unpack[JobRunFields]) -> JobRun:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)

    async def by_job(self, job: str) -> list[JobRun]:
        """The runs of a job."""
        async with self._units() as unit:
            return await self._in(unit).by_job(job)


class AwaitedStreamSessionRepository(AwaitedRepository[StreamSession]):
    """Recordings, newest first."""

    _called = "stream_sessions"

    def _in(self, unit: UnitOfWork) -> StreamSessionRepository:
        return unit.stream_sessions

    async def create(self, **fields: Unpack[StreamSessionFields]) -> StreamSession:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: StreamSession | UUID | str, **changes: Unpack[StreamSessionFields]) -> StreamSession:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)


class AwaitedCoverageGapRepository(AwaitedRepository[CoverageGap]):
    """What recordings missed, oldest first."""

    _called = "coverage_gaps"

    def _in(self, unit: UnitOfWork) -> CoverageGapRepository:
        return unit.coverage_gaps

    async def create(self, **fields: Unpack[CoverageGapFields]) -> CoverageGap:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        async with self._units() as unit:
            return await self._in(unit).create(**fields)

    async def update(self, which: CoverageGap | UUID | str, **changes: Unpack[CoverageGapFields]) -> CoverageGap:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        async with self._units() as unit:
            return await self._in(unit).update(which, **changes)


class AwaitedServices(ThreadedFace[Services]):
    """Every part of the store, to be awaited."""

    @property
    def mirror(self) -> AwaitedMirror:
        """The mirror: `run()`, `status()`, `verify()`, `prune()`, `compact()`, `vacuum()`, `retain()`, `move()`."""
        return AwaitedMirror(self._body.mirror)

    @property
    def sources(self) -> AwaitedSources:
        """Which feeds have rows, and which of them answers first: `list()`, `prefer()`."""
        return AwaitedSources(self._body.sources)

    @property
    def rollups(self) -> AwaitedRollups:
        """Bars that are made beforehand: `keep()`, `list()`, `drop()`, `refresh()`."""
        return AwaitedRollups(self._body.rollups)

    @property
    def market_data(self) -> MarketDataService:
        """Observations one by one or in lists, the instruments they belong to, and the newest of each."""
        return self._body.market_data

    @property
    def journal(self) -> Journal:
        """Logs, errors and measurements of the system."""
        return self._body.journal

    @property
    def audit(self) -> Audit:
        """Who changed what and when, and whether the record is whole."""
        return self._body.audit

    @property
    def trading(self) -> TradingService:
        """Orders and positions, on the simulated venue at the stored market; see `live` and `backtest` for others."""
        return self._body.trading

    def live(self, venue: Venue) -> TradingService:
        """Orders and positions at that venue, such as `medalion.venues.alpaca.AlpacaVenue`, at the stored market."""
        return self._body.live(venue)

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
    ) -> TradingService:
        """Trading in the same books on a market of the past: orders fill at its quotes of their `at`.

        Without `venue` they go to a simulated one, for which the other arguments are: see `PaperVenue`.
        """
        return self._body.backtest(
            market,
            venue=venue,
            commission=commission,
            slippage_bps=slippage_bps,
            respect_size=respect_size,
            latency=latency,
            max_quote_age=max_quote_age,
        )

    @property
    def stats(self) -> Statistics:
        """Value by session, performance and closed trades of accounts."""
        return self._body.stats

    @property
    def jobs(self) -> Jobs:
        """Batch jobs and their runs."""
        return self._body.jobs

    async def read(
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
        return await self._run(self._body.observations.read, dataset, columns=columns, floats=floats, **rows)

    async def scan(
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
        return await self._run(self._body.observations.scan, dataset, columns=columns, floats=floats, **rows)

    async def explain(self, dataset: str | Dataset, *, rollup: bool = False, **rows: Unpack[ReadRange]) -> ReadPlan:
        """How `read` with the same arguments would be answered: store, engine, files, rows and the reason.

        With `rollup` how `bars` would: the reason says what its bars are made from, if they are not stored.

        >>> store.explain("stock_bars", symbols="AAPL", end="2024-01-06").engine
        'polars'
        """
        return await self._run(self._body.observations.explain, dataset, rollup=rollup, **rows)

    async def bars(
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
        return await self._run(
            self._body.observations.bars,
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

    async def quotes(
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
        return await self._run(
            self._body.observations.quotes, symbol, start=start, end=end, as_of=as_of, source=source, floats=floats
        )

    async def latest(
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
        return await self._run(
            self._body.observations.latest, dataset, symbol, timeframe=timeframe, as_of=as_of, source=source
        )

    async def latest_at(
        self, dataset: str | Dataset, symbol: str, t: Instant, *, timeframe: str | None = None
    ) -> dict[str, Any] | None:
        """The newest row of a symbol that was available at `t`, by what is known now, or None; raises as `latest`."""
        return await self._run(self._body.observations.latest_at, dataset, symbol, t, timeframe=timeframe)

    async def asof(
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
        return await self._run(
            self._body.observations.asof,
            left,
            dataset,
            tolerance=tolerance,
            timeframe=timeframe,
            as_of=as_of,
            source=source,
            floats=floats,
        )

    async def sql(
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
        return await self._run(self._body.observations.sql, query, as_of=as_of, timeout=timeout, **params)

    async def write(
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
        return await self._run(
            self._body.ingestion.write, dataset, frame, source=source, idempotency_key=idempotency_key
        )

    async def import_history(
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
        return await self._run(
            self._body.ingestion.import_history,
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

    async def replace(
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
        return await self._run(
            self._body.ingestion.replace,
            dataset,
            frame,
            start=start,
            end=end,
            symbols=symbols,
            timeframe=timeframe,
            source=source,
        )

    async def delete(
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
        return await self._run(
            self._body.ingestion.delete,
            dataset,
            symbols=symbols,
            start=start,
            end=end,
            timeframe=timeframe,
            source=source,
        )

    async def backup(self, folder: str | Path) -> Backup:
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
        return await self._run(self._body.backup, folder)

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets, whether they hold rows or not.

        >>> store.datasets[:3]
        ['stock_quote_snapshots', 'crypto_quote_snapshots', 'stock_bars']
        """
        return self._body.datasets

    async def symbols(self, dataset: str | Dataset | None = None) -> list[str]:
        """What there are rows of, in one dataset or in any, sorted; an instrument without rows is in `assets` alone.

        >>> store.symbols("stock_bars")
        ['AAPL']

        Raises:
            NotFoundError: the dataset is not known.
        """
        return await self._run(self._body.symbols, dataset)

    async def coverage(
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
        return await self._run(self._body.coverage, dataset, symbols=symbols, start=start, end=end, floats=floats)

    @property
    def assets(self) -> AwaitedAssetRepository:
        """Assets by symbol."""
        return AwaitedAssetRepository(self._body.units)

    @property
    def option_contracts(self) -> AwaitedOptionContractRepository:
        """Option contracts by symbol."""
        return AwaitedOptionContractRepository(self._body.units)

    @property
    def polymarket_events(self) -> AwaitedPolymarketEventRepository:
        """Prediction-market events by title."""
        return AwaitedPolymarketEventRepository(self._body.units)

    @property
    def polymarket_markets(self) -> AwaitedPolymarketMarketRepository:
        """Prediction markets by question."""
        return AwaitedPolymarketMarketRepository(self._body.units)

    @property
    def polymarket_outcomes(self) -> AwaitedPolymarketOutcomeRepository:
        """Outcomes by their place in the market."""
        return AwaitedPolymarketOutcomeRepository(self._body.units)

    @property
    def corporate_actions(self) -> AwaitedCorporateActionRepository:
        """Corporate actions, oldest first."""
        return AwaitedCorporateActionRepository(self._body.units)

    @property
    def accounts(self) -> AwaitedAccountRepository:
        """Accounts by name."""
        return AwaitedAccountRepository(self._body.units)

    @property
    def strategies(self) -> AwaitedStrategyRepository:
        """Strategies by name."""
        return AwaitedStrategyRepository(self._body.units)

    @property
    def signals(self) -> AwaitedTradingSignalRepository:
        """Signals, newest first."""
        return AwaitedTradingSignalRepository(self._body.units)

    @property
    def trades(self) -> AwaitedTradeRepository:
        """Trades, newest first."""
        return AwaitedTradeRepository(self._body.units)

    @property
    def fills(self) -> AwaitedFillRepository:
        """Fills in the order of execution."""
        return AwaitedFillRepository(self._body.units)

    @property
    def positions(self) -> AwaitedPositionRepository:
        """Positions, newest first."""
        return AwaitedPositionRepository(self._body.units)

    @property
    def cash_movements(self) -> AwaitedCashMovementRepository:
        """Cash movements, oldest first."""
        return AwaitedCashMovementRepository(self._body.units)

    @property
    def settlements(self) -> AwaitedSettlementRepository:
        """Settlements, oldest first."""
        return AwaitedSettlementRepository(self._body.units)

    @property
    def application_logs(self) -> AwaitedApplicationLogRepository:
        """The program's log, newest first."""
        return AwaitedApplicationLogRepository(self._body.units)

    @property
    def error_logs(self) -> AwaitedErrorLogRepository:
        """Errors, newest first."""
        return AwaitedErrorLogRepository(self._body.units)

    @property
    def performance_metrics(self) -> AwaitedPerformanceMetricRepository:
        """Measurements of the system, newest first."""
        return AwaitedPerformanceMetricRepository(self._body.units)

    @property
    def audit_logs(self) -> AwaitedAuditLogRepository:
        """Who changed what, oldest first."""
        return AwaitedAuditLogRepository(self._body.units)

    @property
    def job_runs(self) -> AwaitedJobRunRepository:
        """Runs of batch jobs, newest first."""
        return AwaitedJobRunRepository(self._body.units)

    @property
    def stream_sessions(self) -> AwaitedStreamSessionRepository:
        """Recordings, newest first."""
        return AwaitedStreamSessionRepository(self._body.units)

    @property
    def coverage_gaps(self) -> AwaitedCoverageGapRepository:
        """What recordings missed, oldest first."""
        return AwaitedCoverageGapRepository(self._body.units)
