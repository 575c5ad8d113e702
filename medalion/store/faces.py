"""What the generated faces stand on: how a call blocks, goes to a thread, or becomes a unit of work of its own."""

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, ParamSpec, TypeVar

import anyio
from anyio import to_thread
from anyio.from_thread import BlockingPortal

from medalion.core.tracebacks import all_told_shortly
from oltp.repositories.unit_of_work import UnitOfWork

B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")


class LoopThread:
    """An event loop in a thread of its own, which does not keep a program alive that forgot to close its store."""

    def __init__(self) -> None:
        self._started: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,), name="medalion-loop", daemon=True)
        self._thread.start()
        self.portal = self._started.result()

    def stop(self) -> None:
        """End the loop, and wait until its thread is over."""
        self.portal.call(self.portal.stop)
        self._thread.join()

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self._started.set_result(portal)
            await portal.sleep_until_stopped()


class Face:
    """Shows its public names, and answers a name that it has not with the nearest."""

    _called: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        all_told_shortly(cls)

    def __dir__(self) -> list[str]:
        return [name for name in dir(type(self)) if not name.startswith("_")]

    def __repr__(self) -> str:
        return f"<{self._called}: {', '.join(dir(self))}>"

    # A type checker that saw it would take every name for one that there is.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if not name.startswith("_") and hasattr(type(self), name):
                object.__getattribute__(self, name)  # what went wrong inside a property is told, not hidden
            near = " or ".join(map(repr, get_close_matches(name, dir(self))))
            # Given a name and no object, the interpreter does not add a guess of its own to ours.
            raise AttributeError(
                f"{self._called} has no {name!r}" + (f"; did you mean {near}?" if near else ""), name=name, obj=None
            )


class BlockingFace(Face, Generic[B]):
    """A body whose coroutines block the caller instead, on the event loop of the store."""

    def __init__(self, body: B, portal: Callable[[], BlockingPortal]) -> None:
        self._body = body
        self._portal = portal

    def _wait(self, method: Callable[P, Awaitable[R]], /, *arguments: P.args, **named: P.kwargs) -> R:
        return self._portal().call(partial(method, *arguments, **named))

    def _within(self, manager: AbstractAsyncContextManager[R]) -> AbstractContextManager[R]:
        return self._portal().wrap_async_context_manager(manager)


class ThreadedFace(Face, Generic[B]):
    """A body that blocks, whose methods run in a worker thread instead, so that the event loop goes on."""

    def __init__(self, body: B) -> None:
        self._body = body

    async def _run(self, method: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> R:
        return await to_thread.run_sync(partial(method, *arguments, **named))


class UnitFace(Face):
    """A repository of which every call is a unit of work of its own, committed when it returns."""

    def __init__(self, units: Callable[[], UnitOfWork]) -> None:
        self._units = units
