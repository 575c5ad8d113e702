"""What callers give by name, the fields of entities and the settings of a store, as classes of named arguments."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects.postgresql import JSONB

from medalion.core.settings import LakeRetention, Settings
from oltp.entities.base import Entity
from oltp.entities.columns import Exact, UtcDateTime
from oltp.repositories.base import Repository, is_kept
from tools.sources import Carrier, Imports, Origin, class_source

_PARAMETERS = {"database_url", "lake", "data_dir"}
"""The settings that are parameters of their own."""


def field_classes(
    repositories: Iterable[type[Repository[Any]]], imports: Imports
) -> Iterator[tuple[str, str, list[str]]]:
    """Name, docstring and lines of a class for each repository's entity."""
    for repository in repositories:
        entity: type[Entity] = repository.model
        lines: list[str] = []
        for attribute in entity.__mapper__.column_attrs:
            column = attribute.columns[0]
            if not is_kept(getattr(entity, attribute.key)):
                lines.append(f"    {attribute.key}: {_type_of(entity, attribute, imports)}")
                lines += [f'    """{column.doc}"""'] if column.doc else []
        yield f"{entity.__name__}Fields", f"What can be given of {_article(entity.__name__)}.", lines


def settings_classes(imports: Imports) -> Iterator[tuple[str, str, list[str]]]:
    """The same for the settings; of what is an object there, its fields are taken too."""
    inner, fields = imports.of(LakeRetention), f"{LakeRetention.__name__}Fields"
    instead = {"LakeRetention": f"{inner} | {fields}", "dict": imports.of(Mapping)}
    for model, name in ((LakeRetention, fields), (Settings, "SettingsFields")):
        carrier, lines = Carrier(model.__module__, imports, instead), list[str]()
        for node in class_source(model).body:
            match node:
                case ast.AnnAssign(target=ast.Name(id=setting)) if setting not in _PARAMETERS:
                    lines.append(f"    {setting}: {carrier.text(node.annotation)}")
                    if (description := model.model_fields[setting].description) is not None:
                        lines.append(f'    """{description}"""')
        yield name, (model.__doc__ or "").split("\n")[0], lines


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _type_of(entity: type[Entity], attribute: orm.ColumnProperty[Any], imports: Imports) -> str:
    """What `oltp.entities.columns.checked` takes for the column, but for SQL expressions."""
    column = attribute.columns[0]
    kinds: tuple[Any, ...]
    match column.type:
        case UtcDateTime():
            kinds = (datetime,)
        case Exact():
            kinds = (Decimal, int)
        case sa.Enum(enum_class=kind):
            kinds = (kind, str)
        case sa.Uuid():
            kinds = (UUID, str)
        case JSONB():
            return _json_type(get_type_hints(entity)[attribute.key], imports) + _null(column)
        case plain:
            kinds = (plain.python_type,)
    return " | ".join(map(imports.of, kinds)) + _null(column)


def _json_type(mapped: Any, imports: Imports) -> str:
    (held,) = get_args(mapped)
    if any(get_origin(each) is list for each in (held, *get_args(held))):
        return f"{imports.of(Sequence)}[str]"
    return f"{imports.of(Mapping)}[str, {imports.use(Origin('typing', 'Any'), 'Any')}]"


def _null(column: sa.ColumnElement[Any]) -> str:
    return " | None" if getattr(column, "nullable", False) else ""
