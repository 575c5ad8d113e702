"""DuckDB over pinned files, unmirrored rows and tables of the books: one statement, and only one that reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from secrets import token_hex
from typing import cast

import duckdb
import polars as pl
import pyarrow as pa

from medalion.core.datasets import ARRIVAL, Availability, Column, Dataset
from medalion.core.frames import derive, polars_schema
from medalion.core.time import TimeUnit
from olap.files.proof import Touched, is_proven, prove
from olap.places.base import reading
from olap.reads.footprint import Footprint, footprint
from olap.reads.relation import Query, Relation, answering
from olap.reads.scan import RANK, Selection, ranks, resolving, touched

_SHOWN_ARRIVAL = tuple(column for column in ARRIVAL if column.name in ("recorded_at", "write_id"))


@dataclass(frozen=True)
class Tables:
    """Views of datasets and tables of the books, by name, by which a database is made."""

    selections: Mapping[str, Selection] = field(default_factory=dict)
    others: Mapping[str, pa.Table] = field(default_factory=dict)


NO_TABLES = Tables()


def database(
    selections: Mapping[str, Selection], tables: Mapping[str, pa.Table], empty: Tables = NO_TABLES
) -> duckdb.DuckDBPyConnection:
    """An in-memory database with views of pinned datasets, by name, and the given tables as its tables.

    Those of `empty`, without rows, are there to be listed and described. It can open the pinned files and nothing else:
    no other file, no network, no extension.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, selection in empty.selections.items():
        _make_empty(connection, name, selection.hot.to_arrow(), partial(_view, selection, None, None, ranked=""))
    for name, table in empty.others.items():
        _make_empty(connection, name, table, lambda *, hot: f"SELECT * FROM {hot}")
    files: list[str] = []
    for name, selection in selections.items():
        parts: list[str | None] = []
        for names in selection.paths:
            part, opened = selection.place.table(connection, names, selection.dataset.stored) if names else (None, [])
            parts.append(part)
            files += opened
        hot, ranked = f"hot_{token_hex(8)}", f"ranked_{token_hex(8)}"
        connection.register(hot, selection.hot.to_arrow())
        if selection.preference:
            connection.register(ranked, ranks(selection.preference).to_arrow())
        connection.execute(f'CREATE VIEW "{name}" AS {_view(selection, *parts, hot=hot, ranked=ranked)}')
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute("SET allowed_paths = $paths", {"paths": files})
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _make_empty(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table, shown: Callable[..., str]) -> None:
    """A table of its own, so that nothing is listed beside it."""
    hot = f"hot_{token_hex(8)}"
    connection.register(hot, rows)
    connection.execute(f"CREATE TABLE {_quoted(name)} AS {shown(hot=hot)}")
    connection.unregister(hot)


def run(
    selections: Mapping[str, Selection],
    tables: Mapping[str, pa.Table],
    query: str,
    parameters: Mapping[str, object],
    *,
    timeout: float | None = None,
    empty: Tables = NO_TABLES,
    expands: bool = False,
) -> duckdb.DuckDBPyRelation:
    """The query's relation; it keeps the database alive, and evaluating it twice gives the same answer.

    What it may read of the files is proven before. An evaluation that takes longer than `timeout` seconds is stopped.
    One that `expands` reads as soon as it is planned.

    Raises:
        InputError: a name, type or parameter in it is wrong.
        CorruptLakeError: a file that the log names is missing or damaged.
    """
    views = list(selections.values())
    places = [str(each.place) for each in views]
    everything = partial(_prove_all, views)
    with answering(query, places, everything):
        for each in views:
            for names in each.paths:
                # By the first of a list DuckDB tells what columns there are.
                prove(each.place, names[:1], Touched())
        connection = database(selections, tables, empty)
        if not expands and not all(is_proven(each.place, each.files.path) for each in views):
            files = (path for each in views for path in each.files.path)
            shown = repr([(name, each.series, each.preference) for name, each in selections.items()])
            ours = partial(_prove_footprint, views, footprint(connection, query, parameters, files, shown=shown))
        else:
            ours = everything
        ours()
        relation = connection.sql(query, params=dict(parameters) or None)
    asked = Query(query, connection, places, timeout, prove=ours, prove_all=everything)
    return cast(duckdb.DuckDBPyRelation, Relation(relation, asked))


def _prove_footprint(selections: Sequence[Selection], read: Footprint) -> None:
    """Of files of other times the footer alone, by which DuckDB passes them over."""
    for each in selections:
        within = set(each.files.selected(None, read.during).path)
        prove(each.place, (path for path in each.files.path if path not in within), Touched())
        prove(each.place, within, read.touched(each.dataset))


def _prove_all(selections: Sequence[Selection]) -> None:
    for each in selections:
        prove(each.place, each.files.path, Touched(frozenset(each.dataset.stored.names)))


def frame(selection: Selection, columns: Sequence[str]) -> pl.DataFrame:
    """What `olap.reads.scan.scan` gives, for ranges so wide that DuckDB is sooner done.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
    """
    dataset = selection.dataset
    query = (
        f'SELECT {", ".join(map(_quoted, columns))} FROM "{dataset.name}" '
        f"ORDER BY {', '.join((*dataset.order, 'write_id', 'ordinal'))}"
    )
    with reading(duckdb.Error):  # the query is our own, so what is wrong is a file
        _prove(selection, columns)
        with database({dataset.name: selection}, {}) as connection:
            rows: pl.DataFrame = connection.sql(query).pl()
    return rows.cast({name: kind for name, kind in polars_schema(dataset.schema).items() if name in columns})


