"""What 10,000 files in a table's log cost: opening it cold, following one more commit, planning a read."""

import json
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.lake.processes import Contender, serve
from benchmarks.quotes import FIRST_DAY
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.frames import polars_schema
from medalion.core.time import TimeRange
from olap.delta.tables import LakeTable
from olap.files.layout import CLEAN, PERIOD
from olap.files.parquet import StagedFile
from olap.places.folder import Folder
from olap.reads.scan import Selection

_A_COMMIT = 100
_INSTRUMENTS = 100


class Planning(Contender):
    packages = ("deltalake",)

    def load(self, folder: str, files: int) -> None:
        """A table with so many files, 100 a commit, 20 a day, ten instruments each; all are links to an empty one."""
        self._root = Path(folder)
        table = LakeTable(Folder(self._root), STOCK_QUOTES)
        self._days = max(1, files // 20)
        model = self._root / "model.parquet"
        self._root.mkdir(parents=True)
        pl.DataFrame(schema=polars_schema(STOCK_QUOTES.stored)).write_parquet(model)
        for batch, first in enumerate(range(0, files, _A_COMMIT), 1):
            staged = [self._file(table, model, number) for number in range(first, min(first + _A_COMMIT, files))]
            table.append(staged, batch=batch, nonce=batch)
        self._batches = batch

    def _file(self, table: LakeTable, model: Path, number: int) -> StagedFile:
        day, place = divmod(number, 20)
        start = FIRST_DAY + timedelta(days=day, hours=place // 10)
        period = start.strftime("%Y-%m-%d")
        path = f"{PERIOD}={period}/{number:08}{CLEAN}.parquet"
        target = self._root / table.dataset.name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(model, target)
        low, high = place % 10 * 10 + 1, place % 10 * 10 + 10
        stamps = [_text(start), _text(start + timedelta(minutes=59))]
        extent = [
            {"instrument_id": instrument, "symbol": "Q", "ts": ts, "write_id": 1, "recorded_at": _text(start)}
            for instrument, ts in zip((low, high), stamps, strict=True)
        ]
        stats = {"numRecords": 10_000, "minValues": extent[0], "maxValues": extent[1], "nullCount": {}}
        return StagedFile(path, 100_000, 10_000, json.dumps(stats), period)

    def cold(self) -> float:
        """Seconds to open the table and know its files."""
        started = time.perf_counter()
        LakeTable(Folder(self._root), STOCK_QUOTES).refresh()
        return time.perf_counter() - started

    def refresh(self) -> dict[str, float]:
        """Seconds to look whether there is something new, and to know a commit of one file by another process."""
        table = LakeTable(Folder(self._root), STOCK_QUOTES)
        table.refresh()
        started = time.perf_counter()
        table.refresh()
        unchanged = time.perf_counter() - started
        self._batches += 1
        writer = LakeTable(Folder(self._root), STOCK_QUOTES)
        number = 10**7 + self._batches
        writer.append([self._file(writer, self._root / "model.parquet", number)], batch=self._batches, nonce=1)
        started = time.perf_counter()
        table.refresh()
        return {"unchanged": unchanged, "changed": time.perf_counter() - started}

    def plan(self) -> dict[str, float]:
        """Median seconds to choose among the pinned files for one symbol-day, and for everything."""
        pin = LakeTable(Folder(self._root), STOCK_QUOTES).refresh()
        hot = pl.DataFrame(schema=polars_schema(STOCK_QUOTES.stored))
        start = FIRST_DAY.replace(hour=0, minute=0, tzinfo=UTC) + timedelta(days=self._days // 2)
        narrow, wide = TimeRange(start, start + timedelta(days=1)), TimeRange()

        def once(during: TimeRange, instruments: list[int] | None) -> float:
            started = time.perf_counter()
            files = pin.files.selected(instruments, during)
            found = Selection(STOCK_QUOTES, Folder(self._root), files, hot, during).paths
            taken = time.perf_counter() - started
            if not any(found):
                raise RuntimeError("nothing was found")
            return taken

        return {
            "narrow": statistics.median(once(narrow, [42]) for _ in range(15)),
            "wide": statistics.median(once(wide, None) for _ in range(15)),
        }


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


if __name__ == "__main__":
    serve(Planning())
