"""Rows in COPY's binary format, which PostgreSQL takes in three quarters of the time of text."""

from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from oltp.hot.tables import plain

Records: TypeAlias = NDArray[Any]

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

_NULL = b"\xff\xff\xff\xff"
_JSONB_VERSION = b"\x01"
_EPOCH = 946_684_800_000_000  # 2000 in microseconds since 1970, where the server's times begin
_WHOLE: dict[Any, str] = {pl.Int64: ">i8", pl.Int32: ">i4", pl.Int16: ">i2", pl.Boolean: "u1", pl.Datetime: ">i8"}
# A digit of `numeric` has four decimal places. Of a number too large for 64 bits the last four are taken first.
_PLACES, _BASE, _LOW = 4, 10_000, 4
_NEGATIVE = 0x4000


def copy_binary(rows: pl.DataFrame) -> memoryview:
    """The rows without the format's header and trailer, their columns in the same order."""
    parts: list[Any] = [len(rows.columns).to_bytes(2, "big")]
    full: list[tuple[pl.DataType, pl.Series]] = []  # columns of one width without nulls, side by side
    stored = plain(rows).select(pl.all().to_physical())
    for kind, column in zip(rows.dtypes, stored, strict=True):
        if column.dtype != pl.String and not column.null_count():
            full.append((kind, column))
            continue
        parts += [*_fields(full), _texts(kind, column) if column.dtype == pl.String else _some(kind, column)]
        full = []
    joined = pc.binary_join_element_wise(*parts, *_fields(full), b"")
    _, ends, content = joined.buffers()
    return memoryview(content)[: int(np.frombuffer(ends, np.int32)[rows.height])]


def _texts(kind: pl.DataType, column: pl.Series) -> Any:
    version = _JSONB_VERSION if isinstance(kind, pl.List) else b""
    codes: Any = column.rechunk().to_arrow().dictionary_encode()
    values = [version + text.encode() for text in codes.dictionary.to_pylist()]
    fields = pa.array([len(value).to_bytes(4, "big") + value for value in values], pa.binary())
    return fields.take(codes.indices).fill_null(_NULL)


def _some(kind: pl.DataType, column: pl.Series) -> Any:
    """The fields of a column of which some are null."""
    if column.null_count() == len(column):
        return _NULL
    zero = pl.lit(0).cast(column.dtype)
    filled = column.to_frame().select(pl.all().fill_null(zero)).to_series()
    return pc.if_else(column.is_null().to_arrow(), _NULL, *_fields([(kind, filled)]))


def _fields(columns: list[tuple[pl.DataType, pl.Series]]) -> list[Any]:
    """The fields of columns without nulls, a row's side by side; nothing of no columns."""
    if not columns:
        return []
    records = np.zeros(len(columns[0][1]), [(str(place), _field(kind)) for place, (kind, _) in enumerate(columns)])
    for place, (kind, column) in enumerate(columns):
        field = records[str(place)]
        field["length"] = field.dtype.itemsize - 4
        if isinstance(kind, pl.Decimal):
            _put_numbers(field, column, kind)
        else:
            field["value"] = column.to_numpy() - (_EPOCH if kind == pl.Datetime else 0)
    ends = np.arange(len(records) + 1, dtype=np.int32) * records.itemsize
    content: list[Any] = [ends, records]
    return [pa.Array.from_buffers(pa.binary(), len(records), [None, *map(pa.py_buffer, content)])]


def _field(kind: pl.DataType) -> list[Any]:
    """A field with its length before it, as it lies in a row."""
    if isinstance(kind, pl.Decimal):
        head = [(name, ">i2") for name in ("count", "weight", "sign", "scale")]
        return [("length", ">i4"), *head, ("digits", ">i2", (-(-kind.precision // _PLACES),))]
    return [("length", ">i4"), ("value", _WHOLE[kind.base_type()])]


def _put_numbers(field: Records, units: pl.Series, kind: pl.Decimal) -> None:
    """Numbers with all digits that one of the kind can have; the server leaves zeros at the ends away."""
    digits = field["digits"]
    place = count = digits.shape[1]
    field["count"], field["scale"] = count, kind.scale
    field["weight"] = count - kind.scale // _PLACES - 1
    parts = [(units, count)]
    if kind.precision > 18:
        # Both halves have the sign of the number, for one of them may be zero.
        number, low = pl.col("number"), _BASE**_LOW
        size, sign = number.abs(), number.sign()
        halves = pl.DataFrame({"number": units}).select(low=size % low * sign, high=size // low * sign)
        parts = [(halves["low"], _LOW), (halves["high"], count - _LOW)]
    for part, length in parts:
        whole = part.cast(pl.Int64).to_numpy()
        field["sign"] |= np.where(whole < 0, _NEGATIVE, 0).astype(np.uint16)
        rest = np.abs(whole).astype(np.uint64)
        for _ in range(length):
            place -= 1
            rest, digit = np.divmod(rest, np.uint64(_BASE))
            digits[:, place] = digit
