"""Which store and engine answers a read, and why (pure). The thresholds are here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medalion.core.datasets import Dataset
from olap.files.index import Files

WIDE_ROWS = 2_000_000
"""From about here DuckDB returns a range sooner than Polars."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a read is answered; `files` and `rows` are what is opened at most, before filters within a file.

    `deduplicated` of the files may share a key with another row; the rest is read as it is. `sources` answer, of bars
    one at a time in this order of preference unless an instrument has its own, and `hidden` are others that have rows.
    """

    dataset: str
    store: str
    engine: str
    files: int
    rows: int
    hot_rows: int
    reason: str
    deduplicated: int = 0
    sources: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.dataset}: {self.store} through {self.engine}, {self.files:,} files with up to {self.rows:,} rows, "
            f"{self.hot_rows:,} unmirrored rows: {self.reason}{_told('; from ', self.sources)}"
            f"{_told('; hidden: ', self.hidden)}"
        )


def _told(before: str, names: Sequence[str]) -> str:
    return f"{before}{', '.join(names)}" if names else ""


def plan_range(
    dataset: Dataset,
    *,
    files: Files,
    hot_rows: int,
    instruments: int | None,
    deduplicated: int,
    sources: tuple[str, ...] = (),
    hidden: tuple[str, ...] = (),
) -> ReadPlan:
    """Narrow reads go through Polars, wide ones through DuckDB; both see the lake and the unmirrored rows.

    `files` are those that statistics leave; `instruments` None is all of them.
    """
    rows = int(files.rows.sum())
    wanted = rows if instruments is None else _share(files, instruments)
    is_wide = wanted >= WIDE_ROWS
    asked = "every instrument" if instruments is None else f"{instruments} instrument{'s' * (instruments != 1)}"
    width = f"{asked}, about {wanted:,} rows: {'wide' if is_wide else 'narrow'}"
    if len(files) == 0:
        store, reason = "PostgreSQL", "nothing of the range is in the lake yet" if hot_rows else "the range is empty"
    elif hot_rows:
        store, reason = "lake + PostgreSQL", f"{width}; some rows are not mirrored yet"
    else:
        store, reason = "lake", f"{width}; everything is mirrored, no hot row was touched"
    engine = "duckdb" if is_wide else "polars"
    return ReadPlan(dataset.name, store, engine, len(files), rows, hot_rows, reason, deduplicated, sources, hidden)


def _share(files: Files, instruments: int) -> int:
    """Rows expected if a file's rows are spread evenly over its span of instruments."""
    spans = files.last_instrument - files.first_instrument + 1
    return int((files.rows * np.minimum(instruments / spans, 1.0)).sum())
