"""One URL, three ways in: psycopg for rows, Arrow (ADBC) for frames, SQLAlchemy for entities."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from queue import Empty, SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import adbc_driver_manager
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from medalion.core.errors import InputError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncEngine

Connection: TypeAlias = psycopg.Connection[TupleRow]

T = TypeVar("T")

READ_ONLY = "is a read replica, or set to read only; open the primary server to change something"
OLDEST = 16
"""The oldest PostgreSQL that has all we need."""
LOCK_SECONDS = 60.0
_CONNECT_SECONDS = 10
_NAMED = f"medalion, process {os.getpid()} of {socket.gethostname()}"
"""How sessions are called that nobody has named."""
_HOLDERS = """
    SELECT pid, application_name, coalesce(xact_start, query_start, backend_start) FROM pg_stat_activity AS activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
        xact_start < clock_timestamp() - %(seconds)s * interval '1 second'
        OR EXISTS (SELECT FROM pg_locks AS held
                   WHERE held.pid = activity.pid AND locktype = 'advisory' AND granted AND objsubid = 2))
    ORDER BY 3 LIMIT 3
"""
_IN_UTC = "-c timezone=UTC"
# A server that was promoted, or restored to a point in time, is on another timeline than before.
_SERVER = """
    SELECT concat_ws(' ', system_identifier, CASE WHEN pg_is_in_recovery() THEN 'standby'
                     ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
                     (SELECT oid FROM pg_database WHERE datname = current_database()))
    FROM pg_control_system()
"""


def one(row: T | None) -> T:
    """The row of a statement that always gives one."""
    if row is None:
        raise StoreError("PostgreSQL gave no row where there always is one; is the schema that of this release?")
    return row


def is_replica(connection: Connection) -> bool:
    """Whether the server replays another's changes, and takes none; it says so by itself, also once it is promoted."""
    return connection.pgconn.parameter_status(b"in_hot_standby") == b"on"


@contextmanager
def holding(connection: Connection, lock: tuple[int, int], *, wait: bool) -> Iterator[bool]:
    """Within, this connection holds the advisory lock; without `wait` it is False where another does."""
    function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
    statement = sql.SQL("SELECT {}(%s, %s)").format(sql.Identifier(function))
    (taken,) = one(connection.execute(statement, lock).fetchone())
    holds = wait or bool(taken)
    try:
        yield holds
    finally:
        if holds and not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", lock)


def parse_url(url: str) -> "sa.URL":
    """The URL for SQLAlchemy's psycopg driver.

    Raises:
        InputError: not a PostgreSQL URL. The message does not repeat it: it may hold a password.
    """
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InputError("the database URL cannot be read; expected postgresql://user@host:5432/name") from error
    if parsed.drivername.split("+")[0] not in ("postgresql", "postgres"):
        raise InputError(
            f"a {parsed.drivername} URL was given; only PostgreSQL {OLDEST} or newer is supported",
            given=parsed.drivername,
            expected="postgresql",
        )
    return parsed.set(drivername="postgresql+psycopg")


def libpq_of(url: str) -> str:
    """The URL as libpq knows it; raises as `parse_url`."""
    return parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def shown(url: "sa.URL") -> str:
    """The address without any secret in it."""
    public = {name: "***" if "pass" in name else value for name, value in url.query.items()}
    return url.set(query=public).render_as_string(hide_password=True)


def connect(libpq: str) -> Connection:
    """A connection of its own, in UTC, to the address as libpq knows it.

    Raises:
        InputError: the URL has a part that libpq does not know.
        StoreUnavailableError: no server answers there, or it refuses.
        StoreError: the server is too old.
    """
    try:
        connection = psycopg.connect(libpq, connect_timeout=_CONNECT_SECONDS, options=_IN_UTC)
    except psycopg.ProgrammingError as error:
        raise InputError(f"the database URL has a part that libpq does not know: {shown(parse_url(libpq))}") from error
    except psycopg.OperationalError as error:
        raise unavailable(parse_url(libpq), error) from error
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        connection.close()
        raise StoreError(f"{shown(parse_url(libpq))} runs PostgreSQL {version}; medalion needs {OLDEST} or newer")
    return connection


