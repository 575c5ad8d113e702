"""`medalion stats`: the portfolio statistics as a batch job whose runs are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medalion.cli.output import Format, cell_text, emit, frame_of, say

if TYPE_CHECKING:
    from oltp.entities.operations import JobRun

app = typer.Typer(no_args_is_help=True, help="Run the portfolio statistics, and show earlier runs.")

Form = Annotated[Format, typer.Option("--format", help="How it is printed; json is the whole run.")]
_LISTED = ("id", "job", "status", "started_at", "finished_at", "parameters", "error")
_SHOWN = (*_LISTED, "inputs", "results")


@app.command()
def run(
    ctx: typer.Context,
    start: Annotated[str | None, typer.Option("--from", "--start", metavar="TIME", help="First session.")] = None,
    end: Annotated[str | None, typer.Option("--to", "--end", metavar="TIME", help="Before this.")] = None,
    account: Annotated[str | None, typer.Option(help="Its name or id; by default every account.")] = None,
    risk_free: Annotated[float, typer.Option(metavar="RATE", help="Annual: 0.02 is 2 %.")] = 0.0,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="Prices as held at that time.")] = None,
    format: Form = Format.TABLE,
) -> None:
    """Run the statistics of one account, or of all, keep the run, and print what it found."""
    from medalion.core.time import TimeRange, utc

    during = TimeRange.of(start, end)
    moment = None if as_of is None else utc(as_of, name="as_of")
    with ctx.obj.open() as store:
        done = store.jobs.run_statistics(during.start, during.end, account=account, risk_free=risk_free, as_of=moment)
    _print(done, format)


@app.command("list")
def recent(
    ctx: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    format: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
) -> None:
    """Print the last runs, newest first."""
    with ctx.obj.open() as store:
        runs = store.jobs.recent(count)
    emit(frame_of(_LISTED, ([getattr(one, name) for name in _LISTED] for one in runs)), format=format)


@app.command()
def show(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Its id.")],
    format: Form = Format.TABLE,
) -> None:
    """Print what a run found."""
    with ctx.obj.open() as store:
        found = store.jobs.get(run_id)
    _print(found, format)


def _print(run: JobRun, format: Format) -> None:
    if format is Format.JSON:
        typer.echo(json.dumps({name: getattr(run, name) for name in _SHOWN}, default=cell_text, indent=2))
        return
    say(f"run {run.id} {run.status.value}" + (f": {run.error}" if run.error else ""))
    figures = [
        (account, name, _rounded(value) if format is Format.TABLE else cell_text(value))
        for account, results in (run.results or {}).items()
        for name, value in _flat(results)
    ]
    emit(frame_of(("account", "figure", "value"), figures), format=format)


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """`{"performance": {"cagr": 0.1}}` as `("performance.cagr", 0.1)`."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _rounded(value: object) -> str:
    """Ratios to six digits, for a reader; money as it is."""
    return f"{value:.6g}" if isinstance(value, float) else cell_text(value)
