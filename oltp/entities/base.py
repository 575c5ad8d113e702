"""What every mapped class shares: UUIDv7 keys, UTC time, exact decimals, enums by value, soft delete, row version."""

import secrets
import time
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from threading import Lock
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import event, orm
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from oltp.entities.columns import JSON, Exact, JsonObject, UtcDateTime, check_of

_ids_lock = Lock()
_last_id = 0


def uuid7() -> UUID:
    """A new id (RFC 9562 version 7): starts with the time in milliseconds and grows with every call of a process."""
    global _last_id
    # One random bit is left clear, so that counting on within a millisecond does not carry into the time.
    fresh = (time.time_ns() // 1_000_000) << 74 | secrets.randbits(73)
    with _ids_lock:
        _last_id = number = max(fresh, _last_id + 1 + secrets.randbits(32))
    high, low = number >> 62, number & (1 << 62) - 1
    return UUID(int=(high >> 12) << 80 | 7 << 76 | (high & 0xFFF) << 64 | 2 << 62 | low)


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Every table of the books, with names that do not depend on who creates them."""

    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: sa.Text(),
        datetime: UtcDateTime(),
        Decimal: Exact(),
        JsonObject: JSON,
        list[str]: JSON,
        StrEnum: sa.Enum(
            StrEnum,
            native_enum=False,
            create_constraint=True,
            length=32,
            values_callable=lambda members: [member.value for member in members],
        ),
    }


class Entity(Base):
    """A thing with identity; deleting it hides it, and `restore` brings it back.

    `append_only` entities can be neither changed nor deleted.
    """

    __abstract__ = True
    append_only: ClassVar[bool] = False
    audited: ClassVar[bool] = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-10)
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=sa.func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now, server_default=sa.func.now(), sort_order=91)
    is_deleted: Mapped[bool] = mapped_column(default=False, server_default=sa.false(), sort_order=92)
    deleted_at: Mapped[datetime | None] = mapped_column(
        sa.CheckConstraint("is_deleted = (deleted_at IS NOT NULL)", name="deletion"), sort_order=93
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"


class Versioned:
    """Optimistic locking: a change of a row that someone else changed meanwhile is refused."""

    __table__: ClassVar[sa.FromClause]

    row_version: Mapped[int] = mapped_column(default=1, server_default=sa.text("1"), sort_order=94)

    @orm.declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805
        return {"version_id_col": cls.__table__.c.row_version, "version_id_generator": lambda n: (n or 0) + 1}


def reference(target: str, *, index: bool = True) -> orm.MappedColumn[Any]:
    """A foreign key to `target`; what is referred to can neither be removed nor hidden."""
    return mapped_column(sa.ForeignKey(target, ondelete="RESTRICT"), index=index)


def live_unique(*columns: str) -> sa.Index:
    """Uniqueness among the rows that are not deleted, so that a name can be used again."""
    return sa.Index(None, *columns, unique=True, postgresql_where=sa.text("NOT is_deleted"))


@event.listens_for(Base, "attribute_instrument", propagate=True)
def _check_when_set(_: type[Base], __: str, attribute: orm.InstrumentedAttribute[Any]) -> None:
    # Checked here because inside a bind SQLAlchemy wraps the error in its own, and only at the flush.
    if not isinstance(attribute.property, orm.ColumnProperty):
        return
    check = check_of(attribute.property.columns[0])
    event.listen(attribute, "set", lambda _, value, *__: check(value), retval=True)


class LiveSession(Session):
    """Sees only what is not deleted, unless a statement has the execution option `include_deleted=True`."""


# Made once: what is made anew for each statement is analysed anew too.
_LIVE = orm.with_loader_criteria(Entity, lambda entity: sa.not_(entity.is_deleted), include_aliases=True)


@event.listens_for(LiveSession, "do_orm_execute")
def _hide_deleted(state: orm.ORMExecuteState) -> None:
    is_ours = state.is_select and not state.is_column_load and not state.is_relationship_load
    if is_ours and not state.execution_options.get("include_deleted", False):
        state.statement = state.statement.options(_LIVE)


@event.listens_for(LiveSession, "before_flush")
def _delete_softly(session: Session, *_: object) -> None:
    for entity in [entity for entity in session.deleted if isinstance(entity, Entity)]:
        session.add(entity)
        entity.is_deleted, entity.deleted_at = True, now()
