"""The ledger's side of a lake that moved: the last batch of every dataset is one that the new lake alone has."""

from collections.abc import Mapping

from medalion.core.datasets import Dataset
from oltp.ledger import anchors, batches
from oltp.ledger.anchors import Note
from oltp.ledger.batches import Batch
from oltp.server.engine import Connection


def note_move(
    connection: Connection, ends: Mapping[str, tuple[Dataset, Batch, int]], anchored: Note, anchored_version: int
) -> None:
    """Enter the empty batches that end a move, as done, and the run of anchors; in one transaction, durably.

    `ends` has by dataset its batch and the version of the table that holds it. The floor is raised to it, so that a
    read that has pinned the old lake looks again, and finds that it is not the store's any more.
    """
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        for dataset, batch, version in ends.values():
            batches.enter_batch(connection, dataset, batch)
            batches.note(connection, dataset, batch, delta_version=version)
            connection.execute(
                "UPDATE mirror_state SET floor = greatest(floor, %s) WHERE dataset = %s", (batch.number, dataset.name)
            )
        anchors.claim(connection, anchored, 0)
        anchors.done(connection, anchored.number, delta_version=anchored_version)
