"""Rules of the store's protocol, each where a store without it is wrong: the lake's files, rebinding, and hashes."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest
from deltalake.transaction import AddAction, RemoveAction
from psycopg import sql

import medalion
from medalion.core.checksum import checksum
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, StoreUnavailableError
from medalion.store.store import Store
from olap.delta.tables import LakeTable
from olap.files.index import NO_FILES
from olap.files.layout import PERIOD
from oltp.hot.writes import begin
from oltp.server.engine import Connection, parse_url
from tests.support.interleaved import connected, first, stopped_at, waiting
from tests.support.lake import folder_of, pin_of, stored, table_of
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.postgres import admin_url, backup
from tests.support.server import libpq

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def filled(store: Store) -> Store:
    """Four rows, which are in the lake."""
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    store.mirror.run([STOCK_QUOTES])
    return store


def height(store: Store) -> int:
    return store.read(STOCK_QUOTES).height


def unbind(books: Connection) -> None:
    """As if the lake's last batch were of a ledger of another moment."""
    books.execute("UPDATE mirror_batches SET nonce = nonce # 1 WHERE number = (SELECT max(number) FROM mirror_batches)")


def test_a_batch_whose_file_has_vanished_is_not_committed(filled: Store) -> None:
    with stopped_at(LakeTable, "append"):
        filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    table = table_of(filled, STOCK_QUOTES)
    committed = {folder_of(table) / path for path in pin_of(filled).files.path}
    (staged,) = set(folder_of(table).glob("*/*.parquet")) - committed
    content = staged.read_bytes()
    staged.unlink()
    with pytest.raises(CorruptLakeError, match="vanished"):
        filled.mirror.run([STOCK_QUOTES])
    assert pin_of(filled).batch == 1
    staged.write_bytes(content)
    filled.mirror.run([STOCK_QUOTES])
    assert height(filled) == 8


def test_files_are_not_replaced_by_one_that_has_vanished(filled: Store) -> None:
    table, pin = table_of(filled, STOCK_QUOTES), pin_of(filled)
    staged = table.stage(stored(table), {})
    table.discard(staged)
    assert table.replace(pin, pin.files, staged) is None
    assert height(filled) == 4


def test_a_batch_follows_the_one_before_it(filled: Store) -> None:
    with pytest.raises(CorruptLakeError, match="batch 3 does not follow"):
        table_of(filled, STOCK_QUOTES).append([], batch=3, nonce=7)
    assert pin_of(filled).batch == 1


def test_a_commit_is_seen_at_once_by_who_has_made_it(filled: Store) -> None:
    table = table_of(filled, STOCK_QUOTES)
    for batch in (2, 3):
        pin = table.append(table.stage(stored(table).head(1), {}), batch=batch, nonce=7 * batch)
        assert (pin.batch, pin.nonce, pin.version, len(pin.files)) == (batch, 7 * batch, batch, batch)


def test_a_rebinding_waits_for_open_writes(filled: Store, books: Connection, database_url: str) -> None:
    unbind(books)
    with connected(database_url) as writer:
        with writer.transaction():
            begin(writer, STOCK_QUOTES)
            rebinding = waiting(books, lambda: filled.mirror.rebind([STOCK_QUOTES]))
            assert not rebinding.done()
        rebinding.result(60)
    assert filled.mirror.verify([STOCK_QUOTES]).is_empty()


