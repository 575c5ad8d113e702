"""A caller's frame → a dataset's columns, exactly, or an InputError that names the first bad row.

Nothing is rounded here except times finer than a microsecond, which are floored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import polars as pl
import pyarrow as pa

from medalion.checksum import row_hashes
from medalion.datasets import EVENT_ID, TIMEFRAME, Available, Column, Dataset
from medalion.decimals import exact_decimals
from medalion.errors import InputError
from medalion.types import Timeframe, checked_name

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = "pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch | pd.DataFrame"


FIRST_YEAR, LAST_YEAR = datetime(1000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_PER_SECOND = {"1d": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PER_DAY = {"1d": 86_400}


def polars_frame(frame: Frame) -> pl.DataFrame:
    """Any frame as a Polars one; a named pandas index becomes columns.

    Raises:
        InputError: not a frame.
    """
    if isinstance(frame, pl.LazyFrame):
        try:
            return frame.collect()
        except pl.exceptions.PolarsError as error:
            raise InputError(f"the lazy frame fails: {error}", expected="a frame") from error
    if isinstance(frame, pl.DataFrame):
        return frame
    if hasattr(frame, "index") and hasattr(frame, "reset_index"):
        named = [name for name in frame.index.names if name is not None]
        frame = frame.reset_index() if named else frame
    if hasattr(frame, "__arrow_c_stream__") or isinstance(frame, pa.RecordBatch):
        try:
            return pl.DataFrame(pa.table(frame))
        except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise InputError(f"the frame cannot be read: {error}", given=type(frame), expected="a frame") from error
    raise InputError(
        f"a {type(frame).__name__} is not a frame; give a Polars, pandas or Arrow table",
        given=type(frame),
        expected="a frame",
    )


def conform(dataset: Dataset, frame: Frame, *, source: str) -> pl.DataFrame:
    """The frame with the columns and types of `dataset`, in order; `instrument_id` is null where not given.

    Columns that reads derive (`mid_price`) are dropped if they say what a read would.

    Raises:
        InputError: a missing or unknown column, a wrong type, a null in a key, a number that decimal(18,8) cannot
            hold exactly, a time without zone, or a `source` column that says otherwise than `source`.
    """
    checked_name(source, "source", longest=100)
    given = polars_frame(frame)
    _check_names(dataset, given.columns)
    columns = {column.name: _column(dataset, column, given, source) for column in dataset.columns}
    table = pl.DataFrame(columns)
    for column in dataset.derived:
        if column.name in given.columns:
            _check_derived(table, column, given[column.name])
    if EVENT_ID.name in columns:
        table = _with_event_ids(dataset, table)
    return table


def derive(dataset: Dataset) -> list[pl.Expr]:
    """The columns that every read computes: `available_at` where it is not stored, and `mid_price`."""
    known = pl.col("ts")
    if dataset.available is Available.AT_CLOSE:
        known = known.dt.offset_by(_offsets())
    derived = [pl.coalesce("available_at", known).alias("available_at")]
    if dataset.derived:
        derived.append(_mid_price().alias("mid_price"))
    return derived


def _offsets() -> pl.Expr:
    """`5Min` as `5m`, the way Polars spells it."""
    text = pl.col(TIMEFRAME.name)
    for unit, short in (("Min", "m"), ("Hour", "h"), ("Day", "d"), ("Week", "w"), ("Month", "mo")):
        text = text.str.replace(unit, short, literal=True)
    return text


def _mid_price() -> pl.Expr:
    """Half of the sum, half-even in the eighth place."""
    total = pl.col("bid_price").reinterpret(dtype=pl.Int128) + pl.col("ask_price").reinterpret(dtype=pl.Int128)
    half = total.floordiv(2)
    is_odd_tie = (total % 2 != 0) & (half % 2 != 0)
    return (half + is_odd_tie.cast(pl.Int128)).reinterpret(dtype=pl.Decimal(18, 8))


def _check_names(dataset: Dataset, given: list[str]) -> None:
    known = [column.name for column in (*dataset.columns, *dataset.derived)]
    missing = [column.name for column in dataset.columns if not column.optional and column.name not in given]
    unknown = [name for name in given if name not in known]
    if missing or unknown:
        said = [
            *(f"column {name!r} is missing" for name in missing),
            *(f"column {name!r} is unknown" for name in unknown),
        ]
        required = ", ".join(column.name for column in dataset.columns if not column.optional)
        allowed = ", ".join(name for name in known if name not in required.split(", "))
        raise InputError(
            f"{dataset.name}: {'; '.join(said)}; required: {required}; optional: {allowed}", given=given, expected=known
        )


def _column(dataset: Dataset, column: Column, frame: pl.DataFrame, source: str) -> pl.Series:
    where = f"{dataset.name}.{column.name}"
    if column.name == "source":
        return _source(frame, source, where)
    if column.name not in frame.columns:
        return pl.Series(column.name, [None], dtype=polars_schema(dataset.stored)[column.name]).new_from_index(
            0, frame.height
        )
    series = _typed(frame[column.name], column.type, where)
    if series.null_count() and not (column.nullable or column.optional):
        row = int(series.is_null().arg_max() or 0)
        raise InputError(f"{where} is null in row {row}; every row needs one", expected=str(column.type))
    if column.name == TIMEFRAME.name:
        series = series.replace_strict({text: str(Timeframe.parse(text)) for text in series.unique().to_list()})
    return series.alias(column.name)


def _source(frame: pl.DataFrame, source: str, where: str) -> pl.Series:
    if "source" in frame.columns:
        _typed(frame["source"], pa.string(), where)
        others = frame["source"].filter(frame["source"].ne_missing(source))
        if len(others):
            raise InputError(
                f"{where} holds {others[0]!r}, the write is from {source!r}; one write has one source: pass source=",
                given=others[0],
                expected=source,
            )
    return pl.Series("source", [source]).new_from_index(0, frame.height)


@cache
def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The same columns with Polars' types."""
    return pl.DataFrame(schema.empty_table()).schema


