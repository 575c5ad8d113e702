"""What every place of a lake has, and what went wrong when it could not be reached."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
from deltalake.exceptions import DeltaError

from medalion.core.errors import CorruptLakeError, StoreError, StoreUnavailableError

Options: TypeAlias = "dict[str, Any] | None"
"""What a library needs besides a path to reach the place; None for folders."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a place; `changed_at` by the clock of whoever keeps it."""

    name: str
    bytes: int
    changed_at: datetime


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
def reaching(*others: type[Exception]) -> Iterator[None]:
    """Turns a library's error into the store's where an object store cannot be reached; folders have no such errors.

    `others` are the errors of libraries that not every read uses.

    Raises:
        StoreUnavailableError: the object store does not answer, or refuses.
    """
    kinds: tuple[type[Exception], ...] = (OSError, DeltaError, pl.exceptions.PolarsError, pa.ArrowException, *others)
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            # A library of Rust has met what it never expected. It is no Exception, and each library has a class of its
            # own for it; what is expected here is that bytes of the lake can do that.
            raise DeltaError(f"a library gave up: {error}") from None
        if not isinstance(error, kinds):
            raise
        if is_unreachable(str(error)):
            # Not chained: a server's answer may repeat the key that it was given.
            raise StoreUnavailableError(f"the lake's object store is not available: {said(str(error))}") from None
        raise


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Turns errors of changing a place of the lake into the store's.

    Raises:
        StoreError: it cannot be written to, for instance because the disk is full.
        StoreUnavailableError: an object store does not answer.
    """
    try:
        with reaching():
            yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StoreError(f"{place} cannot be written to: {told}; check its disk and its mode") from error


@contextmanager
def reading(*others: type[Exception]) -> Iterator[None]:
    """Turns errors of reading a file of the lake into the store's; `others` are those of libraries not always used.

    Raises:
        CorruptLakeError: a file that the log names is missing or damaged.
        StoreUnavailableError: an object store does not answer.
    """
    kinds: tuple[type[Exception], ...] = (OSError, DeltaError, pl.exceptions.PolarsError, pa.ArrowException, *others)
    try:
        with reaching(*others):
            yield
    except kinds as error:
        raise CorruptLakeError(f"the lake cannot be read: {error}; run `medalion mirror verify`") from error
