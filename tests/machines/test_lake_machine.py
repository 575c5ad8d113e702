"""Whatever is written, mirrored, compacted, pruned, removed and reopened in any order, every read is the oracle's.

400 steps over PostgreSQL and a lake of tiny files; MEDALION_LAKE_STEPS multiplies them.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import polars as pl
import psycopg
import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

import medalion
from medalion.core.datasets import STOCK_BARS
from medalion.core.errors import InputError
from medalion.core.frames import polars_schema
from medalion.observations import plan as routing
from olap.delta import compaction
from olap.files import parquet
from tests.machines import lake_draws as draws
from tests.machines.lake_draws import DRIVEN, SYMBOLS, TIMES, Place, ReadRange, moment_of
from tests.machines.lake_faces import Face, opened
from tests.machines.lake_model import Book
from tests.machines.lake_upkeep import Ground, Upkeep
from tests.support.lengths import examples
from tests.support.observed import instruments
from tests.support.server import libpq

T = TypeVar("T")

STEPS = 400

columns = st.one_of(st.none(), st.sampled_from((["source"], ["recorded_at", "write_id"], ["available_at", "ordinal"])))
dataset_and_face: dict[str, Any] = {"dataset": draws.driven, "face": draws.faces}


@pytest.fixture
def ground(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    for module, name, small in (
        (compaction, "FILE_ROWS", 12),
        (compaction, "FEWEST_FILES", 3),
        (compaction, "_APART_ROWS", 3),
        (parquet, "MIN_GROUP_ROWS", 4),
        (parquet, "GROUP_ROWS", 8),
    ):
        monkeypatch.setattr(module, name, small)
    with medalion.open(database_url, data_dir=tmp_path / "data", mirror_background=False) as store:
        ids = {kind: instruments(store, kind, SYMBOLS) for kind in {dataset.kind for dataset in DRIVEN}}
    with (
        opened(database_url) as postgres,
        opened(database_url) as slow,
        psycopg.connect(libpq(database_url), autocommit=True) as connection,
    ):
        yield Ground(postgres, connection, slow, tmp_path, {d.name: ids[d.kind] for d in DRIVEN})


@pytest.mark.long
@pytest.mark.timeout(14_400)  # of the whole history; each of its calls is short
def test_every_read_is_that_of_the_oracle_after_every_step(
    ground: Ground, record_testsuite_property: Callable[[str, object], None]
) -> None:
    LakeMachine.ground, LakeMachine.steps = ground, 0
    length = settings(max_examples=examples(STEPS * TIMES) // 30, stateful_step_count=40, database=None)
    started = time.monotonic()
    run_state_machine_as_test(LakeMachine, settings=length)
    record_testsuite_property("steps of the lake", LakeMachine.steps)
    record_testsuite_property("steps of the lake a second", round(LakeMachine.steps / (time.monotonic() - started)))
    assert LakeMachine.steps >= examples(STEPS * TIMES) // 2  # how many an example has is drawn, too


class LakeMachine(Upkeep):
    """Reads of every kind in between, each of which is what the oracle says."""

    @invariant()
    def agrees(self) -> None:
        """A read of everything, by each process in turn."""
        type(self).steps += 1
        self._read(self.driven, self.faces[next(self.turns) % 2])

    @rule(**dataset_and_face, asked=draws.asked, moment=draws.recorded, columns=columns, is_wide=st.booleans())
    def read(
        self,
        dataset: str,
        face: int,
        asked: ReadRange,
        moment: int | None,
        columns: list[str] | None,
        is_wide: bool,
    ) -> None:
        book = self.books[dataset]
        given = asked.of(book.dataset) | {"as_of": self._moment(book, moment)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(routing, "WIDE_ROWS", 0 if is_wide else routing.WIDE_ROWS)
            self._read(dataset, self.faces[face], columns, **given)

    @rule(**dataset_and_face, asked=draws.asked)
    def scan(self, dataset: str, face: int, asked: ReadRange) -> None:
        """Twice from the same files, which an earlier vacuum has left alone."""
        self.faces[face].lake.table(self.books[dataset].dataset).refresh()
        given, book = asked.of(self.books[dataset].dataset), self.books[dataset]
        lazy = self.faces[face].observations.scan(dataset, **given)
        expected = [book.shown(row) for row in book.read(**given)]
        assert lazy.collect().rows() == lazy.collect().rows() == expected

    @rule(**dataset_and_face, moment=draws.recorded)
    def ask_in_sql(self, dataset: str, face: int, moment: int | None) -> None:
        """Of every source."""
        book = self.books[dataset]
        names = ["write_id", "ordinal", *(n for n in book.dataset.schema.names if n not in ("bids", "asks"))]
        query = f"SELECT {', '.join(names)} FROM {dataset} ORDER BY write_id, ordinal"
        as_of, sql = self._moment(book, moment), self.faces[face].observations.sql
        found = self._answered(book, as_of, None, lambda: sql(query, as_of=as_of).pl())
        if found is not None:
            rows = sorted(book.current(as_of), key=lambda row: row.arrival)
            assert found.rows() == [book.shown(row, names) for row in rows]

    @precondition(lambda self: self.driven == STOCK_BARS.name)
    @rule(face=draws.faces, asked=draws.asked, frame=st.sampled_from(draws.FRAMES), moment=draws.recorded)
    def bars(self, face: int, asked: ReadRange, frame: str, moment: int | None) -> None:
        """Not made from finer ones where each symbol has some of the length; what retention took may have to tell."""
        book = self.books[STOCK_BARS.name]
        names, as_of = asked.symbols or list(SYMBOLS), self._moment(book, moment)
        given = asked.of(STOCK_BARS)
        within: dict[str, Any] = {"start": given["start"], "end": given["end"], "as_of": as_of}
        held, left = (
            {row.values["symbol"] for row in book.read(timeframe=frame, as_of=as_of, start=start)}
            for start in (None, book.kept_from)
        )
        bars, rollup = self.faces[face].observations.bars, held.issuperset(names)
        needed = given["start"] if left.issuperset(names) or not rollup else None
        found = self._answered(book, as_of, needed, lambda: bars(names, frame, rollup=rollup, **within))
        if found is not None:
            expected = book.read(symbols=names, timeframe=frame, **within)
            assert found.rows() == [book.shown(row) for row in expected]

    @rule(**dataset_and_face, asked=draws.asked, symbol=draws.symbols, moment=draws.recorded)
    def latest(self, dataset: str, face: int, asked: ReadRange, symbol: str, moment: int | None) -> None:
        if asked.source == "slow" and self.open is not None:
            return  # the repair of the last value would wait for the open write
        book = self.books[dataset]
        as_of = self._moment(book, moment)
        given: dict[str, Any] = {"source": asked.source, "as_of": as_of, "timeframe": self._frame(book, asked)}

        def ask() -> list[dict[str, Any] | None]:
            return [self.faces[face].observations.latest(dataset, symbol, **given)]

        found = self._answered(book, as_of, None, ask)
        if found is not None:
            row = book.latest(symbol, **given)
            assert found == [row and dict(zip(book.dataset.schema.names, book.shown(row), strict=True))]

    @rule(
        **dataset_and_face,
        asked=draws.asked,
        left=st.lists(st.tuples(draws.symbols, draws.places), min_size=1, max_size=4),
        seconds=st.sampled_from((None, 30, 7200)),
    )
    def join_as_of(
        self, dataset: str, face: int, asked: ReadRange, left: list[tuple[str, Place]], seconds: int | None
    ) -> None:
        """Each left row beside what was known by then."""
        book, tolerance = self.books[dataset], None if seconds is None else timedelta(seconds=seconds)
        frame = self._frame(book, asked)
        given = [(symbol, moment_of(book.dataset, place) + timedelta(seconds=75)) for symbol, place in left]
        rows = pl.DataFrame(given, schema={"symbol": pl.String, "ts": pl.Datetime("us", "UTC")}, orient="row")
        found = self.faces[face].observations.asof(rows, dataset, tolerance=tolerance, timeframe=frame)
        known = [book.known(symbol, at, timeframe=frame, tolerance=tolerance) for symbol, at in given]
        names = ["instrument_id", "source", *(column.name for column in book.dataset.values)]
        nothing = (None,) * len(names)
        assert found.select("symbol", "ts").rows() == given
        assert found.select(names).rows() == [nothing if row is None else book.shown(row, names) for row in known]

    @rule(**dataset_and_face)
    def explain(self, dataset: str, face: int) -> None:
        """Every row that is held lies in a file of the plan or is hot."""
        book = self.books[dataset]
        self.faces[face].lake.table(book.dataset).refresh()
        plan = self.faces[face].observations.explain(dataset)
        assert plan.rows + plan.hot_rows == len(book.stored())

    def _frame(self, book: Book, asked: ReadRange) -> str | None:
        return (asked.frame or "1Min") if book.dataset.has_timeframe else None

    def _read(self, dataset: str, face: Face, columns: list[str] | None = None, **asked: Any) -> None:
        book = self.books[dataset]
        names = columns and [*columns, *book.dataset.order]
        read = partial(face.observations.read, dataset, columns=names, **asked)
        found = self._answered(book, asked.get("as_of"), asked.get("start"), read)
        if found is not None:
            assert found.rows() == [book.shown(row, names) for row in book.read(**asked)]
            if names is None:
                assert found.schema == polars_schema(book.dataset.schema)

    def _answered(self, book: Book, as_of: datetime | None, start: datetime | None, ask: Callable[[], T]) -> T | None:
        """The answer; None where the `as_of` was refused, and could be."""
        still_open = self.open if self.open is not None and self.open.book is book else None
        try:
            answer = ask()
        except InputError as error:
            if as_of is None:
                raise
            is_late = still_open is not None and as_of >= still_open.begun and "not settled" in str(error)
            if is_late or ("removed by retention" in str(error) and book.may_be_refused(as_of, start)):
                return None
            raise
        assert still_open is None or as_of is None or as_of < still_open.result.recorded_at
        return answer
