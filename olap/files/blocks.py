"""Decoded columns of row groups, of which the last are kept in memory: files never change, so that none grows old."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import polars as pl

from olap.files.groups import Group
from olap.files.proof import decoded
from olap.places.open import Place

_SHARED_ROWS = 32_768
"""From about here threads gain more than they cost."""
_MOST_AT_ONCE = 4
"""What is read at once is kept if it takes no more than this part of the room: one long read drives out no others."""


class Block(NamedTuple):
    """A column of a row group; `stamp` is another once the file has changed, which only damage does."""

    path: str
    stamp: tuple[int, ...]
    group: int
    column: str


class Blocks:
    """The columns that were read last, as many as `most_bytes` hold; safe to use from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: OrderedDict[Block, tuple[pl.Series, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """How much is held."""
        return self._bytes

    def read(self, place: Place, wanted: Sequence[tuple[Group, Sequence[str]]]) -> list[pl.DataFrame]:
        """The columns of each group, which has them; those that are not held are decoded, side by side if many.

        Raises:
            CorruptLakeError, ArrowException, PolarsError, OSError: a file is missing or damaged.
        """
        files = {group.file: (place.at(group.file), place.stamp(group.file)) for group, _ in wanted}
        asked = [(group, [Block(*files[group.file], group.number, name) for name in names]) for group, names in wanted]
        found = self._found(block for _, blocks in asked for block in blocks)
        lacking = [(group, left) for group, blocks in asked if (left := [b for b in blocks if b not in found])]
        if lacking:
            decoded = _decoded(place, lacking)
            self._keep(decoded)
            found |= decoded
        return [pl.DataFrame([found[block] for block in blocks]) for _, blocks in asked]

    def _found(self, blocks: Iterable[Block]) -> dict[Block, pl.Series]:
        with self._lock:
            found = {block: self._held[block][0] for block in blocks if block in self._held}
            for block in found:
                self._held.move_to_end(block)
        return found

    def _keep(self, decoded: Mapping[Block, pl.Series]) -> None:
        sizes = {block: int(column.estimated_size()) for block, column in decoded.items()}
        if sum(sizes.values()) * _MOST_AT_ONCE > self._most:
            return
        with self._lock:
            for block in decoded.keys() - self._held.keys():
                self._held[block] = decoded[block], sizes[block]
                self._bytes += sizes[block]
            while self._bytes > self._most:
                _, (_, size) = self._held.popitem(last=False)
                self._bytes -= size


NONE_KEPT = Blocks(0)


def _decoded(place: Place, lacking: Sequence[tuple[Group, Sequence[Block]]]) -> dict[Block, pl.Series]:
    def decode(of_group: tuple[Group, Sequence[Block]]) -> dict[Block, pl.Series]:
        group, blocks = of_group
        rows = decoded(place, group, [block.column for block in blocks])
        return {block: rows[block.column] for block in blocks}

    if sum(group.rows for group, _ in lacking) < _SHARED_ROWS:
        parts = list(map(decode, lacking))
    else:
        with ThreadPoolExecutor(min(len(lacking), place.readers)) as pool:
            parts = list(pool.map(decode, lacking))
    return {block: column for part in parts for block, column in part.items()}
