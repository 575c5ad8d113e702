"""The store keeps its own lake while it is open: threads that copy what is new, merge small files and look after it."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import psycopg

from medalion.bars.downsampling import keepers
from medalion.core.datasets import DATASETS, Dataset
from medalion.core.errors import CorruptLakeError, MedalionError
from medalion.core.settings import Settings
from medalion.journal.anchors import Anchors
from medalion.journal.retention import Retention, retention_ages
from medalion.mirror import removal, vacuum
from medalion.mirror.copy import Copier
from medalion.mirror.removal import Ages
from medalion.services.mirror import Mirror
from medalion.services.rollups import Rollups
from olap.delta.lake import Lake
from oltp.ledger import batches
from oltp.ledger.folding import fold
from oltp.server.engine import Postgres

_logger = logging.getLogger(__name__)
_mirror_logger = logging.getLogger("medalion.mirror")
_FIRST_SECONDS = 60.0
_VERSIONS_SECONDS = 86_400.0
"""Whether versions are old is only seen in their files, so that it is looked at once a day."""


class RepeatingThread(ABC):
    """A daemon thread that takes its turn `first` seconds after its start, then every `interval` seconds."""

    def __init__(self, name: str, *, interval: float, first: float | None = None) -> None:
        self._first, self._interval = interval if first is None else first, interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the part at hand and end; nothing where it was not started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    @abstractmethod
    def _turn(self) -> None:
        """The work of one turn; logs its errors instead of raising them."""

    def _run(self) -> None:
        pause = self._first
        while not self._stopping.wait(pause):
            pause = self._interval
            self._turn()


class BackgroundMirror(RepeatingThread):
    """Runs the mirror every `interval` seconds where no other process leads; its errors are logged, never raised."""

    def __init__(self, mirror: Mirror, *, interval: float) -> None:
        super().__init__("medalion-mirror", interval=interval)
        self._mirror = mirror
        self._refused: set[str] = set()

    def _turn(self) -> None:
        for dataset in DATASETS.values():
            if self._stopping.is_set() or dataset.name in self._refused:
                continue
            try:
                self._mirror.run([dataset], wait=False, settle=True, is_stopping=self._stopping.is_set)
            except CorruptLakeError:
                _mirror_logger.exception("%s is not mirrored any more", dataset.name)
                self._refused.add(dataset.name)
            except Exception as error:  # the thread must outlive whatever a disk, a driver or an engine may raise
                _mirror_logger.warning("mirroring of %s waits: %s", dataset.name, error)


class BackgroundCompaction(RepeatingThread):
    """Rewrites at most one partition every `interval` seconds, of each dataset in turn; beside the mirror's thread.

    Copying what is new never waits for it. Errors are logged, never raised.
    """

    def __init__(self, mirror: Mirror, *, interval: float) -> None:
        super().__init__("medalion-compaction", interval=interval)
        self._mirror = mirror
        self._waiting = list(DATASETS.values())

    def _turn(self) -> None:
        for dataset in tuple(self._waiting):
            if self._stopping.is_set():
                return
            self._waiting.remove(dataset)
            try:
                done = self._mirror.compact_meanwhile(dataset, stopping=self._stopping)
            except CorruptLakeError:
                _mirror_logger.exception("%s is not compacted any more", dataset.name)
                continue
            except Exception as error:  # as above
                _mirror_logger.warning("compaction of %s waits: %s", dataset.name, error)
                done = None
            self._waiting.append(dataset)
            if done is not None and done.partitions:
                return


class BackgroundUpkeep(RepeatingThread):
    """Every `upkeep_interval` seconds refreshes kept bars, drops what the settings say, vacuums and folds.

    What another process is at is left to it. Errors are logged, never raised; a dataset whose lake or ledger is damaged
    is left alone from then on.
    """

    def __init__(self, postgres: Postgres, lake: Lake, copier: Copier, rollups: Rollups, settings: Settings) -> None:
        interval = settings.upkeep_interval
        super().__init__("medalion-upkeep", interval=interval, first=min(interval, _FIRST_SECONDS))
        self._postgres = postgres
        self._lake = lake
        self._copier = copier
        self._rollups = rollups
        self._settings = settings
        self._refused: set[str] = set()
        self._versions_due: dict[str, float] = {}

    def _turn(self) -> None:
        self._tried("refreshing", "rollups", self._refresh)
        for dataset in DATASETS.values():
            for what, work in (("retention", self._retain), ("vacuum", self._vacuum), ("folding", self._fold)):
                self._tried(what, dataset.name, partial(work, dataset))

    def _tried(self, what: str, name: str, work: Callable[[], object]) -> None:
        if self._stopping.is_set() or name in self._refused:
            return
        try:
            work()
        except CorruptLakeError:
            _mirror_logger.exception("%s of %s is not tried any more", what, name)
            self._refused.add(name)
        except Exception as error:  # as above
            _mirror_logger.warning("%s of %s waits: %s", what, name, error)

    def _refresh(self) -> None:
        for dataset, timeframe in self._rollups.list().select("dataset", "timeframe").rows():
            work = partial(self._rollups.refresh, dataset, timeframe=timeframe, wait=False, stopping=self._stopping)
            self._tried("refreshing", f"{dataset} {timeframe}", work)

    def _retain(self, dataset: Dataset) -> None:
        retention_ages = self._settings.lake_retention.get(dataset.name)
        if retention_ages is None:
            return
        is_due = retention_ages.versions_days is not None and time.monotonic() >= self._versions_due.get(
            dataset.name, 0.0
        )
        if not is_due and retention_ages.rows_days is None:
            return
        ages = Ages(_days(retention_ages.versions_days) if is_due else None, _days(retention_ages.rows_days))
        (keep,) = keepers(self._postgres, self._lake, [dataset], ages, retention_ages.downsample)
        removal.retain(
            self._postgres,
            self._lake.table(dataset),
            self._copier.finish,
            ages,
            keep=keep,
            wait=False,
            is_stopping=self._stopping.is_set,
        )
        if is_due:
            self._versions_due[dataset.name] = time.monotonic() + _VERSIONS_SECONDS

    def _vacuum(self, dataset: Dataset) -> None:
        if days := self._settings.vacuum_days:
            table, age = self._lake.table(dataset), timedelta(days=days)
            vacuum.vacuum_meanwhile(self._postgres, table, self._copier.finish, older_than=age)

    def _fold(self, dataset: Dataset) -> None:
        if days := self._settings.ledger_days:
            keys = _days(self._settings.key_days or None)
            with self._postgres.connection() as connection, batches.leading(connection, dataset, wait=False) as leads:
                if leads:
                    fold(connection, dataset, age=timedelta(days=days), key_age=keys)


class BackgroundRetention(RepeatingThread):
    """Prunes a minute after it was started and every `interval` seconds from then on; errors are logged, not raised."""

    def __init__(self, postgres: Postgres, settings: Settings, *, first: float = _FIRST_SECONDS) -> None:
        super().__init__("medalion-retention", interval=settings.retention_interval, first=first)
        self._retention = Retention(postgres, retention_ages(settings))

    def _turn(self) -> None:
        try:
            self._retention.prune(self._stopping)
        except (MedalionError, psycopg.Error) as error:
            _logger.warning("old logs stay for now: %s", error)


class BackgroundAnchors(RepeatingThread):
    """Anchors a minute after it was started and then every `interval` seconds; errors are logged, never raised."""

    def __init__(self, anchors: Anchors, *, interval: float, first: float = _FIRST_SECONDS) -> None:
        super().__init__("medalion-anchors", interval=interval, first=first)
        self._anchors = anchors

    def _turn(self) -> None:
        try:
            self._anchors.run(wait=False)
        except Exception as error:  # the thread must outlive whatever a disk, a driver or an engine may raise
            _logger.warning("the audit is not anchored for now: %s", error)


def _days(days: int | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
