"""A store's reads, writes and upkeep without the rest of it, so that a test can open and close many."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from medalion.core.datasets import Dataset
from medalion.mirror.copy import Copier
from medalion.services.ingestion import Ingestion
from medalion.services.mirror import Mirror
from medalion.services.observations import Observations
from olap.delta.lake import Lake
from oltp.hot.tables import last_name
from oltp.ledger.identity import store_id
from oltp.server.engine import Connection, Postgres
from tests.machines.lake_steps import at_step

KEPT_BYTES = 40_000
"""So little that columns come and go."""


@dataclass
class Face:
    """What one process knows of a store: its pins, its handles and its connections."""

    postgres: Postgres
    lake: Lake
    mirror: Mirror
    observations: Observations
    ingestion: Ingestion

    @classmethod
    def open(cls, postgres: Postgres, root: Path, *, batch_rows: int, slot_rows: int) -> "Face":
        """One that knows nothing yet of the lake under `root`."""
        with postgres.connection() as connection:
            lake = Lake(root, store=store_id(connection), kept_bytes=KEPT_BYTES)
        lake.place.open()
        copier = Copier(postgres, lake, batch_rows=batch_rows, slot_rows=slot_rows)
        mirror, ingestion = Mirror(postgres, lake, copier), Ingestion(postgres, lake, copier)
        return cls(postgres, lake, mirror, Observations(postgres, lake), ingestion)


@contextmanager
def opened(url: str) -> Iterator[Postgres]:
    postgres = Postgres(url)
    postgres.open()
    try:
        yield postgres
    finally:
        postgres.close()


def forget(connection: Connection, datasets: tuple[Dataset, ...]) -> None:
    """Make the ledger that of a store without observations; its instruments stay."""
    with connection.transaction():
        connection.execute("ALTER SEQUENCE write_id_seq RESTART")
        connection.execute("SET LOCAL session_replication_role = replica")
        for name in ("writes", "mirror_batches", "observed_sources", "source_preferences"):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        for dataset in datasets:
            for name in (dataset.name, last_name(dataset)):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
            connection.execute("DELETE FROM mirror_state WHERE dataset = %s", (dataset.name,))
            connection.execute("INSERT INTO mirror_state (dataset) VALUES (%s)", (dataset.name,))


class Killed(BaseException):
    """Ends a call where a kill of its process would."""


@contextmanager
def dying(step: str | None) -> Iterator[list[str]]:
    """Within, a step of a lake's table ends everything, before it is taken or once it is `done`; where that happened.

    Without a step nothing does.
    """
    if step is None:
        yield []
        return

    def die() -> None:
        raise Killed

    with at_step(f"olap.delta.tables:LakeTable.{step}", die) as died, suppress(Killed):
        yield died
