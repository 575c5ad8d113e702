"""Other processes that use a store, for tests that kill them: forked from one that has imported most of what they need.

Each costs a third of a second so, where an interpreter of its own needs two. They have the environment and the folder
that the test process had when the first of them was started.
"""

import multiprocessing
import sys
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

context = multiprocessing.get_context("forkserver")
# No module that makes a frame when it is imported: the threads of Polars do not outlive a fork. There is one list for
# the whole process, and whoever sets another replaces this one.
context.set_forkserver_preload(
    [
        "deltalake",
        "duckdb",
        "medalion.services.trading",
        "oltp.ledger.removals",
        "oltp.repositories.unit_of_work",
        "oltp.schema.migrate",
        "psycopg_pool",
        "pytest",
    ]
)


def exit_code(program: str, *arguments: str) -> int:
    """What the program ends with, minus the signal if it was killed; it finds its arguments in `sys.argv`."""
    process = context.Process(target=_run, args=(program, arguments, None))
    process.start()
    process.join()
    return process.exitcode or 0


def begun(program: str, *arguments: str) -> BaseProcess:
    """A process that has called `ready()` in the program, and goes on."""
    hears, tells = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(program, arguments, tells))
    process.start()
    tells.close()
    with hears:
        hears.recv()
    return process


def _run(program: str, arguments: tuple[str, ...], tells: Pipe | None) -> None:
    def ready() -> None:
        if tells is not None:
            tells.send(None)

    sys.argv = ["-c", *arguments]
    exec(compile(program, "<program>", "exec"), {"ready": ready})  # noqa: S102 - it is ours
