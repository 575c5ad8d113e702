"""store.mirror: the lake kept up with PostgreSQL, looked after, proven and repaired."""

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import polars as pl

from medalion.bars import downsampling
from medalion.core.datasets import DATASETS, Dataset, datasets_of
from medalion.core.datasets import dataset as dataset_named
from medalion.core.errors import CorruptLakeError, InputError
from medalion.core.tracebacks import all_told_shortly
from medalion.journal.anchors import RUNS, Anchors
from medalion.mirror import binding, compaction, rebinding, relocation, removal, repair, vacuum, verification
from medalion.mirror.compaction import CompactionRun
from medalion.mirror.copy import Copier, MirrorRun
from medalion.mirror.relocation import Relocation
from medalion.mirror.removal import RetentionRun
from medalion.mirror.vacuum import VacuumRun
from olap.delta.lake import Lake
from olap.delta.ownership import shown_store
from olap.places.open import place_of
from oltp.ledger import batches
from oltp.ledger.folding import fold
from oltp.ledger.rebinding import without_writers
from oltp.ledger.rollups import forget
from oltp.server.engine import Postgres

_LOG_KEPT = timedelta(days=30)


@all_told_shortly
class Mirror:
    """Keeps the lake up with PostgreSQL; several in several processes are harmless, one at a time leads a dataset."""

    def __init__(self, postgres: Postgres, lake: Lake, copier: Copier) -> None:
        self._postgres = postgres
        self._lake = lake
        self._copier = copier

    def run(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        wait: bool = True,
        settle: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> MirrorRun:
        """Copy everything committed so far; with `wait` False, pass over datasets that another process leads.

        With `settle` the time up to which `as_of` may ask is raised too. Once `is_stopping` says so, no further batch
        is begun: the one at hand is finished first, and takes about five seconds at most.

        >>> _ = store.mirror.run()
        >>> store.mirror.run().rows  # all of it is there
        0

        Raises:
            CorruptLakeError: lake and ledger do not belong together; nothing was written.
        """
        total = MirrorRun()
        for dataset in datasets_of(datasets):
            if is_stopping():
                break
            total += self._copier.run(dataset, wait=wait, settle=settle, is_stopping=is_stopping)
        return total

    def prune(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> int:
        """Empty every hot slot whose rows are all in the lake; the number of rows removed."""
        removed = 0
        for dataset in datasets_of(datasets):
            with self._postgres.connection() as connection:
                for slot, rows in batches.slot_rows(connection, dataset).items():
                    removed += (batches.prune(connection, dataset, slot) or 0) if rows else 0
        return removed

    def compact(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> CompactionRun:
        """Rewrite many small files of a partition as few sorted ones; every row is kept, and a second run does nothing.

        Reads and mirroring go on meanwhile. The old files stay until `vacuum` removes them. A partition is one commit.

        Raises:
            CorruptLakeError: a file is missing or damaged.
        """
        total = CompactionRun()
        for dataset in datasets_of(datasets):
            total += compaction.compact(self._postgres, self._lake.table(dataset))
        return total

    def compact_meanwhile(self, dataset: str | Dataset, *, stopping: threading.Event | None = None) -> CompactionRun:
        """Compact the one partition that gains most by it, if any is worth it yet and no other process maintains.

        With `stopping` set it is given up, and nothing has changed.
        """
        return compaction.compact_one(self._postgres, self._lake.table(dataset_named(dataset)), stopping=stopping)

    def vacuum(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta = timedelta(days=7),
        dry_run: bool = False,
    ) -> VacuumRun:
        """Remove files of the lake that no version within the age refers to, and those that a dead writer left.

        Reads and relations that were begun before may still need a file that was replaced since: `older_than` is how
        long they may last. With `dry_run` nothing is removed, and the run lists what would be.

        Raises:
            InputError: a negative age, or one beyond the 30 days for which Delta keeps its log.
            CorruptLakeError: lake and ledger do not belong together; nothing was removed.
        """
        if not timedelta() <= older_than <= _LOG_KEPT:
            raise InputError(
                f"an age of {older_than} was given; give 0 to 30 days", given=older_than, expected="0 to 30 days"
            )
        total = VacuumRun()
        for dataset in datasets_of(datasets):
            table = self._lake.table(dataset)
            total += vacuum.vacuum(self._postgres, table, self._copier.finish, older_than=older_than, dry_run=dry_run)
        return total

    def retain(
        self,
        datasets: str | Dataset | Iterable[str | Dataset],
        *,
        versions_older_than: timedelta | None = None,
        rows_older_than: timedelta | None = None,
        downsample: str | None = None,
    ) -> RetentionRun:
        """Remove from the lake, for good, what is older than the ages given; what is not mirrored yet stays.

        `versions_older_than`: versions that were superseded so long ago, and rows that were deleted; reads without
        `as_of`, or with a later one, stay as they are, and an earlier `as_of` is refused from then on.
        `rows_older_than`: whole partitions (days, months, years) whose rows all have an older `ts`; reads with an
        `as_of` before the removal are refused where their range starts earlier than what is left. The files stay
        until `vacuum`. `downsample`: of quotes, the timeframe of the bars that stay in their place.

        Raises:
            InputError: no age, or a negative one; or nothing that can be downsampled.
            CorruptLakeError: a file is missing or damaged, or lake and ledger do not belong together.
        """
        ages = removal.Ages(versions_older_than, rows_older_than)
        declared = datasets_of(datasets)
        keepers = downsampling.keepers(self._postgres, self._lake, declared, ages, downsample)
        total = RetentionRun()
        for dataset, keep in zip(declared, keepers, strict=True):
            total += removal.retain(self._postgres, self._lake.table(dataset), self._copier.finish, ages, keep=keep)
        return total

    def fold(
        self,
        datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS),
        *,
        older_than: timedelta,
        keys_older_than: timedelta | None = None,
    ) -> int:
        """Fold the ledger's entries of so old writes, whose rows are in the lake alone, into one sum; how many.

        Rows stay, and `verify` proves them together from then on. Those with an idempotency key stay, which holds for
        as long as they do, but for what `keys_older_than` gives.
        """
        total = 0
        for dataset in datasets_of(datasets):
            with self._postgres.connection() as connection, batches.leading(connection, dataset):
                total += fold(connection, dataset, age=older_than, key_age=keys_older_than)
        return total

    def status(self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS)) -> pl.DataFrame:
        """A row a dataset: how far the lake is, what waits and how long, who leads, and what holds it back.

        >>> store.mirror.status(["stock_bars"])["dataset"].to_list()
        ['stock_bars']
        """
        return verification.status(self._postgres, self._lake, datasets_of(datasets))

    def verify(
        self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS), *, heal: bool = False
    ) -> pl.DataFrame:
        """Everything in which lake, ledger and hot rows disagree: dataset, subject, problem. Empty is clean.

        Reads every row once. Each dataset is led meanwhile, so that mirroring waits. With `heal` what can be proven
        is repaired, and a fourth column, `outcome`, says of each problem whether it is `repaired`; rows that nothing
        proves any more are `lost`, and are booked so; `changed` rows stay as they were found; the rest is `left`.

        >>> store.mirror.verify().is_empty()
        True
        """
        drift: list[tuple[str, ...]] = []
        for dataset in datasets_of(datasets):
            table = self._lake.table(dataset)
            with (
                self._postgres.connection() as connection,
                batches.maintaining(connection, dataset) if heal else nullcontext(),
                batches.leading(connection, dataset),
            ):
                removal.finish_removal(connection, table)
                finish = partial(self._copier.finish, connection, dataset)
                if heal:
                    forget(connection, dataset)
                    drift += ((dataset.name, *told) for told in repair.heal(self._postgres, table, connection, finish))
                    continue
                with suppress(CorruptLakeError):  # what stands against it is found below, and named
                    finish()
                found = verification.examine(self._postgres, table, connection)
                drift += ((dataset.name, *problem) for problem in found.problems)
        schema = verification.DRIFT | ({"outcome": pl.String} if heal else {})
        return pl.DataFrame(drift, schema=schema, orient="row")

    def rebind(
        self, datasets: str | Dataset | Iterable[str | Dataset] = tuple(DATASETS), *, adopt: str | None = None
    ) -> pl.DataFrame:
        """Make one store again of a lake and a ledger that are copies of different moments; see `mirror.rebinding`.

        What became of what only one of the two knew: dataset, subject, outcome. Datasets that agree are left as they
        are. Writers, imports and mirroring wait meanwhile; every row of the lake is read. A lake that belongs to
        another store is taken over only where `adopt` is that store's number, as refusals and `status` show it.

        Raises:
            InputError: the lake is that of another store; nothing was changed.
        """
        anchors = Anchors(self._postgres, self._lake)
        told = self._adopted(anchors, adopt)
        for dataset in datasets_of(datasets):
            table = self._lake.table(dataset)
            with (
                self._postgres.connection() as connection,
                batches.maintaining(connection, dataset),
                batches.without_staging(connection, dataset),
                batches.leading(connection, dataset),
                without_writers(connection, dataset),
            ):
                if binding.is_bound(connection, table):
                    table.adopt()
                else:
                    forget(connection, dataset)
                    rebound = rebinding.rebind(self._postgres, table, connection)
                    told += ((dataset.name, *outcome) for outcome in rebound)
                self._copier.finish(connection, dataset)
        told += anchors.rebind()
        return pl.DataFrame(told, schema=verification.REBOUND, orient="row")

    def move(self, to: str | Path) -> Relocation:
        """Copy the lake to another folder or `s3://bucket/prefix`, and have it be the store's from then on.

        Writes go on meanwhile, and mirroring until most is copied. This store, and any other that is open on the old
        lake, is refused afterwards: close it, and open one with `lake=` as the result says. The old lake stays as it
        is. Its newest versions are copied; what only older ones refer to is left behind.

        Raises:
            InputError: `to` is not empty, cannot be made, or lies in the lake.
            CorruptLakeError: a file is damaged, or lake and ledger do not belong together; the lake stays where it is.
            StoreError: `to` cannot be written to; the lake stays where it is.
        """
        return relocation.move(self._postgres, self._lake, self._copier.finish, place_of(str(to)))

    def _adopted(self, anchors: Anchors, adopt: str | None) -> list[tuple[str, str, str]]:
        """The tables that belong to another store, which is the one whose number was given; raises InputError if not.

        All of them are looked at first, so that what is refused has changed nothing.
        """
        owners = {name: self._lake.table(dataset).refresh().owner for name, dataset in DATASETS.items()}
        owners[RUNS] = anchors.owner()
        foreign = {name: shown_store(owner) for name, owner in owners.items() if owner not in (None, self._lake.store)}
        if other := next((owner for owner in foreign.values() if owner != adopt), None):
            raise InputError(
                f"the lake in {self._lake.place} belongs to store {other}; nothing was changed: check that it is the "
                f"right one, and then name it with --adopt {other} (adopt={other!r}), which ends its use by that store",
                given=adopt,
                expected=other,
            )
        return [
            (name, "owner", f"it belonged to store {other} and is this store's now") for name, other in foreign.items()
        ]
