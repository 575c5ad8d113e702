"""Reads of a few series: the row groups that hold them, decoded side by side, and nothing else of their files."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import polars as pl
import pyarrow as pa

from medalion.errors import CorruptLakeError
from medalion.frames import derive, polars_schema
from olap.groups import Group, groups_of
from olap.layout import microseconds
from olap.place import Place, reading
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
    rows = _clean(selection, names)
    if not selection.is_in_order:
        rows = pl.concat([rows, collect(resolved(selection).select(names))]).sort(order)
    return rows.select(shown)


def _clean(selection: Selection, names: Sequence[str]) -> pl.DataFrame:
    """The rows of clean files that are meant, in order of the files' first times; one series in its order.

    Each row is looked at only where statistics leave a doubt.

    Raises:
        CorruptLakeError: a file is missing or damaged, or has columns of other types than the store writes.
    """
    asked, place, kinds = selection.instruments, selection.place, polars_schema(selection.dataset.stored)
    only = asked[0] if asked and len(asked) == 1 else None
    with reading():
        once, _ = selection.paths
        groups = [group for file in once for group in groups_of(place, file, asked, selection.during)]
        if not groups:
            return pl.DataFrame(schema={name: kinds[name] for name in names})
        constants = _shared(groups) | ({} if only is None else {"instrument_id": only})
        is_certain = all(_are_meant(selection, constants, group.span) for group in groups)
        wanted = pl.lit(True) if is_certain else selection.wanted()
        needed = list(dict.fromkeys([*names, *wanted.meta.root_names()]))
        decoded = _decoded(place, groups, [name for name in needed if name not in constants] or ["ts"], only)
    made = [name for name in needed if name not in decoded.columns]
    rows = decoded.with_columns(_literal(constants.get(name), kinds[name]).alias(name) for name in made)
    found = rows.schema  # asked for once: Polars makes it anew each time
    if any(found[name] != kinds[name] for name in needed):
        raise CorruptLakeError(f"a file of {place} has columns of other types than the store writes")
    if not is_certain:
        rows = rows.filter(wanted)
    if selection.is_in_order and "symbol" not in made and rows["symbol"].min() != rows["symbol"].max():
        rows = rows.sort("symbol", maintain_order=True)  # one series that was renamed
    return rows.select(names)


def _literal(value: object, kind: pl.DataType) -> pl.Expr:
    """A column of one value; times are given in microseconds, and what no file has yet is null."""
    return pl.lit(value, pl.Int64 if isinstance(kind, pl.Datetime) else kind).cast(kind)


def _decoded(place: Place, groups: Sequence[Group], names: list[str], only: int | None) -> pl.DataFrame:
    """These columns of the groups one after the other, as they lie in memory; what a file lacks is null."""
    decode = partial(Group.table, place=place, names=names, only=only)
    if sum(group.rows for group in groups) < _SHARED_ROWS:
        tables = [decode(group) for group in groups]
    else:
        with ThreadPoolExecutor(min(len(groups), place.readers)) as pool:
            tables = list(pool.map(decode, groups))
    return cast(pl.DataFrame, pl.from_arrow(pa.concat_tables(tables, promote_options="default"), rechunk=False))


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
