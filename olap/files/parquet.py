"""Rows → sorted Parquet files with exact statistics: the one way into the lake."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any, cast
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from deltalake.transaction import AddAction

from medalion.core.datasets import Dataset, Period
from medalion.core.errors import StoreError
from medalion.core.frames import by_runs
from olap.files.chunks import room_for, sealed
from olap.files.layout import CLEAN, COMPACT, PERIOD, period_of, sort_key
from olap.places.open import Place

GROUP_ROWS = 131_072
"""A row group holds about as many rows at most, unless one series alone has more."""
MIN_GROUP_ROWS = 8_192
"""Series with fewer rows share a group."""
_SAMPLE_ROWS = 2_048


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that lies in the lake's place but in no commit yet."""

    path: str
    size: int
    rows: int
    stats: str = field(repr=False)
    period: str

    def action(self, *, data_change: bool = True) -> AddAction:
        """What a commit says of it; `data_change` is False where it only rewrites rows that were there."""
        return AddAction(
            path=self.path,
            size=self.size,
            partition_values={PERIOD: self.period},
            modification_time=int(time.time() * 1000),
            data_change=data_change,
            stats=self.stats,
        )


def stage(
    place: Place, dataset: Dataset, rows: pl.DataFrame, *, newest: dict[str, int] | None = None
) -> list[StagedFile]:
    """Write stored `rows` into `place`, a file a partition, and a second one for what came late.

    `newest` holds the latest `ts` of each partition so far: older rows get a file of their own, so that one late
    correction does not widen the time box of all others.
    """
    return [write_file(place, dataset, part, period) for period, part in parts(dataset, rows, newest or {})]


def parts(dataset: Dataset, rows: pl.DataFrame, newest: dict[str, int]) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows that `stage` gives a file each, sorted, with their partition."""
    for period, partition in _partitions(dataset, rows):
        for part in _by_lateness(partition, newest.get(period)):
            yield period, part


def _partitions(dataset: Dataset, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The partitions of the rows, each sorted."""
    # Days as numbers: a text for each row would take as long as the sort.
    period = pl.col("ts").dt.date().alias(PERIOD) if dataset.period is Period.DAY else period_of(dataset)
    rows = in_order(dataset, rows).with_columns(period)
    if rows[PERIOD].n_unique() > 1:
        rows = rows.sort(PERIOD, maintain_order=True)
    start = 0
    for length, value in rows[PERIOD].rle().struct.unnest().iter_rows():
        yield str(value), rows.slice(start, length).drop(PERIOD)
        start += length


