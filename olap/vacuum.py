"""What the lake's folders hold without need: files of versions long gone, files of writers that died, old log entries.

Delta's own vacuum is not used: its full form removes what an import is still staging, and without that form it leaves
files that were staged and never committed. Whoever calls this keeps all who stage files out.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from deltalake import DeltaTable

from olap.lake import LakeTable
from olap.layout import PERIOD
from olap.parquet import sync


def unneeded(table: LakeTable, *, before: datetime) -> list[Path]:
    """Files that no version since `before` refers to, and that were not written since."""
    if not (table.path / "_delta_log").is_dir():
        return []
    needed = {table.path / path for path in table.refresh().files.path}
    needed.update(table.path / path for path in _removed_since(table, before))
    files = table.path.glob(f"{PERIOD}=*/*.parquet")
    return sorted(file for file in files if file not in needed and not _is_since(file, before))


def _removed_since(table: LakeTable, before: datetime) -> Iterator[str]:
    """Files that were part of a version until a commit at or after `before`."""
    for commit in (table.path / "_delta_log").glob("*.json"):
        if commit.stem.isdigit() and _is_since(commit, before):
            for line in commit.read_text("utf-8").splitlines():
                if removed := json.loads(line).get("remove"):
                    yield removed["path"]


def remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def expired(table: LakeTable, *, before: datetime) -> list[Path]:
    """Entries of the table's log from before `before` that no reader needs: a checkpoint above them says the same.

    Who is just opening the table may still start from the checkpoint that is the newest now, so that one stays.
    """
    entries = {entry: _version(entry) for entry in (table.path / "_delta_log").glob("*") if _version(entry) is not None}
    checkpoints = [version for entry, version in entries.items() if ".checkpoint." in entry.name]
    start = max((version for version in checkpoints if version is not None), default=-1)
    return sorted(
        entry
        for entry, version in entries.items()
        if version is not None and version < start and not _is_since(entry, before)
    )


def checkpoint(table: LakeTable) -> None:
    """Sum the log up, so that opening the table reads one file, and the entries below can go next time."""
    if not (table.path / "_delta_log").is_dir():
        return
    DeltaTable(table.path).create_checkpoint()
    sync(table.path / "_delta_log")


def _version(entry: Path) -> int | None:
    number = entry.name.split(".")[0]
    return int(number) if number.isdigit() else None


def _is_since(file: Path, before: datetime) -> bool:
    return file.stat().st_mtime >= before.timestamp()
