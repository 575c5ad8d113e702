"""What a backup says of itself, in `backup.json`, which is written last; and proving that it holds what it says."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from medalion.core.datasets import DATASETS
from medalion.core.errors import CorruptLakeError, InputError, StoreError
from medalion.core.workers import in_turn
from medalion.mirror.basis import PinnedTable
from olap.delta.contents import TableContents, proven
from olap.delta.log import ANCHORED, LOG
from olap.places.folder import Folder

MANIFEST, BOOKS, LAKE = "backup.json", "books.dump", "lake"
_FORMAT = 1
_READERS = 2


@dataclass(frozen=True, slots=True)
class FileSum:
    """A file of a backup; without a sum its name holds one."""

    path: str
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table of the lake: where its log ends, the last batch in it, the rows as stored, and its files in order."""

    name: str
    version: int
    batch: int
    nonce: int | None
    rows: int
    files: tuple[FileSum, ...]

    def contents(self) -> TableContents:
        """What is to be carried to restore it; its log is what has a name of that form."""
        data = tuple((file.path, file.bytes) for file in self.files if not _is_log(file.path))
        return TableContents(self.name, self.version, data, tuple(f.path for f in self.files if _is_log(f.path)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup: by which release, of which schema and moment, and everything in it. `writes` and `rows` are the
    ledger's.
    """

    release: str
    revision: str
    server: int
    created_at: datetime
    writes: int
    rows: int
    books: FileSum
    tables: tuple[TableEntry, ...]

    @property
    def files(self) -> int:
        """How many files of the lake it has."""
        return sum(len(table.files) for table in self.tables)

    @property
    def bytes(self) -> int:
        """The size of all of it."""
        return self.books.bytes + sum(file.bytes for table in self.tables for file in table.files)

    @property
    def lake_rows(self) -> int:
        """Rows in the lake, corrections and deletions included."""
        return sum(table.rows for table in self.tables)

    def text(self) -> str:
        """As it is written: what it says, under a sum of that."""
        told = _plain(asdict(self))
        return json.dumps({"format": _FORMAT, "sha256": _sum_of(told), "backup": told}, indent=1) + "\n"


def entry_of(table: PinnedTable, folder: Path) -> TableEntry:
    """What the manifest says of a table that was carried into the folder of a lake."""
    place = Folder(folder).within(table.contents.name)
    data = (FileSum(path, size, _needed_sum(place, path)) for path, size in table.contents.files)
    log = (_summed(place.path, name) for name in table.contents.log)
    return TableEntry(table.contents.name, table.contents.version, table.batch, table.nonce, table.rows, (*data, *log))


def book_entry(folder: Path) -> FileSum:
    """What it says of the dump."""
    return _summed(folder, BOOKS)


def read(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        InputError: the folder is no backup, or one of a newer release.
        StoreError: the manifest is damaged.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StoreError(f"{folder / MANIFEST} is damaged: it is no text") from error
    except OSError as error:
        raise InputError(
            f"{folder} is no backup that was finished: {MANIFEST} cannot be read ({error.strerror})",
            given=str(folder),
            expected=f"a folder with {MANIFEST}, made by `medalion backup`",
        ) from error
    try:
        given = json.loads(text)
        form, told = given["format"], given["backup"]
        if form == _FORMAT and given["sha256"] == _sum_of(told):
            return _manifest(told)
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{folder / MANIFEST} is damaged; nothing was made") from error
    if form != _FORMAT:
        raise InputError(f"{folder} has format {form}; this release reads {_FORMAT}", given=form, expected=_FORMAT)
    raise StoreError(f"{folder / MANIFEST} is damaged; nothing was made")


def prove(folder: Path, manifest: Manifest) -> None:
    """Read every byte of a backup, and find it as it was written.

    Raises:
        StoreError: a file is gone or damaged; it is named.
    """
    works = [partial(_prove, Folder(folder), manifest.books)]
    for table in manifest.tables:
        works += (partial(_prove, Folder(folder / LAKE / table.name), file) for file in table.files)
    for _ in in_turn(works, workers=_READERS):
        pass


def _prove(place: Folder, file: FileSum) -> None:
    try:
        if file.sha256 is None:
            proven(place, file.path, file.bytes)
            return
        found = _summed(place.path, file.path)
    except OSError as error:
        raise StoreError(f"{place}/{file.path} cannot be read: {error.strerror}; nothing was made") from error
    except CorruptLakeError as error:
        raise CorruptLakeError(f"{error}; nothing was made") from error
    if found != file:
        raise StoreError(f"{place}/{file.path} is damaged: it is not what the backup wrote; nothing was made")


def _needed_sum(place: Folder, path: str) -> str | None:
    """None where the name proves the bytes: what is linked is then not read, however large the lake is."""
    return None if place.path.name in DATASETS else _summed(place.path, path).sha256


def _summed(folder: Path, name: str) -> FileSum:
    with (folder / name).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSum(name, file.tell(), found)


def _sum_of(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(told, default=lambda value: value.isoformat()))
    return found


def _manifest(told: dict[str, Any]) -> Manifest:
    tables = tuple(TableEntry(**table | {"files": tuple(_files(table["files"]))}) for table in told["tables"])
    if unknown := {table.name for table in tables} - {*DATASETS, ANCHORED}:
        raise ValueError(unknown)
    moment = datetime.fromisoformat(told["created_at"])
    (books,) = _files([told["books"]])
    return Manifest(**told | {"created_at": moment, "books": books, "tables": tables})


def _files(told: list[dict[str, Any]]) -> Iterator[FileSum]:
    for each in told:
        file = FileSum(**each)
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(file.path)
        yield file


def _is_log(path: str) -> bool:
    return PurePosixPath(path).parts[0] == LOG
