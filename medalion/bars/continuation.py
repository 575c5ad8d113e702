"""Where stored bars may be continued by finer ones: before the first of a series, after the last, and in place of a bar
that was recorded too early. Holes between stored bars stay."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from medalion.core.time import TimeRange
from olap.reads.rollup import Grid

_EARLY = 10
"""A bar that was recorded more than this part of its length before its closing edge is not that of the whole span."""
_MOST_SPANS = 32
"""With more spans in which bars are to be made, one that holds them all is taken, and what is not wanted left out."""
_OPENS, _CLOSES = "__opens", "__closes"

NEEDED = ("instrument_id", "ts", "recorded_at")
"""What must be read of stored bars to tell."""


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """Of one instrument the stored bars of a range: opening edges of the first and the last, closing edge of that, and
    both edges of bars that were recorded too early."""

    first: datetime
    last: datetime
    closes: datetime
    early: tuple[tuple[datetime, datetime], ...] = ()


def stored_spans(grid: Grid, bars: pl.DataFrame) -> dict[int, StoredSpan]:
    """Of each instrument what its stored bars span."""
    opens, closes = grid.edges(grid.bucket(grid.timeframe))
    edges = bars.select(*NEEDED, opens.alias(_OPENS), closes.alias(_CLOSES))
    length = pl.col(_CLOSES) - pl.col(_OPENS)
    is_early = pl.col("recorded_at") < pl.col(_CLOSES) - length / _EARLY
    early: dict[int, list[tuple[datetime, datetime]]] = {}
    for instrument, opening, closing in edges.filter(is_early).select("instrument_id", _OPENS, _CLOSES).rows():
        early.setdefault(instrument, []).append((opening, closing))
    spans = edges.group_by("instrument_id").agg(
        first=pl.col(_OPENS).min(), last=pl.col(_OPENS).max(), closes=pl.col(_CLOSES).max()
    )
    return {
        instrument: StoredSpan(first, last, closing, tuple(early.get(instrument, ())))
        for instrument, first, last, closing in spans.rows()
    }


def open_spans(
    during: TimeRange, instruments: Sequence[int], stored: Mapping[int, StoredSpan], newest: Mapping[int, datetime]
) -> list[tuple[TimeRange, list[int]]]:
    """Where finer bars may continue the stored ones, and of which instruments; `newest` of these nothing is later."""
    found: dict[TimeRange, list[int]] = {}
    for instrument in instruments:
        last = newest.get(instrument)
        if last is None:
            continue
        for span in _of_one(during, stored.get(instrument)):
            if span.start is None or last >= span.start:
                found.setdefault(span, []).append(instrument)
    if len(found) <= _MOST_SPANS:
        return list(found.items())
    starts, ends = [span.start for span in found], [span.end for span in found]
    whole = TimeRange(
        None if None in starts else min(filter(None, starts)), None if None in ends else max(filter(None, ends))
    )
    return [(whole, sorted({instrument for few in found.values() for instrument in few}))]


def _of_one(during: TimeRange, stored: StoredSpan | None) -> Iterator[TimeRange]:
    if stored is None:
        yield during
        return
    if during.start is None or during.start < stored.first:
        yield TimeRange(during.start, stored.first)
    if during.end is None or stored.closes < during.end:
        yield TimeRange(stored.closes, during.end)
    yield from (TimeRange(opening, closing) for opening, closing in stored.early)


def continued(
    grid: Grid,
    bars: pl.DataFrame,
    made: pl.DataFrame,
    stored: Mapping[int, StoredSpan],
    *,
    has_earlier: Callable[[int], bool],
    has_later: Callable[[int], bool],
) -> pl.DataFrame:
    """The stored bars with those of `made` that continue them; two frames with the same columns.

    `has_earlier` and `has_later` tell of an instrument whether it has stored bars before or after the range: then what
    lies between is a hole.
    """
    wanted = []
    for (instrument,), few in made.group_by("instrument_id"):
        one = int(str(instrument))
        span = stored.get(one)
        if span is None:
            is_kept = pl.lit(not (has_earlier(one) and has_later(one)))
        else:
            is_before, is_after = pl.col("ts") < span.first, pl.col("ts") > span.last
            is_kept = pl.col("ts").is_in([opening for opening, _ in span.early])
            if few.select(is_before.any()).item() and not has_earlier(one):
                is_kept |= is_before
            if few.select(is_after.any()).item() and not has_later(one):
                is_kept |= is_after
        wanted.append(few.filter(is_kept))
    if not wanted:
        return bars
    found = pl.concat(wanted)
    opens, _ = grid.edges(grid.bucket(grid.timeframe))
    replaced = found.select("instrument_id", pl.col("ts").alias(_OPENS))
    left = bars.with_columns(opens.alias(_OPENS)).join(replaced, on=replaced.columns, how="anti")
    return pl.concat([left.drop(_OPENS), found])
