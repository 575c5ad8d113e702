"""One statement as DuckDB parses it: whether it only reads, and what it names; nothing is run."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb

from medalion.core.errors import InputError
from medalion.core.text import is_text


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that reads, and what it names, in lower case.

    `tables` are those whose rows it needs, `described` those of which it asks for the columns alone, `local` what it
    defines itself in a WITH. With `lists_tables` it asks which there are. Where it `expands` into several, as a PIVOT
    does whose columns follow from the rows, `words` are all that its text has, among them the tables.
    """

    tables: frozenset[str] = frozenset()
    described: frozenset[str] = frozenset()
    local: frozenset[str] = frozenset()
    lists_tables: bool = False
    words: frozenset[str] | None = None

    @property
    def expands(self) -> bool:
        """Whether DuckDB runs several statements for it, each of which reads."""
        return self.words is not None


def statement_of(query: str) -> Statement:
    """What a query is and names, in DuckDB's own reading of it.

    Raises:
        InputError: it cannot be parsed, is not one statement, or does more than read.
    """
    if not is_text(query):
        raise InputError(
            "the query is no text, or has a NUL or half a surrogate pair in it", given=query, expected=_EXPECTED
        )
    with _parser().cursor() as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise InputError(f"the query cannot be parsed: {error}", given=query, expected=_EXPECTED) from error
    kinds = [str(statement.type).split(".")[-1] for statement in statements]
    if kinds == ["SELECT"]:
        return _read(tree_of(query))
    words = _words(query) if kinds == ["MULTI"] else frozenset()
    if "pivot" in words and words.isdisjoint(_CHANGING):
        return Statement(words=words)
    raise InputError(
        f"sql() runs one SELECT and nothing else, or one SHOW, DESCRIBE, SUMMARIZE or PIVOT; it was given "
        f"{', '.join(kinds) or 'nothing'}",
        given=query,
        expected=_EXPECTED,
    )


_EXPECTED = "text with one SELECT, SHOW, DESCRIBE, SUMMARIZE or PIVOT"
_DEFINING = {"alter", "attach", "create", "detach", "drop", "install", "load", "pragma", "reset", "set", "use"}
_MOVING = {"call", "copy", "delete", "execute", "explain", "export", "import", "insert", "merge", "prepare", "update"}
_CHANGING = frozenset(_DEFINING | _MOVING | {"truncate", "vacuum"})
"""Words of statements that do not only read. A PIVOT with one in it is refused, though it may be a column's name: what
it expands into can be told by its text alone."""


def _words(query: str) -> frozenset[str]:
    """The names and key words of a text, without its comments and constants."""
    tokens = duckdb.tokenize(query)
    ends = [place for place, _ in tokens[1:]] + [len(query)]
    named = (duckdb.token_type.identifier, duckdb.token_type.keyword)
    texts = (query[place:end] for (place, kind), end in zip(tokens, ends, strict=True) if kind in named)
    return frozenset(text.strip().strip('"').lower() for text in texts)


def tree_of(query: str) -> Any:
    """DuckDB's syntax tree of one SELECT, as JSON has it; one with `error` where it cannot be parsed."""
    with _parser().cursor() as parser:
        (tree,) = parser.execute("SELECT json_serialize_sql($query::VARCHAR)", {"query": query}).fetchone() or ("{}",)
    return json.loads(tree)


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A database in which queries are parsed and none is run: to make one takes as long as to parse thirty."""
    return duckdb.connect(config={"threads": 1})


def _read(tree: Any) -> Statement:
    tables: set[str] = set()
    described: set[str] = set()
    local: set[str] = set()
    lists_tables = False
    waiting: list[tuple[object, bool]] = [(tree, False)]
    while waiting:
        node, is_described = waiting.pop()
        if isinstance(node, list):
            waiting += ((child, is_described) for child in node)
        if not isinstance(node, dict):
            continue
        named = described if is_described else tables
        match node.get("type"):
            case "BASE_TABLE" if node.get("schema_name") in ("", "main"):
                named.add(str(node["table_name"]).lower())
            case "BASE_TABLE" | "TABLE_FUNCTION":
                lists_tables = True
            case "SHOW_REF":
                is_described = node["show_type"] in ("DESCRIBE", "SHOW")
                lists_tables |= node["show_type"] in ("SHOW_SPECIAL", "SHOW_FROM")
                if node["show_type"] == "SHOW":
                    described.add(str(node["table_name"]).strip('"').lower())
        local.update(str(entry["key"]).lower() for entry in node.get("cte_map", {}).get("map", ()))
        waiting += ((child, is_described) for child in node.values())
    return Statement(frozenset(tables), frozenset(described), frozenset(local), lists_tables)
