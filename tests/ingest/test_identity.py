"""An import stores what differs from the current rows of its source, whatever else happens to them meanwhile."""

import random
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.datasets import CRYPTO_QUOTES, STOCK_BARS, STOCK_QUOTES
from medalion.core.frames import conform
from medalion.ingest import comparison, history, sources, staging
from medalion.ingest.history import ImportResult
from medalion.store.store import Store
from oltp.hot.writes import write
from oltp.ledger import batches
from oltp.server.engine import Connection
from tests.support.interleaved import connected, first, waiting
from tests.support.lake import pin_of
from tests.support.lengths import examples
from tests.support.observed import START, instruments, sample


@pytest.fixture
def books(database_url: str) -> Iterator[Connection]:
    with connected(database_url) as connection:
        yield connection


def counts(result: ImportResult) -> tuple[int, int, int, int]:
    return result.rows, result.stored, result.unchanged, result.corrected


def bars(close: int, n: int = 6) -> pl.DataFrame:
    rows = sample(STOCK_BARS, n)
    return rows.with_columns(close=pl.lit(Decimal(close)).cast(rows.schema["close"]), high=pl.lit(Decimal(1_000)))


def closes(store: Store) -> set[int]:
    return set(store.read(STOCK_BARS)["close"].cast(pl.Int64).to_list())


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_the_first_version_comes_back_after_the_second(store: Store, is_mirrored: bool) -> None:
    instruments(store, STOCK_BARS.kind)
    for close, expected in ((10, (6, 6, 0, 0)), (20, (6, 6, 0, 6)), (10, (6, 6, 0, 6)), (10, (6, 0, 6, 0))):
        assert counts(store.import_history(STOCK_BARS, bars(close))) == expected
        assert closes(store) == {close}
    store.write(STOCK_BARS, bars(30, 2))
    if is_mirrored:
        store.mirror.run()
    assert counts(store.import_history(STOCK_BARS, bars(10))) == (6, 2, 4, 2)
    assert closes(store) == {10}
    assert store.mirror.verify([STOCK_BARS]).is_empty()


def test_deleted_rows_come_back_and_are_new_again(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, bars(10))
    assert store.delete(STOCK_BARS, symbols="AAA") == 3
    assert counts(store.import_history(STOCK_BARS, bars(10))) == (6, 3, 3, 0)
    assert store.read(STOCK_BARS).height == 6


def test_rows_of_another_source_are_not_compared_with(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, bars(10))
    assert counts(store.import_history(STOCK_BARS, bars(10), source="other")) == (6, 6, 0, 0)


def test_a_file_that_grows_is_stored_once(store: Store) -> None:
    """Loaded every night: the corrected rows are stored again, the others are not."""
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 1_404)
    stored = 0
    for night in range(5):
        seen = rows.head(1_004 + 100 * night)
        result = store.import_history(STOCK_QUOTES, seen)
        assert counts(result) == (seen.height, seen.height - stored, stored, 0)
        stored = seen.height
    assert sum(pin_of(store, STOCK_QUOTES).files.rows) == 1_404


def test_a_file_without_good_rows_stores_nothing_and_says_how_many_were_bad(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    header, bad = tmp_path / "header.csv", tmp_path / "bad.csv"
    header.write_text("symbol,timeframe,ts,open,high,low,close,volume\n")
    bad.write_text(f"{header.read_text()}AAA,1Day,2024-01-02,1,2,1,x,5\nAAA,1Day,2024-01-03,1,2,1,y,5\n")
    for number, (path, rejected) in enumerate(((header, 0), (bad, 2), (header, 0), (bad, 2))):
        result = store.import_history(STOCK_BARS, path, rejects=tmp_path / f"{number}.csv")
        assert (*counts(result), result.rejected, result.is_duplicate) == (0, 0, 0, 0, rejected, False)
    assert store.sql("SELECT count(*) FROM mirror_batches").fetchall() == [(0,)]


def test_what_is_unchanged_leaves_no_file_behind(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 9))
    held = set(data_dir.glob("lake/**/*.parquet"))
    assert store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 9)).write_id is None
    assert store.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 10)).stored == 1
    assert len(set(data_dir.glob("lake/**/*.parquet")) - held) == 1


KEYS = [(symbol, minute, event) for symbol in ("AAA", "BBB") for minute in (0, 1, 1_500) for event in (1, 2)]
changes = st.lists(
    st.tuples(
        st.sampled_from(["import", "import", "import", "write", "delete", "mirror", "compact"]),
        st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), min_size=1, max_size=12),
    ),
    min_size=2,
    max_size=6,
)
_NAMES = count()


