"""What a query reads of the lake's files, told by DuckDB's plan of it: columns, times and symbols.

Too much may be told, and is where a plan says something that is not known here; never too little, for what is told is
proven and nothing else. A plan's filters are parsed by DuckDB itself, so that a text in a query is not taken for one.
"""

import json
import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import duckdb

from medalion.core.datasets import Dataset
from medalion.core.text import is_text
from medalion.core.time import ALWAYS, MICROSECOND, TimeRange
from olap.files.proof import Touched
from olap.reads.statement import tree_of

_SCAN = "READ_PARQUET"
_KEYS = frozenset(("ts", "symbol"))
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Footprint:
    """The words of the plan, among which are the columns that it reads; the times and symbols that it asks for.

    None is everything.
    """

    words: Collection[str] | None = None
    during: TimeRange = ALWAYS
    symbols: frozenset[str] | None = None

    def touched(self, dataset: Dataset) -> Touched:
        """What is read of the files of a dataset."""
        columns = (name for name in dataset.stored.names if self.words is None or name in self.words)
        return Touched(_KEYS.union(columns), _KEYS, symbols=self.symbols, during=self.during)

    def __or__(self, other: "Footprint") -> "Footprint":
        """What both of them read."""
        symbols = None if self.symbols is None or other.symbols is None else self.symbols | other.symbols
        starts, ends = (self.during.start, other.during.start), (self.during.end, other.during.end)
        during = TimeRange(None if None in starts else min(starts), None if None in ends else max(ends))  # type: ignore[type-var]
        return Footprint(self.words, during, symbols)


_KNOWN: dict[Hashable, Footprint] = {}


def footprint(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Mapping[str, object],
    files: Iterable[str],
    *,
    shown: str,
) -> Footprint:
    """What the query reads of Parquet files, of which all are named; known of the same query over the same files, of
    which its views show the same.
    """
    # The files belong to it: statistics let DuckDB leave out a filter that is true of every row, or a column.
    asked = (query, repr(sorted(parameters.items())), frozenset(files), shown)
    if asked not in _KNOWN:
        if len(_KNOWN) >= _REMEMBERED:
            _KNOWN.clear()
        _KNOWN[asked] = _planned(connection, query, parameters)
    return _KNOWN[asked]


def _planned(connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object]) -> Footprint:
    try:
        rows = connection.execute(f"EXPLAIN (FORMAT json) {query}", dict(parameters) or None).fetchall()
    except duckdb.ParserException:  # SHOW and the like cannot be explained
        return Footprint()
    text = rows[0][1]
    words = frozenset(re.findall(r"\w+", text))
    scans = [_of_scan(node, words) for node in _nodes(json.loads(text)) if node.get("name", "").startswith(_SCAN)]
    return reduce(lambda one, other: one | other, scans) if scans else Footprint(words)


def _nodes(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in plan:
        yield node
        yield from _nodes(node.get("children", []))


def _of_scan(node: dict[str, Any], words: Collection[str]) -> Footprint:
    told = node.get("extra_info", {}).get("Filters", [])
    start: datetime | None = None
    end: datetime | None = None
    symbols: frozenset[str] | None = None
    for text in [told] if isinstance(told, str) else told:
        for column, comparison, values in _comparisons(text.removeprefix("optional: ")):
            if column == "symbol" and comparison in ("COMPARE_EQUAL", "COMPARE_IN"):
                symbols = frozenset(values) if symbols is None else symbols & frozenset(values)
            elif column == "ts" and (moment := _moment(values)) is not None:
                if comparison in ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_EQUAL"):
                    start = moment if start is None else max(start, moment)
                if comparison in ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_EQUAL"):
                    end = moment + MICROSECOND if end is None else min(end, moment + MICROSECOND)
    return Footprint(words, TimeRange(start, end), symbols)


def _comparisons(condition: str) -> Iterator[tuple[str, str, list[str]]]:
    """(column, comparison, texts) of what is compared with constants, of all that has to hold."""
    if not is_text(condition):
        return
    tree = tree_of(f"SELECT {condition}")  # a plan's text, parsed and never run
    if not tree.get("error", True):
        yield from _told(tree["statements"][0]["node"]["select_list"][0])


def _told(node: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    kind = node["type"]
    if kind == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from _told(child)
    elif kind == "COMPARE_IN":
        column, *values = node["children"]
        yield from _compared(column, kind, values)
    elif kind.startswith("COMPARE_") and "left" in node:
        yield from _compared(node["left"], kind, [node["right"]])


def _compared(column: dict[str, Any], kind: str, values: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[str]]]:
    texts = [_constant(value) for value in values]
    if column["type"] == "COLUMN_REF" and len(column["column_names"]) == 1 and None not in texts:
        yield column["column_names"][0], kind, [text for text in texts if text is not None]


def _constant(node: dict[str, Any]) -> str | None:
    if node["type"] == "OPERATOR_CAST":
        return _constant(node["child"])
    value = node.get("value", {}).get("value")
    return value if isinstance(value, str) else None


def _moment(values: list[str]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(values[0])
    except ValueError:
        return None
    return moment if len(values) == 1 and moment.tzinfo is not None else None
