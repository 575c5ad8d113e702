"""Reads of datasets, each routed to the store and engine that fit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from medalion.bars.read import Bars
from medalion.core.datasets import CRYPTO_BARS, CRYPTO_QUOTES, OPTION_QUOTES, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.errors import InputError
from medalion.core.frames import Frame, as_floats
from medalion.core.time import Instant, Timeframe, utc
from medalion.journal.metrics import Record, ignore, timed
from medalion.observations.absence import warn_of_absence
from medalion.observations.arguments import (
    ReadRange,
    SourceNames,
    Symbols,
    checked_seconds,
    columns_of,
)
from medalion.observations.asof import asof as joined
from medalion.observations.coverage import Coverage
from medalion.observations.latest import LatestRows
from medalion.observations.mixing import MixedSources
from medalion.observations.plan import ReadPlan
from medalion.observations.ranges import RangeReads
from medalion.observations.request import dataset_for, read_request
from medalion.observations.selection import ReadRequest
from olap.delta.lake import Lake
from olap.reads.scan import scan
from oltp.server.engine import Postgres

if TYPE_CHECKING:
    import duckdb


class Observations:
    """Reads of every dataset; calls block, and are safe from several threads.

    Whatever gives a frame gives Float64 instead of decimals with `floats=True`, for pandas, numpy and pictures.
    """

    def __init__(
        self,
        postgres: Postgres,
        lake: Lake,
        *,
        record: Record = ignore,
        slow_ms: float | None = None,
    ) -> None:
        self._postgres = postgres
        self._lake = lake
        self._mixing = MixedSources()
        self.record = record
        self.slow_ms = slow_ms
        self._coverage = Coverage(postgres, lake)
        self._ranges = ranges = RangeReads(postgres, lake)
        self._latest = LatestRows(postgres, selected=lambda asked: ranges.planned(asked)[0], again=ranges.again)
        self.bar_reads = Bars(postgres, read=ranges.rows, newest=self._latest.newest, planned=ranges.planned)

    @timed
    def read(
        self,
        dataset: str | Dataset,
        *,
        columns: Sequence[str] | None = None,
        floats: bool = False,
        **rows: Unpack[ReadRange],
    ) -> pl.DataFrame:
        """The current rows of `[start, end)`, sorted by symbol, (timeframe,) ts, with the dataset's schema.

        `symbols` None reads every instrument; `as_of` reads what this store held at that time. Of bars there is one a
        time, from the most preferred source that has it (see `store.sources`); of all else the rows of every source,
        unless `source` names one or several.

        >>> store.read("stock_bars", symbols="AAPL", start="2024-01-02", end="2024-01-04").height
        2

        Raises:
            NotFoundError: the dataset or a symbol is not known.
            InputError: a naive time, `end` before `start`, an unknown column, or an `as_of` that is not settled.
            CorruptLakeError: lake and ledger do not belong together, or a file is damaged.
        """
        asked = read_request(self._postgres, dataset, **rows)
        self._mixing.tell(asked)
        found = self._ranges.rows(asked, columns_of(asked.dataset, columns))
        return self._given(found, asked, rows.get("symbols"), floats)

    def scan(
        self,
        dataset: str | Dataset,
        *,
        columns: Sequence[str] | None = None,
        floats: bool = False,
        **rows: Unpack[ReadRange],
    ) -> pl.LazyFrame:
        """The same as `read`, lazily: filters and projections reach the files, and the result may exceed memory.

        The frame owns its pinned files and unmirrored rows: collecting it twice gives the same answer.

        >>> store.scan("stock_bars", end="2024-01-06").select("close").max().collect().item() > 180
        True
        """
        asked = read_request(self._postgres, dataset, **rows)
        self._mixing.tell(asked)
        found = scan(self._ranges.planned(asked)[0], columns=columns_of(asked.dataset, columns))
        return as_floats(found) if floats else found

    def explain(self, dataset: str | Dataset, *, rollup: bool = False, **rows: Unpack[ReadRange]) -> ReadPlan:
        """How `read` with the same arguments would be answered: store, engine, files, rows and the reason.

        With `rollup` how `bars` would: the reason says what its bars are made from, if they are not stored.

        >>> store.explain("stock_bars", symbols="AAPL", end="2024-01-06").engine
        'polars'
        """
        asked = read_request(self._postgres, dataset, **rows)
        return (
            self.bar_reads.plan(asked, rows.get("symbols"))
            if rollup and asked.timeframe
            else self._ranges.planned(asked)[1]
        )

    @timed
    def bars(
        self,
        symbol: Symbols,
        timeframe: str,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        as_of: Instant | None = None,
        adjust: str = "none",
        columns: Sequence[str] | None = None,
        source: SourceNames = None,
        rollup: bool = True,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Bars of a stock or coin; `adjust="split"` restates earlier prices and volumes in today's shares.

        Stored bars are continued by bars made of the next finer ones: before the first of a series, after the last, and
        in place of one that was recorded long before it closed. Holes between them stay. Where a symbol has none of the
        timeframe, all are made so, else of quotes; `source` says of each that was made `rollup:` and from whom. A bar
        made is known when it closes. With `rollup` False there are stored ones alone. `explain` tells.

        >>> store.bars("AAPL", "1Week", start="2024-01-01", end="2024-01-08")["volume"].cast(int).to_list()
        [273]

        Raises:
            NotFoundError: the symbol is neither a stock's nor a coin's.
            InputError: `adjust` or the timeframe is not known, or a sum of volumes does not fit.
        """
        if adjust not in ("none", "split"):
            raise InputError(f"adjust {adjust!r} is not known", given=adjust, expected="'none' or 'split'")
        declared = dataset_for(self._postgres, symbol, (STOCK_BARS, CRYPTO_BARS))
        length = str(Timeframe.parse(timeframe))
        asked = read_request(
            self._postgres, declared, symbols=symbol, start=start, end=end, as_of=as_of, timeframe=length, source=source
        )
        names = columns_of(declared, columns)
        rows = self.bar_reads.rows(asked, names, symbols=symbol, is_adjusted=adjust == "split", is_rolled_up=rollup)
        return self._given(rows, asked, symbol, floats, is_made=rollup)

    def quotes(
        self,
        symbol: Symbols,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Quotes of a stock, coin or option contract, with `mid_price`, of `[start, end)`, oldest first.

        >>> store.quotes("BTC/USD", start="2024-01-01", end="2024-02-01")["mid_price"].cast(float).to_list()
        [43999.5]

        Raises:
            NotFoundError: the symbol is not known, or of none of these kinds.
            InputError: a naive time, or `end` before `start`.
        """
        declared = dataset_for(self._postgres, symbol, (STOCK_QUOTES, CRYPTO_QUOTES, OPTION_QUOTES))
        return self.read(declared, symbols=symbol, start=start, end=end, as_of=as_of, source=source, floats=floats)

    def latest(
        self,
        dataset: str | Dataset,
        symbol: str,
        *,
        timeframe: str | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
    ) -> dict[str, Any] | None:
        """The newest row of a symbol, whichever source it is of, or None where there is none.

        >>> quote = store.latest("crypto_quote_snapshots", "BTC/USD")
        >>> quote["bid_price"], quote["ask_price"]
        (Decimal('67250.00000000'), Decimal('67251.00000000'))

        Raises:
            NotFoundError: the dataset or symbol is not known.
            InputError: bars without `timeframe`.
        """
        return self._latest.latest(dataset_named(dataset), symbol, timeframe=timeframe, as_of=as_of, source=source)

    def latest_at(
        self, dataset: str | Dataset, symbol: str, t: Instant, *, timeframe: str | None = None
    ) -> dict[str, Any] | None:
        """The newest row of a symbol that was available at `t`, by what is known now, or None; raises as `latest`."""
        return self._latest.latest_at(dataset_named(dataset), symbol, t, timeframe=timeframe)

    def asof(
        self,
        left: Frame,
        dataset: str | Dataset,
        *,
        tolerance: timedelta | None = None,
        timeframe: str | None = None,
        as_of: Instant | None = None,
        source: SourceNames = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """`left` with, beside each row, the newest row of its symbol that was available at its `ts`.

        `left` needs `symbol` and `ts`; its rows and their order stay. Columns that both have get the suffix `_right`.
        A row older than `tolerance` is not taken; nulls where there is none. `as_of` and `source` as `read`.

        >>> import polars as pl
        >>> from datetime import UTC, datetime
        >>> mine = pl.DataFrame({"symbol": ["AAPL"], "ts": [datetime(2024, 1, 4, 15, tzinfo=UTC)]})
        >>> store.asof(mine, "stock_bars", timeframe="1Day")["close"].cast(float).item()  # that of the 3rd
        182.5

        Raises:
            InputError: `left` lacks a column, or its times have no zone; bars without `timeframe`.
        """
        declared = dataset_named(dataset)

        ours = partial(joined, self._postgres, self._lake, left, declared)
        answer = partial(ours, tolerance=tolerance, timeframe=timeframe, as_of=as_of, source=source)
        found = self._ranges.again(declared, answer)
        return as_floats(found) if floats else found

    @timed
    def sql(
        self, query: str, /, *, as_of: Instant | None = None, timeout: float | None = None, **params: Any
    ) -> duckdb.DuckDBPyRelation:
        """One SELECT in DuckDB's dialect over every dataset and entity by its table name, all as of one moment.

        Named parameters are written `$name`. Datasets answer as `read` does; `stock_bars_by_source` and its like have
        the rows of every source. Deleted entities are absent. The relation owns its files and rows: evaluating it twice
        gives the same answer. `.pl()` makes it a Polars frame. `as_of` reads what this store held at that time: of
        entities, what the audit says that they were. An evaluation that takes longer than `timeout` seconds is stopped,
        and so is one at Ctrl-C.

        >>> store.sql("SELECT max(close) FROM stock_bars WHERE symbol = $name", name="AAPL").pl().item() > 180
        True

        Raises:
            InputError: not one SELECT, something in it is wrong, or `as_of` is not settled or not known of a table.
            NotFoundError: a table is not known.
            CorruptLakeError: a file is damaged; also when it is evaluated, as the others, and StoreError at `timeout`.
        """
        checked_seconds(timeout)
        from medalion.observations.sql import query as answered  # loads DuckDB, which narrow reads do without

        moment = None if as_of is None else utc(as_of, name="as_of")
        return answered(self._postgres, self._lake, query, as_of=moment, parameters=params, timeout=timeout)

    def _given(
        self, rows: pl.DataFrame, asked: ReadRequest, symbols: Symbols, floats: bool, *, is_made: bool = False
    ) -> pl.DataFrame:
        """The rows as the caller wants them; an empty answer says why it is."""
        if rows.is_empty():
            warn_of_absence(self._coverage, asked, symbols, is_made=is_made)
        return as_floats(rows) if floats else rows
