"""Rules of the store's protocol, each in the one order of steps in which a store without it is wrong: books and reads.

`tests.machines.mutants` switches every rule off, and shows that a test notices.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import medalion
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError, StoreUnavailableError
from medalion.ingest import history
from medalion.observations import latest, selection, sql
from medalion.store.store import Store
from olap.delta.tables import LakeTable
from oltp.hot import tail
from oltp.hot.tables import SLOTS, partition_name
from oltp.hot.writes import open_write_mark
from oltp.ledger import batches
from oltp.ledger.folding import fold
from oltp.ledger.removals import abandon_removal, enter_removal
from oltp.server.engine import Connection, holding
from tests.support.interleaved import Stopped, connected, first, open_write, stopped_at, waiting
from tests.support.lake import pin_of, table_of
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.postgres import fresh_database
from tests.support.server import libpq

LONG_AGO = timedelta()


@pytest.fixture
def filled(store: Store) -> Store:
    """Four rows, which are hot."""
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    return store


@pytest.fixture
def other(filled: Store, database_url: str, data_dir: Path) -> Iterator[Store]:
    """Another process at the store, which has seen the lake without rows."""
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        assert store.read(STOCK_QUOTES).height == 4
        yield store


def height(store: Store) -> int:
    return store.read(STOCK_QUOTES).height


def mirrored_and_emptied(store: Store) -> None:
    store.mirror.run([STOCK_QUOTES])
    assert store.mirror.prune([STOCK_QUOTES]) > 0


def test_a_write_draws_number_and_time_once_it_is_marked(filled: Store, books: Connection) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    with holding(books, open_write_mark(STOCK_QUOTES), wait=True):
        writing = waiting(books, lambda: filled.write(STOCK_QUOTES, rows_at(10)))
        books.execute("UPDATE mirror_state SET settled = %s", (ahead,))
        books.execute("SELECT setval('write_id_seq', 100)")
    assert writing.result(60).write_id > 100
    assert writing.result(60).recorded_at > ahead


def test_the_ring_takes_only_an_empty_slot(filled: Store, books: Connection) -> None:
    for slot in range(SLOTS):
        assert batches.current_slot(books, STOCK_QUOTES) == slot
        assert batches.advance(books, STOCK_QUOTES, rows=4) is (slot < SLOTS - 1)
        filled.write(STOCK_QUOTES, rows_at(slot))
    filled.mirror.run([STOCK_QUOTES])
    assert batches.prune(books, STOCK_QUOTES, 3) == 4
    assert batches.advance(books, STOCK_QUOTES, rows=4)
    assert batches.current_slot(books, STOCK_QUOTES) == 3


def test_the_ring_turns_by_rows(filled: Store, books: Connection) -> None:
    assert not batches.advance(books, STOCK_QUOTES, rows=5)
    filled.write(STOCK_QUOTES, rows_at(10, 1))
    assert batches.advance(books, STOCK_QUOTES, rows=5)


def test_a_slot_is_emptied_while_a_write_into_another_is_open(
    filled: Store, books: Connection, database_url: str
) -> None:
    assert batches.advance(books, STOCK_QUOTES, rows=4)
    filled.mirror.run([STOCK_QUOTES])
    with open_write(database_url):
        assert filled.mirror.prune([STOCK_QUOTES]) == 4


def test_entries_that_a_removal_names_are_not_folded(filled: Store, books: Connection) -> None:
    mirrored_and_emptied(filled)
    enter_removal(books, STOCK_QUOTES, {1: (1, 7)}, nonce=1)
    assert fold(books, STOCK_QUOTES, age=LONG_AGO, key_age=None) == 0
    abandon_removal(books, STOCK_QUOTES)
    assert fold(books, STOCK_QUOTES, age=LONG_AGO, key_age=None) == 1


def test_an_import_that_is_not_in_the_lake_yet_is_not_folded(filled: Store, books: Connection) -> None:
    filled.mirror.run([STOCK_QUOTES])
    with stopped_at(LakeTable, "append"):
        filled.import_history(STOCK_QUOTES, rows_at(10))
    assert fold(books, STOCK_QUOTES, age=LONG_AGO, key_age=LONG_AGO) == 0
    filled.mirror.run([STOCK_QUOTES])
    assert fold(books, STOCK_QUOTES, age=LONG_AGO, key_age=LONG_AGO) == 1


def test_a_batch_of_another_under_the_same_number_is_not_taken_for_ours(
    filled: Store, books: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = LakeTable.append

    def of_another(self: LakeTable, files: Any, *, batch: int, nonce: int) -> None:
        append(self, files, batch=batch, nonce=nonce ^ 1)
        raise Stopped

    monkeypatch.setattr(LakeTable, "append", of_another)
    with pytest.raises(Stopped):
        filled.mirror.run([STOCK_QUOTES])
    with pytest.raises(CorruptLakeError, match="another store"):
        filled.mirror.run([STOCK_QUOTES])
    assert [batch.status for batch in batches.last_batches(books, STOCK_QUOTES)] == ["claimed"]


@pytest.mark.parametrize("waits_for", ["a claim", "a copy"])
def test_a_lake_whose_last_batch_is_of_another_gets_no_more(filled: Store, books: Connection, waits_for: str) -> None:
    filled.mirror.run([STOCK_QUOTES])
    filled.write(STOCK_QUOTES, rows_at(10))
    if waits_for == "a copy":
        with stopped_at(LakeTable, "append"):
            filled.mirror.run([STOCK_QUOTES])
    books.execute("UPDATE mirror_batches SET nonce = nonce # 1 WHERE number = 1")
    with pytest.raises(CorruptLakeError, match="another store"):
        filled.mirror.run([STOCK_QUOTES])
    assert pin_of(filled).batch == 1


def test_two_stores_at_the_same_batch_are_told_apart(filled: Store, data_dir: Path) -> None:
    filled.mirror.run([STOCK_QUOTES])
    with fresh_database() as url:
        with medalion.open(url, data_dir=data_dir.with_name("theirs"), mirror_background=False) as theirs:
            instruments(theirs, STOCK_QUOTES.kind)
            theirs.write(STOCK_QUOTES, rows_at(10))
            theirs.mirror.run([STOCK_QUOTES])
        with medalion.open(url, data_dir=data_dir, mirror_background=False) as theirs:
            uses: list[Callable[[], object]] = [
                lambda: height(theirs),
                lambda: theirs.sql(f"SELECT count(*) FROM {STOCK_QUOTES.name}"),
                lambda: theirs.mirror.run(),
                lambda: theirs.write(STOCK_QUOTES, rows_at(0)),
            ]
            for use in uses:
                with pytest.raises(CorruptLakeError, match=r"another store|belongs to store"):
                    use()


def test_a_replica_that_is_behind_is_waited_for_and_not_for_ever(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, pin = table_of(filled, STOCK_QUOTES), pin_of(filled)
    selection.ReadRetries().wait(table, pin, is_behind=True)
    monkeypatch.setattr(selection, "_REPLICA_SECONDS", 0.0)
    with pytest.raises(StoreUnavailableError, match="has not replayed"):
        selection.ReadRetries().wait(table, pin, is_behind=True)


def test_a_write_is_claimed_once(filled: Store, books: Connection, database_url: str) -> None:
    with connected(database_url) as one, connected(database_url) as other:
        with one.transaction():
            assert batches.claim(one, STOCK_QUOTES, number=1, rows=100) is not None
            too = waiting(books, lambda: batches.claim(other, STOCK_QUOTES, number=2, rows=100))
            assert not too.done()
        assert too.result(60) is None
        assert batches.claim(one, STOCK_QUOTES, number=2, rows=100) is None


def test_a_claim_is_durable_whatever_the_server_is_told(filled: Store, books: Connection) -> None:
    books.execute(
        """CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF current_setting('synchronous_commit') <> 'on' THEN RAISE 'not durable'; END IF; RETURN NEW;
           END $$;
           CREATE TRIGGER told BEFORE INSERT ON mirror_batches FOR EACH ROW EXECUTE FUNCTION told()"""
    )
    books.execute("SET synchronous_commit = off")
    assert batches.claim(books, STOCK_QUOTES, number=1, rows=100) is not None


def test_a_write_that_commits_while_the_pruner_waits_keeps_its_rows(
    filled: Store, books: Connection, database_url: str
) -> None:
    class Patient(psycopg.Connection[Any]):
        """Waits as long as it takes, so that the order of things does not hang on the machine."""

        def execute(self, query: Any, *arguments: Any, **named: Any) -> Any:
            query = "SET LOCAL lock_timeout = '60s'" if "lock_timeout" in str(query) else query
            return super().execute(query, *arguments, **named)

    filled.mirror.run([STOCK_QUOTES])
    with Patient.connect(libpq(database_url), autocommit=True) as pruner:
        with open_write(database_url, n=4, start=START + timedelta(minutes=10)):
            pruned = waiting(books, lambda: batches.prune(pruner, STOCK_QUOTES, 0))
        assert pruned.result(60) is None
    assert height(filled) == 8


def test_the_pruner_gives_way_to_a_write(filled: Store, books: Connection, database_url: str) -> None:
    filled.mirror.run([STOCK_QUOTES])
    books.execute("SET statement_timeout = '5s'")
    with open_write(database_url):
        assert batches.prune(books, STOCK_QUOTES, 0) is None


def test_rows_at_the_ends_of_a_range_are_found_while_they_are_hot(filled: Store) -> None:
    last = START + timedelta(minutes=3)
    assert filled.read(STOCK_QUOTES, start=last)["ts"].to_list() == [last]
    assert filled.read(STOCK_QUOTES, end=START + timedelta(microseconds=1))["ts"].to_list() == [START]
    assert filled.read(STOCK_QUOTES, symbols="BBB", start=last).height == 1


def test_rows_that_go_between_two_looks_at_the_books_are_not_missed(filled: Store, other: Store) -> None:
    with first(selection, "tail_rows", lambda: mirrored_and_emptied(filled)):
        assert height(other) == 4


def test_rows_that_go_while_a_read_waits_for_them_are_not_missed(
    filled: Store, other: Store, books: Connection, database_url: str
) -> None:
    filled.mirror.run([STOCK_QUOTES])
    with connected(database_url) as pruner:
        with pruner.transaction():
            pruner.execute(f"LOCK TABLE {partition_name(STOCK_QUOTES, 0)} IN ACCESS EXCLUSIVE MODE".encode())
            read = waiting(books, lambda: height(other))
            assert not read.done()
            assert batches.prune(pruner, STOCK_QUOTES, 0) == 4
        assert read.result(60) == 4


def test_rows_that_go_within_the_snapshot_of_a_query_are_not_missed(filled: Store, other: Store) -> None:
    tail_rows = tail.tail_rows

    def late(connection: Any, *arguments: Any, **named: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM writes")  # from here on the snapshot stands
            cursor.fetchall()
        if pin_of(filled).batch == 0:
            mirrored_and_emptied(filled)
        return tail_rows(connection, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "tail_rows", late)
        assert other.sql(f"SELECT count(*) FROM {STOCK_QUOTES.name}").fetchall() == [(4,)]


def test_a_query_sees_several_datasets_at_one_moment(filled: Store) -> None:
    filled.write(STOCK_BARS, sample(STOCK_BARS, 4))
    tail_rows, seen = tail.tail_rows, []

    def between(connection: Any, dataset: Any, **named: Any) -> Any:
        seen.append(dataset)
        if len(seen) == 2:
            for each in (STOCK_BARS, STOCK_QUOTES):
                filled.write(each, sample(each, 4, start=START + timedelta(hours=1)))
        return tail_rows(connection, dataset, **named)

    query = f"SELECT (SELECT count(*) FROM {STOCK_BARS.name}), (SELECT count(*) FROM {STOCK_QUOTES.name})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "tail_rows", between)
        assert filled.sql(query).fetchall() == [(4, 4)]
    assert filled.sql(query).fetchall() == [(8, 8)]


def test_a_time_is_settled_by_a_clock_read_before_the_open_writes_are_looked_for(
    filled: Store, books: Connection, database_url: str
) -> None:
    with connected(database_url) as holder, connected(database_url) as settler, ExitStack() as rest:
        with holder.transaction():
            holder.execute("UPDATE mirror_state SET slot = slot")
            settling = waiting(books, lambda: batches.settle(settler, STOCK_QUOTES))
            assert not settling.done()
            opened = rest.enter_context(open_write(database_url))
        assert settling.result(60) < opened.recorded_at


def test_a_time_is_not_settled_while_the_start_of_an_open_write_is_hidden(
    filled: Store, books: Connection, database_url: str
) -> None:
    books.execute("GRANT SELECT, UPDATE ON mirror_state, writes, mirror_batches TO pg_checkpoint")
    try:
        with open_write(database_url) as opened:
            books.execute("SET ROLE pg_checkpoint")
            assert batches.settle(books, STOCK_QUOTES) < opened.recorded_at
        assert batches.settle(books, STOCK_QUOTES) > opened.recorded_at
    finally:
        books.execute("RESET ROLE")
        books.execute("REVOKE ALL ON mirror_state, writes, mirror_batches FROM pg_checkpoint")


def test_a_time_is_not_settled_while_an_import_is_claimed(filled: Store, books: Connection) -> None:
    with stopped_at(LakeTable, "append"):
        filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    (recorded_at,) = books.execute("SELECT recorded_at FROM writes WHERE kind = 'import'").fetchone() or (None,)
    with pytest.raises(InputError, match="not settled"):
        filled.read(STOCK_QUOTES, as_of=recorded_at)
    filled.mirror.run([STOCK_QUOTES])
    assert filled.read(STOCK_QUOTES, as_of=recorded_at).height == 8


def test_an_import_finishes_the_batch_that_was_claimed_before_it(filled: Store) -> None:
    with stopped_at(LakeTable, "append"):
        filled.mirror.run([STOCK_QUOTES])
    filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    assert height(filled) == 8
    assert pin_of(filled).batch == 2
    assert filled.mirror.verify([STOCK_QUOTES]).is_empty()


def test_an_import_waits_for_who_leads_before_it_is_claimed(
    filled: Store, books: Connection, database_url: str
) -> None:
    with connected(database_url) as leader:
        with batches.leading(leader, STOCK_QUOTES):
            importing = waiting(books, lambda: filled.import_history(STOCK_QUOTES, rows_at(10), source="manual"))
            assert not importing.done()
            assert batches.last_batches(books, STOCK_QUOTES) == []
        assert importing.result(60).rows == 4
    assert height(filled) == 8


def test_a_query_sees_an_import_that_is_done(filled: Store, other: Store) -> None:
    filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    assert other.sql(f"SELECT count(*) FROM {STOCK_QUOTES.name}").fetchall() == [(8,)]


@pytest.fixture
def arriving(filled: Store, other: Store) -> Store:
    """An import of newer rows is in the lake, and its process died before it could say so."""
    filled.mirror.run([STOCK_QUOTES])
    with stopped_at(batches, "note"):
        filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    return filled


def test_an_import_that_is_in_the_lake_is_seen_by_all_or_none(arriving: Store, other: Store) -> None:
    assert table_of(other, STOCK_QUOTES).pin().batch == 0
    assert height(other) == height(arriving) == 8


def test_the_latest_value_is_read_from_the_range_while_an_import_is_claimed(arriving: Store) -> None:
    for _ in range(2):
        last = arriving.read(STOCK_QUOTES, symbols="AAA").row(-1, named=True)
        assert last["ts"] == START + timedelta(minutes=12)
        assert arriving.latest(STOCK_QUOTES, "AAA") == last
        arriving.mirror.run([STOCK_QUOTES])


def test_a_deletion_before_there_is_an_entry_shows_no_deleted_row(arriving: Store, books: Connection) -> None:
    books.execute(f"DELETE FROM {STOCK_QUOTES.name}_last".encode())
    assert arriving.delete(STOCK_QUOTES, symbols="AAA", start=START + timedelta(minutes=12)) == 1
    for _ in range(2):
        assert (arriving.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START + timedelta(minutes=10)
        arriving.mirror.run([STOCK_QUOTES])


def test_the_latest_value_of_an_import_is_shown_no_earlier_than_its_rows(filled: Store) -> None:
    shown: list[Any] = []
    with first(history, "enter", lambda: shown.append(filled.latest(STOCK_QUOTES, "AAA"))):
        filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    assert shown[0]["ts"] == START + timedelta(minutes=2)
    assert (filled.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START + timedelta(minutes=12)


def test_a_repair_that_a_write_has_overtaken_changes_nothing(filled: Store) -> None:
    filled.delete(STOCK_QUOTES, symbols="AAA", start=START + timedelta(minutes=2))
    with first(latest, "repair", lambda: filled.write(STOCK_QUOTES, rows_at(20))):
        filled.latest(STOCK_QUOTES, "AAA")
    assert (filled.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START + timedelta(minutes=22)
