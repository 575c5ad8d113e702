"""One read over hot and cold rows that is neither short nor double: pin the lake, ask what it lacks, prove it fits."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

import polars as pl

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError, InputError, StoreUnavailableError
from medalion.core.frames import polars_schema
from medalion.core.time import TimeRange
from olap.delta.pins import Pin
from olap.delta.tables import LakeTable
from olap.reads.scan import Preference, Selection, Series, instruments_of
from oltp.hot.tail import Tail, tail_list, tail_rows
from oltp.ledger.batches import settle
from oltp.ledger.removals import retention_bounds
from oltp.server.engine import Postgres, is_replica

_ATTEMPTS = 20
_REPLICA_SECONDS = 10.0
BACKWARDS = (timedelta(days=1), timedelta(days=31), timedelta(days=366))
"""How far back the last rows are looked for, one after the other, before everything is read."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A read's range: which series, when, and as known at which time.

    `sources` are those that were asked for by name, `hidden` others that have rows of the instruments. `preference` has
    the instruments that several sources answer for, with these, most preferred first.
    """

    dataset: Dataset
    during: TimeRange
    series: Series | None = None
    timeframe: str | None = None
    as_of: datetime | None = None
    preference: Preference = field(default_factory=dict)
    sources: tuple[str, ...] | None = None
    hidden: tuple[str, ...] = ()

    @property
    def instruments(self) -> list[int] | None:
        """The instruments asked for; None is every one."""
        return instruments_of(self.series)


def select(postgres: Postgres, table: LakeTable, asked: ReadRequest) -> tuple[Selection, Pin, Tail]:
    """Files and unmirrored rows that together hold every row asked for, once.

    Raises:
        InputError: `as_of` lies later than any settled time, or retention has removed what it asks for.
        CorruptLakeError: lake and ledger do not belong together.
        StoreUnavailableError: a replica has not caught up with the lake in time.
    """
    if asked.as_of is not None:
        check_settled(postgres, asked.dataset, asked.as_of)
    pin, tail, hot = _consistent(postgres, table, asked)
    if asked.as_of is not None:
        check_kept(postgres, asked.dataset, asked.as_of, asked.during)
    files = pin.files.selected(asked.instruments, asked.during, asked.timeframe)
    selection = Selection(
        dataset=asked.dataset,
        place=table.place,
        files=files,
        hot=hot,
        during=asked.during,
        series=asked.series,
        timeframe=asked.timeframe,
        as_of=asked.as_of,
        preference=asked.preference if asked.dataset.has_timeframe else {},
        blocks=table.blocks,
    )
    return selection, pin, tail


def backwards(postgres: Postgres, asked: ReadRequest, bound: datetime | None) -> list[TimeRange]:
    """Where to look for the newest row, ever further back from `bound`, the newest `ts` seen.

    What retention has left comes before the rest, about which an `as_of` from before it has no answer.
    """
    starts = [] if bound is None else [bound - span for span in BACKWARDS]
    if asked.as_of is not None:
        with postgres.connection() as connection:
            left = retention_bounds(connection, asked.dataset).kept_from
        starts = list(dict.fromkeys(max(start, left) for start in (*starts, left)))
    return [*(TimeRange(start, None) for start in starts), TimeRange()]


def _consistent(postgres: Postgres, table: LakeTable, asked: ReadRequest) -> tuple[Pin, Tail, pl.DataFrame]:
    # What retention removes is entered in the ledger first: a pin from before that may not meet a check from after.
    pin = table.pin() if asked.as_of is None else table.refresh()
    has_refreshed = False
    patience = ReadRetries()
    while True:
        with postgres.connection() as connection:
            tail = tail_list(
                connection, asked.dataset, batch=pin.batch, instruments=asked.instruments, during=asked.during
            )
            is_behind = is_replica(connection)
        hot = no_rows(asked.dataset)
        if fits(pin, tail) and tail.unmirrored:
            with postgres.arrow() as connection:
                tail, hot = tail_rows(
                    connection,
                    asked.dataset,
                    batch=pin.batch,
                    instruments=asked.instruments,
                    during=asked.during,
                    timeframe=asked.timeframe,
                )
        is_import_coming = tail.claimed_import is not None and tail.claimed_import > pin.batch
        if fits(pin, tail) and (has_refreshed or not is_import_coming):
            return pin, tail, hot
        patience.wait(table, pin, is_behind=is_behind)
        pin, has_refreshed = table.refresh(), True


@cache
def no_rows(dataset: Dataset) -> pl.DataFrame:
    """A frame of stored rows without any."""
    return pl.DataFrame(schema=polars_schema(dataset.stored))


class ReadRetries:
    """How often a read looks again before it gives up: at once where mirror and pruner were quicker, and after a pause
    where a replica has yet to replay what the lake holds already."""

    def __init__(self) -> None:
        self._looks = 0
        self._until = time.monotonic() + _REPLICA_SECONDS

    def wait(self, table: LakeTable, pin: Pin, *, is_behind: bool) -> None:
        """Wait before another look.

        Raises:
            StoreUnavailableError: the replica is still behind after ten seconds.
            CorruptLakeError: the lake is not that of the ledger.
        """
        self._looks += 1
        if is_behind and time.monotonic() < self._until:
            time.sleep(min(0.01 * self._looks, 0.25))
        elif is_behind:
            raise StoreUnavailableError(
                f"the read replica has not replayed batch {pin.batch} of {table.dataset.name}, which the lake holds; "
                "wait until it has caught up, or open the primary server"
            )
        elif self._looks >= _ATTEMPTS:
            raise CorruptLakeError(
                f"{table.place} is at batch {pin.batch}, which the ledger does not know or has moved past: the lake is "
                "that of another store, or a backup; see `medalion mirror status` and `medalion mirror rebind`; "
                "if it was moved, give its new place with lake="
            )


def fits(pin: Pin, tail: Tail) -> bool:
    """Whether pin and unmirrored rows together are complete: nothing above the pin was emptied, no import is newer."""
    return tail.floor <= pin.batch and tail.nonce == pin.nonce and tail.newest_import <= pin.batch


def check_settled(postgres: Postgres, dataset: Dataset, as_of: datetime) -> None:
    """Raise InputError unless no write at or before `as_of` can still appear."""
    with postgres.connection() as connection:
        settled = settle(connection, dataset)
    if as_of > settled:
        raise InputError(
            f"as_of {as_of.isoformat()} is not settled yet: writes up to {settled.isoformat()} are all in, "
            "a later one may still be open; ask for that time, or wait",
            given=as_of,
            expected=settled,
        )


def check_kept(postgres: Postgres, dataset: Dataset, as_of: datetime, during: TimeRange) -> None:
    """Raise InputError where retention has removed what was known at `as_of`; asked once the lake is pinned."""
    with postgres.connection() as connection:
        left = retention_bounds(connection, dataset)
    if as_of < left.known_from:
        raise InputError(
            f"as_of {as_of.isoformat()} cannot be answered: versions of {dataset.name} that were superseded before "
            f"{left.known_from.isoformat()} have been removed by retention; ask for that time or a later one",
            given=as_of,
            expected=left.known_from,
        )
    is_before = during.start is None or during.start < left.kept_from
    if is_before and (left.is_dropping or as_of < left.dropped_at):
        raise InputError(
            f"as_of {as_of.isoformat()} cannot be answered: rows of {dataset.name} from before "
            f"{left.kept_from.isoformat()} were removed by retention at {left.dropped_at.isoformat()}; "
            "ask for a range that starts there, or for a later as_of",
            given=as_of,
            expected=left.dropped_at,
        )
