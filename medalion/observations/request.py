"""What a caller asks for → what a read needs: symbols as instruments and sources."""

from collections.abc import Mapping, Sequence
from typing import Unpack

from medalion.core.datasets import Dataset
from medalion.core.errors import InputError, MedalionError, NotFoundError
from medalion.observations.arguments import ReadRange, Symbols, names_of, read_arguments
from medalion.observations.selection import ReadRequest
from oltp.hot.instruments import kinds_of, unknown_instrument, unknown_symbol
from oltp.hot.sources import ObservedSeries, observed_series
from oltp.server.engine import Postgres


def read_request(postgres: Postgres, dataset: str | Dataset, **rows: Unpack[ReadRange]) -> ReadRequest:
    """What a read with these arguments (see `ReadRange`) asks for, with its symbols resolved.

    Raises:
        NotFoundError: the dataset or a symbol is not known.
        InputError: a name, time or timeframe that cannot be meant.
    """
    asked = read_arguments(dataset, **rows)
    with postgres.connection() as connection:
        found = observed_series(connection, asked.dataset, asked.symbols, as_of=asked.as_of)
        for name in set(asked.symbols or ()).difference(one.symbol for one in found):
            raise unknown_symbol(connection, asked.dataset, name)
    series: dict[str, list[int]] = {}
    for one in found:
        for source in asked.sources or one.sources:
            series.setdefault(source, []).append(one.instrument_id)
    # Of bars one source at a time answers, and a source that comes to an instrument meanwhile may not be a second one.
    is_every = asked.symbols is None and (len(series) == 1 or not asked.dataset.has_timeframe)
    return ReadRequest(
        dataset=asked.dataset,
        during=asked.during,
        series=dict.fromkeys(series) if is_every else dict(series),
        timeframe=asked.timeframe,
        as_of=asked.as_of,
        preference={
            one.instrument_id: tuple(asked.sources or one.sources)
            for one in found
            if len(asked.sources or one.sources) > 1
        },
        sources=None if asked.sources is None else tuple(asked.sources),
        hidden=_hidden(found, asked.sources),
    )


def _hidden(found: Sequence[ObservedSeries], sources: Sequence[str] | None) -> tuple[str, ...]:
    """The sources that have rows of the instruments and are not asked for."""
    if sources is None:
        return ()
    return tuple(dict.fromkeys(source for one in found for source in one.sources if source not in sources))


def dataset_for(postgres: Postgres, symbol: Symbols, candidates: Sequence[Dataset]) -> Dataset:
    """The one dataset among `candidates` that observes the symbols.

    Raises:
        NotFoundError: none of them does.
        InputError: several do.
    """
    symbols = names_of(symbol) or []
    if not symbols:
        return candidates[0]
    with postgres.connection() as connection:
        kinds = kinds_of(connection, symbols)
        if unknown := next((name for name in symbols if name not in kinds), None):
            raise unknown_instrument(connection, [candidate.kind for candidate in candidates], unknown)
    fitting = [c for c in candidates if all(c.kind in kinds[name] for name in symbols)]
    if not fitting:
        raise _of_no_kind(kinds, symbols, candidates)
    if len(fitting) > 1:
        names = " or ".join(candidate.name for candidate in fitting)
        raise InputError(f"{symbol!r} names several instruments; read {names} instead", given=symbol, expected=names)
    return fitting[0]


def _of_no_kind(kinds: Mapping[str, set[str]], symbols: Sequence[str], candidates: Sequence[Dataset]) -> MedalionError:
    """The error for symbols that no one dataset observes: for one that none of them does, or for their mixture."""
    offered = {candidate.kind.value for candidate in candidates}
    for name in symbols:
        if offered.isdisjoint(kinds[name]):
            known = ", ".join(candidate.name for candidate in candidates)
            return NotFoundError(
                f"{' or '.join(sorted(offered))} symbol",
                name,
                hint=f"it is {' and '.join(sorted(kinds[name]))}, of which {known} hold none; "
                f"see `store.coverage(symbols=[{name!r}])` for what there is of it",
            )
    parts = ((kind, [name for name in symbols if kind in kinds[name]]) for kind in sorted(offered))
    said = " and ".join(f"{names} ({kind})" for kind, names in parts if names)
    return InputError(
        f"symbols of several kinds in one call; ask for each kind in a call of its own: {said}",
        given=list(symbols),
        expected="symbols of one kind",
    )
