"""The store measures itself without anyone noticing, and the journal loses only what may go."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import InputError
from medalion.core.settings import Settings
from medalion.journal.metrics import Metric, MirrorMeter
from medalion.journal.retention import Retention, retention_ages
from medalion.store.background import BackgroundRetention
from medalion.store.store import Store
from oltp.entities.base import now
from tests.support.observed import instruments, sample
from tests.support.trading_floor import floor

DAY = timedelta(days=1)


def test_the_mirror_tells_how_far_behind_it_was(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 8))
    time.sleep(0.2)
    done = store.mirror.run([STOCK_QUOTES])
    assert done.rows == 8
    assert store._parts.metrics.flush()
    (lag,) = store.journal.metrics("mirror_lag")
    assert Decimal("0.2") <= lag.value < 60
    assert (lag.unit, lag.category, lag.source) == ("s", "mirror", "medalion")
    assert lag.tags == {"dataset": STOCK_QUOTES.name, "batches": 1, "rows": 8}
    (rate,) = store.journal.metrics("mirror_rows_per_second")
    (size,) = store.journal.metrics("mirror_bytes_per_batch")
    assert rate.value > 0
    assert size.value > 100
    store.mirror.run([STOCK_QUOTES])
    assert store._parts.metrics.flush()
    assert len(store.journal.metrics("mirror_lag")) == 1


def test_a_busy_mirror_is_summed_up() -> None:
    told: list[Metric] = []
    meter = MirrorMeter(told.append, interval=0.2)
    for lag in (1.0, 5.0, 2.0):
        meter.copied("stock_bars", lag=lag, rows=10, bytes=100, seconds=0.5)
    assert [metric.value for metric in told] == [1, 20, 100]
    time.sleep(0.25)
    meter.copied("stock_bars", lag=3.0, rows=40, bytes=400, seconds=0.5)
    assert [metric.value for metric in told[3:]] == [5, 40, 200]
    assert told[3].tags == {"dataset": "stock_bars", "batches": 3, "rows": 60}


def test_slow_queries_are_recorded_where_asked_for(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, slow_query_ms=0) as store:
        instruments(store, STOCK_QUOTES.kind)
        store.read(STOCK_QUOTES)
        store.sql("SELECT count(*) FROM stock_quote_snapshots WHERE symbol = $symbol", symbol="AAA")
        assert store._parts.metrics.flush()
        first, second = store.journal.metrics("query_time")
    assert (first.tags, first.unit) == ({"call": "read", "asked": STOCK_QUOTES.name}, "ms")
    assert second.tags is not None
    assert second.tags["call"] == "sql"
    assert 0 < first.value < 60_000
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, slow_query_ms=600_000) as store:
        store.read(STOCK_QUOTES)
        assert store._parts.metrics.flush()
        assert len(store.journal.metrics("query_time")) == 2


def test_what_is_no_measurement_is_left_out(store: Store) -> None:
    metrics = store._parts.metrics
    for value in (float("nan"), float("inf"), 1e30, 0.123456789):
        metrics.record(Metric("odd", value, "ms", tags={"asked": "\x00\ud83d"}))
    assert metrics.flush()
    assert [metric.value for metric in store.journal.metrics("odd")] == [Decimal("0.12345679")]


def test_rows_that_the_database_refuses_are_counted_and_hold_up_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = store._parts.metrics
    metrics.record(Metric("x" * 201, 1.0, "ms"))
    assert metrics.flush()
    metrics.record(Metric("latency", 1.0, "ms"))
    assert metrics.flush()
    assert len(store.journal.metrics("latency")) == 1
    assert [metric.value for metric in store.journal.metrics("metrics_lost")] == [1]
    assert "PostgreSQL refuses 1 rows of performance_metrics" in caplog.text


@pytest.mark.anyio
async def test_an_order_tells_how_long_venue_and_books_took(database_url: str) -> None:
    told: list[Metric] = []
    async with floor(database_url) as desk:
        desk.service._desk = replace(desk.service._desk, record=told.append)
        desk.board.show("AAPL", "100")
        await desk.service.execute_market_order(account=desk.account, symbol="AAPL", side="buy", quantity=1)
    venue, order = told
    assert (venue.name, order.name) == ("venue_latency", "order_latency")
    assert 0 < venue.value < order.value
    assert order.tags == {"account_type": "paper"}


def fill(store: Store, *ages: int) -> None:
    for age in ages:
        at = now() - age * DAY - timedelta(hours=1)
        store.journal.log("warning", "bot", str(age), at=at)
        store.journal.metric("latency", age, "ms", at=at)


def test_only_what_is_older_goes(store: Store) -> None:
    fill(store, 1, 5, 10, 20)
    assert store.journal.prune(10 * DAY) == {"application_logs": 2, "error_logs": 0, "performance_metrics": 2}
    assert [line.message for line in store.journal.recent_logs()] == ["1", "5"]
    assert store.journal.prune({"application_logs": 5 * DAY}) == {"application_logs": 1}
    assert [line.message for line in store.journal.recent_logs()] == ["1"]
    assert [metric.value for metric in store.journal.metrics("latency")] == [5, 1]


def test_errors_go_when_they_are_over(store: Store) -> None:
    long_ago = now() - 100 * DAY
    store.journal.error("handled", at=long_ago)
    resolved = store.journal.error("resolved just now", handled=False, at=long_ago)
    store.journal.error("open", handled=False, at=long_ago)
    store.journal.error("urgent", requires_intervention=True, at=long_ago)
    store.journal.error("handled today")
    store.journal.resolve(resolved)
    assert store.journal.prune({"error_logs": 10 * DAY}) == {"error_logs": 1}
    store.error_logs.update(resolved.id, resolved_at=long_ago + DAY)
    assert store.journal.prune({"error_logs": 10 * DAY}) == {"error_logs": 1}
    assert {error.message for error in store.journal.recent_errors()} == {"open", "urgent", "handled today"}


def test_much_goes_in_chunks(store: Store) -> None:
    fill(store, *range(3, 10))
    retention = Retention(store._parts.postgres, {"application_logs": DAY}, chunk=3)
    assert retention.prune() == {"application_logs": 7}
    assert store.journal.recent_logs() == []


@pytest.mark.parametrize("older_than", [timedelta(), -DAY, {"trades": DAY}])
def test_an_age_must_make_sense(store: Store, older_than: timedelta | dict[str, timedelta]) -> None:
    with pytest.raises(InputError):
        store.journal.prune(older_than)


def test_settings_say_what_is_kept() -> None:
    settings = Settings(log_retention_days=7, error_retention_days=0)
    assert retention_ages(settings) == {"application_logs": 7 * DAY, "performance_metrics": 90 * DAY}


def test_an_open_store_prunes_by_itself(store: Store) -> None:
    fill(store, 1, 100)
    retention = BackgroundRetention(store._parts.postgres, Settings(), first=0.01)
    retention.start()
    until = time.monotonic() + 10
    while len(store.journal.recent_logs()) > 1 and time.monotonic() < until:
        time.sleep(0.05)
    retention.stop()
    assert [line.message for line in store.journal.recent_logs()] == ["1"]


def test_measurements_are_of_their_own_time(store: Store) -> None:
    at = datetime(2024, 3, 1, 12, tzinfo=UTC)
    store._parts.metrics.record(Metric("latency", 1.5, "ms", at=at))
    assert store._parts.metrics.flush()
    assert [metric.metric_timestamp for metric in store.journal.metrics("latency")] == [at]
