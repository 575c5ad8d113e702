"""Bars of any timeframe: those stored, continued by those that finer bars make, else made of quotes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import polars as pl

from medalion.bars.continuation import NEEDED, continued, open_spans, stored_spans
from medalion.bars.downsampling import with_downsampled
from medalion.bars.kept import KeptBars
from medalion.bars.routes import FIRST, QUOTES, Feed, Route, by_source, grid_of
from medalion.core.datasets import ARRIVAL
from medalion.core.errors import InputError
from medalion.core.time import Timeframe, TimeRange
from medalion.observations.arguments import Symbols, names_of
from medalion.observations.plan import ReadPlan
from medalion.observations.request import read_request
from medalion.observations.selection import BACKWARDS, ReadRequest
from olap.reads.asof import split_adjusted
from olap.reads.rollup import Grid, mid_bars, minutes, needed, rolled_up
from olap.reads.scan import Selection, preferred
from oltp.hot.instruments import splits_of
from oltp.hot.last import HeldSeries, held_series
from oltp.hot.sources import KEPT, observed_series
from oltp.server.engine import Postgres

_ARRIVAL = {column.name for column in ARRIVAL}


class Bars:
    """Bars of one timeframe, read through one store: those stored, continued by those that finer bars make."""

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
        if len(routes) == 1 and not routes[0].is_made and not routes[0].finer:
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
            sources=tuple(dict.fromkeys(source for plan in plans for source in plan.sources)),
            hidden=tuple(dict.fromkeys(source for plan in plans for source in plan.hidden)),
        )

    def part(
        self, route: Route, asked: ReadRequest, columns: Sequence[str], *, is_adjusted: bool = False
    ) -> pl.DataFrame:
        """The bars of one route, in no order; of those that are made the source says so."""
        if route.is_kept:
            return self.read(route.asked, columns)
        if not route.is_made:
            return self._continued(route, columns, is_adjusted=is_adjusted)
        grid = grid_of(asked)
        names = needed(columns, from_quotes=route.timeframe is None)
        if route.timeframe is None:
            rows = mid_bars(self.read(route.asked, names))
            rows = with_downsampled(self._postgres, self.read, route, asked, rows)
            rows = self._adjusted(rows, route) if is_adjusted else rows
        else:
            rows = self._continued(route, names, is_adjusted=is_adjusted)
            if route.finer or route.asked.preference:
                rows = _of_one_source(rows, grid.bucket(route.timeframe))
        made = rolled_up(asked.dataset, rows, grid, route.timeframe, columns=list(dict.fromkeys([*columns, "source"])))
        if route.timeframe is None and route.asked.preference:
            # Of the bars that several sources' quotes make for one time that of the most preferred: they never mix.
            made = preferred(made.lazy(), route.asked.preference, ("instrument_id", "ts")).collect()
        return made.with_columns(pl.concat_str(pl.lit(KEPT), "source").alias("source")).select(columns)

    def _continued(self, route: Route, columns: Sequence[str], *, is_adjusted: bool) -> pl.DataFrame:
        """The stored bars of a route, continued by bars made of finer ones."""
        asked, names = route.asked, list(columns)
        if route.finer:
            names = list(dict.fromkeys([*columns, *NEEDED]))
        rows = self.read(asked, list(dict.fromkeys([*names, *(("instrument_id", "ts") if is_adjusted else ())])))
        bars = self._adjusted(rows, route) if is_adjusted else rows
        if not route.finer:
            return bars.select(columns)
        grid = grid_of(asked)
        stored = stored_spans(grid, rows)
        parts = []
        for during, few in open_spans(asked.during, asked.instruments or [], stored, route.newest):
            timeframe, *rest = route.finer
            series = {source: sorted({*few} & {*(group or ())}) for source, group in (asked.series or {}).items()}
            inner = replace(asked, during=during, series={source: group for source, group in series.items() if group})
            finer = replace(inner, timeframe=str(timeframe), during=grid.rows(during, timeframe))
            made = self.part(Route(finer, True, finer=tuple(rest), newest=route.newest), inner, names)
            parts.append(made)
        if not parts:
            return bars.select(columns)
        found = continued(
            grid,
            bars.select(names),
            pl.concat(parts),
            stored,
            has_earlier=lambda one: self._has_before(asked, one),
            has_later=lambda one: self._has_after(asked, one),
        )
        return found.select(columns)

    def _has_before(self, asked: ReadRequest, instrument: int) -> bool:
        """Whether an instrument has a stored bar before the range."""
        start = asked.during.start
        if start is None:
            return False
        one = _only(asked, instrument)
        spans = [TimeRange(since, start) for since in (*(start - span for span in BACKWARDS), None)]
        with _deciding(asked):
            return any(self.read(replace(one, during=span), ["ts"]).height for span in spans)

    def _has_after(self, asked: ReadRequest, instrument: int) -> bool:
        """Whether an instrument has a stored bar after the range."""
        end = asked.during.end
        if end is None:
            return False
        return self.read(replace(_only(asked, instrument), during=TimeRange(end, None)), ["ts"]).height > 0

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
        """One for each ladder of timeframes that some series stand on; the read as it was asked where it is enough.

        The ladder of an instrument begins with the asked timeframe if there are stored bars of it, else with the
        coarsest finer one, and each of its rungs divides the one above. One without any is made of quotes.
        """
        # A rung stands in the ladder also where nothing of it was there at `as_of`: then all of it is continued by the
        # next rung, as if it had never been there.
        grid = grid_of(asked)
        feeds = self._feeds(asked)
        held = self._held(asked, feeds)
        ladders, newest = _ladders(grid, held)
        routes: list[Route] = []
        groups: dict[tuple[Timeframe, ...], set[int]] = {}
        for instrument, ladder in ladders.items():
            groups.setdefault(ladder, set()).add(instrument)
        for (first, *finer), few in groups.items():
            wanted = replace(
                asked,
                during=asked.during if first == grid.timeframe else grid.rows(asked.during, first),
                timeframe=str(first),
                series=by_source(feed for feed in feeds if feed[1] in few),
                preference={one: order for one, order in asked.preference.items() if one in few},
            )
            is_made = first != grid.timeframe
            routes.append(Route(wanted, is_made, finer=tuple(finer), newest={one: newest[one] for one in few}))
        if grid.is_made and (quotes := self._quotes(asked, symbols, held)):
            routes.append(Route(replace(quotes, during=grid.rows(asked.during, None)), is_made=True))
        return routes if any(route.is_made or route.finer for route in routes) else [Route(asked)]

    def _feeds(self, asked: ReadRequest) -> set[Feed]:
        if asked.series is not None and None not in asked.series.values():
            return {(source, instrument) for source, group in asked.series.items() for instrument in group or ()}
        with self._postgres.connection() as connection:
            every = observed_series(connection, asked.dataset, None)
        return {
            (source, one.instrument_id) for one in every for source in one.sources if source in (asked.series or ())
        }

    def _held(self, asked: ReadRequest, feeds: set[Feed]) -> dict[Timeframe, list[HeldSeries]]:
        """The stored series by timeframe; with `as_of` also those of which there was none yet, or none any more."""
        with self._postgres.connection() as connection:
            sources, instruments = {source for source, _ in feeds}, {instrument for _, instrument in feeds}
            found = held_series(connection, asked.dataset, list(sources), list(instruments))
        # The last-value table remembers series of which every row may be deleted by now: a stale entry is only a hint.
        stale = [one for one in found if one.is_stale and asked.as_of is None]
        gone = set(stale) - self._with_rows(asked, stale)
        held: dict[Timeframe, list[HeldSeries]] = {}
        for one in found:
            if (one.source, one.instrument_id) in feeds and one not in gone:
                held.setdefault(Timeframe.parse(one.timeframe), []).append(one)
        return held

    def _quotes(
        self, asked: ReadRequest, symbols: Symbols, held: Mapping[Timeframe, Sequence[HeldSeries]]
    ) -> ReadRequest | None:
        """The quotes of the instruments that have no stored bar of which those asked for come, if there are such."""
        grid = grid_of(asked)
        fitting = [some for each, some in held.items() if each == grid.timeframe or grid.is_divided_by(each)]
        series = [one for some in fitting for one in some]
        answered = {one.instrument_id for one in series if asked.as_of is None}
        names = names_of(symbols)
        if names is not None and len(answered) == len(names):
            return None
        quotes = read_request(self._postgres, QUOTES[asked.dataset.name], symbols=symbols, source=asked.sources)
        left = {feed for feed in self._feeds(quotes) if feed[1] not in answered}
        if asked.as_of is not None:
            quoted = {instrument for _, instrument in left}
            doubtful = [one for one in series if one.instrument_id in quoted]
            answered = {one.instrument_id for one in self._with_rows(asked, doubtful)}
            left = {feed for feed in left if feed[1] not in answered}
        return replace(quotes, series=by_source(left), as_of=asked.as_of) if left else None

    def _with_rows(self, asked: ReadRequest, doubtful: Sequence[HeldSeries]) -> set[HeldSeries]:
        """Those of the series that have a row, at `as_of` if it is given; only reads can tell."""
        # The asked range is looked at first, since most often it has a row; only a series without one there is searched
        # ever further back.
        found: set[HeldSeries] = set()
        for timeframe in dict.fromkeys(one.timeframe for one in doubtful):
            some = [one for one in doubtful if one.timeframe == timeframe]
            wanted = replace(asked, timeframe=timeframe, preference={})
            seen = replace(wanted, series=by_source((one.source, one.instrument_id) for one in some))
            rows = set(self.read(seen, ["source", "instrument_id"]).unique().rows())
            for one in some:
                single = replace(wanted, series={one.source: [one.instrument_id]})
                if (one.source, one.instrument_id) in rows or self._has_any(single, one.newest_ts):
                    found.add(one)
        return found

    def _has_any(self, asked: ReadRequest, newest_ts: datetime | None) -> bool:
        with _deciding(asked):
            return bool(self._newest(asked, newest_ts).height)


@contextmanager
def _deciding(asked: ReadRequest) -> Iterator[None]:
    """Say what can be done where retention has removed what would tell whether there was a bar."""
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{error}; or pass rollup=False: whether there were bars of {asked.timeframe} then decides from what "
            "the others would be made",
            given=error.given,
            expected=error.expected,
        ) from error


def _ladders(
    grid: Grid, held: Mapping[Timeframe, Sequence[HeldSeries]]
) -> tuple[dict[int, tuple[Timeframe, ...]], dict[int, datetime]]:
    """Of each instrument the timeframes on which its bars stand, and the newest time of all but the first."""
    finer = sorted((each for each in held if grid.is_divided_by(each)), key=minutes, reverse=True)
    ladders: dict[int, tuple[Timeframe, ...]] = {}
    newest: dict[int, datetime] = {}
    for timeframe in [*([grid.timeframe] if grid.timeframe in held else []), *finer]:
        for series in held[timeframe]:
            ladder = ladders.get(series.instrument_id, ())
            if not ladder or replace(grid, timeframe=ladder[-1]).is_divided_by(timeframe):
                ladder = ladders[series.instrument_id] = (*ladder, timeframe)
            if ladder[0] != timeframe:
                newest[series.instrument_id] = max(series.newest_ts, newest.get(series.instrument_id, series.newest_ts))
    return ladders, {instrument: newest.get(instrument, FIRST) for instrument in ladders}


def _only(asked: ReadRequest, instrument: int) -> ReadRequest:
    """The same of one instrument."""
    series = {source: [instrument] for source, group in (asked.series or {}).items() if instrument in (group or ())}
    return replace(asked, series=series)


def _of_one_source(rows: pl.DataFrame, bucket: pl.Expr) -> pl.DataFrame:
    """Finer bars that several sources have, or the store has made, under one name for each bar that they make."""
    each = pl.col("source").str.strip_prefix(KEPT).str.split("+").explode()
    return rows.with_columns(each.unique().sort().str.join("+").over("instrument_id", bucket).alias("source"))


def _joined(names: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(names))


def _said(route: Route, asked: ReadRequest, plan: ReadPlan) -> ReadPlan:
    if route.is_kept:
        return replace(plan, reason=f"{asked.timeframe} bars are kept; {plan.reason}")
    if route.finer:
        finer = " and ".join(f"{timeframe} bars" for timeframe in route.finer)
        plan = replace(plan, reason=f"{plan.reason}; before the first stored bar and after the last from {finer}")
    if not route.is_made:
        return plan
    finer = "the mid prices of quotes" if route.timeframe is None else f"{route.timeframe} bars"
    return replace(plan, reason=f"{asked.timeframe} bars are made from {finer}; {plan.reason}")
