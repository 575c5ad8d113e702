"""The clocks that the store reads, which a machine moves: Python's and the server's, each by itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from psycopg import sql

from medalion.mirror import compaction, removal, vacuum
from olap.delta import tables
from olap.files import parquet
from oltp.server.engine import Connection, one

_SHIFTED = """
    CREATE SCHEMA shifted;
    CREATE TABLE shifted.jumps (at timestamptz PRIMARY KEY, shift interval NOT NULL);
    CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS $$
        SELECT pg_catalog.clock_timestamp()
               + coalesce((SELECT shift FROM shifted.jumps ORDER BY at DESC LIMIT 1), interval '0')
    $$;
"""
_COLUMNS = (
    "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_stat_activity'::regclass AND attnum > 0 ORDER BY attnum"
)
# When a transaction began is told by the clock as it went then.
_BEGUN = """
    xact_start + coalesce((SELECT shift FROM shifted.jumps WHERE at <= xact_start ORDER BY at DESC LIMIT 1),
                          interval '0') AS xact_start
"""


def make_shiftable(connection: "psycopg.Connection", database: str) -> None:
    """Have every later session of a database find the schema's clock before PostgreSQL's own."""
    connection.execute(_SHIFTED)
    columns = [
        sql.SQL(_BEGUN) if name == "xact_start" else sql.Identifier(name)
        for (name,) in connection.execute(_COLUMNS).fetchall()
    ]
    connection.execute(
        sql.SQL("CREATE VIEW shifted.pg_stat_activity AS SELECT {} FROM pg_catalog.pg_stat_activity").format(
            sql.SQL(", ").join(columns)
        )
    )
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET search_path = shifted, pg_catalog, public").format(sql.Identifier(database))
    )


class Clocks:
    """Python's clock in the lake's modules, and the server's in its database.

    What has no date, time since the start, only moves when the machine says so, or how long a pin counts as new would
    depend on how fast a run is.
    """

    def __init__(self) -> None:
        self.shift = self.server_shift = timedelta()
        self.furthest = self.server_furthest = timedelta()
        self._up = 1_000.0

    def reset(self, connection: Connection) -> None:
        self.shift = self.server_shift = timedelta()
        self.furthest = self.server_furthest = timedelta()
        connection.execute("DELETE FROM shifted.jumps")

    def jump(self, connection: Connection, *, python: timedelta, server: timedelta) -> None:
        """Each by so much, ahead or back."""
        self.shift += python
        self.furthest = max(self.furthest, self.shift)
        self.server_shift += server
        self.server_furthest = max(self.server_furthest, self.server_shift)
        self._up += max(0.0, python.total_seconds())
        connection.execute("INSERT INTO shifted.jumps VALUES (pg_catalog.clock_timestamp(), %s)", (self.server_shift,))

    @property
    def is_behind(self) -> bool:
        """Whether Python's clock has gone further than it now stands, so that what was just done lies ahead of it."""
        return self.shift < self.furthest

    @property
    def is_server_behind(self) -> bool:
        """The same of the server's clock."""
        return self.server_shift < self.server_furthest

    def now(self) -> datetime:
        """By Python's clock."""
        return datetime.now(UTC) + self.shift

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, the lake's modules read this clock."""
        dated = SimpleNamespace(now=lambda _: self.now())
        timed = SimpleNamespace(
            time=lambda: time.time() + self.shift.total_seconds(),
            monotonic=lambda: self._up,
            perf_counter=time.perf_counter,
        )
        with pytest.MonkeyPatch.context() as patch:
            for module in (compaction, removal, vacuum):
                patch.setattr(module, "datetime", dated)
            for module in (tables, parquet):
                patch.setattr(module, "time", timed)
            yield


def server_time(connection: Connection) -> datetime:
    """By the server's clock, as the store reads it."""
    moment: datetime = one(connection.execute("SELECT clock_timestamp()").fetchone())[0]
    return moment
