"""Store and AsyncStore: open, wire the parts, close."""

import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from decimal import Decimal
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from anyio import to_thread
from anyio.from_thread import BlockingPortal

from medalion.core.errors import StoreError
from medalion.core.settings import Settings, settings_of
from medalion.market.quotes import Market, StoredMarket
from medalion.services.audit import Audit
from medalion.services.jobs import Jobs
from medalion.services.journal import Journal
from medalion.services.market_data import MarketDataService
from medalion.services.mirror import Mirror
from medalion.services.observations import Observations
from medalion.services.statistics import Statistics
from medalion.services.trading import TradingService
from medalion.store.faces import Blocking, LoopThread, RepositoryFace, Threaded
from medalion.store.parts import Parts
from medalion.venues.base import Venue
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from oltp.repositories.unit_of_work import UnitOfWork

P = ParamSpec("P")
R = TypeVar("R")


def _direct(method: Callable[Concatenate[Observations, P], R]) -> Callable[Concatenate["Store", P], R]:
    @wraps(method)
    def call(store: "Store", /, *arguments: P.args, **named: P.kwargs) -> R:
        return method(store._parts.used().observations, *arguments, **named)

    return call


def _threaded(
    method: Callable[Concatenate[Observations, P], R],
) -> Callable[Concatenate["AsyncStore", P], Coroutine[Any, Any, R]]:
    @wraps(method)
    async def call(store: "AsyncStore", /, *arguments: P.args, **named: P.kwargs) -> R:
        return await to_thread.run_sync(partial(method, store._parts.used().observations, *arguments, **named))

    return call


def _blocking(method: Callable[Concatenate["AsyncStore", P], object]) -> Callable[Concatenate["Store", P], Any]:
    @wraps(method)
    def call(store: "Store", /, *arguments: P.args, **named: P.kwargs) -> Any:
        return Blocking(method(store._services, *arguments, **named), store._loop)

    return call


