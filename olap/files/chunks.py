"""The hash of each column chunk, which the footer of its file holds: the proof of what a read decodes.

A file's name proves its footer, its footer proves its chunks, and chunks lie one behind the other from the file's mark
to its footer: so every byte that a reader may meet is proven, and a read need only look at the chunks that it touches.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from medalion.core.errors import CorruptLakeError, StoreError

_KEY = "medalion.chunks"
_ENTRY = np.dtype([("hash", "<u8"), ("size", "<u4")])
"""What is kept of each chunk, group by group; as base64 it takes sixteen letters."""
_LETTERS = 16
_BLANK = "~"
_MARK = 4
"""Bytes before the first chunk."""

Mask = NDArray[np.bool_]


def room_for(groups: int, columns: int) -> dict[str, str]:
    """What to write into a footer, that the hashes of so many chunks have a place in it."""
    return {_KEY: _BLANK * (groups * columns * _LETTERS)}


def sealed(content: pa.Buffer) -> pa.Buffer:
    """A file with room for hashes, and the hashes in it."""
    footer, data = pq.read_metadata(pa.BufferReader(content)), bytearray(content)
    entries = np.zeros(footer.num_row_groups * footer.num_columns, _ENTRY)
    end = _MARK
    for place, (start, size) in enumerate(_spans(footer)):
        if start != end:
            raise StoreError("the Parquet writer has left a gap between two columns, which no hash would prove")
        end = start + size
        entries[place] = (_hashed(memoryview(data)[start:end]), size)
    told = b64encode(entries.tobytes())
    place = data.rindex(_BLANK.encode() * len(told), data.rindex(_KEY.encode()))
    data[place : place + len(told)] = told
    return pa.py_buffer(data)


def _spans(footer: pq.FileMetaData) -> Iterator[tuple[int, int]]:
    """Start and size of each chunk; to ask the footer takes some microseconds a chunk."""
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for part in map(group.column, range(footer.num_columns)):
            yield part.dictionary_page_offset or part.data_page_offset, part.total_compressed_size


def _hashed(chunk: memoryview) -> int:
    return int(xxhash.xxh3_64_intdigest(chunk))


@dataclass(eq=False)
class Chunks:
    """Where the chunks of a file lie, a row a group and a column a leaf, and their hashes; none in a file of before.

    `are_proven` grows: a process proves a chunk once for as long as the file stays the same.
    """

    leaves: dict[str, list[int]]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    are_proven: Mask

    @classmethod
    def of(cls, footer: pq.FileMetaData) -> "Chunks":
        """Those of a file with this footer; one of before is taken for proven."""
        leaves: dict[str, list[int]] = {}
        for number in range(footer.num_columns):
            leaves.setdefault(footer.schema.column(number).path.split(".")[0], []).append(number)
        shape = (footer.num_row_groups, footer.num_columns)
        told = (footer.metadata or {}).get(_KEY.encode())
        if told is None:
            spans = np.array(list(_spans(footer)), np.int64).reshape(*shape, 2)
            return cls(leaves, spans[..., 0], spans[..., 1], np.zeros(shape, np.uint64), np.ones(shape, np.bool_))
        entries = np.frombuffer(b64decode(told), _ENTRY).reshape(shape)
        sizes = entries["size"].astype(np.int64)
        starts = _MARK + np.cumsum(sizes).reshape(shape) - sizes
        return cls(leaves, starts, sizes, entries["hash"].copy(), np.zeros(shape, np.bool_))

    def of_columns(self, names: Iterable[str], groups: Mask | None = None) -> Mask:
        """The chunks of some columns, in some groups or in all; a name that the file lacks is passed over."""
        wanted = np.zeros(self.are_proven.shape, np.bool_)
        for leaf in {leaf for name in names for leaf in self.leaves.get(name, ())}:
            wanted[slice(None) if groups is None else groups, leaf] = True
        return wanted

    def runs(self, wanted: Mask) -> Iterator[tuple[int, int]]:
        """Start and end of what has to be read for some chunks; those that touch are one run."""
        start = end = -1
        for place in np.flatnonzero(wanted.ravel()).tolist():
            first, size = int(self.starts.flat[place]), int(self.sizes.flat[place])
            if first != end:
                if end > start:
                    yield start, end
                start = first
            end = first + size
        if end > start:
            yield start, end

    def prove(self, wanted: Mask, content: memoryview, *, at: int = 0) -> None:
        """Compare chunks with their hashes; `content` is of the file from `at` on, and holds them.

        Raises:
            CorruptLakeError: one has changed since it was written.
        """
        for place in np.flatnonzero((wanted & ~self.are_proven).ravel()).tolist():
            start = int(self.starts.flat[place]) - at
            if _hashed(content[start : start + int(self.sizes.flat[place])]) != int(self.hashes.flat[place]):
                raise CorruptLakeError("its bytes have changed since it was written")
        self.are_proven |= wanted
