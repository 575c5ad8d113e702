"""The command line's view of the journal."""

import json
from datetime import timedelta

import pytest

from medalion.store.store import Store
from oltp.entities.base import now
from tests.support.commands import refused, run

LONG_AGO = now() - timedelta(days=120)


def test_the_journal_is_printed(own_place: tuple[str, ...], store: Store) -> None:
    store.journal.log("warning", "feed", "late")
    store.journal.log("debug", "feed", "tick")
    store.journal.error("handled")
    store.journal.error("open", handled=False)
    for value in (3, 4):
        store.journal.metric("latency", value, "ms")
    lines = json.loads(run(*own_place, "journal", "logs", "--level", "warning", "--format", "json").stdout)
    assert [line["message"] for line in lines] == ["late"]
    errors = json.loads(run(*own_place, "journal", "errors", "--format", "json").stdout)
    assert [error["message"] for error in errors] == ["open", "handled"]
    errors = json.loads(run(*own_place, "journal", "errors", "--unresolved", "--format", "json").stdout)
    assert [error["message"] for error in errors] == ["open"]
    metrics = json.loads(run(*own_place, "journal", "metrics", "latency", "--format", "json").stdout)
    assert [float(metric["value"]) for metric in metrics] == [3, 4]
    assert "no time zone" in refused(run(*own_place, "journal", "metrics", "latency", "--start", "2024-03-01T12:00:00"))


def test_what_is_old_is_removed_as_told_or_as_the_settings_say(
    own_place: tuple[str, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.journal.log("warning", "feed", "late", at=LONG_AGO)
    store.journal.log("warning", "feed", "later", at=LONG_AGO + timedelta(days=100))
    store.journal.error("handled", at=LONG_AGO)
    said = run(*own_place, "journal", "prune").stderr
    assert said == "removed 1 of application_logs, 0 of error_logs, 0 of performance_metrics\n"
    said = run(*own_place, "journal", "prune", "--older-than", "10").stderr
    assert said == "removed 1 of application_logs, 1 of error_logs, 0 of performance_metrics\n"
    for kind in ("LOG", "ERROR", "METRIC"):
        monkeypatch.setenv(f"MEDALION_{kind}_RETENTION_DAYS", "0")
    assert "kept for ever" in run(*own_place, "journal", "prune").stderr
