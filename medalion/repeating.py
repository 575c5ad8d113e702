"""Work that an open store does again and again beside its callers."""

import threading
from abc import ABC, abstractmethod


class Repeating(ABC):
    """A daemon thread that takes its turn `first` seconds after its start, then every `interval` seconds."""

    def __init__(self, name: str, *, interval: float, first: float | None = None) -> None:
        self._first, self._interval = interval if first is None else first, interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
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
