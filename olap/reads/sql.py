"""DuckDB over pinned files, unmirrored rows and tables of the books: one statement, and only a SELECT."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from secrets import token_hex

import duckdb
import polars as pl
import pyarrow as pa

from medalion.core.datasets import ARRIVAL, Availability, Column, Dataset
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.frames import polars_schema
from medalion.core.text import is_text
from medalion.core.time import TimeUnit
from olap.places.base import reaching
from olap.reads.scan import Selection

_SHOWN_ARRIVAL = tuple(column for column in ARRIVAL if column.name in ("recorded_at", "write_id"))


def tables_of(query: str) -> tuple[set[str], set[str]]:
    """The tables that a query names, in DuckDB's own reading of it and in lower case: those it needs, and those that
    could be its own, defined in a WITH.

    Raises:
        InputError: it cannot be parsed, is not one statement, or is not a SELECT.
    """
    if not is_text(query):
        raise InputError(
            "the query is no text, or has a NUL or half a surrogate pair in it",
            given=query,
            expected="text with one SELECT",
        )
    with _parser().cursor() as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise InputError(f"the query cannot be parsed: {error}", given=query, expected="one SELECT") from error
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            kinds = ", ".join(str(statement.type).split(".")[-1] for statement in statements) or "nothing"
            raise InputError(
                f"sql() runs one SELECT and nothing else; it was given {kinds}", given=query, expected="one SELECT"
            )
        (tree,) = parser.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": query}).fetchone() or ("",)
    return _names(json.loads(tree))


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A database in which queries are parsed and none is run: to make one takes as long as to parse thirty."""
    return duckdb.connect(config={"threads": 1})


def _names(node: object) -> tuple[set[str], set[str]]:
    """Tables named without a schema, and those that the query itself defines in WITH."""
    children: list[object] = []
    tables: set[str] = set()
    local: set[str] = set()
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE" and node.get("schema_name") in ("", "main"):
            tables.add(str(node["table_name"]).lower())
        local.update(str(entry["key"]).lower() for entry in node.get("cte_map", {}).get("map", ()))
        children = list(node.values())
    elif isinstance(node, list):
        children = node
    for inner_tables, inner_local in map(_names, children):
        tables |= inner_tables
        local |= inner_local
    return tables, local


def database(selections: Sequence[Selection], tables: Mapping[str, pa.Table]) -> duckdb.DuckDBPyConnection:
    """An in-memory database with the pinned datasets and the given tables as its tables.

    It can open the pinned files and nothing else: no other file, no network, no extension.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    files: list[str] = []
    for selection in selections:
        name = selection.dataset.name
        parts: list[str | None] = []
        for names in selection.paths:
            part, opened = selection.place.table(connection, names, selection.dataset.stored) if names else (None, [])
            parts.append(part)
            files += opened
        hot = f"hot_{token_hex(8)}"
        connection.register(hot, selection.hot.to_arrow())
        connection.execute(f'CREATE VIEW "{name}" AS {_view(selection, *parts, hot=hot)}')
    for name, table in tables.items():
        connection.register(name, table)
    connection.execute("SET allowed_paths = $paths", {"paths": files})
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def run(connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object]) -> duckdb.DuckDBPyRelation:
    """The query's relation; it keeps the database alive, and evaluating it twice gives the same answer.

    Raises:
        InputError: a name, type or parameter in it is wrong.
    """
    try:
        with reaching(duckdb.Error):
            return connection.sql(query, params=dict(parameters) or None)
    except (duckdb.IOException, duckdb.HTTPException) as error:
        raise CorruptLakeError(f"a file of the lake cannot be read: {error}; run `medalion mirror verify`") from error
    except duckdb.Error as error:
        raise InputError(f"the query fails: {error}", given=query) from error


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
    try:
        with reaching(duckdb.Error), database([selection], {}) as connection:
            rows: pl.DataFrame = connection.sql(query).pl()
    except (duckdb.Error, pl.exceptions.PolarsError) as error:  # the query is our own, so what is wrong is a file
        raise CorruptLakeError(f"a file of the lake cannot be read: {error}; run `medalion mirror verify`") from error
    return rows.cast({name: kind for name, kind in polars_schema(dataset.schema).items() if name in columns})


def _view(selection: Selection, once: str | None, twice: str | None, *, hot: str) -> str:
    """Each key's last row once: clean and lone files as they are, the rest by order of arrival.

    Clean files hold no tombstone, so that only the rest has to be asked.
    """
    dataset = selection.dataset
    keep = _wanted(selection)
    parts = [f"SELECT * FROM {once} WHERE {keep}"] if once else []
    rest = [f"SELECT * FROM {twice}"] if twice else []
    rest.append(f"SELECT * FROM {hot}")
    key = ", ".join(map(_quoted, dataset.key))
    parts.append(
        f"SELECT * FROM ({' UNION ALL BY NAME '.join(rest)}) WHERE {keep} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY write_id DESC, ordinal DESC) = 1 AND NOT is_deleted"
    )
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