def quotes(rows: list[tuple[tuple[str, int, int], int]], suffix: str) -> pl.DataFrame:
    """Some with a correction of the time at which they were known."""
    told = [
        {
            "symbol": f"{symbol}{suffix}",
            "ts": START + timedelta(minutes=minute),
            "bid_price": Decimal(value) if value else None,
            "bid_size": Decimal(1),
            "ask_price": None,
            "ask_size": None,
            "event_id": event,
            "available_at": START + timedelta(days=9) if value == 3 else None,
        }
        for (symbol, minute, event), value in rows
    ]
    kinds = sample(CRYPTO_QUOTES, 1).schema | {"available_at": pl.Datetime("us", "UTC")}
    return pl.DataFrame(told, schema={name: kinds[name] for name in told[0]})


@given(steps=changes, sizes=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)))
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_import_does_what_comparing_row_by_row_does(
    store: Store, steps: list[tuple[str, list[tuple[tuple[str, int, int], int]]]], sizes: tuple[int, int, int]
) -> None:
    """However the rows are cut into pieces, files and slices."""
    suffix = f"-{next(_NAMES)}"
    instruments(store, CRYPTO_QUOTES.kind, (f"AAA{suffix}", f"BBB{suffix}"))
    held: dict[tuple[str, int, int], int] = {}
    piece, chunk, part = sizes
    limits = patch.multiple(staging, PIECE_ROWS=piece, _CHUNK_ROWS=chunk)
    with limits, patch.object(sources, "PIECE_ROWS", piece), patch.object(comparison, "_SLICE_ROWS", part):
        for kind, rows in steps:
            last = dict(rows)
            if kind == "import":
                result = store.import_history(CRYPTO_QUOTES, quotes(rows, suffix))
                differing = {key for key, value in last.items() if held.get(key) != value}
                corrected = len(differing & held.keys())
                assert counts(result) == (len(rows), len(differing), len(last) - len(differing), corrected)
            elif kind == "write":
                store.write(CRYPTO_QUOTES, quotes(rows, suffix))
            elif kind == "delete":
                symbol = rows[0][0][0]
                gone = [key for key in held if key[0] == symbol]
                assert store.delete(CRYPTO_QUOTES, symbols=f"{symbol}{suffix}") == len(gone)
                held, last = {key: value for key, value in held.items() if key not in gone}, {}
            else:
                store.mirror.run([CRYPTO_QUOTES]) if kind == "mirror" else store.mirror.compact([CRYPTO_QUOTES])
                last = {}
            held |= last
            names = [f"{symbol}{suffix}" for symbol in ("AAA", "BBB")]
            found = store.read(CRYPTO_QUOTES, symbols=names, columns=["symbol", "ts", "event_id", "bid_price"])
            expected = quotes(list(held.items()), suffix).select(found.columns) if held else found.clear()
            assert_frame_equal(found.sort(pl.all()), expected.sort(pl.all()))
    assert store.mirror.verify([CRYPTO_QUOTES]).is_empty()


def test_a_correction_that_comes_while_files_are_written_is_compared_with(store: Store) -> None:
    """Whether the import held the row for unchanged or not, and under a later number than its own."""
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, bars(10))
    meanwhile: list[Callable[[], object]] = [lambda: store.write(STOCK_BARS, bars(30, 2))]

    def progress(_: object) -> None:
        if meanwhile:
            meanwhile.pop()()

    assert counts(store.import_history(STOCK_BARS, bars(10), progress=progress)) == (6, 2, 4, 2)
    assert closes(store) == {10}
    meanwhile.append(lambda: store.write(STOCK_BARS, bars(40, 2)))
    assert counts(store.import_history(STOCK_BARS, bars(20), progress=progress)) == (6, 6, 0, 6)
    assert closes(store) == {20}
    meanwhile.append(lambda: store.delete(STOCK_BARS, symbols="AAA"))
    assert counts(store.import_history(STOCK_BARS, bars(20), progress=progress)) == (6, 3, 3, 0)
    meanwhile.append(lambda: store.import_history(STOCK_BARS, bars(50)))
    assert counts(store.import_history(STOCK_BARS, bars(20), progress=progress)) == (6, 6, 0, 6)
    assert closes(store) == {20}
    assert store.mirror.verify([STOCK_BARS]).is_empty()


