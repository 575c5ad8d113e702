"""Entities read and stored by plain statements: no session keeps books about them, and many go in one statement.

What is read here is changed by `update`, not by a flush. Whoever changes a row holds its lock, or its version tells.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm.attributes import instance_dict

from medalion.core.errors import ConflictError
from oltp.entities.base import Base, Versioned, now
from oltp.statements.prepared import Prepared

E = TypeVar("E", bound=Base)


def table_of(kind: type[Base]) -> sa.Table:
    """The table of a mapped class."""
    return cast(sa.Table, kind.__table__)


@cache
def attributes_of(kind: type[Base]) -> tuple[str, ...]:
    """The attributes that hold the columns of the class's table, in the order of its columns."""
    # Asked for its attributes, a mapper is configured first; until then it makes no instance.
    names = {attribute.columns[0]: name for name, attribute in kind.__mapper__.column_attrs.items()}
    return tuple(names[column] for column in table_of(kind).c)


def made(kind: type[E], values: Sequence[Any]) -> E:
    """The entity whose table's columns have these values; what follows them in a row is left alone."""
    attributes = attributes_of(kind)
    entity = cast(E, kind.__mapper__.class_manager.new_instance())
    instance_dict(entity).update(zip(attributes, values, strict=False))
    return entity


def insert(connection: sa.Connection, entities: Sequence[Base]) -> None:
    """Store new entities, a statement for each class among neighbours; their defaults are filled in."""
    for kind, group in groupby(entities, type):
        these = list(group)
        _inserting(kind, len(these) == 1).count(connection, insertion_of(kind, these))


@cache
def _inserting(kind: type[Base], is_one: bool) -> Prepared:
    return Prepared(insertion(kind, is_one))


@cache
def insertion(kind: type[Base], is_one: bool) -> sa.Insert:
    """What stores the entities of a class that `insertion_of` gives it: one text, however many they are.

    One is given as plain values, which cost the driver a third of what as many arrays of one element do.
    """
    table = table_of(kind)
    columns = [column.name for column in table.c]
    if is_one:
        return sa.insert(table).values(
            {name: sa.bindparam(_new(table, name), type_=table.c[name].type) for name in columns}
        )
    arrays = [sa.bindparam(_new(table, column.name), type_=sa.ARRAY(_element_type(column))) for column in table.c]
    named = [sa.column(column.name, _element_type(column)) for column in table.c]
    rows = sa.func.unnest(*arrays).table_valued(*named, name=f"new_{table.name}").render_derived()
    values = [sa.cast(rows.c[name], JSONB) if _is_json(table.c[name]) else rows.c[name] for name in columns]
    return sa.insert(table).from_select(columns, sa.select(*values), include_defaults=False)


def insertion_of(kind: type[E], entities: Sequence[E]) -> dict[str, Any]:
    """What `insertion` is given: a value a column of one entity, else an array; defaults are filled in."""
    table, names = table_of(kind), attributes_of(kind)
    rows = [_with_defaults(entity) for entity in entities]
    if len(rows) == 1:
        return {_new(table, column.name): rows[0][name] for column, name in zip(table.c, names, strict=True)}
    arrays = zip(table.c, ([row[name] for row in rows] for name in names), strict=True)
    return {_new(table, column.name): _as_text(values) if _is_json(column) else values for column, values in arrays}


def _new(table: sa.Table, column: str) -> str:
    return f"{table.name}_new_{column}"


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, JSONB)


def _as_text(values: Sequence[Any]) -> list[str | None]:
    return [None if value is None else json.dumps(value) for value in values]


def _element_type(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    # A cast to a bounded text would cut it silently; the column itself refuses what is too long.
    is_text = isinstance(column.type, sa.String) and not isinstance(column.type, sa.Enum)
    return sa.Text() if is_text or _is_json(column) else column.type


def update(connection: sa.Connection, entities: Sequence[Base], *attributes: str) -> None:
    """Store these attributes of entities of one class, as new versions of them.

    Raises:
        ConflictError: a row is not as it was read; nothing of the unit of work may be kept then.
    """
    if entities:
        given = [change_of(entity, *attributes) for entity in entities]
        check_changed(_storing(type(entities[0]), attributes).count(connection, *given), len(entities))


@cache
def _storing(kind: type[Base], attributes: tuple[str, ...]) -> Prepared:
    return Prepared(changing(kind, attributes))


def check_changed(changed: int, rows: int) -> None:
    """Raises ConflictError unless so many rows were as they had been read."""
    if changed != rows:
        raise ConflictError("the row was changed by someone else since it was read", retryable=True)


def change_of(entity: Base, *attributes: str) -> dict[str, Any]:
    """What `changing` is given of an entity, which has a new version from then on."""
    held, table = instance_dict(entity), table_of(type(entity)).name
    held["updated_at"] = now()
    given = {_changed(table, name): held[name] for name in (*attributes, "updated_at")}
    given[_read(table, "id")] = held["id"]
    if isinstance(entity, Versioned):
        given[_read(table, "row_version")] = held["row_version"]
        held["row_version"] += 1
    return given


@cache
def changing(kind: type[Base], attributes: tuple[str, ...]) -> sa.Update:
    """What stores these attributes of the entity that `change_of` gives it, if it is as it was read."""
    table = table_of(kind)
    columns = dict(zip(attributes_of(kind), table.c, strict=True))
    names = (*attributes, "updated_at")
    values: dict[sa.Column[Any], Any] = {
        columns[name]: sa.bindparam(_changed(table.name, name), type_=columns[name].type) for name in names
    }
    statement = sa.update(table).where(table.c.id == sa.bindparam(_read(table.name, "id"), type_=table.c.id.type))
    if issubclass(kind, Versioned):
        version = table.c.row_version
        statement = statement.where(version == sa.bindparam(_read(table.name, "row_version"), type_=sa.Integer))
        values[version] = version + 1
    return statement.values(values)


def _changed(table: str, attribute: str) -> str:
    return f"{table}_to_{attribute}"


def _read(table: str, column: str) -> str:
    return f"{table}_read_{column}"


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
