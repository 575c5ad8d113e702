"""Ctrl-C for what may not heed it."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

INTERRUPTED = 128 + signal.SIGINT
_GRACE_SECONDS = 1.0


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process if the block goes on for a second after SIGINT, as a query in DuckDB at times does.

    Python's own handlers wait until native code returns; the wakeup descriptor is written to at once. The store is not
    closed then, which is what a kill is to it: the next one to open it answers for an embedded server left behind.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno())
    watcher = Thread(target=_watch, args=(reader,), name="medalion-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        watcher.join()
        reader.close()


def _watch(reader: socket.socket) -> None:
    """Until the other end is closed, or time is up after SIGINT."""
    while True:
        try:
            signals = reader.recv(16)
        except TimeoutError:
            os._exit(INTERRUPTED)
        if not signals:
            return
        if signal.SIGINT in signals:
            reader.settimeout(_GRACE_SECONDS)
