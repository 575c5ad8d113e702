"""What a caller asks for → what a read needs: symbols as instruments and sources."""

from typing import Unpack

from medalion.core.datasets import Dataset
from medalion.observations.arguments import ReadRange, read_arguments
from medalion.observations.selection import ReadRequest
from oltp.hot.instruments import primary_series, unknown_symbol
from oltp.server.engine import Postgres


def read_request(postgres: Postgres, dataset: str | Dataset, **rows: Unpack[ReadRange]) -> ReadRequest:
    """What a read with these arguments (see `ReadRange`) asks for, with its symbols resolved.

    Raises:
        NotFoundError: the dataset or a symbol is not known.
        InputError: a name, time or timeframe that cannot be meant.
    """
    asked = read_arguments(dataset, **rows)
    with postgres.connection() as connection:
        found = primary_series(connection, asked.dataset, asked.symbols)
        for name in set(asked.symbols or ()).difference(symbol for symbol, _, _ in found):
            raise unknown_symbol(connection, asked.dataset, name)
    series: dict[str, list[int]] = {}
    for _, instrument, primary in found:
        if feed := asked.source or primary:
            series.setdefault(feed, []).append(instrument)
    is_every = asked.symbols is None and len(series) == 1
    return ReadRequest(
        dataset=asked.dataset,
        during=asked.during,
        series=dict.fromkeys(series) if is_every else dict(series),
        timeframe=asked.timeframe,
        as_of=asked.as_of,
    )
