"""How far a long command is, shown where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medalion.ingest.sources import ImportProgress


@contextmanager
def progress_bar() -> Iterator[Callable[[ImportProgress], None] | None]:
    """What moves a bar on standard error, which is gone afterwards; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(far: ImportProgress) -> None:
            is_counted = far.total_rows is not None
            done, total = (far.rows, far.total_rows) if is_counted else (far.bytes, far.total_bytes)
            bar.update(task, completed=done, total=total, description=f"{far.rows:,} rows")

        yield show
