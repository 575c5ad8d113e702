"""One repository for every entity: look up, page, add, change, delete and restore; it never commits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.base import ExecutableOption

from medalion.core.errors import InputError, NotFoundError
from oltp.entities.base import Entity, now
from oltp.entities.columns import checked
from oltp.server.translation import translated

T = TypeVar("T", bound=Entity)
Criterion: TypeAlias = sa.ColumnElement[bool]
Order: TypeAlias = sa.ColumnElement[Any] | orm.InstrumentedAttribute[Any]
Which: TypeAlias = Entity | UUID | str

_KEPT = frozenset({"id", "created_at", "updated_at", "is_deleted", "deleted_at", "row_version", "instrument_id"})
_SUGGESTED_FROM = 10_000
_GIVEN = "medalion given"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list: page `number`, from 1, of `size` items; `total` counts all of them."""

    items: list[T]
    number: int
    size: int
    total: int


def keep_given(session: AsyncSession, entity: Entity) -> None:
    """Note what a caller's entity says, before a unit of work takes it in; see `give_back`."""
    names = {attribute.key for attribute in sa.inspect(type(entity)).column_attrs}
    values = {name: value for name, value in vars(entity).items() if name in names}
    session.info.setdefault(_GIVEN, []).append((entity, values))


def give_back(session: AsyncSession) -> None:
    """Leave entities of callers readable after a unit of work that failed: a rollback would take their values."""
    for entity, values in session.info.pop(_GIVEN, ()):
        for name, value in values.items():
            orm.attributes.set_committed_value(entity, name, value)


def id_of(which: Which) -> UUID:
    """The id of an entity, or the id itself.

    Raises:
        InputError: text that is no UUID, or something else.
    """
    if isinstance(which, Entity):
        return which.id
    try:
        return which if isinstance(which, UUID) else UUID(which)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{which!r} is no id; give a UUID or the entity", given=which, expected="UUID") from error


def is_kept(field: orm.InstrumentedAttribute[Any]) -> bool:
    """Whether the store fills the field itself, so that it cannot be given."""
    return field.key in _KEPT and (field.key != "instrument_id" or field.expression.server_default is not None)


