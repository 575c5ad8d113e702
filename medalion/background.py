"""The store mirrors itself: a thread that copies what is new while the store is open."""

import logging
import threading

from medalion.datasets import DATASETS
from medalion.errors import CorruptLakeError
from medalion.mirror import Mirror

_logger = logging.getLogger("medalion.mirror")


class BackgroundMirror:
    """Runs the mirror every `interval` seconds where no other process leads; its errors are logged, never raised."""

    def __init__(self, mirror: Mirror, *, interval: float) -> None:
        self._mirror = mirror
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medalion-mirror", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand and end; nothing where it was not started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        refused: set[str] = set()
        while not self._stopping.wait(self._interval):
            for dataset in DATASETS.values():
                if self._stopping.is_set() or dataset.name in refused:
                    continue
                try:
                    self._mirror.run([dataset], wait=False, settle=True)
                except CorruptLakeError:
                    _logger.exception("%s is not mirrored any more", dataset.name)
                    refused.add(dataset.name)
                except Exception as error:  # the thread must outlive whatever a disk, a driver or an engine may raise
                    _logger.warning("mirroring of %s waits: %s", dataset.name, error)
