"""Rows as feeds have them, mappings and dataclasses → a frame of text and times that a write takes exactly."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, Protocol, TypeAlias

import polars as pl
import pyarrow as pa

from medalion.core.datasets import LEVELS, Dataset
from medalion.core.errors import InputError
from medalion.core.money import exact
from medalion.core.time import utc


class DataclassObject(Protocol):
    """An object of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Record: TypeAlias = Mapping[str, Any] | DataclassObject
"""One row: a mapping of column names to values, or a dataclass with such fields, for instance a `MarketBarDto`."""
Records: TypeAlias = Record | Iterable[Record]


def given(record: Records | None, values: Mapping[str, Any]) -> Records:
    """What the caller gave: rows, or the values of one by name."""
    if (record is None) == (not values):
        raise InputError("give rows, or the values of one row by name", given=sorted(values))
    return values if record is None else record


def records(rows: object) -> list[dict[str, Any]]:
    """One row or many as dictionaries.

    Raises:
        InputError: neither a mapping, nor a dataclass, nor several of them.
    """
    if isinstance(rows, Mapping):
        return [dict(rows)]
    if is_dataclass(rows) and not isinstance(rows, type):
        return [{field.name: getattr(rows, field.name) for field in fields(rows)}]
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | pl.DataFrame):
        raise InputError(
            f"a {type(rows).__name__} is no row; give mappings or dataclasses, or a frame to store.write",
            given=type(rows),
        )
    return [record for row in rows for record in records(row)]


def with_totals(book: dict[str, Any]) -> dict[str, Any]:
    """The book with the sum of each side's sizes, where it does not say them."""
    sides = {side: [_level(level) for level in book.get(side) or ()] for side in ("bids", "asks") if side in book}
    with exact():
        totals = {
            f"total_{side.removesuffix('s')}_size": sum((Decimal(level["size"]) for level in levels), Decimal(0))
            for side, levels in sides.items()
        }
    said = {name: value for name, value in book.items() if value is not None}
    return dict(book) | totals | said | sides


def _level(level: Any) -> dict[str, str]:
    try:
        price, size = (level["price"], level["size"]) if isinstance(level, Mapping) else level
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{level!r} is no level", given=level, expected="(price, size)") from error
    return {"price": _number(price, "price of a level"), "size": _number(size, "size of a level")}


def frame(dataset: Dataset, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows as a frame that a write takes; what it does not know is left to the write to refuse."""
    types = {column.name: column.type for column in (*dataset.columns, *dataset.derived)}
    names = dict.fromkeys(name for record in rows for name in record)
    if not names:
        names = dict.fromkeys(column.name for column in dataset.columns if not column.optional)
    return pl.DataFrame([_series(name, types.get(name), [record.get(name) for record in rows]) for name in names])


def _series(name: str, kind: pa.DataType | None, values: list[Any]) -> pl.Series:
    if kind is not None and pa.types.is_decimal(kind):
        return pl.Series(name, [None if v is None else _number(v, name) for v in values], dtype=pl.String)
    if kind is not None and pa.types.is_timestamp(kind):
        moments = [None if v is None else _moment(v, name) for v in values]
        return pl.Series(name, moments, dtype=pl.Datetime("us", "UTC"))
    if kind == LEVELS:
        return pl.Series(name, values, dtype=pl.List(pl.Struct({"price": pl.String, "size": pl.String})))
    wanted = pl.Int64 if kind is not None and pa.types.is_integer(kind) else pl.String
    try:
        return pl.Series(name, values, dtype=wanted)
    except (TypeError, OverflowError) as error:
        raise InputError(f"{name} holds what is no {wanted}: {error}", given=values, expected=str(wanted)) from error


def _number(value: Any, name: str) -> str:
    """The number as plain text; a float is the shortest decimal that reads back as it."""
    try:
        if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
            return format(Decimal(str(value)), "f")
    except InvalidOperation:
        pass
    raise InputError(f"{name} is {value!r}; give a number", given=value, expected="a number")


def _moment(value: Any, name: str) -> datetime:
    if not isinstance(value, str | date):
        raise InputError(f"{name} is {value!r}; give an aware datetime", given=value, expected="an aware datetime")
    return utc(value, name=name)
