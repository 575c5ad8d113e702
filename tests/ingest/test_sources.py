"""An import takes rows in any shape, in bounded memory, and knows the same rows again however they are cut."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import InputError, NotFoundError
from medalion.ingest import pieces, sources, staging
from medalion.ingest.sources import ImportProgress, Source
from medalion.store.store import Store
from tests.support.lengths import examples
from tests.support.observed import START, as_read, instruments, sample

BARS = sample(STOCK_BARS, 11)
ROOT = Path(__file__).parents[2]


def text_of(rows: pl.DataFrame) -> bytes:
    return rows.with_columns(pl.col("ts").dt.to_string("iso:strict")).write_csv().encode()


def csv_file(folder: Path, rows: pl.DataFrame, name: str = "bars.csv") -> Path:
    path = folder / name
    text = text_of(rows)
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def parquet_file(folder: Path, rows: pl.DataFrame, name: str = "bars.parquet") -> Path:
    rows.write_parquet(folder / name, row_group_size=4)
    return folder / name


def folder_of(folder: Path, rows: pl.DataFrame) -> Path:
    inside = folder / "bars" / "2024"
    inside.mkdir(parents=True)
    csv_file(inside, rows.head(3), "1.csv")
    parquet_file(inside, rows[3:7], "2.parquet")
    csv_file(inside.parent, rows[7:], "3.csv.gz")
    (inside / "_SUCCESS").touch()
    return inside.parent


def reader_of(folder: Path, rows: pl.DataFrame) -> pa.RecordBatchReader:
    table = rows.to_arrow()
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=3))


SHAPES: dict[str, Callable[[Path, pl.DataFrame], Any]] = {
    "polars": lambda folder, rows: rows,
    "lazy": lambda folder, rows: rows.lazy(),
    "lazy scan": lambda folder, rows: pl.scan_parquet(parquet_file(folder, rows)),
    "pandas": lambda folder, rows: rows.to_pandas(use_pyarrow_extension_array=True),
    "arrow": lambda folder, rows: rows.to_arrow(),
    "arrow batches": reader_of,
    "csv": csv_file,
    "csv.gz": lambda folder, rows: csv_file(folder, rows, "bars.csv.gz"),
    "name of a file": lambda folder, rows: str(parquet_file(folder, rows)),
    "folder": folder_of,
    "several files": lambda folder, rows: [csv_file(folder, rows.head(5)), parquet_file(folder, rows[5:])],
    "frames": lambda folder, rows: (part for part in rows.iter_slices(4)),
    "frames and files": lambda folder, rows: [rows.head(5), parquet_file(folder, rows[5:])],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_the_same_in_every_shape_and_known_again(store: Store, tmp_path: Path, shape: str) -> None:
    ids = instruments(store, STOCK_BARS.kind)
    first = store.import_history(STOCK_BARS, SHAPES[shape](tmp_path, BARS))
    assert (first.rows, first.rejected, first.rejects) == (BARS.height, 0, None)
    assert_frame_equal(store.read(STOCK_BARS), as_read(STOCK_BARS, BARS, ids, source="manual"))
    again = store.import_history(STOCK_BARS, BARS)
    assert (again.is_duplicate, again.write_id, again.unchanged) == (True, None, BARS.height)
    assert store.mirror.verify([STOCK_BARS]).is_empty()


@given(
    cuts=st.lists(st.integers(0, BARS.height), max_size=4),
    piece=st.integers(1, 12),
    block=st.integers(1, 400),
    shapes=st.lists(st.sampled_from(["csv", "parquet", "frame"]), min_size=1, max_size=3),
)
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_the_rows_are_cut_they_are_the_same_import(
    store: Store, tmp_path: Path, cuts: list[int], piece: int, block: int, shapes: list[str]
) -> None:
    if not store.assets.find():
        instruments(store, STOCK_BARS.kind)
        store.import_history(STOCK_BARS, BARS)
    places = sorted({0, *cuts, BARS.height})
    parts: list[Any] = []
    for number, (start, end) in enumerate(pairwise(places)):
        rows, shape = BARS[start:end], shapes[number % len(shapes)]
        if shape == "frame":
            parts.append(rows)
        else:
            make = csv_file if shape == "csv" else parquet_file
            parts.append(make(tmp_path, rows, f"{number}.{shape}"))
    limits = patch.multiple(sources, PIECE_ROWS=piece, _BLOCK_BYTES=block)
    with limits, patch.multiple(staging, PIECE_ROWS=piece, _CHUNK_ROWS=2 * piece):
        assert store.import_history(STOCK_BARS, parts).is_duplicate
        result = store.import_history(STOCK_BARS, parts, source="cut")
    if not result.is_duplicate:
        rows = store.read(STOCK_BARS, source="cut")
        assert_frame_equal(rows.drop("source"), store.read(STOCK_BARS, source="manual").drop("source"))


@given(
    records=st.lists(st.lists(st.text('a",\n é\r', max_size=5), min_size=2, max_size=2), max_size=9),
    block=st.integers(1, 60),
)
def test_a_csv_read_in_blocks_gives_the_rows_of_one_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], block: int
) -> None:
    def quoted(cell: str) -> str:
        doubled = cell.replace('"', '""')
        return f'"{doubled}"'

    text = "".join(",".join(map(quoted, record)) + "\n" for record in [["a", "b\nc"], *records])
    path = tmp_path_factory.getbasetemp() / "quoted.csv"
    path.write_bytes(text.encode())
    with patch.object(sources, "_BLOCK_BYTES", block):
        frames = [piece.frame for piece in Source(path).pieces()]
    assert_frame_equal(pl.concat(frames), pl.read_csv(io.BytesIO(text.encode()), infer_schema=False))


@pytest.mark.parametrize("text", [b'a,b\n1,"2\n', b'a,b\n"1,2\n3,4\n', b'a,b\n1,2\n"3\n'])
@pytest.mark.parametrize("block", [2, 1000])
def test_a_csv_that_ends_within_quotes_is_no_whole_file(tmp_path: Path, text: bytes, block: int) -> None:
    path = tmp_path / "cut.csv"
    path.write_bytes(text)
    with patch.object(sources, "_BLOCK_BYTES", block), pytest.raises(InputError, match="cannot be read"):
        list(Source(path).pieces())


@pytest.mark.parametrize("block", [2, 1000])
def test_blank_and_short_lines_of_a_csv_are_rows_in_their_place(tmp_path: Path, block: int) -> None:
    path = tmp_path / "blank.csv"
    path.write_bytes(b"\xef\xbb\xbfa,b\n\n1,2\n3\n" + b'"' + b"4" * 500 + b'",""\n')
    with patch.object(sources, "_BLOCK_BYTES", block):
        rows = [row for piece in Source(path).pieces() for row in piece.frame.rows()]
    assert rows == [(None, None), ("1", "2"), ("3", None), ("4" * 500, "")]


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_no_row_of_a_key_but_the_last_one_of_the_source_counts(store: Store, dataset: Dataset) -> None:
    ids = instruments(store, dataset.kind, ("AAA",))
    rows = sample(dataset, 2, symbols=("AAA",))
    values = [column.name for column in dataset.values]
    other = rows[1].select(values)
    repeated = [rows[0].select(pl.exclude(values)).hstack(part) for part in (other, rows[0].select(values), other)]
    with patch.object(sources, "PIECE_ROWS", 1), patch.object(staging, "_CHUNK_ROWS", 1):
        store.import_history(dataset, iter(repeated))
    assert_frame_equal(store.read(dataset), as_read(dataset, repeated[-1], ids, source="manual"))


def test_vendor_columns_constants_zones_and_epochs_are_mapped(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    path = tmp_path / "quotes.csv"
    path.write_text("t,bp,bs,ap,as,junk\n1709303400000,1.00000001,2,1.5e0,3,x\n1709303400001,,,,,y\n")
    names = {"ts": "t", "bid_price": "bp", "bid_size": "bs", "ask_price": "ap", "ask_size": "as"}
    result = store.import_history(
        STOCK_QUOTES, path, columns=names, constants={"symbol": "AAA"}, time_unit="ms", source="vendor"
    )
    expected = pl.read_csv(path, infer_schema=False).select(
        pl.lit("AAA").alias("symbol"),
        ts=pl.from_epoch(pl.col("t").cast(pl.Int64), "ms").dt.replace_time_zone("UTC"),
        bid_price="bp",
        bid_size="bs",
        ask_price=pl.col("ap").str.replace("e0", ""),
        ask_size="as",
    )
    assert (result.stored, store.import_history(STOCK_QUOTES, expected, source="vendor").unchanged) == (2, 2)
    naive = expected.with_columns(pl.col("ts").dt.convert_time_zone("America/New_York").dt.replace_time_zone(None))
    with pytest.raises(InputError, match="time_zone="):
        store.import_history(STOCK_QUOTES, naive, source="vendor")
    again = store.import_history(STOCK_QUOTES, naive, source="vendor", time_zone="America/New_York")
    assert again.is_duplicate


@pytest.mark.parametrize(
    ("unit", "number"),
    [("s", 1709303400), ("ms", 1709303400000), ("us", 1709303400 * 10**6), ("ns", 1709303400 * 10**9)],
)
def test_whole_numbers_need_their_unit(store: Store, unit: str, number: int) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = BARS.head(1).with_columns(ts=pl.lit(number))
    with pytest.raises(InputError, match="time_unit="):
        store.import_history(STOCK_BARS, rows)
    store.import_history(STOCK_BARS, rows, time_unit=unit)
    assert store.read(STOCK_BARS)["ts"].to_list() == [START]
    if unit != "ns":  # of which 64 bits hold the years 1677 to 2262
        with pytest.raises(InputError, match="from 1000 to before 3000"):
            store.import_history(STOCK_BARS, rows.with_columns(ts=pl.lit(2**62)), time_unit=unit)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"columns": {"mood": "close"}}, "no column 'mood'"),
        ({"columns": {"open": "first"}}, "no column 'first'"),
        ({"constants": {"symbol": "AAA"}}, "'symbol' of its own"),
        ({"ignore": ["volume", "mood"]}, "no column 'mood'"),
        ({"ignore": ["volume"]}, "'volume' is missing"),
        ({"time_zone": "Mars/Olympus"}, "is not known"),
        ({"time_unit": "weeks"}, "is not known"),
        ({"max_rejects": 3}, "needs rejects="),
        ({"rejects": "rejects.txt"}, "should end in"),
        ({"rejects": "nowhere/rejects.csv"}, "no folder"),
        ({"data": BARS.with_columns(junk=1)}, "no column 'junk'"),
        ({"data": 7}, "not a frame"),
        ({"data": "missing.parquet"}, "no file"),
        ({"data": ["bars.txt"]}, "neither CSV nor Parquet"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    instruments(store, STOCK_BARS.kind)
    with pytest.raises(InputError, match=said):
        store.import_history(STOCK_BARS, **({"data": BARS} | arguments))
    assert store.read(STOCK_BARS).is_empty()


def test_folders_that_hold_something_else_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file in"):
        store.import_history(STOCK_BARS, tmp_path)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(InputError, match="neither CSV nor Parquet"):
        store.import_history(STOCK_BARS, tmp_path)
    (tmp_path / "_delta_log").mkdir()
    with pytest.raises(InputError, match="Delta table"):
        store.import_history(STOCK_BARS, tmp_path)


def test_a_file_that_ends_too_early_or_reads_badly_leaves_nothing(store: Store, data_dir: Path, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    half = csv_file(tmp_path, BARS, "half.csv.gz")
    half.write_bytes(half.read_bytes()[:-20])
    unended = csv_file(tmp_path, BARS, "unended.csv")
    unended.write_bytes(unended.read_bytes() + b'AAA,"1\n')
    ragged = csv_file(tmp_path, BARS, "ragged.csv")
    ragged.write_bytes(ragged.read_bytes() + b"1,2,3,4,5,6,7,8,9,10,11,12,13\n")
    for path, said in ((half, "cannot be read"), (unended, "cannot be read"), (ragged, "as many cells as the header")):
        with patch.multiple(sources, _BLOCK_BYTES=300), pytest.raises(InputError, match=said):
            store.import_history(STOCK_BARS, path)
    assert list(data_dir.glob("lake/**/*.parquet")) == []


def test_stamps_with_a_zone_and_without_do_not_mix_wherever_they_stand(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    parts = [csv_file(tmp_path, BARS.head(2), "1.csv"), csv_file(tmp_path, BARS[2:4], "2.csv")]
    parts[1].write_text(parts[1].read_text().replace("Z,", ",").replace("+00:00", ""))
    with pytest.raises(InputError, match="with a time zone and others without"):
        store.import_history(STOCK_BARS, parts, time_zone="UTC")


def test_more_rows_than_an_ordinal_can_number_are_refused(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    limits = patch.multiple(staging, _MOST_ROWS=8, _CHUNK_ROWS=2, PIECE_ROWS=2)
    with limits, patch.object(sources, "PIECE_ROWS", 2), pytest.raises(InputError, match="more than 8 rows"):
        store.import_history(STOCK_BARS, BARS)
    assert list(data_dir.glob("lake/**/*.parquet")) == []


def test_an_unknown_symbol_anywhere_leaves_nothing(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    late = BARS.with_columns(symbol=pl.when(pl.int_range(pl.len()) == 9).then(pl.lit("ZZZ")).otherwise("symbol"))
    limits = patch.multiple(staging, _CHUNK_ROWS=2, PIECE_ROWS=2)
    with limits, patch.object(sources, "PIECE_ROWS", 2), pytest.raises(NotFoundError, match="ZZZ"):
        store.import_history(STOCK_BARS, late)
    assert list(data_dir.glob("lake/**/*.parquet")) == []


def test_an_import_without_rows_stores_nothing(store: Store, tmp_path: Path) -> None:
    for shape in ("polars", "lazy", "pandas", "arrow batches", "csv", "name of a file"):
        result = store.import_history(STOCK_BARS, SHAPES[shape](tmp_path, BARS.head(0)))
        assert (result.rows, result.first_ts, result.write_id, result.is_duplicate) == (0, None, None, False)
    assert store.mirror.verify([STOCK_BARS]).is_empty()


def test_progress_counts_up_to_all_there_is(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    files = [csv_file(tmp_path, BARS.head(5)), parquet_file(tmp_path, BARS[5:])]
    size = sum(file.stat().st_size for file in files)
    seen: list[ImportProgress] = []
    with patch.object(sources, "PIECE_ROWS", 1), patch.multiple(staging, _CHUNK_ROWS=1, PIECE_ROWS=1):
        store.import_history(STOCK_BARS, files, progress=seen.append)
    assert [far.rows for far in seen] == sorted(far.rows for far in seen)
    assert [far.bytes for far in seen] == sorted(far.bytes for far in seen)
    last = seen[-1]
    assert (last.rows, last.bytes, last.files) == (BARS.height, size, 2)
    assert {(far.total_rows, far.total_bytes, far.total_files) for far in seen} == {(None, size, 2)}
    seen.clear()
    store.import_history(STOCK_BARS, BARS, progress=seen.append)
    assert (seen[-1].rows, seen[-1].total_rows, seen[-1].total_bytes) == (BARS.height, BARS.height, None)


_READING = """
import json, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from medalion.ingest import sources, staging
from medalion.core.datasets import STOCK_QUOTES
from medalion.ingest.pieces import ImportPlan, fitted
from medalion.ingest.sources import Source
from olap.delta.lake import Lake
from oltp.hot.writes import OpenWrite

