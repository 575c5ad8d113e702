"""Journal: what the program says, what goes wrong, and how the system itself performs."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from anyio import to_thread

from medalion.core.enums import ErrorSeverity, LogLevel
from medalion.core.errors import InputError
from medalion.core.money import cash, exact
from medalion.core.text import said, stack_trace, storable, type_name
from medalion.core.time import Instant, TimeRange, utc
from medalion.journal.handler import DatabaseLogHandler
from medalion.journal.retention import Age, Retention
from oltp.entities.base import Entity, now
from oltp.entities.journal import ApplicationLog, ErrorLog, PerformanceMetric
from oltp.repositories.unit_of_work import UnitOfWork, acting
from oltp.server.engine import Postgres

_UNRESOLVED = (
    ErrorLog.resolved_at.is_(None),
    sa.or_(sa.not_(ErrorLog.was_handled), ErrorLog.requires_intervention),
)


class Journal:
    """Writes to the logs and finds in them again; each call commits on its own, so that a log outlives a rollback.

    Correlation ids and actors are by default those of `acting_as`. Texts may hold anything: what PostgreSQL cannot
    store (NUL, half a surrogate pair) is replaced by `�`.
    """

    def __init__(
        self,
        units: Callable[[], UnitOfWork],
        postgres: Postgres,
        closed_with: Callable[[DatabaseLogHandler], object] = lambda handler: None,
    ) -> None:
        self._units = units
        self._postgres = postgres
        self._closed_with = closed_with

    def handler(self, level: int | str = logging.INFO, *, source: str | None = None) -> DatabaseLogHandler:
        """A new handler for `logging` that writes to `application_logs`; closed with the store.

        Add it once, to the logger whose records are to be kept: `logging.getLogger().addHandler(...)`.
        """
        handler = DatabaseLogHandler(self._postgres, level=level, source=source)
        self._closed_with(handler)
        return handler

    async def prune(self, older_than: Age) -> dict[str, int]:
        """Remove old rows for good, in chunks; by table, how many.

        `older_than` is one age for `application_logs`, `error_logs` and `performance_metrics`, or one for each of those
        to be pruned. Errors that nobody has resolved stay, unless they were handled and ask for nobody.

        Raises:
            InputError: an age that is not positive, or an unknown table.
        """
        return await to_thread.run_sync(Retention(self._postgres, older_than).prune)

    async def log(
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
        async with self._units() as unit:
            return await unit.application_logs.create(
                log_level=level,
                category=storable(category),
                message=storable(message),
                exception=None if exception is None else said(exception),
                stack_trace=stack_trace(exception),
                source=None if source is None else storable(source),
                correlation_id=correlation_id or acting().correlation_id,
                log_timestamp=_moment(at),
                additional_data=None if additional_data is None else dict(additional_data),
                **_about(entity),
            )

    async def error(
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
        exception = what if isinstance(what, BaseException) else None
        inner = None if exception is None else exception.__cause__ or exception.__context__
        async with self._units() as unit:
            return await unit.error_logs.create(
                severity=severity,
                category=storable(category),
                error_code=error_code,
                message=storable(message or str(what)),
                exception_type=None if exception is None else type_name(exception),
                exception_details=None if exception is None else said(exception),
                stack_trace=stack_trace(exception),
                inner_exception=None if inner is None else said(inner),
                error_timestamp=_moment(at),
                source=storable(source),
                correlation_id=correlation_id or acting().correlation_id,
                reported_by=acting().actor,
                was_handled=handled,
                requires_intervention=requires_intervention,
                additional_data=None if additional_data is None else dict(additional_data),
                **_about(entity),
            )

    async def resolve(self, error: ErrorLog | UUID | str, notes: str = "") -> ErrorLog:
        """The error, resolved now; `notes` say how.

        Raises:
            NotFoundError: there is no such error.
        """
        which = error.id if isinstance(error, ErrorLog) else error
        async with self._units() as unit:
            return await unit.error_logs.update(which, resolved_at=now(), resolution_notes=storable(notes))

    async def metric(
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
        async with self._units() as work:
            return await work.performance_metrics.create(
                metric_name=name,
                category=category,
                value=_measured(value),
                unit=unit,
                metric_timestamp=_moment(at),
                source=source,
                tags=None if tags is None else dict(tags),
            )

    async def recent_logs(
        self, count: int = 50, *, level: LogLevel | str | None = None, category: str | None = None
    ) -> list[ApplicationLog]:
        """The last `count` lines, newest first; of one level or category if given."""
        given: dict[str, Any] = {"log_level": level, "category": category}
        wanted = {name: value for name, value in given.items() if value is not None}
        async with self._units() as unit:
            return await unit.application_logs.find(limit=count, **wanted)

    async def recent_errors(self, count: int = 50) -> list[ErrorLog]:
        """The last `count` errors, newest first."""
        async with self._units() as unit:
            return await unit.error_logs.find(limit=count)

    async def unresolved_errors(self, count: int | None = None) -> list[ErrorLog]:
        """Errors that nobody has resolved, and that were not handled or require intervention; newest first."""
        async with self._units() as unit:
            return await unit.error_logs.find(*_UNRESOLVED, limit=count)

    async def unacknowledged_error_count(self) -> int:
        """How many errors `unresolved_errors` would list."""
        async with self._units() as unit:
            return await unit.error_logs.count(*_UNRESOLVED)

    async def metrics(
        self, name: str, start: Instant | None = None, end: Instant | None = None
    ) -> list[PerformanceMetric]:
        """The measurements of that name in `[start, end)`, oldest first."""
        during = TimeRange.of(start, end)
        taken = PerformanceMetric.metric_timestamp
        bounds = [] if during.start is None else [taken >= during.start]
        bounds += [] if during.end is None else [taken < during.end]
        async with self._units() as unit:
            return await unit.performance_metrics.find(*bounds, metric_name=name, order=(taken,))


def _about(entity: Entity | None) -> dict[str, Any]:
    return {} if entity is None else {"entity_type": entity.__tablename__, "entity_id": entity.id}


def _moment(at: Instant | None) -> datetime:
    return now() if at is None else utc(at, name="at")


def _measured(value: Decimal | float) -> Decimal:
    if not isinstance(value, float):
        return Decimal(value)
    exactly = Decimal(value)
    if not exactly.is_finite():
        raise InputError(f"a measurement of {value} is none; give a finite number", given=value, expected="finite")
    with exact():
        return cash(exactly)
