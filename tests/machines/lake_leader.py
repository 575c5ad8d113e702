"""A process that leads a dataset and is stopped while it holds the lock; one process for many times."""

import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.machines.lake_faces import Face, opened
from tests.machines.lake_steps import at_step
from tests.support.programs import context
from tests.support.server_processes import await_that

_SECONDS = 60


@dataclass
class _Process:
    process: BaseProcess
    orders: Pipe
    answers: Pipe


class Leader:
    """Another process that mirrors when told to, and stops itself at a step of it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._living: _Process | None = None

    def start(self) -> None:
        """Be there when it is needed, which takes seconds."""
        hears, orders = context.Pipe(duplex=False)
        answers, tells = context.Pipe(duplex=False)
        process = context.Process(target=_obey, args=(self._url, hears, tells), daemon=True)
        process.start()
        hears.close()
        tells.close()
        self._living = _Process(process, orders, answers)

    def lead(self, root: Path, dataset: str, step: str) -> bool:
        """Mirror as far as the step; whether it stands there now, or was done without it."""
        if self._living is None:
            self.start()
        living = self._living
        assert living is not None
        living.orders.send((root, dataset, step))
        if self._said(living) != "stopped":
            return False
        await_that(lambda: _state(living.process.pid) == "T")
        return True

    def go_on(self) -> None:
        """Do the rest."""
        assert self._living is not None
        assert self._living.process.pid is not None
        os.kill(self._living.process.pid, signal.SIGCONT)
        assert self._said(self._living) == "done"

    def kill(self) -> None:
        """End where it stands."""
        living, self._living = self._living, None
        if living is not None:
            living.process.kill()
            living.process.join()
            living.orders.close()
            living.answers.close()

    def _said(self, living: _Process) -> str:
        assert living.answers.poll(_SECONDS), "the leader says nothing"
        said = str(living.answers.recv())
        assert said in ("stopped", "done"), said
        return said


def _state(pid: int | None) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _obey(url: str, hears: Pipe, tells: Pipe) -> None:
    def stop() -> None:
        tells.send("stopped")
        os.kill(os.getpid(), signal.SIGSTOP)

    while True:
        try:
            root, dataset, step = hears.recv()
        except EOFError:
            return
        try:
            # Connected anew each time: the server may have been another's end meanwhile.
            with opened(url) as postgres:
                face = Face.open(postgres, root, batch_rows=7, slot_rows=10)
                with at_step(step, stop):
                    face.mirror.run([dataset])
        except BaseException as error:
            tells.send(f"{type(error).__name__}: {error}")
        else:
            tells.send("done")
