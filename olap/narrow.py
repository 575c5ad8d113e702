"""Reads of a few series: the row groups that hold them, decoded side by side, and nothing else of their files."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

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
    parts = [_clean(selection, names)]
    if not selection.is_in_order:
        parts.append(collect(resolved(selection).select(names)))
    rows = pl.concat(parts)
    if not selection.is_in_order or rows["symbol"].min() != rows["symbol"].max():
        rows = rows.sort(order, maintain_order=True)  # one series that was renamed lies in order of time
    return rows.select(shown)


def _clean(selection: Selection, names: Sequence[str]) -> pl.DataFrame:
    """The rows of clean files that are meant, in order of the files' first times; each row is looked at only where
    statistics leave a doubt.

    Raises:
        CorruptLakeError: a file is missing or damaged, or has columns of other types than the store writes.
    """
    asked, place = selection.instruments, selection.place
    only = asked[0] if asked and len(asked) == 1 else None
    with reading():
        once, _ = selection.paths
        groups = [group for file in once for group in groups_of(place, file, asked, selection.during)]
        constants = _shared(groups) | ({} if only is None else {"instrument_id": only})
        is_certain = all(_are_meant(selection, constants, group.span) for group in groups)
        wanted = pl.lit(True) if is_certain else selection.wanted()
        needed = list(dict.fromkeys([*names, *wanted.meta.root_names()]))
        found = _tables(place, groups, [name for name in needed if name not in constants] or ["ts"], only)
        decoded = _frame(found)
    schema = {name: kind for name, kind in polars_schema(selection.dataset.stored).items() if name in needed}
    rows = pl.DataFrame(
        [
            decoded[name] if name in decoded.columns else _repeated(name, kind, constants.get(name), decoded.height)
            for name, kind in schema.items()
        ]
    )
    if dict(rows.schema) != schema:
        raise CorruptLakeError(f"a file of {place} has columns of other types than the store writes")
    return (rows if is_certain else rows.filter(wanted)).select(names)


def _frame(tables: Sequence[pa.Table]) -> pl.DataFrame:
    """The tables one after the other, as they lie in memory; what one of them lacks is null in it."""
    frame = pl.from_arrow(pa.concat_tables(tables, promote_options="default"), rechunk=False) if tables else None
    return frame if isinstance(frame, pl.DataFrame) else pl.DataFrame()


def _repeated(name: str, kind: pl.DataType, value: object, rows: int) -> pl.Series:
    """A column of one value; times are given in microseconds, and what no file has yet is null."""
    given = pl.Int64 if isinstance(kind, pl.Datetime) else kind
    return pl.Series(name, [value], dtype=given).cast(kind).new_from_index(0, rows)


def _shared(groups: Sequence[Group]) -> dict[str, Any]:
    """The columns that have one value, the same in all groups."""
    each = [set(group.constants.items()) for group in groups]
    return dict(set.intersection(*each)) if each else {}


def _tables(place: Place, groups: Sequence[Group], names: list[str], only: int | None) -> list[pa.Table]:
    decode = partial(Group.table, place=place, names=names, only=only)
    if sum(group.rows for group in groups) < _SHARED_ROWS:
        return [decode(group) for group in groups]
    with ThreadPoolExecutor(min(len(groups), place.readers)) as pool:
        return list(pool.map(decode, groups))


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
