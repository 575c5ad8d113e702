"""Which rollups are kept, how far each of their series is, and which writes have come since.

A series says of its dataset's writes up to which number it holds all that there is. The number is drawn before a
refresh reads, and only once no write with one at or below it can still be open; so a later look at the writes above it
misses none, whatever order they commit in.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from datetime import datetime
from zlib import crc32

from psycopg import sql
from psycopg.types.json import Jsonb

from medalion.core.datasets import Dataset
from medalion.core.time import TimeRange
from oltp.hot.sources import KEPT
from oltp.hot.tables import last_name
from oltp.hot.writes import signed32
from oltp.ledger.batches import settle
from oltp.server.engine import Connection, holding, one

_REFRESHING = crc32(b"medalion rollup")


@dataclass(frozen=True, slots=True)
class KeptRollup:
    """What is kept of a dataset of bars; `instruments` None is every one."""

    dataset: str
    timeframe: str
    instruments: list[int] | None = None
    refreshed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeptSeries:
    """One series: what it is made from (`finer` is a timeframe, None for quotes), and how far it is."""

    instrument_id: int
    source: str
    made_from: str
    finer: str | None
    until: int
    dropped_at: datetime
    built_at: datetime

    @property
    def origin(self) -> tuple[str, str, str | None]:
        """From which rows it is made."""
        return self.source, self.made_from, self.finer


@dataclass(frozen=True, slots=True)
class RemovalMarks:
    """What was taken from two datasets without a write: entries folded of the finer one, rows dropped of either."""

    folded_until: int
    kept_from: datetime
    dropped_at: datetime
    is_dropping: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What a write spans, ends included."""

    first_ts: datetime
    last_ts: datetime
    first_instrument: int
    last_instrument: int


def refreshing(connection: Connection, rollup: KeptRollup, *, wait: bool = True) -> AbstractContextManager[bool]:
    """Within, this connection alone writes the rollup's bars; a lost connection ends it, and its writes fail."""
    lock = signed32(_REFRESHING), signed32(crc32(f"{rollup.dataset} {rollup.timeframe}".encode()))
    return holding(connection, lock, wait=wait)


def keep(connection: Connection, rollup: KeptRollup) -> None:
    """Enter the rollup, or change the instruments of the one that is kept."""
    instruments = None if rollup.instruments is None else Jsonb(rollup.instruments)
    connection.execute(
        """INSERT INTO rollups (dataset, timeframe, instruments) VALUES (%s, %s, %s)
           ON CONFLICT (dataset, timeframe) DO UPDATE SET instruments = excluded.instruments, refreshed_at = NULL""",
        (rollup.dataset, rollup.timeframe, instruments),
    )


def kept_rollups(connection: Connection) -> list[KeptRollup]:
    """Every rollup that is kept, by dataset and timeframe."""
    rows = connection.execute(
        "SELECT dataset, timeframe, instruments, refreshed_at FROM rollups ORDER BY dataset, timeframe"
    ).fetchall()
    return [KeptRollup(*row) for row in rows]


def note_refreshed(connection: Connection, rollup: KeptRollup, at: datetime) -> None:
    """The rollup was last brought up to date by a refresh that began then."""
    connection.execute(
        "UPDATE rollups SET refreshed_at = %s WHERE dataset = %s AND timeframe = %s",
        (at, rollup.dataset, rollup.timeframe),
    )


def end(connection: Connection, rollup: KeptRollup) -> None:
    """The rollup is not kept any more."""
    connection.execute("DELETE FROM rollups WHERE dataset = %s AND timeframe = %s", (rollup.dataset, rollup.timeframe))


def series_of(
    connection: Connection, dataset: str, timeframe: str, instruments: Sequence[int] | None = None
) -> dict[int, KeptSeries]:
    """By instrument what is kept; `instruments` None are all."""
    rows = connection.execute(
        """SELECT instrument_id, source, made_from, finer, until, dropped_at, built_at FROM rollup_series
           WHERE dataset = %(dataset)s AND timeframe = %(timeframe)s
             AND (%(instruments)s::bigint[] IS NULL OR instrument_id = ANY(%(instruments)s))""",
        {
            "dataset": dataset,
            "timeframe": timeframe,
            "instruments": None if instruments is None else list(instruments),
        },
    ).fetchall()
    return {row[0]: KeptSeries(*row) for row in rows}


