"""How long the journal is kept."""

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

from medalion.core.errors import InputError
from medalion.core.settings import Settings
from oltp.entities.base import now
from oltp.repositories.bulk import REMOVABLE, remove_older
from oltp.server.engine import Postgres

Age: TypeAlias = timedelta | Mapping[str, timedelta]

_CHUNK_ROWS = 5_000


class Retention:
    """Removes rows of the journal that are older than the ages given, by table or one for all."""

    def __init__(self, postgres: Postgres, older_than: Age, *, chunk: int = _CHUNK_ROWS) -> None:
        ages = dict(older_than) if isinstance(older_than, Mapping) else dict.fromkeys(REMOVABLE, older_than)
        for table, age in ages.items():
            if table not in REMOVABLE:
                known = ", ".join(REMOVABLE)
                raise InputError(f"{table!r} is not pruned by age; only {known}", given=table, expected=known)
            if age <= timedelta():
                raise InputError(f"an age of {age} was given for {table}; give a positive one", given=age)
        self._postgres = postgres
        self._ages = ages
        self._chunk = chunk

    def prune(self, stopping: threading.Event | None = None) -> dict[str, int]:
        """By table, how many rows were removed; each chunk is a transaction of its own.

        Raises:
            StoreUnavailableError: PostgreSQL is away.
        """
        removed = dict.fromkeys(self._ages, 0)
        with self._postgres.connection() as connection:
            for table, age in self._ages.items():
                before = now() - age
                while count := remove_older(connection, table, before, chunk=self._chunk):
                    removed[table] += count
                    if stopping is not None and stopping.is_set():
                        return removed
        return removed


def retention_ages(settings: Settings) -> dict[str, timedelta]:
    """The age at which rows go, by table; those that are kept for ever are absent."""
    days = (settings.log_retention_days, settings.error_retention_days, settings.metric_retention_days)
    return {table: timedelta(days=age) for table, age in zip(REMOVABLE, days, strict=True) if age}
