"""One hash per row over Arrow buffers; PostgreSQL, Parquet and memory agree because all pass through here.

A column becomes 64-bit integers (times as microseconds, decimals unscaled, strings by BLAKE2b of each distinct value),
the columns of a row are chained through SplitMix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", 2014), and rows are added modulo 2**64, so their order does not matter and doubles show.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
_SEED = np.uint64(0x6D6564616C696F6E)  # "medalion"
_BLOCK = 16_384


def row_hashes(table: pa.Table, columns: Sequence[str], *, after: Words | None = None) -> Words:
    """A 64-bit hash of each row over `columns`, in that order.

    `after` has the hashes over the columns that come before them, so that one pass gives those of both.
    """
    words = [word for name in columns for word in _words(table.column(name))]
    chained = np.full(table.num_rows, _SEED, np.uint64) if after is None else after.copy()
    # A block stays in the processor's cache while all its columns are mixed in.
    for start in range(0, table.num_rows, _BLOCK):
        block = chained[start : start + _BLOCK]
        for word in words:
            block ^= word[start : start + _BLOCK]
            _mix_in_place(block)
    return chained


def checksum(table: pa.Table, columns: Sequence[str]) -> int:
    """The sum of the row hashes modulo 2**64, as a signed 64-bit integer."""
    return signed(int(row_hashes(table, columns).sum(dtype=np.uint64)))


def signed(word: int) -> int:
    """`word` modulo 2**64 as PostgreSQL's bigint holds it."""
    word %= 1 << 64
    return word - (1 << 64) if word >= 1 << 63 else word


def _mix(words: Words) -> Words:
    words = words.copy()
    _mix_in_place(words)
    return words


def _mix_in_place(words: Words) -> None:
    words += _NULL
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)


def _words(column: pa.ChunkedArray[Any]) -> list[Words]:
    """The column as one or two 64-bit words a row."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pa.ChunkedArray):  # combine_chunks of no chunk at all
        array = pa.array([], array.type)
    words = _physical(array)
    if array.null_count:
        missing = np.asarray(array.is_null())
        words = [np.where(missing, _NULL, word) for word in words]
    return words


def _physical(array: pa.Array[Any]) -> list[Words]:
    kind = array.type
    if pa.types.is_decimal(kind):
        pairs = _buffer(array, width=2)
        return [pairs[:, 0]] if kind.precision <= 18 else [pairs[:, 0], pairs[:, 1]]
    if pa.types.is_timestamp(kind):
        if kind.unit != "us":
            raise TypeError(f"times are hashed in microseconds, not {kind}")
        return [_buffer(array)[:, 0]]
    if pa.types.is_integer(kind):
        return [_buffer(array.cast(pa.int64()))[:, 0]]
    if pa.types.is_boolean(kind):
        return [np.asarray(array.fill_null(False)).astype(np.uint64)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_list_words(array)]
    return [_text_words(array)]


def _buffer(array: pa.Array[Any], *, width: int = 1) -> Words:
    """The array's values as they lie in memory, `width` words each."""
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros((len(array), width), np.uint64)
    words: Words = np.frombuffer(memoryview(buffer), np.uint64).reshape(-1, width)
    return words[array.offset : array.offset + len(array)]


def _text_words(array: pa.Array[Any]) -> Words:
    encoded: Any = array if pa.types.is_dictionary(array.type) else pc.dictionary_encode(array)
    known = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in encoded.dictionary.to_pylist()]
    lookup = np.array([*known, 0], np.uint64)
    words: Words = lookup[np.asarray(encoded.indices.fill_null(len(known)))]
    return words


def _list_words(array: pa.Array[Any]) -> Words:
    """Elements are chained with their place, then added per list, so that order counts."""
    lengths = np.asarray(pc.list_value_length(array).fill_null(0)).astype(np.int64)
    elements: Any = cast(Any, array).flatten()
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(elements), dtype=np.int64) - np.repeat(starts, lengths)
    chained = _mix(place.astype(np.uint64))
    fields = elements.flatten() if pa.types.is_struct(elements.type) else [elements]
    for field in fields:
        for word in _words(pa.chunked_array([field])):
            chained = _mix(chained ^ word)
    totals = np.zeros(len(array), np.uint64)
    np.add.at(totals, np.repeat(np.arange(len(array)), lengths), chained)
    return _mix(totals ^ lengths.astype(np.uint64))