class Repository(Generic[T]):
    """Entities of one kind, as the unit of work sees them; deleted ones are hidden.

    Filters are field names with the value wanted (None for null), or SQL expressions.
    """

    model: type[T]
    order: tuple[Order, ...] = ()

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, which: UUID | str, *, lock: bool = False) -> T:
        """The entity of that id; with `lock` nobody else changes it before this unit of work ends.

        Raises:
            NotFoundError: there is none, or it is deleted.
        """
        statement = self._select(lock=lock).where(self.model.id == id_of(which))
        return self._one(await self._all(statement), which)

    async def find(
        self,
        *criteria: Criterion,
        order: Sequence[Order] = (),
        limit: int | None = None,
        lock: bool = False,
        **equal: Any,
    ) -> list[T]:
        """Every entity that meets all filters, in the given order, else in the repository's own."""
        statement = self._select(*criteria, lock=lock, **equal).order_by(*(order or self.order), self.model.id)
        return await self._all(statement.limit(limit))

    async def first(
        self, *criteria: Criterion, order: Sequence[Order] = (), lock: bool = False, **equal: Any
    ) -> T | None:
        """The first that `find` would give; None if there is none."""
        found = await self.find(*criteria, order=order, limit=1, lock=lock, **equal)
        return found[0] if found else None

    async def any(self, *criteria: Criterion, **equal: Any) -> bool:
        """Whether any entity meets all filters."""
        return await self.first(*criteria, **equal) is not None

    async def count(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities meet all filters."""
        counted = sa.select(sa.func.count()).select_from(self.model).where(*self._where(criteria, equal))
        with translated():
            return (await self._session.scalar(counted)) or 0

    async def page(
        self, *criteria: Criterion, number: int = 1, size: int = 50, order: Sequence[Order] = (), **equal: Any
    ) -> Page[T]:
        """Page `number` of those that meet all filters, and how many there are."""
        if number < 1 or size < 1:
            raise InputError(f"page {number} of {size} was asked; both count from 1", given=(number, size))
        ordered = self._select(*criteria, **equal).order_by(*(order or self.order), self.model.id)
        items = await self._all(ordered.limit(size).offset((number - 1) * size))
        return Page(items, number, size, await self.count(*criteria, **equal))

    async def page_after(
        self, after: UUID | str | None = None, *criteria: Criterion, size: int = 50, **equal: Any
    ) -> list[T]:
        """The next `size` by id, which is the order of creation; None begins. Fast however far in."""
        statement = self._select(*criteria, **equal).order_by(self.model.id).limit(size)
        return await self._all(statement if after is None else statement.where(self.model.id > id_of(after)))

    async def create(self, **fields: Any) -> T:
        """A new entity with these fields.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            ConflictError: one of that key exists.
            NotFoundError: what it refers to does not exist or is deleted.
        """
        return await self.add(self.model(**self._fields(fields)))

    async def add(self, entity: T) -> T:
        """The entity, stored; raises as `create`."""
        return (await self.add_many([entity]))[0]

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """The entities, stored; raises as `create`."""
        added = list(entities)
        self._session.add_all(added)
        await self._flush()
        return added

    async def update(self, which: T | UUID | str, **changes: Any) -> T:
        """The entity with these fields changed; given by id, it is locked first.

        Raises:
            InputError: an unknown field, or a value it cannot hold.
            NotFoundError: there is no such entity.
            ConflictError: someone else changed it since it was read, or its new key exists.
        """
        changes = self._fields(changes)
        entity = await self._held(which)
        for name, value in changes.items():
            setattr(entity, name, value)
        await self._flush()
        return entity

    async def delete(self, which: T | UUID | str) -> None:
        """Hide the entity from now on; `restore` brings it back.

        Raises:
            ConflictError: it is append-only, or something that is not deleted still refers to it.
            NotFoundError: there is no such entity.
        """
        entity = await self._held(which)
        entity.is_deleted, entity.deleted_at = True, now()
        await self._flush()

    async def restore(self, which: T | UUID | str) -> T:
        """The entity, no longer deleted.

        Raises:
            ConflictError: its name was given to another meanwhile.
            NotFoundError: it never existed, or what it refers to is deleted.
        """
        statement = self._select(lock=True).where(self.model.id == id_of(which))
        entity = self._one(await self._all(statement.execution_options(include_deleted=True)), which)
        entity.is_deleted, entity.deleted_at = False, None
        await self._flush()
        return entity

    async def update_where(self, changes: Mapping[str, Any], *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were changed in one statement.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all), an unknown field, or a value it cannot hold.
        """
        return await self._change(self._fields(changes), criteria, equal)

    async def delete_where(self, *criteria: Criterion, **equal: Any) -> int:
        """How many entities met all filters; all were deleted in one statement, or none.

        Raises:
            InputError: no filter (give `sqlalchemy.true()` for all).
            ConflictError: something that is not deleted still refers to one of them.
        """
        return await self._change({"is_deleted": True, "deleted_at": now()}, criteria, equal)

    async def _change(self, changes: Mapping[str, Any], criteria: Sequence[Criterion], equal: Mapping[str, Any]) -> int:
        where = self._where(criteria, equal)
        if not where:
            raise InputError("no filter was given; give sqlalchemy.true() to mean every row", expected="a filter")
        values = {getattr(self.model, name): value for name, value in changes.items()}
        if (version := self.model.__mapper__.version_id_col) is not None:
            values[version] = version + 1
        live = sa.update(self.model).where(*where, sa.not_(self.model.is_deleted)).values(values)
        with translated():
            result = await self._session.execute(live.returning(self.model.id), execution_options=_UNSYNCHRONIZED)
            changed = result.scalars().all()
        await self._reread(changed)
        return len(changed)

    async def _reread(self, ids: Iterable[UUID]) -> None:
        # Entities of this unit of work that the statement changed: expired, they could not be read without awaiting.
        held = {entity.id for entity in self._session.identity_map.values() if isinstance(entity, self.model)}
        if stale := held & set(ids):
            again = self._select().where(self.model.id.in_(stale))
            await self._all(again.execution_options(populate_existing=True, include_deleted=True))

    def _select(self, *criteria: Criterion, lock: bool = False, **equal: Any) -> sa.Select[T]:
        statement = sa.select(self.model).where(*self._where(criteria, equal))
        # What is locked is read anew, or a decision would rest on what was true before.
        return statement.with_for_update().execution_options(populate_existing=True) if lock else statement

    def _where(self, criteria: Sequence[Criterion], equal: Mapping[str, Any]) -> list[Criterion]:
        return [*criteria, *(self._attribute(name) == self._checked(name, value) for name, value in equal.items())]

    def _fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        for name in _KEPT.intersection(values):
            if is_kept(self._attribute(name)):
                raise InputError(f"{name} is kept by the store and cannot be given", given=name)
        return {name: self._checked(name, value) for name, value in values.items()}

    def _checked(self, name: str, value: object) -> Any:
        return checked(self._attribute(name).expression, value)

    def _attribute(self, name: str) -> orm.InstrumentedAttribute[Any]:
        known = [attribute.key for attribute in self.model.__mapper__.column_attrs]
        if name not in known:
            near = " or ".join(get_close_matches(name, known)) or ", ".join(known)
            raise InputError(f"{self.model.__name__} has no field {name!r}; known: {near}", given=name, expected=known)
        return getattr(self.model, name)  # type: ignore[no-any-return]

    async def _all(self, statement: sa.Select[T]) -> list[T]:
        with translated():
            return list(await self._session.scalars(statement))

    async def _held(self, which: T | UUID | str) -> T:
        if not isinstance(which, Entity):
            return await self.get(which, lock=True)
        keep_given(self._session, which)
        self._session.add(which)
        return which

    async def _flush(self) -> None:
        with translated():
            await self._session.flush()

    async def _loaded(self, which: UUID | str, *options: ExecutableOption) -> T:
        """The entity of that id with what the options load."""
        statement = self._select().where(self.model.id == id_of(which)).options(*options)
        return self._one(await self._all(statement.execution_options(populate_existing=True)), which)

    async def _named(self, attribute: orm.InstrumentedAttribute[str], name: str, *, hint: str = "", **equal: Any) -> T:
        """The newest entity of that name; if there is none, the error names the nearest, and says the hint."""
        found = await self.first(attribute == name, order=(self.model.id.desc(),), **equal)
        if found is None:
            names = sa.select(attribute).where(sa.not_(self.model.is_deleted), *self._where((), equal))
            with translated():
                known = list(await self._session.scalars(names.limit(_SUGGESTED_FROM)))
            raise NotFoundError(self.model.__name__, name, known=known, hint=hint)
        return found

    def _one(self, found: Sequence[T], which: object) -> T:
        if not found:
            raise NotFoundError(self.model.__name__, which)
        return found[0]


_UNSYNCHRONIZED = {"synchronize_session": False}
