"""The newest row of a series: from the last value where it is held, else found by looking ever further back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError
from medalion.core.frames import as_read, derive
from medalion.core.text import checked_name
from medalion.core.time import MICROSECOND, Instant, Timeframe, TimeRange, utc
from medalion.observations.arguments import SourceNames, sources_of
from medalion.observations.request import read_request
from medalion.observations.selection import ReadRequest, backwards
from olap.reads.scan import Selection, collect, scan
from oltp.hot.last import LastEntry, last_entries, repair
from oltp.hot.sources import observed_series
from oltp.hot.tables import LAST_ARRIVAL, NEWEST
from oltp.server.engine import Postgres


class LatestRows:
    """The newest rows of one store; `selected` finds what holds a request, `again` asks twice after a vacuum."""

    def __init__(
        self,
        postgres: Postgres,
        *,
        selected: Callable[[ReadRequest], Selection],
        again: Callable[[Dataset, Callable[[], pl.DataFrame]], pl.DataFrame],
    ) -> None:
        self._postgres = postgres
        self._selected = selected
        self._again = again

    def latest(
        self, dataset: Dataset, symbol: str, *, timeframe: str | None, as_of: Instant | None, source: SourceNames
    ) -> dict[str, Any] | None:
        """The newest row of a symbol, as a read gives it; see `Observations.latest`."""
        frame = _one_series(dataset, symbol, timeframe)
        sources = sources_of(source)
        with self._postgres.connection() as connection:
            entries = last_entries(connection, dataset, symbol, timeframe=frame, sources=sources)
        if as_of is None and (newest := _settled(entries)):
            return newest[0] if len(newest) == 1 else self._preferred(dataset, symbol, newest, sources)
        request = read_request(self._postgres, dataset, symbols=symbol, as_of=as_of, timeframe=timeframe, source=source)
        rows = self.newest(request, max((entry.newest_ts for entry in entries), default=None))
        if as_of is None:
            self._repair(request, entries)
        return as_read(dataset, rows) if rows.height else None

    def _preferred(
        self, dataset: Dataset, symbol: str, rows: Sequence[dict[str, Any]], sources: Sequence[str] | None
    ) -> dict[str, Any]:
        """Of rows of one time that of the source which is preferred."""
        if sources is None:
            with self._postgres.connection() as connection:
                (series,) = observed_series(connection, dataset, [symbol])
            sources = series.sources
        return min(rows, key=lambda row: sources.index(row["source"]))

    def _repair(self, request: ReadRequest, entries: Sequence[LastEntry]) -> None:
        """Show what a range read finds of each series of which the last value was deleted or corrected."""
        for entry in entries:
            if entry.row is None:
                one = replace(request, series={entry.source: request.instruments or []})
                rows = self.newest(one, entry.newest_ts)
                if rows.height:
                    with self._postgres.connection() as connection:
                        repair(connection, request.dataset, entry, rows)

    def latest_at(self, dataset: Dataset, symbol: str, t: Instant, *, timeframe: str | None) -> dict[str, Any] | None:
        """The newest row of a symbol that was available at `t`, by what is known now; None where there is none."""
        moment = utc(t, name="t")
        _one_series(dataset, symbol, timeframe)
        request = read_request(self._postgres, dataset, symbols=symbol, timeframe=timeframe)
        rows = self.newest(request, moment, known_at=moment)
        return as_read(dataset, rows) if rows.height else None

    def newest(self, request: ReadRequest, bound: datetime | None, *, known_at: datetime | None = None) -> pl.DataFrame:
        """The last row by time, of the most preferred source, by arrival, as stored, with `known_at` of those that were
        available then; looks ever further back from `bound`, the newest `ts` that may answer.
        """
        order = [pl.col("ts"), *_by_preference(request), *(pl.col(name) for name in NEWEST if name != "ts")]
        names = [column.name for column in (*request.dataset.columns, *LAST_ARRIVAL)]
        for during in backwards(self._postgres, request, bound):
            end = None if known_at is None else known_at + MICROSECOND
            span = replace(request, during=TimeRange(during.start, end))

            def answer(span: ReadRequest = span) -> pl.DataFrame:
                rows = scan(self._selected(span), columns=names)
                if known_at is not None:
                    rows = rows.filter(derive(request.dataset)[0] <= known_at)
                return collect(rows.sort(order).tail(1))

            found = self._again(request.dataset, answer)
            if found.height:
                return found
        return found


def _settled(entries: Sequence[LastEntry]) -> list[dict[str, Any]]:
    """The newest rows, of one time; none where only a range read can tell what is newest."""
    rows = [entry.row for entry in entries if entry.row is not None]
    newest = max((row["ts"] for row in rows), default=None)
    if newest is None or any(entry.row is None and entry.newest_ts >= newest for entry in entries):
        return []
    return [row for row in rows if row["ts"] == newest]


def _by_preference(request: ReadRequest) -> list[pl.Expr]:
    """What orders rows of one instrument and one time, the most preferred last; nothing where all are of one source."""
    ranks = {source: -place for sources in request.preference.values() for place, source in enumerate(sources)}
    return [pl.col("source").replace_strict(ranks, return_dtype=pl.Int64)] if ranks else []


def _one_series(dataset: Dataset, symbol: str, timeframe: str | None) -> str | None:
    """The timeframe in its one spelling, if symbol and timeframe can name a series; raises InputError."""
    if dataset.has_timeframe and timeframe is None:
        raise InputError(f"{dataset.name} has a series per timeframe; pass timeframe=, such as '1Day'")
    checked_name(symbol, "symbol")
    return None if timeframe is None else str(Timeframe.parse(timeframe))
