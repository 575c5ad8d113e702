"""Which rows a read of bars takes for which series, and the spans of time in which kept bars may stand for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import polars as pl

from medalion.core.datasets import BARS_OF, DATASETS
from medalion.core.enums import InstrumentKind
from medalion.core.time import Timeframe, TimeRange
from medalion.market.calendar import sessions_between
from medalion.observations.selection import ReadRequest
from olap.reads.rollup import Grid

QUOTES = {bars.name: DATASETS[quotes] for quotes, bars in BARS_OF.items()}
"""From which quotes bars are made."""

Feed: TypeAlias = tuple[str, int]
"""A source and the instrument it answers for."""

Span: TypeAlias = tuple[datetime, datetime]

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Route:
    """What is read for some of the series, and whether bars are made of it, it has them, or they were kept.

    `finer` are the timeframes, each a part of the one before, that continue what is read before its first bar and after
    its last one; `newest` is for each instrument the newest time that any of these has, or has had.
    """

    asked: ReadRequest
    is_made: bool = False
    is_kept: bool = False
    finer: tuple[Timeframe, ...] = ()
    newest: Mapping[int, datetime] = field(default_factory=dict)

    @property
    def timeframe(self) -> Timeframe | None:
        """That of the bars that are read; None for quotes."""
        return None if self.asked.timeframe is None else Timeframe.parse(self.asked.timeframe)

    @property
    def feeds(self) -> list[Feed]:
        """Every source with each of the instruments that it answers for."""
        return [(source, one) for source, group in (self.asked.series or {}).items() for one in group or ()]

    @property
    def keepable(self) -> list[Feed]:
        """The series whose bars can be kept: made of one timeframe, or of quotes, of one source."""
        # What continues another timeframe, or stands in for another source, goes when that comes, without a change of
        # its own rows by which a kept bar would be known to be out of date.
        preference = self.asked.preference
        return [feed for feed in self.feeds if feed[1] not in preference] if self.is_made and not self.finer else []


def grid_of(asked: ReadRequest) -> Grid:
    """Where the bars that are asked for open and close; those of stocks by the exchange's days."""
    sessions = sessions_between if asked.dataset.kind is InstrumentKind.STOCK else None
    return Grid(Timeframe.parse(asked.timeframe or ""), sessions)


def by_source(feeds: Iterable[Feed]) -> dict[str, list[int]]:
    """The instruments of each source, both ascending."""
    series: dict[str, list[int]] = {}
    for source, instrument in sorted(feeds):
        series.setdefault(source, []).append(instrument)
    return series


def bars_of(grid: Grid, finer: Timeframe | None, spans: Sequence[Span]) -> list[Span]:
    """From the opening edge of the bar that holds the first row of each span to the closing edge of the last one's."""
    if not spans:
        return []
    rows = pl.DataFrame(spans, schema={"first": _TIME, "last": _TIME}, orient="row")
    edges = []
    for place, name in enumerate(("first", "last")):
        bucket = rows.select(pl.col(name).alias("ts")).select(grid.bucket(finer).alias("bucket"))
        edges.append(bucket.select(grid.edges(pl.col("bucket"))[place].alias(name)).to_series().to_list())
    return list(zip(*edges, strict=True))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same moments in spans that do not touch, in order."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def cut(during: TimeRange, spans: Sequence[Span]) -> tuple[list[TimeRange], list[TimeRange]]:
    """A range without merged spans, and those within it; both half-open."""
    start, end = during.start or FIRST, during.end or LAST
    rest, within = [], []
    for first, last in spans:
        low, high = max(first, start), min(last, end)
        if low >= high:
            continue
        within.append(_range(low, high))
        if start < low:
            rest.append(_range(start, low))
        start = high
    if start < end:
        rest.append(_range(start, end))
    return rest, within


def _range(start: datetime, end: datetime) -> TimeRange:
    return TimeRange(None if start == FIRST else start, None if end == LAST else end)


_TIME = pl.Datetime("us", "UTC")
