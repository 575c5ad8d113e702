"""`medalion mirror`: hot rows to the lake."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from medalion.cli.output import Format, emit, log, say

if TYPE_CHECKING:
    from medalion.core.datasets import Dataset
    from medalion.mirror.copy import MirrorRun

app = typer.Typer(no_args_is_help=True, help="Copy new rows to the lake, exactly once, and check the copy.")

_LOOK_SECONDS = 0.1

Chosen = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Only this dataset; may be given again. Default: all.")
]
Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]


@app.command()
def run(ctx: typer.Context) -> None:
    """Copy everything committed so far."""
    with ctx.obj.parts() as store:
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
    from medalion.core.errors import StoreUnavailableError

    seconds = interval or ctx.obj.settings().mirror_interval
    with _stop_signals() as stop, ctx.obj.parts() as store:
        log(f"mirroring every {seconds:g} s; Ctrl-C ends it")
        while not stop.is_asked:
            try:
                done = store.mirror.run(wait=False, settle=True, is_stopping=lambda: stop.is_asked)
            except StoreUnavailableError as error:
                log(f"mirroring waits: {error}")
            else:
                if done.batches:
                    log(_said(done))
            stop.wait(seconds)
    log("stopped")


@app.command()
def status(ctx: typer.Context, format: Form = Format.TABLE) -> None:
    """Show, for each dataset, what is mirrored and what waits."""
    with ctx.obj.parts() as store:
        emit(store.mirror.status(), format=format)


@app.command()
def verify(
    ctx: typer.Context,
    dataset: Chosen = None,
    heal: Annotated[bool, typer.Option("--heal", help="Repair what can be proven; book the rest as lost.")] = False,
    format: Form = Format.TABLE,
) -> None:
    """Compare ledger, hot rows and lake; print where they differ and exit with 1 if anywhere, and not repaired."""
    datasets = _datasets(dataset)
    with ctx.obj.parts() as store:
        drift = store.mirror.verify(datasets, heal=heal)
    if drift.is_empty():
        say("ledger, hot rows and lake agree")
    if drift.height or format is not Format.TABLE:
        emit(drift, format=format)
    if any(outcome != "repaired" for outcome in drift["outcome"]) if heal else drift.height:
        raise typer.Exit(1)


@app.command()
def rebind(
    ctx: typer.Context,
    dataset: Chosen = None,
    adopt: Annotated[
        str | None, typer.Option(metavar="STORE-ID", help="The store whose lake it is, which cannot use it any more.")
    ] = None,
    format: Form = Format.TABLE,
) -> None:
    """Bind a lake to its ledger again after one of them was restored from a backup; says what became of what."""
    datasets = _datasets(dataset)
    with ctx.obj.parts(is_rebinding=True) as store:
        told = store.mirror.rebind(datasets, adopt=adopt)
    say("ledger and lake are bound")
    if told.height or format is not Format.TABLE:
        emit(told, format=format)


@app.command()
def move(
    ctx: typer.Context,
    to: Annotated[str, typer.Argument(metavar="TO", help="An empty folder or s3://bucket/prefix.")],
) -> None:
    """Move the lake to another folder or bucket, while bots write; says how to open the store from then on."""
    with ctx.obj.parts() as store:
        done = store.mirror.move(to)
    say(f"copied {done.files:,} files of {done.bytes / 1e6:,.1f} MB; the lake is in {done.lake} now")
    say(f"from now on open the store with --lake {shlex.quote(done.lake)} or MEDALION_LAKE={shlex.quote(done.lake)}")
    say(f"the lake in {done.before} stays and is not the store's any more; remove it once nothing needs it")


@app.command()
def prune(ctx: typer.Context) -> None:
    """Remove from PostgreSQL the rows that are in the lake."""
    with ctx.obj.parts() as store:
        say(f"removed {store.mirror.prune():,} rows from PostgreSQL")


@app.command()
def compact(ctx: typer.Context, dataset: Chosen = None) -> None:
    """Merge the small files of each partition of the lake; no row is lost, and reads go on."""
    datasets = _datasets(dataset)
    with ctx.obj.parts() as store:
        done = store.mirror.compact(datasets)
    say(
        f"rewrote {done.files_before:,} files as {done.files_after:,} in {done.partitions:,} partitions, "
        f"{done.rows:,} rows in {done.seconds:.1f} s"
    )


@app.command()
def vacuum(
    ctx: typer.Context,
    dataset: Chosen = None,
    older_than_days: Annotated[int, typer.Option(min=0, max=30, help="Files replaced or left since then stay.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove files of the lake that no recent version needs."""
    datasets = _datasets(dataset)
    with ctx.obj.parts() as store:
        done = store.mirror.vacuum(datasets, older_than=timedelta(days=older_than_days), dry_run=dry_run)
    if dry_run:
        for path in done.files:
            typer.echo(path)
    say(
        f"{'would remove' if dry_run else 'removed'} {len(done.files):,} files of {done.bytes / 1e6:,.1f} MB "
        f"and {done.log_entries:,} entries of logs"
    )


@app.command()
def retain(
    ctx: typer.Context,
    dataset: Annotated[list[str], typer.Option("--dataset", "-d", help="Dataset to remove from; may be given again.")],
    versions_older_than_days: Annotated[
        int | None, typer.Option(min=0, max=36_500, help="Remove versions that were corrected or deleted so long ago.")
    ] = None,
    rows_older_than_days: Annotated[
        int | None, typer.Option(min=0, max=36_500, help="Remove whole partitions whose rows are all so old.")
    ] = None,
    downsample: Annotated[
        str | None, typer.Option(metavar="TIMEFRAME", help="Of quotes: bars that stay in their place, such as 1Min.")
    ] = None,
) -> None:
    """Remove old rows from the lake, for good; reads as of an earlier time are refused from then on."""
    datasets = _datasets(dataset)
    if downsample is not None:
        from medalion.core.datasets import downsampled

        for declared in datasets:
            downsampled(declared, downsample)
    with ctx.obj.parts() as store:
        done = store.mirror.retain(
            datasets,
            versions_older_than=_days(versions_older_than_days),
            rows_older_than=_days(rows_older_than_days),
            downsample=downsample,
        )
    say(f"removed {done.versions:,} versions, and {done.rows:,} rows of {done.partitions:,} partitions")


def _datasets(names: list[str] | None) -> list[Dataset]:
    """The datasets named, or all; checked before a store is opened."""
    from medalion.core.datasets import DATASETS, dataset

    return [dataset(name) for name in names or DATASETS]


def _days(days: int | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


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
