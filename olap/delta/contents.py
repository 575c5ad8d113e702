"""What a version of a table consists of, and bringing it to another place: data files, and the log that names them.

Of the log go the newest checkpoint at or below the version and the commits from there on, which say all of the table.
`_last_checkpoint` stays behind: it is written over, and by now it may name a checkpoint above the version.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from medalion.core.errors import CorruptLakeError, StoreError
from medalion.core.workers import in_turn
from olap.delta.anchors import AnchorTable
from olap.delta.log import ANCHORED, LOG, commit_name
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.files.parquet import StagedFile, is_unchanged
from olap.places.base import reaching
from olap.places.folder import Folder, sync
from olap.places.open import Place

_CHECKPOINT = ".checkpoint.parquet"


@dataclass(frozen=True, slots=True)
class TableContents:
    """A version of a table by its files, as named in the table's place: data with their sizes, and the log in order."""

    name: str
    version: int
    files: tuple[tuple[str, int], ...]
    log: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every file, data first."""
        return (*(path for path, _ in self.files), *self.log)


def contents_of(table: LakeTable, pin: Pin, staged: Iterable[StagedFile] = ()) -> TableContents:
    """A dataset's table at a pin, with files that no commit names yet.

    Raises:
        FileNotFoundError: its log was summed up meanwhile; a newer pin has what it needs.
    """
    files = dict(zip(pin.files.path.tolist(), pin.files.bytes.tolist(), strict=True))
    files |= {file.path: file.size for file in staged}
    return TableContents(table.dataset.name, pin.version, tuple(files.items()), _log(table.place, pin.version))


def contents_of_anchors(table: AnchorTable) -> TableContents:
    """The newest version of the audit's anchors.

    Raises:
        CorruptLakeError: the table's log cannot be read.
        FileNotFoundError: its log was summed up meanwhile.
    """
    place = table.place
    try:
        with reaching():
            handle = DeltaTable(str(place), storage_options=place.delta_options)
            actions = pl.DataFrame(handle.get_add_actions(flatten=True)).select("path", "size_bytes")
    except TableNotFoundError:
        return TableContents(ANCHORED, -1, (), ())
    except (DeltaError, OSError) as error:
        raise CorruptLakeError(f"the log of {place} cannot be read: {error}") from error
    return TableContents(ANCHORED, handle.version(), tuple(actions.iter_rows()), _log(place, handle.version()))


def _log(place: Place, version: int) -> tuple[str, ...]:
    if version < 0:
        return ()
    held = {entry.name for entry in place.matching(f"{LOG}/*")}
    summed = (name for name in held if name.endswith(_CHECKPOINT) and _version(name) <= version)
    start = max(summed, key=_version, default=None)
    first = 0 if start is None else _version(start) + 1
    commits = [commit_name(number) for number in range(first, version + 1)]
    if lacking := next((name for name in commits if name not in held), None):
        raise FileNotFoundError(f"{place}/{lacking} is gone")
    if start is None:
        return tuple(commits)
    # The commit of the checkpoint says nothing more, but whoever follows the log looks for that of the version.
    own = [name for name in (commit_name(first - 1),) if name in held]
    return (start, *own, *commits)


def _version(name: str) -> int:
    number = PurePosixPath(name).name.split(".")[0]
    return int(number) if number.isdigit() else -1


def carry(
    contents: TableContents,
    source: Place,
    target: Place,
    *,
    link: bool = False,
    is_held: Callable[[str], bool] = lambda name: False,
) -> None:
    """Bring a table from one lake to another, log last, every byte proven as far as names tell; then it is kept.

    With `link` data files of folders are linked where the file system can, and not read; `is_held` tells which are
    there already.

    Raises:
        FileNotFoundError: a file is gone.
        CorruptLakeError: a file is damaged.
        StoreError: the target cannot be written to.
    """
    here, there = source.within(contents.name), target.within(contents.name)
    carried = [(path, size) for path, size in contents.files if not is_held(path)]
    works = (partial(_carry_file, here, there, path, size, link=link) for path, size in carried)
    for _ in in_turn(works, workers=max(here.readers, there.readers)):
        pass
    for name in contents.log:
        _carry_file(here, there, name, None, link=False)
    if contents.names and isinstance(there, Folder):
        for folder in sorted({str(PurePosixPath(name).parent) for name in contents.names} | {"."}):
            sync(there.path / folder)


def _carry_file(here: Place, there: Place, path: str, size: int | None, *, link: bool) -> None:
    if link and _is_linked(here, there, path, size):
        return
    content = proven(here, path, size)
    try:
        there.write(path, pa.py_buffer(content))
        is_kept = there.read(path) == content
    except OSError as error:
        raise StoreError(f"{there} cannot be written to: {error.strerror}") from error
    if not is_kept:
        raise StoreError(f"{there}/{path} reads back otherwise than it was written; check that disk")


def _is_linked(here: Place, there: Place, path: str, size: int | None) -> bool:
    """Whether the file now has a second name there; it is never written to again, so that nothing is shared but it."""
    if not (isinstance(here, Folder) and isinstance(there, Folder)):
        return False
    own, other = here.path / path, there.path / path
    there.within(str(PurePosixPath(path).parent)).make()
    try:
        os.link(own, other)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, a file system without links, or a file of another user
        return False
    if size is not None and other.stat().st_size != size:
        raise _damaged(here, path)
    return True


def proven(place: Place, path: str, size: int | None = None) -> bytes:
    """The bytes of a file, of that size, and with the hash that its name says if it says one.

    Raises:
        FileNotFoundError: it is gone.
        CorruptLakeError: it is damaged, or cannot be read.
    """
    try:
        content = place.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptLakeError(f"{place}/{path} cannot be read: {error.strerror}") from error
    is_named = "=" in path
    if (size is not None and len(content) != size) or (is_named and not is_unchanged(path, content)):
        raise _damaged(place, path)
    return content


def _damaged(place: Place, path: str) -> CorruptLakeError:
    return CorruptLakeError(f"{place}/{path} is damaged: its bytes have changed since it was written")
