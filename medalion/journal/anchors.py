"""Anchors of the audit: what its newest entries were, kept in the lake, where whoever changes the books does not reach.

A run anchors the head of every entity, its newest entry, that no run has anchored as it is. It holds the digest of the
run before it, and the books note each run: a run that was changed or removed shows too, the newest included.

Two things are true of a run with the time `settled`. Every entry that is stamped before it could be seen by the run;
and such an entry is at or below an anchored version of its entity. For the next run looks at all entries from that time
on, so that one which is committed late, by a transaction that was open during a run, is anchored by the next.

Who can write to both lake and books can make them agree again, for instance by older copies of one time: then only what
is kept elsewhere tells.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import polars as pl

from medalion.core.errors import CorruptLakeError, InputError
from olap.delta.anchors import HEAD, AnchorTable, Run
from olap.delta.lake import Lake
from oltp.ledger import anchors as books
from oltp.ledger.anchors import Difference, Note
from oltp.server.engine import Connection, Postgres

RUNS = "audit_anchors"
"""Stands for a table where a problem is that of a run."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLACK = timedelta(minutes=10)
_RUN_HEADS = 250_000

Problem = tuple[str, UUID | None, int, str]
"""Table, entity, version and what is wrong; of a run its number instead of a version, and no entity."""


@dataclass(frozen=True, slots=True)
class AnchorRun:
    """What was added: more than one run where there was much, none where nothing had changed."""

    runs: int = 0
    heads: int = 0


class Anchors:
    """Writes anchors and compares the record with them; several in several processes are harmless, one at a time leads.

    `slack` is by how much the server's clock may be set back, `run_heads` how many heads a run holds at most.
    """

    def __init__(
        self, postgres: Postgres, lake: Lake, *, slack: timedelta = _SLACK, run_heads: int = _RUN_HEADS
    ) -> None:
        self._postgres = postgres
        self._table = AnchorTable(lake.place, store=lake.store)
        self._slack = slack
        self._run_heads = run_heads

    def run(self, *, wait: bool = True) -> AnchorRun:
        """Anchor the heads that are not; with `wait` False, nothing where another process does so now.

        Raises:
            CorruptLakeError: lake and books do not belong together, or the last run was changed; nothing was written.
            StoreError: the lake cannot be written to.
        """
        total = AnchorRun()
        with self._postgres.connection() as connection, books.leading(connection, wait=wait) as leads:
            if not leads:
                return total
            last = self._finish(connection)
            since = last.settled if last else _EPOCH
            settled = books.settled(connection, since, self._slack)
            with self._postgres.arrow() as arrow:
                heads = books.heads(arrow, since)
            # Read after the heads, so that no entry of a run is later than it.
            now = books.clock(connection)
            heads = self._table.unanchored(heads, self._table.files(), since)
            for start in range(0, heads.height, self._run_heads):
                part = heads.slice(start, self._run_heads).sort("entity_type", "entity_id")
                is_last = start + part.height == heads.height
                number, previous = (last.number + 1, last.digest) if last else (1, None)
                last = Run(number, previous, settled if is_last else since, now, part)
                self._write(connection, last)
                total = AnchorRun(total.runs + 1, total.heads + part.height)
        return total

    def owner(self) -> int | None:
        """The number of the store that the runs belong to; None where there is none yet."""
        return self._table.owner()

    def rebind(self) -> list[tuple[str, str, str]]:
        """Have the books note what runs the lake holds, after one of the two was restored; what was changed.

        The table belongs to this store from then on.

        What the books lost stays a problem, which `problems` names. Of a table that was another store's, and holds no
        run that this one has noted, nothing counts any more: anchoring begins anew.

        Raises:
            InputError: the runs are those of another store; nothing was noted.
        """
        with self._postgres.connection() as connection, books.leading(connection):
            files, noted = self._table.files(), books.notes(connection)
            held = _newest(files)
            is_ours = self._table.owner() in (None, self._table.store)
            if is_ours and held == max(noted, default=0):
                self._table.adopt()
                return []
            runs = {number: self._table.run(files, number) for number in range(1, held + 1)}
            proven = {n: Note.of(n, run.digest).is_of(noted[n]) for n, run in runs.items() if n in noted}
            if not is_ours and held and not any(proven.values()):
                for number in noted:
                    books.forget(connection, number)
                self._table.adopt(is_anew=True)
                return [(RUNS, "runs", f"{held} runs of another store count no more; anchoring begins anew")]
            if not all(proven.values()):
                raise InputError(
                    f"a run in {self._table.place} is not the one that this store has noted: the lake is that of "
                    "another store; nothing was noted",
                    given=min(number for number, is_proven in proven.items() if not is_proven),
                )
            self._table.adopt()
            if held == max(noted, default=0):
                return []
            for number in noted.keys() - runs.keys():
                books.forget(connection, number)
            for number in runs.keys() - noted.keys():
                books.claim(connection, Note.of(number, runs[number].digest), runs[number].heads.height)
                books.done(connection, number, delta_version=self._table.sync(number))
        return [(RUNS, "runs", f"the books note {held} runs, as the lake holds them; they noted {len(noted)} before")]

    def end(self, connection: Connection) -> tuple[Note, int]:
        """Add a run without heads, which this lake alone has; its note, for the caller who leads, and the version.

        Raises:
            CorruptLakeError, StoreError: as `run`.
        """
        last = self._finish(connection)
        number, previous, settled = (last.number + 1, last.digest, last.settled) if last else (1, None, _EPOCH)
        run = Run(number, previous, settled, books.clock(connection), pl.DataFrame(schema=HEAD))
        self._table.append(run)
        return Note.of(run.number, run.digest), self._table.sync(run.number)

    def problems(self, entity_id: UUID | None = None) -> list[Problem]:
        """Where the record, of one entity or of all, is not what was anchored, and runs that are not what they were."""
        with self._postgres.connection() as connection:
            with books.leading(connection):
                noted = books.notes(connection)
                try:
                    files = self._table.files()
                except CorruptLakeError as error:
                    return [(RUNS, None, max(noted, default=0), str(error))]
            check = _Check(self._table, files, noted)
            with connection.transaction():
                books.fill(connection, _heads(check, entity_id))
                found: list[Problem] = [(RUNS, None, number, problem) for number, problem in check.problems]
                found += (_told(difference) for difference in books.differing(connection))
                if check.settled is not None and not check.problems:
                    found += (
                        (*entry, f"entries from this version on are from before {check.settled}, but not anchored")
                        for entry in books.unknown(connection, check.settled, entity_id)
                    )
        return found

    def _finish(self, connection: Connection) -> Run | None:
        """The last run, which a run that died may have left unnoted."""
        self._table.check_owned()
        files, noted = self._table.files(), books.notes(connection)
        held, last = _newest(files), max(noted.values(), key=lambda note: note.number, default=None)
        if last is not None and not last.is_done and held < last.number:
            books.forget(connection, last.number)
            last = noted.get(last.number - 1)
        expected = last.number if last else 0
        if held != expected:
            raise CorruptLakeError(
                f"the anchors in {self._table.place} end at run {held}, but this store has noted {expected}: the lake "
                "is that of another store, one of the two is a backup, or anchors were removed; nothing was anchored, "
                "see `medalion audit verify`"
            )
        if last is None:
            return None
        try:
            run = self._table.run(files, last.number)
        except CorruptLakeError as error:
            raise CorruptLakeError(
                f"run {last.number} in {self._table.place}: {error}; nothing was anchored"
            ) from error
        if not Note.of(run.number, run.digest).is_of(last):
            raise CorruptLakeError(
                f"run {last.number} in {self._table.place} is not the one that this store has noted: the lake is that "
                "of another store, or was tampered with; nothing was anchored"
            )
        if not last.is_done:
            books.done(connection, run.number, delta_version=self._table.sync(run.number))
        return run

    def _write(self, connection: Connection, run: Run) -> None:
        books.claim(connection, Note.of(run.number, run.digest), run.heads.height)
        self._table.append(run)
        books.done(connection, run.number, delta_version=self._table.sync(run.number))


