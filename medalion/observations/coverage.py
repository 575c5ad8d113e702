"""What is here: of which series there are rows, between which times, and how many; told without reading them.

The ledger of series and the hot tables tell it. Only series from which rows were deleted are counted, and all of a
dataset once where the ledger has none, as after a rebinding or an upgrade; what was counted is kept.
"""

from collections.abc import Sequence

import polars as pl

from medalion.core.datasets import DATASETS, Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.time import ALWAYS, Instant, TimeRange
from medalion.observations.arguments import Symbols, names_of
from medalion.observations.selection import ReadRequest, no_rows, select
from olap.delta.lake import Lake
from olap.reads.scan import Selection, instruments_of, streamed
from oltp.hot.instruments import kinds_of, unknown_instrument
from oltp.hot.sources import is_made
from oltp.ledger.series import (
    KEY,
    OF_SERIES,
    CountedSeries,
    columns_of,
    counted_series,
    joined,
    keep_counted,
    spans_of,
)
from oltp.server.engine import Postgres

COVERAGE = pl.Schema(
    {
        "dataset": pl.String(),
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "source": pl.String(),
        "first": pl.Datetime("us", "UTC"),
        "last": pl.Datetime("us", "UTC"),
        "rows": pl.Int64(),
        "is_exact": pl.Boolean(),
        "is_made": pl.Boolean(),
        "unmirrored_rows": pl.Int64(),
    }
)


class Coverage:
    """The series of one store."""

    def __init__(self, postgres: Postgres, lake: Lake) -> None:
        self._postgres = postgres
        self._lake = lake

    def frame(
        self, dataset: str | Dataset | None, *, symbols: Symbols, start: Instant | None, end: Instant | None
    ) -> pl.DataFrame:
        """A row a series; see `Observations.coverage`."""
        datasets = list(DATASETS.values()) if dataset is None else [dataset_named(dataset)]
        during, names = TimeRange.of(start, end), names_of(symbols)
        if names is not None:
            self._check(datasets, names)
        parts = [self._of(each) for each in datasets]
        rows = pl.concat([part for part in parts if part.height] or parts[:1])
        if names is not None:
            rows = rows.filter(pl.col("symbol").is_in(names))
        if during.start is not None:
            rows = rows.filter(pl.col("last") >= during.start)
        if during.end is not None:
            rows = rows.filter(pl.col("first") < during.end)
        order = {name: place for place, name in enumerate(DATASETS)}
        place = pl.col("dataset").replace_strict(order, return_dtype=pl.Int64)
        return rows.sort(place, "symbol", "timeframe", "source")

    def symbols(self, dataset: str | Dataset | None) -> list[str]:
        """The names of the instruments that have rows, each once and in order."""
        found: list[str] = self.frame(dataset, symbols=None, start=None, end=None)["symbol"].unique().sort().to_list()
        return found

    def _check(self, datasets: Sequence[Dataset], names: Sequence[str]) -> None:
        kinds = list(dict.fromkeys(dataset.kind for dataset in datasets))
        with self._postgres.connection() as connection:
            known = kinds_of(connection, names)
            for name in names:
                if known.get(name, set()).isdisjoint(kinds):
                    raise unknown_instrument(connection, kinds, name)

    def _of(self, dataset: Dataset) -> pl.DataFrame:
        counted = self._counted(dataset)
        doubtful = counted.spans.filter("is_stale").select(OF_SERIES).unique()
        if (doubtful.height or not counted.is_whole) and not self._postgres.is_replica:
            self._keep(dataset, doubtful if counted.is_whole else None)
            counted = self._counted(dataset)
        if not counted.is_whole:
            found = _counted_rows(self._selected(ReadRequest(dataset, ALWAYS)))
            return _shown(dataset, found, counted)
        spans = joined([counted.spans, counted.unmirrored])
        doubtful = spans.filter("is_stale").select(OF_SERIES).unique()
        if doubtful.height:
            again = _counted_rows(self._selected(ReadRequest(dataset, ALWAYS, _by_source(doubtful))))
            spans = pl.concat([spans.join(doubtful, on=OF_SERIES, how="anti"), again])
        return _shown(dataset, spans, counted)

    def _selected(self, asked: ReadRequest) -> Selection:
        selection, _, _ = select(self._postgres, self._lake.table(asked.dataset), asked)
        return selection

    def _counted(self, dataset: Dataset) -> CountedSeries:
        with self._postgres.arrow() as connection:
            return counted_series(connection, dataset)

    def _keep(self, dataset: Dataset, doubtful: pl.DataFrame | None) -> None:
        """Count series in the lake, and keep what was found; None is all of them."""
        table = self._lake.table(dataset)
        pin = table.refresh()
        series = None if doubtful is None else _by_source(doubtful)
        files = pin.files.selected(instruments_of(series), ALWAYS)
        found = _counted_rows(Selection(dataset, table.place, files, no_rows(dataset), ALWAYS, series))
        with self._postgres.connection() as connection:
            keep_counted(connection, dataset, found, counted=pin.batch, of=doubtful)


def _by_source(series: pl.DataFrame) -> dict[str, list[int]]:
    """The instruments of each source, as a selection names them."""
    found: dict[str, list[int]] = {}
    for instrument, source in series.select(OF_SERIES).iter_rows():
        found.setdefault(source, []).append(instrument)
    return found


def _counted_rows(selection: Selection) -> pl.DataFrame:
    """The spans of the current rows, each exact."""
    rows = streamed(selection, columns_of(selection.dataset))
    parts = (spans_of(selection.dataset, part.lazy()).collect() for part in rows)
    return joined(list(parts)).with_columns(is_exact=True, is_stale=False)


def _shown(dataset: Dataset, spans: pl.DataFrame, counted: CountedSeries) -> pl.DataFrame:
    """The series as the caller sees them, by the names of today."""
    waiting = counted.unmirrored.select(*KEY, unmirrored_rows="rows")
    is_ours = {source: is_made(source) for source in spans["source"].unique()}
    return (
        spans.filter(pl.col("rows") > 0)
        .join(waiting, on=KEY, how="left")
        .join(counted.names, on="instrument_id", how="left")
        .select(
            dataset=pl.lit(dataset.name),
            symbol=pl.coalesce("name", "symbol"),
            timeframe=pl.col("timeframe").replace("", None),
            source="source",
            first="first_ts",
            last="last_ts",
            rows="rows",
            is_exact="is_exact",
            is_made=pl.col("source").replace_strict(is_ours, return_dtype=pl.Boolean),
            unmirrored_rows=pl.col("unmirrored_rows").fill_null(0),
        )
    )
