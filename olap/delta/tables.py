"""A dataset's Delta table, appended to in numbered batches and read at a pin."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import RemoveAction

from medalion.core.datasets import Dataset
from medalion.core.errors import CorruptLakeError, StoreError, StoreUnavailableError
from medalion.core.frames import newest_of, polars_schema
from olap.delta.log import LOG, changes, commit_name, files_of, files_staged, written_with
from olap.delta.ownership import foreign, owner_mark
from olap.delta.pins import ADDED, BATCH, EMPTY, MAINTENANCE, NONCE, REMOVAL, Pin, pin_of, sum_marks
from olap.files.blocks import NONE_KEPT, Blocks
from olap.files.index import NO_FILES, SUM_BITS, Files
from olap.files.layout import PERIOD
from olap.files.parquet import StagedFile, stage
from olap.places.base import reaching
from olap.places.open import Place
from olap.reads.scan import scan_files

# A pin that is never looked after would name files that a vacuum has removed, however long it keeps them.
_PIN_SECONDS = 60.0
_ATTEMPTS = 3


class LakeTable:
    """A dataset's Delta table; safe to use from several threads.

    What changes it is refused unless it belongs to `store`; a table without an owner has that one from the next commit
    on, which whoever calls has to know to be right.
    """

    def __init__(self, root: Place, dataset: Dataset, *, store: int | None = None, blocks: Blocks = NONE_KEPT) -> None:
        self.dataset = dataset
        self.store = store
        self.place = root.within(dataset.name)
        self.blocks = blocks
        self._lock = threading.Lock()
        self._pin: Pin | None = None
        self._looked = 0.0

    def pin(self) -> Pin:
        """The newest version this process has seen, within the last minute; cheap.

        Reads prove that it is new enough, or refresh.
        """
        is_fresh = time.monotonic() - self._looked < _PIN_SECONDS
        return self._pin if self._pin is not None and is_fresh else self.refresh()

    def refresh(self) -> Pin:
        """The newest version there is.

        Raises:
            CorruptLakeError: the table's log cannot be read.
            StoreUnavailableError: an object store does not answer.
        """
        with self._lock:
            try:
                with reaching():
                    self._pin = self._summed(self._followed() or self._opened())
            except TableNotFoundError:
                self._pin = EMPTY
            except (DeltaError, OSError) as error:
                raise CorruptLakeError(f"the log of {self.place} cannot be read: {error}") from error
            self._looked = time.monotonic()
            return self._pin

    def owned(self) -> Pin:
        """The newest version there is, of a table that nobody else owns.

        Raises:
            CorruptLakeError: it belongs to another store; or as `refresh`.
        """
        pin = self.refresh()
        if pin.owner not in (None, self.store):
            raise foreign(self.place, pin.owner, self.store)
        return pin

    def adopt(self) -> Pin:
        """The newest version, which belongs to this store from now on, whoever owned it before; the caller leads.

        Raises:
            StoreError: another has changed the table meanwhile; or as `replace`.
        """
        pin = self.refresh()
        if pin.version < 0 or (pin.owner == self.store and not pin.lacks_marks):
            return pin
        adopted = self.replace(pin, NO_FILES, [], is_adopting=True)
        if adopted is None:
            raise StoreError(f"another has changed {self.place} meanwhile; nothing was adopted, run it again")
        return adopted

    def pin_at(self, version: int) -> Pin:
        """An earlier version, which the log still has; what `pin` gives stays the newest.

        Raises:
            CorruptLakeError: the log has it no more, or cannot be read.
            StoreUnavailableError: an object store does not answer.
        """
        try:
            with reaching():
                return self._read(version)
        except (DeltaError, OSError) as error:
            raise CorruptLakeError(f"version {version} of {self.place} cannot be read: {error}") from error

    def stage(self, rows: pl.DataFrame, newest: dict[str, int]) -> list[StagedFile]:
        """Write stored rows to files that no commit names yet.

        Raises:
            StoreError: the place cannot be written to, for instance because the disk is full.
        """
        return stage(self.place, self.dataset, rows, newest=newest)

    def scan(self, paths: Iterable[str]) -> pl.LazyFrame:
        """The rows of some of its files, as stored."""
        return scan_files(self.place, self.dataset, list(paths))

    def newest_rows(self, files: Sequence[StagedFile]) -> pl.DataFrame:
        """The last row of each series in the files, by time and arrival, as stored."""
        names, key = self.dataset.stored.names, list(self.dataset.series_key)
        newest = pl.DataFrame(schema=polars_schema(self.dataset.stored))
        for file in files:
            # One file at a time, however large the import; within each the rows of a series are in this order.
            with reaching():
                last = self.scan([file.path]).group_by(key).last().select(names).collect()
            newest = newest_of(self.dataset, pl.concat([newest, last]))
        return newest

    def discard(self, files: Sequence[StagedFile]) -> None:
        """Remove files that were staged and will not be committed; a vacuum finds what cannot be reached now."""
        with suppress(StoreUnavailableError):
            self.place.remove(file.path for file in files)

    def append(self, files: Sequence[StagedFile], *, batch: int, nonce: int) -> Pin:
        """Commit the files as batch number `batch`, all or nothing.

        Raises:
            CorruptLakeError: a file has vanished, or the lake moved on since it was last looked at.
            StoreUnavailableError: an object store did not say whether it took the commit; the next run looks.
        """
        if vanished := self.place.missing(file.path for file in files):
            raise CorruptLakeError(f"{self.place}/{vanished} has vanished before it was committed")
        try:
            with reaching():
                handle = self._create_or_open()
        except (DeltaError, OSError) as error:
            raise StoreError(f"{self.place} cannot be written to: {error}; nothing was committed") from error
        held = handle.transaction_version(BATCH) or 0
        marks = owner_mark(self.place, handle, self.store)
        added = handle.transaction_version(ADDED)
        if added is not None or held == 0:
            marks.append(Transaction(ADDED, ((added or 0) + files_staged(files).sum) & SUM_BITS))
        if held != batch - 1:
            raise CorruptLakeError(f"{self.place} is at batch {held}; batch {batch} does not follow")
        try:
            with reaching():
                handle.create_write_transaction(
                    [file.action() for file in files],
                    mode="append",
                    schema=handle.schema(),
                    partition_by=[PERIOD],
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(BATCH, batch), Transaction(NONCE, nonce), *marks]
                    ),
                )
        except CommitFailedError as error:
            # A server that took it may have failed to say so, and then refused the same commit as a second one.
            newer = self.refresh()
            if newer.mark != (batch, nonce):
                raise CorruptLakeError(f"another writer has committed to {self.place} meanwhile: {error}") from error
            return newer
        except (DeltaError, OSError) as error:
            raise StoreError(f"{self.place} cannot be committed to: {error}") from error
        return self.refresh()

    def replace(
        self,
        pin: Pin,
        removed: Files,
        added: Sequence[StagedFile],
        *,
        removal: int | None = None,
        is_adopting: bool = False,
    ) -> Pin | None:
        """Commit staged files in place of files of the pin, all or nothing, and have the disk keep it.

        None where another has removed files since the pin was taken; nothing was committed then. Batches that are
        appended meanwhile do no harm, nor does it harm them. `removal` is the nonce of a commit after which rows are
        missing. Without any file it only makes a commit fail that is based on the same pin.

        Raises:
            CorruptLakeError: the table belongs to another store, and `is_adopting` does not say to take it.
            StoreUnavailableError: an object store did not say whether it took the commit; the files must stay.
        """
        if self.place.missing(file.path for file in added):
            return None
        is_change, now = removal is not None, int(time.time() * 1000)
        gone = [
            RemoveAction(path, is_change, now, size, {PERIOD: period})
            for path, size, period in zip(
                removed.path.tolist(), removed.bytes.tolist(), removed.period.tolist(), strict=True
            )
        ]
        # The same application transaction in two commits makes the second of them fail, whatever it was based on.
        marks = [Transaction(MAINTENANCE, pin.maintenance + 1)]
        if removal is not None:
            marks.append(Transaction(REMOVAL, removal))
        try:
            with reaching():
                handle = self.open()
                marks += owner_mark(self.place, handle, self.store, is_adopting=is_adopting)
                marks += sum_marks(handle, pin, removed, added)
                if (handle.transaction_version(MAINTENANCE) or 0) != pin.maintenance:
                    return None
                handle.create_write_transaction(
                    [*(file.action(data_change=is_change) for file in added), *gone],
                    mode="append",
                    schema=handle.schema(),
                    partition_by=[PERIOD],
                    commit_properties=CommitProperties(app_transactions=marks),
                )
        except CommitFailedError:
            # It may be this very commit that was there already; the names of its files are its own, as is its nonce.
            newer = self.refresh()
            is_ours = newer.removal == removal if is_change else {file.path for file in added} & set(newer.files.path)
            if not is_ours and not (is_adopting and newer.owner == self.store):
                return None
        except (DeltaError, OSError) as error:
            raise StoreError(f"{self.place} cannot be committed to: {error}") from error
        else:
            newer = self.refresh()
        self.sync(newer)
        return newer

    def sync(self, pin: Pin) -> None:
        """Have the disk keep the newest commits: each is a new name in a folder, and so is each of its files.

        Called before the ledger says that a batch is done, also by who finishes it after a crash: commits of
        maintenance may stand above the batch's by then.
        """
        self.place.keep_private(written_with(pin.version))
        self.place.sync(self._to_sync(pin))

    def _to_sync(self, pin: Pin) -> Iterator[str]:
        for version in range(pin.version, -1, -1):
            commit = commit_name(version)
            if self.place.missing([commit]):  # expired, so long ago was it written
                break
            yield commit
            if BATCH in self.place.read(commit).decode():
                break
        yield LOG
        yield from {f"{PERIOD}={period}" for period in pin.files.period}

    def open(self, version: int | None = None) -> DeltaTable:
        """A fresh handle of the table, which must exist."""
        return DeltaTable(str(self.place), version=version, storage_options=self.place.delta_options)

    def _create_or_open(self) -> DeltaTable:
        """A fresh handle; one that has committed knows a stale version and is not used again."""
        try:
            return self.open()
        except TableNotFoundError:
            # Within folders that nobody else may enter, files are private from their first moment.
            self.place.make()
            self.place.within(LOG).make()
            columns = [field.with_nullable(True) for field in self.dataset.stored]
            schema = pa.schema([*columns, pa.field(PERIOD, pa.string())])
            made = DeltaTable.create(
                str(self.place),
                schema,
                mode="ignore",
                partition_by=[PERIOD],
                storage_options=self.place.delta_options,
            )
            self.place.keep_private(written_with(0))
            return made

    def _followed(self) -> Pin | None:
        """The newest version by what the commits since the last one say, far sooner than by opening the table.

        None where they do not tell.
        """
        last = self._pin
        news = changes(self.place, after=last.version) if last is not None and last.version >= 0 else None
        if last is None or news is None:
            return None
        if news.version == last.version:
            return last
        return last.followed_by(news, self._files(news.added))

    def _opened(self) -> Pin:
        """The newest version by all of the log; once more where a vacuum has removed entries before they were read."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._read()
            except TableNotFoundError:
                raise
            except (DeltaError, OSError):
                continue
        return self._read()

    def _read(self, version: int | None = None) -> Pin:
        handle = self.open(version)
        actions = pl.DataFrame(handle.get_add_actions(flatten=True))
        files = self._files(actions.rename({f"partition.{PERIOD}": PERIOD}))
        return pin_of(handle, files)

    def _summed(self, pin: Pin) -> Pin:
        """The pin, whose files are those that were committed, with all that is said of them."""
        if pin.added is not None and pin.sum != (pin.added + pin.moved) & SUM_BITS:
            raise CorruptLakeError(
                f"the log of {self.place} is damaged: its files, or what it says of them, are not those that were "
                "committed; bring it back from a copy, see `medalion mirror verify`"
            )
        return pin

    def _files(self, actions: pl.DataFrame) -> Files:
        try:
            return files_of(actions)
        except CorruptLakeError as error:
            raise CorruptLakeError(f"{self.place}/{error}") from None
