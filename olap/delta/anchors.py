"""The audit's anchors: one small Delta table in the lake, to which each run adds the heads of chains it saw."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from medalion.core.errors import CorruptLakeError
from olap.delta.log import ANCHORED, LOG, commit_name, written_with
from olap.delta.ownership import OWNER, foreign, owner_mark
from olap.places.base import reaching, writing
from olap.places.open import Place

HEAD = pl.Schema({"entity_type": pl.String, "entity_id": pl.String, "version": pl.Int64, "hash": pl.Binary})
"""The newest entry of an entity: its version and hash."""

_UTC = pl.Datetime("us", "UTC")
_STORED = pl.Schema(
    [("run", pl.Int64), *HEAD.items(), ("anchored_at", _UTC), ("settled", _UTC), ("previous", pl.Binary)]
)
_HASHED_ROWS = 50_000
_NONE = pl.DataFrame(schema={"path": pl.String, "size_bytes": pl.Int64})


@dataclass(frozen=True)
class Run:
    """The heads that one run anchored, sorted by entity.

    `previous` is the digest of the run before it, `settled` the time from which the next run has to look.
    """

    number: int
    previous: bytes | None
    settled: datetime
    anchored_at: datetime
    heads: pl.DataFrame

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of everything the run says, the digest of the run before it included."""
        content = sha256(self.previous or b"")
        totals = (self.number, self.settled.isoformat(), self.anchored_at.isoformat(), self.heads.height)
        content.update(" ".join(map(str, totals)).encode())
        line = pl.format("\n{} {} {} {}", "entity_type", "entity_id", "version", pl.col("hash").bin.encode("hex"))
        for part in self.heads.iter_slices(_HASHED_ROWS):
            content.update(part.select(line.str.join()).item().encode())
        return content.digest()

    def rows(self) -> pl.DataFrame:
        """As stored: a row a head, behind one of the run itself, which has no entity and holds the totals."""
        own = {
            "run": self.number,
            "version": self.heads.height,
            "hash": self.digest,
            "anchored_at": self.anchored_at,
            "settled": self.settled,
            "previous": self.previous,
        }
        heads = self.heads.with_columns(run=pl.lit(self.number, pl.Int64), anchored_at=pl.lit(self.anchored_at, _UTC))
        return pl.concat([pl.DataFrame([own], schema=_STORED), heads], how="diagonal").select(_STORED.names())


