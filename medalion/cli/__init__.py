"""The command line: parse arguments, call one method of the store, print.

Modules are loaded by the command that needs them, so that `medalion --help` answers at once.
"""

import logging
import os
import re
import signal
import sys
import time
import traceback
import warnings
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import medalion
from medalion.cli import audit, backup, database, journal, mirror, observations, rollup, statistics, system
from medalion.cli.interrupting import INTERRUPTED
from medalion.cli.opening import Place, in_a_store
from medalion.cli.output import one_line, say, show_all_columns
from medalion.core.errors import ConflictError, MedalionError, StoreError

FAILED, USAGE, BROKEN, BROKEN_PIPE = 1, 2, 3, 128 + signal.SIGPIPE
"""How a command ends: a check failed or rows were set aside; something asked for cannot be meant, or is not there; a
store is not reachable or damaged; nobody reads any more what is printed."""

_VALUED = ("--url", "--data-dir", "--lake")
_FLAGS = ("--verbose", "--wide")
_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s@]*@")


class _Root(TyperGroup):
    """All commands; ours are the errors of one line, and options that may stand before or after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _hoisted(args))

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        try:
            return super().make_context(*arguments, **named)
        except TyperException as error:
            error.message = _redacted(error.message)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except MedalionError as error:
            if ctx.obj.verbose:
                typer.echo(_redacted("".join(traceback.format_exception(error))), err=True, nl=False)
            typer.echo(f"error: {one_line(_redacted(str(error)))}", err=True)
            raise typer.Exit(_code(error)) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except TyperException as error:
            error.message = _redacted(error.message)
            raise
        except RuntimeError as error:
            # What DuckDB makes of an interrupt.
            if str(error) != "Query interrupted":
                raise
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # What is still buffered would be tried once more when the interpreter ends, and complained about.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from error


def _code(error: MedalionError) -> int:
    """How a command ends after an error."""
    match error:
        case StoreError():
            return BROKEN
        case ConflictError():
            return FAILED
    return USAGE


def _hoisted(arguments: list[str]) -> list[str]:
    """The arguments, those that are valid for every command first."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _VALUED:
            front += [argument, *islice(left, 1)]
        elif argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def _redacted(text: str) -> str:
    """The text without the password of any URL in it."""
    return _PASSWORD.sub(r"\1:***@", text)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"medalion {medalion.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="medalion",
    cls=_Root,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog="--url, --data-dir, --lake, --wide and --verbose may stand before or after the command. Exit codes: 0 done; "
    "1 a check failed, or rows were set aside; 2 what was asked cannot be done; 3 a store is not reachable or damaged.",
)


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="PostgreSQL's address [MEDALION_DATABASE_URL]; by default a server embedded in the data folder.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="FOLDER", help="The data folder [MEDALION_DATA_DIR]; ./medalion-data."),
    ] = None,
    lake: Annotated[
        str | None,
        typer.Option(
            "--lake", metavar="PLACE", help="A folder or s3:// URL [MEDALION_LAKE]; default: in the data folder."
        ),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Show all columns of tables, however wide they are.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more on standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The data store of a trading bot: PostgreSQL for the books, a lake for market data, one read over both."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[_log_handler()])
    show_all_columns(wide)
    ctx.call_on_close(lambda: show_all_columns(False))
    ctx.obj = Place(url=url, data_dir=data_dir, lake=lake, verbose=verbose)


def _log_handler() -> logging.Handler:
    """Lines on standard error that say when, in UTC."""
    lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    lines.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(lines)
    return handler


app.command()(system.demo)
app.command()(system.doctor)
app.add_typer(database.app, name="db")
app.command()(observations.ls)
app.command()(observations.load)
app.command()(observations.read)
app.command()(observations.sql)
app.add_typer(mirror.app, name="mirror")
app.command()(backup.backup)
app.command()(backup.restore)
app.add_typer(rollup.app, name="rollup")
app.add_typer(statistics.app, name="stats")
app.command()(system.report)
app.add_typer(audit.app, name="audit")
app.add_typer(journal.app, name="journal")

_NEED_NO_STORE = (system.demo, system.doctor, observations.load, backup.restore, database.upgrade, database.script)
for _group in (app, *(each.typer_instance for each in app.registered_groups)):
    for _command in _group.registered_commands if _group is not None else ():
        if _command.callback is not None and _command.callback not in _NEED_NO_STORE:
            _command.callback = in_a_store(_command.callback)


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What a warning says, without the place in the program, which tells nothing to who typed a command."""
    say(f"note: {message}")


def main() -> None:
    """Run the command line; ends the process as the constants above say."""
    warnings.showwarning = _say_warning
    app()
