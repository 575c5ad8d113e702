"""Entities as plain rows, several statements in one round trip: for the way of an order, where the bookkeeping of the
mapper would cost more than the statements do.

What is read here belongs to no session: it is changed by `change`, and not by a flush.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from psycopg import AsyncConnection, AsyncCursor, AsyncRawCursor
from psycopg.rows import AsyncRowFactory, RowMaker
from psycopg.types.json import Jsonb
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import instance_dict

from medalion.core.errors import ConflictError
from oltp.entities.base import Base, Versioned, now
from oltp.entities.columns import UtcDateTime
from oltp.server.translation import translated

E = TypeVar("E", bound=Base)
Row = dict[str, Any]
Convert = Callable[[Any], Any]

_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of fixed text and what it is given; with `changes`, it must change a row."""

    text: str
    given: Mapping[str, Any]
    changes: bool = False


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, the attribute that holds it, and what stands between the two."""

    attribute: str
    name: str
    read: Convert | None
    bind: Convert | None
    default: Convert | None


class Rows(Generic[E]):
    """The rows of one mapped class, of which entities have an `id`; get it from `rows_of`."""

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind
        self._columns = [_column(name, prop.columns[0]) for name, prop in kind.__mapper__.column_attrs.items()]
        names = ", ".join(f'"{column.name}"' for column in self._columns)
        values = ", ".join(f"%({column.attribute})s" for column in self._columns)
        table = cast(sa.Table, kind.__table__).name
        self._insert = f"INSERT INTO {table} ({names}) VALUES ({values})"
        self._update = f"UPDATE {table} SET {{}} WHERE id = %(id)s"
        self._is_versioned = issubclass(kind, Versioned)

    def made(self, row: Row) -> E:
        """The entity in a row that has all of its columns."""
        entity = cast(E, self._kind.__mapper__.class_manager.new_instance())
        instance_dict(entity).update(
            (column.attribute, row[column.name] if column.read is None else column.read(row[column.name]))
            for column in self._columns
        )
        return entity

    def insertion(self, entity: E) -> Statement:
        """What adds the entity, of which the defaults are filled in."""
        held = instance_dict(entity)
        for column in self._columns:
            if held.get(column.attribute) is None:
                held[column.attribute] = None if column.default is None else column.default(None)
        return Statement(self._insert, self.given(entity))

    def given(self, entity: E) -> dict[str, Any]:
        """What its insertion is given."""
        held = instance_dict(entity)
        return {column.attribute: _bound(column, held) for column in self._columns}

    def change(self, entity: E, *attributes: str) -> Statement:
        """What stores these attributes of the entity, as a new version of it; the row must be locked."""
        held = instance_dict(entity)
        held["updated_at"] = now()
        changed = {*attributes, "updated_at"}
        given = {column.attribute: _bound(column, held) for column in self._columns if column.attribute in changed}
        sets = [f'"{column.name}" = %({column.attribute})s' for column in self._columns if column.attribute in changed]
        condition = ""
        if self._is_versioned:
            given["read_version"] = held["row_version"]
            held["row_version"] += 1
            sets.append("row_version = row_version + 1")
            condition = " AND row_version = %(read_version)s"
        return Statement(self._update.format(", ".join(sets)) + condition, given | {"id": held["id"]}, changes=True)


@cache
def rows_of(kind: type[E]) -> Rows[E]:
    """The rows of that entity."""
    return Rows(kind)


async def run(session: AsyncSession, *statements: Statement) -> list[list[Row]]:
    """The rows that each statement gives, in the session's transaction and in this order; one round trip.

    Raises:
        ConflictError: a row that was to be changed is not as it was read.
        InputError, NotFoundError, StoreUnavailableError: see `oltp.server.translation`.
    """
    with translated():
        connection = await session.connection()
        driver = cast("AsyncConnection[Any]", (await connection.get_raw_connection()).driver_connection)
        # One alone is sooner done without a pipeline.
        async with driver.pipeline() if len(statements) > 1 else nullcontext():
            cursors = [await _sent(driver, statement) for statement in statements]
        for statement, cursor in zip(statements, cursors, strict=True):
            if statement.changes and cursor.rowcount != 1:
                raise ConflictError("the row was changed by someone else since it was read", retryable=True)
        return [await cursor.fetchall() if _gives_rows(cursor) else [] for cursor in cursors]


async def _sent(driver: "AsyncConnection[Any]", statement: Statement) -> "AsyncRawCursor[Row]":
    text, names = _numbered(statement.text)
    cursor = AsyncRawCursor(driver, row_factory=_named(text))
    return await cursor.execute(text, [statement.given[name] for name in names])


@cache
def _numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """The statement with numbered parameters, and their names: the driver reads a text with named ones at every run."""
    names = dict.fromkeys(named[1] for named in _PARAMETER.finditer(text))
    numbers = {name: number for number, name in enumerate(names, 1)}
    return _PARAMETER.sub(lambda named: f"${numbers[named[1]]}", text), tuple(names)


_names: "WeakKeyDictionary[AsyncConnection[Any], dict[str, tuple[str, ...]]]" = WeakKeyDictionary()


def _named(text: str) -> "AsyncRowFactory[Row]":
    """Rows as dictionaries, for which a connection reads the names of a statement's columns once."""

    def factory(cursor: "AsyncCursor[Any]") -> "RowMaker[Row]":
        known = _names.setdefault(cursor.connection, {})
        if _gives_rows(cursor) and text not in known:
            known[text] = tuple(column.name for column in cursor.description or ())
        names = known.get(text, ())
        return lambda values: dict(zip(names, values, strict=True))

    return factory


def _gives_rows(cursor: "AsyncCursor[Any]") -> bool:
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


async def run_together(session: AsyncSession, *statements: Statement) -> None:
    """Insertions and changes as parts of one statement, which sees none of them; raises as `run`."""
    given = {f"s{n}_{name}": value for n, part in enumerate(statements) for name, value in part.given.items()}
    ((counts,),) = await run(session, Statement(_together(tuple(part.text for part in statements)), given))
    if any(count != 1 for count in counts.values()):
        raise ConflictError("the row was changed by someone else since it was read", retryable=True)


@cache
def _together(texts: tuple[str, ...]) -> str:
    renamed = [_PARAMETER.sub(rf"%(s{n}_\1)s", text) for n, text in enumerate(texts)]
    parts = [f"s{n} AS ({text} RETURNING 1 AS one)" for n, text in enumerate(renamed)]
    counts = [f"(SELECT count(*) FROM s{n}) AS s{n}" for n in range(len(texts))]
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"


def _column(attribute: str, column: sa.ColumnElement[Any]) -> _Column:
    kind, default = column.type, cast("sa.Column[Any]", column).default
    read: Convert | None = None
    bind: Convert | None = None
    if isinstance(kind, UtcDateTime):
        read = _in_utc
    elif isinstance(kind, sa.Enum):
        members = cast(type[Enum], kind.enum_class)
        read, bind = lambda value: None if value is None else members(value), _value
    elif isinstance(kind, JSONB):
        bind = Jsonb
    return _Column(attribute, cast("sa.Column[Any]", column).name, read, bind, _default(default))


def _default(default: Any) -> Convert | None:
    if default is None:
        return None
    if default.is_callable:
        return cast(Convert, default.arg)
    return lambda _: default.arg


def _bound(column: _Column, held: Row) -> Any:
    value = held.get(column.attribute)
    return value if value is None or column.bind is None else column.bind(value)


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _value(member: Enum) -> Any:
    return member.value
