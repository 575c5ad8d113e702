"""What an open store is made of.

SQLAlchemy and the books' mapped classes are loaded with the first unit of work: a read does without, in half the time.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from medalion.core.errors import InputError, StoreError
from medalion.core.settings import Settings
from medalion.journal.anchors import Anchors
from medalion.journal.metrics import Metrics
from medalion.mirror.copy import Copier
from medalion.observations.coverage import Coverage
from medalion.services.ingestion import Ingestion
from medalion.services.mirror import Mirror
from medalion.services.observations import Observations
from medalion.services.rollups import Rollups
from medalion.services.sources import Sources
from olap.delta.lake import Lake
from olap.places.open import Place, lake_place
from oltp.ledger.identity import has_lake, store_id
from oltp.schema.fingerprint import checked_revision
from oltp.schema.revision import head
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import Postgres, parse_url, shown

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from medalion.journal.handler import DatabaseLogHandler
    from medalion.store.background import RepeatingThread
    from oltp.repositories.unit_of_work import UnitOfWork

_SPAWN = (
    "threads do not outlive a fork: start processes by multiprocessing.get_context('spawn'), "
    "and open a store of its own in each"
)


class Parts:
    """What an open store is made of; opened and closed in one place, used by both faces."""

    _first_pid: ClassVar[int | None] = None
    """The process in which a store was opened first; kept by those that are forked from it."""

    def __init__(self, settings: Settings, *, is_rebinding: bool = False) -> None:
        """`is_rebinding` opens a store whose lake may be another's, which nothing but a rebinding can use.

        Raises:
            InputError: a setting is wrong, or a folder or bucket cannot be used.
            StoreError: the server is too old, or has a schema of another release.
            StoreUnavailableError: no server answers, or the lake's object store does not.
            CorruptLakeError: a store without a lake was given one that belongs to another.
        """
        self.settings = settings
        self._pid = os.getpid()
        Parts._first_pid = Parts._first_pid or self._pid
        if Parts._first_pid != self._pid:
            raise StoreError(f"this process was forked from one that has opened a store; {_SPAWN}")
        place = lake_place(settings)
        if settings.database_url is not None:
            parse_url(settings.database_url.get_secret_value())  # before a folder is made
        _make_private(settings.data_dir)
        place.open()
        self.embedded: EmbeddedPostgres | None = None
        if given := settings.database_url:
            url = given.get_secret_value()
        else:
            self.embedded = EmbeddedPostgres.start(settings.data_dir, timeout=settings.start_timeout)
            url = self.embedded.url
        with ExitStack() as opened:
            if self.embedded:
                opened.callback(self.embedded.stop)
            self.postgres = Postgres(url, keeper=self.embedded, lock_timeout=settings.lock_timeout)
            opened.callback(self.postgres.close)
            self.postgres.open()
            self._check_schema(url)
            self.lake = self._bound_lake(place, is_rebinding=is_rebinding)
            opened.pop_all()
        self.metrics = Metrics(self.postgres)
        record, rows = self.metrics.record, settings.batch_rows
        self.copier = Copier(self.postgres, self.lake, batch_rows=rows, slot_rows=settings.slot_rows, record=record)
        self.mirror = Mirror(self.postgres, self.lake, self.copier)
        self.observations = Observations(self.postgres, self.lake, record=record, slow_ms=settings.slow_query_ms)
        self.ingestion = Ingestion(self.postgres, self.lake, self.copier)
        self.sources = Sources(self.postgres)
        self.coverage = Coverage(self.postgres, self.lake)
        self.rollups = Rollups(self.postgres, self.lake, self.observations.bar_reads)
        self.anchors = Anchors(self.postgres, self.lake)
        self.background = self._background() if settings.mirror_background and not self.postgres.is_replica else []
        self.handlers: list[DatabaseLogHandler] = []
        self.is_closed = False
        for thread in self.background:
            thread.start()

    def _background(self) -> list[RepeatingThread]:
        """What a store that keeps its own lake does beside its callers."""
        from medalion.store.background import (
            BackgroundAnchors,
            BackgroundCompaction,
            BackgroundMirror,
            BackgroundRetention,
            BackgroundUpkeep,
        )

        settings = self.settings
        threads: list[RepeatingThread] = [
            BackgroundMirror(self.mirror, interval=settings.mirror_interval),
            BackgroundRetention(self.postgres, settings),
            BackgroundAnchors(self.anchors, interval=settings.anchor_interval),
        ]
        if settings.compact_background:
            threads.append(BackgroundCompaction(self.mirror, interval=settings.compact_interval))
        if settings.upkeep_background:
            threads.append(BackgroundUpkeep(self.postgres, self.lake, self.copier, self.rollups, settings))
        return threads

    def units(self) -> UnitOfWork:
        """A new unit of work over the books."""
        from oltp.repositories.unit_of_work import UnitOfWork

        return UnitOfWork(self.used().sessions)

    @cached_property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Where units of work and the simulated venue get their sessions."""
        from oltp.repositories.unit_of_work import sessions

        return sessions(self.postgres.engine)

    def used(self) -> Self:
        """These parts, if they may be used here.

        Raises:
            StoreError: the store was closed, or belongs to the process that forked this one.
        """
        if not self.is_ours:
            raise StoreError(f"this store was opened before a fork; {_SPAWN}")
        if self.is_closed:
            raise StoreError("this store is closed; open another")
        return self

    @property
    def is_ours(self) -> bool:
        """False in a process that was forked from the one that opened the store."""
        return self._pid == os.getpid()

    def close(self) -> None:
        """Give everything back; the embedded server stops with its last user. Idempotent; nothing in a forked child."""
        if self.is_closed or not self.is_ours:
            return
        self.is_closed = True
        for thread in self.background:
            thread.stop()
        for handler in self.handlers:
            handler.close()
        self.metrics.close()
        self.postgres.close()
        if self.embedded:
            self.embedded.stop()

    def __str__(self) -> str:
        """Where it is, as an argument of `open` would say it; without a password."""
        settings = self.settings
        where = f"data_dir={str(settings.data_dir)!r}" if self.embedded else repr(shown(self.postgres.url))
        lake = "" if settings.lake is None else f", lake={settings.lake!r}"
        return f"{where}{lake}{', closed' if self.is_closed else ''}"

    def _bound_lake(self, place: Place, *, is_rebinding: bool) -> Lake:
        with self.postgres.connection() as connection:
            store, is_new = store_id(connection), not has_lake(connection)
        lake = Lake(place, store=store, kept_bytes=self.settings.cache_mb << 20)
        if is_new and not is_rebinding:
            lake.check_unowned()
        lake.keep_private()
        return lake

    def _check_schema(self, url: str) -> None:
        with self.postgres.connection() as connection:
            found = checked_revision(connection)
        if found == head():
            return
        if self.embedded is None:
            raise StoreError(
                f"{self.postgres!r} has schema {found or 'none'}, this release needs {head()}; "
                "run `medalion db upgrade`"
            )
        from oltp.schema import migrate  # loads Alembic, which takes as long as the rest of an opening

        migrate.upgrade(url)


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the data folder {folder} cannot be made ({error}); give another with data_dir=",
            given=str(folder),
            expected="a writable folder",
        ) from error
