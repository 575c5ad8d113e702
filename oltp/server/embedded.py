"""The embedded PostgreSQL: one server per data folder, shared by processes; the last one out stops it.

No pid decides anything. Three `flock`s in the data folder do, and the kernel opens them when their holder dies:

- `postgres.gate`, exclusive, around each decision to start or to stop;
- `postgres.users`, shared, held by everyone who uses the server: whoever gets it exclusively is the last one;
- `postgres.server`, held by the postmaster and inherited by each of its processes: while it is locked, some process
  of a server lives, be it an orphan of a killed postmaster; when it is free, none does, whatever `postmaster.pid` says.

A user killed with SIGKILL leaves the server running; the next one to come attaches and answers for stopping it.
"""

import atexit
import fcntl
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from medalion.core.errors import StoreError, StoreUnavailableError
from oltp.server.place import GATE, Cluster, locate, open_private, prepare
from oltp.server.process import (
    PORT,
    SUPERUSER,
    initialise,
    is_postmaster,
    launch,
    log_tail,
    postmaster_pid,
    remove_socket_folder,
    socket_folder,
)

_logger = logging.getLogger("medalion.embedded")

DATABASE = "medalion"
POLL_SECONDS = 0.03
FIRST_REPORT_SECONDS, REPORT_EVERY_SECONDS = 2.0, 10.0
_SERVER = "postgres.server"
# How long a server that cannot be found by its pid is given to end by itself.
STRAY_SECONDS = 10.0

_descriptors: set[int] = set()


def _close_in_child() -> None:
    """Close a forked child's copies of the locks, which would hold them for as long as the child lives."""
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_close_in_child)


