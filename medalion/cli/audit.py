"""`medalion audit`: who changed what, and whether the record has been tampered with."""

from typing import Annotated

import typer

from medalion.cli.output import Format, emit_records, say

app = typer.Typer(no_args_is_help=True, help="Read, check and anchor the record of changes.")

Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
_HISTORY = ("version", "action", "action_timestamp", "performed_by", "changes", "reason", "correlation_id")
_PROBLEMS = ("entity_type", "entity_id", "version", "problem")


@app.command()
def history(
    ctx: typer.Context,
    entity: Annotated[str, typer.Argument(metavar="ID", help="The entity's id.")],
    entity_type: Annotated[str | None, typer.Option("--type", metavar="TABLE", help="Its table.")] = None,
    format: Form = Format.TABLE,
) -> None:
    """Print every change of an entity, oldest first."""
    with ctx.obj.open() as store:
        entries = store.audit.history(entity, entity_type)
    if not entries:
        say(f"no change of {entity} is recorded")
    emit_records(_HISTORY, entries, format=format)


@app.command()
def verify(
    ctx: typer.Context,
    entity: Annotated[str | None, typer.Argument(metavar="[ID]", help="Of one entity; by default of all.")] = None,
    format: Form = Format.TABLE,
) -> None:
    """Compare the record with itself, with the rows and with its anchors in the lake.

    Entries that were changed, removed or slipped in are printed, and rows changed behind its back; exits with 1 then.
    """
    with ctx.obj.open() as store:
        problems = store.audit.verify(entity)
    if problems or format is not Format.TABLE:
        emit_records(_PROBLEMS, problems, format=format)
    if problems:
        raise typer.Exit(1)
    say("the record is whole, and the rows are as it says")


@app.command()
def anchor(ctx: typer.Context) -> None:
    """Keep in the lake what the newest entries are, so that their removal shows."""
    with ctx.obj.open() as store:
        done = store.audit.anchor()
    say(
        f"anchored the records of {done.heads:,} entities" if done.runs else "nothing has changed since the last anchor"
    )
