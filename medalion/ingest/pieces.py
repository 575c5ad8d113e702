"""A source → rows of a dataset that are ready to be stored, piece by piece and in order; bad rows apart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError
from medalion.core.events import RepeatedPrints
from medalion.core.frames import conform
from medalion.core.workers import in_turn
from medalion.ingest.columns import ColumnMapping, Zones, check_zones
from medalion.ingest.rejects import Faults, RejectsFile, refused
from medalion.ingest.sources import ImportProgress, Piece, Source

Instruments: TypeAlias = Callable[[Sequence[str]], dict[str, int]]
"""The numbers of symbols; of an unknown one none, or an error."""

_FITTERS = 2


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """How an import reads its source; see `Observations.import_history`."""

    source: str = "manual"
    mapped: ColumnMapping = field(default_factory=ColumnMapping)
    rejects: Path | None = None
    max_rejects: int | None = None
    progress: Callable[[ImportProgress], object] | None = None

    def __post_init__(self) -> None:
        if self.max_rejects is not None and (self.rejects is None or self.max_rejects < 0):
            raise InputError(
                f"max_rejects={self.max_rejects!r} needs rejects=, and is 0 or more", given=self.max_rejects
            )


@dataclass(frozen=True, slots=True)
class FittedRows:
    """A piece as the dataset wants it; its bad rows as the rejects file shows them; whether a file `begins` with it."""

    rows: pl.DataFrame
    rejected: pl.DataFrame | None
    zones: Zones
    begins: bool


class InstrumentLookup:
    """Symbols looked up once each, from several threads."""

    def __init__(self, look_up: Instruments) -> None:
        self._look_up = look_up
        self._numbers: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def __call__(self, symbols: Sequence[str]) -> dict[str, int]:
        """The number of each symbol that has one."""
        with self._lock:
            new = [symbol for symbol in symbols if symbol not in self._numbers]
            if new:
                self._numbers |= dict.fromkeys(new) | self._look_up(new)
            return {symbol: number for symbol in symbols if (number := self._numbers[symbol]) is not None}


def fit(dataset: Dataset, reading: ImportPlan, piece: Piece, instruments: Instruments) -> FittedRows:
    """The rows of a piece that can be stored, and the others."""
    faults, zones = Faults(), Zones()
    named = reading.mapped.named(dataset, piece.frame)
    if piece.beyond is not None:
        is_longer = piece.beyond.is_not_null()
        faults(is_longer, "what follows the last column", piece.beyond, "expected as many cells as the header has")
    typed = reading.mapped.typed(dataset, named, zones, faults)
    check_zones(zones)
    rows = conform(dataset, typed, source=reading.source, on_bad=faults)
    _check_none(dataset, reading, piece, named, faults)  # before symbols, of which a bad row may have none
    rows = _numbered(rows, faults, instruments)
    _check_none(dataset, reading, piece, named, faults)
    if not faults.reasons:
        return FittedRows(rows, None, zones, piece.first_row == 1)
    is_bad = pl.int_range(pl.len()).is_in(faults.rows())
    return FittedRows(rows.filter(~is_bad), faults.rejected(dataset, piece, named), zones, piece.first_row == 1)


def _check_none(dataset: Dataset, reading: ImportPlan, piece: Piece, named: pl.DataFrame, faults: Faults) -> None:
    if faults.reasons and reading.rejects is None:
        raise refused(faults.rejected(dataset, piece, named), hint="rejects= (--rejects) sets such rows aside")


def _numbered(rows: pl.DataFrame, faults: Faults, instruments: Instruments) -> pl.DataFrame:
    """The rows with the `instrument_id` of each symbol, which is null where there is none."""
    encoded = rows["symbol"].to_arrow().dictionary_encode()
    symbols, places = pl.Series(encoded.dictionary, dtype=pl.String), pl.Series(encoded.indices)
    named = symbols
    if faults.reasons:
        good = places.filter(~pl.int_range(rows.height, eager=True).is_in(faults.rows()))
        named = symbols.gather(good.drop_nulls().unique())
    known = instruments(named.to_list())
    numbers = pl.Series([known.get(symbol) for symbol in symbols], dtype=pl.Int64).gather(places)
    if numbers.null_count():
        faults(numbers.is_null(), "symbol", rows["symbol"], "no such symbol is known; create it first")
    given = rows["instrument_id"]
    if given.null_count() < rows.height:
        faults((given != numbers).fill_null(False), "instrument_id", given, "it is not that of the symbol")
    return rows.with_columns(numbers.alias("instrument_id"))


def fitted(
    dataset: Dataset, source: Source, reading: ImportPlan, instruments: Instruments, rejects: RejectsFile | None
) -> Generator[pl.DataFrame]:
    """The good rows of a source in order; the others go to `rejects`, or are an error where none is asked for.

    Raises:
        InputError: the source cannot be read, its columns are not those of the dataset, or a row is bad.
    """
    zones, bad, prints = Zones(), 0, RepeatedPrints(dataset)
    works = (partial(fit, dataset, reading, piece, instruments) for piece in source.pieces())
    with closing(in_turn(works, workers=_FITTERS)) as pieces:
        for done in pieces:
            for name, zoned in done.zones.items():
                zones.setdefault(name, set()).update(zoned)
            check_zones(zones)
            if done.rejected is not None:
                bad += done.rejected.height
                if reading.max_rejects is not None and bad > reading.max_rejects:
                    raise refused(done.rejected, hint=f"as more than max_rejects={reading.max_rejects} rows are bad")
                if rejects is not None:
                    rejects.add(done.rejected)
            yield prints.told_apart(done.rows, begins=done.begins)


def symbols_of(dataset: Dataset, given: Source, reading: ImportPlan) -> list[str]:
    """Every symbol that the good rows of a source name, in order; reads all of it.

    Raises:
        InputError: as an import would.
    """
    if reading.rejects is not None:
        RejectsFile(reading.rejects, dataset)  # refused now, if it would be later
    found: dict[str, None] = {}
    for rows in fitted(dataset, given, reading, lambda symbols: dict.fromkeys(symbols, 0), None):
        found |= dict.fromkeys(rows["symbol"].unique(maintain_order=True).to_list())
    return list(found)
