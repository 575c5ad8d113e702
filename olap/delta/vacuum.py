"""What the lake's place holds without need: files of versions long gone, files of writers that died, old log entries.

Delta's own vacuum is not used: its full form removes what an import is still staging, and without that form it leaves
files that were staged and never committed. Whoever calls this keeps all who stage files out.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from medalion.core.errors import CorruptLakeError
from olap.delta.log import LOG
from olap.delta.tables import LakeTable
from olap.files.layout import PERIOD
from olap.places.base import FileEntry, writing
from olap.places.folder import Folder


def unneeded(table: LakeTable, *, before: datetime) -> list[FileEntry]:
    """Files that no version since `before` refers to, and that were not written since."""
    pin = table.owned()
    if pin.version < 0:
        return []
    needed = {*pin.files.path, *_removed_since(table, before)}
    files = table.place.matching(f"{PERIOD}=*/*.parquet")
    return sorted((file for file in files if file.name not in needed and file.changed_at < before), key=_name)


def _removed_since(table: LakeTable, before: datetime) -> Iterator[str]:
    """Files that were part of a version until a commit at or after `before`."""
    for commit in table.place.matching(f"{LOG}/*.json"):
        if _version(commit) is not None and commit.changed_at >= before:
            try:
                actions = [json.loads(line) for line in table.place.read(commit.name).splitlines()]
                yield from [action["remove"]["path"] for action in actions if "remove" in action]
            except (ValueError, LookupError, TypeError, OSError) as error:
                raise CorruptLakeError(f"{table.place}/{commit.name} is damaged; nothing was removed") from error


def expired(table: LakeTable, *, before: datetime) -> list[FileEntry]:
    """Entries of the table's log from before `before` that no reader needs: a checkpoint above them says the same.

    Who is just opening the table may still start from the checkpoint that is the newest now, so that one stays.
    """
    entries = {entry: version for entry in table.place.matching(f"{LOG}/*") if (version := _version(entry)) is not None}
    start = max((version for entry, version in entries.items() if ".checkpoint." in entry.name), default=-1)
    old = (entry for entry, version in entries.items() if version < start and entry.changed_at < before)
    return sorted(old, key=_name)


def checkpoint(table: LakeTable) -> None:
    """Sum the log up, so that opening the table reads one file, and the entries below can go next time.

    Raises:
        StoreError: the place cannot be written to.
        StoreUnavailableError: an object store does not answer.
    """
    if table.refresh().version < 0:
        return
    with writing(table.place):
        table.open().create_checkpoint()
        table.place.sync([LOG])


def tidy(table: LakeTable) -> None:
    """Remove the folders of partitions in which no file is left; a bucket has none."""
    if isinstance(table.place, Folder):
        for folder in table.place.path.glob(f"{PERIOD}=*"):
            with suppress(OSError):  # it holds files
                folder.rmdir()


def _name(entry: FileEntry) -> str:
    return entry.name


def _version(entry: FileEntry) -> int | None:
    number = entry.name.rpartition("/")[2].split(".")[0]
    return int(number) if number.isdigit() else None
