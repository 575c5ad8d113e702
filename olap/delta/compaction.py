"""Many small files of a partition → few sorted ones: which are worth it (pure), and the rewriting.

Every row is kept, superseded versions and tombstones too, so that no checksum changes. New files lie apart from each
other, in instruments or, where one instrument fills several, in time; instruments without corrections are kept apart
from those with some, so that most reads need no deduplication afterwards.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError
from olap.delta.contents import proven
from olap.delta.tables import LakeTable
from olap.files.index import Files
from olap.files.layout import NO_BOXES, sort_key, tangled
from olap.files.parquet import MIN_GROUP_ROWS, StagedFile, repeated, write_file
from olap.reads.scan import collect

FILE_ROWS = 500_000
"""Rows of a new file at most, and all that is in memory at once: so many quotes take about 0.5 GB while sorted."""
FILE_BYTES = 64 << 20
"""The same for wide rows such as books: bytes of Parquet that are decoded at once."""
FEWEST_FILES = 8
"""Files from which a partition that is still being written to is worth a turn: each costs a read about 0.3 ms."""
_APART_ROWS = 8 * MIN_GROUP_ROWS
"""Rows without corrections that are worth a file of their own beside instruments with some."""

Kept = Callable[[pl.DataFrame], pl.DataFrame]
Mask = NDArray[np.bool_]


def worthwhile(files: Files) -> Files | None:
    """The files of one partition to rewrite, or None: small ones, those that share keys, slices of time that hold many
    instruments each, and what lies between them.

    What is left alone is large, or what came of a rewriting, and shares no key with the result, so that rewriting again
    changes nothing.
    """
    if depth(files) >= FEWEST_FILES:
        return files
    return _if_worth(_with_between(files, _is_small(files) | _is_tangled(files) | ~files.is_compact), fewest=2)


def depth(files: Files) -> int:
    """How many files at most one instrument shares with others: slices of time, each of which a read of it opens."""
    shared = files.where(files.first_instrument < files.last_instrument)
    # Counted up at the first instrument of a file and down behind its last.
    ends = np.concatenate([shared.first_instrument, shared.last_instrument + 1])
    steps = np.repeat([1, -1], len(shared))
    opened = np.cumsum(steps[np.lexsort((steps, ends))])
    return int(opened.max(initial=0))


def worthwhile_meanwhile(files: Files) -> Files | None:
    """The same for a partition that is still being written to: only small files of similar size.

    A file is left alone until the smaller ones hold as many rows as it does, so that a row is rewritten about as often
    as the number of rows can be halved, and not with each new file.
    """
    small = files.where(_is_small(files))
    small = small.where(np.argsort(small.rows, kind="stable"))
    before = np.cumsum(small.rows) - small.rows
    similar = np.flatnonzero(~small.is_compact | (small.rows <= before))
    return _if_worth(small.where(np.arange(similar[-1] + 1)), fewest=FEWEST_FILES) if len(similar) else None


def corrected(files: Files) -> Files:
    """The files of one partition in which a row may be superseded or a tombstone, and what lies between them."""
    return _with_between(files, files.needing_deduplication(NO_BOXES))


def _with_between(files: Files, chosen: Mask) -> Files:
    """The chosen files and those that meet the span of them all: what replaces these will meet no other file."""
    while chosen.any():
        meets = np.ones(len(files), np.bool_)
        for name in ("instrument", "ts"):
            first, last = getattr(files, f"first_{name}"), getattr(files, f"last_{name}")
            meets &= (first <= last[chosen].max()) & (last >= first[chosen].min())
        if (meets == chosen).all():
            break
        chosen = meets
    return files.where(chosen)


def _if_worth(files: Files, *, fewest: int) -> Files | None:
    is_done = bool(files.is_compact.all()) and not _is_tangled(files).any()
    return None if len(files) < fewest or is_done else files


def _is_small(files: Files) -> Mask:
    small: Mask = (files.rows < FILE_ROWS // 2) & (files.bytes < FILE_BYTES // 2)
    return small


def _is_tangled(files: Files) -> Mask:
    return tangled(files.boxes())


def rewritten(table: LakeTable, files: Files, *, kept: Kept | None = None) -> Iterator[StagedFile]:
    """Stage the rows of files of one partition in new ones; with `kept`, only those that it returns.

    `kept` is given all rows of a key at once, sorted. Memory is bounded by `FILE_ROWS`, however large the partition.

    Raises:
        CorruptLakeError: a file is missing or damaged; damage is never carried into a new file.
    """
    period = str(files.period[0])
    for path in files.path:
        checked(table, str(path))
    for part in _parts(table, files):
        rows = part.sort(sort_key(table.dataset))
        rows = rows if kept is None else kept(rows)
        for start, length in _apart(table.dataset, rows):
            yield write_file(table.place, table.dataset, rows.slice(start, length), period, is_compact=True)


def checked(table: LakeTable, path: str) -> bytes:
    """The bytes of a file, which are those that were written.

    Raises:
        CorruptLakeError: it is missing or damaged.
    """
    try:
        return proven(table.place, path)
    except FileNotFoundError as error:
        raise CorruptLakeError(f"{table.place}/{path} cannot be read: {error.strerror}") from error


def _parts(table: LakeTable, files: Files) -> Iterator[pl.DataFrame]:
    """All rows, so many at once as fit; all rows of an instrument at one time are in one part."""
    most = max(1, min(FILE_ROWS, int(FILE_BYTES * files.rows.sum() // max(1, files.bytes.sum()))))
    counts = collect(table.scan(files.path).group_by("instrument_id").len().sort("instrument_id"))
    for first, last, rows in _ranges(counts.rows(), most):
        held = files.where((files.first_instrument <= last) & (files.last_instrument >= first))
        found = table.scan(held.path).filter(pl.col("instrument_id").is_between(first, last))
        if rows <= most:
            yield collect(found)
            continue
        times = collect(found.select("ts"))["ts"].sort()
        cuts = [*times.gather_every(most).unique(maintain_order=True), None]
        for start, end in pairwise(cuts):
            until = pl.lit(True) if end is None else pl.col("ts") < end
            yield collect(found.filter(pl.col("ts") >= start, until))


def current_since(dataset: Dataset, rows: pl.DataFrame, moment: datetime, *, below: int) -> pl.DataFrame:
    """The rows without versions that were superseded at `moment`; `rows` are all of their keys, sorted.

    Reads as of `moment` or later stay as they are. A tombstone that hides nothing any more goes too, unless a write
    that is numbered from `below` on could still bring an earlier version.
    """
    key, place = list(dataset.key), pl.col("__place")
    is_old = pl.col("recorded_at") <= moment
    is_last = place == pl.when(is_old).then(place).max().over(key)
    rows = rows.with_row_index("__place").filter(~is_old | is_last)
    hides_nothing = is_old & pl.col("is_deleted") & (pl.len().over(key) == 1) & (pl.col("write_id") < below)
    return rows.filter(~hides_nothing).drop("__place")


def _ranges(counts: Sequence[tuple[int, int]], most: int) -> Iterator[tuple[int, int, int]]:
    """(first instrument, last instrument, rows) of runs of similar size, at most so many rows or one instrument each.

    >>> list(_ranges([(1, 40), (2, 60), (3, 10), (4, 30), (7, 300)], 100))
    [(1, 2, 100), (3, 4, 40), (7, 7, 300)]
    """
    whole = sum(rows for _, rows in counts)
    # A short last run would be rewritten with every new file; three quarters leave room to end between instruments.
    fair = whole / max(1, round(whole / (most * 0.75)))
    first = last = counts[0][0]
    total = 0
    for instrument, rows in counts:
        if total and (total >= fair or total + rows > most):
            yield first, last, total
            first, total = instrument, 0
        last, total = instrument, total + rows
    yield first, last, total


def _apart(dataset: Dataset, rows: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """(start, length) of runs of instruments: long ones without any correction, and the rest."""
    instruments = rows["instrument_id"]
    corrected = instruments.filter(repeated(dataset, rows)).unique()
    runs = instruments.is_in(corrected.implode()).rle().struct.unnest()
    start = length = 0
    for run, is_corrected in runs.iter_rows():
        is_alone = not is_corrected and run >= _APART_ROWS
        if is_alone and length:
            yield start, length
            start, length = start + length, 0
        length += run
        if is_alone:
            yield start, length
            start, length = start + length, 0
    if length:
        yield start, length
