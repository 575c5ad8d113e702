"""What the runs of the lake's machine share: a server of their own, which may be killed, and others beside them."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

import medalion
from medalion.core.datasets import Dataset
from olap.delta import compaction
from olap.files import parquet
from oltp.schema import migrate
from oltp.server.embedded import DATABASE, EmbeddedPostgres, FileLock
from oltp.server.engine import Postgres
from tests.machines.lake_clock import Clocks, make_shiftable
from tests.machines.lake_faces import forget
from tests.machines.lake_leader import Leader
from tests.support.observed import instruments
from tests.support.server import libpq, started_server
from tests.support.server_processes import await_that, short_folder

_STRANGER = "stranger"
_SMALL = (
    (compaction, "FILE_ROWS", 12),
    (compaction, "FEWEST_FILES", 3),
    (compaction, "_APART_ROWS", 3),
    (parquet, "MIN_GROUP_ROWS", 4),
    (parquet, "GROUP_ROWS", 8),
)
"""Limits that make files, groups and partitions worth their upkeep with a few rows."""


@dataclass
class Ground:
    """A database that runs share, each with a ledger and a lake of its own; a second connection writes slowly.

    `stranger` is the database of another store, which has the same instruments.
    """

    server: EmbeddedPostgres
    postgres: Postgres
    slow: Postgres
    stranger: Postgres
    leader: Leader
    clocks: Clocks
    place: Path
    datasets: tuple[Dataset, ...]
    ids: dict[str, dict[str, int]]
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str, times: int = 1) -> None:
        self.counts[what] += times

    def begin(self) -> None:
        """The books of stores without observations, numbered from one on, by clocks that go as they do outside."""
        with self.postgres.connection() as connection:
            self.clocks.reset(connection)
        for postgres in (self.postgres, self.stranger):
            with postgres.connection() as connection:
                forget(connection, self.datasets)

    def rows(self, query: str, given: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self.postgres.connection() as connection:
            return connection.execute(query.encode(), given).fetchall()

    def kill_server(self) -> None:
        """PostgreSQL is gone, with each of its processes; nobody was told."""
        self.count("kills of the server")
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        # A process lets go of its locks a moment before it counts as dead, and a call in between would be refused.
        await_that(lambda: self._is_vacant() and not self.server.is_alive())

    def _is_vacant(self) -> bool:
        lock = FileLock(self.server.data_dir / "postgres.server")
        try:
            return lock.take()
        finally:
            lock.close()


@contextmanager
def ground_of(place: Path, datasets: tuple[Dataset, ...], symbols: tuple[str, ...]) -> Iterator[Ground]:
    """A server with the databases of two stores, and small limits."""
    folder, clocks = short_folder(), Clocks()
    with ExitStack() as ends:
        ends.callback(shutil.rmtree, folder)
        server = ends.enter_context(started_server(folder / "data"))
        migrate.upgrade(server.url)
        with medalion.open(server.url, data_dir=place / "data", mirror_background=False) as store:
            ids = {kind: instruments(store, kind, symbols) for kind in {dataset.kind for dataset in datasets}}
        with psycopg.connect(libpq(server.url).replace(f"/{DATABASE}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {_STRANGER} TEMPLATE {DATABASE}")
        strange = server.url.replace(f"/{DATABASE}?", f"/{_STRANGER}?")
        with psycopg.connect(libpq(strange), autocommit=True) as connection:
            connection.execute("UPDATE store_identity SET id = id - 1")
        with psycopg.connect(libpq(server.url), autocommit=True) as connection:
            make_shiftable(connection, DATABASE)
        quick, slow, stranger = (Postgres(url, keeper=server) for url in (server.url, server.url, strange))
        for postgres in (quick, slow, stranger):
            postgres.open()
            ends.callback(postgres.close)
        leader = Leader(server.url)
        ends.callback(leader.kill)
        leader.start()
        patch = ends.enter_context(pytest.MonkeyPatch.context())
        for module, name, small in _SMALL:
            patch.setattr(module, name, small)
        ends.enter_context(clocks.kept())
        named = {dataset.name: ids[dataset.kind] for dataset in datasets}
        yield Ground(server, quick, slow, stranger, leader, clocks, place, datasets, named)
