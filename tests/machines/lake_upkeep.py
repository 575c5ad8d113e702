"""The writes and the upkeep of a store, drawn in any order, with the oracle's book of each dataset kept beside it."""

import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random

import polars as pl
import psycopg
import pytest

from medalion.core.errors import ConflictError, StoreUnavailableError
from medalion.core.frames import conform, polars_schema
from medalion.core.time import TimeRange
from medalion.services.sources import Sources
from olap.delta.tables import LakeTable
from oltp.hot.tail import tail_rows
from oltp.hot.writes import WriteResult, write
from oltp.server.engine import one
from tests.machines import lake_draws as draws
from tests.machines.lake_clock import server_time
from tests.machines.lake_draws import DRIVEN, SYMBOLS, Drawn, ReadRange, frame_of, given_of, moment_of, row_of
from tests.machines.lake_faces import Face, dying
from tests.machines.lake_ground import Ground
from tests.machines.lake_model import Book, Comparison, Values
from tests.machines.seeds import among, rule, whole
from tests.support.lake import stored

AT_ONCE = timedelta()
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = count()

steps_of_retention = among(None, None, "replace", "replace done")


@dataclass
class PendingWrite:
    """A write that has its number and time but is not committed."""

    rows: list[Values]
    result: WriteResult
    begun: datetime
    commits: bool
    ends: ExitStack


def none_is_open(machine: "Upkeep") -> bool:
    return machine.open is None


