"""Rows on their way to PostgreSQL: queued without waiting, written in batches by a thread."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import psycopg

from medalion.core.errors import InputError, StoreError
from oltp.server.engine import Postgres

Row: TypeAlias = Sequence[Any]

_logger = logging.getLogger(__name__)
_LONGEST_PAUSE = 10.0


# Not `logging.handlers.QueueListener`: it handles one record after the other, where a batch is one statement; it lets
# none give way while PostgreSQL is away; it can be stopped, which waits for ever, but not flushed. And of its queues
# `Queue` has a lock at which a signal handler that logs waits for itself, `SimpleQueue` no bound.
class RowWriter:
    """Writes rows of one table about every `interval` seconds or `batch` rows, oldest first.

    `columns` are all but the id. Nothing here raises, and `put_nowait` never waits for PostgreSQL: while it is away the
    queue keeps the newest `capacity` rows. Where rows were lost, the row that `lost` makes of their number follows the
    next that were not. A forked child writes nothing.
    """

    def __init__(
        self,
        postgres: Postgres,
        table: str,
        columns: Sequence[str],
        *,
        lost: Callable[[int], Row],
        capacity: int = 10_000,
        batch: int = 500,
        interval: float = 1.0,
    ) -> None:
        self._postgres = postgres
        self._table = table
        self._columns = columns
        self._row_about = lost
        self._capacity = capacity
        self._batch = batch
        self._interval = interval
        self._pid = os.getpid()
        # A signal handler or finalizer may interrupt `put_nowait` and log, and would wait for itself at another lock or
        # queue. For the same reason ids are made by the writing thread.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._rows: deque[Row] = deque()
        self._flight: list[Row] = []
        self._settled = threading.Condition()
        self._written = 0
        self._queued = 0
        self._lost = 0
        self._lost_told = 0
        self._is_closing = False
        self._is_away = False
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Rows that were never written: the queue was full, PostgreSQL refused them, or was away at the end."""
        return self._lost

    @property
    def is_writing_thread(self) -> bool:
        """Whether the caller runs in this writer's own thread."""
        return threading.current_thread() is self._thread

    def put_nowait(self, row: Row) -> None:
        """Queue a row; the oldest one gives way where the queue is full."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._is_closing:
                return
            self._queued += 1
            if len(self._rows) >= self._capacity:
                self._rows.popleft()
                self._lost += 1
            self._rows.append(row)
            if self._thread is None:
                self._start()
            if len(self._rows) == self._batch:
                self._wake.put(None)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything queued before is written or lost, at most `timeout` seconds; whether it is."""
        if self._pid != os.getpid() or self.is_writing_thread:
            return False
        asked = self._queued
        self._wake.put(None)
        with self._settled:
            return self._settled.wait_for(lambda: self._written + self._lost >= asked, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, for at most `timeout` seconds, and end. Idempotent; nothing in a forked child."""
        if self._pid != os.getpid() or self._is_closing:
            return
        until = time.monotonic() + timeout
        self.flush(timeout)
        with self._lock:
            self._is_closing = True
        self._wake.put(None)
        if self._thread is not None:
            self._thread.join(max(0.1, until - time.monotonic()))
        if left := self._queued - self._written - self._lost:
            self._lost += left
            _logger.warning("%d rows of %s are lost: PostgreSQL is away", left, self._table)

    def _start(self) -> None:
        # Known before it runs, so that a record made meanwhile does not start another.
        name = f"medalion-{self._table}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None  # The interpreter is ending; `close` will say how many were lost.

    def _run(self) -> None:
        pause, is_closing = 0.0, False
        while not is_closing:
            with suppress(Empty):
                self._wake.get(timeout=max(self._interval, pause))
            is_closing = self._is_closing
            pause = 0.0 if self._wrote_all() else min(max(2 * pause, self._interval), _LONGEST_PAUSE)

    def _wrote_all(self) -> bool:
        """Whether nothing is left; False where PostgreSQL is away, and the rows in flight wait for it."""
        # The mapped classes are loaded by whoever has something to write: a read records nothing.
        from oltp.entities.base import uuid7
        from oltp.repositories.bulk import add_rows

        while self._take():
            lost = self._lost
            told = [(uuid7(), *self._row_about(lost - self._lost_told))] if lost > self._lost_told else []
            try:
                with self._postgres.connection() as connection:
                    add_rows(connection, self._table, ("id", *self._columns), [*self._flight, *told])
            except (InputError, psycopg.IntegrityError):
                _logger.exception("PostgreSQL refuses %d rows of %s", len(self._flight), self._table)
                with self._lock:
                    self._lost += len(self._flight)
            except (StoreError, psycopg.Error) as error:
                if not self._is_away:
                    _logger.warning("rows of %s wait: %s", self._table, error)
                self._is_away = True
                return False
            else:
                self._is_away = False
                self._lost_told = lost
                self._written += len(self._flight)
            self._flight.clear()
            with self._settled:
                self._settled.notify_all()
        return True

    def _take(self) -> bool:
        """Whether there are rows in flight, now or still."""
        with self._lock:
            count = min(len(self._rows), self._batch - len(self._flight))
            taken = [self._rows.popleft() for _ in range(count)]
        from oltp.entities.base import uuid7

        # Outside the lock, which is held for nobody else's work.
        self._flight += [(uuid7(), *row) for row in taken]
        return bool(self._flight)
