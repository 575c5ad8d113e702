"""The writes and the upkeep of a store, drawn in any order, with the oracle's book of each dataset kept beside it."""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import ClassVar

import hypothesis.strategies as st
import polars as pl
import psycopg
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from medalion.core.frames import conform, polars_schema
from medalion.core.time import TimeRange
from olap.delta.tables import LakeTable
from oltp.hot.tail import tail_rows
from oltp.hot.writes import WriteResult, write
from oltp.server.engine import Postgres
from tests.machines import lake_draws as draws
from tests.machines.lake_draws import DRIVEN, SYMBOLS, Drawn, ReadRange, frame_of, given_of, moment_of, row_of
from tests.machines.lake_faces import Face, dying, forget
from tests.machines.lake_model import Book, Values
from tests.support.lake import stored

AT_ONCE = timedelta()

steps_of_retention = st.sampled_from((None, None, "replace", "replace done"))


@dataclass
class Ground:
    """A database that examples share, each with a ledger and a lake of its own; a second connection writes slowly."""

    postgres: Postgres
    connection: psycopg.Connection
    slow: Postgres
    place: Path
    ids: dict[str, dict[str, int]]


@dataclass
class PendingWrite:
    """A write that has its number and time but is not committed."""

    book: Book
    rows: list[Values]
    result: WriteResult
    begun: datetime
    commits: bool
    ends: ExitStack


