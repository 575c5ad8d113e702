"""Store and AsyncStore: open, close, and what is between on the faces that are generated."""

import atexit
import logging
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack
from weakref import WeakSet

from anyio import to_thread
from anyio.from_thread import BlockingPortal

from medalion.core.errors import StoreError
from medalion.core.settings import Settings, settings_of
from medalion.core.tracebacks import told_shortly
from medalion.store.awaited import AwaitedServices
from medalion.store.blocking import BlockingServices
from medalion.store.card import card, html
from medalion.store.faces import LoopThread
from medalion.store.fields import SettingsFields
from medalion.store.parts import Parts
from medalion.store.services import Services
from medalion.store.spec import StoreSpec

_logger = logging.getLogger(__name__)
_open: WeakSet["Store | AsyncStore"] = WeakSet()
_opened_for: dict[str, "Store"] = {}


class AsyncStore(AwaitedServices):
    """The store on an event loop: `async with medalion.open_async() as store:`; queries and CPU work run in threads.

    `store = await medalion.open_async()` opens it as well, and `await store.close()` or the program's end closes it.
    """

    _called = "a store"

    def __init__(self, settings: Settings) -> None:
        super().__init__(Services(lambda: self._parts.used()))
        self._settings = settings
        self._opened: Parts | None = None

    @property
    def _parts(self) -> Parts:
        if self._opened is None:
            raise StoreError("this store is not open; use `async with medalion.open_async() as store:`")
        return self._opened

    async def __aenter__(self) -> Self:
        if self._opened is None:
            self._opened = await to_thread.run_sync(Parts, self._settings)
            _open.add(self)
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give everything back; the embedded server stops with its last user. Idempotent."""
        if self._opened is not None and not self._opened.is_closed:
            await self._opened.postgres.dispose()
            await to_thread.run_sync(self._opened.close)

    def _close_at_exit(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def __reduce__(self) -> tuple[Callable[[StoreSpec], "AsyncStore"], tuple[StoreSpec]]:
        return _async_store_of, (StoreSpec.of(self._settings),)

    def __repr__(self) -> str:
        return f"AsyncStore({self._opened or 'not open'})"


class Store(BlockingServices):
    """The store for notebooks and scripts: every call blocks until it is done. Safe to use from several threads.

    It can be pickled: where it is unpickled, as in a pool of spawned processes, it opens its own on the same data.
    """

    _called = "a store"

    def __init__(self, settings: Settings) -> None:
        self._parts = Parts(settings)
        super().__init__(Services(self._parts.used), self._loop)
        self._loop_thread: LoopThread | None = None
        self._lock = threading.Lock()
        _open.add(self)

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

    def _close_at_exit(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[StoreSpec], "Store"], tuple[StoreSpec]]:
        return _store_of, (StoreSpec.of(self._parts.settings),)

    def __repr__(self) -> str:
        return f"Store({self._parts})"

    def _repr_html_(self) -> str:
        """What it holds, for a notebook."""
        if self._parts.is_closed or not self._parts.is_ours:
            return html(repr(self), None)
        return html(repr(self), card(self.coverage()))

    def _loop(self) -> BlockingPortal:
        """The event loop on which the async services run, in a thread of its own, started on first use."""
        self._parts.used()
        with self._lock:
            if self._loop_thread is None:
                self._loop_thread = LoopThread()
            return self._loop_thread.portal


def _store_of(spec: StoreSpec) -> Store:
    """The store of that spec in this process, opened once however often it is sent here."""
    key = repr(spec)
    store = _opened_for.get(key)
    if store is None or store._parts.is_closed:
        store = _opened_for[key] = Store(spec.settings())
    return store


def _async_store_of(spec: StoreSpec) -> AsyncStore:
    return AsyncStore(spec.settings())


@atexit.register
def _close_all() -> None:
    """A program that ends without closing its stores, or dies of an exception, leaves nothing behind and says nothing.

    What fails now, when threads and modules are on their way out, only a debugger wants to know.
    """
    for store in list(_open):
        try:
            store._close_at_exit()
        except Exception:
            _logger.debug("a store was not closed at exit", exc_info=True)


@told_shortly
def open(
    url: str | None = None,
    *,
    lake: str | Path | None = None,
    data_dir: str | Path | None = None,
    **settings: Unpack[SettingsFields],
) -> Store:
    """An open store; use it with `with`, or call `close()`.

    Without `url` (or MEDALION_DATABASE_URL) an embedded PostgreSQL keeps the books in `data_dir`, by default
    ./medalion-data; several processes may open it at once. With a URL the server must have the schema already. `lake`
    is a folder, by default `data_dir`/lake, or `s3://bucket/prefix` with keys in the environment's `AWS_*`. Further
    settings are those of `medalion.core.settings.Settings`.

    >>> with medalion.open() as store:  # doctest: +SKIP
    ...     bars = store.bars("AAPL", "1Day", start="2024-01-01")
    >>> store = medalion.open("postgresql://me@db.example/trading", mirror_interval=5)  # doctest: +SKIP

    Raises:
        InputError: a setting is wrong, or a folder cannot be written to.
        StoreUnavailableError: PostgreSQL is not reachable.
        StoreError: its schema is not that of this release.
    """
    return Store(settings_of(url, lake, data_dir, {**settings}))


def open_async(
    url: str | None = None,
    *,
    lake: str | Path | None = None,
    data_dir: str | Path | None = None,
    **settings: Unpack[SettingsFields],
) -> AsyncStore:
    """The same on an event loop: every call is awaited, and it is open from `async with` on.

    >>> async def newest():
    ...     async with medalion.open_async() as store:
    ...         return await store.latest("crypto_quote_snapshots", "BTC/USD")

    Raises:
        InputError, StoreUnavailableError, StoreError: as `open`, on entering.
    """
    return AsyncStore(settings_of(url, lake, data_dir, {**settings}))
