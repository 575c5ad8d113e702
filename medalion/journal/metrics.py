"""What the store measures of itself, buffered on its way to `performance_metrics`."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial, wraps
from threading import Lock
from typing import Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

from medalion.core.text import storable
from medalion.journal.writer import Row, RowWriter
from oltp.server.engine import Postgres

_TABLE = "performance_metrics"
_COLUMNS = ("metric_name", "category", "value", "unit", "metric_timestamp", "source", "tags")
_SOURCE = "medalion"
_LARGEST = 1e18
_TEXT = 500


@dataclass(frozen=True, slots=True)
class Metric:
    """One measurement; `tags` say of what."""

    name: str
    value: float
    unit: str
    category: str = ""
    tags: Mapping[str, str | float] = field(default_factory=dict)
    at: datetime = field(default_factory=partial(datetime.now, UTC))


Record: TypeAlias = Callable[[Metric], None]


def ignore(metric: Metric) -> None:
    """Records nothing."""


class Metrics:
    """Takes measurements at once and writes them later; it never fails or slows what is measured."""

    def __init__(self, postgres: Postgres, *, capacity: int = 10_000, interval: float = 1.0) -> None:
        self._writer = RowWriter(postgres, _TABLE, _COLUMNS, lost=_loss, capacity=capacity, interval=interval)

    def record(self, metric: Metric) -> None:
        """Queue the measurement; one that is no number, or beyond all measure, is left out."""
        if abs(metric.value) < _LARGEST:
            self._writer.put_nowait(_row(metric))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until every measurement so far is written or lost, at most `timeout` seconds; whether it is."""
        return self._writer.flush(timeout)

    def close(self) -> None:
        """Store what waits, for at most two seconds; nothing is recorded any more."""
        self._writer.close(timeout=2.0)


class MirrorMeter:
    """Lag and throughput of the mirror: three metrics a dataset, at most every `interval` seconds.

    The lag is the longest since the last time, from a write to its being in the lake; rows and bytes are all since.
    """

    def __init__(self, record: Record = ignore, *, interval: float = 30.0) -> None:
        self._record = record
        self._interval = interval
        self._lock = Lock()
        self._since: dict[str, list[tuple[float, int, int, float]]] = {}
        self._told: dict[str, float] = {}

    @property
    def is_on(self) -> bool:
        """Whether anybody records; if not, measuring can be spared."""
        return self._record is not ignore

    def copied(self, dataset: str, *, lag: float, rows: int, bytes: int, seconds: float) -> None:
        """A batch was copied in `seconds`; its oldest write had waited for `lag` seconds."""
        with self._lock:
            batches = self._since.setdefault(dataset, [])
            batches.append((lag, rows, bytes, seconds))
            if time.monotonic() - self._told.get(dataset, -self._interval) < self._interval:
                return
            self._told[dataset] = time.monotonic()
            del self._since[dataset]
        lags, counts, sizes, times = zip(*batches, strict=True)
        tags: dict[str, str | float] = {"dataset": dataset, "batches": len(batches), "rows": sum(counts)}
        for name, value, unit in (
            ("mirror_lag", max(lags), "s"),
            ("mirror_rows_per_second", sum(counts) / max(sum(times), 1e-6), "rows/s"),
            ("mirror_bytes_per_batch", sum(sizes) / len(batches), "bytes"),
        ):
            self._record(Metric(name, value, unit, "mirror", tags))


class MeasuredService(Protocol):
    """What has calls worth timing; those that took `slow_ms` or longer are recorded, None records none."""

    slow_ms: float | None
    record: Record


P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=MeasuredService)


def timed(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """The method, whose slow calls are recorded as `query_time` with its name and first argument."""

    @wraps(method)
    def call(body: M, /, *arguments: P.args, **named: P.kwargs) -> R:
        if body.slow_ms is None:
            return method(body, *arguments, **named)
        started = time.perf_counter()
        result = method(body, *arguments, **named)
        if (taken := milliseconds(started)) >= body.slow_ms:
            asked = getattr(arguments[0], "name", None) or str(arguments[0]) if arguments else ""
            body.record(Metric("query_time", taken, "ms", "query", {"call": method.__name__, "asked": asked[:_TEXT]}))
        return result

    return call


def milliseconds(started: float) -> float:
    """Time since `time.perf_counter()` was `started`."""
    return (time.perf_counter() - started) * 1000


def _row(metric: Metric) -> Row:
    tags = storable(json.dumps(dict(metric.tags), ensure_ascii=False)).replace("\\u0000", "")
    value = Decimal(f"{metric.value:.8f}")
    return metric.name, metric.category, value, metric.unit, metric.at, _SOURCE, tags


def _loss(count: int) -> Row:
    return _row(Metric("metrics_lost", count, "rows", "journal"))
