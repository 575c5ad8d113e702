"""What the commits of a table's log say of its files."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from medalion.errors import CorruptLakeError
from olap.files import NO_FILES, Files
from olap.layout import CLEAN, COMPACT, PERIOD
from olap.place import Place

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


@dataclass(frozen=True, slots=True)
class Changes:
    """Files that commits took out of a table, by path, and those that they put in."""

    gone: set[str]
    added: pl.DataFrame


def changes(place: Place, versions: Iterable[int]) -> Changes | None:
    """What commits in a row have changed; None where they say more than that, or are in the log no more."""
    gone: set[str] = set()
    added: dict[str, dict[str, Any]] = {}
    for version in versions:
        try:
            commit = place.read(f"_delta_log/{version:020}.json")
        except OSError:
            return None
        for line in commit.splitlines():
            action = json.loads(line)
            if action.keys() - _ABOUT_FILES:
                return None
            if removed := action.get("remove"):
                gone.add(removed["path"])
                added.pop(removed["path"], None)
            if entered := action.get("add"):
                gone.discard(entered["path"])
                added[entered["path"]] = _flat(entered)
    return Changes(gone, pl.DataFrame(list(added.values()), schema=_ACTIONS))


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
