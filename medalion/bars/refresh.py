"""One refresh of one rollup: what has changed is made again, a piece at a time, and only what differs is written."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from medalion.bars.kept import changed_spans, removed_spans
from medalion.bars.read import Bars
from medalion.bars.routes import Feed, Route, Span, bars_of, by_source, cut, grid_of, merged
from medalion.core.time import MICROSECOND, TimeRange
from medalion.mirror.binding import Binding
from medalion.observations.selection import ReadRequest
from olap.files.index import Files
from olap.files.layout import Column, microseconds
from oltp.hot.sources import KEPT
from oltp.hot.writes import hide, write
from oltp.ledger import rollups
from oltp.ledger.rollups import Change, KeptRollup, KeptSeries, RemovalMarks
from oltp.server.engine import Connection

_PIECE_ROWS = 1_000_000
"""About so many rows are made into bars at once."""
_MOST_GROUPS = 16
"""With more spans of instruments among the changes, each change counts for all of them."""
_SERIES_AT_ONCE = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RefreshRun:
    """What a refresh did: series that it brought up to date, and bars that were written or deleted for it."""

    series: int = 0
    written: int = 0
    deleted: int = 0

    def __add__(self, other: "RefreshRun") -> "RefreshRun":
        return RefreshRun(self.series + other.series, self.written + other.written, self.deleted + other.deleted)


@dataclass(frozen=True, slots=True)
class Refresh:
    """One refresh of one rollup; every write goes through the connection that holds its lock."""

    bars: Bars
    binding: Binding
    connection: Connection
    rollup: KeptRollup
    asked: ReadRequest
    stopping: threading.Event

    def build(self, route: Route, series: Sequence[KeptSeries]) -> RefreshRun:
        """Make the series from the beginning; until one is whole, reads make it."""
        # The entry goes first and comes back last: between the two a reader finds none, and a refresh that dies leaves
        # bars that nobody takes. The next one finds them held, and writes only those that differ.
        total = RefreshRun()
        for first in range(0, len(series), _SERIES_AT_ONCE):
            some = series[first : first + _SERIES_AT_ONCE]
            rollups.remove_series(self.connection, self.rollup, [one.instrument_id for one in some])
            total += self._made(route, [(one.source, one.instrument_id) for one in some], TimeRange())
            if self.stopping.is_set():
                return total
            rollups.put_series(self.connection, self.rollup, some)
            total += RefreshRun(series=len(some))
        return total

    def bring_up(self, route: Route, series: Mapping[int, KeptSeries], gone: RemovalMarks) -> RefreshRun:
        """Make again the bars that a change since may have touched."""
        total = RefreshRun()
        if not series:
            return total
        changes = rollups.changes(
            self.connection,
            route.asked.dataset,
            after=min(one.until for one in series.values()),
            sources=sorted({one.source for one in series.values()}),
            instruments=sorted(series),
            during=TimeRange(),
        )
        groups: dict[tuple[int, int], list[Span]] = {}
        for instruments, group in _grouped(changes).items():
            groups[instruments] = changed_spans(self.asked, route, group)
        if gone.is_dropping or any(one.dropped_at != gone.dropped_at for one in series.values()):
            every = (min(series), max(series))
            groups[every] = merged([*groups.get(every, ()), *removed_spans(self.asked, route, gone)])
        touched = set[int]()
        for (low, high), spans in groups.items():
            feeds = [(one.source, one.instrument_id) for one in series.values() if low <= one.instrument_id <= high]
            touched.update(one for _, one in feeds)
            for during in cut(TimeRange(), spans)[1] if feeds else ():
                total += self._made(route, feeds, during)
        return total + RefreshRun(series=len(touched))

    def clear(self, made: Collection[Feed]) -> RefreshRun:
        """Delete what was kept of any other series."""
        total = RefreshRun()
        every = rollups.kept_feeds(self.connection, self.asked.dataset, self.rollup.timeframe)
        feeds = [(source, one) for source, one in every if (source, one) not in made]
        asked = replace(self.asked, series=None)
        for some, during in self._pieces(asked, [(KEPT + source, one) for source, one in feeds], TimeRange(), _same):
            held = self._held(some, during)
            total += self._put(held.clear(), held)
        return total

    def _made(self, route: Route, feeds: Sequence[Feed], during: TimeRange) -> RefreshRun:
        """Bring the kept bars of a range to what would be made now; what is so already is not written again."""
        total = RefreshRun()
        grid, columns = grid_of(self.asked), _columns(self.asked)

        def rows_of(span: TimeRange) -> TimeRange:
            return grid.rows(span, route.timeframe)

        for some, span in self._pieces(route.asked, feeds, during, rows_of):
            if self.stopping.is_set():
                return total
            part = replace(route.asked, series=by_source(some), during=rows_of(span), preference={})
            made = self.bars.part(Route(part, is_made=True), replace(self.asked, during=span), columns)
            held = self._held([(KEPT + source, one) for source, one in some], span)
            total += self._put(
                made.join(held, on=columns, how="anti", nulls_equal=True),
                held.join(made, on=list(self.asked.dataset.key), how="anti"),
            )
        return total

    def _held(self, feeds: Sequence[Feed], during: TimeRange) -> pl.DataFrame:
        return self.bars.read(replace(self.asked, series=by_source(feeds), during=during), _columns(self.asked))

    def _put(self, new: pl.DataFrame, gone: pl.DataFrame) -> RefreshRun:
        """Write and delete bars, in one transaction."""
        dataset = self.asked.dataset
        if not new.height and not gone.height:
            return RefreshRun()
        self.binding.check(self.connection, dataset)
        with self.connection.transaction():
            hide(self.connection, dataset, gone, is_ours=True)
            for (source,), part in new.group_by("source"):
                write(self.connection, dataset, part, source=str(source), is_ours=True)
        return RefreshRun(written=new.height, deleted=gone.height)

    def _pieces(
        self, asked: ReadRequest, feeds: Sequence[Feed], during: TimeRange, rows_of: Callable[[TimeRange], TimeRange]
    ) -> Iterator[tuple[Sequence[Feed], TimeRange]]:
        """Series and spans of bars, each of about so many rows as are taken at once: whole series apart, then times."""
        # Series are halved before times, because rows lie in files by instrument: a few series for all times are few
        # row groups, while all series for a day touch every file of it. Times are cut only at an edge between two bars:
        # a bar is read whole wherever the cut is, so that halving within one makes no piece smaller, and never ends.
        # Where no edge lies inside (one bar is the whole span, or all rows are unmirrored, of which no file tells a
        # middle) the piece is taken as it is, though it is larger than planned. The sizes are estimates, as if rows
        # were spread evenly over instruments and time; where they err it costs memory, and never a row.
        if not feeds:
            return
        span = rows_of(during)
        selection, _ = self.bars.planned(replace(asked, series=by_source(feeds), during=span))
        middle = self._middle(selection.files, span)
        if _about(selection.files, len(feeds), span) + selection.hot.height <= _PIECE_ROWS:
            yield feeds, during
        elif len(feeds) > 1:
            half = len(feeds) // 2
            for some in (feeds[:half], feeds[half:]):
                yield from self._pieces(asked, some, during, rows_of)
        elif middle is None or not during.overlaps(middle, middle) or middle == during.start:
            yield feeds, during
        else:
            for part in (TimeRange(during.start, middle), TimeRange(middle, during.end)):
                yield from self._pieces(asked, feeds, part, rows_of)

    def _middle(self, files: Files, span: TimeRange) -> datetime | None:
        """An edge between two bars, half way between the first and the last row in files."""
        if not len(files):
            return None
        first, last = _within(files, span)
        middle = _EPOCH + int(first.min() + last.max()) // 2 * MICROSECOND
        ((opening, _),) = bars_of(grid_of(self.asked), None, [(middle, middle)])
        return opening


def _same(span: TimeRange) -> TimeRange:
    return span


def _columns(asked: ReadRequest) -> list[str]:
    return [column.name for column in asked.dataset.columns]


def _grouped(found: Sequence[Change]) -> dict[tuple[int, int], list[Change]]:
    """Changes by the instruments that they span; all together where these are too many to look at one by one."""
    groups: dict[tuple[int, int], list[Change]] = {}
    for change in found:
        groups.setdefault((change.first_instrument, change.last_instrument), []).append(change)
    if len(groups) <= _MOST_GROUPS:
        return groups
    return {(min(low for low, _ in groups), max(high for _, high in groups)): list(found)}


def _within(files: Files, span: TimeRange) -> tuple[Column, Column]:
    """First and last time of each file, within the span."""
    first, last = files.first_ts, files.last_ts
    if span.start is not None:
        first = np.maximum(first, microseconds(span.start))
    if span.end is not None:
        last = np.minimum(last, microseconds(span.end))
    return first, last


def _about(files: Files, series: int, span: TimeRange) -> int:
    """Rows expected if those of a file are spread evenly over its instruments and its time."""
    instruments = files.last_instrument - files.first_instrument + 1
    first, last = _within(files, span)
    share = (last - first + 1) / (files.last_ts - files.first_ts + 1)
    return int((files.rows * np.minimum(series / instruments, 1.0) * np.clip(share, 0.0, 1.0)).sum())
