"""A version of a table of the lake, as its commits say: what they mark, and the files they leave."""

from collections.abc import Sequence
from dataclasses import dataclass

from deltalake import DeltaTable, Transaction

from olap.delta.log import Changes, files_staged
from olap.delta.ownership import OWNER
from olap.files.index import NO_FILES, SUM_BITS, Files
from olap.files.parquet import StagedFile

BATCH = "medalion-mirror"
NONCE = "medalion-nonce"
MAINTENANCE = "medalion-maintenance"
REMOVAL = "medalion-removal"
# The sum of all files that batches have ever added, and of what maintenance has put in less what it took out. Together
# they are the sum of the files there are, by which a log shows that is damaged: two marks, because a batch and a
# compaction that are committed at once may not set the same one.
ADDED = "medalion-added"
MOVED = "medalion-moved"


@dataclass(frozen=True, slots=True)
class Pin:
    """A fixed version of a table: the last batch in it, that batch's nonce, and its files with their statistics.

    `maintenance` counts the commits that removed files, `removal` is the nonce of the last that removed rows as well.
    `owner` is the number of the store that it belongs to; `sum` is that of its files, and `added` and `moved` together
    what it should be by the commits. Without `owner` or `added` it was written before there were such marks.
    """

    version: int
    batch: int
    nonce: int | None
    files: Files
    maintenance: int = 0
    removal: int | None = None
    owner: int | None = None
    added: int | None = None
    moved: int = 0
    sum: int = 0

    @property
    def mark(self) -> tuple[int, int | None]:
        """Number and nonce of its last batch."""
        return self.batch, self.nonce

    @property
    def lacks_marks(self) -> bool:
        """Whether it is a table of before they had an owner and a sum."""
        return self.version >= 0 and (self.owner is None or self.added is None)

    def followed_by(self, news: Changes, entered: Files) -> "Pin":
        """The version that the commits `news` made of this one, whose new files are `entered`."""
        marks = news.marks
        return Pin(
            version=news.version,
            batch=marks.get(BATCH, self.batch),
            nonce=marks.get(NONCE, self.nonce),
            files=self.files.changed(news.gone, entered),
            maintenance=marks.get(MAINTENANCE, self.maintenance),
            removal=marks.get(REMOVAL, self.removal),
            owner=marks.get(OWNER, self.owner),
            added=marks.get(ADDED, self.added),
            moved=marks.get(MOVED, self.moved),
            sum=(self.sum + entered.sum - self.files.named(news.gone).sum) & SUM_BITS,
        )


EMPTY = Pin(version=-1, batch=0, nonce=None, files=NO_FILES)


def pin_of(handle: DeltaTable, files: Files) -> Pin:
    """The version that a handle holds, with its files."""
    return Pin(
        version=handle.version(),
        batch=handle.transaction_version(BATCH) or 0,
        nonce=handle.transaction_version(NONCE),
        files=files,
        maintenance=handle.transaction_version(MAINTENANCE) or 0,
        removal=handle.transaction_version(REMOVAL),
        owner=handle.transaction_version(OWNER),
        added=handle.transaction_version(ADDED),
        moved=handle.transaction_version(MOVED) or 0,
        sum=files.sum,
    )


def sum_marks(handle: DeltaTable, pin: Pin, removed: Files, staged: Sequence[StagedFile]) -> list[Transaction]:
    """What a commit of maintenance has to say of the sum of the files; of a table of before, what it is."""
    if handle.transaction_version(ADDED) is None:
        # Of one that is rewritten now it will be said later: a batch may be added beside it, unless whoever leads asks.
        return [] if len(removed) or staged else [Transaction(ADDED, pin.files.sum)]
    moved = handle.transaction_version(MOVED) or 0
    return [Transaction(MOVED, (moved + files_staged(staged).sum - removed.sum) & SUM_BITS)]