class AsyncStore:
    """The store on an event loop: `async with medalion.open_async() as store:`; queries and CPU work run in threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: Parts | None = None

    @property
    def _parts(self) -> Parts:
        if self._opened is None:
            raise StoreError("this store is not open; use `async with medalion.open_async() as store:`")
        return self._opened

    async def __aenter__(self) -> Self:
        self._opened = await to_thread.run_sync(Parts, self._settings)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give everything back; the embedded server stops with its last user. Idempotent."""
        if self._opened is not None and not self._opened.is_closed:
            await self._opened.postgres.dispose()
            await to_thread.run_sync(self._opened.close)

    def __getattr__(self, name: str) -> Any:
        if name in UnitOfWork.repositories():
            return RepositoryFace(self._parts.units, name)
        raise AttributeError(f"a store has no {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *UnitOfWork.repositories()]

    def __repr__(self) -> str:
        return f"AsyncStore({self._opened.postgres!r})" if self._opened else "AsyncStore(not open)"

    @property
    def mirror(self) -> Any:
        """The mirror: `run()`, `status()`, `verify()`, `prune()`, `compact()`, `vacuum()`, `retain()`."""
        return Threaded(self._parts.used().mirror)

    @property
    def rollups(self) -> Any:
        """Bars that are made beforehand: `keep()`, `list()`, `drop()`, `refresh()`."""
        return Threaded(self._parts.used().rollups)

    @property
    def market_data(self) -> MarketDataService:
        """Observations one by one or in lists, the instruments they belong to, and the newest of each."""
        parts = self._parts.used()
        return MarketDataService(parts.observations, parts.units)

    @property
    def journal(self) -> Journal:
        """Logs, errors and measurements of the system."""
        parts = self._parts.used()
        return Journal(parts.units, parts.postgres, parts.handlers.append)

    @property
    def audit(self) -> Audit:
        """Who changed what and when, and whether the record is whole."""
        parts = self._parts.used()
        return Audit(parts.units, parts.anchors)

    @property
    def trading(self) -> TradingService:
        """Orders and positions, on the simulated venue at the stored market; see `live` and `backtest` for others."""
        return self.backtest(StoredMarket(self))

    def live(self, venue: Venue) -> TradingService:
        """Orders and positions at that venue, such as `medalion.venues.alpaca.AlpacaVenue`, at the stored market."""
        return self.backtest(StoredMarket(self), venue=venue)

    def backtest(
        self,
        market: Market,
        *,
        venue: Venue | None = None,
        commission: CommissionSchedule = CommissionSchedule(),  # noqa: B008 - it is frozen
        slippage_bps: Decimal = Decimal(0),
        respect_size: bool = False,
        latency: timedelta | None = None,
        max_quote_age: timedelta | None = None,
    ) -> TradingService:
        """Trading in the same books on a market of the past: orders fill at its quotes of their `at`.

        Without `venue` they go to a simulated one, for which the other arguments are: see `PaperVenue`.
        """
        parts = self._parts.used()
        if venue is None:
            venue = PaperVenue(
                parts.sessions,
                market,
                commission=commission,
                slippage_bps=slippage_bps,
                respect_size=respect_size,
                latency=latency,
                max_quote_age=max_quote_age,
            )
        return TradingService(parts.units, venue, market, record=parts.metrics.record)

    @property
    def stats(self) -> Statistics:
        """Value by session, performance and closed trades of accounts."""
        parts = self._parts.used()
        return Statistics(parts.observations, parts.units)

    @property
    def jobs(self) -> Jobs:
        """Batch jobs and their runs."""
        parts = self._parts.used()
        return Jobs(parts.units, self.stats, parts.postgres, parts.lake)

    write = _threaded(Observations.write)
    import_history = _threaded(Observations.import_history)
    delete = _threaded(Observations.delete)
    read = _threaded(Observations.read)
    scan = _threaded(Observations.scan)
    explain = _threaded(Observations.explain)
    bars = _threaded(Observations.bars)
    quotes = _threaded(Observations.quotes)
    latest = _threaded(Observations.latest)
    latest_at = _threaded(Observations.latest_at)
    asof = _threaded(Observations.asof)
    sql = _threaded(Observations.sql)


class Store:
    """The store for notebooks and scripts: every call blocks until it is done. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._parts = Parts(settings)
        self._services = AsyncStore(settings)
        self._services._opened = self._parts
        self._loop_thread: LoopThread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back; the embedded server stops with its last user. Idempotent."""
        if not self._parts.is_ours:
            return
        with self._lock:
            loop, self._loop_thread = self._loop_thread, None
        if loop is not None:
            loop.portal.call(self._parts.postgres.dispose)
            loop.stop()
        self._parts.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Blocking(getattr(self._services, name), self._loop)

    def __dir__(self) -> list[str]:
        return [name for name in {*super().__dir__(), *dir(self._services)} if name[0] != "_"]

    def __repr__(self) -> str:
        return f"Store({self._parts.postgres!r})"

    @property
    def mirror(self) -> Mirror:
        """The mirror: `run()`, `status()`, `verify()`, `prune()`, `compact()`, `vacuum()`, `retain()`."""
        return self._parts.used().mirror

    def _loop(self) -> BlockingPortal:
        """The event loop on which the async services run, in a thread of its own, started on first use."""
        self._parts.used()
        with self._lock:
            if self._loop_thread is None:
                self._loop_thread = LoopThread()
            return self._loop_thread.portal

    live = _blocking(AsyncStore.live)
    backtest = _blocking(AsyncStore.backtest)
    write = _direct(Observations.write)
    import_history = _direct(Observations.import_history)
    delete = _direct(Observations.delete)
    read = _direct(Observations.read)
    scan = _direct(Observations.scan)
    explain = _direct(Observations.explain)
    bars = _direct(Observations.bars)
    quotes = _direct(Observations.quotes)
    latest = _direct(Observations.latest)
    latest_at = _direct(Observations.latest_at)
    asof = _direct(Observations.asof)
    sql = _direct(Observations.sql)


def open(
    url: str | None = None, *, lake: str | Path | None = None, data_dir: str | Path | None = None, **settings: Any
) -> Store:
    """An open store; use it with `with`, or call `close()`.

    Without `url` (or MEDALION_DATABASE_URL) an embedded PostgreSQL keeps the books in `data_dir`, by default
    ./medalion-data; several processes may open it at once. With a URL the server must have the schema already. `lake`
    is a folder, by default `data_dir`/lake, or `s3://bucket/prefix` with keys in the environment's `AWS_*`. Further
    settings are those of `medalion.core.settings.Settings`.

    Raises:
        InputError: a setting is wrong, or a folder cannot be written to.
        StoreUnavailableError: PostgreSQL is not reachable.
        StoreError: its schema is not that of this release.
    """
    return Store(settings_of(url, lake, data_dir, settings))


def open_async(
    url: str | None = None, *, lake: str | Path | None = None, data_dir: str | Path | None = None, **settings: Any
) -> AsyncStore:
    """The same on an event loop: `async with medalion.open_async() as store:`."""
    return AsyncStore(settings_of(url, lake, data_dir, settings))
