"""The newest row of a series: from the last value where it is held, else found by looking ever further back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError
from medalion.core.frames import as_read, derive
from medalion.core.text import checked_name
from medalion.core.time import MICROSECOND, Instant, Timeframe, TimeRange, utc
from medalion.observations.arguments import checked_source
from medalion.observations.request import read_request
from medalion.observations.selection import ReadRequest, backwards
from olap.reads.scan import Selection, collect, scan
from oltp.hot.last import last_entry, repair
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
        self, dataset: Dataset, symbol: str, *, timeframe: str | None, as_of: Instant | None, source: str | None
    ) -> dict[str, Any] | None:
        """The newest row of a symbol, as a read gives it; see `Observations.latest`."""
        frame = _one_series(dataset, symbol, timeframe, source)
        with self._postgres.connection() as connection:
            entry = last_entry(connection, dataset, symbol, timeframe=frame, source=source)
        if entry.row is not None and as_of is None:
            return entry.row
        rows = self.newest(
            read_request(self._postgres, dataset, symbols=symbol, as_of=as_of, timeframe=timeframe, source=source),
            entry.newest_ts,
        )
        if rows.height and as_of is None:
            with self._postgres.connection() as connection:
                repair(connection, dataset, entry, rows)
        return as_read(dataset, rows) if rows.height else None

    def latest_at(self, dataset: Dataset, symbol: str, t: Instant, *, timeframe: str | None) -> dict[str, Any] | None:
        """The newest row of a symbol that was available at `t`, by what is known now; None where there is none."""
        moment = utc(t, name="t")
        _one_series(dataset, symbol, timeframe, None)
        request = read_request(self._postgres, dataset, symbols=symbol, timeframe=timeframe)
        rows = self.newest(request, moment, known_at=moment)
        return as_read(dataset, rows) if rows.height else None

    def newest(self, request: ReadRequest, bound: datetime | None, *, known_at: datetime | None = None) -> pl.DataFrame:
        """The last row in (ts, arrival), as stored, with `known_at` of those that were available then; looks ever
        further back from `bound`, the newest `ts` that may answer.
        """
        names = [column.name for column in (*request.dataset.columns, *LAST_ARRIVAL)]
        for during in backwards(self._postgres, request, bound):
            end = None if known_at is None else known_at + MICROSECOND
            span = replace(request, during=TimeRange(during.start, end))

            def answer(span: ReadRequest = span) -> pl.DataFrame:
                rows = scan(self._selected(span), columns=names)
                if known_at is not None:
                    rows = rows.filter(derive(request.dataset)[0] <= known_at)
                return collect(rows.sort(*NEWEST).tail(1))

            found = self._again(request.dataset, answer)
            if found.height:
                return found
        return found


def _one_series(dataset: Dataset, symbol: str, timeframe: str | None, source: str | None) -> str | None:
    """The timeframe in its one spelling, if symbol, timeframe and source can name a series; raises InputError."""
    if dataset.has_timeframe and timeframe is None:
        raise InputError(f"{dataset.name} has a series per timeframe; pass timeframe=, such as '1Day'")
    checked_name(symbol, "symbol")
    checked_source(source)
    return None if timeframe is None else str(Timeframe.parse(timeframe))
