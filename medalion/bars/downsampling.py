"""Bars that outlive their quotes: made durable before retention drops the quotes, and read in their place after."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import polars as pl

from medalion.bars.routes import Route, grid_of
from medalion.core.datasets import BARS_OF, Dataset, downsampled
from medalion.core.errors import InputError
from medalion.core.time import Timeframe, TimeRange
from medalion.mirror.binding import Binding
from medalion.mirror.removal import Ages, Keep
from medalion.observations import selection
from medalion.observations.selection import ReadRequest
from olap.delta.lake import Lake
from olap.files.index import Files
from olap.files.layout import end_of
from olap.reads.narrow import read as scanned
from olap.reads.rollup import mid_bars, minutes, needed, rolled_up
from oltp.hot.last import held_series
from oltp.hot.sources import DOWNSAMPLED, KEPT
from oltp.hot.writes import write
from oltp.ledger.removals import retention_bounds
from oltp.server.engine import Postgres

_HALF_HOUR = timedelta(minutes=30)
_PIECE_ROWS = 2_000_000
_KEY = ("instrument_id", "source", "ts")
_OPENS = "__opens"


class Downsampling:
    """Makes the bars of a partition of quotes durable before it is dropped; the caller leads the quotes' dataset."""

    def __init__(self, postgres: Postgres, lake: Lake, quotes: Dataset, timeframe: str) -> None:
        self._postgres = postgres
        self._lake = lake
        self._quotes = quotes
        self._timeframe = downsampled(quotes, timeframe)
        self._bars = BARS_OF[quotes.name]
        self._binding = Binding(postgres, lake)

    def keep(self, period: str, files: Files) -> int:
        """The number of bars written. Where a partition was dropped before, bars that are kept stay as they are."""
        with self._postgres.connection() as connection:
            was_dropped = end_of(period) <= retention_bounds(connection, self._quotes).kept_from
        written = 0
        for during in _pieces(period, int(files.rows.sum())):
            rows = self._made(during)
            held = self._read(self._bars, during, [column.name for column in self._bars.columns])
            is_ours = pl.col("source").str.starts_with(DOWNSAMPLED)
            stored, ours = held.filter(~is_ours & ~pl.col("source").str.starts_with(KEPT)), held.filter(is_ours)
            rows = rows.join(stored, on=["instrument_id", "ts"], how="anti")
            same = _KEY if was_dropped else rows.columns
            rows = rows.join(ours, on=same, how="anti", nulls_equal=True)
            written += rows.height
            for (source,), part in rows.group_by("source"):
                with self._postgres.connection() as connection:
                    self._binding.check(connection, self._bars)
                    write(connection, self._bars, part, source=str(source), is_ours=True)
        return written

    def _made(self, during: TimeRange) -> pl.DataFrame:
        columns = [column.name for column in self._bars.columns]
        asked = ReadRequest(self._bars, during, timeframe=str(self._timeframe))
        quotes = self._read(self._quotes, during, needed(columns, from_quotes=True))
        rows = rolled_up(self._bars, mid_bars(quotes), grid_of(asked), None, columns=columns)
        return rows.with_columns(pl.concat_str(pl.lit(DOWNSAMPLED), "source").alias("source"))

    def _read(self, dataset: Dataset, during: TimeRange, columns: Sequence[str]) -> pl.DataFrame:
        """The current rows of every source."""
        timeframe = str(self._timeframe) if dataset.has_timeframe else None
        table = self._lake.table(dataset)
        selected, _, _ = selection.select(self._postgres, table, ReadRequest(dataset, during, timeframe=timeframe))
        return scanned(selected, columns=columns)


def keepers(
    postgres: Postgres, lake: Lake, datasets: Sequence[Dataset], ages: Ages, timeframe: str | None
) -> list[Keep | None]:
    """For each dataset what keeps bars of its quotes; None without a timeframe.

    Raises:
        InputError: a dataset that cannot be downsampled, or no age of rows.
    """
    if timeframe is None:
        return [None] * len(datasets)
    if ages.rows is None:
        raise InputError("only rows are downsampled; give rows_older_than= too", given=timeframe)
    return [Downsampling(postgres, lake, dataset, timeframe).keep for dataset in datasets]


def _pieces(period: str, rows: int) -> Iterator[TimeRange]:
    """A day in spans of whole half hours, of so many quotes on average as memory holds."""
    end = end_of(period)
    start, span = end - timedelta(days=1), _HALF_HOUR * max(1, 48 * _PIECE_ROWS // max(rows, 1))
    while start < end:
        following = min(start + span, end)
        yield TimeRange(start, following)
        start = following


def with_downsampled(
    postgres: Postgres,
    read: Callable[[ReadRequest, Sequence[str]], pl.DataFrame],
    route: Route,
    asked: ReadRequest,
    rows: pl.DataFrame,
) -> pl.DataFrame:
    """The bars of single quotes with those that outlived their quotes, in which what still comes in changes nothing."""
    during, grid = route.asked.during, grid_of(asked)
    with postgres.connection() as connection:
        kept_from = retention_bounds(connection, route.asked.dataset).kept_from
        if during.start is not None and during.start >= kept_from:
            return rows
        series = {DOWNSAMPLED + source: group for source, group in (route.asked.series or {}).items()}
        instruments = route.asked.instruments or []
        found = held_series(connection, asked.dataset, list(series), instruments)
    timeframes = {Timeframe.parse(held.timeframe) for held in found}
    names = [name for name in rows.columns if name not in ("bid_price", "ask_price", "mid_price")]
    rows = rows.select(names)
    end = kept_from if during.end is None else min(during.end, kept_from)
    span = replace(asked, during=TimeRange(during.start, end), series=series)
    for timeframe in sorted(timeframes, key=minutes):
        if timeframe != grid.timeframe and not grid.is_divided_by(timeframe):
            continue
        bars = read(replace(span, timeframe=str(timeframe)), names)
        bars = bars.with_columns(pl.col("source").str.strip_prefix(DOWNSAMPLED))
        covered = bars.select("instrument_id", "source", pl.col("ts").alias(_OPENS))
        opens = pl.col("ts").dt.truncate(f"{timeframe.count}m").alias(_OPENS)
        late = rows.with_columns(opens).join(covered, on=covered.columns, how="anti")
        rows = pl.concat([late.select(names), bars.select(names)])
    return rows