def unavailable(url: "sa.URL", error: Exception) -> StoreUnavailableError:
    """That no server answers there now, in the driver's words."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return StoreUnavailableError(f"{shown(url)} is not reachable: {said}; check the address and that it runs")


def _in_time(libpq: str) -> str:
    """The address with a bound to how long a server may take to answer, where it has none."""
    if "connect_timeout=" in libpq:
        return libpq
    return f"{libpq}{'&' if '?' in libpq else '?'}connect_timeout={_CONNECT_SECONDS}"


class Keeper(Protocol):
    """Who keeps a server of ours running."""

    @property
    def pid(self) -> int | None:
        """The server's, which tells one from the next."""
        ...

    def is_alive(self) -> bool:
        """Whether that server still runs."""
        ...

    def revive(self) -> None:
        """Have one again, and wait until it answers."""
        ...


class Postgres:
    """Connections to one database; safe to use from several threads."""

    def __init__(self, url: str, *, keeper: Keeper | None = None, lock_timeout: float = LOCK_SECONDS) -> None:
        """With a `keeper` the server is ours, and started again if it dies; the URL is then no user's, whose every part
        has to be looked at. `lock_timeout` is how many seconds a statement waits for what another session holds.
        """
        self._lock_timeout = lock_timeout
        self._lock_milliseconds = max(1, round(1000 * lock_timeout))
        self._options = f"{_IN_UTC} -c lock_timeout={self._lock_milliseconds}"
        self._given = url
        self._keeper = keeper
        self._met = None if keeper is None else keeper.pid
        self._renewing = Lock()
        # A connection was lost or refused. The server may be about to die, which its sockets show before its process.
        self._is_suspect = False
        self.libpq = url.replace("+psycopg", "", 1) if keeper is not None else libpq_of(url)
        self._pool = ConnectionPool(
            self.libpq,
            min_size=0,
            max_size=16,
            timeout=_CONNECT_SECONDS,
            open=False,
            # Its statements are few and look for keys: planning one anew would take longer than it runs.
            kwargs={
                "autocommit": True,
                "options": f"{self._options} -c plan_cache_mode=force_generic_plan",
                "connect_timeout": _CONNECT_SECONDS,
                "fallback_application_name": _NAMED,
            },
            configure=self._meet,
        )
        self._servers: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()
        self._arrow: SimpleQueue[Any] = SimpleQueue()
        self._engine: AsyncEngine | None = None

    @cached_property
    def url(self) -> "sa.URL":
        """The address, for SQLAlchemy."""
        return parse_url(self._given)

    def __repr__(self) -> str:
        return f"Postgres({shown(self.url)})"

    def open(self) -> None:
        """Connect once, so that a wrong address is known now.

        Raises:
            StoreUnavailableError: no server answers there, or it refuses.
        """
        connect(self.libpq).close()
        self._pool.open()

    def _meet(self, connection: Connection) -> None:
        """Note which server a new connection of the pool has met."""
        with suppress(psycopg.errors.InsufficientPrivilege):
            self._servers[connection] = one(connection.execute(_SERVER).fetchone())[0]

    @property
    def is_replica(self) -> bool:
        """Whether the server is a read replica now."""
        with self.connection() as connection:
            return is_replica(connection)

    def server_of(self, connection: Connection) -> str:
        """Which server the connection has met: another one after a restore or a failover, as far as can be told."""
        return self._servers.get(connection, "")

    @property
    def engine(self) -> "AsyncEngine":
        """SQLAlchemy's engine; belongs to the event loop that first uses it."""
        if self._engine is None:
            from sqlalchemy import event  # for entities alone, which reads do without
            from sqlalchemy.ext.asyncio import create_async_engine

            self._engine = create_async_engine(self.url, async_creator=self._connect)
            event.listen(self._engine.sync_engine, "connect", self._note)
            event.listen(self._engine.sync_engine, "checkout", self._refuse_dead)
            event.listen(self._engine.sync_engine, "handle_error", self._suspect)
        return self._engine

    async def _connect(self) -> "psycopg.AsyncConnection[TupleRow]":
        from anyio import to_thread

        connect = partial(
            psycopg.AsyncConnection.connect,
            self.libpq,
            options=self._options,
            connect_timeout=_CONNECT_SECONDS,
            fallback_application_name=_NAMED,
        )
        if not self._is_ready():
            await to_thread.run_sync(self._ready)
        try:
            return await connect()
        except psycopg.OperationalError:
            if self._keeper is None:
                raise
        self._is_suspect = True
        await to_thread.run_sync(self._ready)
        return await connect()

    def _note(self, _: object, record: Any) -> None:
        record.info["met"] = self._met

    def _refuse_dead(self, _: object, record: Any, __: object) -> None:
        """SQLAlchemy then connects anew, which has the server started again."""
        if record.info["met"] != self._met or not self._is_ready():
            from sqlalchemy.exc import InvalidatePoolError

            raise InvalidatePoolError

    def _is_ready(self) -> bool:
        keeper = self._keeper
        return keeper is None or (not self._is_suspect and keeper.is_alive() and keeper.pid == self._met)

    def _suspect(self, context: Any) -> None:
        self._is_suspect |= context.is_disconnect

    def _ready(self) -> None:
        """Have our server started again if it died; what was connected to it is dropped, or each would fail once.

        Raises:
            StoreError, StoreUnavailableError: it does not start, or not in time.
        """
        if self._keeper is None or self._is_ready():
            return
        with self._renewing:
            if self._is_ready():
                return
            self._is_suspect = False
            self._keeper.revive()
            self._pool.drain()
            self._drop_arrow()
            self._met = self._keeper.pid

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """An autocommit connection of the pool, in UTC."""
        self._ready()
        with self.translated(), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def arrow(self) -> Iterator[Any]:
        """An autocommit ADBC connection; dropped instead of kept after any error."""
        self._ready()
        with self.translated():
            connection = self._arrow_connection()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._arrow.put(connection)
            if self._pool.closed:  # meanwhile, so that nobody else would drop it
                self._drop_arrow()

    def _arrow_connection(self) -> Any:
        try:
            return self._arrow.get_nowait()
        except Empty:
            from adbc_driver_postgresql import dbapi  # loads pandas where that is installed: only when needed

            connection = dbapi.connect(_in_time(self.libpq), autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET timezone = 'UTC'")
                cursor.execute(f"SET lock_timeout = {self._lock_milliseconds}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Driver errors that mean "not reachable now" as StoreUnavailableError."""
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise StoreUnavailableError(
                f"it takes longer than {self._lock_timeout:g} s to get what another session holds{self._holders()}; "
                "wait for it, or end it if it hangs"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            raise self._lost(error) from error
        except psycopg.DataError as error:
            raise InputError(f"PostgreSQL cannot hold a value: {error}") from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise StoreError(f"{shown(self.url)} {READ_ONLY}") from error
        except adbc_driver_manager.OperationalError as error:
            raise self._lost(error) from error

    def _holders(self) -> str:
        """Who holds a lock of ours, or has had a transaction open for as long, to say whom a wait was for."""
        with suppress(psycopg.Error, StoreUnavailableError), connect(self.libpq) as connection:
            rows = connection.execute(_HOLDERS, {"seconds": self._lock_timeout}).fetchall()
            if rows:
                told = (f"session {pid} ({name or 'no name'}) since {since:%H:%M:%S} UTC" for pid, name, since in rows)
                return f": now {', '.join(told)}"
        return ""

    def _lost(self, error: Exception) -> StoreUnavailableError:
        self._is_suspect = True
        return unavailable(self.url, error)

    def close(self) -> None:
        """Give back every connection but those of `engine`, which `dispose()` closes."""
        self._pool.close()
        self._drop_arrow()

    def _drop_arrow(self) -> None:
        while True:
            try:
                self._arrow.get_nowait().close()
            except Empty:
                return

    async def dispose(self) -> None:
        """Close the connections of `engine`."""
        if self._engine is not None:
            await self._engine.dispose()
