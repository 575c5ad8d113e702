"""What the audit alone cannot tell, its anchors in the lake do; and an anchor that was tampered with shows itself."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import polars as pl
import psycopg
import pytest

import medalion
from medalion.core.errors import CorruptLakeError, StoreError
from medalion.journal.anchors import AnchorRun, Anchors
from medalion.store.background import BackgroundAnchors
from medalion.store.store import Store
from olap.delta.anchors import AnchorTable
from olap.delta.log import ANCHORED
from olap.places.folder import Folder
from oltp.entities.reference import Asset
from oltp.ledger import anchors as books
from oltp.ledger.anchors import Note
from tests.support.commands import run
from tests.support.postgres import fresh_database
from tests.support.server import libpq

REHASHED = """UPDATE audit_logs AS entry SET hash = sha256(coalesce(previous_hash, ''::bytea)
              || convert_to(medalion_audit_content(entry), 'UTF8'))"""
COPIED = """INSERT INTO audit_logs SELECT (jsonb_populate_record(entry, jsonb_build_object(
                'id', gen_random_uuid(), 'version', 3, 'previous_hash', hash, 'new_state', previous_state,
                'action_timestamp', action_timestamp - interval '1 day'))).*
            FROM audit_logs AS entry WHERE version = 2"""


@pytest.fixture
def intruder(database_url: str) -> Iterator[psycopg.Connection]:
    """Somebody who may switch triggers off."""
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


@pytest.fixture
def strict(store: Store) -> Anchors:
    """Anchors that leave no time for a clock that is set back, which would hide a wrong rule."""
    return Anchors(store._parts.postgres, store._parts.lake, slack=timedelta())


def renamed(store: Store) -> Asset:
    asset: Asset = store.assets.create(symbol="AAPL", name="Apple")
    store.assets.update(asset.id, name="Apple Inc.")
    return asset


def said(store: Store, which: UUID | None = None) -> list[str]:
    return [str(problem) for problem in store.audit.verify(which)]


def test_a_store_in_use_has_no_problems_whenever_it_is_anchored(store: Store) -> None:
    assert store.audit.anchor() == AnchorRun()
    asset = renamed(store)
    other = store.assets.create(symbol="MSFT", name="Microsoft")
    assert store.audit.anchor() == AnchorRun(runs=1, heads=2)
    store.assets.update(asset.id, name="Apple Computer")
    store.assets.delete(other.id)
    assert said(store) == []
    assert store.audit.anchor() == AnchorRun(runs=1, heads=2)
    assert said(store) == said(store, asset.id) == []


def test_what_has_not_changed_is_not_anchored_again(store: Store, strict: Anchors, data_dir: Path) -> None:
    renamed(store)
    assert store.audit.anchor().heads == 1
    before = sorted(data_dir.rglob("*"))
    assert store.audit.anchor() == strict.run() == AnchorRun()
    assert sorted(data_dir.rglob("*")) == before


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (
            ["DELETE FROM audit_logs WHERE version = 2", "UPDATE assets SET name = 'Apple'"],
            r"version 2: entries up to this version were anchored on .*, but the record ends at version 1",
        ),
        (
            ["DELETE FROM audit_logs", "DELETE FROM assets"],
            r"version 2: the record is gone, of which this version was anchored",
        ),
        (
            ["UPDATE audit_logs SET performed_by = 'nobody' WHERE version = 2", REHASHED],
            r"version 2: it says otherwise than when it was anchored",
        ),
        (
            [COPIED, REHASHED, "UPDATE assets SET name = 'Apple'"],
            r"version 3: entries from this version on are from before .*, but not anchored",
        ),
    ],
    ids=["cut tail", "removed chain", "rewritten entry", "added entry"],
)
def test_what_only_an_anchor_knows_shows(
    store: Store, intruder: psycopg.Connection, statements: list[str], problem: str
) -> None:
    asset = renamed(store)
    store.audit.anchor()
    for statement in statements:
        assert intruder.execute(statement).rowcount > 0
    for which in (None, asset.id):
        (found,) = store.audit.verify(which)
        assert (found.entity_type, found.entity_id) == ("assets", asset.id)
        assert re.search(problem, str(found))


def test_an_entity_that_was_slipped_in_with_a_whole_record_shows(store: Store, intruder: psycopg.Connection) -> None:
    renamed(store)
    store.audit.anchor()
    with medalion.acting_as("intruder"):
        forged = store.assets.create(symbol="FAKE", name="Fake")
    assert said(store) == []
    intruder.execute(
        "UPDATE audit_logs SET action_timestamp = action_timestamp - interval '1 day' WHERE entity_id = %s",
        (forged.id,),
    )
    intruder.execute(REHASHED)
    (found,) = store.audit.verify()
    assert (found.entity_id, found.version) == (forged.id, 1)


def test_a_removed_change_shows_after_later_ones_too(store: Store, intruder: psycopg.Connection) -> None:
    asset = renamed(store)
    store.audit.anchor()
    intruder.execute("DELETE FROM audit_logs WHERE version = 2")
    intruder.execute("UPDATE assets SET name = 'Apple'")
    store.assets.update(asset.id, name="Apfel")
    store.audit.anchor()
    (problem,) = said(store)
    assert "version 2: it says otherwise" in problem


def test_a_transaction_that_is_open_during_a_run_is_anchored_by_the_next(
    store: Store, strict: Anchors, database_url: str, intruder: psycopg.Connection
) -> None:
    asset = renamed(store)
    with psycopg.connect(libpq(database_url)) as late:
        late.execute("UPDATE assets SET name = 'late'")
        store.assets.create(symbol="MSFT", name="Microsoft")
        assert strict.run().heads == 2
        late.commit()
    assert said(store) == []
    assert strict.run() == AnchorRun(runs=1, heads=1)
    intruder.execute("DELETE FROM audit_logs WHERE version = 3")
    intruder.execute("UPDATE assets SET name = 'Apple Inc.' WHERE id = %s", (asset.id,))
    (problem,) = said(store)
    assert f"{asset.id} version 3: entries up to this version" in problem


def test_a_transaction_whose_start_is_hidden_holds_the_settled_time_where_it_was(
    store: Store, database_url: str
) -> None:
    asset = renamed(store)
    with (
        psycopg.connect(libpq(database_url), autocommit=True) as observer,
        psycopg.connect(libpq(database_url)) as hidden,
    ):
        observer.execute("SET ROLE pg_checkpoint")
        hidden.execute("UPDATE assets SET name = 'x'")
        assert books.settled(observer, asset.created_at, timedelta()) == asset.created_at
        hidden.commit()
        assert books.settled(observer, asset.created_at, timedelta()) > asset.created_at


def test_many_heads_are_split_into_runs_that_follow_each_other(store: Store) -> None:
    for number in range(5):
        store.assets.create(symbol=f"S{number}", name="S")
    assert Anchors(store._parts.postgres, store._parts.lake, run_heads=2).run() == AnchorRun(runs=3, heads=5)
    assert said(store) == []
    assert store.audit.anchor() == AnchorRun()


def anchored_thrice(store: Store) -> Asset:
    asset: Asset = store.assets.create(symbol="AAPL", name="Apple")
    store.audit.anchor()
    for name in ("Apple Inc.", "Apple Computer"):
        store.assets.update(asset.id, name=name)
        store.audit.anchor()
    return asset


def file_of(folder: Path, number: int) -> Path:
    return folder / str(AnchorTable(Folder(folder.parent)).files().filter(run=number)["path"].item())


def test_a_removed_newest_run_shows_and_stops_anchoring(store: Store, data_dir: Path) -> None:
    asset = anchored_thrice(store)
    (data_dir / "lake" / ANCHORED / "_delta_log" / f"{2:020}.json").unlink()
    for which in (None, asset.id):
        (problem,) = said(store, which)
        assert problem.startswith("audit_anchors run 3: it was noted, but ")
    with pytest.raises(CorruptLakeError, match="nothing was anchored"):
        store.audit.anchor()


def test_a_removed_run_shows_and_those_around_it_still_count(
    store: Store, data_dir: Path, intruder: psycopg.Connection
) -> None:
    asset = anchored_thrice(store)
    file_of(data_dir / "lake" / ANCHORED, 2).unlink()
    (problem,) = said(store)
    assert problem.startswith("audit_anchors run 2: ")
    intruder.execute("DELETE FROM audit_logs")
    assert f"assets {asset.id} version 3: the record is gone" in "\n".join(said(store))


def test_removed_anchors_show(store: Store, data_dir: Path) -> None:
    anchored_thrice(store)
    shutil.rmtree(data_dir / "lake" / ANCHORED)
    (problem,) = said(store)
    assert problem.startswith("audit_anchors run 3: it was noted, but ")


@pytest.mark.parametrize("number", [1, 3])
def test_a_changed_run_shows(store: Store, data_dir: Path, number: int) -> None:
    anchored_thrice(store)
    file = file_of(data_dir / "lake" / ANCHORED, number)
    pl.read_parquet(file).with_columns(pl.col("version") + 1).write_parquet(file)
    (problem,) = said(store)
    assert problem == f"audit_anchors run {number}: its content is not what was written"


def test_a_run_that_was_written_anew_shows(store: Store, data_dir: Path) -> None:
    asset = anchored_thrice(store)
    table = AnchorTable(Folder(data_dir / "lake"))
    genuine = table.run(table.files(), 3)
    shutil.rmtree(str(table.place))
    forged = replace(genuine, number=1, previous=None)
    table.append(forged)
    assert [problem.split(":")[0] for problem in said(store, asset.id)] == [
        "audit_anchors run 3",
        "audit_anchors run 1",
    ]


def test_several_anchor_at_once_and_each_head_is_anchored_once(store: Store, database_url: str, data_dir: Path) -> None:
    for number in range(10):
        store.assets.create(symbol=f"S{number}", name="S")
    done: list[AnchorRun] = []
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        threads = [threading.Thread(target=lambda one=one: done.append(one.audit.anchor())) for one in (store, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(one.heads for one in done) == [0, 10]
    assert said(store) == []


def test_the_background_does_not_wait_for_who_anchors_now(store: Store) -> None:
    renamed(store)
    parts = store._parts
    with parts.postgres.connection() as connection, books.leading(connection):
        assert parts.anchors.run(wait=False) == AnchorRun()
    assert parts.anchors.run(wait=False).heads == 1


def test_a_run_that_died_before_the_lake_had_it_is_forgotten(store: Store, strict: Anchors) -> None:
    anchored_thrice(store)
    with store._parts.postgres.connection() as connection:
        books.claim(connection, Note(4, nonce=1, checksum=1), rows=1)
    assert said(store) == []
    assert strict.run() == AnchorRun()
    store.assets.create(symbol="MSFT", name="Microsoft")
    assert strict.run().runs == 1
    assert said(store) == []


def test_a_run_that_died_after_the_lake_had_it_is_finished(store: Store, strict: Anchors) -> None:
    anchored_thrice(store)
    with store._parts.postgres.connection() as connection:
        connection.execute("UPDATE mirror_batches SET status = 'claimed', done_at = NULL WHERE number = 3")
        assert said(store) == []
        assert strict.run() == AnchorRun()
        assert books.notes(connection)[3].is_done
    assert said(store) == []


def test_the_lake_of_another_store_is_refused_and_not_touched(store: Store, data_dir: Path, tmp_path: Path) -> None:
    anchored_thrice(store)
    before = sorted(data_dir.rglob("*"))
    with fresh_database() as url:
        with medalion.open(url, data_dir=tmp_path, mirror_background=False) as other:
            other.assets.create(symbol="AAPL", name="Apple")
            other.audit.anchor()
        with medalion.open(url, data_dir=data_dir, mirror_background=False) as other:
            with pytest.raises(CorruptLakeError, match="belongs to store"):
                other.audit.anchor()
            assert any("not the run that was noted" in problem for problem in said(other))
    assert sorted(data_dir.rglob("*")) == before


def test_books_that_are_an_older_copy_show_what_they_lost(store: Store, intruder: psycopg.Connection) -> None:
    asset = anchored_thrice(store)
    intruder.execute("DELETE FROM mirror_batches WHERE number = 3")
    intruder.execute("DELETE FROM audit_logs WHERE version = 3")
    intruder.execute("UPDATE assets SET name = 'Apple Inc.'")
    problems = said(store)
    assert any("run 3" in problem and "never noted" in problem for problem in problems)
    assert any(f"{asset.id} version 3: entries up to this version" in problem for problem in problems)


def test_an_open_store_anchors_by_itself_and_survives_a_lake_that_is_away(
    store: Store, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data_dir / "lake" / ANCHORED
    folder.write_text("in the way")
    renamed(store)
    with pytest.raises(StoreError):
        store.audit.anchor()
    background = BackgroundAnchors(store._parts.anchors, interval=0.01, first=0.01)
    background.start()
    until = time.monotonic() + 10
    while not caplog.records and time.monotonic() < until:
        time.sleep(0.01)
    folder.unlink()
    while not folder.exists() and time.monotonic() < until:
        time.sleep(0.01)
    background.stop()
    assert "is not anchored for now" in caplog.records[0].message
    assert store.audit.anchor() == AnchorRun()
    assert said(store) == []


@pytest.mark.anyio
async def test_the_awaitable_face_anchors(database_url: str, data_dir: Path) -> None:
    async with medalion.open_async(database_url, data_dir=data_dir, mirror_background=False) as store:
        await store.assets.create(symbol="AAPL", name="Apple")
        assert (await store.audit.anchor()).heads == 1
        assert await store.audit.verify() == []


def test_the_commands_anchor_and_exit_with_1_after_a_cut(
    own_place: tuple[str, ...], store: Store, intruder: psycopg.Connection
) -> None:
    asset = renamed(store)
    assert "anchored the records of 1 entities" in run(*own_place, "audit", "anchor").stderr
    assert "nothing has changed" in run(*own_place, "audit", "anchor").stderr
    assert run(*own_place, "audit", "verify").exit_code == 0
    intruder.execute("DELETE FROM audit_logs WHERE version = 2")
    intruder.execute("UPDATE assets SET name = 'Apple'")
    cut = run(*own_place, "audit", "verify")
    assert cut.exit_code == 1
    assert str(asset.id) in cut.stdout
