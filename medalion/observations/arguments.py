"""What a caller names, checked by declarations alone: no store is open yet, and no engine loaded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypedDict

from medalion.core.datasets import ARRIVAL, Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.errors import InputError, NotFoundError
from medalion.core.text import checked_name
from medalion.core.time import Instant, Timeframe, TimeRange, utc

Symbols: TypeAlias = str | Sequence[str] | None
SourceNames: TypeAlias = str | Sequence[str] | None
"""One source, or several in order of preference; None is every one in the order of the store's preference."""

_MOST_SECONDS = 1e8


class ReadRange(TypedDict, total=False):
    """Which rows of a dataset a read is about; what is left out does not narrow it.

    `symbols` is one or several (None: every instrument), `[start, end)` bounds `ts`, `as_of` reads what this store held
    at that time, and `timeframe` chooses bars of one length. `source` names one source, or several in order of
    preference. Of bars each time has one, from the most preferred source that has it; of all else there are the rows of
    every source. See `store.sources` for what is preferred without it.
    """

    symbols: Symbols
    start: Instant | None
    end: Instant | None
    as_of: Instant | None
    timeframe: str | None
    source: SourceNames


@dataclass(frozen=True, slots=True)
class ReadArguments:
    """What is asked of a dataset; which instruments the symbols are, only a store knows. None is every one."""

    dataset: Dataset
    symbols: list[str] | None
    during: TimeRange
    timeframe: str | None
    as_of: datetime | None
    sources: list[str] | None


def read_arguments(
    dataset: str | Dataset,
    symbols: Symbols = None,
    start: Instant | None = None,
    end: Instant | None = None,
    *,
    as_of: Instant | None = None,
    timeframe: str | None = None,
    source: SourceNames = None,
) -> ReadArguments:
    """The arguments of a read, as they are meant.

    Raises:
        NotFoundError: the dataset is not known.
        InputError: a name, time or timeframe that cannot be meant.
    """
    declared = dataset_named(dataset)
    if timeframe is not None and not declared.has_timeframe:
        raise InputError(f"{declared.name} has no timeframe", given=timeframe, expected=None)
    return ReadArguments(
        dataset=declared,
        symbols=names_of(symbols),
        during=TimeRange.of(start, end),
        timeframe=None if timeframe is None else str(Timeframe.parse(timeframe)),
        as_of=None if as_of is None else utc(as_of, name="as_of"),
        sources=sources_of(source),
    )


def sources_of(source: SourceNames) -> list[str] | None:
    """The sources, each once and in order; None is every one.

    Raises:
        InputError: no name, or none at all.
    """
    if source is None:
        return None
    if not isinstance(source, str) and not isinstance(source, Iterable):
        raise InputError(f"source {source!r} is no name and no list of names", given=source, expected="names")
    given = [source] if isinstance(source, str) else list(source)
    if not given:
        raise InputError("no source is asked for", given=source, expected="one at least, or None for all")
    return list(dict.fromkeys(checked_name(name, "source", longest=100) for name in given))


def names_of(symbols: Symbols) -> list[str] | None:
    """The symbols, each once; None is every one."""
    if symbols is None:
        return None
    if not isinstance(symbols, str) and not isinstance(symbols, Iterable):
        raise InputError(f"symbols {symbols!r} is no name and no list of names", given=symbols, expected="names")
    given = [symbols] if isinstance(symbols, str) else list(symbols)
    return list(dict.fromkeys(checked_name(symbol, "symbol") for symbol in given))


def columns_of(dataset: Dataset, columns: Sequence[str] | None) -> list[str]:
    """The columns to return, one name being a list of one; those of arrival can be asked for by name."""
    columns = [columns] if isinstance(columns, str) else columns
    known = [*dataset.schema.names, *(column.name for column in ARRIVAL if column.name != "is_deleted")]
    for name in columns or ():
        if name not in known:
            raise NotFoundError(f"column of {dataset.name}", name, known=known, hint=f"known: {', '.join(known)}")
    if columns is not None and len(set(columns)) < len(columns):
        raise InputError(f"a column is asked for twice: {', '.join(columns)}", given=columns, expected="each once")
    if columns is not None and not columns:
        raise InputError("no column is asked for", given=columns, expected="one at least, or None for all")
    return dataset.schema.names if columns is None else list(columns)


def checked_seconds(timeout: object) -> None:
    """Raise InputError unless it is None or a number of seconds."""
    is_number = isinstance(timeout, int | float) and 0 < timeout <= _MOST_SECONDS
    if timeout is not None and not is_number:
        raise InputError(f"timeout {timeout!r} is no number of seconds", given=timeout, expected="above 0")
