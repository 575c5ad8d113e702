"""What the commits of a table's log say of its files."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from medalion.core.errors import CorruptLakeError
from olap.files.index import NO_FILES, Files
from olap.files.layout import CLEAN, COMPACT, PERIOD
from olap.files.parquet import StagedFile
from olap.places.open import Place

LOG = "_delta_log"
ANCHORED = "_audit_anchors"
"""The table of the audit's anchors, beside those of the datasets."""

_MOMENT = pl.Datetime("us", "UTC")
_ACTIONS: Any = {
    "path": pl.String,
    PERIOD: pl.String,
    "num_records": pl.Int64,
    "size_bytes": pl.Int64,
    "modification_time": pl.Int64,
    "min.instrument_id": pl.Int64,
    "max.instrument_id": pl.Int64,
    "min.ts": _MOMENT,
    "max.ts": _MOMENT,
}
_ABOUT_FILES = {"add", "remove", "txn", "commitInfo"}
_FOLLOWED = 32
"""Commits that are read one by one; to open the table anew is sooner done than more."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the commits up to a version have done to a table.

    Files that they took out, by path, and those that they put in; the application transactions that they set, by name.
    """

    version: int
    gone: set[str]
    added: pl.DataFrame
    marks: dict[str, int]


def commit_name(version: int) -> str:
    """The file of a commit, as named in the table's place."""
    return f"{LOG}/{version:020}.json"


def written_with(version: int) -> tuple[str, ...]:
    """The files that a commit may leave in the log, as named in the table's place."""
    return (commit_name(version), f"{LOG}/{version:020}.checkpoint.parquet", f"{LOG}/_last_checkpoint")


def changes(place: Place, *, after: int) -> Changes | None:
    """What the commits since a version have changed; None where that takes opening the table to know.

    They are too many, say more than `Changes` can, or are in the log no more.
    """
    commits = list(_commits(place, after))
    version = after + len(commits)
    # Old commits leave the log in order: while the last one read is there, none above it has left.
    if len(commits) > _FOLLOWED or place.missing([commit_name(version)]):
        return None
    try:
        return _summed(version, commits)
    except (ValueError, LookupError, TypeError, AttributeError, pl.exceptions.PolarsError):
        return None  # it is damaged: whoever opens the table says how


def _summed(version: int, commits: Iterable[bytes]) -> Changes | None:
    gone: set[str] = set()
    added: dict[str, dict[str, Any]] = {}
    marks: dict[str, int] = {}
    for commit in commits:
        for line in commit.splitlines() or [commit]:
            action = json.loads(line)
            if action.keys() - _ABOUT_FILES:
                return None
            if marked := action.get("txn"):
                marks[marked["appId"]] = marked["version"]
            if removed := action.get("remove"):
                gone.add(removed["path"])
                added.pop(removed["path"], None)
            if entered := action.get("add"):
                gone.discard(entered["path"])
                added[entered["path"]] = _flat(entered)
    return Changes(version, gone, pl.DataFrame(list(added.values()), schema=_ACTIONS), marks)


def _commits(place: Place, after: int) -> Iterator[bytes]:
    """Those since a version, oldest first: at most one more than are followed."""
    with suppress(FileNotFoundError):
        for version in range(after + 1, after + _FOLLOWED + 2):
            yield place.read(commit_name(version))


def _flat(entered: dict[str, Any]) -> dict[str, Any]:
    """An added file with its statistics, as far as it has them."""
    told = json.loads(entered.get("stats") or "{}")
    low, high = told.get("minValues", {}), told.get("maxValues", {})
    return {
        "path": entered["path"],
        PERIOD: entered.get("partitionValues", {}).get(PERIOD),
        "num_records": told.get("numRecords"),
        "size_bytes": entered["size"],
        "modification_time": entered["modificationTime"],
        "min.instrument_id": low.get("instrument_id"),
        "max.instrument_id": high.get("instrument_id"),
        "min.ts": _moment(low.get("ts")),
        "max.ts": _moment(high.get("ts")),
    }


def files_staged(staged: Iterable[StagedFile]) -> Files:
    """What the log will say of files once a commit names them."""
    return files_of(
        pl.DataFrame(
            [
                _flat(
                    {
                        "path": file.path,
                        "partitionValues": {PERIOD: file.period},
                        "size": file.size,
                        "modificationTime": 0,
                        "stats": file.stats,
                    }
                )
                for file in staged
            ],
            schema=_ACTIONS,
        )
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def files_of(actions: pl.DataFrame) -> Files:
    """The files that actions of the log name.

    Raises:
        CorruptLakeError: one has no statistics, so that another tool has written it; the message begins with its path.
    """
    if actions.is_empty():
        return NO_FILES
    files = actions.select(
        "path",
        PERIOD,
        rows="num_records",
        bytes="size_bytes",
        first_instrument="min.instrument_id",
        last_instrument="max.instrument_id",
        first_ts="min.ts",
        last_ts="max.ts",
        added_at=pl.from_epoch("modification_time", "ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        is_clean=pl.col("path").str.ends_with(f"{CLEAN}.parquet"),
        is_compact=pl.col("path").str.contains(f"{COMPACT}(-|\\.)"),
    )
    foreign = files.filter(pl.any_horizontal(pl.all().is_null()))
    if foreign.height:
        raise CorruptLakeError(f"{foreign['path'][0]} has no statistics: another tool has written to the table")
    return Files.of(files)
