"""The lake: one Delta table per dataset, in one place."""

from pathlib import Path

from medalion.core.datasets import DATASETS, Dataset
from olap.delta.anchors import AnchorTable
from olap.delta.log import ANCHORED, LOG
from olap.delta.ownership import foreign
from olap.delta.tables import LakeTable
from olap.files.blocks import Blocks
from olap.places.folder import Folder
from olap.places.open import Place


class Lake:
    """All tables of one place, which may be given as its path; narrow reads keep `kept_bytes` of what they decode.

    `store` is the number of the store whose lake it is; None where there is none, of whose tables nobody else's is one.
    """

    def __init__(self, root: "Place | Path", *, store: int | None = None, kept_bytes: int = 0) -> None:
        self.place: Place = Folder(root) if isinstance(root, Path) else root
        self.store = store
        self.blocks = Blocks(kept_bytes)
        self._tables: dict[str, LakeTable] = {}

    def keep_private(self) -> None:
        """Let nobody but the owner into the tables' folders; those that are another's are passed over."""
        self.place.keep_private((*DATASETS, ANCHORED))

    def table(self, dataset: Dataset) -> LakeTable:
        """The dataset's table, the same object each time."""
        made = LakeTable(self.place, dataset, store=self.store, blocks=self.blocks)
        return self._tables.setdefault(dataset.name, made)

    def check_unowned(self) -> None:
        """Prove that no table is another store's, or was written by one before stores had numbers.

        Raises:
            CorruptLakeError: one is, or its log cannot be read.
        """
        for dataset in DATASETS.values():
            table = self.table(dataset)
            if _is_made(table.place):
                pin = table.owned()
                if pin.owner is None and pin.batch:
                    raise foreign(table.place, None, self.store)
        anchors = AnchorTable(self.place, store=self.store)
        if _is_made(anchors.place):
            anchors.check_owned()


def _is_made(place: Place) -> bool:
    return next(place.matching(f"{LOG}/*"), None) is not None
