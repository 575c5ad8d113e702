"""The commands that keep a store: mirror, db, stats, audit and report."""

import json
import signal
from datetime import datetime
from pathlib import Path

import pytest

from medalion.core.datasets import DATASETS, STOCK_BARS
from medalion.store.store import Store
from oltp.schema import revision
from tests.support.commands import BARS, process, refused, run
from tests.support.postgres import empty_database


def test_the_mirror_copies_and_prunes(own_place: tuple[str, ...], store: Store) -> None:
    store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
    store.write(STOCK_BARS, BARS)
    assert "copied 30 rows in 1 batches to" in run(*own_place, "mirror", "run").stderr
    assert "copied 0 rows in 0 batches" in run(*own_place, "mirror", "run").stderr
    assert "removed 30 rows" in run(*own_place, "mirror", "prune").stderr
    assert store.explain(STOCK_BARS).hot_rows == 0
    assert store.read(STOCK_BARS).height == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_mirrors_what_comes_and_ends_gracefully(
    own_place: tuple[str, ...], store: Store, number: signal.Signals
) -> None:
    with process(*own_place, "mirror", "watch", "--interval", "0.05") as watcher:
        assert watcher.stderr is not None
        assert "mirroring every 0.05 s" in watcher.stderr.readline()
        store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
        store.write(STOCK_BARS, BARS)
        assert "copied 30 rows" in watcher.stderr.readline()
        watcher.send_signal(number)
        out, rest = watcher.communicate(timeout=30)
    assert (watcher.returncode, out, rest[20:]) == (0, "", " stopped\n")
    assert datetime.fromisoformat(rest[:20]).tzinfo is not None


def test_status_shows_what_waits_and_verify_what_differs(own_place: tuple[str, ...], store: Store) -> None:
    store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
    store.write(STOCK_BARS, BARS)
    rows = json.loads(run(*own_place, "mirror", "status", "--format", "json").stdout)
    assert {row["dataset"]: row["unmirrored_rows"] for row in rows} == dict.fromkeys(DATASETS, 0) | {"stock_bars": 30}
    store.mirror.run()
    assert run(*own_place, "mirror", "verify").exit_code == 0
    for file in Path(own_place[3]).rglob("*.parquet"):
        file.unlink()
    drift = run(*own_place, "mirror", "verify")
    assert drift.exit_code == 1
    assert "stock_bars" in drift.stdout
    healed = run(*own_place, "mirror", "verify", "--heal", "--format", "json")
    assert {row["outcome"] for row in json.loads(healed.stdout)} == {"repaired"}  # the rows were hot still
    assert healed.exit_code == 0
    assert run(*own_place, "mirror", "verify").exit_code == 0


@pytest.mark.server
def test_a_database_is_upgraded_checked_and_taken_back(data_dir: Path) -> None:
    with empty_database() as url:
        options = ("--url", url, "--data-dir", str(data_dir), "db")
        assert run(*options, "current").stdout == "none\n"
        assert "medalion db upgrade" in refused(run(*options[:4], "read", "stock_bars"), code=3)
        assert run(*options, "check").exit_code == 1
        assert run(*options, "upgrade").exit_code == 0
        assert run(*options, "current").stdout == f"{revision.head()}\n"
        assert run(*options, "check").exit_code == 0
        assert run(*options, "downgrade", "base").exit_code == 1
        assert run(*options, "current").stdout == f"{revision.head()}\n"
        assert run(*options, "downgrade", "base", "--yes").exit_code == 0
        assert run(*options, "current").stdout == "none\n"


def test_the_script_is_sql_that_creates_the_schema() -> None:
    script = run("db", "script").stdout
    assert "CREATE TABLE accounts" in script
    assert script.rstrip().endswith("COMMIT;")


def test_statistics_are_run_listed_and_shown(own_place: tuple[str, ...], store: Store) -> None:
    store.accounts.create(name="paper")
    ran = run(*own_place, "stats", "run", "--account", "paper", "--format", "json")
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["status"] == "succeeded"
    assert list(found["results"]) == ["paper"]
    (listed,) = json.loads(run(*own_place, "stats", "list", "--format", "json").stdout)
    assert listed["id"] == found["id"]
    table = run(*own_place, "stats", "show", found["id"]).stdout
    assert "performance.sharpe_ratio" in table
    assert run(*own_place, "stats", "show", found["id"], "--format", "json").stdout == ran.stdout


def test_history_shows_every_change_and_verify_finds_a_forged_one(own_place: tuple[str, ...], store: Store) -> None:
    asset = store.assets.create(symbol="AAPL", name="Appel", asset_type="stock")
    store.assets.update(asset.id, name="Apple")
    entries = json.loads(run(*own_place, "audit", "history", str(asset.id), "--format", "json").stdout)
    assert [(entry["version"], entry["action"]) for entry in entries] == [(1, "insert"), (2, "update")]
    assert '"Appel"' in entries[1]["changes"]
    assert run(*own_place, "audit", "verify").exit_code == 0
    with store._parts.postgres.connection() as connection:
        connection.execute("ALTER TABLE assets DISABLE TRIGGER USER")
        connection.execute("UPDATE assets SET name = 'Pear'")
        connection.execute("ALTER TABLE assets ENABLE TRIGGER USER")
    forged = run(*own_place, "audit", "verify")
    assert forged.exit_code == 1
    assert str(asset.id) in forged.stdout


def test_a_report_is_written_for_the_only_account(own_place: tuple[str, ...], store: Store, tmp_path: Path) -> None:
    store.accounts.create(name="paper <b>")
    target = tmp_path / "report.html"
    result = run(*own_place, "report", str(target))
    assert (result.exit_code, result.stdout) == (0, f"{target}\n"), result.output
    assert "paper &lt;b&gt;" in target.read_text(encoding="utf-8")
    store.accounts.create(name="live")
    assert "--account" in refused(run(*own_place, "report", str(target)))
