"""Rows → sorted Parquet files with exact statistics: the one way into the lake."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from medalion.datasets import Dataset, Period
from medalion.errors import StoreError
from olap.layout import CLEAN, COMPACT, PERIOD, period_of, sort_key
from olap.place import Place

GROUP_ROWS = 131_072
"""A row group holds about as many rows at most, unless one series alone has more."""
MIN_GROUP_ROWS = 8_192
"""Series with fewer rows share a group."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that lies in the lake's place but in no commit yet."""

    path: str
    size: int
    rows: int
    stats: str = field(repr=False)
    period: str

    def action(self, *, data_change: bool = True) -> AddAction:
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
    return [
        write_file(place, dataset, part, period)
        for period, partition in _partitions(dataset, rows)
        for part in _by_lateness(partition, (newest or {}).get(period))
    ]


def _partitions(dataset: Dataset, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The partitions of the rows, each sorted."""
    key = list(sort_key(dataset))
    if rows["write_id"].n_unique() == 1 and rows["ordinal"].is_sorted():
        key = key[:-2]  # they lie in order of arrival already, and the sort is stable
    # Days as numbers: a text for each row would take as long as the sort.
    period = pl.col("ts").dt.date().alias(PERIOD) if dataset.period is Period.DAY else period_of(dataset)
    rows = rows.with_columns(period)
    several = [PERIOD] if rows[PERIOD].n_unique() > 1 else []
    rows = rows.sort([*several, *key], maintain_order=True)
    start = 0
    for length, value in rows[PERIOD].rle().struct.unnest().iter_rows():
        yield str(value), rows.slice(start, length).drop(PERIOD)
        start += length


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
    """One file of sorted rows of one partition; its name holds the hash of its bytes, so that a change of them shows.

    An existing file is never written to: part of the name is random.

    Raises:
        StoreError: the place cannot be written to, for instance because the disk is full.
    """
    content = _encoded(dataset, rows)
    marks = COMPACT * is_compact + CLEAN * (not repeated(dataset, rows).any())
    path = f"{PERIOD}={period}/{token_hex(4)}-{digest(content)}{marks}.parquet"
    try:
        place.write(path, content)
    except OSError as error:
        raise StoreError(f"{place} cannot be written to: {error.strerror}; nothing was committed") from error
    return StagedFile(path, len(content), rows.height, _statistics(dataset, rows), period)


def digest(content: bytes | memoryview | pa.Buffer) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def digest_in(path: str) -> str:
    """The hash that a file's name says its bytes have."""
    return "".join(Path(path).stem.split("-")[1:2])


def _encoded(dataset: Dataset, rows: pl.DataFrame) -> pa.Buffer:
    table = rows.to_arrow().cast(dataset.stored)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        dataset.stored,
        compression="zstd",
        compression_level=1,
        store_decimal_as_integer=True,
        use_dictionary=cast(Any, _repetitive(dataset)),  # the stubs know only of a bool
        column_encoding=_encodings(dataset),
    ) as writer:
        for start, length in row_groups(rows["instrument_id"]):
            writer.write_table(table.slice(start, length), row_group_size=length)
    return sink.getvalue()


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


def _repetitive(dataset: Dataset) -> list[str]:
    return [f.name for f in dataset.stored if pa.types.is_string(f.type) or pa.types.is_boolean(f.type)]


def _encodings(dataset: Dataset) -> dict[str, str]:
    whole = (f for f in dataset.stored if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type))
    return {f.name: "DELTA_BINARY_PACKED" for f in whole}


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
