"""SQL over several stores at one moment: pin every lake, take one snapshot of the books, prove that they fit."""

from collections.abc import Mapping, Sequence
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
from oltp.hot.tail import tail_list, tail_rows
from oltp.repositories.past import check_past, past_table
from oltp.repositories.snapshot import empty_table, entity_names, entity_table, snapshot
from oltp.server.engine import Postgres, is_replica


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
    known = [*DATASETS, *entity_names()]
    named = asked.tables | asked.described
    for name in sorted(named.difference(known, asked.local)):
        raise NotFoundError("table", name, known=known, hint=f"known: {', '.join(known)}")
    read = asked.tables if asked.words is None else asked.words
    datasets = [DATASETS[name] for name in sorted(read) if name in DATASETS]
    entities = sorted(read.intersection(known).difference(DATASETS))
    if as_of is not None:
        for dataset in datasets:
            check_settled(postgres, dataset, as_of)
        with postgres.connection() as connection:
            check_past(connection, entities, as_of)
    selections, tables = _moment(postgres, lake, datasets, entities, as_of)
    if as_of is not None:
        for dataset in datasets:
            check_kept(postgres, dataset, as_of, ALWAYS)
    shown = set(known) if asked.lists_tables else named.intersection(known)
    empty = _without_rows(postgres, lake, sorted(shown.difference(read)))
    return sql.run(selections, tables, text, parameters, timeout=timeout, empty=empty, expands=asked.expands)


def _without_rows(postgres: Postgres, lake: Lake, names: Sequence[str]) -> sql.Tables:
    """The tables of these names with their columns and no row, for who asks which there are."""
    if not names:
        return sql.NO_TABLES
    selections = [
        Selection(dataset, lake.table(dataset).place, NO_FILES, no_rows(dataset), ALWAYS)
        for dataset in DATASETS.values()
        if dataset.name in names
    ]
    with snapshot(postgres) as connection:
        tables = {name: empty_table(connection, name) for name in names if name not in DATASETS}
    return sql.Tables(selections, tables)


def _moment(
    postgres: Postgres, lake: Lake, datasets: list[Dataset], entities: list[str], as_of: datetime | None
) -> tuple[list[Selection], dict[str, pa.Table]]:
    """Selections and tables of one snapshot; `floor` is asked again after it, in a new one.

    Within the snapshot a truncated slot looks empty, and only the later `floor` tells.
    """
    patience = ReadRetries()
    while True:
        pins = {dataset.name: lake.table(dataset).refresh() for dataset in datasets}
        selections: list[Selection] = []
        is_whole = True
        with snapshot(postgres) as connection:
            for dataset in datasets:
                pin = pins[dataset.name]
                tail, hot = tail_rows(connection, dataset, batch=pin.batch, instruments=None, during=ALWAYS)
                is_whole = is_whole and fits(pin, tail)
                place = lake.table(dataset).place
                selections.append(Selection(dataset, place, pin.files, hot, ALWAYS, as_of=as_of))
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