def test_corrections_without_end_are_shut_out_the_third_time(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, bars(10))
    values = count(30)
    look = comparison.Comparison.look

    def looked(self: comparison.Comparison, connection: Connection) -> comparison.Sighting:
        found = look(self, connection)
        if (value := next(values)) < 33:  # beyond, it would wait for the import, which waits for it
            store.write(STOCK_BARS, bars(value, 2))
        return found

    with patch.object(comparison.Comparison, "look", looked):
        assert counts(store.import_history(STOCK_BARS, bars(20))) == (6, 6, 0, 6)
    assert closes(store) == {20}
    assert next(values) == 34
    assert store.mirror.verify([STOCK_BARS]).is_empty()


def test_writes_beside_the_imported_rows_do_not_hold_it_up(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    later = sample(STOCK_BARS, 4, start=START + timedelta(hours=1))
    compared = patch.object(history._ImportRun, "_compared_again", side_effect=AssertionError)

    def progress(_: object) -> None:
        store.write(STOCK_BARS, later)
        store.write(STOCK_BARS, bars(10), source="other")

    with compared:
        assert counts(store.import_history(STOCK_BARS, bars(10), progress=progress)) == (6, 6, 0, 0)


def test_an_import_waits_for_an_open_write_and_compares_with_it(
    store: Store, database_url: str, books: Connection
) -> None:
    """One that drew its number before the import did, and commits after it has compared."""
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 5)
    changed = rows.with_columns(bid_size=pl.lit(Decimal(77)).cast(rows.schema["bid_size"]))
    store.import_history(STOCK_QUOTES, rows)
    with connected(database_url) as connection, connection.transaction():
        write(connection, STOCK_QUOTES, conform(STOCK_QUOTES, changed, source="manual"), source="manual")
        importing = waiting(books, lambda: store.import_history(STOCK_QUOTES, rows))
        assert not importing.done()
    assert counts(importing.result(60)) == (5, 5, 0, 5)
    assert store.read(STOCK_QUOTES).filter(pl.col("bid_size") == 77).is_empty()


def test_no_time_within_an_import_is_settled(store: Store, books: Connection) -> None:
    """It has drawn when it was recorded, and holds no open-write mark."""
    instruments(store, STOCK_BARS.kind)
    settled: list[datetime] = []

    def progress(_: object) -> None:
        settled.append(batches.settle(books, STOCK_BARS))

    result = store.import_history(STOCK_BARS, bars(10), progress=progress)
    assert result.recorded_at is not None
    assert settled[0] < result.recorded_at


def test_an_entry_that_was_folded_meanwhile_hides_no_write(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, bars(10))

    def meanwhile() -> None:
        store.write(STOCK_BARS, bars(30, 2))
        store.mirror.run([STOCK_BARS])
        store.mirror.prune([STOCK_BARS])
        assert store.mirror.fold([STOCK_BARS], older_than=timedelta()) == 2

    with first(history._ImportRun, "_claimed", meanwhile):
        assert counts(store.import_history(STOCK_BARS, bars(10))) == (6, 2, 4, 2)
    assert closes(store) == {10}


def test_right_after_an_import_its_rows_are_what_is_held(store: Store) -> None:
    """Whatever is corrected and deleted beside it all the time."""
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, bars(1))
    ends = threading.Event()
    wrong: list[Exception] = []

    def correct() -> None:
        chance = random.Random(1)
        try:
            for value in count(100):
                if ends.is_set():
                    return
                rows = bars(value).sample(chance.randint(1, 6), seed=value)
                store.write(STOCK_BARS, rows)
                if value % 3 == 0:
                    store.delete(STOCK_BARS, symbols=chance.choice(["AAA", "BBB"]))
        except Exception as error:
            wrong.append(error)

    beside = threading.Thread(target=correct)
    beside.start()
    try:
        results = [store.import_history(STOCK_BARS, bars(value)) for value in range(2, 7)]
    finally:
        ends.set()
        beside.join()
    assert wrong == []
    store.mirror.run([STOCK_BARS], settle=True)
    for value, result in zip(range(2, 7), results, strict=True):
        held = store.read(STOCK_BARS, as_of=result.recorded_at, columns=["close"])
        assert held["close"].cast(pl.Int64).to_list() == [value] * 6
    assert store.mirror.verify([STOCK_BARS]).is_empty()
