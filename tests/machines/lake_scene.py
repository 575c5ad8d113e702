"""A store that dies again and again, beside an account of what it must hold."""

import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import InputError
from oltp.server.engine import parse_url
from tests.machines.lake_faces import Face
from tests.machines.lake_victim import AT_ONCE, Operation, Shelf, face_of, shelf_of
from tests.support.lake import stored
from tests.support.server_processes import await_that


@dataclass
class Scene:
    """A store that dies again and again, and what it must hold."""

    url: str
    root: Path
    face: Face
    books: "psycopg.Connection[Any]"
    shelf: Shelf = field(default_factory=dict)
    versions: Counter[tuple[int, int]] = field(default_factory=Counter)
    past: dict[datetime, Shelf] = field(default_factory=dict)
    values: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**6, 1_000)))

    @property
    def mortal(self) -> str:
        """The URL by which the server knows who will be killed."""
        named = parse_url(self.url).update_query_dict({"application_name": "mortal"})
        return named.render_as_string(hide_password=False)

    def move(self, root: Path) -> None:
        """Begin the lake elsewhere."""
        self.root, self.face = root, face_of(self.face.postgres, root)

    def do(self, op: Operation) -> None:
        op.perform(self.face)
        self.book(op)

    def book(self, op: Operation) -> None:
        """It was acknowledged, or found to be there."""
        keys = [key for key in op.keys if key in self.shelf] if op.kind == "delete" else op.keys
        self.versions.update((key, -self.shelf[key] if op.kind == "delete" else op.value) for key in keys)
        self.shelf = op.after(self.shelf)

    def until_gone(self, process: multiprocessing.process.BaseProcess) -> None:
        """The process has died by a kill, and the server has ended its sessions."""
        process.join()
        assert process.exitcode == -signal.SIGKILL
        ours = "SELECT FROM pg_stat_activity WHERE application_name = 'mortal' AND datname = current_database()"
        await_that(lambda: self.books.execute(ours).fetchone() is None)

    def recover(self, in_flight: Operation | None) -> str:
        """Read before and after the next process mirrors; whether what was in flight is there, whole."""
        self.face = face_of(self.face.postgres, self.root)
        found = self.read()
        arrived = in_flight is not None and found != self.shelf
        if in_flight is not None and arrived:
            self.book(in_flight)
        assert found == self.shelf
        claimed = self.books.execute("SELECT count(*) FROM mirror_batches WHERE status <> 'done'").fetchone()
        self.face.mirror.run([STOCK_QUOTES], settle=True)
        if in_flight is not None and self.read() != self.shelf:  # an import that was claimed and not in the lake yet
            assert not arrived
            self.book(in_flight)
            arrived = True
        assert self.read() == self.shelf
        return f"{'after' if arrived else 'before'} its commit" + (", a batch undone" if claimed != (0,) else "")

    def read(self, as_of: datetime | None = None) -> Shelf:
        return shelf_of(self.face.observations.read(STOCK_QUOTES, as_of=as_of))

    def remember(self) -> None:
        """Some of the past is asked for again, which is as it was or refused because retention has removed it."""
        (settled,) = self.face.mirror.status([STOCK_QUOTES])["settled"]
        self.past[settled] = self.shelf
        for moment in random.Random(len(self.past)).sample(sorted(self.past), min(3, len(self.past))):
            try:
                assert self.read(moment) == self.past[moment]
            except InputError as error:
                if "removed by retention" not in str(error):
                    raise
                del self.past[moment]

    def check(self, *, keeps_versions: bool) -> None:
        """Lake and ledger tell the same story, nothing is left behind, and every version is there once."""
        self.face.mirror.run([STOCK_QUOTES])
        assert self.face.mirror.verify([STOCK_QUOTES]).rows() == []
        self.face.mirror.vacuum([STOCK_QUOTES], older_than=AT_ONCE)
        table = self.face.lake.table(STOCK_QUOTES)
        folder = self.root / STOCK_QUOTES.name
        assert {str(file.relative_to(folder)) for file in folder.rglob("period=*/*.parquet")} == {
            *table.pin().files.path
        }
        rows = stored(table).select("event_id", pl.col("bid_price").cast(pl.Int64), "is_deleted").rows()
        found = Counter((key, -value if is_deleted else value) for key, value, is_deleted in rows)
        assert found == self.versions if keeps_versions else found <= self.versions
        assert self.read() == self.shelf
