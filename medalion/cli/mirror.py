"""`medalion mirror`: hot rows to the lake."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from medalion.cli.output import Format, emit, say

if TYPE_CHECKING:
    from medalion.mirror import MirrorRun

app = typer.Typer(no_args_is_help=True, help="Copy new rows to the lake, exactly once, and check the copy.")

_LOOK_SECONDS = 0.1

Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]


@app.command()
def run(ctx: typer.Context) -> None:
    """Copy everything committed so far."""
    with ctx.obj.open() as store:
        done = store.mirror.run(settle=True)
    say(_said(done))


@app.command()
def watch(
    ctx: typer.Context,
    interval: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds between two looks [MEDALION_MIRROR_INTERVAL].")
    ] = None,
) -> None:
    """Copy what is new, again and again, until interrupted; the batch at hand is finished first."""
    from medalion.errors import StoreUnavailableError

    seconds = interval or ctx.obj.settings().mirror_interval
    with _stop_signals() as stop, ctx.obj.open() as store:
        say(f"mirroring every {seconds:g} s; Ctrl-C ends it")
        while not stop.is_asked:
            try:
                done = store.mirror.run(wait=False, settle=True)
            except StoreUnavailableError as error:
                say(f"mirroring waits: {error}")
            else:
                if done.batches:
                    say(_said(done))
            stop.wait(seconds)
    say("stopped")


@app.command()
def status(ctx: typer.Context, format: Form = Format.TABLE) -> None:
    """Show, for each dataset, what is mirrored and what waits."""
    with ctx.obj.open() as store:
        emit(store.mirror.status(), format=format)


@app.command()
def verify(ctx: typer.Context, format: Form = Format.TABLE) -> None:
    """Compare ledger, hot rows and lake; print where they differ and exit with 1 if anywhere."""
    with ctx.obj.open() as store:
        drift = store.mirror.verify()
    if drift.is_empty():
        say("ledger, hot rows and lake agree")
    if drift.height or format is not Format.TABLE:
        emit(drift, format=format)
    if drift.height:
        raise typer.Exit(1)


@app.command()
def prune(ctx: typer.Context) -> None:
    """Remove from PostgreSQL the rows that are in the lake."""
    with ctx.obj.open() as store:
        say(f"removed {store.mirror.prune():,} rows from PostgreSQL")


def _said(done: MirrorRun) -> str:
    return f"copied {done.rows:,} rows in {done.batches:,} batches to {done.files:,} files in {done.seconds:.1f} s"


class _Stop:
    """Whether SIGINT or SIGTERM has asked to stop; a second signal does what it always does.

    An attribute and not a `threading.Event`, whose lock the interrupted thread may be holding.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def wait(self, seconds: float) -> None:
        """Sleep, at most until asked to stop."""
        until = time.monotonic() + seconds
        while not self.is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))

    def ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
        self.restore()

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        stop.restore()
