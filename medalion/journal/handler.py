"""What `logging` says, in `application_logs`; the bot never waits for it and never fails by it."""

import json
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from logging.handlers import QueueHandler
from typing import Any

from medalion.core.enums import LogLevel
from medalion.core.text import said, stack_trace, storable
from medalion.journal.writer import Row, RowWriter
from oltp.entities.base import now
from oltp.entities.journal import ApplicationLog
from oltp.repositories.unit_of_work import acting
from oltp.server.engine import Postgres

_COLUMNS = (
    "log_level",
    "category",
    "message",
    "exception",
    "stack_trace",
    "log_timestamp",
    "source",
    "correlation_id",
    "additional_data",
)
_LEVELS = (
    (logging.CRITICAL, LogLevel.CRITICAL),
    (logging.ERROR, LogLevel.ERROR),
    (logging.WARNING, LogLevel.WARNING),
    (logging.INFO, LogLevel.INFORMATION),
    (logging.DEBUG, LogLevel.DEBUG),
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LONGEST = 100_000
_LARGEST = 1_000_000
_DEEPEST = 6


class DatabaseLogHandler(QueueHandler):
    """Writes records to `application_logs` within about `interval` seconds, from a thread of its own.

    A record's logger becomes the category, `extra` the additional data, and the correlation id is that of `acting_as`
    where it was logged. The newest `capacity` records wait while PostgreSQL is away; a record says how many were lost.
    `source` is by default where the call stands. What psycopg's connection pool says, and what is said while writing,
    is left out: it would be about this. Texts over 100,000 characters are cut, and say so. In a forked child it is off.
    """

    def __init__(
        self,
        postgres: Postgres,
        *,
        level: int | str = logging.NOTSET,
        capacity: int = 10_000,
        batch: int = 500,
        interval: float = 1.0,
        source: str | None = None,
    ) -> None:
        self._source = source
        self._writer = RowWriter(
            postgres,
            ApplicationLog.__tablename__,
            _COLUMNS,
            lost=_loss,
            capacity=capacity,
            batch=batch,
            interval=interval,
        )
        super().__init__(self._writer)  # type: ignore[arg-type]  # a handler takes nothing out of its queue
        self.setLevel(level)
        self.addFilter(self._is_of_others)

    @property
    def lost(self) -> int:
        """Records that were never written."""
        return self._writer.lost

    def prepare(self, record: logging.LogRecord) -> Row:
        """The record as plain values, which are queued: what it refers to may change."""
        raised = record.exc_info[1] if record.exc_info else None
        trace = _safely(lambda: stack_trace(raised) or record.exc_text or record.stack_info or "")
        given = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        correlation_id = acting().correlation_id
        source = self._source or f"{record.module}.{record.funcName}:{record.lineno}"
        return (
            next((ours for least, ours in _LEVELS if record.levelno >= least), LogLevel.TRACE).value,
            _cut(record.name, 200),
            _cut(_safely(record.getMessage)),
            None if raised is None else _cut(_safely(lambda: said(raised))),
            _cut(trace) if trace else None,
            datetime.fromtimestamp(record.created, UTC),
            _cut(source, 200),
            None if correlation_id is None else _cut(correlation_id, 100),
            _safely(lambda: _json(given), '{"unreadable": true}') if given else None,
        )

    def flush(self, timeout: float = 5.0) -> None:
        """Wait until every record so far is written, at most `timeout` seconds."""
        self._writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for at most `timeout` seconds, and end. Idempotent."""
        self._writer.close(timeout)
        super().close()

    def _is_of_others(self, record: logging.LogRecord) -> bool:
        return record.name.partition(".")[0] != "psycopg" and not self._writer.is_writing_thread


def _loss(count: int) -> Row:
    said = f"{count} log records were lost: more came than could be written"
    return LogLevel.WARNING.value, __name__, said, None, None, now(), None, None, json.dumps({"lost": count})


def _safely(make: Callable[[], str], otherwise: str | None = None) -> str:
    """What `make` gives; a text about its failure, since whatever objects do when shown must not fail the caller."""
    try:
        return make()
    except Exception as error:
        return otherwise or f"<{type(error).__name__} when this was to be shown>"


def _cut(text: str, length: int = _LONGEST) -> str:
    text = storable(text)
    return text if len(text) <= length else f"{text[: length - 20]}… ({len(text)} long)"


def _json(given: Mapping[str, object]) -> str:
    text = json.dumps(_plain(given))
    return text if len(text) <= _LARGEST else json.dumps({"too_long": len(text)})


def _plain(value: object, depth: int = 0) -> Any:
    """The value as JSON can say it; what it cannot, and what lies deep, as text."""
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() < 64:
            return value
        case float() if math.isfinite(value):
            return value
        case Decimal():
            return str(value)
        case Mapping() if depth < _DEEPEST:
            return {_cut(str(key)): _plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _DEEPEST:
            return [_plain(item, depth + 1) for item in value]
    return _cut(_safely(lambda: str(value)))
