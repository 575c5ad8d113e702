"""Reads of a range: selected, planned, and answered by the engine that fits."""

from collections.abc import Callable, Sequence

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError
from medalion.observations.plan import ReadPlan, plan_range
from medalion.observations.selection import ReadRequest, select
from olap.delta.lake import Lake
from olap.reads.narrow import read
from olap.reads.scan import Selection
from oltp.server.engine import Postgres


class RangeReads:
    """Reads of one store's datasets; safe from several threads."""

    def __init__(self, postgres: Postgres, lake: Lake) -> None:
        self._postgres = postgres
        self._lake = lake

    def planned(self, asked: ReadRequest) -> tuple[Selection, ReadPlan]:
        """The files and rows that hold the answer, and how it is made of them."""
        selection, _, _ = select(self._postgres, self._lake.table(asked.dataset), asked)
        plan = plan_range(
            asked.dataset,
            files=selection.files,
            hot_rows=selection.hot.height,
            instruments=None if asked.instruments is None else len(asked.instruments),
            deduplicated=len(selection.paths[1]),
        )
        return selection, plan

    def rows(self, asked: ReadRequest, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of the current rows, in order."""

        def answer() -> pl.DataFrame:
            selection, plan = self.planned(asked)
            if plan.engine == "duckdb":
                from olap.reads.sql import frame as read_wide

                return read_wide(selection, columns)
            return read(selection, columns=columns)

        return self.again(asked.dataset, answer)

    def again(self, dataset: Dataset, answer: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The answer, asked for twice where a vacuum has removed files that only this process still knew of."""
        table = self._lake.table(dataset)
        pin = table.pin()
        try:
            return answer()
        except CorruptLakeError:
            if table.refresh().version == pin.version:
                raise
        return answer()
