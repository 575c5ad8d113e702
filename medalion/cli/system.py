"""`medalion demo`, `doctor` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medalion.cli.output import print_table, say


def demo(ctx: typer.Context) -> None:
    """Run the main job on real data that ships with the package, and write a report of it."""
    from rich.console import Console

    from medalion.demo import run

    report_path = run(ctx.obj.settings().data_dir, Console())
    typer.echo(str(report_path))


def doctor(ctx: typer.Context) -> None:
    """Check that a store can work here, and say what to do where it cannot; exit with 1 then."""
    from medalion.doctor import State, diagnose

    checks = list(diagnose(ctx.obj.settings()))
    header = ("check", "state", "found", "what to do")
    print_table(header, [(check.name, check.state, check.found, check.remedy) for check in checks])
    failed = [check.name for check in checks if check.state is State.FAILED]
    if failed:
        say(f"failed: {', '.join(failed)}")
        raise typer.Exit(1)


def report(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The HTML page to write.")],
    account: Annotated[str | None, typer.Option(help="The account's name; not needed if there is one only.")] = None,
) -> None:
    """Write the tearsheet of an account: one HTML page that needs no network."""
    raise NotImplementedError
