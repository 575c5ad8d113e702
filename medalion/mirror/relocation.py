"""The lake moved to another folder or bucket, without two of them ever going on from the same batch.

Most files are copied while batches are still appended to the old lake. Then the mirror waits: what is claimed is
finished, the rest is copied, and every table of the new lake gets an empty batch under a fresh nonce, which the old one
does not have. That these are the last batches is noted for all datasets in one transaction. Before it the old lake is
the store's, after it the new one: by number and nonce every store that is still open on the old one is refused. A batch
that was claimed first, as others are, would for a moment belong to either.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from medalion.core.datasets import DATASETS, Dataset
from medalion.core.enums import BatchStatus, WriteKind
from medalion.core.errors import CorruptLakeError, InputError, StoreError
from medalion.journal.anchors import Anchors
from olap.delta.anchors import AnchorTable
from olap.delta.contents import TableContents, carry, contents_of, contents_of_anchors
from olap.delta.lake import Lake
from olap.delta.pins import Pin
from olap.places.draft import drafted
from olap.places.folder import Folder
from olap.places.open import Place
from oltp.ledger import anchors as audit
from oltp.ledger import batches
from oltp.ledger.batches import Batch
from oltp.ledger.relocation import note_move
from oltp.server.engine import Connection, Postgres

Finish = Callable[[Connection, Dataset], object]
"""Finishes a batch that was claimed and not noted, as the leader."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """Where the lake is now, as `lake=` and MEDALION_LAKE name it, where it was, and what was copied."""

    lake: str
    before: str
    files: int
    bytes: int


def move(postgres: Postgres, lake: Lake, finish: Finish, target: Place) -> Relocation:
    """Have the lake be in another place, which is empty; see `Mirror.move`."""
    _refuse_nested(lake.place, target)
    try:
        return _moved(postgres, lake, finish, target)
    except FileNotFoundError as error:
        raise CorruptLakeError(
            f"the lake in {lake.place} lacks a file: {error}; it stays where it is, run `medalion mirror verify`"
        ) from error


def _moved(postgres: Postgres, lake: Lake, finish: Finish, target: Place) -> Relocation:
    with ExitStack() as held, postgres.connection() as connection:
        place, publish = held.enter_context(_place_made(target))
        for dataset in DATASETS.values():
            held.enter_context(batches.maintaining(connection, dataset))
        first = {name: _files_of(lake, dataset) for name, dataset in DATASETS.items()}
        for contents in first.values():
            carry(contents, lake.place, place)
        for dataset in DATASETS.values():
            held.enter_context(batches.without_staging(connection, dataset))
        for dataset in DATASETS.values():
            held.enter_context(batches.leading(connection, dataset))
        held.enter_context(audit.leading(connection))
        for dataset in DATASETS.values():
            finish(connection, dataset)
        moved = Lake(place, store=lake.store)
        tables = [*_rest(lake, moved, first), contents_of_anchors(AnchorTable(lake.place))]
        carry(tables[-1], lake.place, place)
        ends = {name: (dataset, *_ended(moved, dataset)) for name, dataset in DATASETS.items()}
        note, version = Anchors(postgres, moved).end(connection)
        publish()
        note_move(connection, ends, note, version)
    files = {(table.name, path): size for table in tables for path, size in table.files}
    return Relocation(str(target), str(lake.place), len(files), sum(files.values()))


def _refuse_nested(source: Place, target: Place) -> None:
    inside = f"{target}/".startswith(f"{source}/") or f"{source}/".startswith(f"{target}/")
    if inside and isinstance(source, Folder) == isinstance(target, Folder):
        raise InputError(f"{target} and the lake in {source} lie in one another; give another place", given=str(target))


@contextmanager
def _place_made(target: Place) -> Iterator[tuple[Place, Callable[[], None]]]:
    """An empty place for the lake, and what gives it its name: a folder has none until then, a bucket always."""
    if isinstance(target, Folder):
        with drafted(target.path) as draft:
            yield Folder(draft.path), draft.publish
        return
    target.open()
    if not target.is_empty():
        raise InputError(f"{target} is not empty; give another prefix, or remove what lies there", given=str(target))
    yield target, lambda: None


def _files_of(lake: Lake, dataset: Dataset) -> TableContents:
    """The data files of a table now; its log follows later."""
    pin = lake.table(dataset).refresh()
    files = tuple(zip(pin.files.path.tolist(), pin.files.bytes.tolist(), strict=True))
    return TableContents(dataset.name, pin.version, files, ())


def _rest(lake: Lake, moved: Lake, first: dict[str, TableContents]) -> Iterator[TableContents]:
    """What was committed meanwhile, and the logs; the same version of each table is then in both lakes."""
    for dataset in DATASETS.values():
        table = lake.table(dataset)
        pin = table.refresh()
        contents, held = contents_of(table, pin), {path for path, _ in first[dataset.name].files}
        carry(contents, lake.place, moved.place, is_held=held.__contains__)
        found = moved.table(dataset).refresh()
        if _shown(found) != _shown(pin):
            raise CorruptLakeError(f"{moved.place}/{dataset.name} is not what was copied; the lake stays where it is")
        yield contents


def _shown(pin: Pin) -> tuple[object, ...]:
    return pin.version, pin.mark, pin.maintenance, pin.removal, sorted(pin.files.path.tolist())


def _ended(moved: Lake, dataset: Dataset) -> tuple[Batch, int]:
    """An empty batch that only the new lake has, and the version of its table with it."""
    table = moved.table(dataset)
    number, nonce = table.refresh().batch + 1, batches.new_nonce()
    pin = table.append([], batch=number, nonce=nonce)
    if pin.mark != (number, nonce):
        raise StoreError(f"{table.place} was committed to by another; the lake stays where it is")
    table.sync(pin)
    return Batch(number, nonce, WriteKind.HOT, BatchStatus.CLAIMED, 0, 0), pin.version