def _typed(series: pl.Series, kind: pa.DataType, where: str) -> pl.Series:
    """The series as `kind`, exactly."""
    wanted = polars_schema(pa.schema([pa.field("x", kind)]))["x"]
    if series.dtype == wanted and not isinstance(wanted, pl.String | pl.Datetime | pl.List):
        return series
    if series.dtype == pl.Null:
        return series.cast(wanted)
    if isinstance(wanted, pl.Datetime):
        return _times(series, where)
    if isinstance(wanted, pl.Decimal):
        return exact_decimals(series, wanted, where)
    if isinstance(wanted, pl.List):
        return _levels(series, wanted, where)
    if isinstance(wanted, pl.String) and series.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = series.cast(pl.String)
        if text.str.contains("\0", literal=True).any():
            raise InputError(f"{where} holds a NUL character, which PostgreSQL cannot store", expected="text")
        return text
    if wanted.is_integer() and series.dtype.is_numeric():  # pandas keeps whole numbers with gaps as floats
        whole = series.cast(wanted, strict=False)
        if whole.cast(series.dtype).equals(series, null_equal=True):
            return whole
    raise InputError(
        f"{where} has type {series.dtype}; expected {wanted}", given=str(series.dtype), expected=str(wanted)
    )


def _times(series: pl.Series, where: str) -> pl.Series:
    """Aware times in UTC microseconds; finer ones are floored; dates are their midnight UTC."""
    kind = series.dtype
    if not isinstance(kind, pl.Date | pl.Datetime):
        raise InputError(f"{where} has type {kind}; expected a datetime with a time zone", given=str(kind))
    _check_years(series, where)
    if isinstance(kind, pl.Date):
        return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if kind.time_zone is None:
        first = series.drop_nulls().head(1).to_list()
        raise InputError(
            f"{where} has no time zone (first value {first[0] if first else None}); "
            "say which it is, for instance .dt.replace_time_zone('UTC')",
            given=str(kind),
            expected="an aware datetime",
        )
    if kind.time_unit == "ns":
        series = (series.to_physical() // 1000).cast(pl.Datetime("us", "UTC"))
    return series.cast(pl.Datetime("us", kind.time_zone)).dt.convert_time_zone("UTC")


def _check_years(series: pl.Series, where: str) -> None:
    """Times that every store can hold, with room for the closing edge of the longest bar."""
    unit = "1d" if series.dtype == pl.Date else getattr(series.dtype, "time_unit", "us")
    low, high = (int(year.timestamp()) * _PER_SECOND[unit] // _PER_DAY.get(unit, 1) for year in (FIRST_YEAR, LAST_YEAR))
    numbers = series.to_physical()
    wrong = ((numbers < low) | (numbers >= high)).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(
            f"{where} in row {row} is {numbers[row]} ({unit} since 1970); expected a time from {FIRST_YEAR.year} "
            f"to before {LAST_YEAR.year}",
            given=numbers[row],
            expected=(FIRST_YEAR, LAST_YEAR),
        )


def _levels(series: pl.Series, wanted: pl.List, where: str) -> pl.Series:
    """Lists of (price, size), as structs with those names or as pairs, with exact decimals."""
    kind = series.dtype
    inner = kind.inner if isinstance(kind, pl.List) else None
    if inner == pl.Null:
        return series.cast(wanted)
    flat = series.list.explode(keep_nulls=False, empty_as_null=False) if isinstance(kind, pl.List) else series
    if isinstance(inner, pl.Struct) and {field.name for field in inner.fields} == {"price", "size"}:
        price, size = flat.struct.field("price"), flat.struct.field("size")
    elif isinstance(inner, pl.List | pl.Array):
        pairs = flat.cast(pl.List(inner.inner))
        if (pairs.list.len() != 2).any():
            raise InputError(f"{where} has a level that is no pair of price and size", expected="(price, size)")
        price, size = pairs.list.get(0), pairs.list.get(1)
    else:
        raise InputError(f"{where} has type {kind}; expected lists of (price, size)", given=str(kind))
    decimal = pl.Decimal(18, 8)
    levels = pl.DataFrame(
        {
            "price": exact_decimals(price, decimal, f"{where}.price"),
            "size": exact_decimals(size, decimal, f"{where}.size"),
        }
    )
    if any(levels[name].null_count() for name in levels.columns):
        raise InputError(f"{where} has a level without a price or a size", expected="(price, size)")
    offsets = pl.concat([pl.Series([0]), series.list.len().fill_null(0).cum_sum().cast(pl.Int64)])
    structs: Any = levels.to_struct("level").to_arrow()
    lists: Any = pa.LargeListArray.from_arrays(
        cast(Any, offsets.to_arrow()), structs, mask=cast(Any, series.is_null().to_arrow())
    )
    return pl.Series(series.name, lists)


def _check_derived(table: pl.DataFrame, column: Column, given: pl.Series) -> None:
    expected = table.select(_mid_price().alias("x"))["x"]
    wrong = _typed(given, column.type, column.name).ne_missing(expected)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise InputError(
            f"{column.name} is derived: {expected[row]} in row {row}, not {given[row]}; leave the column out",
            given=given[row],
            expected=expected[row],
        )


def _with_event_ids(dataset: Dataset, table: pl.DataFrame) -> pl.DataFrame:
    """Rows without a vendor's id get the hash of their values, so that a re-delivery is the same key."""
    missing = table[EVENT_ID.name].is_null()
    if not missing.any():
        return table
    hashes = row_hashes(table.to_arrow(), [column.name for column in dataset.values])
    own = pl.Series(EVENT_ID.name, hashes.view("int64"))
    return table.with_columns(pl.coalesce(pl.col(EVENT_ID.name), own).alias(EVENT_ID.name))
