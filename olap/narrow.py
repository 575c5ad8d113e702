"""Reads of a few series: the row groups that hold them, decoded side by side, and nothing else of their files."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import polars as pl

from medalion.frames import derive, polars_schema
from olap.groups import Group, groups_of
from olap.layout import microseconds
from olap.place import reading
from olap.scan import Selection, Series, collect, resolved

_SHARED_ROWS = 32_768
"""From about here threads gain more than they cost."""


def read(selection: Selection, *, columns: Sequence[str]) -> pl.DataFrame:
    """What `olap.scan.scan` gives, at once; one series of clean files lies in order already and is not sorted again.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    dataset = selection.dataset
    derived = {column.meta.output_name(): column for column in derive(dataset, selection.timeframe)}
    shown = [derived.get(name, pl.col(name)) for name in columns]
    order = ["symbol"] if selection.is_in_order else [*dataset.order, "write_id", "ordinal"]
    names = list(dict.fromkeys([*(root for column in shown for root in column.meta.root_names()), *order]))
    groups = _groups(selection)
    parts = _decoded(selection, groups, names)
    if len(parts) == 0 or not selection.is_in_order:
        parts.append(collect(resolved(selection).select(names)))
    rows = pl.concat(parts)
    if not selection.is_in_order or not _is_of_one_symbol(groups):
        rows = rows.sort(order, maintain_order=True)  # one series that was renamed lies in order of time
    return rows.select(shown)


def _groups(selection: Selection) -> list[Group]:
    """The row groups of clean files that may hold rows of the selection, in order of the files' first times."""
    once, _ = selection.paths
    with reading():
        return [
            group
            for file in once
            for group in groups_of(selection.place, file, selection.instruments, selection.during)
        ]


def _is_of_one_symbol(groups: Sequence[Group]) -> bool:
    symbols = {group.constants.get("symbol") for group in groups}
    return len(symbols) == 1 and None not in symbols


def _decoded(selection: Selection, groups: Sequence[Group], names: Sequence[str]) -> list[pl.DataFrame]:
    decode = partial(_rows_of, selection, names=names)
    with reading():
        if sum(group.rows for group in groups) < _SHARED_ROWS:
            return [decode(group) for group in groups]
        with ThreadPoolExecutor(min(len(groups), selection.place.readers)) as pool:
            return list(pool.map(decode, groups))


def _rows_of(selection: Selection, group: Group, *, names: Sequence[str]) -> pl.DataFrame:
    """The rows of a group that are meant; only where statistics leave a doubt is each looked at."""
    schema = polars_schema(selection.dataset.stored)
    only = selection.instruments[0] if selection.instruments and len(selection.instruments) == 1 else None
    told = group.constants if only is None else group.constants | {"instrument_id": only}
    if _are_meant(selection, told, group.span):
        return group.decoded(selection.place, names, schema, only=only)
    wanted = selection.wanted()
    looked_at = list(dict.fromkeys([*names, *wanted.meta.root_names()]))
    return group.decoded(selection.place, looked_at, schema, only=only).filter(wanted).select(names)


def _are_meant(selection: Selection, constants: Mapping[str, Any], span: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether statistics say of every row that it is meant."""
    during = selection.during
    (first, last), (_, recorded_at) = span["ts"], span["recorded_at"]
    return (
        (selection.series is None or _answers_for(selection.series, constants))
        and (during.start is None or first >= microseconds(during.start))
        and (during.end is None or last < microseconds(during.end))
        and (selection.timeframe is None or constants.get("timeframe") == selection.timeframe)
        and (selection.as_of is None or recorded_at <= microseconds(selection.as_of))
    )


def _answers_for(series: Series, constants: Mapping[str, Any]) -> bool:
    source, instrument = constants.get("source"), constants.get("instrument_id")
    if source is None or source not in series:
        return False
    instruments = series[source]
    return instruments is None or instrument in instruments
