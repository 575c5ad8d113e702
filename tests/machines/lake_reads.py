"""Reads of every kind between the writes and the upkeep, each of which is what the oracle says."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import polars as pl
import pytest

from medalion.core.datasets import STOCK_BARS
from medalion.core.errors import InputError
from medalion.core.frames import polars_schema
from medalion.observations import plan as routing
from tests.machines import lake_draws as draws
from tests.machines.lake_draws import SYMBOLS, Place, ReadRange, moment_of
from tests.machines.lake_faces import Face
from tests.machines.lake_upkeep import Upkeep
from tests.machines.seeds import among, list_of, rule, tuple_of

T = TypeVar("T")

columns = among(None, None, None, None, ["source"], ["recorded_at", "write_id"], ["available_at", "ordinal"])


class Reads(Upkeep):
    """Whatever is asked, by either process, is what the book says."""

    def agrees(self) -> None:
        """A read of everything, by each process in turn."""
        self._read(self.faces[next(self.turns) % 2])

    @rule(face=draws.faces, asked=draws.asked, moment=draws.recorded, columns=columns, is_wide=among(False, True))
    def read(
        self,
        face: int,
        asked: ReadRange,
        moment: int | None,
        columns: list[str] | None,
        is_wide: bool,
    ) -> None:
        book = self.book
        given = asked.of(book.dataset) | {"as_of": self._moment(moment)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(routing, "WIDE_ROWS", 0 if is_wide else routing.WIDE_ROWS)
            self._read(self.faces[face], columns, **given)

    @rule(face=draws.faces, asked=draws.asked)
    def scan(self, face: int, asked: ReadRange) -> None:
        """Twice from the same files, which an earlier vacuum has left alone."""
        self.faces[face].lake.table(self.book.dataset).refresh()
        given, book = asked.of(self.book.dataset), self.book
        lazy = self.faces[face].observations.scan(self.driven, **given)
        expected = [book.shown(row) for row in book.read(**given)]
        assert lazy.collect().rows() == lazy.collect().rows() == expected

    @rule(face=draws.faces, moment=draws.recorded, is_whole=among(False, True))
    def ask_in_sql(self, face: int, moment: int | None, is_whole: bool) -> None:
        """As reads do, or of every source."""
        book = self.book
        names = ["write_id", "ordinal", *(n for n in book.dataset.schema.names if n not in ("bids", "asks"))]
        view = f"{self.driven}_by_source" if is_whole else self.driven
        query = f"SELECT {', '.join(names)} FROM {view} ORDER BY write_id, ordinal"
        as_of, sql = self._moment(moment), self.faces[face].observations.sql
        found = self._answered(as_of, None, lambda: sql(query, as_of=as_of).pl())
        if found is not None:
            held = book.current(as_of) if is_whole else book.read(as_of=as_of)
            rows = sorted(held, key=lambda row: row.arrival)
            assert found.rows() == [book.shown(row, names) for row in rows]

    @rule(
        when=lambda machine: machine.book.dataset is STOCK_BARS,
        face=draws.faces,
        asked=draws.asked,
        frame=among(*draws.FRAMES),
        moment=draws.recorded,
    )
    def bars(self, face: int, asked: ReadRange, frame: str, moment: int | None) -> None:
        """Not made from finer ones where each symbol has some of the length; what retention took may have to tell."""
        book = self.book
        names, as_of = asked.symbols or list(SYMBOLS), self._moment(moment)
        given = asked.of(STOCK_BARS)
        within: dict[str, Any] = {"start": given["start"], "end": given["end"], "as_of": as_of}
        held, left = (
            {row.values["symbol"] for row in book.read(timeframe=frame, as_of=as_of, start=start)}
            for start in (None, book.kept_from)
        )
        bars, rollup = self.faces[face].observations.bars, frame == "1Min" and held.issuperset(names)
        needed = given["start"] if left.issuperset(names) or not rollup else None
        found = self._answered(as_of, needed, lambda: bars(names, frame, rollup=rollup, **within))
        if found is not None:
            expected = book.read(symbols=names, timeframe=frame, **within)
            assert found.rows() == [book.shown(row) for row in expected]

    @rule(face=draws.faces, asked=draws.asked, symbol=draws.symbols, moment=draws.recorded)
    def latest(self, face: int, asked: ReadRange, symbol: str, moment: int | None) -> None:
        book = self.book
        as_of = self._moment(moment)
        given: dict[str, Any] = {"source": asked.source, "as_of": as_of, "timeframe": self._frame(asked)}

        def ask() -> list[dict[str, Any] | None]:
            return [self.faces[face].observations.latest(self.driven, symbol, **given)]

        found = self._answered(as_of, None, ask)
        if found is not None:
            row = book.latest(symbol, **given)
            assert found == [row and dict(zip(book.dataset.schema.names, book.shown(row), strict=True))]

    @rule(
        face=draws.faces,
        asked=draws.asked,
        left=list_of(tuple_of(draws.symbols, draws.places), 1, 4),
        seconds=among(None, 30, 7200),
    )
    def join_as_of(self, face: int, asked: ReadRange, left: list[tuple[str, Place]], seconds: int | None) -> None:
        """Each left row beside what was known by then."""
        book, tolerance = self.book, None if seconds is None else timedelta(seconds=seconds)
        frame = self._frame(asked)
        given = [(symbol, moment_of(book.dataset, place) + timedelta(seconds=75)) for symbol, place in left]
        rows = pl.DataFrame(given, schema={"symbol": pl.String, "ts": pl.Datetime("us", "UTC")}, orient="row")
        found = self.faces[face].observations.asof(rows, self.driven, tolerance=tolerance, timeframe=frame)
        known = [book.known(symbol, at, timeframe=frame, tolerance=tolerance) for symbol, at in given]
        names = ["instrument_id", "source", *(column.name for column in book.dataset.values)]
        nothing = (None,) * len(names)
        assert found.select("symbol", "ts").rows() == given
        assert found.select(names).rows() == [nothing if row is None else book.shown(row, names) for row in known]

    @rule(face=draws.faces)
    def explain(self, face: int) -> None:
        """Every row that is held lies in a file of the plan or is hot."""
        book = self.book
        self.faces[face].lake.table(book.dataset).refresh()
        plan = self.faces[face].observations.explain(self.driven)
        assert plan.rows + plan.hot_rows == len(book.stored())

    def _frame(self, asked: ReadRange) -> str | None:
        return (asked.frame or "1Min") if self.book.dataset.has_timeframe else None

    def _read(self, face: Face, columns: list[str] | None = None, **asked: Any) -> None:
        book = self.book
        names = columns and [*columns, *book.dataset.order]
        read = partial(face.observations.read, self.driven, columns=names, **asked)
        found = self._answered(asked.get("as_of"), asked.get("start"), read)
        if found is not None:
            assert found.rows() == [book.shown(row, names) for row in book.read(**asked)]
            if names is None:
                assert found.schema == polars_schema(book.dataset.schema)

    def _answered(self, as_of: datetime | None, start: datetime | None, ask: Callable[[], T]) -> T | None:
        """The answer; None where the `as_of` was refused, and could be."""
        still_open, book = self.open, self.book
        try:
            answer = ask()
        except InputError as error:
            if as_of is None:
                raise
            is_late = (still_open is not None and as_of >= still_open.begun) or as_of >= self._now()
            is_removed = "removed by retention" in str(error) and book.may_be_refused(as_of, start)
            if is_removed or (is_late and "not settled" in str(error)):
                return None
            raise
        assert still_open is None or as_of is None or as_of < still_open.result.recorded_at
        return answer
