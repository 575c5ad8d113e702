"""`medalion journal`: what went wrong, what was measured, and removing what is old."""

from datetime import timedelta
from typing import Annotated

import typer

from medalion.cli.output import Format, emit_records, say

app = typer.Typer(no_args_is_help=True, help="Read the journal of errors and measurements, and remove what is old.")

Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
_LINES = ("log_timestamp", "log_level", "category", "message", "correlation_id")
_ERRORS = ("id", "error_timestamp", "severity", "category", "message", "exception_type", "resolved_at")
_METRICS = ("metric_timestamp", "value", "unit", "source", "tags")


@app.command()
def logs(
    ctx: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    level: Annotated[str | None, typer.Option(help="Of one level, such as warning; by default of all.")] = None,
    format: Form = Format.TABLE,
) -> None:
    """Print the last lines of the log, newest first."""
    with ctx.obj.open() as store:
        emit_records(_LINES, store.journal.recent_logs(count, level=level), format=format)


@app.command()
def errors(
    ctx: typer.Context,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    unresolved: Annotated[bool, typer.Option("--unresolved", help="Only those that need somebody.")] = False,
    format: Form = Format.TABLE,
) -> None:
    """Print the last errors, newest first."""
    with ctx.obj.open() as store:
        found = store.journal.unresolved_errors(count) if unresolved else store.journal.recent_errors(count)
    emit_records(_ERRORS, found, format=format)


@app.command()
def metrics(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as mirror_lag.")],
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 2024-03-01T14:30:00Z")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Until before then.")] = None,
    format: Form = Format.TABLE,
) -> None:
    """Print measurements of one name, oldest first."""
    from medalion.core.time import TimeRange

    during = TimeRange.of(start, end)
    with ctx.obj.open() as store:
        emit_records(_METRICS, store.journal.metrics(name, during.start, during.end), format=format)


@app.command()
def prune(
    ctx: typer.Context,
    days: Annotated[
        int | None,
        typer.Option("--older-than", min=1, max=36_500, metavar="DAYS", help="By default by the settings."),
    ] = None,
) -> None:
    """Remove old logs, measurements and errors that are over, for good."""
    from medalion.journal.retention import retention_ages

    with ctx.obj.open() as store:
        removed = store.journal.prune(retention_ages(ctx.obj.settings()) if days is None else timedelta(days=days))
    said = ", ".join(f"{count:,} of {table}" for table, count in removed.items())
    say(f"removed {said}" if removed else "everything is kept for ever, as the settings say")
