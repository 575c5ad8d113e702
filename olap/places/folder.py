"""A lake in a folder of this machine; `olap.places.bucket` has the same methods for one in a bucket.

Names are relative to the place, with forward slashes.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from medalion.core.errors import InputError
from olap.places.base import FileEntry, Options

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, private to its owner; what was written is kept through a power cut once `sync` was called."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def readers(self) -> int:
        """How many files are worth reading at a time."""
        return os.cpu_count() or 1

    @property
    def delta_options(self) -> Options:
        """Nothing: a path is enough."""
        return None

    @property
    def polars_options(self) -> Options:
        """Nothing: a path is enough."""
        return None

    def within(self, name: str) -> "Folder":
        """The place below this one."""
        return Folder(self.path / name)

    def open(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made or written to.
        """
        try:
            _make_private(self.path)
            probe = self.path / ".writable"
            probe.touch(mode=0o600)
            probe.unlink(missing_ok=True)  # another process may have been quicker
        except OSError as error:
            raise InputError(
                f"the lake folder {self.path} cannot be written to ({error.strerror}); give another with lake=",
                given=str(self.path),
                expected="a writable folder",
            ) from error

    def make(self) -> None:
        """Make the folder, readable by its owner alone, with those above it."""
        _make_private(self.path)

    def is_empty(self) -> bool:
        """Whether nothing lies there; a folder that is not there is empty too."""
        return not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir()))

    def keep_private(self, names: Iterable[str]) -> None:
        """Let nobody but the owner into these files and folders, which another library made; those that are not there,
        are another's, or lie where nothing can be changed, are passed over.
        """
        for name in names:
            with suppress(OSError):
                found = (self.path / name).stat()
                if found.st_mode & 0o077:
                    (self.path / name).chmod(0o700 if stat.S_ISDIR(found.st_mode) else 0o600)

    def write(self, name: str, content: pa.Buffer) -> None:
        """A new file, kept; an existing one is never written to."""
        target = self.path / name
        _make_private(target.parent)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(content)
                sink.flush()
                os.fsync(sink.fileno())
        except BaseException:
            target.unlink(missing_ok=True)  # a part of it would only take room
            raise

    def read(self, name: str) -> bytes:
        """Raises OSError where it cannot be read."""
        return (self.path / name).read_bytes()

    def opened(self, name: str) -> pa.NativeFile:
        """A file to read parts of; not mapped into memory, where one that is cut meanwhile would end the process.

        Raises OSError where it cannot be read.
        """
        return pa.OSFile(self.at(name), "r")

    def stamp(self, name: str) -> tuple[int, ...]:
        """What is another once the file has changed. Raises OSError where there is none."""
        found = (self.path / name).stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def missing(self, names: Iterable[str]) -> str | None:
        """One of the names that is no file, or None if all are there."""
        return next((name for name in names if not (self.path / name).is_file()), None)

    def matching(self, pattern: str) -> Iterator[FileEntry]:
        """The files that match; a star stands for part of a name."""
        for file in self.path.glob(pattern):
            found = file.stat()
            name = file.relative_to(self.path).as_posix()
            yield FileEntry(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def remove(self, names: Iterable[str]) -> None:
        """Remove the files; those that are not there are passed over."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def sync(self, names: Iterable[str]) -> None:
        """Have the disk keep files' bytes and folders' names; the empty name is the place itself."""
        for name in names:
            sync(self.path / name)

    def at(self, name: str) -> str:
        """A file as Polars is told of it."""
        return f"{self.path}/{name}"

    def table(
        self, connection: "duckdb.DuckDBPyConnection", names: Sequence[str], schema: pa.Schema
    ) -> tuple[str, list[str]]:
        """The files as SQL of the connection, and the paths that it must be allowed to open for that."""
        paths = [self.at(name) for name in names]
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false)", paths


def _make_private(folder: Path) -> None:
    """Make what is missing of the path, each folder for its owner alone, whatever the process's umask."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):  # another was quicker
            each.mkdir(mode=0o700)
    if not folder.is_dir():
        folder.mkdir(mode=0o700)  # says what stands in the way


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
