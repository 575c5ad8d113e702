"""A contender in a process of its own: a line of JSON asks, a line of JSON answers.

Engines neither share threads and memory that way nor need libraries that agree.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = tuple[Callable[[], Any], Callable[[Any], tuple[int, float]]]
"""What is timed, and how its answer is counted and summed."""


class Contender:
    """What is asked the same questions as the others; subclasses name their `works` and the `packages` they run on."""

    packages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.works: dict[str, Work] = {}

    def versions(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in self.packages}

    def check(self, work: str) -> dict[str, float]:
        """The first run: rows, a sum over them, seconds, and MB that the process grew by at its peak."""
        run, count = self.works[work]
        idle = memory_mb("VmRSS")
        forget_peak()
        started = time.perf_counter()
        answer = run()
        seconds = time.perf_counter() - started
        peak = memory_mb("VmHWM") - idle
        rows, total = count(answer)
        return {"rows": rows, "sum": total, "seconds": seconds, "peak_mb": peak}

    def measure(self, work: str, times: int, warm: bool) -> list[float]:
        """Seconds of so many runs, after one that does not count where `warm`."""
        run, _ = self.works[work]
        taken = []
        for place in range(times + warm):
            started = time.perf_counter()
            answer = run()
            if place >= warm:
                taken.append(time.perf_counter() - started)
            del answer
        return taken


def memory_mb(name: str) -> float:
    """A line of the kernel's view of this process in MB; 0 where the system has none."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def forget_peak() -> None:
    """The peak counts from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
    except OSError:
        return


def serve(contender: Contender) -> None:
    """Answer until the input ends; what libraries print goes to the standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            reply = {"answer": getattr(contender, asked["call"])(**asked["arguments"])}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


class FailedError(Exception):
    """A contender could not answer."""


class Process:
    """The asking side of a contender."""

    def __init__(self, name: str, module: str, *, python: Path | str = sys.executable, log: Path) -> None:
        self.name = name
        self._log = log.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - this package's own modules
            [str(python), "-m", f"benchmarks.lake.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, call: str, **arguments: Any) -> Any:
        """The answer of a method of the contender.

        Raises:
            FailedError: it has raised, or ended.
        """
        asking, answering = self._process.stdin, self._process.stdout
        if asking is None or answering is None:
            raise FailedError(f"{self.name} has no pipe")
        try:
            asking.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            asking.flush()
            line = answering.readline()
        except BrokenPipeError as error:
            raise FailedError(f"{self.name} has ended during {call}") from error
        if not line:
            raise FailedError(f"{self.name} has ended during {call}; see {self._log.name}")
        reply = json.loads(line)
        if "error" in reply:
            raise FailedError(f"{self.name}, {call}: {reply['error']}")
        return reply["answer"]

    def close(self) -> None:
        """End it by ending its input."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=60)

    def stop(self) -> None:
        """End it if it still runs: by itself, so that a server it has started ends too, else whatever it does."""
        if self._process.poll() is not None:
            return
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(timeout=60)
