"""`medalion rollup`: bars that are made beforehand and kept up, rather than on every read."""

from typing import Annotated

import typer

from medalion.cli.output import Format, emit, say

app = typer.Typer(no_args_is_help=True, help="Keep bars of a timeframe, made of finer ones or of quotes.")

Form = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
Bars = Annotated[str, typer.Argument(metavar="DATASET", help="stock_bars or crypto_bars.")]
Length = Annotated[str, typer.Argument(metavar="TIMEFRAME", help="Such as 5Min, 1Hour, 1Day.")]


@app.command()
def keep(
    ctx: typer.Context,
    dataset: Bars,
    timeframe: Length,
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "-s", help="Only this one; may be given again. By default all.")
    ] = None,
) -> None:
    """Keep bars of a timeframe; a refresh makes them, which a store that mirrors itself does once an hour."""
    from medalion.observations.arguments import read_arguments

    asked = read_arguments(dataset, symbol, timeframe=timeframe)
    with ctx.obj.parts() as store:
        store.rollups.keep(asked.dataset, timeframe=timeframe, symbols=asked.symbols)
    say(f"{timeframe} bars of {dataset} are kept from the next refresh on")


@app.command("list")
def list_(ctx: typer.Context, format: Form = Format.TABLE) -> None:
    """Print what is kept, and when it was last brought up to date."""
    with ctx.obj.parts() as store:
        emit(store.rollups.list(), format=format)


@app.command()
def refresh(
    ctx: typer.Context,
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="By default all that is kept.")] = None,
    timeframe: Annotated[str | None, typer.Option("--timeframe", "-t", help="Only this one.")] = None,
) -> None:
    """Bring kept bars up to date; only what has changed since the last time is made again."""
    from medalion.core.datasets import dataset as dataset_named
    from medalion.core.time import Timeframe

    declared = None if dataset is None else dataset_named(dataset)
    length = None if timeframe is None else str(Timeframe.parse(timeframe))
    with ctx.obj.parts() as store:
        done = store.rollups.refresh(declared, timeframe=length)
    say(f"refreshed {done.series:,} series: wrote {done.written:,} bars, deleted {done.deleted:,}")


@app.command()
def drop(ctx: typer.Context, dataset: Bars, timeframe: Length) -> None:
    """Keep them no longer; reads make them then, and answer the same."""
    from medalion.observations.arguments import read_arguments

    asked = read_arguments(dataset, timeframe=timeframe)
    with ctx.obj.parts() as store:
        say(f"deleted {store.rollups.drop(asked.dataset, timeframe=timeframe):,} bars")
