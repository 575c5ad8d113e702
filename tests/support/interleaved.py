"""One thing held up at a chosen step while another happens, for tests of what may come between."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import psycopg
import pytest

from medalion.core.datasets import STOCK_QUOTES, Dataset
from medalion.core.frames import conform
from oltp.hot.writes import WriteResult, write
from oltp.server.engine import Connection
from tests.support.observed import sample
from tests.support.server import libpq
from tests.support.server_processes import await_that

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """What was going on ended here, as if its process had died."""


def stop(*_: object, **__: object) -> NoReturn:
    raise Stopped


@contextmanager
def stopped_at(target: object, name: str) -> Iterator[None]:
    """Within, whoever calls that step ends there, and somebody has to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, stop)
        with pytest.raises(Stopped):
            yield


@contextmanager
def first(target: object, name: str, before: Callable[[], object]) -> Iterator[None]:
    """Within, something else happens just before that step is called for the first time."""
    step, waiting = getattr(target, name), [before]

    def called(*arguments: Any, **named: Any) -> Any:
        if waiting:
            waiting.pop()()
        return step(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, called)
        yield
    assert not waiting, "the step was not called"


def connected(url: str) -> Connection:
    return psycopg.connect(libpq(url), autocommit=True, options="-c timezone=UTC")


@contextmanager
def open_write(url: str, dataset: Dataset = STOCK_QUOTES, **how: Any) -> Iterator[WriteResult]:
    """A write of a few rows that is committed at the end."""
    with connected(url) as connection, connection.transaction():
        yield write(connection, dataset, conform(dataset, sample(dataset, **how), source="manual"), source="manual")


def waits(books: Connection) -> bool:
    """Whether somebody else waits for a lock in the database."""
    statement = """SELECT EXISTS (SELECT FROM pg_stat_activity
                                  WHERE datname = current_database() AND wait_event_type = 'Lock')"""
    return books.execute(statement).fetchone() == (True,)


def waiting(books: Connection, work: Callable[[], T]) -> "Future[T]":
    """`work` in a thread, which by now waits for a lock unless it is done; whoever holds the lock gives it back."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    await_that(lambda: future.done() or waits(books))
    return future
