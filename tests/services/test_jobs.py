"""A run of a job keeps what it was asked, what it read and what it found; the same run finds the same."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from medalion.core.enums import JobStatus, TradeSide
from medalion.core.errors import InputError, NotFoundError
from medalion.positions.round_trips import Execution
from medalion.store.store import Store
from oltp.entities.base import uuid7
from oltp.entities.operations import JobRun
from tests.support.books import Book

FRIDAY = datetime(2024, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def book(store: Store) -> Book:
    book = Book.opened(store)
    asset = store.market_data.create_or_update_asset("AAPL")
    write_close(store, FRIDAY, "10.1")
    write_close(store, FRIDAY + 3 * DAY, "11")
    book.deposit(FRIDAY, 1000)
    opened = Execution(FRIDAY + 15 * HOUR, "1", TradeSide.BUY, Decimal(10), Decimal(10), Decimal("0.35"))
    closed = Execution(FRIDAY + 90 * HOUR, "2", TradeSide.SELL, Decimal(10), Decimal(11), Decimal("0.35"))
    book.trade(asset, [opened, closed])
    return book


def write_close(store: Store, ts: datetime, close: str) -> None:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    store.market_data.store_stock_bar(symbol="AAPL", timeframe="1Day", ts=ts, volume=1, **prices)


def results_of(run: JobRun) -> dict[str, Any]:
    assert run.results is not None
    return run.results


def test_a_run_keeps_what_it_was_asked_and_what_it_found(store: Store) -> None:
    run = store.jobs.run_statistics(start="2024-03-01", end="2024-03-08", account="paper")
    assert (run.status, run.job, run.error) == (JobStatus.SUCCEEDED, "portfolio_statistics", None)
    assert run.finished_at is not None
    assert run.finished_at >= run.started_at
    assert run.parameters == {
        "start": "2024-03-01T00:00:00+00:00",
        "end": "2024-03-08T00:00:00+00:00",
        "accounts": ["paper"],
        "risk_free": 0.0,
    }
    figures = results_of(run)["paper"]
    assert (figures["opening_value"], figures["closing_value"]) == ("1000.00000000", "1009.30000000")
    assert figures["trades"]["net_profit"] == "9.30000000"
    assert figures["trades"]["average_holding_time"] == 75 * 3600
    assert figures["performance"]["total_return"] == pytest.approx(0.0093)
    assert store.jobs.get(run.id).results == run.results


def test_two_runs_over_the_same_data_report_the_same(store: Store) -> None:
    first = store.jobs.run_statistics()
    store.mirror.run()
    store.mirror.prune()
    second = store.jobs.run_statistics()
    assert second.results == first.results
    assert second.parameters == first.parameters
    assert second.inputs["books"] == first.inputs["books"]
    for name, dataset in first.inputs["datasets"].items():
        assert second.inputs["datasets"][name]["last_write"] == dataset["last_write"]
    assert second.inputs["datasets"]["stock_bars"]["batch"] == 1
    assert [run.id for run in store.jobs.recent(5)] == [second.id, first.id]


def test_an_earlier_run_can_be_repeated_after_a_correction(store: Store) -> None:
    first = store.jobs.run_statistics()
    write_close(store, FRIDAY, "9.5")
    corrected = store.jobs.run_statistics()
    repeated = store.jobs.run_statistics(as_of=first.inputs["as_of"])
    assert repeated.results == first.results
    assert results_of(corrected)["paper"]["performance"] != results_of(first)["paper"]["performance"]
    assert (
        corrected.inputs["datasets"]["stock_bars"]["last_write"] > first.inputs["datasets"]["stock_bars"]["last_write"]
    )


def test_new_books_show_in_the_inputs(store: Store, book: Book) -> None:
    first = store.jobs.run_statistics()
    book.deposit(FRIDAY + DAY, 1)
    assert store.jobs.run_statistics().inputs["books"]["paper"] != first.inputs["books"]["paper"]


def test_every_account_is_reported_by_its_name(store: Store) -> None:
    Book.opened(store, "other")
    assert set(results_of(store.jobs.run_statistics())) == {"other", "paper"}
    assert set(results_of(store.jobs.run_statistics(account="other"))) == {"other"}


def test_a_run_that_fails_says_why(store: Store, book: Book) -> None:
    book.deposit(FRIDAY, 1, currency="EUR")
    with pytest.raises(InputError, match="EUR"):
        store.jobs.run_statistics(account="paper")
    (run,) = store.jobs.recent()
    assert (run.status, run.results) == (JobStatus.FAILED, None)
    assert run.error is not None
    assert "EUR" in run.error
    assert run.finished_at is not None


def test_what_is_not_known_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.jobs.get(uuid7())
    with pytest.raises(NotFoundError):
        store.jobs.run_statistics(account="papre")
    assert store.jobs.recent() == []
