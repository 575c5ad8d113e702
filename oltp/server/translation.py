"""A driver's errors as ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors as pg
from sqlalchemy import exc
from sqlalchemy.orm.exc import StaleDataError

from medalion.core.errors import (
    ConflictError,
    InputError,
    MedalionError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
)
from oltp.server.engine import READ_ONLY

# In the words of PostgreSQL, and of the trigger that refuses what refers to a deleted row.
_ABSENT = re.compile(r"=\((?P<key>.*)\) is (not present|deleted) in table \"(?P<table>\w+)\"")


# Shut down by an administrator, after a crash, starting up; a database that is gone, idle for too long; too many.
_NO_CONNECTION = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "53300"})
_CONNECTION = re.compile(r"\b(connect\w*|server|host|socket|SSL|timeout|timed out)\b", re.IGNORECASE)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of SQLAlchemy and psycopg inside, raised as a MedalionError where a caller can act on them.

    Raises:
        ConflictError: something of that key exists, is still referred to, or was changed meanwhile.
        NotFoundError: what is referred to does not exist or is deleted.
        InputError: a value that the column cannot hold.
        StoreUnavailableError: no connection, or it was lost.
        StoreError: the server is a read replica.
    """
    try:
        yield
    except (exc.SQLAlchemyError, pg.Error) as error:
        ours = translation(error)
        if ours is None:
            raise
        raise ours from error


def translation(error: BaseException) -> MedalionError | None:
    """Our error for the driver's; None where it is a defect of the program and better seen as it is."""
    if isinstance(error, StaleDataError):
        return ConflictError("the row was changed by someone else since it was read; read it again, then decide")
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailableError("every connection of the pool is in use; close units of work sooner, or retry")
    cause = error.orig if isinstance(error, exc.StatementError) else error
    match cause:
        case MedalionError():
            return cause
        case pg.SerializationFailure() | pg.DeadlockDetected() | pg.LockNotAvailable():
            return ConflictError(f"another transaction was in the way: {_said(cause)}; try again", retryable=True)
        case pg.UniqueViolation():
            return ConflictError(f"{cause.diag.table_name}: {cause.diag.message_detail or _said(cause)}")
        case pg.ForeignKeyViolation() if absent := _ABSENT.search(cause.diag.message_detail or ""):
            return NotFoundError(absent["table"], absent["key"], hint=_said(cause))
        case pg.ForeignKeyViolation() | pg.RestrictViolation():
            return ConflictError(_said(cause))
        case pg.ReadOnlySqlTransaction():
            return StoreError(f"PostgreSQL {READ_ONLY}")
        case pg.IntegrityError() | pg.DataError():
            return InputError(_said(cause))
        case pg.OperationalError() | pg.InterfaceError() if _is_about_the_connection(cause):
            return StoreUnavailableError(f"PostgreSQL is not available: {_said(cause)}; try again")
        case pg.QueryCanceled():
            return StoreError(f"PostgreSQL ended the statement: {_said(cause)}")
        case pg.OperationalError() | pg.InterfaceError():
            return StoreError(f"PostgreSQL cannot do this: {_said(cause)}")
    return None


def _is_about_the_connection(error: pg.Error) -> bool:
    """Whether there is none, it was lost, or the server takes no more of them for now: to try again may help.

    A full disk, too little memory, a statement beyond a limit of server or driver and the like are errors of the same
    class in the driver, and are not.
    """
    if error.sqlstate is not None:
        return error.sqlstate.startswith("08") or error.sqlstate in _NO_CONNECTION
    # The driver's own words: of a connection that fails, is closed or was lost they always speak of it.
    return _CONNECTION.search(str(error)) is not None


def _said(error: pg.Error) -> str:
    """The server's own words; the row's values, which some details repeat, stay out of it."""
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
