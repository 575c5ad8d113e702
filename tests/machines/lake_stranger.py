"""Another store at the same lake, with a ledger of its own: whatever it tries is refused, and changes nothing."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from medalion.core.errors import CorruptLakeError, InputError
from tests.machines.lake_faces import Face

Try = Callable[[Face, str, pl.DataFrame], object]

TRIES: dict[str, Try] = {
    "mirror": lambda face, dataset, _: face.mirror.run([dataset]),
    "write": lambda face, dataset, rows: face.ingestion.write(dataset, rows),
    "import": lambda face, dataset, rows: face.ingestion.import_history(dataset, rows),
    "delete": lambda face, dataset, _: face.ingestion.delete(dataset, symbols="AAA"),
    "compact": lambda face, dataset, _: face.mirror.compact([dataset]),
    "vacuum": lambda face, dataset, _: face.mirror.vacuum([dataset], older_than=timedelta()),
    "retain rows": lambda face, dataset, _: face.mirror.retain([dataset], rows_older_than=timedelta()),
    "retain versions": lambda face, dataset, _: face.mirror.retain([dataset], versions_older_than=timedelta()),
    "heal": lambda face, dataset, _: face.mirror.verify([dataset], heal=True),
    "rebind": lambda face, dataset, _: face.mirror.rebind([dataset]),
    "read": lambda face, dataset, _: face.observations.read(dataset),
}


def content(lake: Path) -> dict[str, str]:
    """Each of a lake's files by its hash."""
    files = (path for path in lake.rglob("*") if path.is_file() and path.name != ".writable")
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refuses(face: Face, name: str, dataset: str, rows: pl.DataFrame, lake: Path) -> None:
    """One try of a stranger's face."""
    before = content(lake)
    with pytest.raises((CorruptLakeError, InputError)):
        TRIES[name](face, dataset, rows)
    assert content(lake) == before
