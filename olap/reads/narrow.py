"""Reads of a few series: the row groups that hold them, decoded side by side, and nothing else of their files."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from medalion.core.errors import CorruptLakeError
from medalion.core.frames import derive, polars_schema
from olap.files.groups import Group, groups_of
from olap.files.layout import microseconds
from olap.places.base import reading
from olap.reads.scan import Selection, Series, collect, resolved

_KEPT_LITERALS = 1_024


def read(selection: Selection, *, columns: Sequence[str]) -> pl.DataFrame:
    """What `olap.reads.scan.scan` gives, at once; one series of clean files lies in order and is not sorted again.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    dataset = selection.dataset
    derived = {column.meta.output_name(): column for column in derive(dataset, selection.timeframe)}
    shown = [derived.get(name, pl.col(name)) for name in columns]
    order = ["symbol"] if selection.is_in_order else [*dataset.order, "write_id", "ordinal"]
    names = list(dict.fromkeys([*(root for column in shown for root in column.meta.root_names()), *order]))
    rows = _clean(selection, names)
    if not selection.is_in_order:
        rows = pl.concat([rows, resolved(selection, names).select(names)]).sort(order)
    return collect(rows.select(shown))


def _clean(selection: Selection, names: Sequence[str]) -> pl.LazyFrame:
    """The rows of clean files that are meant, in order of the files' first times; one series in its order.

    They are in memory; each is looked at only where statistics leave a doubt.

    Raises:
        CorruptLakeError: a file is missing or damaged, or has columns of other types than the store writes.
    """
    asked, place, kinds = selection.instruments, selection.place, polars_schema(selection.dataset.stored)
    only = asked[0] if asked and len(asked) == 1 else None
    with reading():
        once, _ = selection.paths
        groups = [group for file in once for group in groups_of(place, file, asked, selection.during)]
        if not groups:
            return pl.LazyFrame(schema={name: kinds[name] for name in names})
        constants = _shared(groups) | ({} if only is None else {"instrument_id": only})
        is_certain = all(_are_meant(selection, constants, group.span) for group in groups)
        wanted = pl.lit(True) if is_certain else selection.wanted()
        needed = list(dict.fromkeys([*names, *wanted.meta.root_names()]))
        rows = _decoded(selection, groups, [name for name in needed if name not in constants], only)
    found = rows.schema  # asked for once: Polars makes it anew each time
    made = [name for name in needed if name not in found]
    if any(kind != kinds[name] for name, kind in found.items()):
        raise CorruptLakeError(f"a file of {place} has columns of other types than the store writes")
    if selection.is_in_order and "symbol" in found and rows["symbol"].min() != rows["symbol"].max():
        rows = rows.sort("symbol", maintain_order=True)  # one series that was renamed
    complete = rows.lazy().with_columns(_literal(constants.get(name), kinds[name]).alias(name) for name in made)
    return (complete if is_certain else complete.filter(wanted)).select(names)


@lru_cache(_KEPT_LITERALS)
def _literal(value: object, kind: pl.DataType) -> pl.Expr:
    """A column of one value; times are given in microseconds, and what no file has yet is null."""
    return pl.lit(value, pl.Int64 if isinstance(kind, pl.Datetime) else kind).cast(kind)


def _decoded(selection: Selection, groups: Sequence[Group], names: list[str], only: int | None) -> pl.DataFrame:
    """At least these columns of the groups, or `only` of one instrument, one after the other; what no file has is not
    there, what some lack is null."""
    shared = only if any("instrument_id" not in group.constants for group in groups) else None
    if shared is not None:
        names = [*names, "instrument_id"]  # by which its rows are found; the caller leaves it out as a constant
    wanted = [(group, [name for name in names if name in group.names] or ["ts"]) for group in groups]
    parts = selection.blocks.read(selection.place, wanted)
    if shared is not None:
        parts = [_rows_of(shared, rows) for rows in parts]
    return pl.concat(parts, how="diagonal", rechunk=False)


def _rows_of(instrument: int, rows: pl.DataFrame) -> pl.DataFrame:
    first, end = np.searchsorted(rows["instrument_id"].to_numpy(), (instrument, instrument + 1))
    return rows.slice(first, end - first)


def _shared(groups: Sequence[Group]) -> dict[str, Any]:
    """The columns that have one value, the same in all groups."""
    return dict(set.intersection(*(set(group.constants.items()) for group in groups)))


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
