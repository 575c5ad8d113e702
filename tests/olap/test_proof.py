"""No answer rests on damaged bytes: whichever bit of a file is flipped, each way of reading refuses or is right."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError
from medalion.observations import plan
from medalion.store.store import Store
from olap.files import proof
from olap.files.chunks import Chunks
from olap.places.folder import Folder
from tests.support.lake import folder_of, pin_of, table_of
from tests.support.observed import START, instruments, sample

FLIPS = int(os.environ.get("MEDALION_FLIPS", "6"))
"""Bits that are flipped in each way of reading."""
_NAME = STOCK_QUOTES.name
_LEFT = pl.DataFrame({"symbol": ["AAA", "BBB"], "ts": [START + timedelta(minutes=90)] * 2})
_WAYS: dict[str, Callable[[Store], Any]] = {
    "narrow": lambda store: store.read(STOCK_QUOTES, symbols="AAA"),
    "narrow columns": lambda store: store.read(STOCK_QUOTES, symbols="BBB", columns=["ts", "ask_price"]),
    "wide": lambda store: store.read(STOCK_QUOTES),
    "as of": lambda store: store.read(STOCK_QUOTES, as_of=store.mirror.status([_NAME])["settled"].item()),
    "scan": lambda store: store.scan(STOCK_QUOTES).collect(),
    "scan of columns": lambda store: store.scan(STOCK_QUOTES).filter(pl.col("bid_size") > 3).select("ts").collect(),
    "scan by streaming": lambda store: store.scan(STOCK_QUOTES, symbols="AAA").collect(engine="streaming"),
    "sql": lambda store: store.sql(f"SELECT * FROM {_NAME} ORDER BY symbol, ts, write_id").pl(),
    "sql of columns": lambda store: store.sql(
        f"SELECT symbol, max(ask_price) FROM {_NAME} WHERE symbol IN ('AAA', 'CCC') AND ts > $t GROUP BY symbol",
        t=START + timedelta(minutes=30),
    ).pl(),
    "sql that counts": lambda store: store.sql(f"SELECT count(*) FROM {_NAME} WHERE symbol = 'BBB'").pl(),
    "asof": lambda store: store.asof(_LEFT, STOCK_QUOTES),
    "bars": lambda store: store.bars(["AAA", "BBB"], "5Min"),
    "latest": lambda store: store.latest(STOCK_QUOTES, "AAA", as_of=store.mirror.status([_NAME])["settled"].item()),
}


@pytest.fixture(scope="module")
def kept(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A compacted file of two series, one with corrections, and a small one on top."""
    from tests.support.postgres import fresh_database

    with fresh_database() as url:
        folder = tmp_path_factory.mktemp("proven")
        with medalion.open(url, data_dir=folder, mirror_background=False) as store:
            instruments(store, STOCK_QUOTES.kind)
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 120))
            store.mirror.run()
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 60, start=START + timedelta(minutes=100)))
            store.mirror.run()
            store.mirror.compact()
            store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 3).with_columns(bid_size=pl.col("bid_size") + 1))
            store.mirror.run(settle=True)
            yield store


def alike(found: Any, expected: Any) -> None:
    if isinstance(expected, pl.DataFrame):
        assert_frame_equal(found, expected, check_row_order="symbol" not in expected.columns or expected.height > 3)
    else:
        assert found == expected


