"""A caller's frame → a dataset's columns, exactly, or else who asked is told of each bad row.

Nothing is rounded here except times finer than a microsecond, which are floored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
import polars as pl
import pyarrow as pa

from medalion.core.datasets import EVENT_ID, TIMEFRAME, Availability, Column, Dataset, Rule
from medalion.core.decimals import OnBad, exact_decimals, refuse
from medalion.core.errors import InputError
from medalion.core.events import with_event_ids
from medalion.core.money import cash
from medalion.core.rules import check_rules, spelled_side
from medalion.core.text import checked_name
from medalion.core.time import Timeframe

if TYPE_CHECKING:
    import pandas as pd

AnyFrame = TypeVar("AnyFrame", pl.DataFrame, pl.LazyFrame)
Frame: TypeAlias = "pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch | pd.DataFrame"


FIRST_YEAR, LAST_YEAR = datetime(1000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
_PER_SECOND = {"1d": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PER_DAY = {"1d": 86_400}


def polars_frame(frame: Frame) -> pl.DataFrame:
    """Any frame as a Polars one.

    Of a pandas index, levels with a name become columns, and one without a name that holds times becomes `ts`, unless
    there is such a column already; all else of it is the place of rows, and left.

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
    read: Any = frame
    if hasattr(frame, "index") and hasattr(frame, "reset_index"):
        read = _by_columns(frame)
    if hasattr(read, "__arrow_c_stream__") or isinstance(read, pa.RecordBatch):
        try:
            return pl.DataFrame(pa.table(read))
        except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise InputError(f"the frame cannot be read: {error}", given=type(frame), expected="a frame") from error
    raise InputError(
        f"a {type(frame).__name__} is not a frame; give a Polars, pandas or Arrow table",
        given=type(frame),
        expected="a frame",
    )


def _by_columns(frame: Any) -> Any:
    """A pandas frame with what its index says as columns."""
    index = frame.index
    if list(index.names) == [None] and getattr(index.dtype, "kind", "") == "M":
        index = index.rename("ts")
    names = [name for name in index.names if name is not None and name not in frame.columns]
    frame = frame.set_axis(index)
    if not names:
        return frame.reset_index(drop=True)
    return frame.droplevel([place for place, name in enumerate(index.names) if name not in names]).reset_index()


def conform(dataset: Dataset, frame: Frame, *, source: str, on_bad: OnBad = refuse) -> pl.DataFrame:
    """The frame with the columns and types of `dataset`, in order; `instrument_id` is null where not given.

    Columns that reads derive (`mid_price`) are dropped if they say what a read would. `on_bad` is told of rows that do
    not fit, a column at a time, and keeps them out of the result's use.

    Raises:
        InputError: a missing or unknown column, a wrong type, a time without zone, or a `source` column that says
            otherwise than `source`; and by default a null in a key, a number that decimal(18,8) cannot hold exactly,
            or a value that breaks a rule of its column.
    """
    checked_name(source, "source", longest=100)
    given = polars_frame(frame)
    _check_names(dataset, given.columns)
    columns = {column.name: _column(dataset, column, given, source, on_bad) for column in dataset.columns}
    table = pl.DataFrame(columns)
    for column in dataset.derived:
        if column.name in given.columns:
            _check_derived(table, column, given[column.name], on_bad)
    check_rules(dataset, table, on_bad)
    if EVENT_ID.name in columns:
        table = with_event_ids(dataset, table)
    return table


def as_floats(frame: AnyFrame) -> AnyFrame:
    """The frame with Float64 in place of decimals, within lists and structs too; each is the nearest there is.

    >>> as_floats(pl.DataFrame({"close": ["185.15"]}).cast(pl.Decimal(18, 8)))["close"].to_list()
    [185.15]
    """
    kinds = {name: (kind, _floating(kind)) for name, kind in frame.collect_schema().items()}
    return frame.with_columns(pl.col(name).cast(wanted) for name, (kind, wanted) in kinds.items() if kind != wanted)


def _floating(kind: pl.DataType) -> pl.DataType:
    match kind:
        case pl.Decimal():
            return pl.Float64()
        case pl.List():
            return pl.List(_floating(kind.inner))  # type: ignore[arg-type]
        case pl.Struct():
            return pl.Struct([pl.Field(field.name, _floating(field.dtype)) for field in kind.fields])  # type: ignore[arg-type]
    return kind


