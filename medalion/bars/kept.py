"""Which part of a read of bars kept ones answer, and the proof that they are what would be made now."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from medalion.bars.routes import FIRST, Route, Span, bars_of, by_source, cut, grid_of, merged
from medalion.core.datasets import Dataset
from medalion.observations.selection import ReadRequest
from oltp.hot.sources import KEPT
from oltp.ledger.rollups import Change, KeptSeries, RemovalMarks, changes, removed, series_of
from oltp.server.engine import Connection, Postgres

_MOST_SPANS = 8
"""With more spans that have changed, all that lies between the first and the last is made."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was known of the kept series of a route before their bars were read; equal after, they are current."""

    made_from: Dataset
    series: dict[int, KeptSeries]
    until: int
    removed: RemovalMarks
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class KeptRoutes:
    """What is read instead of a route, and on which evidence; without any it is the route itself."""

    routes: list[Route]
    evidence: Evidence | None = field(default=None)


class KeptBars:
    """The rollups that one store keeps, as a read sees them."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def split(self, asked: ReadRequest, route: Route) -> KeptRoutes:
        """The route with kept bars in the place of what has not changed since they were made."""
        # A write marks no bars as out of date: every write would pay for looking up every rollup. Instead a read asks
        # the ledger what has come in above the number up to which the series are complete. Of several series the lowest
        # number counts for all, so one question serves; what another holds already is made once more, which costs time
        # and never an answer. The question is only as good as the ledger's memory: where entries above the number have
        # been folded away, nothing kept is taken.
        whole = KeptRoutes([route])
        origins = {instrument: (source, *_made_from(route)) for source, instrument in route.keepable}
        if not origins:
            return whole
        with self._postgres.connection() as connection:
            found = series_of(connection, asked.dataset.name, asked.timeframe or "", sorted(origins))
            series = {one: kept for one, kept in found.items() if kept.origin == origins[one]}
            if not series:
                return whole
            until = min(kept.until for kept in series.values())
            evidence = _evidence(connection, asked.dataset, route, series, until)
        if evidence.removed.folded_until > until:
            return whole
        kept_feeds = {(kept.source, one) for one, kept in series.items()}
        rest, within = cut(asked.during, self._changed(asked, route, evidence))
        if not rest:
            return whole
        stored = by_source((KEPT + source, one) for source, one in kept_feeds)
        kept_asked = replace(asked, series=stored)
        routes = [Route(replace(kept_asked, during=during), is_kept=True) for during in rest]
        changed = replace(route.asked, series=by_source(kept_feeds))
        grid = grid_of(asked)
        routes += [
            Route(replace(changed, during=grid.rows(during, route.timeframe)), is_made=True) for during in within
        ]
        if others := set(route.feeds) - kept_feeds:
            routes.append(Route(replace(route.asked, series=by_source(others)), is_made=True))
        return KeptRoutes(routes, evidence)

    def still_hold(self, asked: ReadRequest, route: Route, evidence: Evidence) -> bool:
        """Whether nothing has come in since that could have changed what was read meanwhile, or tear it."""
        # The parts of a split are read one after the other, each at a moment of its own. A write between two of them
        # would show in the one and not in the other, and a refresh between them would rewrite kept bars under the
        # reader. Both leave a trace in what is asked here again, above the number of before and not that of now: a
        # refresh moves the number on, but the entries that it answered are still above the old one. A series that was
        # removed and built anew meanwhile has another `built_at`. One snapshot over all parts cannot do it, since
        # the lake is no part of PostgreSQL's.
        with self._postgres.connection() as connection:
            found = series_of(connection, asked.dataset.name, asked.timeframe or "", sorted(evidence.series))
            now = _evidence(connection, asked.dataset, route, evidence.series, evidence.until)
        is_same = all(
            (kept := found.get(one)) is not None and (kept.origin, kept.built_at) == (known.origin, known.built_at)
            for one, known in evidence.series.items()
        )
        return is_same and now == evidence

    def _changed(self, asked: ReadRequest, route: Route, evidence: Evidence) -> list[Span]:
        """The spans of bars that may not be what they were."""
        spans = changed_spans(asked, route, evidence.changes)
        gone = evidence.removed
        knows_all = all(kept.dropped_at == gone.dropped_at for kept in evidence.series.values())
        if gone.is_dropping or not knows_all:
            spans += removed_spans(asked, route, gone)
        spans = merged(spans)
        return spans if len(spans) <= _MOST_SPANS else [(spans[0][0], spans[-1][1])]


def changed_spans(asked: ReadRequest, route: Route, found: Sequence[Change]) -> list[Span]:
    """Of each change the bars that it touches, merged."""
    return merged(bars_of(grid_of(asked), route.timeframe, [(one.first_ts, one.last_ts) for one in found]))


def removed_spans(asked: ReadRequest, route: Route, gone: RemovalMarks) -> list[Span]:
    """The bars that retention may have touched."""
    ((_, end),) = bars_of(grid_of(asked), route.timeframe, [(gone.kept_from, gone.kept_from)])
    return [(FIRST, end)]


def _evidence(
    connection: Connection, dataset: Dataset, route: Route, series: dict[int, KeptSeries], until: int
) -> Evidence:
    made_from = route.asked.dataset
    found = changes(
        connection,
        made_from,
        after=until,
        sources=sorted({kept.source for kept in series.values()}),
        instruments=sorted(series),
        during=route.asked.during,
    )
    return Evidence(made_from, series, until, removed(connection, dataset, made_from), found)


def _made_from(route: Route) -> tuple[str, str | None]:
    return route.asked.dataset.name, route.asked.timeframe
