"""Statements of SQLAlchemy Core whose text is made once, and which the driver is then given as they are.

SQLAlchemy's own execution takes a statement's parameters apart, describes its columns and wraps its rows at every run,
which costs more than the driver does for all of it. An order waits for nine of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias, cast

import sqlalchemy as sa
from psycopg import AsyncConnection, AsyncRawCursor
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect
from sqlalchemy.util import await_

Row: TypeAlias = tuple[Any, ...]
Given: TypeAlias = Mapping[str, Any]
_Convert: TypeAlias = Callable[[Any], Any]

# Numbered parameters are PostgreSQL's own: nothing is left for the driver to read in the text.
_DIALECT: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def among(*members: object) -> sa.BindParameter[Any]:
    """What `in_` is given: members that are written into the text, where an index for them alone is recognised."""
    return sa.bindparam(None, members, expanding=True, literal_execute=True)


class Prepared:
    """A statement and the conversions of its parameters and columns; run in the transaction of a unit of work.

    A list to choose from is `among` others, and what is given for `any` is an array.
    Errors are the driver's; `UnitOfWork.run` translates them.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self._statement: Any = statement
        self._reads: list[tuple[int, _Convert]] | None = None

    def rows(self, connection: sa.Connection, given: Given) -> list[Row]:
        """What the statement gives with these parameters; values are as the columns' types make them."""
        cursor = self._cursor(connection)
        await_(cursor.execute(self._text, self._bound(given)))
        rows = await_(cursor.fetchall())
        return self._read(cursor, rows) if rows else rows

    def row(self, connection: sa.Connection, given: Given) -> Row | None:
        """The first of `rows`; None if there is none."""
        rows = self.rows(connection, given)
        return rows[0] if rows else None

    def count(self, connection: sa.Connection, *given: Given) -> int:
        """How many rows the statement changed, run once with each of these parameters, all in one round trip."""
        cursor = self._cursor(connection)
        bound = [self._bound(each) for each in given]
        if len(bound) == 1:
            await_(cursor.execute(self._text, bound[0]))
        else:
            await_(cursor.executemany(self._text, bound))
        return cursor.rowcount

    @cached_property
    def _needed(self) -> frozenset[str]:
        """The parameters that have to be given."""
        return frozenset(
            name for name, bind in self._statement.compile(dialect=_DIALECT).binds.items() if bind.required
        )

    @cached_property
    def _compiled(self) -> Any:
        if not isinstance(self._statement, sa.Select):
            return self._statement.compile(dialect=_DIALECT)
        # What a selection leaves to its run, such as `literal_execute`, is written into the text now, for which no
        # parameter may be needed.
        free = self._statement.params(dict.fromkeys(self._needed))
        return free.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})

    @cached_property
    def _text(self) -> bytes:
        return str(self._compiled).encode()

    @cached_property
    def _parameters(self) -> list[tuple[str, _Convert | None, Any]]:
        """In their order: the name, how a value is given to the driver, and the value that the statement has itself."""
        binds = ((name, self._compiled.binds[name]) for name in self._compiled.positiontup)
        return [(name, bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT), bind.value) for name, bind in binds]

    def _bound(self, given: Given) -> list[Any]:
        needed = self._needed
        values = ((given[name] if name in needed else own, convert) for name, convert, own in self._parameters)
        return [value if convert is None else convert(value) for value, convert in values]

    def _read(self, cursor: "AsyncRawCursor[Row]", rows: Sequence[Row]) -> list[Row]:
        if self._reads is None:
            kinds = [column.type.dialect_impl(_DIALECT) for column in self._statement.exported_columns]
            result = cast(Any, cursor.pgresult)
            found = [kind.result_processor(_DIALECT, result.ftype(place)) for place, kind in enumerate(kinds)]
            self._reads = [(place, convert) for place, convert in enumerate(found) if convert is not None]
        columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
        for place, convert in self._reads:
            columns[place] = map(convert, columns[place])
        return list(zip(*columns, strict=True))

    @staticmethod
    def _cursor(connection: sa.Connection) -> "AsyncRawCursor[Row]":
        return AsyncRawCursor(cast("AsyncConnection[Row]", connection.connection.driver_connection))
