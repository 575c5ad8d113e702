"""Joins by availability: beside each row of the caller's, what was known then; a few instruments at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError
from medalion.core.frames import LAST_YEAR, Frame, polars_frame
from medalion.core.time import MICROSECOND, Instant
from medalion.observations.arguments import SourceNames, names_of
from medalion.observations.request import read_request
from medalion.observations.selection import select
from olap.delta.lake import Lake
from olap.reads.asof import AsofJoin
from olap.reads.scan import Selection, Series, stored
from oltp.hot.instruments import instrument_ids
from oltp.server.engine import Postgres

_ROWS_AT_ONCE = 3_000_000


def asof(
    postgres: Postgres,
    lake: Lake,
    left: Frame,
    dataset: Dataset,
    *,
    tolerance: timedelta | None,
    timeframe: str | None,
    as_of: Instant | None,
    source: SourceNames,
) -> pl.DataFrame:
    """See `Observations.asof`; all of it is of one moment, and memory holds a few instruments' rows at a time."""
    if dataset.has_timeframe and timeframe is None:
        raise InputError(f"{dataset.name} has a series per timeframe; pass timeframe=, such as '1Day'")
    given = _checked(left)
    if tolerance is not None and not isinstance(tolerance, timedelta):
        raise InputError(f"tolerance {tolerance!r} is no timedelta", given=tolerance, expected="a timedelta")
    if tolerance is not None and tolerance < timedelta():
        raise InputError(f"tolerance {tolerance!r} is negative", given=tolerance, expected="a timedelta from zero on")
    last = given["ts"].cast(pl.Datetime("us", "UTC")).max()
    end = last + MICROSECOND if isinstance(last, datetime) and last < LAST_YEAR else None
    symbols = names_of(given["symbol"].cast(pl.String).drop_nulls().to_list()) or []
    with postgres.connection() as connection:
        ids = instrument_ids(connection, dataset, symbols)
    asked = read_request(postgres, dataset, symbols=symbols, end=end, as_of=as_of, timeframe=timeframe, source=source)
    selection, _, _ = select(postgres, lake.table(dataset), asked)
    join = AsofJoin(dataset, given, ids, tolerance=tolerance)
    for few in _in_parts(selection):
        files = selection.files.selected(few, asked.during, asked.timeframe)
        hot = selection.hot.filter(pl.col("instrument_id").is_in(few))
        rows, is_in_order = stored(replace(selection, series=_of(few, selection.series or {}), files=files, hot=hot))
        preference = {one: asked.preference[one] for one in few if one in asked.preference}
        join.add(few, rows, is_in_order=is_in_order, preference=preference)
    return join.result()


def _checked(left: Frame) -> pl.DataFrame:
    given = polars_frame(left)
    missing = {"symbol", "ts"}.difference(given.columns)
    if missing or not isinstance(given.schema["ts"], pl.Datetime) or given.schema["ts"].time_zone is None:
        raise InputError("asof needs columns symbol and ts, the latter with a time zone", given=given.schema)
    taken = [name for name in given.columns if name.startswith("__") or name.endswith("_right")]
    if taken:
        raise InputError(f"column {taken[0]!r} has a name that the join uses; rename it", given=taken)
    return given


def _in_parts(selection: Selection) -> Iterator[list[int]]:
    """The instruments asked for, so many at a time as have about three million rows."""
    files = selection.files
    each = files.rows / (files.last_instrument - files.first_instrument + 1)
    held: list[int] = []
    rows = 0.0
    for instrument in sorted(selection.instruments or ()):
        covers = (files.first_instrument <= instrument) & (instrument <= files.last_instrument)
        expected = float(np.sum(each[covers]))
        if held and rows + expected > _ROWS_AT_ONCE:
            yield held
            held, rows = [], 0.0
        held.append(instrument)
        rows += expected
    if held:
        yield held


def _of(few: Sequence[int], series: Series) -> dict[str, list[int]]:
    """The series of a few instruments."""
    wanted = set(few)
    return {feed: kept for feed, group in series.items() if (kept := sorted(wanted.intersection(group or ())))}