class AnchorTable:
    """The Delta table of anchors; whoever appends to it leads. What changes it is refused unless it is `store`'s."""

    def __init__(self, root: Place, *, store: int | None = None) -> None:
        self.place = root.within(ANCHORED)
        self.store = store

    def check_owned(self) -> None:
        """Prove that it belongs to no other store.

        Raises:
            CorruptLakeError: it does, or its log cannot be read.
        """
        if (owner := self.owner()) not in (None, self.store):
            raise foreign(self.place, owner, self.store)

    def owner(self) -> int | None:
        """The number of the store that it belongs to; None before the first run, and of before stores had numbers.

        Raises:
            CorruptLakeError: the table's log cannot be read.
        """
        with self._reading(), suppress(TableNotFoundError):
            return self._open().transaction_version(OWNER)
        return None

    def adopt(self, *, is_anew: bool = False) -> None:
        """Have it belong to this store from now on, whoever owned it before; `is_anew` leaves no run in it."""
        with writing(self.place), suppress(TableNotFoundError):
            handle = self._open()
            marks, now = owner_mark(self.place, handle, self.store, is_adopting=True), int(time.time() * 1000)
            held = pl.DataFrame(handle.get_add_actions(flatten=True)).select("path", "size_bytes") if is_anew else _NONE
            gone: list[AddAction | RemoveAction] = [
                RemoveAction(path, True, now, size, {}) for path, size in held.iter_rows()
            ]
            if marks or gone:
                properties = CommitProperties(app_transactions=marks)
                handle.create_write_transaction(
                    gone, mode="append", schema=handle.schema(), commit_properties=properties
                )

    def files(self) -> pl.DataFrame:
        """The files of the newest version in the order of runs: run, last_anchored_at, path.

        Raises:
            CorruptLakeError: the table's log cannot be read, or another tool has written to the table.
        """
        try:
            with self._reading():
                actions = pl.DataFrame(self._open().get_add_actions(flatten=True))
        except TableNotFoundError:
            return pl.DataFrame(schema={"run": pl.Int64, "last_anchored_at": _UTC, "path": pl.String})
        try:
            files = actions.select(run="min.run", last_run="max.run", last_anchored_at="max.anchored_at", path="path")
        except pl.exceptions.ColumnNotFoundError as error:
            raise CorruptLakeError(f"{self.place} is no table of anchors: {error}") from error
        foreign = files.filter(pl.col("run").is_null() | (pl.col("run") != pl.col("last_run")))
        if foreign.height:
            raise CorruptLakeError(f"{self.place}/{foreign['path'][0]} is not of one run: another tool has written it")
        return files.drop("last_run").sort("run", "path")

    def run(self, files: pl.DataFrame, number: int) -> Run:
        """A run as it was written.

        Raises:
            CorruptLakeError: it is gone, cannot be read, or does not have the digest it had.
        """
        paths = files.filter(run=number)["path"].to_list()
        if not paths:
            raise CorruptLakeError("it is gone from the lake")
        rows = pl.concat([self._read(path) for path in paths])
        own = rows.filter(pl.col("entity_type").is_null()).to_dicts()
        heads = rows.filter(pl.col("entity_type").is_not_null()).select(HEAD.names()).sort("entity_type", "entity_id")
        if len(own) != 1 or own[0]["settled"] is None or heads["hash"].null_count():
            raise CorruptLakeError("its content is not what was written")
        run = Run(number, own[0]["previous"], own[0]["settled"], own[0]["anchored_at"], heads)
        if run.digest != own[0]["hash"]:
            raise CorruptLakeError("its content is not what was written")
        return run

    def unanchored(self, heads: pl.DataFrame, files: pl.DataFrame, since: datetime) -> pl.DataFrame:
        """The heads that no run at or after `since` has anchored as they are."""
        # Statistics of Delta may hold times to the millisecond only.
        for path in files.filter(pl.col("last_anchored_at") >= since - timedelta(milliseconds=1))["path"]:
            if heads.is_empty():
                break
            heads = heads.join(self._read(path), on=HEAD.names(), how="anti")
        return heads

    def append(self, run: Run) -> None:
        """Commit the run.

        Raises:
            CorruptLakeError: the table belongs to another store.
            StoreError: the place cannot be written to, for instance because the disk is full.
        """
        with writing(self.place):
            self.place.make()
            self.place.within(LOG).make()
            write_deltalake(
                str(self.place),
                run.rows(),
                mode="append",
                storage_options=self.place.delta_options,
                commit_properties=CommitProperties(app_transactions=self._marks()),
            )

    def sync(self, number: int) -> int:
        """Have the disk keep the newest run, which is `number`; the version of the table that holds it."""
        added = self.files().filter(run=number)["path"]
        with writing(self.place):
            version = self._open().version()
            self.place.keep_private((*added, *written_with(version)))
            self.place.sync((*added, "", commit_name(version), LOG))
        return version

    def _open(self) -> DeltaTable:
        return DeltaTable(str(self.place), storage_options=self.place.delta_options)

    def _marks(self) -> list[Transaction]:
        with suppress(TableNotFoundError):
            return owner_mark(self.place, self._open(), self.store)
        return [] if self.store is None else [Transaction(OWNER, self.store)]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with reaching():
                yield
        except TableNotFoundError:
            raise
        except (DeltaError, OSError) as error:
            raise CorruptLakeError(f"the log of {self.place} cannot be read: {error}") from error

    def _read(self, path: str) -> pl.DataFrame:
        try:
            rows = pl.read_parquet(self.place.read(path), hive_partitioning=False)
            return rows.select(_STORED.names()).cast(_STORED)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CorruptLakeError(f"{self.place}/{path} cannot be read: {error}") from error