def flipped(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("is_wide", [False, True], ids=["polars", "duckdb"])
@pytest.mark.parametrize("way", _WAYS)
def test_a_flipped_bit_is_refused_or_changes_nothing(
    kept: Store,
    way: str,
    is_wide: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if is_wide:
        monkeypatch.setattr(plan, "WIDE_ROWS", 0)
    read, table = _WAYS[way], table_of(kept, STOCK_QUOTES)
    expected, draw = read(kept), random.Random(f"{way} {is_wide}")
    said: list[str] = []
    for _ in range(FLIPS):
        file = folder_of(table) / draw.choice(pin_of(kept).files.path.tolist())
        whole = tmp_path / file.name
        shutil.copyfile(file, whole)
        flipped(file, draw.randrange(8 * whole.stat().st_size))
        try:
            alike(read(kept), expected)
        except CorruptLakeError as error:
            said.append(str(error))
        finally:
            shutil.copyfile(whole, file)
    alike(read(kept), expected)
    assert said
    assert all("is damaged" in text and "\n" not in text for text in said)


def test_a_chunk_is_proven_once(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(kept, STOCK_QUOTES)
    for path in pin_of(kept).files.path:
        os.utime(folder_of(table) / path)
    table.blocks.__init__(0)  # type: ignore[misc]
    proven: list[int] = []
    prove = Chunks.prove

    def counted(self: Chunks, wanted: Any, content: memoryview, *, at: int = 0) -> None:
        proven.append(int((wanted & ~self.are_proven).sum()))
        prove(self, wanted, content, at=at)

    monkeypatch.setattr(Chunks, "prove", counted)
    kept.read(STOCK_QUOTES, symbols="AAA", columns=["ts", "bid_price"])
    few = sum(proven)
    assert few

    def all_ways() -> int:
        for way in _WAYS.values():
            way(kept)
        return sum(proven)

    everything = all_ways()
    assert everything > few
    assert all_ways() == everything


def test_every_byte_before_the_footer_is_in_a_chunk(kept: Store) -> None:
    table = table_of(kept, STOCK_QUOTES)
    for path in pin_of(kept).files.path:
        chunks = Chunks.of(pq.read_metadata(folder_of(table) / path))
        assert not chunks.are_proven.any()
        ends = (chunks.starts + chunks.sizes).ravel().tolist()
        assert [4, *ends[:-1]] == chunks.starts.ravel().tolist()
        content = (folder_of(table) / path).read_bytes()
        assert ends[-1] == len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def test_what_is_remembered_of_files_is_bounded(kept: Store) -> None:
    table, proofs = table_of(kept, STOCK_QUOTES), proof.Proofs(most_chunks=1)
    for path in pin_of(kept).files.path:
        assert proofs.of(table.place, str(path)).chunks.starts.size
    assert len(proofs._known) == 1


def test_a_relation_raises_the_stores_errors_when_it_is_evaluated(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 9))
    store.mirror.run()
    relation, lazy = store.sql(f"SELECT * FROM {_NAME}"), store.scan(STOCK_QUOTES)
    narrower = relation.filter("bid_size > 0").project("symbol, ts")
    assert narrower.pl().height == 8
    assert narrower.columns == ["symbol", "ts"]
    (file,) = pin_of(store).files.path
    place = table_of(store, STOCK_QUOTES).place
    assert isinstance(place, Folder)
    (place.path / file).unlink()
    ways: list[Callable[[], object]] = [relation.fetchall, relation.pl, narrower.df, narrower.ts.fetchall, lazy.collect]
    for evaluate in ways:
        with pytest.raises(CorruptLakeError, match="verify") as refused:
            evaluate()
        assert "\n" not in str(refused.value)


def test_a_relation_that_was_made_before_the_damage_is_proven_when_it_is_evaluated(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 40))
    store.mirror.run()
    relation = store.sql(f"SELECT sum(ask_price) FROM {_NAME}")
    narrower, lazy = relation.limit(1), store.scan(STOCK_QUOTES)
    ways: list[Callable[[], object]] = [relation.fetchall, relation.pl, relation.to_arrow_reader, narrower.df]
    assert [len(way()) for way in (relation.fetchall, relation.pl, narrower.df)] == [1, 1, 1]
    (file,) = (folder_of(table_of(store, STOCK_QUOTES)) / path for path in pin_of(store).files.path)
    whole, kept = file.read_bytes(), file.stat()
    flipped(file, 8 * start_of(file, "ask_price"))
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as whoever copies in place with times does
    ways += [lazy.collect, lambda: store.read(STOCK_QUOTES)]
    for way in ways:
        with pytest.raises(CorruptLakeError, match="damaged"):
            way()
    file.write_bytes(whole[:100])
    for way in ways:
        with pytest.raises(CorruptLakeError):
            way()


def start_of(file: Path, name: str) -> int:
    """Where the chunk of a column begins in a file's first group."""
    chunks = Chunks.of(pq.read_metadata(file))
    return int(chunks.starts[0, chunks.leaves[name][0]])


def test_a_query_within_a_relation_rests_on_no_damage_and_sees_every_row(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for day in range(12):  # files of their own
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 40, start=START + timedelta(days=day)))
        store.mirror.run()
    relation = store.sql(f"SELECT ts FROM {_NAME} WHERE ts < $t", t=START + timedelta(days=1))
    every = f"(SELECT max(ts) FROM {_NAME} WHERE ask_price >= 0)"
    assert set(relation.aggregate(f"{every} AS last").fetchall()) == set(store.sql(f"SELECT {every}").fetchall())
    file = folder_of(table_of(store, STOCK_QUOTES)) / pin_of(store).files.path[-1]
    whole = file.read_bytes()
    flipped(file, 8 * start_of(file, "ask_price"))
    for evaluate in (relation.aggregate, relation.project, lambda text: relation.query("v", f"SELECT {text} FROM v")):
        with pytest.raises(CorruptLakeError, match="damaged"):
            evaluate(f"{every} AS last")
    file.write_bytes(whole)


def test_what_is_wrong_with_a_query_shows_when_it_is_evaluated(store: Store) -> None:
    relation = store.sql("SELECT n::INTEGER FROM (VALUES ('1'), ('x')) AS given(n)")
    with pytest.raises(medalion.InputError, match="the query fails"):
        relation.fetchall()