def by_runs(text: pl.Series) -> pa.DictionaryArray[Any, Any]:
    """The text as an Arrow dictionary; in sorted rows equal ones follow each other, and each run is looked at once."""
    runs = text.rle().struct.unnest()
    values = runs["value"].to_arrow().cast(pa.string()).dictionary_encode()
    return values.take(pa.array(np.repeat(np.arange(runs.height), runs["len"].to_numpy()), pa.int64()))


def derive(dataset: Dataset, timeframe: str | None = None) -> list[pl.Expr]:
    """The columns that every read computes: `available_at` where it is not stored, and `mid_price`.

    Of bars of one `timeframe` the closing edge is found far faster where it is given.
    """
    known = pl.col("ts")
    if dataset.available is Availability.AT_CLOSE:
        known = known.dt.offset_by(_offset(timeframe) if timeframe is not None else _offsets())
    derived = [pl.coalesce("available_at", known).alias("available_at")]
    if dataset.derived:
        derived.append(_mid_price().alias("mid_price"))
    return derived


def newest_of(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The last of the stored rows of each series, by time and arrival."""
    newest = rows.sort("ts", "write_id", "ordinal").group_by(dataset.series_key).last()
    return newest.select(dataset.stored.names)


def derive_row(dataset: Dataset, values: dict[str, Any]) -> dict[str, Any]:
    """What `derive` adds, of the plain values of one row that is known at its `ts`."""
    told = values | {"available_at": values["available_at"] or values["ts"]}
    if dataset.derived:
        bid, ask = values["bid_price"], values["ask_price"]
        is_quoted = bid is not None and ask is not None
        told["mid_price"] = cash((bid + ask) / 2) if is_quoted else None
    return told


def as_read(dataset: Dataset, row: pl.DataFrame) -> dict[str, Any]:
    """One stored row as a read gives it."""
    return row.with_columns(derive(dataset)).select(dataset.schema.names).row(0, named=True)


_SHORT = {"Min": "m", "Hour": "h", "Day": "d", "Week": "w", "Month": "mo"}
"""Polars' names of a timeframe's units."""


def _offset(timeframe: str) -> str:
    """`5Min` as `5m`."""
    unit = timeframe.lstrip("0123456789")
    return timeframe.removesuffix(unit) + _SHORT[unit]


def _offsets() -> pl.Expr:
    """The same of each row."""
    text = pl.col(TIMEFRAME.name)
    for unit, short in _SHORT.items():
        text = text.str.replace(unit, short, literal=True)
    return text


def _mid_price() -> pl.Expr:
    """Half of the sum, half-even in the eighth place."""
    total = pl.col("bid_price").reinterpret(dtype=pl.Int128) + pl.col("ask_price").reinterpret(dtype=pl.Int128)
    is_tie_below_even = (total & 3) == 3
    return (total + is_tie_below_even.cast(pl.Int128)).floordiv(2).reinterpret(dtype=pl.Decimal(18, 8))


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


def _column(dataset: Dataset, column: Column, frame: pl.DataFrame, source: str, on_bad: OnBad) -> pl.Series:
    where = f"{dataset.name}.{column.name}"
    if column.name == "source":
        return _source(frame, source, where, on_bad)
    if column.name not in frame.columns:
        return pl.Series(column.name, [None], dtype=polars_schema(dataset.stored)[column.name]).new_from_index(
            0, frame.height
        )
    series = _typed(frame[column.name], column.type, where, on_bad)
    if series.null_count() and not (column.nullable or column.optional):
        on_bad(series.is_null(), where, frame[column.name], "every row needs one")
    if column.name == TIMEFRAME.name:
        series = _timeframes(series, where, on_bad)
    elif column.rule is Rule.SIDE:
        series = spelled_side(series, where, on_bad)
    return series.alias(column.name)


def _timeframes(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    """Each timeframe as it is spelled here."""
    spelled: dict[str, str | None] = {}
    for text in series.drop_nulls().unique().to_list():
        try:
            spelled[text] = str(Timeframe.parse(text))
        except InputError:
            spelled[text] = None
    known = series.replace_strict(spelled, default=None, return_dtype=pl.String)
    on_bad(
        known.is_null() & series.is_not_null(),
        where,
        series,
        "give a count and a unit, such as '1Min', '4Hour', '1Day'",
    )
    return known


def _source(frame: pl.DataFrame, source: str, where: str, on_bad: OnBad) -> pl.Series:
    if "source" in frame.columns:
        _typed(frame["source"], pa.string(), where, on_bad)
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
    return pl.Schema(schema)


def _typed(series: pl.Series, kind: pa.DataType, where: str, on_bad: OnBad) -> pl.Series:
    """The series as `kind`, exactly."""
    wanted = polars_schema(pa.schema([pa.field("x", kind)]))["x"]
    if series.dtype == wanted and not isinstance(wanted, pl.String | pl.Datetime | pl.List):
        return series
    if series.dtype == pl.Null:
        return series.cast(wanted)
    if isinstance(wanted, pl.Datetime):
        return _times(series, where, on_bad)
    if isinstance(wanted, pl.Decimal):
        return exact_decimals(series, wanted, where, on_bad)
    if isinstance(wanted, pl.List):
        return _levels(series, wanted, where, on_bad)
    if isinstance(wanted, pl.String) and series.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = series.cast(pl.String)
        has_nul = text.str.contains("\0", literal=True).fill_null(False)
        on_bad(has_nul, where, text, "it holds a NUL character, which PostgreSQL cannot store")
        return text
    if wanted.is_integer() and series.dtype.is_numeric():  # pandas keeps whole numbers with gaps as floats
        whole = series.cast(wanted, strict=False)
        on_bad(whole.cast(series.dtype).ne_missing(series), where, series, "expected a whole number")
        return whole
    raise InputError(
        f"{where} has type {series.dtype}; expected {wanted}", given=str(series.dtype), expected=str(wanted)
    )


def _times(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    """Aware times in UTC microseconds; finer ones are floored; dates are their midnight UTC."""
    kind = series.dtype
    if not isinstance(kind, pl.Date | pl.Datetime):
        raise InputError(f"{where} has type {kind}; expected a datetime with a time zone", given=str(kind))
    series = _checked_years(series, where, on_bad)
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


def _checked_years(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    """The times that every store can hold, with room for the closing edge of the longest bar."""
    unit = "1d" if series.dtype == pl.Date else getattr(series.dtype, "time_unit", "us")
    low, high = (int(year.timestamp()) * _PER_SECOND[unit] // _PER_DAY.get(unit, 1) for year in (FIRST_YEAR, LAST_YEAR))
    numbers = series.to_physical()
    wrong = ((numbers < low) | (numbers >= high)).fill_null(False)
    if not wrong.any():
        return series
    on_bad(
        wrong,
        where,
        numbers,
        f"expected a time from {FIRST_YEAR.year} to before {LAST_YEAR.year}, in {unit} since 1970",
    )
    return series.zip_with(~wrong, pl.Series([None], dtype=series.dtype))


def _levels(series: pl.Series, wanted: pl.List, where: str, on_bad: OnBad) -> pl.Series:
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
    lengths = series.list.len().fill_null(0)

    def of_level(bad: pl.Series, name: str, given: pl.Series, expected: str) -> None:
        if bad.any():
            places = pl.int_range(len(series), eager=True)
            row = pl.select(places.repeat_by(lengths).explode()).to_series()
            on_bad(places.is_in(row.drop_nulls().filter(bad).implode()), name, series, expected)

    decimal = pl.Decimal(18, 8)
    levels = pl.DataFrame(
        {
            "price": exact_decimals(price, decimal, f"{where}.price", of_level),
            "size": exact_decimals(size, decimal, f"{where}.size", of_level),
        }
    )
    of_level(price.is_null() | size.is_null(), where, flat, "it has a level without a price or a size")
    offsets = pl.concat([pl.Series([0]), lengths.cum_sum().cast(pl.Int64)])
    structs: Any = levels.to_struct("level").to_arrow()
    lists: Any = pa.LargeListArray.from_arrays(
        cast(Any, offsets.to_arrow()), structs, mask=cast(Any, series.is_null().to_arrow())
    )
    return pl.Series(series.name, lists)


def _check_derived(table: pl.DataFrame, column: Column, given: pl.Series, on_bad: OnBad) -> None:
    expected = table.select(_mid_price().alias("x"))["x"]
    wrong = _typed(given, column.type, column.name, on_bad).ne_missing(expected)
    on_bad(wrong, column.name, given, "it is derived, and a read would say otherwise; leave the column out")
