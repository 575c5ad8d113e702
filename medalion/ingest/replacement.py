"""A range of a source as a frame says it is: what it lacks deleted, what differs corrected, what is new added."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import polars as pl

from medalion.core.datasets import TIMEFRAME, Dataset
from medalion.core.errors import InputError
from medalion.core.time import TimeRange
from medalion.ingest.comparison import compared, key_of
from medalion.mirror.copy import Copier
from medalion.observations.selection import ReadRequest, select
from olap.delta.tables import LakeTable
from olap.reads.scan import stored
from oltp.hot.instruments import instrument_ids, with_instruments
from oltp.hot.writes import WriteResult, exchange, exclude_writes
from oltp.ledger import batches
from oltp.server.engine import Connection, Postgres


@dataclass(frozen=True, slots=True)
class ReplaceResult(WriteResult):
    """One durable replacement: a write of `rows`, tombstones included.

    `deleted` rows are hidden by it, `corrected` ones differ from what was held, and `unchanged` ones were given as they
    were held and are not in the write.
    """

    deleted: int = 0
    corrected: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is to be replaced: the rows of a range, of some symbols and timeframes, of one source.

    Raises:
        InputError: the range has no end or no beginning, or a row lies outside of what is to be replaced.
    """

    dataset: Dataset
    during: TimeRange
    source: str
    symbols: Sequence[str]
    timeframes: Sequence[str]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        rows: pl.DataFrame,
        during: TimeRange,
        *,
        source: str,
        symbols: Sequence[str] | None,
        timeframe: str | None,
    ) -> "Replacement":
        """By default of the symbols and timeframes of the conformed rows."""
        named = rows["symbol"].unique().to_list() if symbols is None else list(symbols)
        lengths = [] if timeframe is None else [timeframe]
        if dataset.has_timeframe and timeframe is None:
            lengths = rows[TIMEFRAME.name].unique().to_list()
        if not named or (dataset.has_timeframe and not lengths):
            raise InputError(
                "without a row nothing tells what is to be replaced; give symbols=, and for bars timeframe=",
                given=symbols,
                expected="symbols",
            )
        made = cls(dataset, during, source, named, lengths)
        made._check(rows)
        return made

    def _check(self, rows: pl.DataFrame) -> None:
        if self.during.start is None or self.during.end is None:
            raise InputError("a replacement needs start= and end=, between which nothing else is left", expected="both")
        outside = rows.filter(
            (pl.col("ts") < self.during.start)
            | (pl.col("ts") >= self.during.end)
            | ~pl.col("symbol").is_in(self.symbols)
            | (~pl.col(TIMEFRAME.name).is_in(self.timeframes) if self.dataset.has_timeframe else pl.lit(False))
        )
        if outside.height:
            row = outside.select(self.dataset.order).row(0)
            raise InputError(
                f"a row of {', '.join(map(str, row))} lies outside of what is replaced, which is {self.during} of "
                f"{', '.join(self.symbols[:5])}; nothing was written",
                given=row,
                expected=self,
            )


def replaced(
    asked: Replacement,
    rows: pl.DataFrame,
    *,
    postgres: Postgres,
    table: LakeTable,
    copier: Copier,
    writer: Connection,
    leader: Connection,
) -> ReplaceResult:
    """Replace a few rows, as one write that neither readers nor `as_of` can see a part of.

    The comparison is made while the dataset is led and no other write is open: what it finds is what it replaces.
    """
    dataset = asked.dataset
    with batches.leading(leader, dataset), writer.transaction():
        copier.finish(leader, dataset)  # a claimed import would be neither in the lake nor a hot row
        exclude_writes(writer, dataset)
        given = with_instruments(writer, dataset, rows)
        given = given.unique(subset=key_of(dataset), keep="last", maintain_order=True)
        instruments = instrument_ids(writer, dataset, asked.symbols).values()
        current = _current(postgres, table, asked, list(instruments))
        changed, corrected = compared(dataset, given, current)
        gone = current.join(given, on=key_of(dataset), how="anti").sort(key_of(dataset)).select(given.columns)
        entry = exchange(writer, dataset, changed, gone, source=asked.source)
    named = {each.name: getattr(entry, each.name) for each in fields(WriteResult)}
    return ReplaceResult(**named, deleted=gone.height, corrected=corrected, unchanged=given.height - changed.height)


def _current(postgres: Postgres, table: LakeTable, asked: Replacement, instruments: Sequence[int]) -> pl.DataFrame:
    timeframe = asked.timeframes[0] if len(asked.timeframes) == 1 else None
    request = ReadRequest(asked.dataset, asked.during, {asked.source: instruments}, timeframe)
    rows = stored(select(postgres, table, request)[0])[0]
    return rows.filter(pl.col(TIMEFRAME.name).is_in(asked.timeframes)) if asked.timeframes else rows
