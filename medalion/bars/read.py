"""Bars of any timeframe: those stored, else made on reading from the coarsest finer bars that fit, else from quotes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from medalion.bars.downsampling import with_downsampled
from medalion.bars.kept import KeptBars
from medalion.bars.routes import QUOTES, Feed, Route, by_source, grid_of
from medalion.core.datasets import ARRIVAL
from medalion.core.errors import InputError
from medalion.core.time import Timeframe
from medalion.observations.arguments import Symbols, names_of
from medalion.observations.plan import ReadPlan
from medalion.observations.request import read_request
from medalion.observations.selection import ReadRequest
from olap.reads.asof import split_adjusted
from olap.reads.rollup import mid_bars, minutes, needed, rolled_up
from olap.reads.scan import Selection
from oltp.hot.instruments import KEPT, primary_series, splits_of
from oltp.hot.last import HeldSeries, held_series
from oltp.server.engine import Postgres

_ARRIVAL = {column.name for column in ARRIVAL}


class Bars:
    """Bars of one timeframe, read through one store; every series is wholly stored or wholly made."""

    def __init__(
        self,
        postgres: Postgres,
        *,
        read: Callable[[ReadRequest, Sequence[str]], pl.DataFrame],
        newest: Callable[[ReadRequest, datetime | None], pl.DataFrame],
        planned: Callable[[ReadRequest], tuple[Selection, ReadPlan]],
    ) -> None:
        self._postgres = postgres
        self._newest = newest
        self._kept = KeptBars(postgres)
        self.read = read
        self.planned = planned

    def rows(
        self, asked: ReadRequest, columns: Sequence[str], *, symbols: Symbols, is_adjusted: bool, is_rolled_up: bool
    ) -> pl.DataFrame:
        """The bars that `asked` asks for, in order; `is_adjusted` restates them for splits before they are added up."""
        routes = self.routes(asked, symbols) if is_rolled_up else [Route(asked)]
        if len(routes) == 1 and not routes[0].is_made:
            if not is_adjusted:
                return self.read(asked, columns)
            rows = self.read(asked, list(dict.fromkeys([*columns, "instrument_id", "ts"])))
            return self._adjusted(rows, routes[0]).select(columns)
        order = (*asked.dataset.order, "instrument_id")
        wanted = list(dict.fromkeys([*columns, *order]))
        # Kept bars have an arrival of their own, know nothing of the past, and splits come before sums.
        may_be_kept = asked.as_of is None and not is_adjusted and _ARRIVAL.isdisjoint(wanted)
        parts = [
            self._kept_part(route, asked, wanted)
            if may_be_kept
            else self.part(route, asked, wanted, is_adjusted=is_adjusted)
            for route in routes
        ]
        return pl.concat(parts).sort(order).select(columns)

    def plan(self, asked: ReadRequest, symbols: Symbols) -> ReadPlan:
        """How `rows` is answered: the plans of what is read, and what is made of it."""
        routes = self.routes(asked, symbols)
        if asked.as_of is None:
            routes = [each for route in routes for each in self._kept.split(asked, route).routes]
        plans = [_said(route, asked, self.planned(route.asked)[1]) for route in routes]
        if len(plans) == 1:
            return plans[0]
        shares = [len(route.asked.instruments or ()) for route in routes]
        return ReadPlan(
            dataset=_joined(plan.dataset for plan in plans),
            store=_joined(plan.store for plan in plans),
            engine=_joined(plan.engine for plan in plans),
            files=sum(plan.files for plan in plans),
            rows=sum(plan.rows for plan in plans),
            hot_rows=sum(plan.hot_rows for plan in plans),
            reason="; ".join(f"of {n} series, {plan.reason}" for n, plan in zip(shares, plans, strict=True)),
            deduplicated=sum(plan.deduplicated for plan in plans),
        )

    def part(
        self, route: Route, asked: ReadRequest, columns: Sequence[str], *, is_adjusted: bool = False
    ) -> pl.DataFrame:
        """The bars of one route, in no order."""
        names = needed(columns, from_quotes=route.timeframe is None) if route.is_made else columns
        rows = self.read(route.asked, names)
        if route.is_kept:
            return rows.with_columns(pl.col("source").str.strip_prefix(KEPT)) if "source" in columns else rows
        if route.timeframe is None:
            rows = with_downsampled(self._postgres, self.read, route, asked, mid_bars(rows))
        if is_adjusted:
            rows = self._adjusted(rows, route)
        if not route.is_made:
            return rows
        return rolled_up(asked.dataset, rows, grid_of(asked), route.timeframe, columns=columns)

    def _kept_part(self, route: Route, asked: ReadRequest, columns: Sequence[str]) -> pl.DataFrame:
        """The same, from kept bars where there are such and they are current."""
        split = self._kept.split(asked, route)
        if split.evidence is not None:
            rows = pl.concat([self.part(each, asked, columns) for each in split.routes])
            if self._kept.still_hold(asked, route, split.evidence):
                return rows
        return self.part(route, asked, columns)

    def _adjusted(self, rows: pl.DataFrame, route: Route) -> pl.DataFrame:
        with self._postgres.connection() as connection:
            splits = splits_of(connection, rows["instrument_id"].unique().to_list(), as_of=route.asked.as_of)
        return split_adjusted(rows, splits, is_intraday=route.timeframe is None or route.timeframe.is_intraday)

    def routes(self, asked: ReadRequest, symbols: Symbols) -> list[Route]:
        """One for each timeframe that answers for some series; the read as it was asked where nothing is made."""
        # The asked timeframe has the first word, then finer ones from the coarsest (fewest rows to add up), and quotes
        # the last; a series that one of them answers for is not offered to the next, so that it is wholly stored or
        # wholly made. What decides is whether the series has a stored bar at any time, and not whether it has one in
        # the asked range: else a bar would be there in a read of its day and another in a read of its year, and a hole
        # in a vendor's bars would be filled in the one and not in the other.
        grid = grid_of(asked)
        feeds = self._feeds(asked)
        with self._postgres.connection() as connection:
            sources, instruments = {source for source, _ in feeds}, {instrument for _, instrument in feeds}
            found = held_series(connection, asked.dataset, list(sources), list(instruments))
        held: dict[Timeframe, list[HeldSeries]] = {}
        for series in found:
            held.setdefault(Timeframe.parse(series.timeframe), []).append(series)
        finer = sorted((each for each in held if grid.is_divided_by(each)), key=minutes, reverse=True)
        routes: list[Route] = []
        for timeframe in [grid.timeframe, *finer]:
            during = asked.during if timeframe == grid.timeframe else grid.rows(asked.during, timeframe)
            wanted = replace(asked, during=during, timeframe=str(timeframe))
            waiting = [series for series in held.get(timeframe, ()) if (series.source, series.instrument_id) in feeds]
            stored = self._stored(wanted, waiting)
            feeds -= stored
            if stored:
                routes.append(Route(replace(wanted, series=by_source(stored)), timeframe != grid.timeframe))
        answered = {instrument for route in routes for instrument in route.asked.instruments or ()}
        if grid.is_made and (quotes := self._quotes(asked, symbols, answered)):
            routes.append(Route(replace(quotes, during=grid.rows(asked.during, None)), is_made=True))
        return routes if any(route.is_made for route in routes) else [Route(asked)]

    def _feeds(self, asked: ReadRequest) -> set[Feed]:
        if asked.series is not None and None not in asked.series.values():
            return {(source, instrument) for source, group in asked.series.items() for instrument in group or ()}
        with self._postgres.connection() as connection:
            every = primary_series(connection, asked.dataset, None)
        return {(source, instrument) for _, instrument, source in every if source and source in (asked.series or ())}

    def _stored(self, asked: ReadRequest, held: Sequence[HeldSeries]) -> set[Feed]:
        """Those of the series that have a row, at `as_of` if it is given: then, and where it is stale, reads tell."""
        # The last-value table remembers series of which every row may be deleted by now, and knows nothing of the past.
        # So a stale entry, or any with `as_of`, is only a hint. The asked range is looked at first, since most often it
        # has a row; only a series without one there is searched ever further back.
        doubtful = {(s.source, s.instrument_id): s.newest_ts for s in held if s.is_stale or asked.as_of is not None}
        stored = {feed for s in held if (feed := (s.source, s.instrument_id)) not in doubtful}
        if doubtful:
            seen = self.read(replace(asked, series=by_source(doubtful)), ["source", "instrument_id"]).unique().rows()
            stored.update(seen)
            for feed in doubtful.keys() - stored:
                if self._has_any(replace(asked, series=by_source([feed])), doubtful[feed]):
                    stored.add(feed)
        return stored

    def _has_any(self, asked: ReadRequest, newest_ts: datetime | None) -> bool:
        try:
            return bool(self._newest(asked, newest_ts).height)
        except InputError as error:  # retention has removed what would tell
            raise InputError(
                f"{error}; or pass rollup=False: whether there were bars of {asked.timeframe} then decides from what "
                "the others would be made",
                given=error.given,
                expected=error.expected,
            ) from error

    def _quotes(self, asked: ReadRequest, symbols: Symbols, answered: set[int]) -> ReadRequest | None:
        """The quotes of the instruments that no stored bar answers for, if there are such."""
        names = names_of(symbols)
        if names is not None and len(answered) == len(names):
            return None
        quotes = read_request(self._postgres, QUOTES[asked.dataset.name], symbols=symbols)
        left = {feed for feed in self._feeds(quotes) if feed[1] not in answered}
        return replace(quotes, series=by_source(left), as_of=asked.as_of) if left else None


def _joined(names: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(names))


def _said(route: Route, asked: ReadRequest, plan: ReadPlan) -> ReadPlan:
    if route.is_kept:
        return replace(plan, reason=f"{asked.timeframe} bars are kept; {plan.reason}")
    if not route.is_made:
        return plan
    finer = "the mid prices of quotes" if route.timeframe is None else f"{route.timeframe} bars"
    return replace(plan, reason=f"{asked.timeframe} bars are made from {finer}; {plan.reason}")