def put_series(connection: Connection, rollup: KeptRollup, series: Iterable[KeptSeries]) -> None:
    """From here on the bars of these series are kept; none of them was until now."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO rollup_series (dataset, timeframe, instrument_id, source, made_from, finer, until,
                                          dropped_at, built_at)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [(rollup.dataset, rollup.timeframe, *astuple(each)) for each in series],
        )


def advance_series(connection: Connection, rollup: KeptRollup, series: Iterable[KeptSeries]) -> None:
    """The bars are as far as these say, but for those that were forgotten meanwhile."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """UPDATE rollup_series SET until = %s, dropped_at = %s
               WHERE dataset = %s AND timeframe = %s AND instrument_id = %s AND built_at = %s""",
            [
                (each.until, each.dropped_at, rollup.dataset, rollup.timeframe, each.instrument_id, each.built_at)
                for each in series
            ],
        )


def remove_series(connection: Connection, rollup: KeptRollup, instruments: Iterable[int]) -> None:
    """From here on reads make the bars of these instruments."""
    connection.execute(
        "DELETE FROM rollup_series WHERE dataset = %s AND timeframe = %s AND instrument_id = ANY(%s)",
        (rollup.dataset, rollup.timeframe, list(instruments)),
    )


def kept_feeds(connection: Connection, dataset: Dataset, timeframe: str) -> list[tuple[str, int]]:
    """Source and instrument of every series of which bars are or were kept."""
    statement = sql.SQL("SELECT source, instrument_id FROM {} WHERE timeframe = %s AND starts_with(source, %s)")
    rows = connection.execute(statement.format(sql.Identifier(last_name(dataset))), (timeframe, KEPT)).fetchall()
    return [(source.removeprefix(KEPT), instrument) for source, instrument in rows]


def symbols_of(connection: Connection, instruments: Sequence[int]) -> list[str]:
    """What the instruments are called now, but for those that are deleted."""
    rows = connection.execute(
        "SELECT symbol FROM instruments WHERE instrument_id = ANY(%s)", (list(instruments),)
    ).fetchall()
    return [symbol for (symbol,) in rows]


def forget(connection: Connection, dataset: Dataset) -> None:
    """Rows of the dataset have changed without a write: bars stored in it, or made from it, are to be made anew."""
    connection.execute("DELETE FROM rollup_series WHERE %s IN (dataset, made_from)", (dataset.name,))


def complete_until(connection: Connection, dataset: Dataset) -> int:
    """A number up to which every write of the dataset is committed, or will never be.

    The newest number is read first and the mark of open writes after: who drew one at or below it holds the mark, and
    then nothing is settled since, or is done.
    """
    number, drawn_at = one(
        connection.execute(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END, clock_timestamp() FROM write_id_seq"
        ).fetchone()
    )
    settled = settle(connection, dataset)
    if settled > drawn_at:
        return int(number)
    row = connection.execute(
        """SELECT coalesce(max(id), 0) FROM writes
           WHERE dataset = %(dataset)s AND id <= %(number)s AND id < coalesce(
               (SELECT min(id) FROM writes WHERE dataset = %(dataset)s AND recorded_at > %(settled)s), id + 1)""",
        {"dataset": dataset.name, "settled": settled, "number": number},
    ).fetchone()
    return int(one(row)[0])


def removed(connection: Connection, dataset: Dataset, made_from: Dataset) -> RemovalMarks:
    """What retention and folding have taken from the bars' dataset and from what they are made from."""
    row = connection.execute(
        """SELECT max(folded_until) FILTER (WHERE dataset = %(made_from)s), max(kept_from), max(dropped_at),
                  bool_or(coalesce((removal->>'drops')::boolean, false))
           FROM mirror_state WHERE dataset IN (%(dataset)s, %(made_from)s)""",
        {"dataset": dataset.name, "made_from": made_from.name},
    ).fetchone()
    return RemovalMarks(*one(row))


def changes(
    connection: Connection,
    made_from: Dataset,
    *,
    after: int,
    sources: Sequence[str],
    instruments: Sequence[int],
    during: TimeRange,
) -> list[Change]:
    """What came in after a number, and may hold rows of these series."""
    rows = connection.execute(
        """SELECT first_ts, last_ts, first_instrument, last_instrument FROM writes
           WHERE id > %(after)s AND dataset = %(dataset)s AND source = ANY(%(sources)s)
             AND last_instrument >= %(low)s AND first_instrument <= %(high)s
             AND (%(start)s::timestamptz IS NULL OR last_ts >= %(start)s)
             AND (%(end)s::timestamptz IS NULL OR first_ts < %(end)s) ORDER BY id""",
        {
            "after": after,
            "dataset": made_from.name,
            "sources": list(sources),
            "low": min(instruments),
            "high": max(instruments),
            "start": during.start,
            "end": during.end,
        },
    ).fetchall()
    return [Change(*row) for row in rows]
