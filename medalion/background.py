"""The store keeps its own lake: threads that copy what is new, and merge small files, while the store is open."""

import logging

from medalion.datasets import DATASETS
from medalion.errors import CorruptLakeError
from medalion.mirror import Mirror
from medalion.repeating import Repeating

_logger = logging.getLogger("medalion.mirror")


class BackgroundMirror(Repeating):
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
                self._mirror.run([dataset], wait=False, settle=True)
            except CorruptLakeError:
                _logger.exception("%s is not mirrored any more", dataset.name)
                self._refused.add(dataset.name)
            except Exception as error:  # the thread must outlive whatever a disk, a driver or an engine may raise
                _logger.warning("mirroring of %s waits: %s", dataset.name, error)


class BackgroundCompaction(Repeating):
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
                _logger.exception("%s is not compacted any more", dataset.name)
                continue
            except Exception as error:  # as above
                _logger.warning("compaction of %s waits: %s", dataset.name, error)
                done = None
            self._waiting.append(dataset)
            if done is not None and done.partitions:
                return
