"""Decoded columns kept in memory: reads that find them answer as those that do not, and they take no more room."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError
from medalion.core.time import TimeRange
from medalion.store.store import Store
from olap.files import blocks, proof
from olap.files.blocks import Blocks
from olap.files.groups import Group, groups_of
from olap.places.open import Place
from tests.support.observed import START, instruments, sample

SYMBOLS = ("AAA", "BBB")
DAYS = 6


@pytest.fixture
def held(store: Store) -> Blocks:
    """What a store has kept that has quotes of six days, mirrored; nothing yet."""
    instruments(store, STOCK_QUOTES.kind)
    for day in range(DAYS):
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 300, symbols=SYMBOLS, start=START + timedelta(days=day)))
    store.mirror.run([STOCK_QUOTES], settle=True)
    return store._parts.lake.blocks


@contextmanager
def decodings() -> Iterator[list[tuple[str, list[str]]]]:
    """The files and columns that are decoded meanwhile."""
    seen: list[tuple[str, list[str]]] = []
    whole = proof.decoded

    def counted(place: Place, group: Group, names: list[str]) -> pl.DataFrame:
        seen.append((group.file, names))
        return whole(place, group, names)

    with patch.object(blocks, "decoded", counted):
        yield seen


def test_what_was_read_is_not_decoded_again(store: Store, held: Blocks) -> None:
    first = store.read(STOCK_QUOTES, symbols="BBB")
    with decodings() as seen:
        assert_frame_equal(store.read(STOCK_QUOTES, symbols="BBB"), first)
        neighbour = store.read(STOCK_QUOTES, symbols="AAA", columns=["ts", "bid_price"])
        assert seen == []  # it lies in the same row groups
        store.read(STOCK_QUOTES, symbols="BBB", columns=["ts", "write_id"])
    assert [names for _, names in seen] == [["write_id"]] * DAYS
    assert held.bytes > 0
    assert neighbour.rows() == store.scan(STOCK_QUOTES, symbols="AAA", columns=["ts", "bid_price"]).collect().rows()


def test_corrections_and_deletions_show_at_once(store: Store, held: Blocks) -> None:
    before = store.read(STOCK_QUOTES, symbols="AAA")
    corrected = sample(STOCK_QUOTES, 1, symbols=SYMBOLS).with_columns(bid_price=pl.lit(Decimal(7), pl.Decimal(18, 8)))
    store.write(STOCK_QUOTES, corrected)
    store.delete(STOCK_QUOTES, symbols="AAA", start=START + timedelta(days=1))
    for _ in range(2):
        assert store.read(STOCK_QUOTES, symbols="AAA")["bid_price"].to_list() == [
            Decimal(7),
            *before.filter(pl.col("ts") < START + timedelta(days=1))["bid_price"].to_list()[1:],
        ]
        store.mirror.run([STOCK_QUOTES], settle=True)
        store.mirror.compact([STOCK_QUOTES])


def test_what_a_caller_does_with_an_answer_changes_no_other(store: Store, held: Blocks) -> None:
    whole = store.read(STOCK_QUOTES, symbols="AAA")
    for _ in range(2):
        found = store.read(STOCK_QUOTES, symbols="AAA")
        found[0, "bid_price"] = Decimal(9)
        found["event_id"].scatter(0, 99)
        found["ask_price"].sort(descending=True, in_place=True)
        found.extend(whole)
        pandas = store.read(STOCK_QUOTES, symbols="AAA").to_pandas()
        pandas.loc[:, "event_id"] = 99
        numbers = store.read(STOCK_QUOTES, symbols="AAA")["event_id"].to_numpy()
        if numbers.flags.writeable:
            numbers[:] = 99
        assert store.read(STOCK_QUOTES, symbols="AAA").equals(whole)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_file_that_has_changed_is_looked_at_again(store: Store, held: Blocks, data_dir: Path, damage: str) -> None:
    assert store.read(STOCK_QUOTES, symbols="AAA").height == DAYS * 150
    file = max(data_dir.glob("lake/stock_quote_snapshots/period=*/*.parquet"))
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        content[4:200] = bytes(196)
        file.write_bytes(content[:200] if damage == "cut" else content)
    with pytest.raises(CorruptLakeError):
        store.read(STOCK_QUOTES, symbols="AAA")


def test_no_more_is_kept_than_given_and_the_oldest_goes(store: Store, held: Blocks) -> None:
    place = store._parts.lake.table(STOCK_QUOTES).place
    files = sorted(store._parts.lake.table(STOCK_QUOTES).refresh().files.path)
    everything = [groups_of(place, str(file), None, TimeRange())[0] for file in files]
    size = 300 * 8
    blocks = Blocks(4 * size)
    for group in everything[:5]:
        assert blocks.read(place, [(group, ["write_id"])])[0].height == 300
        assert blocks.bytes <= 4 * size
    with decodings() as seen:
        blocks.read(place, [(group, ["write_id"]) for group in everything[1:5]])
        assert seen == []
        blocks.read(place, [(everything[0], ["write_id"])])
        assert len(seen) == 1
        blocks.read(place, [(group, ["write_id", "ordinal"]) for group in everything])  # more than a quarter of it
        assert blocks.bytes == 4 * size
        blocks.read(place, [(everything[0], ["write_id"])])
        assert {names[0] for _, names in seen[-5:]} <= {"ordinal", "write_id"}


def test_threads_that_drive_each_others_columns_out_read_what_is_there(store: Store, held: Blocks) -> None:
    expected = {symbol: store.read(STOCK_QUOTES, symbols=symbol) for symbol in SYMBOLS}
    crowded = Blocks(20_000)
    with patch.object(store._parts.lake.table(STOCK_QUOTES), "blocks", crowded), ThreadPoolExecutor(8) as pool:

        def read(number: int) -> bool:
            symbol, start = SYMBOLS[number % 2], START + timedelta(days=number % DAYS)
            found = store.read(STOCK_QUOTES, symbols=symbol, start=start, end=start + timedelta(days=1))
            is_exact = found.equals(
                expected[symbol].filter(pl.col("ts").is_between(start, start + timedelta(days=1), "left"))
            )
            return is_exact and crowded.bytes <= 20_000

        assert all(pool.map(read, range(200)))


def test_a_store_may_keep_none(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False, cache_mb=0) as store:
        instruments(store, STOCK_QUOTES.kind)
        store.write(STOCK_QUOTES, sample(STOCK_QUOTES, 9, symbols=SYMBOLS))
        store.mirror.run([STOCK_QUOTES])
        assert store.read(STOCK_QUOTES, symbols="AAA").height == 5
        assert store._parts.lake.blocks.bytes == 0
