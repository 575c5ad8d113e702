"""Which feeds have rows, and which of them answers where several do."""

from collections.abc import Sequence

import polars as pl

from medalion.core.datasets import DATASETS, Dataset
from medalion.core.datasets import dataset as dataset_named
from medalion.core.errors import InputError
from medalion.core.time import Instant, utc
from medalion.observations.arguments import SourceNames, Symbols, names_of, sources_of
from oltp.hot.instruments import instrument_ids
from oltp.hot.sources import enter_preferences, observed_sources
from oltp.hot.writes import begin
from oltp.server.engine import Postgres

_LISTED: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset": pl.String,
    "symbol": pl.String,
    "source": pl.String,
    "rank": pl.Int64,
    "is_preferred": pl.Boolean,
}


class Sources:
    """The sources of one store's rows."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def list(
        self, dataset: str | Dataset | None = None, *, symbols: Symbols = None, as_of: Instant | None = None
    ) -> pl.DataFrame:
        """A row for each source of each symbol, in the order in which they answer: `rank` 1 is the first to.

        `is_preferred` tells what `prefer` has put there from what comes in the order in which sources first wrote.

        >>> store.sources.list("stock_bars", symbols="AAPL")["source"].to_list()
        ['manual']

        Raises:
            NotFoundError: the dataset or a symbol is not known.
        """
        chosen = list(DATASETS.values()) if dataset is None else [dataset_named(dataset)]
        names, moment = names_of(symbols), None if as_of is None else utc(as_of, name="as_of")
        with self._postgres.connection() as connection:
            if names is not None and dataset is not None:
                instrument_ids(connection, chosen[0], names)
            rows = [
                (each.name, *row) for each in chosen for row in observed_sources(connection, each, names, as_of=moment)
            ]
        return pl.DataFrame(rows, schema=_LISTED, orient="row").sort("dataset", "symbol", "rank")

    def prefer(self, dataset: str | Dataset, sources: SourceNames, symbols: Symbols = None) -> None:
        """Have these sources answer before all others from now on, of the symbols or of every one without its own.

        The first that has a bar at a time answers for it; the others only fill its gaps. What is preferred has a
        history: a read with `as_of` goes by what was preferred then. An empty list takes it back. A source may be named
        before it has rows.

        >>> store.sources.prefer("stock_bars", ["manual"], symbols="AAPL")
        >>> store.sources.list("stock_bars", symbols="AAPL")["is_preferred"].item()
        True
        >>> store.sources.prefer("stock_bars", [], symbols="AAPL")

        Raises:
            InputError: no list of names.
            NotFoundError: the dataset or a symbol is not known.
        """
        declared = dataset_named(dataset)
        if sources is None:
            raise InputError("say which sources are preferred; [] takes it back", given=None, expected="names")
        names, preferred = names_of(symbols), [] if _is_empty(sources) else sources_of(sources) or []
        with self._postgres.connection() as connection:
            instruments: list[int | None] = [None]
            if names is not None:
                instruments = [*sorted(instrument_ids(connection, declared, names).values())]
            with connection.transaction():
                # As a write: whoever reads as of a settled time sees every preference from before it.
                opened = begin(connection, declared)
                enter_preferences(connection, declared, instruments, preferred, recorded_at=opened.recorded_at)


def _is_empty(sources: SourceNames) -> bool:
    return isinstance(sources, Sequence) and not isinstance(sources, str) and not sources
