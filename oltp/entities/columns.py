"""Column types that keep time in UTC and decimals exact, and the check of a value before any SQL is made."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, NoReturn, TypeAlias, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from medalion.core.errors import InputError
from medalion.core.money import cash
from medalion.core.time import in_utc, utc

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object; decimals, times, dates and ids in it are kept as text."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, in UTC on both sides."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Checked on its way to the server: what does not fit is refused."""
        return None if value is None else utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC, whatever the session's zone."""
        return in_utc(value)


class Exact(TypeDecorator[Decimal]):
    """`numeric(precision, 8)` as Decimal; a value it cannot hold as it is, is refused rather than rounded."""

    impl = sa.Numeric
    cache_ok = True

    def __init__(self, precision: int = 18) -> None:
        super().__init__(precision, SCALE)
        self.precision = precision

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | None:
        """Checked on its way to the server: what does not fit is refused."""
        return None if value is None else _decimal(value, "value", self.precision)


SCALE = 8
WIDE = Exact(28)
JSON = JSONB(none_as_null=True)


def checked(column: sa.ColumnElement[Any], value: object) -> Any:
    """`value` as the column will hold it; SQL expressions and None pass.

    Raises:
        InputError: a naive datetime, a float or a decimal too long for the column, a text too long, a member that the
            enum does not have, or a value of another type.
    """
    return check_of(column)(value)


def check_of(column: sa.ColumnElement[Any]) -> Callable[[object], Any]:
    """What `checked` does for this column, for who asks often."""
    name, kind = f"{column.table.name}.{column.name}", column.type
    check = _check_of(name, kind)

    def check_of_column(value: object) -> Any:
        if value is None or isinstance(value, sa.ClauseElement) or hasattr(value, "__clause_element__"):
            return value
        return check(value)

    return check_of_column


def _check_of(name: str, kind: Any) -> Callable[[Any], Any]:
    match kind:
        case UtcDateTime():
            return lambda value: (
                utc(value, name=name) if isinstance(value, datetime) else _refuse(name, value, "an aware datetime")
            )
        case Exact():
            return lambda value: _decimal(value, name, kind.precision)
        case sa.Enum():
            return lambda value: _member(value, name, kind)
        case sa.String():
            return lambda value: _text(value, name, kind.length)
        case sa.Boolean():
            return lambda value: value if isinstance(value, bool) else _refuse(name, value, "True or False")
        case sa.Integer():
            return lambda value: _integer(value, name, kind)
        case sa.Date():
            return lambda value: (
                value if isinstance(value, date) and not isinstance(value, datetime) else _refuse(name, value, "a date")
            )
        case sa.Uuid():
            return lambda value: _id(value, name)
        case sa.LargeBinary():
            return lambda value: value if isinstance(value, bytes) else _refuse(name, value, "bytes")
        case JSONB():
            return lambda value: _json(value, name)
    raise TypeError(f"{name} has a type without a check: {kind!r}")


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    raise InputError(f"{name} is {value!r}; give {expected}", given=value, expected=expected)


def _decimal(value: object, name: str, precision: int) -> Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        _refuse(name, value, "a Decimal made from text, such as Decimal('0.1')")
    whole = precision - SCALE
    expected = f"at most {whole} digits before the point and {SCALE} after it"
    if not value.is_finite():
        _refuse(name, value, expected)
    # Compared before it is rounded, since a huge exponent could not be.
    fits = not value or (value.adjusted() < whole and value == cash(value))
    return value if fits else _refuse(name, value, expected)


def _member(value: object, name: str, kind: sa.Enum) -> Enum:
    try:
        return cast(type[Enum], kind.enum_class)(value)
    except ValueError:
        _refuse(name, value, "one of " + ", ".join(kind.enums))


def _text(value: object, name: str, length: int | None) -> str:
    if not isinstance(value, str) or "\x00" in value:
        _refuse(name, value, "text without NUL characters")
    if length is not None and len(value) > length:
        _refuse(name, value, f"at most {length} characters, not {len(value)}")
    return value


def _integer(value: object, name: str, kind: sa.Integer) -> int:
    bits = 64 if isinstance(kind, sa.BigInteger) else 16 if isinstance(kind, sa.SmallInteger) else 32
    if not isinstance(value, int) or isinstance(value, bool) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        _refuse(name, value, f"a whole number of {bits} bits")
    return value


def _id(value: object, name: str) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        _refuse(name, value, "a UUID")


def _json(value: object, name: str) -> Any:
    match value:
        case None | bool() | int():
            return value
        case StrEnum():
            return value.value
        case str():
            return _text(value, name, None)
        case float() if math.isfinite(value):
            return value
        case Decimal() if value.is_finite():
            return str(value)
        case datetime():
            return utc(value, name=name).isoformat()
        case date():
            return value.isoformat()
        case UUID():
            return str(value)
        case Mapping():
            keys = [_text(key, f"a key of {name}", None) for key in value]
            return {key: _json(value[key], f"{name}[{key!r}]") for key in keys}
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return [_json(item, f"{name}[{place}]") for place, item in enumerate(value)]
    _refuse(name, value, "what JSON can hold: text, finite numbers, True, False, None, lists and objects")