sources.PIECE_ROWS = staging.PIECE_ROWS = 32_768
staging._CHUNK_ROWS = 65_536
lake, path = Lake(Path(sys.argv[1])), sys.argv[2]
lake.place.open()
peaks = []
for times in (2, 8):
    source, files, reading = Source([path] * times), [], ImportPlan()
    rows = fitted(STOCK_QUOTES, source, reading, lambda symbols: dict.fromkeys(symbols, 1), None)
    for _ in staging.stage_rows(lake.table(STOCK_QUOTES), rows, OpenWrite(1, datetime.now(UTC), 0), {}, files):
        pass
    peaks.append((sum(file.file.rows for file in files), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
print(json.dumps(peaks))
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    rows = 300_000
    quotes = pl.select(symbol=pl.lit("AAA"), ts=START + pl.int_range(rows) * timedelta(milliseconds=1)).with_columns(
        **{column.name: pl.lit(1).cast(pl.Decimal(18, 8)) for column in STOCK_QUOTES.values},
        event_id=pl.int_range(pl.len()),
    )
    path = tmp_path / "quotes.parquet"
    quotes.write_parquet(path)
    command = [sys.executable, "-c", _READING, str(tmp_path / "lake"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    (few, before), (many, after) = json.loads(done.stdout)
    assert (few, many) == (2 * rows, 8 * rows)
    # As stored, 1.8 million rows more are 270 MB.
    assert after - before < 100_000, "kilobytes more for four times the rows"


def test_what_is_read_ahead_is_bounded() -> None:
    read = 0

    def frames() -> Iterator[pl.DataFrame]:
        nonlocal read
        for _ in range(50):
            read += 1
            yield BARS

    rows = pieces.fitted(
        STOCK_BARS, Source(frames()), pieces.ImportPlan(), lambda symbols: dict.fromkeys(symbols, 1), None
    )
    next(rows)
    assert read <= 4
    rows.close()