class Upkeep:
    """Two processes at one store, each of which may be behind the other, and a third that holds a write open.

    One dataset is driven in a run, since many steps with the same rows say more than few with each.
    """

    def __init__(self, ground: Ground) -> None:
        ground.begin()
        self.ground = ground
        self.root = ground.place / f"lake-{next(_NUMBERS)}"
        self.faces = [self._opened(), self._opened()]
        self.open: PendingWrite | None = None
        self.turns = count()
        self.book = self._book_of(0)

    def begin(self, chance: Random) -> None:
        self.book = self._book_of(chance.randrange(len(DRIVEN)))
        self.write(0, draws.several(chance), "manual", None)

    def end(self) -> None:
        """Lake, ledger and hot rows tell the same story, and it is the oracle's."""
        self.end_the_open_write()
        names = self.book.dataset.stored.names
        expected = sorted(self.book.stored(), key=lambda row: row.arrival)
        assert self._stored().sort("write_id", "ordinal").rows() == [row.all(names) for row in expected]
        assert self.faces[0].mirror.verify([self.book.dataset]).rows() == []

    def close(self) -> None:
        if self.open is not None:
            self._lose_the_open_write()
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(face=draws.faces, given=draws.several, source=draws.feeds, name=draws.names)
    def write(self, face: int, given: list[Drawn], source: str, name: str | None) -> None:
        """Under a name that may have been used, rows new or old, late or not."""
        self._write(face, [row_of(self.book.dataset, one) for one in given], source, name)

    @rule(face=draws.faces, which=whole(0, 30), source=draws.feeds)
    def write_again(self, face: int, which: int, source: str) -> None:
        if writes := self.book.writes:
            rows = writes[which % len(writes)].rows
            self._write(face, [given_of(row.values) for row in rows], source, None)

    @rule(face=draws.faces, each=whole(1, 3), value=whole(100, 200))
    def correct(self, face: int, each: int, value: int) -> None:
        book = self.book
        for source in ("manual", "other"):
            held = [row.values for row in book.read(symbols=list(book.first), source=source)][::each]
            if held:
                corrected = [draws.corrected(book.dataset, values, value) for values in held]
                self._write(face, corrected, source, None)

    @rule(face=draws.faces, asked=draws.asked)
    def delete(self, face: int, asked: ReadRange) -> None:
        """Of the sources given or of all, which are hidden at one moment."""
        book = self.book
        given = asked.of(book.dataset) | {"symbols": asked.symbols or list(SYMBOLS)}
        if self.open is not None and (asked.source is None or "slow" in asked.source):
            return
        hidden = book.within(**given)
        newest = max((write.write_id for write in book.writes), default=0)
        assert self.faces[face].ingestion.delete(self.driven, **given) == len(hidden)
        entries = self.ground.rows(
            "SELECT id, source, recorded_at FROM writes WHERE dataset = %s AND id > %s AND kind = 'hot' ORDER BY id",
            (self.driven, newest),
        )
        assert len({recorded_at for _, _, recorded_at in entries}) <= 1
        for write_id, feed, recorded_at in entries:
            rows = [r.values | {"available_at": book.available_at(r)} for r in hidden if r.values["source"] == feed]
            book.add(rows, write_id=write_id, recorded_at=recorded_at, source=feed, is_deleted=True)
        assert sum(len(w.rows) for w in book.writes if w.write_id > newest) == len(hidden)

    @rule(face=draws.faces, sources=among([], ["other"], ["other", "manual"], ["slow", "manual"]))
    def prefer(self, face: int, sources: list[str]) -> None:
        """Have some sources answer before others from now on."""
        with self.faces[face].postgres.connection() as connection:
            Sources(self.faces[face].postgres).prefer(self.driven, sources)
            (since,) = one(connection.execute("SELECT max(recorded_at) FROM source_preferences").fetchone())
        self.book.preferred.append((since, sources))

    @rule(when=none_is_open, face=draws.faces, given=draws.several, source=draws.feeds)
    def bring_history(self, face: int, given: list[Drawn], source: str) -> None:
        self._import(face, [row_of(self.book.dataset, one) for one in given], source)

    @rule(when=none_is_open, face=draws.faces, which=whole(0, 30))
    def bring_history_again(self, face: int, which: int) -> None:
        """What was imported, written or deleted before."""
        if writes := self.book.writes:
            written = writes[which % len(writes)]
            rows = [given_of(row.values) for row in written.rows]
            self._import(face, rows, "other" if written.source == "slow" else written.source)

    @rule(when=none_is_open, face=draws.faces, given=draws.several, asked=draws.asked, source=draws.feeds)
    def replace(self, face: int, given: list[Drawn], asked: ReadRange, source: str) -> None:
        """A range becomes what a few rows say; of bars that of one timeframe."""
        book = self.book
        frame = asked.frame or "1Min"
        of = asked.of(book.dataset) | {"symbols": asked.symbols or list(SYMBOLS), "source": source}
        of |= {"timeframe": frame} if book.dataset.has_timeframe else {}
        start, end = of["start"] or moment_of(book.dataset, (0, 0, 0)), of["end"] or datetime(2040, 1, 1, tzinfo=UTC)
        of |= {"start": min(start, end), "end": max(start, end)}
        rows = [row_of(book.dataset, one) for one in given]
        rows = [
            row
            for row in rows
            if row["symbol"] in of["symbols"]
            and of["start"] <= row["ts"] < of["end"]
            and row.get("timeframe", frame) == frame
        ]
        found, held = book.differing(rows, source), book.within(**of)
        gone = book.lacking(rows, held, source)
        empty = frame_of(book.dataset, [row_of(book.dataset, (0, 0, 0, 0, 0))]).clear()
        result = self.faces[face].ingestion.replace(self.driven, frame_of(book.dataset, rows) if rows else empty, **of)
        told = (result.deleted, result.corrected, result.unchanged, result.rows)
        assert told == (len(gone), found.corrected, found.unchanged, len(found.stored) + len(gone))
        changed = [*found.stored.values(), *(given_of(row.values) for row in gone)]
        written = book.add(changed, write_id=result.write_id, recorded_at=result.recorded_at, source=source)
        for row in written.rows[len(found.stored) :]:
            row.is_deleted = True

    @rule(when=none_is_open, given=draws.several, commits=among(False, True))
    def open_a_write(self, given: list[Drawn], commits: bool) -> None:
        """One that draws its number and time now and ends later; nobody else writes to its series."""
        book = self.book
        rows = [row for one in given if (row := row_of(book.dataset, one))["symbol"] in book.first]
        if rows:
            ends, begun = ExitStack(), self._now()
            connection = ends.enter_context(self.ground.slow.connection())
            ends.enter_context(connection.transaction(force_rollback=not commits))
            frame = conform(book.dataset, frame_of(book.dataset, rows), source="slow")
            result = write(connection, book.dataset, frame, source="slow")
            self.open = PendingWrite(rows, result, begun, commits, ends)

    @rule(when=lambda machine: machine.open is not None)
    def end_the_open_write(self) -> None:
        if self.open is not None:
            ended, self.open = self.open, None
            ended.ends.close()
            if ended.commits:
                self._enter(None, ended.rows, ended.result)

    def _lose_the_open_write(self) -> None:
        """Its server is gone, or the run is at its end."""
        if self.open is not None:
            lost, self.open = self.open, None
            with suppress(psycopg.Error, StoreUnavailableError):
                lost.ends.close()

    @rule(face=draws.faces, settle=among(False, True))
    def mirror(self, face: int, settle: bool) -> None:
        self.faces[face].mirror.run([self.driven], settle=settle)
        self.book.mirrored()

    @rule(face=draws.faces, step=among("stage", "append", "append done", "sync"))
    def mirror_and_die(self, face: int, step: str) -> None:
        """A batch stays claimed, and may be in the lake; its process is gone."""
        with dying(step) as died:
            self.faces[face].mirror.run([self.driven])
        self.faces[face] = self._opened()
        if not died:
            self.book.mirrored()

    @rule(face=draws.faces, meanwhile=among(False, True))
    def compact(self, face: int, meanwhile: bool) -> None:
        mirror = self.faces[face].mirror
        if meanwhile:
            mirror.compact_meanwhile(self.driven)
        else:
            mirror.compact([self.driven])
            assert mirror.compact([self.driven]).partitions == 0

    @rule(face=draws.faces)
    def prune(self, face: int) -> None:
        self.faces[face].mirror.prune([self.driven])

    @rule(face=draws.faces)
    def vacuum(self, face: int) -> None:
        """Nothing is left in the folder but what the lake needs."""
        self.faces[face].mirror.vacuum([self.driven], older_than=AT_ONCE)
        needed = {str(path) for path in self._table().refresh().files.path}
        folder = self.root / self.driven
        left = {str(file.relative_to(folder)) for file in folder.rglob("period=*/*.parquet")}
        assert left >= needed
        if not self.ground.clocks.is_behind:
            assert left == needed

    @rule(face=draws.faces, step=steps_of_retention)
    def remove_versions(self, face: int, step: str | None) -> None:
        book = self._claimed()
        with dying(step) as died:
            removed = self.faces[face].mirror.retain([self.driven], versions_older_than=AT_ONCE).versions
        gone = book.remove_versions(self._in_lake())
        if died:
            self.faces[face] = self._opened()
        else:
            assert removed == gone
        if died or gone:
            book.versions_removed_at = max(self._now(), book.versions_removed_at or _LONG_AGO)
        # What was recorded by a clock that was ahead is no past yet.
        is_settled = none_is_open(self) and not self.ground.clocks.is_server_behind
        if not died and is_settled and all(row.is_mirrored for row in book.stored()):
            assert len(book.stored()) == len(book.current())

    @rule(when=none_is_open, face=draws.faces, until=draws.moments, step=steps_of_retention)
    def remove_rows(self, face: int, until: draws.Place | None, step: str | None) -> None:
        """Of partitions that end before a time; who dies in it is followed by another process."""
        book, begun = self._claimed(), self._now()
        cut = moment_of(book.dataset, until or (3, 0, 0))
        ends = {row: draws.end_of_partition(book.dataset, row.values) for row in book.stored()}
        old = [row for row, end in ends.items() if end <= cut and row.is_mirrored]
        with dying(step) as died:
            removed = self.faces[face].mirror.retain([self.driven], rows_older_than=self.ground.clocks.now() - cut).rows
        gone = book.drop(old, self._in_lake(), begun)
        if died:
            self.faces[face] = self._opened()
            self.mirror(1 - face, settle=False)
        else:
            assert removed == gone == len(old)
        for each in self.faces:  # who has looked at the lake within a minute still sees what was removed
            each.lake.table(book.dataset).refresh()
        if old:
            book.rows_removed_at = max(self._now(), book.rows_removed_at or _LONG_AGO)
            book.kept_from = max(book.kept_from or _LONG_AGO, *(ends[row] for row in old))

    @rule(face=draws.faces)
    def reopen(self, face: int) -> None:
        self.faces[face] = self._opened()

    @property
    def driven(self) -> str:
        return self.book.dataset.name

    def _book_of(self, number: int) -> Book:
        return Book(DRIVEN[number], self.ground.ids[DRIVEN[number].name])

    def _opened(self) -> Face:
        return Face.open(self.ground.postgres, self.root, batch_rows=7, slot_rows=10)

    def _write(self, face: int, rows: list[Values], source: str, name: str | None) -> None:
        """A name that was used before gives the first result to the same rows, and is refused to others."""
        frame, writing = frame_of(self.book.dataset, rows), self.faces[face].ingestion.write
        earlier = self.book.by_key.get(name)
        if earlier is None:
            self._enter(name, rows, writing(self.driven, frame, source=source, idempotency_key=name))
            return
        if earlier.holds(self.book, rows, source):
            result = writing(self.driven, frame, source=source, idempotency_key=name)
            assert (result.is_duplicate, result.write_id) == (True, earlier.write_id)
        else:
            with pytest.raises(ConflictError, match="are others; nothing was written"):
                writing(self.driven, frame, source=source, idempotency_key=name)

    def _import(self, face: int, rows: list[Values], source: str) -> None:
        imported, found = self.faces[face].ingestion.import_history, self.book.differing(rows, source)
        result = imported(self.driven, frame_of(self.book.dataset, rows), source=source)
        told = (result.rows, result.stored, result.unchanged, result.corrected)
        assert told == (len(rows), len(found.stored), found.unchanged, found.corrected)
        if result.write_id is not None and result.recorded_at is not None:
            self._enter_import(found, result.write_id, result.recorded_at, source)
        assert (result.write_id is None) == (not found.stored)

    def _enter_import(self, found: Comparison, write_id: int, recorded_at: datetime, source: str) -> None:
        self.book.add(
            found.stored.values(),
            write_id=write_id,
            recorded_at=recorded_at,
            source=source,
            is_mirrored=True,
            ordinals=found.stored,
        )

    def _enter(self, name: object, rows: list[Values], result: WriteResult) -> None:
        """Into the book, as it was acknowledged."""
        assert (result.is_duplicate, result.rows) == (False, len(rows))
        written = self.book.add(rows, write_id=result.write_id, recorded_at=result.recorded_at, source=result.source)
        if name is not None:
            self.book.by_key[name] = written

    def _claimed(self) -> Book:
        """The book once what was claimed by a process that died counts as mirrored: whoever comes next finishes it."""
        claimed = self.ground.rows("SELECT id FROM writes WHERE dataset = %s AND batch IS NOT NULL", (self.driven,))
        for row in self.book.rows:
            row.is_mirrored = row.is_mirrored or (row.write_id,) in claimed
        return self.book

    def _moment(self, moment: int | None) -> datetime | None:
        """A time at which something was recorded, or the next to it."""
        recorded = sorted({row.recorded_at for row in self.book.rows})
        recorded += [self.open.result.recorded_at] if self.open is not None else []
        if moment is None or not recorded:
            return None
        return recorded[moment // 3 % len(recorded)] + timedelta(microseconds=moment % 3 - 1)

    def _now(self) -> datetime:
        """By the server's clock."""
        with self.ground.postgres.connection() as connection:
            return server_time(connection)

    def _table(self) -> LakeTable:
        return self.faces[0].lake.table(self.book.dataset)

    def _stored(self) -> pl.DataFrame:
        """Every row of the lake and every hot one that is not in it."""
        dataset, batch = self.book.dataset, self._table().refresh().batch
        with self.ground.postgres.arrow() as connection:
            _, hot = tail_rows(connection, dataset, batch=batch, instruments=None, during=TimeRange())
        return pl.concat([self._lake_rows(), hot.select(dataset.stored.names)])

    def _in_lake(self) -> set[tuple[int, int]]:
        return set(self._lake_rows().select("write_id", "ordinal").rows())

    def _lake_rows(self) -> pl.DataFrame:
        table = self._table()
        if len(table.refresh().files):
            return stored(table)
        return pl.DataFrame(schema=polars_schema(self.book.dataset.stored))
