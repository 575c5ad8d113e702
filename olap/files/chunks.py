"""The hash of each column chunk, which the footer of its file holds: the proof of what a read decodes.

A file's name proves its footer, its footer proves its chunks, and chunks lie one behind the other from the file's mark
to its footer: so every byte that a reader may meet is proven, and a read need only look at the chunks that it touches.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from medalion.core.errors import CorruptLakeError

_KEY = "medalion.chunks"
_DIGITS = 16
_BLANK = "~"

Mask = NDArray[np.bool_]


def room_for(groups: int, columns: int) -> dict[str, str]:
    """What to write into a footer, that the hashes of so many chunks have a place in it."""
    return {_KEY: _BLANK * (groups * columns * _DIGITS)}


def sealed(content: pa.Buffer) -> pa.Buffer:
    """A file with room for hashes, and the hashes in it."""
    chunks = Chunks.of(pq.read_metadata(pa.BufferReader(content)))
    data = bytearray(content)
    hashes = "".join(_hashed(memoryview(data)[start : start + size]) for start, size in chunks.all_spans())
    place = data.rindex(_BLANK.encode() * len(hashes), data.rindex(_KEY.encode()))
    data[place : place + len(hashes)] = hashes.encode()
    return pa.py_buffer(data)


def _hashed(chunk: memoryview) -> str:
    return str(xxhash.xxh3_64_hexdigest(chunk))


@dataclass(eq=False)
class Chunks:
    """Where the chunks of a file lie, a row a group and a column a leaf; their hashes, None in a file of before.

    `are_proven` grows: a process proves a chunk once for as long as the file stays the same.
    """

    leaves: dict[str, list[int]]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    hashes: str | None
    are_proven: Mask

    @classmethod
    def of(cls, footer: pq.FileMetaData) -> "Chunks":
        """Those of a file with this footer."""
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        parts = [[group.column(number) for number in range(footer.num_columns)] for group in groups]
        spans = [
            [(part.dictionary_page_offset or part.data_page_offset, part.total_compressed_size) for part in row]
            for row in parts
        ]
        found = np.array(spans, np.int64).reshape(len(groups), footer.num_columns, 2)
        leaves: dict[str, list[int]] = {}
        for number in range(footer.num_columns):
            leaves.setdefault(footer.schema.column(number).path.split(".")[0], []).append(number)
        told = (footer.metadata or {}).get(_KEY.encode())
        hashes = told.decode() if told is not None else None
        return cls(leaves, found[..., 0], found[..., 1], hashes, np.full(found.shape[:2], hashes is None))

    def all_spans(self) -> Iterator[tuple[int, int]]:
        """Start and size of each, group by group."""
        return zip(self.starts.ravel().tolist(), self.sizes.ravel().tolist(), strict=True)

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
            found = _hashed(content[start : start + int(self.sizes.flat[place])])
            if self.hashes is None or found != self.hashes[place * _DIGITS : (place + 1) * _DIGITS]:
                raise CorruptLakeError("its bytes have changed since it was written")
        self.are_proven |= wanted