class _Check:
    """Goes through the runs once; `problems` and `settled` are of those that were passed so far."""

    def __init__(self, table: AnchorTable, files: pl.DataFrame, noted: dict[int, Note]) -> None:
        self._table = table
        self._files = files
        self._held = _newest(files)
        self._noted = {number: note for number, note in noted.items() if note.is_done or number <= self._held}
        self.problems: list[tuple[int, str]] = []
        self.settled: datetime | None = None

    def genuine(self) -> Iterator[Run]:
        """The runs of this store that are what they were.

        Runs beyond the last that was noted count where they follow it: the books may be an older copy.
        """
        last = max(self._noted, default=0)
        if self._held > last:
            self.problems.append((last + 1, f"runs up to {self._held} in {self._table.place} were never noted"))
        if self._held < last:
            self.problems.append((last, f"it was noted, but {self._table.place} ends at run {self._held}"))
        before: bytes | None = None
        for number in range(1, (self._held if last else 0) + 1):
            try:
                run = self._table.run(self._files, number)
            except CorruptLakeError as error:
                self.problems.append((number, str(error)))
                before = None
                continue
            note = self._noted.get(number)
            is_ours = Note.of(number, run.digest).is_of(note) if note else run.previous == before is not None
            before = run.digest
            if is_ours:
                self.settled = run.settled
                yield run
            else:
                self.problems.append((number, "it is not the run that was noted"))


def _newest(files: pl.DataFrame) -> int:
    return int(files["run"].max() or 0)  # type: ignore[arg-type]  # a column of integers


def _heads(check: _Check, entity_id: UUID | None) -> Iterator[tuple[datetime, pl.DataFrame]]:
    for run in check.genuine():
        yield run.anchored_at, run.heads if entity_id is None else run.heads.filter(entity_id=str(entity_id))


def _told(found: Difference) -> Problem:
    when = f"{found.anchored_at:%Y-%m-%d %H:%M:%S} UTC"
    if not found.is_gone:
        problem = f"it says otherwise than when it was anchored on {when}"
    elif found.last is None:
        problem = f"the record is gone, of which this version was anchored on {when}"
    elif found.last < found.version:
        problem = f"entries up to this version were anchored on {when}, but the record ends at version {found.last}"
    else:
        problem = f"it was anchored on {when} and is gone"
    return found.entity_type, found.entity_id, found.version, problem
