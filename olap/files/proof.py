"""What is read of the lake's files is what was written: proven before it is answered with, and once.

A narrow read proves the very bytes that it decodes. Before an engine of somebody else reads files by itself, all that
it may touch of them is proven.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from medalion.core.errors import CorruptLakeError
from medalion.core.time import ALWAYS, TimeRange
from olap.files.chunks import Chunks, Mask
from olap.files.groups import Footer, Group, footer_of
from olap.places.open import Place

_MOST_CHUNKS = 2_000_000
"""About so many chunks are remembered, in some 25 bytes each: those of a hundred thousand small files."""
_MOST_DONE = 64
_NOTHING: Mask = np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Touched:
    """What an engine may read of files: of the groups that may hold meant rows these columns, of the others `keys`
    alone, by which it finds that none of theirs is meant. None is every instrument and every symbol.
    """

    columns: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    instruments: tuple[int, ...] | None = None
    symbols: frozenset[str] | None = None
    during: TimeRange = ALWAYS


class Proof:
    """What is known of a file: its chunks, what each of its groups spans, and for which reads it was proven."""

    def __init__(self, footer: Footer) -> None:
        self.chunks = Chunks.of(footer.metadata)
        self._boxes = footer.boxes
        self._symbols: list[tuple[str, str] | tuple[()]] | None = None
        self._done: set[Touched] = set()

    def left(self, touched: Touched, footer: Callable[[], Footer]) -> Mask:
        """The chunks that are touched and not proven yet; nothing where the same was asked before and is done."""
        chunks = self.chunks
        if touched in self._done or chunks.are_proven.all():
            return _NOTHING
        meeting = self._boxes.meeting(touched.instruments, touched.during)
        if touched.symbols is not None:
            if self._symbols is None:
                self._symbols = [group.of("symbol") for group in footer().groups]
            meeting &= [_lies_in(span, touched.symbols) for span in self._symbols]
        wanted = chunks.of_columns(touched.columns, meeting) | chunks.of_columns(touched.keys)
        left: Mask = wanted & ~chunks.are_proven
        if not left.any():
            if len(self._done) >= _MOST_DONE:
                self._done.clear()
            self._done.add(touched)
        return left


def _lies_in(span: tuple[str, str] | tuple[()], symbols: Collection[str]) -> bool:
    return not span or any(span[0] <= symbol <= span[1] for symbol in symbols)


class Proofs:
    """What this process has proven; safe to use from several threads."""

    def __init__(self, most_chunks: int = _MOST_CHUNKS) -> None:
        self._most = most_chunks
        self._known: OrderedDict[tuple[str, str, tuple[int, ...]], Proof] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def of(self, place: Place, file: str) -> Proof:
        """That of a file, whose footer is proven by then.

        Raises:
            CorruptLakeError, ArrowException, OSError: the file is missing, or its footer damaged.
        """
        stamp = place.stamp(file)
        key = (str(place), file, stamp)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        made = Proof(footer_of(place, file, stamp))
        with self._lock:
            if key not in self._known:
                self._known[key] = made
                self._held += made.chunks.are_proven.size
            while self._held > self._most and len(self._known) > 1:
                _, dropped = self._known.popitem(last=False)
                self._held -= dropped.chunks.are_proven.size
            return self._known[key]


_PROOFS = Proofs()


def prove(place: Place, files: Iterable[str], touched: Touched) -> None:
    """Prove what an engine may read of files; nothing where this process has done so and they have not changed.

    Raises:
        CorruptLakeError, ArrowException, OSError: a file is missing or damaged.
    """
    lacking: list[tuple[str, Chunks, Mask]] = []
    for file in files:
        proof = _PROOFS.of(place, file)
        if (left := proof.left(touched, partial(_footer, place, file))).any():
            lacking.append((file, proof.chunks, left))

    def work(each: tuple[str, Chunks, Mask]) -> None:
        file, chunks, left = each
        with place.opened(file) as source:
            for start, end in chunks.runs(left):
                part = left & (chunks.starts >= start) & (chunks.starts < end)
                _proven(place, file, chunks, part, memoryview(_read(source, start, end)), at=start)

    if len(lacking) < 2:
        for each in lacking:
            work(each)
        return
    with ThreadPoolExecutor(min(len(lacking), place.readers)) as pool:
        for _ in pool.map(work, lacking):
            pass


def is_proven(place: Place, files: Iterable[str]) -> bool:
    """Whether all of the files was proven, so that nobody need find out what would be touched; raises as `prove`."""
    return all(_PROOFS.of(place, file).chunks.are_proven.all() for file in files)


def decoded(place: Place, group: Group, names: list[str]) -> pl.DataFrame:
    """The rows of a group with these columns, as they lie in memory; proven, and read once for both.

    Raises:
        CorruptLakeError, ArrowException, OSError: the file is missing or damaged.
    """
    chunks = _PROOFS.of(place, group.file).chunks
    wanted = chunks.of_columns(names, np.arange(len(chunks.starts)) == group.number)
    with place.opened(group.file) as source:
        # As long as the file, and empty but for what is read: memory that nobody touches takes none.
        content = np.zeros(source.size(), np.uint8)
        for start, end in chunks.runs(wanted):
            part = _read(source, start, end)
            content[start : start + len(part)] = np.frombuffer(part, np.uint8)
    _proven(place, group.file, chunks, wanted, content.data)
    with pq.ParquetFile(pa.BufferReader(pa.py_buffer(content.data)), metadata=group.footer) as parquet:
        table = parquet.read_row_group(group.number, columns=names, use_threads=False)
    return cast(pl.DataFrame, pl.from_arrow(table, rechunk=False))


def _footer(place: Place, file: str) -> Footer:
    return footer_of(place, file, place.stamp(file))


def _read(source: pa.NativeFile, start: int, end: int) -> bytes:
    source.seek(start)
    return source.read(end - start)


def _proven(place: Place, file: str, chunks: Chunks, wanted: Mask, content: memoryview, *, at: int = 0) -> None:
    try:
        chunks.prove(wanted, content, at=at)
    except CorruptLakeError as error:
        raise CorruptLakeError(f"{place}/{file} is damaged: {error}; run `medalion mirror verify`") from None
