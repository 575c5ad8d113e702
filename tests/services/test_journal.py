"""What is logged is found again with all that was known, and the audit tells who changed what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from medalion.core.enums import ErrorSeverity, LogLevel
from medalion.core.errors import InputError, NotFoundError
from medalion.store.store import Store
from oltp.repositories.unit_of_work import acting_as
from tests.support.server import libpq

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def raised(text: str = "bad tick") -> ValueError:
    try:
        try:
            raise KeyError("price")
        except KeyError as inner:
            raise ValueError(text) from inner
    except ValueError as error:
        return error


def test_a_line_keeps_its_exception_and_whom_it_belongs_to(store: Store) -> None:
    asset = store.assets.create(symbol="AAPL", name="Apple")
    with acting_as("bot-1", correlation_id="run-7"):
        store.journal.log("warning", "feed", "late", exception=raised(), entity=asset, additional_data={"ms": 12})
    (line,) = store.journal.recent_logs()
    assert (line.log_level, line.category, line.message) == (LogLevel.WARNING, "feed", "late")
    assert line.exception == "ValueError: bad tick"
    assert line.stack_trace is not None
    assert "KeyError: 'price'" in line.stack_trace
    assert (line.correlation_id, line.entity_type, line.entity_id) == ("run-7", "assets", asset.id)
    assert line.additional_data == {"ms": 12}


def test_lines_are_found_by_level_newest_first(store: Store) -> None:
    for minute, level in enumerate(("debug", "error", "debug")):
        store.journal.log(level, "bot", f"line {minute}", at=NOON + timedelta(minutes=minute))
    assert [line.message for line in store.journal.recent_logs(2)] == ["line 2", "line 1"]
    assert [line.message for line in store.journal.recent_logs(level="debug")] == ["line 2", "line 0"]


def test_an_error_keeps_type_cause_and_traceback(store: Store) -> None:
    with acting_as("bot-1"):
        store.journal.error(raised(), severity="high", category="feed", handled=False)
    (error,) = store.journal.recent_errors()
    assert (error.severity, error.message, error.exception_type) == (
        ErrorSeverity.HIGH,
        "bad tick",
        "builtins.ValueError",
    )
    assert error.inner_exception == "KeyError: 'price'"
    assert error.stack_trace is not None
    assert "raise ValueError(text)" in error.stack_trace
    assert (error.reported_by, error.was_handled) == ("bot-1", False)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d of a pair"])
def test_any_text_can_be_logged(store: Store, text: str) -> None:
    store.journal.error(ValueError(text))
    store.journal.log("error", "bot", text)
    assert len(store.journal.recent_errors()) == len(store.journal.recent_logs()) == 1


def test_errors_that_need_somebody_count_until_they_are_resolved(store: Store) -> None:
    store.journal.error("handled")
    unhandled = store.journal.error("not handled", handled=False)
    urgent = store.journal.error("look at this", requires_intervention=True)
    assert store.journal.unacknowledged_error_count() == 2
    resolved = store.journal.resolve(unhandled, "restarted")
    assert resolved.resolution_notes == "restarted"
    assert resolved.resolved_at is not None
    assert [error.id for error in store.journal.unresolved_errors()] == [urgent.id]
    with pytest.raises(NotFoundError):
        store.journal.resolve(uuid4())


def test_measurements_come_back_in_order(store: Store) -> None:
    values: tuple[Decimal | float, ...] = (Decimal("0.5"), 1 / 3, 7)
    for minute, value in enumerate(values):
        store.journal.metric("latency", value, "ms", tags={"feed": "a"}, at=NOON + timedelta(minutes=minute))
    found = store.journal.metrics("latency", NOON, NOON + timedelta(minutes=2))
    assert [metric.value for metric in found] == [Decimal("0.5"), Decimal("0.33333333")]
    with pytest.raises(InputError):
        store.journal.metric("latency", float("nan"), "ms")
    with pytest.raises(InputError):
        store.journal.metric("latency", Decimal("0.333333333"), "ms")


def test_a_state_is_told_for_every_time(store: Store) -> None:
    asset = store.assets.create(symbol="AAPL", name="Apple")
    with acting_as("ada", reason="rename"):
        store.assets.update(asset.id, name="Apple Inc.")
    store.assets.delete(asset.id)
    history = store.audit.history(asset)
    assert [entry.action for entry in history] == ["insert", "update", "soft_delete"]
    assert (history[1].performed_by, history[1].reason) == ("ada", "rename")
    assert [entry.id for entry in store.audit.history(str(asset.id))] == [entry.id for entry in history]
    times = [entry.action_timestamp for entry in history]
    states = [store.audit.state_at(asset, at) for at in times]
    assert [(state["name"], state["is_deleted"]) for state in states if state] == [
        ("Apple", False),
        ("Apple Inc.", False),
        ("Apple Inc.", True),
    ]
    assert store.audit.state_at(asset, times[0] - timedelta(microseconds=1)) is None


@pytest.fixture
def intruder(database_url: str) -> Iterator[psycopg.Connection]:
    """Somebody who may switch triggers off."""
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE audit_logs SET performed_by = 'nobody' WHERE version = 2", "not what was written"),
        (
            """UPDATE audit_logs SET new_state = jsonb_set(new_state, '{name}', '"x"') WHERE version = 3""",
            "says otherwise",
        ),
        ("DELETE FROM audit_logs WHERE version = 2", "does not follow"),
        ("DELETE FROM audit_logs WHERE version = 1", "are missing"),
        ("DELETE FROM audit_logs WHERE version = 3", "says otherwise"),
        ("DELETE FROM audit_logs", "has no entry"),
        ("UPDATE assets SET name = 'x'", "says otherwise"),
        ("DELETE FROM assets", "is gone"),
    ],
)
def test_tampering_shows(store: Store, intruder: psycopg.Connection, statement: str, problem: str) -> None:
    asset = store.assets.create(symbol="AAPL", name="Apple")
    for name in ("Apple Inc.", "Apple Computer"):
        store.assets.update(asset.id, name=name)
    assert store.audit.verify() == []
    assert intruder.execute(statement).rowcount > 0
    for problems in (store.audit.verify(), store.audit.verify(asset)):
        assert any(problem in str(found) for found in problems)
        assert {found.entity_id for found in problems} == {asset.id}


def test_a_store_in_use_has_no_audit_problems(store: Store) -> None:
    account = store.accounts.create(name="paper")
    strategy = store.strategies.create(name="cross", configuration={"days": [5, 20], "share": Decimal("0.1")})
    store.strategies.update(strategy.id, configuration={"days": [20, 5]})
    store.accounts.delete(account.id)
    store.accounts.restore(account.id)
    assert store.audit.verify() == []