def _prove(selection: Selection, columns: Sequence[str]) -> None:
    dataset = selection.dataset
    derived = {column.meta.output_name(): column for column in derive(dataset, selection.timeframe)}
    shown = [derived.get(name, pl.col(name)) for name in (*columns, *dataset.order, "write_id", "ordinal")]
    names = [root for column in shown for root in column.meta.root_names()]
    once, twice = selection.paths
    prove(selection.place, once, touched(selection, names))
    prove(selection.place, twice, touched(selection, (*names, *resolving(dataset))))


def _view(selection: Selection, once: str | None, twice: str | None, *, hot: str, ranked: str) -> str:
    """Each key's last row once: clean and lone files as they are, the rest by order of arrival and by preference.

    Clean files hold no tombstone, so that only the rest has to be asked.
    """
    dataset = selection.dataset
    keep = _wanted(selection)
    parts = [f"SELECT * FROM {once} WHERE {keep}"] if once else []
    rest = [f"SELECT * FROM {twice}"] if twice else []
    rest.append(f"SELECT * FROM {hot}")
    key = ", ".join(map(_quoted, dataset.key))
    current = (
        f"SELECT * FROM ({' UNION ALL BY NAME '.join(rest)}) WHERE {keep} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY write_id DESC, ordinal DESC) = 1 AND NOT is_deleted"
    )
    if selection.preference:
        shared = ", ".join(_quoted(name) for name in dataset.key if name != "source")
        current = (
            f"SELECT * EXCLUDE ({RANK}) FROM ({current}) LEFT JOIN {ranked} USING (instrument_id, source) "
            f"QUALIFY row_number() OVER (PARTITION BY {shared} ORDER BY {RANK}) = 1"
        )
    parts.append(current)
    rows = " UNION ALL BY NAME ".join(f"({part})" for part in parts)
    columns = ", ".join([_shown(dataset, column) for column in (*dataset.columns, *dataset.derived)])
    arrival = ", ".join(column.name for column in (*_SHOWN_ARRIVAL, ARRIVAL[1]))
    return f"SELECT {columns}, {arrival} FROM ({rows})"


def _shown(dataset: Dataset, column: Column) -> str:
    """Decimals of 18 digits widened to 19: DuckDB multiplies those in 128 bits instead of raising on overflow."""
    name = _quoted(column.name)
    if column.name == "available_at":
        return f"coalesce(available_at, {_known_by_rule(dataset)}) AS available_at"
    if column.name == "mid_price":
        return f"{_MID_PRICE} AS mid_price"
    if pa.types.is_decimal(column.type) and column.type.precision <= 18:
        return f"{name}::DECIMAL(19, 8) AS {name}"
    return name


def _known_by_rule(dataset: Dataset) -> str:
    if dataset.available is Availability.AT_TS:
        return "ts"
    count = "regexp_extract(timeframe, '^[0-9]+')::INTEGER"
    cases = " ".join(f"WHEN timeframe LIKE '%{unit}' THEN {function}({count})" for unit, function in _SPANS.items())
    return f"ts + CASE {cases} END"


_SPANS = {
    TimeUnit.MINUTE: "to_minutes",
    TimeUnit.HOUR: "to_hours",
    TimeUnit.DAY: "to_days",
    TimeUnit.WEEK: "to_weeks",
    TimeUnit.MONTH: "to_months",
}
# Whole units of the eighth place; `& 1` is the parity of negative numbers too. Half-even, as in medalion.core.frames.
_TOTAL = "((bid_price::DECIMAL(20, 8) + ask_price) * 100000000)::BIGINT"
_HALF = f"(({_TOTAL} - ({_TOTAL} & 1)) // 2)"
_MID_PRICE = f"(({_HALF} + ({_TOTAL} & 1) * ({_HALF} & 1))::DECIMAL(20, 0) * 0.00000001)::DECIMAL(19, 8)"


def _wanted(selection: Selection) -> str:
    """The range as SQL; times and numbers are this program's own, texts are quoted."""
    keep = ["true"]
    if selection.during.start is not None:
        keep.append(f"ts >= TIMESTAMPTZ '{selection.during.start.isoformat()}'")
    if selection.during.end is not None:
        keep.append(f"ts < TIMESTAMPTZ '{selection.during.end.isoformat()}'")
    if selection.as_of is not None:
        keep.append(f"recorded_at <= TIMESTAMPTZ '{selection.as_of.isoformat()}'")
    if selection.timeframe is not None:
        keep.append(f"timeframe = {_literal(selection.timeframe)}")
    if selection.series is not None:
        keep.append(f"({' OR '.join(map(_of_source, selection.series.items())) or 'false'})")
    return " AND ".join(keep)


def _of_source(entry: tuple[str, Sequence[int] | None]) -> str:
    source, instruments = entry
    among = "true" if instruments is None else f"instrument_id IN ({', '.join(map(str, instruments))})"
    return f"(source = {_literal(source)} AND {among})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
