"""`medalion backup` and `medalion restore`: a store carried away, and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medalion.cli.output import say


def backup(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new folder; it appears whole or not at all.")],
) -> None:
    """Copy books, ledger and lake of one moment to a folder, while bots write and the mirror runs."""
    with ctx.obj.parts() as store:
        from medalion.store.backups import back_up

        done = back_up(store.postgres, store.lake, folder)
    say(
        f"backed up to {done.folder}, as of {done.created_at.isoformat()}: {done.writes:,} writes in the ledger, "
        f"{done.lake_rows:,} rows in {done.files:,} files of the lake, {done.bytes / 1e6:,.1f} MB"
    )


def restore(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder that `medalion backup` made.")],
    link: Annotated[
        bool, typer.Option("--link", help="Link files of the lake instead of copying; damage is shared then.")
    ] = False,
) -> None:
    """Make a store of a backup, in the data folder or database and the lake chosen, where there is none yet."""
    from medalion.store.restoration import restore as restored

    done = restored(folder, ctx.obj.settings(), link=link)
    say(
        f"restored to {done.books} with the lake in {done.lake}, as of {done.created_at.isoformat()}: "
        f"{done.writes:,} writes in the ledger, {done.lake_rows:,} rows in the lake"
    )
