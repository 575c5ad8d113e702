"""Where a lake's bytes live: a folder here, or a bucket in `olap.bucket`, with the same methods.

Names are relative to the place, with forward slashes.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import duckdb
import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError

from medalion.core.errors import CorruptLakeError, InputError, StoreUnavailableError
from medalion.core.settings import Settings

if TYPE_CHECKING:
    from olap.bucket import Bucket

Place: TypeAlias = "Folder | Bucket"

Options: TypeAlias = "dict[str, Any] | None"
"""What a library needs besides a path to reach the place; None for folders."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a place; `changed_at` by the clock of whoever keeps it."""

    name: str
    bytes: int
    changed_at: datetime


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
        return None

    @property
    def polars_options(self) -> Options:
        return None

    def within(self, name: str) -> "Folder":
        return Folder(self.path / name)

    def open(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made or written to.
        """
        try:
            self.make()
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
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, content: pa.Buffer) -> None:
        """A new file, kept; an existing one is never written to."""
        target = self.path / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        return found.st_ino, found.st_size, found.st_mtime_ns

    def missing(self, names: Iterable[str]) -> str | None:
        """One of the names that is no file, or None if all are there."""
        return next((name for name in names if not (self.path / name).is_file()), None)

    def matching(self, pattern: str) -> Iterator[Entry]:
        """The files that match; a star stands for part of a name."""
        for file in self.path.glob(pattern):
            found = file.stat()
            name = file.relative_to(self.path).as_posix()
            yield Entry(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def remove(self, names: Iterable[str]) -> None:
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
        self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], schema: pa.Schema
    ) -> tuple[str, list[str]]:
        """The files as SQL of the connection, and the paths that it must be allowed to open for that."""
        paths = [self.at(name) for name in names]
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false)", paths


def lake_place(settings: Settings) -> Place:
    """Where the lake is: in a folder, or in a bucket.

    Raises:
        InputError: a URL that is no bucket's, or without the keys to it.
    """
    if settings.lake is None:
        return Folder(settings.data_dir / "lake")
    if settings.lake.startswith("s3://"):
        from olap.bucket import Bucket

        return Bucket.of(settings.lake)
    if "://" in settings.lake:
        scheme = settings.lake.split("://")[0]
        raise InputError(
            f"a lake on {scheme}:// was given; expected a folder or s3://bucket/prefix",
            given=scheme,
            expected="a folder or s3://bucket/prefix",
        )
    return Folder(Path(settings.lake).expanduser().absolute())


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_OF_STORE = re.compile(r"Generic S3 error|Error performing|AWS Error|error sending request|error decoding response")
_STATUS = re.compile(r"\b([345]\d\d) [A-Z][a-z]|HTTP status (?:code )?(\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|AWS Error (\w+)")
_REASONS = {
    "it does not answer in time": re.compile(r"timed out|(?<!_)timeout|deadline", re.IGNORECASE),
    "the connection is refused": re.compile(r"refused|could not connect|failed to connect", re.IGNORECASE),
    "its name is not known": re.compile(r"dns error|resolve host", re.IGNORECASE),
}


def said(text: str) -> str:
    """What an object store answered, from a library's error; nothing else of it, for servers repeat keys they refuse.

    >>> said("Generic S3 error: PUT: 503 Slow Down: <Error><Code>SlowDown</Code><Key>...</Key></Error>")
    'it answers 503 SlowDown'
    """
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        words = (status[1] or status[2], (code[1] or code[2]) if code else "")
        return f"it answers {' '.join(words).strip()}"
    return next((reason for reason, pattern in _REASONS.items() if pattern.search(text)), "the connection is cut")


def is_unreachable(text: str) -> bool:
    """Whether a library's error is that the object store did not serve it, rather than that an object is not there."""
    return bool(_OF_STORE.search(text)) and said(text) not in ("it answers 404", "it answers 404 NoSuchKey")


@contextmanager
def reaching() -> Iterator[None]:
    """Turns a library's error into the store's where an object store cannot be reached; folders have no such errors.

    Raises:
        StoreUnavailableError: the object store does not answer, or refuses.
    """
    try:
        yield
    except (OSError, DeltaError, pl.exceptions.PolarsError, pa.ArrowException, duckdb.Error) as error:
        if is_unreachable(str(error)):
            # Not chained: a server's answer may repeat the key that it was given.
            raise StoreUnavailableError(f"the lake's object store is not available: {said(str(error))}") from None
        raise


@contextmanager
def reading() -> Iterator[None]:
    """Turns errors of reading a file of the lake into the store's.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    try:
        with reaching():
            yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        raise CorruptLakeError(f"the lake cannot be read: {error}; run `medalion mirror verify`") from error
