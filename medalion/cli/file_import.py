"""Files on their way into a dataset: what a load was told, checked before a store is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medalion.cli.output import say
from medalion.cli.progress import progress_bar
from medalion.core.datasets import Dataset
from medalion.core.enums import AssetType, InstrumentKind
from medalion.core.errors import InputError, NotFoundError
from medalion.core.time import Timeframe
from medalion.ingest.columns import ColumnMapping
from medalion.ingest.pieces import ImportPlan, symbols_of
from medalion.ingest.sources import Source

if TYPE_CHECKING:
    from medalion.ingest.history import ImportResult
    from medalion.store.store import Store


@dataclass(frozen=True, slots=True)
class FileImport:
    """Rows of files for a dataset, and how they are read.

    Raises:
        InputError: a file is not there or of no known kind, or the timeframe of all rows is none.
    """

    dataset: Dataset
    files: Sequence[Path]
    source: str
    mapping: ColumnMapping
    rejects: Path | None
    max_rejects: int | None

    def __post_init__(self) -> None:
        Source(list(self.files))
        if (timeframe := self.mapping.constants.get("timeframe")) is not None:
            Timeframe.parse(str(timeframe))

    def check_assets(self) -> AssetType:
        """The kind of asset that each symbol can be made one of.

        Raises:
            InputError: the dataset is of instruments that are more than a symbol.
        """
        kind = self.dataset.kind
        if kind not in (InstrumentKind.STOCK, InstrumentKind.CRYPTO):
            raise InputError(
                f"{self.dataset.name} is of an {kind}, of which a symbol alone says too little; create it first",
                given=self.dataset.name,
                expected="stocks or coins",
            )
        return AssetType(kind.value)

    def create_assets(self, store: Store) -> None:
        """Make what the rows name and nobody knows, after checking that the rows can be stored at all."""
        from oltp.entities.reference import Asset

        kind = self.check_assets()
        reading = ImportPlan(self.source, self.mapping, self.rejects, self.max_rejects)
        symbols = symbols_of(self.dataset, Source(list(self.files)), reading)
        known = {asset.symbol for asset in store.assets.find(asset_type=kind)}
        unknown = [symbol for symbol in symbols if symbol not in known]
        store.assets.add_many([Asset(symbol=symbol, name=symbol, asset_type=kind) for symbol in unknown])
        if unknown:
            say(f"created {len(unknown):,} assets: {', '.join(unknown[:10])}{' …' if len(unknown) > 10 else ''}")

    def run(self, store: Store) -> ImportResult:
        """The import, with a bar that shows how far it is."""
        mapping = self.mapping
        try:
            with progress_bar() as progress:
                return store.import_history(
                    self.dataset,
                    list(self.files),
                    source=self.source,
                    columns=mapping.columns,
                    constants=mapping.constants,
                    ignore=mapping.ignored,
                    time_zone=mapping.time_zone,
                    time_unit=mapping.time_unit,
                    rejects=self.rejects,
                    max_rejects=self.max_rejects,
                    progress=progress,
                )
        except NotFoundError as error:
            raise NotFoundError(error.kind, error.key, hint="create it first, or pass --create-assets") from error
