"""One SELECT as DuckDB parses it: whether it is one, and what it names; nothing is run."""

import json
from functools import cache
from typing import Any

import duckdb

from medalion.core.errors import InputError
from medalion.core.text import is_text


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
    return _names(tree_of(query))


def tree_of(query: str) -> Any:
    """DuckDB's syntax tree of one SELECT, as JSON has it; one with `error` where it cannot be parsed."""
    with _parser().cursor() as parser:
        (tree,) = parser.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": query}).fetchone() or ("{}",)
    return json.loads(tree)


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
