"""`medalion load`, `read` and `sql`: rows of the datasets in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medalion.cli.interrupting import interruptible
from medalion.cli.output import TABLE_ROWS, Format, emit, format_of, say
from medalion.core.errors import InputError

if TYPE_CHECKING:
    import polars as pl

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="Such as stock_bars or crypto_quote_snapshots.")]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="Read what the store held at that time.")]
Limit = Annotated[
    int | None, typer.Option(min=0, help=f"At most so many rows, 0 for all; by default {TABLE_ROWS} in a table.")
]
Form = Annotated[Format | None, typer.Option("--format", help="How rows are printed; by default a table.")]
Output = Annotated[
    Path | None, typer.Option("--output", dir_okay=False, metavar="FILE", help="Write here; .csv, .json or .parquet.")
]
Timeframe = Annotated[str | None, typer.Option(metavar="TF", help="Of bars: 1Min, 1Hour, 1Day …")]


def ls(
    ctx: typer.Context,
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="Show each series of it; by default a line a dataset.")
    ] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Show each series of it. Repeatable.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="What may have rows from then on.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="The same until before then.")] = None,
    format: Form = None,
) -> None:
    """Show what is here.

    Datasets, symbols, timeframes, sources, the time between first and last row, and how many rows; nothing is read for
    it. A number with ≤ is an upper bound: a row that was corrected may be counted twice.
    """
    from medalion.core.datasets import dataset as dataset_named
    from medalion.core.time import TimeRange
    from medalion.observations.arguments import names_of

    declared = None if dataset is None else dataset_named(dataset)
    during, names = TimeRange.of(start, end), names_of(symbol)
    with ctx.obj.parts() as parts:
        found = parts.coverage.frame(declared, symbols=names, start=during.start, end=during.end)
    from medalion.store.card import card

    shown = found if declared is None else found.drop("dataset")
    if declared is None and names is None:
        shown = card(found)
    elif format in (None, Format.TABLE):
        shown = shown.with_columns(shown[name].dt.strftime("%Y-%m-%d %H:%M") for name in ("first", "last"))
    emit(shown, format=format or Format.TABLE)
    if shown.is_empty():
        say("no rows yet; `medalion load FILE --dataset D` brings some")


def load(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="CSV (plain or compressed) or Parquet, or folders of them.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", metavar="DATASET", help="Such as stock_bars.")],
    source: Annotated[str, typer.Option(help="The feed the rows come from.")] = "manual",
    symbol: Annotated[str | None, typer.Option(help="Of every row, if the files have no such column.")] = None,
    timeframe: Annotated[str | None, typer.Option(metavar="TF", help="The same for bars: 1Min, 1Day …")] = None,
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="Of stamps without one: UTC, America/New_York")] = None,
    time_unit: Annotated[
        str | None, typer.Option(metavar="UNIT", help="What whole numbers count since 1970: s, ms, us or ns.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Give a column another name, and leave out those not known. Repeatable."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Leave a column out. Repeatable.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Set bad rows aside in this new file, .csv or .parquet.")
    ] = None,
    max_rejects: Annotated[int | None, typer.Option(min=0, help="Refuse all if more rows are bad.")] = None,
    create_assets: Annotated[
        bool, typer.Option("--create-assets", help="Make a stock or coin of each symbol that is not known.")
    ] = False,
) -> None:
    """Store the rows of files.

    All or nothing. What differs from the stored rows is stored; the same file again changes nothing. Exits with 1 where
    bad rows were set aside.

    Columns are matched without regard to case; `date`, `timestamp` or `time` is the time. A date without a time is its
    midnight, UTC unless --tz says otherwise.
    """
    from medalion.core.datasets import dataset as dataset_named

    declared = dataset_named(dataset)
    renamed = _columns(rename or [])
    from medalion.cli.file_import import FileImport
    from medalion.ingest.columns import ColumnMapping

    constants = {name: value for name, value in (("symbol", symbol), ("timeframe", timeframe)) if value is not None}
    mapping = ColumnMapping(renamed, constants, drop or (), tz, time_unit)
    order = FileImport(declared, files, source, mapping, rejects, max_rejects)
    if create_assets:
        order.check_assets()
    with ctx.obj.open(make=True) as store:
        if create_assets:
            order.create_assets(store)
        result = order.run(store)
    if result.rejects is not None:
        say(f"{result.rejected:,} bad rows are in {result.rejects}")
    if result.is_duplicate:
        typer.echo(f"{declared.name}: the store already holds these rows; nothing was written")
        raise typer.Exit(bool(result.rejected))
    span = f", {result.first_ts:%Y-%m-%d} to {result.last_ts:%Y-%m-%d}" if result.first_ts and result.last_ts else ""
    counts = f"{result.stored:,} stored, {result.unchanged:,} unchanged, {result.corrected:,} corrected"
    typer.echo(f"{declared.name}: {result.rows:,} rows{span}, source {result.source}: {counts}")
    raise typer.Exit(bool(result.rejected))


def read(
    ctx: typer.Context,
    dataset: DatasetName,
    symbol: Annotated[list[str] | None, typer.Option(help="Repeatable; by default every one.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 2024-03-01T14:30:00Z")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Until before then.")] = None,
    timeframe: Timeframe = None,
    as_of: AsOf = None,
    source: Annotated[
        list[str] | None, typer.Option(help="By default every one. Repeatable: the most preferred first.")
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B,…", help="By default all of them.")] = None,
    limit: Limit = None,
    format: Form = None,
    output: Output = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the read is answered, and no rows.")] = False,
) -> None:
    """Print rows of a dataset.

    The current ones in [start, end), sorted by symbol, timeframe and time.

    Times without a zone are refused; a date is its midnight UTC. In JSON decimals are strings, so that no digit is
    lost.
    """
    from medalion.observations.arguments import columns_of, read_arguments

    chosen = format_of(format, output)
    asked = read_arguments(dataset, symbol, start, end, as_of=as_of, timeframe=timeframe, source=source)
    names = columns_of(asked.dataset, columns and [name.strip() for name in columns.split(",")])
    most = _most(limit, chosen, output)
    given: dict[str, Any] = {
        "symbols": asked.symbols,
        "start": asked.during.start,
        "end": asked.during.end,
        "as_of": asked.as_of,
        "timeframe": asked.timeframe,
        "source": asked.sources,
    }
    with ctx.obj.parts() as parts, interruptible():
        observations = parts.observations
        if explain:
            typer.echo(str(observations.explain(asked.dataset, **given)))
            return
        if most is None:
            rows = observations.read(asked.dataset, columns=names, **given)
        else:
            from olap.reads.scan import collect

            rows = collect(observations.scan(asked.dataset, columns=names, **given).head(most + 1))
    _emit_at_most(rows, most, format=chosen, output=output)


def sql(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SELECT of DuckDB; or SHOW TABLES, DESCRIBE …")],
    as_of: AsOf = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds after which it is stopped.")] = None,
    limit: Limit = None,
    format: Form = None,
    output: Output = None,
) -> None:
    """Print the rows of one SELECT.

    Every dataset and entity is a table: stock_bars, trades, positions …
    """
    from medalion.core.time import utc

    chosen = format_of(format, output)
    most = _most(limit, chosen, output)
    moment = None if as_of is None else utc(as_of, name="as_of")
    from olap.reads.statement import statement_of

    statement_of(query)
    with ctx.obj.parts() as parts, interruptible():
        relation = parts.observations.sql(query, as_of=moment, timeout=timeout)
        rows = (relation if most is None else relation.limit(most + 1)).pl()
    _emit_at_most(rows, most, format=chosen, output=output)


def _most(limit: int | None, format: Format, output: Path | None) -> int | None:
    """How many rows are printed at most; None is all, and what goes to a file or a program is never cut unasked."""
    if limit is None:
        return TABLE_ROWS if format is Format.TABLE and output is None else None
    return limit or None


def _emit_at_most(rows: pl.DataFrame, most: int | None, *, format: Format, output: Path | None) -> None:
    """Print the rows, and say so if there are more of them."""
    is_cut = most is not None and rows.height > most
    emit(rows.head(most) if is_cut and most is not None else rows, format=format, output=output)
    if is_cut:
        say(f"the first {most:,} rows; --limit 0 prints all")
    elif rows.is_empty() and format is Format.TABLE:
        say("no rows")


def _columns(texts: list[str]) -> dict[str, str]:
    """Of each column here its name in the files."""
    pairs = [text.rpartition("=")[::2] for text in texts]
    columns = {new: old for old, new in pairs}
    if not all(old and new for old, new in pairs) or len(columns) < len(pairs):
        raise InputError(f"--rename takes OLD=NEW, each NEW once, not {texts}", given=texts, expected="OLD=NEW")
    return columns