def in_order(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as they lie within a file; those of one write may lack its number. What lies so already is not moved."""
    key = [name for name in sort_key(dataset) if name in rows.columns]
    if rows["instrument_id"].is_sorted() and _is_sorted(rows, key):
        return rows
    is_one_write = "write_id" not in key or rows["write_id"].n_unique() == 1
    if is_one_write and rows["ordinal"].is_sorted():
        # They lie in order of arrival already, and the sort is stable.
        arrived = ("write_id", "ordinal", *(["ts"] if rows["ts"].is_sorted() else []))
        key = [name for name in key if name not in arrived]
    return rows.rechunk().sort(key, maintain_order=True)


def _is_sorted(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    follows = pl.lit(True)
    for name in reversed(key):
        this, before = pl.col(name), pl.col(name).shift()
        follows = (this > before) | ((this == before) & follows)
    return bool(rows.select(follows.all()).item())


def _by_lateness(partition: pl.DataFrame, newest: int | None) -> Iterator[pl.DataFrame]:
    if newest is None:
        yield partition
        return
    is_late = partition["ts"].to_physical() <= newest
    for part in (partition.filter(~is_late), partition.filter(is_late)):
        if part.height:
            yield part


def write_file(
    place: Place, dataset: Dataset, rows: pl.DataFrame, period: str, *, is_compact: bool = False
) -> StagedFile:
    """One file of sorted rows of one partition; its name holds the hash of its bytes, so that a change of them shows,
    and one of its footer.

    An existing file is never written to: part of the name is random.

    Raises:
        StoreError: the place cannot be written to, for instance because the disk is full.
    """
    content = sealed(_encoded(dataset, rows))
    marks = COMPACT * is_compact + CLEAN * (not repeated(dataset, rows).any())
    path = f"{PERIOD}={period}/{token_hex(4)}-{sums_of(content)}{marks}.parquet"
    try:
        place.write(path, content)
    except OSError as error:
        raise StoreError(f"{place} cannot be written to: {error.strerror}; nothing was committed") from error
    return StagedFile(path, len(content), rows.height, _statistics(dataset, rows), period)


def sums_of(content: bytes | pa.Buffer) -> str:
    """What a file's name says of its bytes, and of the footer alone."""
    return f"{_digest(content)}-{xxhash.xxh3_64_hexdigest(footer_in(memoryview(content)))}"


def is_unchanged(path: str, content: bytes | pa.Buffer) -> bool:
    """Whether these are the bytes that were written, as the file's name says."""
    return _sums_in(path)[:1] == [_digest(content)]


def is_footer_unchanged(path: str, footer: bytes) -> bool:
    """Whether this is the footer that was written, as the file's name says: a damaged one may end whoever parses it."""
    return _sums_in(path)[1:] in ([xxhash.xxh3_64_hexdigest(footer)], [f"{crc32(footer):08x}"])


def has_hashes(path: str) -> bool:
    """Whether the footer holds a hash of each column chunk, as the file's name says by the length of its last sum."""
    return [len(part) for part in _sums_in(path)[1:]] == [16]


def footer_in(tail: bytes | memoryview) -> bytes | memoryview:
    """The footer at the end of a file's last bytes, with its length and mark; less of it where they are too few."""
    return tail[-8 - int.from_bytes(tail[-8:-4], "little") :]


def _sums_in(path: str) -> list[str]:
    return Path(path).stem.split("-")[1:3]


def _digest(content: bytes | pa.Buffer) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _encoded(dataset: Dataset, rows: pl.DataFrame) -> pa.Buffer:
    texts = {name: by_runs(rows[name]) for name in _runs_of_text(rows)}
    fields = [field.with_type(texts[field.name].type) if field.name in texts else field for field in dataset.stored]
    others = pa.schema(field for field in dataset.stored if field.name not in texts)
    plain = rows.select(others.names).to_arrow().cast(others)
    whole, few_valued = _whole(dataset), _few_valued(rows)
    packed = {*texts, *whole, *few_valued}
    # What is packed already gains little more from zstd, and LZ4 costs readers next to nothing.
    codecs: dict[str, Any] = {
        path: "lz4" if field.name in packed else "zstd" for field in fields for path in _leaves(field)
    }
    schema, sink = pa.schema(fields), pa.BufferOutputStream()
    groups = list(row_groups(rows["instrument_id"]))
    with pq.ParquetWriter(
        sink,
        schema,
        compression=codecs,
        compression_level={path: 1 for path, codec in codecs.items() if codec == "zstd"},
        write_batch_size=16_384,
        store_decimal_as_integer=True,
        store_schema=False,  # or readers would see the dictionaries from which texts are written
        # The stubs know only of a bool.
        use_dictionary=cast(Any, [*few_valued, *(f.name for f in dataset.stored if pa.types.is_string(f.type))]),
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    ) as writer:
        for start, length in groups:
            group = plain.slice(start, length)
            columns = [
                _narrowed(texts[name].slice(start, length)) if name in texts else group.column(name)
                for name in schema.names
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=length)
        writer.add_key_value_metadata(room_for(len(groups), len(codecs)))
    return sink.getvalue()


def _narrowed(text: "pa.DictionaryArray[Any, Any]") -> "pa.DictionaryArray[Any, Any]":
    """The same with no more of the dictionary, which is in order of appearance, than it needs."""
    codes = np.asarray(text.indices)
    first, last = int(codes.min()), int(codes.max())
    return pa.DictionaryArray.from_arrays(codes - first, text.dictionary.slice(first, last - first + 1))


def row_groups(instruments: pl.Series) -> Iterator[tuple[int, int]]:
    """(start, length) of each group: cut where the instrument changes, once there are rows enough."""
    start = length = 0
    for run in instruments.rle().struct.field("len"):
        if length and (length >= MIN_GROUP_ROWS or length + run > GROUP_ROWS):
            yield start, length
            start, length = start + length, 0
        length += run
    if length:
        yield start, length


def repeated(dataset: Dataset, rows: pl.DataFrame) -> pl.Series:
    """For each row of sorted rows whether its key occurs again among them, or it is a tombstone."""
    follows = (pl.col("instrument_id") == pl.col("instrument_id").shift()) & (pl.col("ts") == pl.col("ts").shift())
    if not rows.select(follows.any() | pl.col("is_deleted").any()).item():
        return rows["is_deleted"]
    return rows.select(pl.struct(dataset.key).is_duplicated() | pl.col("is_deleted")).to_series()


def _runs_of_text(rows: pl.DataFrame) -> list[str]:
    """The texts that are given to the writer as a few values and where they stand, which takes it half as long."""
    sample, few = _sample(rows)
    texts = (name for name, kind in rows.schema.items() if kind == pl.String and not rows[name].has_nulls())
    return [name for name in texts if sample[name].n_unique() <= few // 8]


def _few_valued(rows: pl.DataFrame) -> list[str]:
    """The columns that are smaller, and faster to write and to read, with each distinct value written once."""
    sample, few = _sample(rows)
    decimals = (name for name, kind in rows.schema.items() if kind.is_decimal())
    return [name for name in decimals if sample[name].n_unique() <= few] + ["is_deleted"]


def _sample(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Consecutive rows, and how many distinct values are few among them."""
    sample = rows.slice(rows.height // 2, _SAMPLE_ROWS)
    return sample, sample.height // 2


def _leaves(field: "pa.Field[Any]") -> list[str]:
    if not pa.types.is_list(field.type):
        return [field.name]
    return [f"{field.name}.list.element.{inner.name}" for inner in field.type.value_type]


def _whole(dataset: Dataset) -> list[str]:
    return [f.name for f in dataset.stored if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type)]


def _statistics(dataset: Dataset, rows: pl.DataFrame) -> str:
    """Delta's statistics; times to the microsecond and text unabridged, so that pruning never misses a row."""
    names = [*("instrument_id", "symbol", "ts", "write_id", "recorded_at"), *(["timeframe"] * dataset.has_timeframe)]
    low, high = (rows.select(getattr(pl.col(names), end)()).row(0, named=True) for end in ("min", "max"))
    return json.dumps(
        {
            "numRecords": rows.height,
            "minValues": {name: _plain(value) for name, value in low.items()},
            "maxValues": {name: _plain(value) for name, value in high.items()},
            "nullCount": dict.fromkeys(names, 0),
        }
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return value
