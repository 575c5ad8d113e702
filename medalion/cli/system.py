"""`medalion demo`, `doctor` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medalion.cli.output import print_table, say
from medalion.core.errors import InputError

if TYPE_CHECKING:
    from medalion.store.store import Store


def demo(ctx: typer.Context) -> None:
    """Run the main job on real data.

    The data ships with the package; a report of the run is written, and its path printed.
    """
    from rich.console import Console

    from medalion.demo import run

    report_path = run(ctx.obj.settings().data_dir, Console())
    typer.echo(str(report_path))


def doctor(ctx: typer.Context) -> None:
    """Check that a store can work here.

    Where it cannot, says what to do, and exits with 1.
    """
    from medalion.cli.doctor import State, diagnose

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
    account: Annotated[str | None, typer.Option(help="Its name or id; not needed if there is one only.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Sessions from then on.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Sessions until before then.")] = None,
) -> None:
    """Write the tearsheet of an account.

    It is one HTML page that needs no network.
    """
    from medalion.core.time import TimeRange

    during = TimeRange.of(start, end)
    with ctx.obj.open() as store:
        path = store.stats.report(account or only_account(store), file, during.start, during.end)
    typer.echo(str(path))


def only_account(store: Store) -> str:
    """The name of the store's one account.

    Raises:
        InputError: there is none, or there are several.
    """
    names = [account.name for account in store.accounts.find()]
    if len(names) != 1:
        said = f"say which with --account: {', '.join(names)}" if names else "there is no account yet"
        raise InputError(
            f"one account was expected, {len(names)} were found; {said}", given=names, expected="--account"
        )
    return str(names[0])
