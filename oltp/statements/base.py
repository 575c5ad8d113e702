"""Entities read and stored by plain statements: no session keeps books about them, and many go in one statement.

What is read here is changed by `update`, not by a flush. Whoever changes a row holds its lock, or its version tells.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.orm.attributes import instance_dict

from medalion.core.errors import ConflictError
from oltp.entities.base import Base, Versioned, now

E = TypeVar("E", bound=Base)
_READ_ID, _READ_VERSION = "read_id", "read_version"


def table_of(kind: type[Base]) -> sa.Table:
    """The table of a mapped class."""
    return cast(sa.Table, kind.__table__)


@cache
def attributes_of(kind: type[Base]) -> tuple[str, ...]:
    """The attributes that hold the columns of the class's table, in the order of its columns."""
    return tuple(kind.__mapper__.get_property_by_column(column).key for column in table_of(kind).c)


def made(kind: type[E], values: Sequence[Any]) -> E:
    """The entity whose table's columns have these values; what follows them in a row is left alone."""
    entity = cast(E, kind.__mapper__.class_manager.new_instance())
    instance_dict(entity).update(zip(attributes_of(kind), values, strict=False))
    return entity


def insert(connection: sa.Connection, entities: Sequence[Base]) -> None:
    """Store new entities, a statement for each class among neighbours; their defaults are filled in."""
    for kind, group in groupby(entities, type):
        connection.execute(_insertion(kind), [_with_defaults(entity) for entity in group])


def update(connection: sa.Connection, entities: Sequence[Base], *attributes: str) -> None:
    """Store these attributes of entities of one class, as new versions of them.

    Raises:
        ConflictError: a row is not as it was read; nothing of the unit of work may be kept then.
    """
    if not entities:
        return
    kind, changed_at = type(entities[0]), now()
    names = (*attributes, "updated_at")
    given = []
    for entity in entities:
        held = instance_dict(entity)
        held["updated_at"] = changed_at
        given.append({_READ_ID: held["id"], **{name: held[name] for name in names}})
        if issubclass(kind, Versioned):
            given[-1][_READ_VERSION] = held["row_version"]
            held["row_version"] += 1
    if connection.execute(_change(kind, names), given).rowcount != len(entities):
        raise ConflictError("the row was changed by someone else since it was read", retryable=True)


@cache
def _insertion(kind: type[Base]) -> sa.Insert:
    columns = zip(table_of(kind).c, attributes_of(kind), strict=True)
    return sa.insert(table_of(kind)).values({column: sa.bindparam(name, type_=column.type) for column, name in columns})


@cache
def _change(kind: type[Base], names: tuple[str, ...]) -> sa.Update:
    table = table_of(kind)
    columns = dict(zip(attributes_of(kind), table.c, strict=True))
    values: dict[sa.Column[Any], Any] = {columns[name]: sa.bindparam(name, type_=columns[name].type) for name in names}
    statement = sa.update(table).where(table.c.id == sa.bindparam(_READ_ID, type_=table.c.id.type))
    if issubclass(kind, Versioned):
        statement = statement.where(table.c.row_version == sa.bindparam(_READ_VERSION, type_=sa.Integer))
        values[table.c.row_version] = table.c.row_version + 1
    return statement.values(values)


def _with_defaults(entity: Base) -> Mapping[str, Any]:
    held = instance_dict(entity)
    for name, default in _defaults(type(entity)):
        if held.get(name) is None:
            held[name] = default()
    return {name: held[name] for name in attributes_of(type(entity))}


@cache
def _defaults(kind: type[Base]) -> list[tuple[str, Callable[[], Any]]]:
    """What makes the value of each column that was not given: its default, else null."""
    return [(name, _default(column)) for column, name in zip(table_of(kind).c, attributes_of(kind), strict=True)]


def _default(column: sa.Column[Any]) -> Callable[[], Any]:
    default = cast(Any, column.default)
    if default is None:
        return lambda: None
    if default.is_callable:
        return lambda: default.arg(None)
    return lambda: default.arg