class Upkeep(RuleBasedStateMachine):
    """Two processes at one store, each of which may be behind the other, and a third that holds a write open."""

    ground: ClassVar[Ground]
    steps = 0
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        forget(self.ground.connection, DRIVEN)
        self.root = self.ground.place / f"lake-{next(self.numbers)}"
        self.books = {dataset.name: Book(dataset, self.ground.ids[dataset.name]) for dataset in DRIVEN}
        self.faces = [self._opened(), self._opened()]
        self.open: PendingWrite | None = None
        self.turns = count()
        self.driven = DRIVEN[0].name

    def teardown(self) -> None:
        """Lake, ledger and hot rows tell the same story, and it is the oracle's."""
        self.end_the_open_write()
        book = self.books[self.driven]
        names = book.dataset.stored.names
        expected = sorted(book.stored(), key=lambda row: row.arrival)
        assert self._stored(book).sort("write_id", "ordinal").rows() == [row.all(names) for row in expected]
        assert self.faces[0].mirror.verify([book.dataset]).rows() == []
        shutil.rmtree(self.root)

    @initialize(dataset=st.sampled_from([dataset.name for dataset in DRIVEN]), given=draws.several)
    def begin(self, dataset: str, given: list[Drawn]) -> None:
        """One dataset is driven, since many steps with the same rows say more than few with each."""
        self.driven = dataset
        self.write(dataset, 0, given, "manual", None)

    @rule(dataset=draws.driven, face=draws.faces, given=draws.several, source=draws.feeds, name=draws.names)
    def write(self, dataset: str, face: int, given: list[Drawn], source: str, name: str | None) -> None:
        """Under a name that may have been used, rows new or old, late or not."""
        self._write(dataset, face, [row_of(self.books[dataset].dataset, one) for one in given], source, name)

    @rule(dataset=draws.driven, face=draws.faces, which=st.integers(0, 30), source=draws.feeds)
    def write_again(self, dataset: str, face: int, which: int, source: str) -> None:
        if writes := self.books[dataset].writes:
            rows = writes[which % len(writes)].rows
            self._write(dataset, face, [given_of(row.values) for row in rows], source, None)

    @rule(dataset=draws.driven, face=draws.faces, each=st.integers(1, 3), value=st.integers(100, 200))
    def correct(self, dataset: str, face: int, each: int, value: int) -> None:
        book = self.books[dataset]
        for source in ("manual", "other"):
            held = [row.values for row in book.read(symbols=list(book.primary), source=source)][::each]
            if held:
                corrected = [draws.corrected(book.dataset, values, value) for values in held]
                self._write(dataset, face, corrected, source, None)

    @rule(dataset=draws.driven, face=draws.faces, asked=draws.asked)
    def delete(self, dataset: str, face: int, asked: ReadRange) -> None:
        """Of the source given or of the primary ones."""
        book = self.books[dataset]
        given = asked.of(book.dataset) | {"symbols": asked.symbols or list(SYMBOLS)}
        if self.open is not None and asked.source == "slow":
            return
        hidden = book.read(**given)
        newest = max((write.write_id for write in book.writes), default=0)
        assert self.faces[face].observations.delete(dataset, **given) == len(hidden)
        entries = self.ground.connection.execute(
            "SELECT id, source, recorded_at FROM writes WHERE dataset = %s AND id > %s AND kind = 'hot' ORDER BY id",
            (dataset, newest),
        ).fetchall()
        for write_id, feed, recorded_at in entries:
            rows = [r.values | {"available_at": book.available_at(r)} for r in hidden if r.values["source"] == feed]
            book.add(rows, write_id=write_id, recorded_at=recorded_at, source=feed, is_deleted=True)
        assert sum(len(w.rows) for w in book.writes if w.write_id > newest) == len(hidden)

    @rule(dataset=draws.driven, face=draws.faces, given=draws.several, source=draws.feeds, generation=st.integers(0, 1))
    def bring_history(self, dataset: str, face: int, given: list[Drawn], source: str, generation: int) -> None:
        self._import(dataset, face, [row_of(self.books[dataset].dataset, one) for one in given], source, generation)

    @rule(dataset=draws.driven, face=draws.faces, which=st.integers(0, 30), generation=st.integers(0, 1))
    def bring_history_again(self, dataset: str, face: int, which: int, generation: int) -> None:
        """What was imported, written or deleted before."""
        if writes := self.books[dataset].writes:
            written = writes[which % len(writes)]
            rows = [given_of(row.values) for row in written.rows]
            self._import(dataset, face, rows, "other" if written.source == "slow" else written.source, generation)

    @precondition(lambda self: self.open is None)
    @rule(dataset=draws.driven, given=draws.several, commits=st.booleans())
    def open_a_write(self, dataset: str, given: list[Drawn], commits: bool) -> None:
        """One that draws its number and time now and ends later; nobody else writes to its series."""
        book = self.books[dataset]
        rows = [row for one in given if (row := row_of(book.dataset, one))["symbol"] in book.primary]
        if rows:
            ends, begun = ExitStack(), datetime.now(UTC)
            connection = ends.enter_context(self.ground.slow.connection())
            ends.enter_context(connection.transaction(force_rollback=not commits))
            frame = conform(book.dataset, frame_of(book.dataset, rows), source="slow")
            result = write(connection, book.dataset, frame, source="slow")
            self.open = PendingWrite(book, rows, result, begun, commits, ends)

    @precondition(lambda self: self.open is not None)
    @rule()
    def end_the_open_write(self) -> None:
        if self.open is not None:
            ended, self.open = self.open, None
            ended.ends.close()
            if ended.commits:
                result = ended.result
                ended.book.add(
                    ended.rows, write_id=result.write_id, recorded_at=result.recorded_at, source=result.source
                )

    @rule(face=draws.faces, dataset=draws.driven, settle=st.booleans())
    def mirror(self, face: int, dataset: str, settle: bool) -> None:
        self.faces[face].mirror.run([dataset], settle=settle)
        self.books[dataset].mirrored()

    @rule(face=draws.faces, dataset=draws.driven, step=st.sampled_from(("stage", "append", "append done", "sync")))
    def mirror_and_die(self, face: int, dataset: str, step: str) -> None:
        """A batch stays claimed, and may be in the lake; its process is gone."""
        with dying(step) as died:
            self.faces[face].mirror.run([dataset])
        self.faces[face] = self._opened()
        if not died:
            self.books[dataset].mirrored()

    @rule(face=draws.faces, dataset=draws.driven, meanwhile=st.booleans())
    def compact(self, face: int, dataset: str, meanwhile: bool) -> None:
        mirror = self.faces[face].mirror
        if meanwhile:
            mirror.compact_meanwhile(dataset)
        else:
            mirror.compact([dataset])
            assert mirror.compact([dataset]).partitions == 0

    @rule(face=draws.faces, dataset=draws.driven)
    def prune(self, face: int, dataset: str) -> None:
        self.faces[face].mirror.prune([dataset])

    @rule(face=draws.faces, dataset=draws.driven)
    def vacuum(self, face: int, dataset: str) -> None:
        """Nothing is left in the folder but what the lake needs."""
        self.faces[face].mirror.vacuum([dataset], older_than=AT_ONCE)
        needed = {str(path) for path in self._table(self.books[dataset]).refresh().files.path}
        folder = self.root / dataset
        assert {str(file.relative_to(folder)) for file in folder.rglob("period=*/*.parquet")} == needed

    @rule(face=draws.faces, dataset=draws.driven, step=steps_of_retention)
    def remove_versions(self, face: int, dataset: str, step: str | None) -> None:
        book = self._claimed(dataset)
        with dying(step) as died:
            removed = self.faces[face].mirror.retain([dataset], versions_older_than=AT_ONCE).versions
        gone = book.remove_versions(self._in_lake(book))
        if died:
            self.faces[face] = self._opened()
        else:
            assert removed == gone
        if died or gone:
            book.versions_removed_at = datetime.now(UTC)
        if not died and self.open is None and all(row.is_mirrored for row in book.stored()):
            assert len(book.stored()) == len(book.current())

    @precondition(lambda self: self.open is None)
    @rule(face=draws.faces, dataset=draws.driven, until=draws.moments, step=steps_of_retention)
    def remove_rows(self, face: int, dataset: str, until: draws.Place | None, step: str | None) -> None:
        """Of partitions that end before a time; who dies in it is followed by another process."""
        book, begun = self._claimed(dataset), datetime.now(UTC)
        cut = moment_of(book.dataset, until or (3, 0, 0))
        ends = {row: draws.end_of_partition(book.dataset, row.values) for row in book.stored()}
        old = [row for row, end in ends.items() if end <= cut and row.is_mirrored]
        with dying(step) as died:
            removed = self.faces[face].mirror.retain([dataset], rows_older_than=begun - cut).rows
        gone = book.drop(old, self._in_lake(book), begun)
        if died:
            self.faces[face] = self._opened()
            self.mirror(1 - face, dataset, settle=False)
        else:
            assert removed == gone == len(old)
        for each in self.faces:  # who has looked at the lake within a minute still sees what was removed
            each.lake.table(book.dataset).refresh()
        if old:
            book.rows_removed_at = datetime.now(UTC)
            book.kept_from = max(ends[row] for row in old)

    @rule(face=draws.faces)
    def reopen(self, face: int) -> None:
        self.faces[face] = self._opened()

    def _opened(self) -> Face:
        return Face.open(self.ground.postgres, self.root, batch_rows=7, slot_rows=10)

    def _write(self, dataset: str, face: int, rows: list[Values], source: str, name: str | None) -> None:
        book = self.books[dataset]
        frame = frame_of(book.dataset, rows)
        result = self.faces[face].observations.write(dataset, frame, source=source, idempotency_key=name)
        self._book(book, name, rows, result)

    def _import(self, dataset: str, face: int, rows: list[Values], source: str, generation: int) -> None:
        book, content = self.books[dataset], (source, generation, draws.content_of(rows))
        imported = self.faces[face].observations.import_history
        result = imported(dataset, frame_of(book.dataset, rows), feed=source, generation=generation)
        self._book(book, content, rows, result, is_mirrored=True)

    def _book(
        self, book: Book, name: object, rows: list[Values], result: WriteResult, *, is_mirrored: bool = False
    ) -> None:
        """A name or content that was seen before has written nothing."""
        if earlier := book.by_key.get(name):
            assert (result.is_duplicate, result.write_id) == (True, earlier.write_id)
            return
        assert (result.is_duplicate, result.rows) == (False, len(rows))
        written = book.add(
            rows,
            write_id=result.write_id,
            recorded_at=result.recorded_at,
            source=result.source,
            is_mirrored=is_mirrored,
        )
        if name is not None:
            book.by_key[name] = written

    def _claimed(self, dataset: str) -> Book:
        """The book once what was claimed by a process that died counts as mirrored: whoever comes next finishes it."""
        claimed = self.ground.connection.execute(
            "SELECT id FROM writes WHERE dataset = %s AND batch IS NOT NULL", (dataset,)
        ).fetchall()
        for row in self.books[dataset].rows:
            row.is_mirrored = row.is_mirrored or (row.write_id,) in claimed
        return self.books[dataset]

    def _moment(self, book: Book, moment: int | None) -> datetime | None:
        """A time at which something was recorded, or the next to it."""
        recorded = sorted({row.recorded_at for row in book.rows})
        recorded += [self.open.result.recorded_at] if self.open is not None and self.open.book is book else []
        if moment is None or not recorded:
            return None
        return recorded[moment // 3 % len(recorded)] + timedelta(microseconds=moment % 3 - 1)

    def _table(self, book: Book) -> LakeTable:
        return self.faces[0].lake.table(book.dataset)

    def _stored(self, book: Book) -> pl.DataFrame:
        """Every row of the lake and every hot one that is not in it."""
        batch = self._table(book).refresh().batch
        with self.ground.postgres.arrow() as connection:
            _, hot = tail_rows(connection, book.dataset, batch=batch, instruments=None, during=TimeRange())
        return pl.concat([self._lake_rows(book), hot.select(book.dataset.stored.names)])

    def _in_lake(self, book: Book) -> set[tuple[int, int]]:
        return set(self._lake_rows(book).select("write_id", "ordinal").rows())

    def _lake_rows(self, book: Book) -> pl.DataFrame:
        table = self._table(book)
        return stored(table) if len(table.refresh().files) else pl.DataFrame(schema=polars_schema(book.dataset.stored))
