"""The machine of the lake: writes, upkeep, reads, and what befalls a store from outside.

Its server is killed, bytes of its files change, another store is opened on its lake, clocks jump, and a process that
leads is stopped. What is drawn says where: no fault comes at a moment that only the scheduler knows.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

from medalion.core.errors import CorruptLakeError, StoreUnavailableError
from oltp.ledger import batches
from tests.machines import lake_draws as draws
from tests.machines.lake_damage import change, damaged, files_of
from tests.machines.lake_draws import Drawn, Place, ReadRange, frame_of, row_of
from tests.machines.lake_faces import Face
from tests.machines.lake_model import Comparison, Values
from tests.machines.lake_reads import Reads
from tests.machines.lake_steps import at_step
from tests.machines.lake_stranger import TRIES, refuses
from tests.machines.lake_upkeep import AT_ONCE, none_is_open
from tests.machines.seeds import among, list_of, rule, tuple_of, whole
from tests.support.server_processes import await_that

BOUND = 30.0
"""Seconds that a call may take in which the server dies, or beside a leader that stands still."""

_TABLE = "olap.delta.tables:LakeTable."
_STEPS = {
    "write": ("oltp.hot.writes:_copy", "oltp.hot.writes:_copy done", "oltp.hot.writes:keep_last done"),
    "import": (
        "medalion.ingest.staging:write_file done",
        "medalion.ingest.history:exclude_writes done",
        f"{_TABLE}append",
        f"{_TABLE}append done",
        "oltp.ledger.batches:enter_batch done",
        "oltp.ledger.batches:note",
        "oltp.ledger.batches:note done",
    ),
    "mirror": (
        "oltp.ledger.batches:claim done",
        f"{_TABLE}stage done",
        f"{_TABLE}append",
        f"{_TABLE}append done",
        "oltp.ledger.batches:note",
        "oltp.ledger.batches:note done",
        "oltp.ledger.batches:advance done",
    ),
    "compact": ("olap.delta.compaction:write_file done", f"{_TABLE}replace", f"{_TABLE}replace done"),
    "vacuum": ("olap.delta.vacuum:checkpoint", "olap.delta.vacuum:checkpoint done"),
    "read": (f"{_TABLE}pin done", f"{_TABLE}refresh done"),
}
_CALLS = tuple((call, step) for call, steps in _STEPS.items() for step in steps)

hours = among(-30, -5, -1, 0, 1, 5, 30)


@contextmanager
def bounded() -> Iterator[None]:
    """A call ends in time, with a result or without."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < BOUND


