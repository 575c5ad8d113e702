"""SQL over several stores at one moment: pin every lake, take one snapshot of the books, prove that they fit."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from medalion.core.datasets import DATASETS, Dataset
from medalion.core.errors import NotFoundError
from medalion.core.time import ALWAYS
from medalion.observations.selection import ReadRetries, check_kept, check_settled, fits, no_rows
from olap.delta.lake import Lake
from olap.delta.pins import Pin
from olap.files.index import NO_FILES
from olap.reads import sql
from olap.reads.scan import Selection
from olap.reads.statement import statement_of
from oltp.hot.sources import has_made, observed_series
from oltp.hot.tail import tail_list, tail_rows
from oltp.repositories.past import check_past, past_table
from oltp.repositories.snapshot import empty_table, entity_names, entity_table, snapshot
from oltp.server.engine import Connection, Postgres, is_replica

_VIEWS = DATASETS | {f"{name}_by_source": dataset for name, dataset in DATASETS.items()}
"""Of each dataset the view that answers as `read` does, and beside it the one with the rows of every source."""


def query(
    postgres: Postgres,
    lake: Lake,
    text: str,
    *,
    as_of: datetime | None,
    parameters: Mapping[str, Any],
    timeout: float | None = None,
) -> duckdb.DuckDBPyRelation:
    """The relation of one statement that reads, over datasets and entities, all as of one moment.

    Raises:
        InputError: not one statement that only reads, something in it is wrong, or `as_of` is not settled or not known
            of a table.
        NotFoundError: a table it names is not known.
    """
    asked = statement_of(text)
    known = [*_VIEWS, *entity_names()]
    named = asked.tables | asked.described
    for name in sorted(named.difference(known, asked.local)):
        told = [*DATASETS, *entity_names(), "and of each dataset …_by_source"]
        raise NotFoundError("table", name, known=known, hint=f"known: {', '.join(told)}")
    read = asked.tables if asked.words is None else asked.words
    views = {name: _VIEWS[name] for name in sorted(read) if name in _VIEWS}
    datasets = [DATASETS[name] for name in sorted({dataset.name for dataset in views.values()})]
    entities = sorted(read.intersection(known).difference(views))
    if as_of is not None:
        for dataset in datasets:
            check_settled(postgres, dataset, as_of)
        with postgres.connection() as connection:
            check_past(connection, entities, as_of)
    whole, tables = _moment(postgres, lake, datasets, entities, as_of)
    if as_of is not None:
        for dataset in datasets:
            check_kept(postgres, dataset, as_of, ALWAYS)
    with postgres.connection() as connection:
        selections = {
            name: _by_preference(connection, whole[name])
            if name in DATASETS and dataset.has_timeframe
            else whole[dataset.name]
            for name, dataset in views.items()
        }
    shown = set(known) if asked.lists_tables else named.intersection(known)
    empty = _without_rows(postgres, lake, shown.difference(read))
    return sql.run(selections, tables, text, parameters, timeout=timeout, empty=empty, expands=asked.expands)


def _without_rows(postgres: Postgres, lake: Lake, names: Collection[str]) -> sql.Tables:
    """The tables of these names with their columns and no row, for who asks which there are."""
    if not names:
        return sql.NO_TABLES
    selections = {
        name: Selection(dataset, lake.table(dataset).place, NO_FILES, no_rows(dataset), ALWAYS)
        for name, dataset in _VIEWS.items()
        if name in names
    }
    with snapshot(postgres) as connection:
        tables = {name: empty_table(connection, name) for name in sorted(names) if name not in _VIEWS}
    return sql.Tables(selections, tables)


def _by_preference(connection: Connection, whole: Selection) -> Selection:
    """Of bars what `read` shows: one a time, and none that the store has made.

    The sources are looked up after the snapshot was taken: those that have come since have no rows in it.
    """
    series = observed_series(connection, whole.dataset, None, as_of=whole.as_of)
    sources = dict.fromkeys(source for one in series for source in one.sources)
    return replace(
        whole,
        series=sources if has_made(connection, whole.dataset) else None,
        preference={one.instrument_id: one.sources for one in series if len(one.sources) > 1},
    )


def _moment(
    postgres: Postgres, lake: Lake, datasets: list[Dataset], entities: list[str], as_of: datetime | None
) -> tuple[dict[str, Selection], dict[str, pa.Table]]:
    """Selections of every source, by dataset, and tables of one snapshot; `floor` is asked again after it.

    Within the snapshot a truncated slot looks empty, and only the later `floor`, of a new one, tells.
    """
    patience = ReadRetries()
    while True:
        pins = {dataset.name: lake.table(dataset).refresh() for dataset in datasets}
        selections: dict[str, Selection] = {}
        is_whole = True
        with snapshot(postgres) as connection:
            for dataset in datasets:
                pin = pins[dataset.name]
                tail, hot = tail_rows(connection, dataset, batch=pin.batch, instruments=None, during=ALWAYS)
                is_whole = is_whole and fits(pin, tail)
                place = lake.table(dataset).place
                selections[dataset.name] = Selection(dataset, place, pin.files, hot, ALWAYS, as_of=as_of)
            tables = {
                name: entity_table(connection, name) if as_of is None else past_table(connection, name, as_of)
                for name in entities
            }
        if is_whole and all(_still_fits(postgres, dataset, pins[dataset.name]) for dataset in datasets):
            return selections, tables
        with postgres.connection() as connection:
            is_behind = is_replica(connection)
        patience.wait(lake.table(datasets[0]), pins[datasets[0].name], is_behind=is_behind)


def _still_fits(postgres: Postgres, dataset: Dataset, pin: Pin) -> bool:
    with postgres.connection() as connection:
        tail = tail_list(connection, dataset, batch=pin.batch, instruments=None, during=ALWAYS)
    return tail.floor <= pin.batch
