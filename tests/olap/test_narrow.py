"""A narrow read decodes only row groups that statistics leave, and answers as the whole files would."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.datasets import POLYMARKET_BOOKS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import CorruptLakeError
from medalion.core.frames import conform
from medalion.core.time import TimeRange
from olap.delta.tables import LakeTable
from olap.files import parquet
from olap.files.blocks import Blocks
from olap.files.parquet import footer_in, sums_of
from olap.places.folder import Folder
from olap.reads.narrow import read
from olap.reads.scan import Selection, scan
from tests.support.lengths import examples
from tests.support.observed import START, sample

MINUTES = 8
SOURCES, INSTRUMENTS, TIMEFRAMES = ("a", "b"), (1, 2, 3), ("1Min", "5Min")


@st.composite
def writes(draw: st.DrawFn, dataset: Dataset) -> list[pl.DataFrame]:
    """Stored rows of a few writes, of which most follow each other; an instrument may have had another name before."""
    found, later = [], 0
    for write_id in range(1, draw(st.integers(1, 4)) + 1):
        later += draw(st.sampled_from([MINUTES + 1, MINUTES + 1, 0]))
        minutes = [later + each for each in draw(st.lists(st.integers(0, MINUTES), min_size=1, max_size=12))]
        is_deleted = draw(st.integers(0, 3)) == 0
        symbols = draw(st.sampled_from([("x", "y", "z"), ("x", "y", "old")]))
        given_rows = sample(dataset, len(minutes), symbols=symbols)
        rows = conform(dataset, given_rows, source=draw(st.sampled_from(SOURCES))).with_columns(
            ts=pl.Series([START + timedelta(minutes=minute) for minute in minutes], dtype=pl.Datetime("us", "UTC")),
            instrument_id=pl.col("symbol").replace_strict({"x": 1, "y": 2, "z": 3, "old": 3}, return_dtype=pl.Int64),
            write_id=pl.lit(write_id, pl.Int64),
            ordinal=pl.int_range(len(minutes), dtype=pl.Int32),
            is_deleted=(pl.int_range(len(minutes)) == 0) & is_deleted,
            recorded_at=pl.lit(moment(write_id)).cast(pl.Datetime("us", "UTC")),
        )
        if dataset.has_timeframe:
            rows = rows.with_columns(timeframe=pl.Series([draw(st.sampled_from(TIMEFRAMES)) for _ in minutes]))
        found.append(rows.select(dataset.stored.names))
    return found


def moment(write_id: int) -> datetime:
    return datetime(2024, 4, 1, tzinfo=UTC) + timedelta(hours=write_id)


@contextmanager
def lake(dataset: Dataset, rows: list[pl.DataFrame]) -> Iterator[LakeTable]:
    with TemporaryDirectory() as folder, patch.object(parquet, "MIN_GROUP_ROWS", 3):
        table = LakeTable(Folder(Path(folder)), dataset)
        table.place.make()
        for number, each in enumerate(rows, 1):
            table.append(table.stage(each, table.refresh().files.newest()), batch=number, nonce=number)
        yield table


def in_order(edges: tuple[datetime | None, datetime | None]) -> tuple[datetime | None, datetime | None]:
    start, end = edges
    return (start, end) if start is None or end is None or start <= end else (end, start)


edges = st.none() | st.integers(0, 3 * MINUTES).map(lambda minute: START + timedelta(minutes=minute))
ranges = st.tuples(edges, edges).map(lambda pair: TimeRange(*in_order(pair)))
feed = st.sampled_from(SOURCES)
groups = st.none() | st.lists(st.sampled_from(INSTRUMENTS), min_size=1, unique=True)
series = st.none() | st.dictionaries(feed, groups, min_size=1)


@pytest.mark.long
@pytest.mark.parametrize("dataset", [STOCK_QUOTES, STOCK_BARS, POLYMARKET_BOOKS], ids=lambda each: each.name)
@settings(max_examples=examples(40))
@given(data=st.data())
def test_the_answer_is_that_of_the_whole_files(dataset: Dataset, data: st.DataObject) -> None:
    *mirrored, last = data.draw(writes(dataset))
    is_hot, blocks = data.draw(st.booleans()), Blocks(data.draw(st.sampled_from([0, 4_000, 1_000_000])))
    with lake(dataset, mirrored if is_hot else [*mirrored, last]) as table:
        for _ in range(4):
            selection = Selection(
                dataset,
                table.place,
                table.refresh().files,
                last if is_hot else last.clear(),
                data.draw(ranges),
                data.draw(series),
                data.draw(st.sampled_from([None, *TIMEFRAMES])) if dataset.has_timeframe else None,
                data.draw(st.none() | st.integers(1, 4).map(moment)),
                blocks=blocks,
            )
            columns = data.draw(st.permutations(dataset.schema.names).map(lambda names: names[:5]))
            found = read(selection, columns=columns)
            assert_frame_equal(found, scan(selection, columns=columns).collect())


def quotes() -> pl.DataFrame:
    rows = conform(STOCK_QUOTES, sample(STOCK_QUOTES, 9, symbols=("x",)), source="a")
    return rows.with_columns(
        instrument_id=pl.lit(1, pl.Int64),
        write_id=pl.lit(1, pl.Int64),
        ordinal=pl.int_range(9, dtype=pl.Int32),
        is_deleted=pl.lit(False),
        recorded_at=pl.lit(moment(1)).cast(pl.Datetime("us", "UTC")),
    ).select(STOCK_QUOTES.stored.names)


def selected(table: LakeTable) -> Selection:
    rows = quotes()
    return Selection(STOCK_QUOTES, table.place, table.refresh().files, rows.clear(), TimeRange(), {"a": [1]})


def test_a_series_that_was_renamed_is_in_order_of_its_names() -> None:
    later = quotes().with_columns(pl.col("ts").dt.offset_by("1d"), symbol=pl.lit("a"), write_id=pl.lit(2, pl.Int64))
    with lake(STOCK_QUOTES, [quotes(), later]) as table:
        found = read(selected(table), columns=["symbol", "ts"])
    assert found["symbol"].to_list() == ["a"] * 9 + ["x"] * 9
    assert found.equals(found.sort("symbol", "ts"))


def test_a_file_that_vanished_or_was_cut_is_an_error_although_its_footer_is_known() -> None:
    with lake(STOCK_QUOTES, [quotes()]) as table:
        selection = selected(table)
        assert read(selection, columns=["bid_price"]).height == 9
        file = Path(table.place.at(selection.files.path[0]))
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(CorruptLakeError, match="verify"):
            read(selection, columns=["bid_price"])
        file.unlink()
        with pytest.raises(CorruptLakeError, match="verify"):
            read(selection, columns=["bid_price"])


def replaced(selection: Selection, rows: pl.DataFrame) -> Selection:
    """The same with another file in place of its one."""
    content = BytesIO()
    rows.write_parquet(content)
    path = f"{Path(selection.files.path[0]).parent}/0-{sums_of(content.getvalue())}-clean.parquet"
    Path(selection.place.at(path)).write_bytes(content.getvalue())
    return replace(selection, files=replace(selection.files, path=np.array([path], np.object_)))


def test_a_column_that_a_file_does_not_have_yet_is_null_in_it() -> None:
    with lake(STOCK_QUOTES, [quotes()]) as table:
        selection = replaced(selected(table), quotes().drop("available_at", "bid_size"))
        found = read(selection, columns=["bid_price", "bid_size"])
        assert found["bid_size"].null_count() == found.height == 9
        assert found["bid_price"].to_list() == quotes()["bid_price"].to_list()


def test_a_column_of_another_type_is_an_error() -> None:
    with lake(STOCK_QUOTES, [quotes()]) as table:
        selection = replaced(selected(table), quotes().with_columns(pl.col("bid_price").cast(pl.Float64)))
        with pytest.raises(CorruptLakeError, match="types"):
            read(selection, columns=["bid_price"])


def test_a_damaged_footer_is_an_error_at_every_byte_and_harms_no_later_read() -> None:
    with lake(STOCK_QUOTES, [quotes()]) as table:
        selection = selected(table)
        file = Path(table.place.at(selection.files.path[0]))
        whole = file.read_bytes()
        for place in range(1, len(footer_in(whole)) + 1):
            damaged = bytearray(whole)
            damaged[-place] ^= 16
            file.write_bytes(damaged)
            with pytest.raises(CorruptLakeError, match="footer"):
                read(selection, columns=["bid_price"])
        file.write_bytes(whole)
        assert read(selection, columns=["bid_price"]).height == 9
