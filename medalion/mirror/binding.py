"""Do ledger and lake belong together? Asked before a process first writes, after a failover, and before upkeep.

A server that was restored, or a standby that took over without the last commits, gives out numbers again that the lake
has seen. Each dataset is looked at once for each server that the connections have met.
"""

import threading

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError, StoreUnavailableError
from olap.delta.lake import Lake
from olap.delta.tables import LakeTable
from oltp.ledger import batches
from oltp.ledger.identity import store_id
from oltp.server.engine import Connection, Postgres

_ATTEMPTS = 3


class Binding:
    """Remembers which datasets were found bound, and to which server."""

    def __init__(self, postgres: Postgres, lake: Lake) -> None:
        self._postgres = postgres
        self._lake = lake
        self._bound: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def check(self, connection: Connection, dataset: Dataset) -> None:
        """Nothing where they agree; a lake that cannot be reached now is asked again with the next write.

        Raises:
            CorruptLakeError: they do not belong together, and nothing should be written.
        """
        met = (dataset.name, self._postgres.server_of(connection))
        if met in self._bound:
            return
        try:
            check(connection, self._lake.table(dataset))
        except StoreUnavailableError:
            return
        with self._lock:
            self._bound.add(met)


def check(connection: Connection, table: LakeTable) -> None:
    """Prove that ledger and lake belong together: to one store, and to one moment of it.

    Raises:
        CorruptLakeError: they do not; nothing may be written or removed.
        StoreUnavailableError: an object store does not answer.
    """
    if store_id(connection) != table.store:
        raise CorruptLakeError("the ledger has become that of another store since this one was opened; open it again")
    table.owned()
    # The lake may move on between a look at the ledger and one at the lake.
    if not any(is_bound(connection, table) for _ in range(_ATTEMPTS)):
        raise CorruptLakeError(
            f"{table.place} and this store's ledger do not belong together: the lake is that of another store, or one "
            "of the two is a backup; nothing was changed, see `medalion mirror rebind`; if it was moved, give its "
            "new place with lake="
        )


def is_bound(connection: Connection, table: LakeTable) -> bool:
    """Whether lake and ledger agree, by number and nonce, about the last batch or the one being copied."""
    return table.refresh().mark in batches.marks(batches.last_batches(connection, table.dataset))
