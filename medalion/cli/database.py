"""`medalion db`: the schema of the database."""

from typing import Annotated

import typer

from medalion.cli.output import say
from medalion.core.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Create, change and check the schema of the database.")

Revision = Annotated[str, typer.Argument(help="A revision's name, or `head` for the newest.")]


@app.command()
def upgrade(ctx: typer.Context, revision: Revision = "head") -> None:
    """Bring the database to a revision, by default the newest; all of it or, after an error, nothing."""
    from alembic.util import CommandError

    from oltp.schema import migrate

    with ctx.obj.database(make=True) as url:
        try:
            migrate.upgrade(url, revision)
        except CommandError as error:
            raise _unknown(revision, error) from error
        say(f"the schema is at {migrate.current(url)}")


@app.command()
def downgrade(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="A revision's name, or `base` for an empty database.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the database back to a revision; what later ones added is gone, with the rows in it."""
    if not yes:
        typer.confirm(f"Remove all that revisions after {revision} added, with the rows in it?", abort=True, err=True)
    with ctx.obj.database() as url:
        from alembic.util import CommandError

        from oltp.schema import migrate

        try:
            migrate.downgrade(url, revision)
        except CommandError as error:
            raise _unknown(revision, error) from error
        say(f"the schema is at {migrate.current(url) or 'no revision'}")


@app.command()
def current(ctx: typer.Context) -> None:
    """Print the revision the database is at."""
    with ctx.obj.database() as url:
        from oltp.schema import migrate
        from oltp.schema.revision import head

        found = migrate.current(url)
    typer.echo(found or "none")
    if found != head():
        say(f"this release needs {head()}; run `medalion db upgrade`")


@app.command()
def check(ctx: typer.Context) -> None:
    """Compare the database with this release; exit with 1 where they differ."""
    with ctx.obj.database() as url:
        from oltp.schema import migrate

        differences = migrate.check(url)
    for line in differences:
        typer.echo(line)
    if differences:
        raise typer.Exit(1)
    say("the database is as this release expects it")


@app.command()
def script() -> None:
    """Print the SQL that creates the schema, for someone else to run; nothing is connected to."""
    from oltp.schema import migrate

    typer.echo(migrate.script(), nl=False)


def _unknown(revision: str, error: Exception) -> InputError:
    return InputError(f"revision {revision!r}: {error}; see migrations/versions", given=revision, expected="a revision")
