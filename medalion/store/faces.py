"""The two faces of one body: what blocks, for an event loop; what is awaited, for blocking callers."""

import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any

import anyio
from anyio import to_thread
from anyio.from_thread import BlockingPortal

from oltp.repositories.unit_of_work import UnitOfWork


class RepositoryFace:
    """One repository; every call is a unit of work of its own, committed when it returns."""

    def __init__(self, units: Callable[[], UnitOfWork], name: str) -> None:
        self._units = units
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        repository = UnitOfWork.repositories()[self._name]
        described = getattr(repository, method)
        if method.startswith("_") or not inspect.iscoroutinefunction(described):
            raise AttributeError(f"{self._name} has no method {method!r}")

        @wraps(described)
        async def call(*arguments: Any, **named: Any) -> Any:
            async with self._units() as unit:
                return await getattr(getattr(unit, self._name), method)(*arguments, **named)

        return call

    def __dir__(self) -> list[str]:
        repository = UnitOfWork.repositories()[self._name]
        return [name for name, member in inspect.getmembers(repository, inspect.iscoroutinefunction) if name[0] != "_"]

    def __repr__(self) -> str:
        return f"<{self._name}: {', '.join(dir(self))}>"


class LoopThread:
    """An event loop in a thread of its own, which does not keep a program alive that forgot to close its store."""

    def __init__(self) -> None:
        self._started: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,), name="medalion-loop", daemon=True)
        self._thread.start()
        self.portal = self._started.result()

    def stop(self) -> None:
        self.portal.call(self.portal.stop)
        self._thread.join()

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._started.set_result(portal)
            await portal.sleep_until_stopped()


class Blocking:
    """An object whose coroutines block the caller instead, on the portal's event loop."""

    def __init__(self, body: object, portal: Callable[[], BlockingPortal]) -> None:
        self._body = body
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._body, name)
        if not inspect.iscoroutinefunction(member):
            return member

        @wraps(member)
        def call(*arguments: Any, **named: Any) -> Any:
            return self._portal().call(partial(member, *arguments, **named))

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._body) if name[0] != "_"]

    def __repr__(self) -> str:
        return repr(self._body)


class Threaded:
    """An object whose methods run in a worker thread, so that the event loop goes on."""

    def __init__(self, body: object) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._body, name)
        if not inspect.ismethod(member):
            return member

        @wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            return await to_thread.run_sync(partial(member, *arguments, **named))

        return call

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._body) if name[0] != "_"]

    def __repr__(self) -> str:
        return repr(self._body)