def test_an_import_that_never_reached_the_lake_is_withdrawn_by_a_rebinding(filled: Store, books: Connection) -> None:
    with stopped_at(LakeTable, "append"):
        filled.import_history(STOCK_QUOTES, rows_at(10), source="manual")
    books.execute("UPDATE mirror_batches SET nonce = nonce # 1 WHERE number = 1")
    told = filled.mirror.rebind([STOCK_QUOTES])
    assert told["outcome"].str.contains("an import that never reached the lake was withdrawn").any()
    assert height(filled) == 4
    assert not filled.import_history(STOCK_QUOTES, rows_at(10), source="manual").is_duplicate
    assert height(filled) == 8
    assert filled.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_deleted_latest_value_is_not_shown_after_a_rebinding(filled: Store, books: Connection) -> None:
    filled.delete(STOCK_QUOTES, symbols="AAA", start=START + timedelta(minutes=2))
    filled.mirror.run([STOCK_QUOTES])
    unbind(books)
    filled.mirror.rebind([STOCK_QUOTES])
    assert (filled.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START


def test_a_latest_value_that_only_the_books_knew_is_not_shown_after_a_rebinding(filled: Store, data_dir: Path) -> None:
    filled.mirror.prune()
    assert filled.latest(STOCK_QUOTES, "AAA") is not None
    url = filled._parts.postgres.url.render_as_string(hide_password=False)
    with medalion.open(url, data_dir=data_dir, lake=data_dir / "new", mirror_background=False) as other:
        other.mirror.rebind([STOCK_QUOTES])
        assert other.latest(STOCK_QUOTES, "AAA") is None


def test_books_of_another_moment_are_kept_out_once_a_rebinding_has_ended(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        instruments(store, STOCK_QUOTES.kind)
    with backup(database_url) as older:
        with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
            store.write(STOCK_QUOTES, rows_at(0))
            store.mirror.run([STOCK_QUOTES])
        with medalion.open(older, data_dir=data_dir, mirror_background=False) as store:
            store.mirror.rebind([STOCK_QUOTES])
            assert height(store) == 4
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        uses: list[Callable[[], object]] = [
            lambda: height(store),
            lambda: store.mirror.run([STOCK_QUOTES]),
            lambda: store.write(STOCK_QUOTES, rows_at(10)),
        ]
        for use in uses:
            with pytest.raises(CorruptLakeError, match="another store"):
                use()


@contextmanager
def in_place_of(url: str, copy: str) -> Iterator[None]:
    """Within, the copy answers at the address of the database."""
    admin, (name, other) = libpq(admin_url().render_as_string(hide_password=False)), map(_name, (url, copy))
    with psycopg.connect(admin, autocommit=True) as connection:

        def swap() -> None:
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            for database in (name, other):
                # First, for threads of the store connect again at once.
                connection.execute(allow.format(sql.Identifier(database), sql.Literal(False)))
                told = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                connection.execute(told, (database,))
            for before, after in ((name, "medalion_test_aside"), (other, name), ("medalion_test_aside", other)):
                rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                connection.execute(rename.format(sql.Identifier(before), sql.Identifier(after)))
            for database in (name, other):
                connection.execute(allow.format(sql.Identifier(database), sql.Literal(True)))

        swap()
        try:
            yield
        finally:
            swap()


def _name(url: str) -> str:
    return parse_url(url).database or ""


def test_a_store_whose_server_is_another_now_looks_before_it_writes(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        instruments(store, STOCK_QUOTES.kind)
    with (
        backup(database_url) as older,
        medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store,
    ):
        store.write(STOCK_QUOTES, rows_at(0))
        store.mirror.run([STOCK_QUOTES])

        def write() -> None:
            for _ in range(16):  # connections of the pool are found to be gone, one by one
                with suppress(StoreUnavailableError):
                    store.write(STOCK_QUOTES, rows_at(10))

        with in_place_of(database_url, older), pytest.raises(CorruptLakeError, match="rebind"):
            write()


def test_a_vacuum_waits_for_a_batch_that_is_being_copied(filled: Store, books: Connection) -> None:
    filled.write(STOCK_QUOTES, rows_at(10))
    vacuums = []

    def vacuum() -> None:
        vacuums.append(waiting(books, lambda: filled.mirror.vacuum([STOCK_QUOTES], older_than=timedelta())))

    with first(LakeTable, "append", vacuum):
        filled.mirror.run([STOCK_QUOTES])
    assert vacuums[0].result(60).files == ()
    assert height(filled) == 8
    assert filled.mirror.verify([STOCK_QUOTES]).is_empty()


def test_a_row_within_the_last_millisecond_of_its_file_is_found(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    moment = START + timedelta(microseconds=999)
    store.write(STOCK_QUOTES, rows_at(0, 1).with_columns(ts=pl.lit(moment).cast(pl.Datetime("us", "UTC"))))
    for step in (lambda: store.mirror.run([STOCK_QUOTES]), store.mirror.prune, store.mirror.compact):
        step()
        assert store.read(STOCK_QUOTES, start=moment).height == 1


def test_a_file_without_statistics_is_refused(filled: Store) -> None:
    table = table_of(filled, STOCK_QUOTES)
    staged = [replace(file, stats='{"numRecords": 4}') for file in table.stage(stored(table), {})]
    with pytest.raises(CorruptLakeError, match="no statistics"):
        table.replace(pin_of(filled), NO_FILES, staged)
    handle = table.open()  # as another tool does
    actions: list[AddAction | RemoveAction] = [file.action() for file in staged]
    handle.create_write_transaction(actions, mode="append", schema=handle.schema(), partition_by=[PERIOD])
    with pytest.raises(CorruptLakeError, match="no statistics"):
        table.refresh()


def test_nothing_writes_to_the_lake_but_its_own_commits() -> None:
    """Other ways cut statistics short, or abort the interpreter at its exit."""
    banned = re.compile(r"\b(write_deltalake|optimize|to_pyarrow_table|to_pyarrow_dataset|write_delta)\b")
    modules = [path for package in ("medalion", "oltp", "olap") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in modules if banned.search(path.read_text("utf-8"))}
    assert found == {"olap/delta/anchors.py"}  # a table of its own, which is read whole


@pytest.mark.parametrize("at_once", [1, 512], ids=["as of many files", "as of few"])
def test_a_correction_of_the_last_row_of_a_file_replaces_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("olap.files.layout._AT_ONCE", at_once)
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, symbols=("AAA",)))
    store.mirror.run([STOCK_QUOTES])
    again = sample(STOCK_QUOTES, 2, symbols=("AAA",), start=START + timedelta(minutes=3))
    store.write(STOCK_QUOTES, again.with_columns(event_id=1003 + pl.int_range(pl.len())))
    for _ in range(2):
        assert store.read(STOCK_QUOTES)["ts"].is_unique().all()
        assert height(store) == 5
        store.mirror.run([STOCK_QUOTES])
        store.mirror.prune()


def test_a_file_that_holds_a_row_with_its_correction_or_deletion_shows_it_once_or_not(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for _ in range(2):
        store.write(STOCK_QUOTES, rows_at(0).with_columns(event_id=pl.lit(7, pl.Int64)))
    store.write(STOCK_QUOTES, rows_at(10))
    store.delete(STOCK_QUOTES, symbols=("AAA", "BBB"), start=START + timedelta(minutes=10))
    for step in (lambda: store.mirror.run([STOCK_QUOTES]), store.mirror.prune, store.mirror.compact):
        step()
        assert height(store) == 4
    assert store.explain(STOCK_QUOTES).files == 1


def test_one_late_row_makes_only_its_neighbours_be_read_for_doubles(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 10, 20, 30):
        store.write(STOCK_QUOTES, pl.concat([rows_at(0, 2), rows_at(minute)]) if minute == 30 else rows_at(minute))
        store.mirror.run([STOCK_QUOTES])
    store.mirror.prune()
    plan = store.explain(STOCK_QUOTES)
    assert (plan.files, plan.deduplicated) == (5, 2)


def quotes(*pairs: tuple[int | None, int | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"bid": pl.Int64, "ask": pl.Int64}, orient="row")


@pytest.mark.parametrize(
    "other",
    [
        [(1, 2), (7, 8), (7, 8)],
        [(2, 1), (3, 4), (3, 4)],
        [(1, None), (3, 4), (3, 4)],
        [(1, 2), (3, 4), (3, 4), (5, 6), (5, 6)],
    ],
    ids=["another pair of doubles", "columns changed places", "a null for a number", "a pair more"],
)
def test_rows_that_differ_have_another_checksum(other: list[tuple[int | None, int | None]]) -> None:
    one = quotes((1, 2), (3, 4), (3, 4))
    assert checksum(one.to_arrow(), one.columns) != checksum(quotes(*other).to_arrow(), one.columns)


def test_a_null_is_no_value_of_any_type() -> None:
    for kind in (pl.Int64, pl.Boolean, pl.String, pl.Datetime("us", "UTC"), pl.Decimal(18, 8), pl.Decimal(38, 8)):
        null = pl.DataFrame({"x": pl.Series([None], dtype=kind)}).to_arrow()
        zero = pl.DataFrame({"x": pl.Series([0]).cast(pl.Int64)})
        plain = zero if kind != pl.String else pl.DataFrame({"x": [""]})
        assert checksum(null, ["x"]) != checksum(plain.cast({"x": kind}).to_arrow(), ["x"])


def test_checksums_tell_writes_of_the_same_rows_apart(filled: Store) -> None:
    one, other = (filled.write(STOCK_QUOTES, rows_at(10)) for _ in range(2))
    assert one.rows == other.rows
    assert one.checksum != other.checksum
