"""Why a read has no rows: what is there instead, as a warning at the caller's line."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from medalion.core.datasets import BARS_OF
from medalion.core.errors import EmptyResultWarning, warn_caller
from medalion.observations.arguments import Symbols, names_of
from medalion.observations.coverage import Coverage
from medalion.observations.selection import ReadRequest

_TOLD = 5


def warn_of_absence(coverage: Coverage, asked: ReadRequest, symbols: Symbols, *, is_made: bool = False) -> None:
    """Warn that a read was answered without a row, and say what there is of its symbols.

    With `is_made` bars would have been made of finer ones or of quotes, if there were such.
    """
    names = names_of(symbols)
    dataset, whose = asked.dataset, _some(names or ())
    held = coverage.frame(dataset, symbols=names, start=None, end=None)
    wanted = f" {asked.timeframe}" if asked.timeframe else ""
    said = f"no{wanted} rows of {dataset.name}{f' for {whose}' if whose else ''}{_during(asked)}"
    nothing = "nothing of it is stored" if names else "nothing is stored in it"
    there = f"there is {_spans(held)}" if held.height else nothing
    has_timeframe = asked.timeframe is None or asked.timeframe in held["timeframe"]
    if is_made and not has_timeframe:
        quotes = next((each for each, bars in BARS_OF.items() if bars == dataset), None)
        sources = _spans(coverage.frame(quotes, symbols=names, start=None, end=None)) if quotes else ""
        there += f", and quotes {sources}" if sources else f"; none of {asked.timeframe}"
        there += "" if sources else f", and none in that time from which {asked.timeframe} could be made"
    warn_caller(f"{said}; {there}", EmptyResultWarning)


def _during(asked: ReadRequest) -> str:
    start, end = asked.during.start, asked.during.end
    said = [
        f" from {_day(start)}" if start else "",
        f" until {_day(end)}" if end else "",
        f" as of {_day(asked.as_of)}" if asked.as_of else "",
    ]
    return "".join(said)


def _spans(held: pl.DataFrame) -> str:
    """The series in words, the first few."""
    told = [
        f"{' '.join(filter(None, (symbol, timeframe)))} from {_day(first)} to {_day(last)} ({source})"
        for symbol, timeframe, source, first, last in held.select(
            "symbol", "timeframe", "source", "first", "last"
        ).iter_rows()
    ]
    more = f" and {len(told) - _TOLD:,} series more" if len(told) > _TOLD else ""
    return ", ".join(told[:_TOLD]) + more


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_TOLD]) + (" …" if len(names) > _TOLD else "")


def _day(moment: datetime) -> str:
    is_midnight = moment.time().isoformat() == "00:00:00"
    return moment.date().isoformat() if is_midnight else moment.isoformat().replace("+00:00", "Z")
