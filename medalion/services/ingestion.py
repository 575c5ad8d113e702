"""Rows of datasets on their way in: writes, imports, replacements and deletions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medalion.core.datasets import Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.frames import Frame, conform
from medalion.core.text import checked_name
from medalion.core.time import Instant, Timeframe, TimeRange
from medalion.ingest.columns import ColumnMapping
from medalion.ingest.history import History, ImportResult
from medalion.ingest.pieces import ImportPlan
from medalion.ingest.replacement import Replacement, ReplaceResult
from medalion.ingest.sources import ImportData, ImportProgress, Source
from medalion.mirror.binding import Binding
from medalion.mirror.copy import Copier
from medalion.observations.arguments import ReadRange, SourceNames, Symbols, names_of
from medalion.observations.ranges import RangeReads
from medalion.observations.request import read_request
from olap.delta.lake import Lake
from oltp.hot.writes import WriteResult, hide, write
from oltp.server.engine import Postgres


class Ingestion:
    """Writes to every dataset; calls block, and are safe from several threads."""

    def __init__(self, postgres: Postgres, lake: Lake, copier: Copier) -> None:
        self._postgres = postgres
        self._binding = Binding(postgres, lake)
        self._history = History(postgres, lake, copier, self._binding)
        self._ranges = RangeReads(postgres, lake)

    def write(
        self,
        dataset: str | Dataset,
        frame: Frame,
        *,
        source: str = "manual",
        idempotency_key: str | None = None,
    ) -> WriteResult:
        """Store rows durably and at once visible; all or nothing.

        `frame` is a Polars, pandas or Arrow table with the dataset's columns: `symbol`, `ts` (aware), its values, and
        for bars `timeframe`. A row with the key of an earlier one corrects it. A repeated `idempotency_key` writes
        nothing and returns the first result.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> bar = {"symbol": "AAPL", "timeframe": "1Day", "ts": datetime(2024, 1, 8, tzinfo=UTC), "volume": 59}
        >>> frame = pl.DataFrame([bar | dict.fromkeys(("open", "high", "low", "close"), 185.5)])
        >>> store.write("stock_bars", frame).rows
        1

        Raises:
            InputError: a column is missing or unknown, a type is wrong, a key is null, a number does not fit.
            NotFoundError: a symbol has no asset, option contract or outcome.
            ConflictError: the `idempotency_key` was used for other rows.
        """
        declared = dataset_named(dataset)
        if idempotency_key is not None:
            checked_name(idempotency_key, "idempotency_key")
        rows = conform(declared, frame, source=source)
        with self._postgres.connection() as connection:
            self._binding.check(connection, declared)
            return write(connection, declared, rows, source=source, idempotency_key=idempotency_key)

    def import_history(
        self,
        dataset: str | Dataset,
        data: ImportData,
        *,
        source: str = "manual",
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, object] | None = None,
        ignore: Sequence[str] = (),
        time_zone: str | None = None,
        time_unit: str | None = None,
        rejects: str | Path | None = None,
        max_rejects: int | None = None,
        progress: Callable[[ImportProgress], object] | None = None,
    ) -> ImportResult:
        """Bring bulk history straight into the lake as one write, all or nothing, in bounded memory.

        `data` is a frame, a reader, a CSV or Parquet file, a folder of them, or several of these; of rows with one
        key the last counts. What differs from the current rows of the `source` is stored, and nothing else: the same
        file again changes nothing, and after a correction or a deletion it brings its rows back.

        `columns` says what a column is called in the data, which may then have others that are left out; without it
        those are an error unless in `ignore`. `constants` are columns it lacks. Stamps without a zone need `time_zone`,
        whole numbers `time_unit` (s, ms, us, ns). Bad rows go to the new file `rejects`, each with its reason, at most
        `max_rejects` of them; without it one bad row refuses all. `progress` is called as rows are read.

        >>> import polars as pl
        >>> daily = pl.DataFrame({"Date": ["2023-12-28", "2023-12-29"], "Close": [193, 192]})
        >>> names = {"ts": "Date"} | dict.fromkeys(("open", "high", "low", "close"), "Close")
        >>> same = {"symbol": "AAPL", "timeframe": "1Day", "volume": 0}
        >>> store.import_history("stock_bars", daily, columns=names, constants=same, time_zone="UTC").rows
        2

        Raises:
            InputError, NotFoundError: as `write`; or the data cannot be read.
            CorruptLakeError: lake and ledger do not belong together.
        """
        mapped = ColumnMapping(columns or {}, constants or {}, ignore, time_zone, time_unit)
        how = ImportPlan(source, mapped, None if rejects is None else Path(rejects), max_rejects, progress)
        return self._history.import_rows(dataset_named(dataset), Source(data), how)

    def replace(
        self,
        dataset: str | Dataset,
        frame: Frame,
        *,
        start: Instant,
        end: Instant,
        symbols: Symbols = None,
        timeframe: str | None = None,
        source: str = "manual",
    ) -> ReplaceResult:
        """Make `[start, end)` of the `source` what the frame says, in one write of which nobody sees a part.

        Of `symbols`, and of bars of `timeframe`, by default the frame's, what the frame lacks is deleted, what differs
        is corrected and what is new is added.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> bar = {"symbol": "AAPL", "timeframe": "1Day", "ts": datetime(2024, 1, 9, tzinfo=UTC), "volume": 60}
        >>> frame = pl.DataFrame([bar | dict.fromkeys(("open", "high", "low", "close"), 186.5)])
        >>> store.replace("stock_bars", frame, start="2024-01-09", end="2024-01-12").deleted
        0

        Raises:
            InputError: as `write`; or a row lies outside of the range, or is of another symbol or timeframe.
            NotFoundError: as `write`.
        """
        declared = dataset_named(dataset)
        rows = conform(declared, frame, source=source)
        asked = Replacement.of(
            declared,
            rows,
            TimeRange.of(start, end),
            source=source,
            symbols=names_of(symbols),
            timeframe=None if timeframe is None else str(Timeframe.parse(timeframe)),
        )
        return self._history.replace_rows(asked, rows)

    def delete(
        self,
        dataset: str | Dataset,
        *,
        symbols: Symbols,
        start: Instant | None = None,
        end: Instant | None = None,
        timeframe: str | None = None,
        source: SourceNames = None,
    ) -> int:
        """Hide the rows of `[start, end)` by tombstones, of every source unless one is named; the number of rows.

        All of them at one moment. What an earlier `as_of` read stays.

        >>> store.delete("stock_bars", symbols="AAPL", start="2024-02-01", end="2024-03-01")
        0
        """
        rows_of = ReadRange(symbols=symbols, start=start, end=end, timeframe=timeframe, source=source)
        asked = replace(read_request(self._postgres, dataset, **rows_of), preference={})  # also what no read would show
        rows = self._ranges.rows(asked, [column.name for column in asked.dataset.columns])
        with self._postgres.connection() as connection:
            self._binding.check(connection, asked.dataset)
            hide(connection, asked.dataset, rows)
        return rows.height
