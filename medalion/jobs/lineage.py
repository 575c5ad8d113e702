"""What a job read: one settled time, the lake's batches, the last writes, and the code's version."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

import medalion
from medalion.core.datasets import Dataset
from medalion.observations.selection import check_settled
from olap.delta.tables import Lake
from oltp.ledger.batches import settle
from oltp.server.engine import Connection, Postgres


def pinned(
    postgres: Postgres, lake: Lake, datasets: Sequence[Dataset], as_of: datetime | None
) -> tuple[datetime, dict[str, Any]]:
    """A time up to which every dataset is settled, `as_of` if given, and what each dataset consists of then.

    Reads as of that time give the same answer for ever. `last_write` is the newest write in it: equal numbers mean
    equal rows, wherever they lie; `batch`, `nonce` and `version` say where the lake stood.

    Raises:
        InputError: `as_of` is not settled.
    """
    with postgres.connection() as connection:
        moment = min(settle(connection, dataset) for dataset in datasets) if as_of is None else as_of
    if as_of is not None:
        for dataset in datasets:
            check_settled(postgres, dataset, as_of)
    with postgres.connection() as connection:
        return moment, {dataset.name: _state(connection, lake, dataset, moment) for dataset in datasets}


def _state(connection: Connection, lake: Lake, dataset: Dataset, moment: datetime) -> dict[str, Any]:
    pin = lake.table(dataset).refresh()
    row = connection.execute(
        "SELECT max(id) FROM writes WHERE dataset = %s AND recorded_at <= %s", (dataset.name, moment)
    ).fetchone()
    return {"last_write": row and row[0], "batch": pin.batch, "nonce": pin.nonce, "version": pin.version}


def code_versions() -> dict[str, str]:
    """The versions of what computed the results."""
    return {"medalion": medalion.__version__, "polars": pl.__version__}
