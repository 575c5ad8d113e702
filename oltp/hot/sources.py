"""Which feeds have rows of an instrument, and in which order they answer for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from psycopg import sql
from psycopg.types.json import Jsonb

from medalion.core.datasets import Dataset
from oltp.hot.tables import last_name
from oltp.server.engine import Connection, one

KEPT = "rollup:"
"""Before the source of rows from which kept bars were made, in theirs."""
DOWNSAMPLED = "downsampled:"
"""The same in bars that outlive their quotes."""


def is_made(source: str) -> bool:
    """Whether rows of the source are bars that the store has made of others."""
    return source.startswith((KEPT, DOWNSAMPLED))


def has_made(connection: Connection, dataset: Dataset) -> bool:
    """Whether the dataset has, or has had, rows that the store has made."""
    found = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE starts_with(source, %s) OR starts_with(source, %s))").format(
            sql.Identifier(last_name(dataset))
        ),
        (KEPT, DOWNSAMPLED),
    ).fetchone()
    return bool(one(found)[0])


def enter_sources(
    connection: Connection, dataset: Dataset, instruments: pl.Series, source: str, *, write_id: int
) -> None:
    """Note that a source has rows of these instruments, in the transaction that brings them; of bars made here none."""
    if is_made(source):
        return
    connection.execute(
        """INSERT INTO observed_sources (dataset, instrument_id, source, first_write)
           SELECT %s, instrument_id, %s, %s FROM unnest(%s::bigint[]) AS instrument_id ORDER BY instrument_id
           ON CONFLICT DO NOTHING""",
        (dataset.name, source, write_id, instruments.unique().to_list()),
    )


@dataclass(frozen=True, slots=True)
class ObservedSeries:
    """An instrument with the sources that have rows of it, most preferred first; `symbol` as it was asked for by."""

    symbol: str | None
    instrument_id: int
    sources: tuple[str, ...]


def observed_series(
    connection: Connection, dataset: Dataset, symbols: Sequence[str] | None, *, as_of: datetime | None = None
) -> list[ObservedSeries]:
    """The instruments of symbols, each with its sources in the order of preference, as it was at `as_of`.

    A symbol that names nothing is absent, one that was never observed has no source; without `symbols` it is every
    observed instrument, unnamed. What no preference names follows in the order in which it first wrote.
    """
    rows = connection.execute(
        """SELECT named.symbol, named.instrument_id,
                  ARRAY(SELECT source FROM observed_sources AS observed
                        WHERE observed.dataset = %(dataset)s AND observed.instrument_id = named.instrument_id
                        ORDER BY first_write, source),
                  EXISTS (SELECT FROM source_preferences WHERE dataset = %(dataset)s)
           FROM instruments AS named WHERE named.kind = %(kind)s AND named.symbol = ANY(%(symbols)s)"""
        if symbols is not None
        else """SELECT NULL, instrument_id, array_agg(source ORDER BY first_write, source),
                       EXISTS (SELECT FROM source_preferences WHERE dataset = %(dataset)s)
                FROM observed_sources WHERE dataset = %(dataset)s GROUP BY instrument_id""",
        {"dataset": dataset.name, "kind": dataset.kind.value, "symbols": None if symbols is None else list(symbols)},
    ).fetchall()
    preferred = preferences(connection, dataset, as_of=as_of) if any(row[3] for row in rows) else {}
    return [
        ObservedSeries(symbol, instrument, _ordered(sources, preferred.get(instrument) or preferred.get(None) or ()))
        for symbol, instrument, sources, _ in rows
    ]


def _ordered(sources: Sequence[str], preferred: Sequence[str]) -> tuple[str, ...]:
    first = [source for source in preferred if source in sources]
    return (*first, *(source for source in sources if source not in first))


def preferences(
    connection: Connection, dataset: Dataset, *, as_of: datetime | None = None
) -> dict[int | None, list[str]]:
    """The sources that were preferred at `as_of`, by instrument; None is every one that has none of its own."""
    rows = connection.execute(
        """SELECT DISTINCT ON (instrument_id) instrument_id, sources FROM source_preferences
           WHERE dataset = %s AND (%s::timestamptz IS NULL OR recorded_at <= %s::timestamptz)
           ORDER BY instrument_id, id DESC""",
        (dataset.name, as_of, as_of),
    ).fetchall()
    return {instrument: sources for instrument, sources in rows if sources}


def observed_sources(
    connection: Connection, dataset: Dataset, symbols: Sequence[str] | None, *, as_of: datetime | None = None
) -> list[tuple[str, str, int, bool]]:
    """(symbol, source, rank from 1, whether it was preferred) of symbols, or of every observed instrument."""
    series = observed_series(connection, dataset, symbols, as_of=as_of)
    named = preferences(connection, dataset, as_of=as_of)
    names: dict[int, str] = dict(
        connection.execute(
            "SELECT instrument_id, symbol FROM instruments WHERE instrument_id = ANY(%s)",
            ([one.instrument_id for one in series],),
        ).fetchall()
    )
    return [
        (names[one.instrument_id], source, rank, source in (named.get(one.instrument_id) or named.get(None) or ()))
        for one in series
        if one.instrument_id in names
        for rank, source in enumerate(one.sources, 1)
    ]


def enter_preferences(
    connection: Connection,
    dataset: Dataset,
    instruments: Sequence[int | None],
    sources: Sequence[str],
    *,
    recorded_at: datetime,
) -> None:
    """Have the sources answer before others from then on; none of them takes back what was preferred."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO source_preferences (id, dataset, instrument_id, sources, recorded_at)
               VALUES (nextval('write_id_seq'), %s, %s, %s, %s)""",
            [(dataset.name, instrument, Jsonb(list(sources)), recorded_at) for instrument in instruments],
        )