class LakeMachine(Reads):
    """What befalls a store from outside, between everything else."""

    @rule(weight=0.1)
    def kill_the_server(self) -> None:
        """Between two calls: the next one has it started again."""
        self.ground.kill_server()
        self._lose_the_open_write()

    @rule(weight=0.25, face=draws.faces, at=among(*_CALLS), given=draws.several, source=draws.feeds)
    def kill_the_server_in_a_call(self, face: int, at: tuple[str, str], given: list[Drawn], source: str) -> None:
        """The store stays open: its call ends in its result or is refused, and the next one works."""
        call, step = at
        rows = [row_of(self.book.dataset, one) for one in given]
        is_writing = call in ("write", "import")
        if call == "import":
            self.end_the_open_write()  # for which it would wait
        found = self.book.differing(rows, source)
        calls: dict[str, Callable[[], object]] = {
            "write": lambda: self._write(face, rows, source, None),
            "import": lambda: self._import(face, rows, source),
            "mirror": lambda: self.mirror(face, settle=True),
            "compact": lambda: self.compact(face, meanwhile=False),
            "vacuum": lambda: self.faces[face].mirror.vacuum([self.driven], older_than=AT_ONCE),
            "read": lambda: self._read(self.faces[face]),
        }
        if not is_writing:  # so that there is something to mirror
            self._write(face, rows, source, None)
        newest = self._newest_write()
        with bounded(), at_step(step, self.kill_the_server) as killed:
            try:
                calls[call]()
            except StoreUnavailableError:
                assert killed
                if is_writing:
                    self.faces[1 - face].mirror.run([self.driven])
                    self._enter_unanswered(newest, rows, source, found if call == "import" else None)
        self.ground.count("kills in a call", len(killed))
        self._claimed()

    def _newest_write(self) -> int:
        ((newest,),) = self.ground.rows("SELECT coalesce(max(id), 0) FROM writes")
        return int(newest)

    def _enter_unanswered(self, newest: int, rows: list[Values], source: str, imported: Comparison | None) -> None:
        """A call was refused: what it was to write is there, whole, or not at all."""
        entries = self.ground.rows(
            "SELECT id, recorded_at, source, rows FROM writes WHERE dataset = %s AND id > %s", (self.driven, newest)
        )
        assert len(entries) <= 1
        for write_id, recorded_at, feed, count in entries:
            assert (feed, count) == (source, len(rows if imported is None else imported.stored))
            if imported is None:
                self.book.add(rows, write_id=write_id, recorded_at=recorded_at, source=feed, is_mirrored=True)
            else:
                self._enter_import(imported, write_id, recorded_at, feed)

    @rule(
        weight=0.4,
        of_log=among(False, False, True),
        which=whole(0, 1_000),
        bytes_of=whole(0, 10**9),
        asked=draws.asked,
        moment=draws.recorded,
        left=list_of(tuple_of(draws.symbols, draws.places), 1, 4),
    )
    def damage(
        self,
        of_log: bool,
        which: int,
        bytes_of: int,
        asked: ReadRange,
        moment: int | None,
        left: list[tuple[str, Place]],
    ) -> None:
        """A file changes: each read, of those who knew it and of one who comes, is right or refused."""
        files = files_of(self.root / self.driven, of_log=of_log)
        if not files:
            return
        known = self.faces
        with damaged(files[which % len(files)], Random(bytes_of)):
            for face in (*known, self._opened_or_refused()):
                if face is not None:
                    self.faces = [face, face]
                    self._read_damaged(asked, moment, left)
        # A process only reads what is new of the log, and would go on with what it has read of the damaged one.
        self.faces = [self._opened(), self._opened()] if of_log else known
        self.ground.count("damages of the log" if of_log else "damages of data")

    def _opened_or_refused(self) -> Face | None:
        try:
            return self._opened()
        except CorruptLakeError:
            return None

    def _read_damaged(self, asked: ReadRange, moment: int | None, left: list[tuple[str, Place]]) -> None:
        symbol = left[0][0]
        reads: list[Callable[[], Any]] = [
            lambda: self._read(self.faces[0]),
            lambda: self.read(0, asked, moment, None, False),
            lambda: self.read(0, asked, None, ["source"], True),
            lambda: self.scan(0, asked),
            lambda: self.ask_in_sql(0, moment, False),
            lambda: self.latest(0, asked, symbol, moment),
            lambda: self.join_as_of(0, asked, left, None),
        ]
        for read in reads:
            try:
                read()
            except CorruptLakeError:
                self.ground.count("reads refused for damage")
            else:
                self.ground.count("reads right beside damage")

    @rule(weight=0.15, when=none_is_open, which=whole(0, 1_000), bytes_of=whole(0, 10**9))
    def damage_and_heal(self, which: int, bytes_of: int) -> None:
        """A data file stays damaged; whoever heals says what is lost, and the rest is as it was."""
        book = self._claimed()
        paths = set(self._table().refresh().files.path)
        folder = self.root / self.driven
        files = [file for file in files_of(folder, of_log=False) if str(file.relative_to(folder)) in paths]
        if not files:
            return
        change(files[which % len(files)], Random(bytes_of))
        face = self._opened()
        told = face.mirror.verify([self.driven], heal=True)
        left = set(self._stored().select("write_id", "ordinal").rows())
        lost = [row for row in book.stored() if row.arrival not in left]
        outcomes = told["outcome"].to_list()
        assert bool(lost) == ("lost" in outcomes), (told.rows(), [row.arrival for row in lost])
        assert "left" not in outcomes, told.rows()
        book.lose(lost)
        self.ground.count("damages healed")
        self.ground.count("rows lost", len(lost))
        self._claimed()
        for each in self.faces:
            each.lake.table(book.dataset).refresh()

    @rule(weight=0.2, names=list_of(among(*TRIES), 1, 4), given=draws.several)
    def open_by_a_stranger(self, names: list[str], given: list[Drawn]) -> None:
        """A store with the same instruments and another ledger."""
        if self._table().refresh().owner is None:
            return
        stranger = Face.open(self.ground.stranger, self.root, batch_rows=7, slot_rows=10)
        rows = frame_of(self.book.dataset, [row_of(self.book.dataset, one) for one in given])
        for name in names:
            refuses(stranger, name, self.driven, rows, self.root)
            self.ground.count("tries of a stranger")

    @rule(weight=0.4, python=hours, server=hours)
    def jump(self, python: int, server: int) -> None:
        """Clocks go ahead or back, Python's and the server's each by itself."""
        with self.ground.postgres.connection() as connection:
            self.ground.clocks.jump(connection, python=timedelta(hours=python), server=timedelta(hours=server))
        self.ground.count("jumps of the clocks")

    @rule(
        weight=0.2,
        face=draws.faces,
        step=among(*_STEPS["mirror"]),
        given=draws.several,
        asked=draws.asked,
        comes_back=among(True, True, True, False),
    )
    def stop_the_leader(self, face: int, step: str, given: list[Drawn], asked: ReadRange, comes_back: bool) -> None:
        """It holds its lock and does nothing: others read and write, and pass the dataset over."""
        rows = [row_of(self.book.dataset, one) for one in given]
        self._write(face, rows, "manual", None)
        leader = self.ground.leader
        if leader.lead(self.root, self.driven, step):
            self.ground.count("stops of the leader")
            for number, each in enumerate(self.faces):
                with bounded():
                    self._read(each)
                    self.read(number, asked, None, None, False)
                    self._write(number, rows, "other", None)
                    self._read(each)
                    assert each.mirror.run([self.driven], wait=False).batches == 0
                    each.mirror.compact_meanwhile(self.driven)
            if comes_back:
                leader.go_on()
            else:
                leader.kill()
                leader.start()
                await_that(self._is_without_leader)
        self._claimed()

    def _is_without_leader(self) -> bool:
        with self.ground.postgres.connection() as connection:
            return batches.leader(connection, self.book.dataset) is None
