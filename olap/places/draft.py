"""A folder that appears whole or not at all: made beside its place under another name, and renamed when it is done."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from medalion.core.errors import InputError, StoreError
from olap.places.folder import sync

_logger = logging.getLogger(__name__)
_MARK = ".partial-"


@dataclass(frozen=True, slots=True)
class Draft:
    """What will become the folder `target`, as `path` until then."""

    path: Path
    target: Path

    def publish(self) -> None:
        """Have the disk keep every name in it, and give it its own.

        Raises:
            InputError: something lies there by now.
            StoreError: it cannot be renamed, for instance because the target is where a disk is mounted.
        """
        for folder, _, _ in os.walk(self.path):
            sync(Path(folder))
        _refuse_used(self.target)
        try:
            self.path.rename(self.target)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be renamed to {self.target}: {error.strerror}") from error
        sync(self.target.parent)


@contextmanager
def drafted(target: Path, *, abandon: Callable[[Path], object] = lambda path: None) -> Iterator[Draft]:
    """A new private folder beside `target`; removed again unless it is published.

    Those that runs left which died are removed first, each given to `abandon` before: a folder is locked for as long as
    its maker lives, and the kernel gives the lock back.

    Raises:
        InputError: the target is no folder, holds something, or lies where nothing can be made.
    """
    _refuse_used(target)
    if target.is_mount():
        raise InputError(f"a disk is mounted at {target}, which cannot appear at once; give a folder in it")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(target, abandon)
        path, lock = _made(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be made ({error.strerror}); give a folder in one that can be written to",
            given=str(target),
            expected="a folder that this user may make",
        ) from error
    try:
        yield Draft(path, target)
    except BaseException:
        abandon(path)
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _refuse_used(target: Path) -> None:
    if not os.path.lexists(target):
        return
    try:
        is_used = target.is_symlink() or not target.is_dir() or any(target.iterdir())
    except OSError as error:
        raise InputError(f"{target} cannot be looked into ({error.strerror})", given=str(target)) from error
    if is_used:
        raise InputError(
            f"{target} is there and not an empty folder; give another, or remove it first",
            given=str(target),
            expected="a folder that is not there, or is empty",
        )


def _made(target: Path) -> tuple[Path, int]:
    while True:
        path = target.with_name(f"{target.name}{_MARK}{token_hex(4)}")
        path.mkdir(mode=0o700)
        if os.geteuid() == 0 and target.exists():
            found = target.stat()
            os.chown(path, found.st_uid, found.st_gid)
        lock = _locked(path)
        if lock is not None:
            return path, lock


def _locked(path: Path) -> int | None:
    """The descriptor of the folder, locked; None where another holds it, or was quicker to remove it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(path):
            return descriptor
    os.close(descriptor)
    return None


def _clear(target: Path, abandon: Callable[[Path], object]) -> None:
    """Remove what runs that died have left of the same target."""
    for path in target.parent.glob(f"{_escaped(target.name)}{_MARK}????????"):
        if path.is_symlink() or (lock := _locked(path)) is None:
            continue
        try:
            abandon(path)
            shutil.rmtree(path, ignore_errors=True)
            _logger.warning("removed %s, which a run had left that was killed", path)
        finally:
            os.close(lock)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
