"""Rollups that are kept: bars made beforehand and brought up to date, so that reads need not make them.

Kept bars are rows of the bars' dataset under a source of their own, which no read takes unless it asks for it.
`store.bars` does, for the spans in which nothing has changed since they were made, and makes the rest.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from medalion.bars.read import Bars
from medalion.bars.refresh import Refresh, RefreshRun
from medalion.bars.routes import QUOTES, grid_of
from medalion.core.datasets import Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.errors import InputError, NotFoundError
from medalion.core.time import Timeframe, TimeRange
from medalion.core.tracebacks import all_told_shortly
from medalion.mirror.binding import Binding
from medalion.observations.arguments import Symbols, names_of
from medalion.observations.request import read_request
from medalion.observations.selection import ReadRequest
from olap.delta.lake import Lake
from oltp.hot.instruments import instrument_ids
from oltp.ledger import rollups
from oltp.ledger.rollups import KeptRollup, KeptSeries
from oltp.server.engine import Connection, Postgres

_LISTED: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset": pl.String,
    "timeframe": pl.String,
    "symbols": pl.List(pl.String),
    "series": pl.Int64,
    "refreshed_at": pl.Datetime("us", "UTC"),
}


@all_told_shortly
class Rollups:
    """The rollups that one store keeps."""

    def __init__(self, postgres: Postgres, lake: Lake, bars: Bars) -> None:
        self._postgres = postgres
        self._lake = lake
        self._bars = bars
        self._binding = Binding(postgres, lake)

    def keep(self, dataset: str | Dataset, *, timeframe: str, symbols: Symbols = None) -> None:
        """Have `refresh` keep bars of this timeframe, of the symbols or of every one; changes what was kept before.

        Raises:
            InputError: no dataset of bars, or a timeframe of which none can be made.
            NotFoundError: the dataset or a symbol is not known.
        """
        asked = _asked(dataset, timeframe)
        if not grid_of(asked).is_made:
            raise InputError(
                f"bars of {asked.timeframe} cannot be made, only stored", given=timeframe, expected="such as '5Min'"
            )
        names = names_of(symbols)
        with self._postgres.connection() as connection:
            instruments = None if names is None else sorted(instrument_ids(connection, asked.dataset, names).values())
            rollups.keep(connection, KeptRollup(asked.dataset.name, asked.timeframe or "", instruments))

    def drop(self, dataset: str | Dataset, *, timeframe: str) -> int:
        """Keep them no longer; the number of bars deleted. Reads make them from then on, and the answers stay.

        Raises:
            NotFoundError: none of this timeframe are kept.
        """
        asked = _asked(dataset, timeframe)
        rollup = KeptRollup(asked.dataset.name, asked.timeframe or "")
        with self._postgres.connection() as connection, rollups.refreshing(connection, rollup):
            kept = rollups.kept_rollups(connection)
            if not any((one.dataset, one.timeframe) == (rollup.dataset, rollup.timeframe) for one in kept):
                raise _not_kept(rollup.dataset, rollup.timeframe, kept)
            series = rollups.series_of(connection, rollup.dataset, rollup.timeframe)
            rollups.remove_series(connection, rollup, series)
            work = Refresh(self._bars, self._binding, connection, rollup, asked, threading.Event())
            deleted = work.clear(()).deleted
            rollups.end(connection, rollup)
        return deleted

    def refresh(
        self,
        dataset: str | Dataset | None = None,
        *,
        timeframe: str | None = None,
        wait: bool = True,
        stopping: threading.Event | None = None,
    ) -> RefreshRun:
        """Bring what is kept up to date: only what has changed since the last time is made again.

        Without arguments all of it. With `wait` False what another process refreshes is passed over; with `stopping`
        set it ends early. Wherever it ends, reads stay right.

        Raises:
            NotFoundError: nothing of the dataset and timeframe is kept.
        """
        name = None if dataset is None else dataset_named(dataset).name
        length = None if timeframe is None else str(Timeframe.parse(timeframe))
        total = RefreshRun()
        with self._postgres.connection() as connection:
            kept = rollups.kept_rollups(connection)
            chosen = [one for one in kept if name in (None, one.dataset) and length in (None, one.timeframe)]
            if not chosen and (name or length):
                raise _not_kept(name, length, kept)
            for rollup in chosen:
                with rollups.refreshing(connection, rollup, wait=wait) as is_alone:
                    if is_alone and not (stopping is not None and stopping.is_set()):
                        total += self._refreshed(connection, rollup, stopping or threading.Event())
        return total

    def list(self) -> pl.DataFrame:
        """A row a rollup: what is kept, the number of its series, and when it was last brought up to date.

        `symbols` is null for every instrument.
        """
        with self._postgres.connection() as connection:
            rows = [
                (
                    kept.dataset,
                    kept.timeframe,
                    None if kept.instruments is None else sorted(rollups.symbols_of(connection, kept.instruments)),
                    len(rollups.series_of(connection, kept.dataset, kept.timeframe)),
                    kept.refreshed_at,
                )
                for kept in rollups.kept_rollups(connection)
            ]
        return pl.DataFrame(rows, schema=_LISTED, orient="row")

    def _refreshed(self, connection: Connection, rollup: KeptRollup, stopping: threading.Event) -> RefreshRun:
        begun, declared = datetime.now(UTC), dataset_named(rollup.dataset)
        known = rollups.series_of(connection, rollup.dataset, rollup.timeframe)
        # Before anything is read: what comes in from here on counts as changed the next time.
        until, gone = {}, {}
        for finer in (declared, QUOTES[declared.name]):
            until[finer.name] = rollups.complete_until(connection, finer)
            gone[finer.name] = rollups.removed(connection, declared, finer)
            self._lake.table(finer).refresh()  # a pin from before a removal still shows what was removed
        symbols = None if rollup.instruments is None else sorted(rollups.symbols_of(connection, rollup.instruments))
        asked = read_request(self._postgres, declared, symbols=symbols, timeframe=rollup.timeframe)
        routes = [route for route in self._bars.routes(asked, symbols) if route.keepable]
        work = Refresh(self._bars, self._binding, connection, rollup, asked, stopping)
        total = RefreshRun()
        for route in routes:
            name = route.asked.dataset.name
            wanted = {
                one: KeptSeries(one, source, name, route.asked.timeframe, until[name], gone[name].dropped_at, begun)
                for source, one in route.keepable
            }
            older = {
                one: known[one]
                for one, series in wanted.items()
                if one in known and known[one].origin == series.origin and gone[name].folded_until <= known[one].until
            }
            total += work.build(route, [series for one, series in wanted.items() if one not in older])
            total += work.bring_up(route, older, gone[name])
            if stopping.is_set():
                return total
            moved = (
                replace(series, until=max(wanted[one].until, series.until), dropped_at=wanted[one].dropped_at)
                for one, series in older.items()
            )
            rollups.advance_series(connection, rollup, moved)
        made = {feed for route in routes for feed in route.keepable}
        rollups.remove_series(connection, rollup, known.keys() - {one for _, one in made})
        total += work.clear(made)
        rollups.note_refreshed(connection, rollup, begun)
        return total


def _not_kept(dataset: str | None, timeframe: str | None, kept: Sequence[KeptRollup]) -> NotFoundError:
    known = [f"{one.dataset} {one.timeframe}" for one in kept]
    return NotFoundError(
        "kept rollup",
        " ".join(filter(None, (dataset, timeframe))),
        known=known,
        hint=f"kept: {', '.join(known) or 'none; keep one with store.rollups.keep(...)'}",
    )


def _asked(dataset: str | Dataset, timeframe: str) -> ReadRequest:
    """Bars of every time.

    Raises:
        InputError: no dataset of bars.
    """
    declared = dataset_named(dataset)
    if declared.name not in QUOTES:
        raise InputError(
            f"{declared.name} has no bars; rollups are of bars", given=declared.name, expected=sorted(QUOTES)
        )
    return ReadRequest(declared, TimeRange(), timeframe=str(Timeframe.parse(timeframe)))