class FileLock:
    """An `flock` of its own on a file, also against others in the same process."""

    def __init__(self, path: Path) -> None:
        self.path, self.descriptor = path, open_private(path, os.O_RDWR)
        _descriptors.add(self.descriptor)

    def take(self, *, shared: bool = False) -> bool:
        """Whether the lock could be had at once.

        Raises: StoreError if the file system has no locks.
        """
        try:
            fcntl.flock(self.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise StoreError(f"cannot lock {self.path}: {error.strerror}; choose a data_dir on a local disk") from error
        return True

    def close(self) -> None:
        """Let go, but for processes that inherited the descriptor."""
        _descriptors.discard(self.descriptor)
        os.close(self.descriptor)

    def release(self) -> None:
        """Let go, also for processes that inherited the descriptor."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.close()


class StillStartingError(StoreUnavailableError):
    """The server does not answer within the time allowed, and is left to go on: it may be recovering from a crash."""


class StartWait:
    """Waits up to `timeout` seconds, and says why after 2 seconds and then every 10."""

    def __init__(self, timeout: float, report: Callable[[str], None]) -> None:
        self._begun, self._timeout, self.report = time.monotonic(), timeout, report
        self._next_report = FIRST_REPORT_SECONDS

    @property
    def elapsed(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._begun

    def wait(self, why: str) -> None:
        """Sleep a moment.

        Raises: StillStartingError once the time is up.
        """
        if self.elapsed > self._timeout:
            raise StillStartingError(f"gave up after {self._timeout:g} s: {why}; try again, or allow more time")
        if self.elapsed > self._next_report:
            self.report(f"waiting for {self.elapsed:.0f} s: {why}")
            self._next_report += REPORT_EVERY_SECONDS
        time.sleep(POLL_SECONDS)


class EmbeddedPostgres:
    """A share in the server of a data folder; `url` is for SQLAlchemy, and valid until `stop`.

    Several may exist in one process and in several. A forked child has no share: its `stop` does nothing.
    """

    url: str

    def __init__(self, data_dir: Path, *, timeout: float, report: Callable[[str], None]) -> None:
        self.data_dir = data_dir
        self._timeout, self._report = timeout, report
        self._process = os.getpid()
        self._share: FileLock | None = None
        self._cluster: Cluster | None = None
        self._host: Path | None = None
        self._pid: int | None = None
        self._watch: int | None = None
        self._reviving = Lock()

    @classmethod
    def start(cls, data_dir: Path, *, timeout: float = 600.0, report: Callable[[str], None] = _logger.warning) -> Self:
        """A share in the server of `data_dir`, which is started, and first made, as needed.

        Waits up to `timeout` seconds, since recovery after a crash takes its time, and tells `report` what for.
        A server that is still recovering then is left to go on.

        Raises: InputError if the folder cannot be used, StoreUnavailableError after `timeout` or without PostgreSQL's
        programs, StoreError if the server cannot start, with the end of its log.
        """
        server = cls(prepare(data_dir), timeout=timeout, report=report)
        return server._kept(server._join)

    @classmethod
    def begin(cls, data_dir: Path, *, timeout: float = 600.0, report: Callable[[str], None] = _logger.warning) -> Self:
        """A share in the same server, started as needed and not waited for, so that it has no `url`.

        For a program that has to load engines meanwhile; its `start` then finds the server on its way.

        Raises: as `start`, but for what a server that was launched says later.
        """
        server = cls(prepare(data_dir), timeout=timeout, report=report)
        return server._kept(server._attend)

    def _kept(self, enter: Callable[[StartWait], object]) -> Self:
        """This share once it is entered; given up where that fails, and at the latest when the process ends."""
        with ExitStack() as undo:
            undo.callback(self.stop)
            enter(StartWait(self._timeout, self._report))
            undo.pop_all()
        atexit.register(self.stop)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pid is None and isinstance(error, StillStartingError):
            self._leave()
        else:
            self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self.data_dir)!r}, {'stopped' if self._share is None else 'running'})"

    def stop(self) -> None:
        """Give up the share; the last one out stops the server and waits until it is gone. Idempotent.

        Raises: StoreUnavailableError if the server does not end in the time allowed for its start.
        """
        share, self._share = self._share, None
        if share is None or self._cluster is None or os.getpid() != self._process:
            return
        atexit.unregister(self.stop)
        with self._reviving:
            self._unwatch()
        patience = StartWait(self._timeout, self._report)
        try:
            if not self.data_dir.exists():
                self._abandon(self._cluster)
                return
            with self._gate(patience):
                if share.take():
                    self._shut_down(self._cluster, patience)
        finally:
            share.release()

    @contextmanager
    def _gate(self, patience: StartWait) -> Iterator[FileLock]:
        """Alone in deciding about this data folder's server."""
        gate = FileLock(self.data_dir / GATE)
        try:
            while not gate.take():
                patience.wait(f"another process is starting or stopping PostgreSQL in {self.data_dir}")
            yield gate
        finally:
            gate.release()

    @contextmanager
    def _vacancy(self, cluster: Cluster) -> Iterator[FileLock | None]:
        """The held lock of the server if none lives, else None; the caller is inside the gate."""
        lock = FileLock(self.data_dir / _SERVER)
        try:
            # A server started by hand does not hold the lock, nor one whose lock file somebody has deleted.
            vacant = lock.take() and postmaster_pid(cluster.pgdata) is None
            yield lock if vacant and _ping(socket_folder(cluster)) is pq.Ping.NO_RESPONSE else None
        finally:
            lock.close()

    def _join(self, patience: StartWait) -> None:
        try:
            host = self._served(patience)
        except StoreUnavailableError:
            self._leave()
            raise
        _ensure_database(host)
        # Not by SQLAlchemy, which writes a space as `+`, and takes longer to load than the server to start.
        self.url = f"postgresql+psycopg://{SUPERUSER}@/{DATABASE}?host={quote(str(host), safe='')}&port={PORT}"

    @property
    def pid(self) -> int | None:
        """The postmaster's, which tells one server from the next; None where it cannot be seen from here."""
        return self._pid

    def is_alive(self) -> bool:
        """Whether the postmaster that was met last still runs; takes a microsecond, so that every call may ask."""
        watched = self._watch  # once: whoever revives it sets another meanwhile
        if watched is not None:
            watch = select.poll()  # unlike `select` for any number of open files
            watch.register(watched, select.POLLIN)
            return not watch.poll(0)
        lock = FileLock(self.data_dir / _SERVER)
        try:
            return not lock.take()
        finally:
            lock.close()

    def revive(self) -> None:
        """Have a server that answers: the one that lives, or one started by this process or by another that was sooner.

        Raises: as `start`.
        """
        with self._reviving:
            if self._share is None:
                raise StoreUnavailableError(f"the store in {self.data_dir} is closed")
            before = self._pid
            self._served(StartWait(self._timeout, self._report))
            if self._pid != before:
                self._report(f"PostgreSQL in {self.data_dir} was gone and runs again")

    def _meet(self, pid: int | None) -> None:
        """Watch that process, whose end the kernel then tells."""
        self._unwatch()
        self._pid = pid
        if pid is not None and hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._watch = os.pidfd_open(pid)

    def _unwatch(self) -> None:
        watched, self._watch = self._watch, None
        if watched is not None:
            os.close(watched)

    def _leave(self) -> None:
        """Give up the share and stop nothing, which would throw away what a server has recovered so far."""
        if self._share is not None:
            self._share.release()
            self._share = None

    def _served(self, patience: StartWait) -> Path:
        """The socket folder of a server that answers, with a share in it taken."""
        log_begin: int | None = None
        while True:
            cluster, log_begin = self._attend(patience, log_begin)
            self._host = socket_folder(cluster)
            if self._host is not None and _ping(self._host) is pq.Ping.OK:
                self._meet(postmaster_pid(cluster.pgdata))
                return self._host
            said = log_tail(cluster.log, lines=1)
            patience.wait(f"PostgreSQL in {cluster.pgdata} starts, or recovers from a crash; it last said: {said}")

    def _attend(self, patience: StartWait, log_begin: int | None = None) -> tuple[Cluster, int | None]:
        """See that a server is there, launched if none is, and take a share in it; `log_begin` is that of our launch.

        Raises: StoreError if the server that was launched is gone again, with the end of its log.
        """
        with self._gate(patience) as gate:
            self._cluster = cluster = self._cluster or locate(self.data_dir)
            with self._vacancy(cluster) as vacant:
                if vacant is not None and log_begin is not None:
                    said = log_tail(cluster.log, since=log_begin)
                    raise StoreError(f"PostgreSQL in {cluster.pgdata} ended while starting; it said:\n{said}")
                if vacant is not None:
                    if not cluster.initialised:
                        initialise(cluster, hold=gate.descriptor, report=self._report)
                    log_begin = launch(cluster, hold=vacant.descriptor)
            if self._share is None:
                self._share = self._take_share()
        return cluster, log_begin

    def _take_share(self) -> FileLock:
        share = FileLock(self.data_dir / "postgres.users")
        if not share.take(shared=True):
            share.close()
            raise StoreError(f"{share.path} is locked by something that is not medalion; end it and try again")
        return share

    def _shut_down(self, cluster: Cluster, patience: StartWait) -> None:
        signalled: int | None = None
        while True:
            with self._vacancy(cluster) as vacant:
                if vacant is not None:
                    break
            # One that was not waited for says only now where it listens.
            self._host = self._host or socket_folder(cluster)
            pid = postmaster_pid(cluster.pgdata)
            if pid is not None and pid != signalled:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
                signalled = pid
            elif signalled is None and patience.elapsed > STRAY_SECONDS:
                self._report(
                    f"a process of PostgreSQL in {cluster.pgdata} still runs and cannot be found here, perhaps in "
                    f"another container; it is left to end by itself"
                )
                return
            patience.wait(f"PostgreSQL in {cluster.pgdata} is writing its last checkpoint before it ends")
        if self._host is not None:
            remove_socket_folder(cluster, self._host)

    def _abandon(self, cluster: Cluster) -> None:
        """End the server of a data folder that was deleted, which nobody can use any more."""
        if self._pid is not None and is_postmaster(self._pid, cluster.pgdata):
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGQUIT)


def _ping(host: Path | None) -> pq.Ping:
    if host is None:
        return pq.Ping.NO_RESPONSE
    conninfo = make_conninfo(host=str(host), port=PORT, user=SUPERUSER, dbname="postgres", connect_timeout=2)
    return pq.Ping(pq.PGconn.ping(conninfo.encode()))


def _ensure_database(host: Path) -> None:
    try:
        with psycopg.connect(
            host=str(host), port=PORT, user=SUPERUSER, dbname="postgres", autocommit=True, connect_timeout=60
        ) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                # Another process may make it at the same moment.
                with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(f"the embedded PostgreSQL answers but does not serve: {error}") from error
