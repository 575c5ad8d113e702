"""The place that the settings name."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medalion.core.errors import InputError
from medalion.core.settings import Settings
from olap.places.folder import Folder

if TYPE_CHECKING:
    from olap.places.bucket import Bucket

Place: TypeAlias = "Folder | Bucket"


def lake_place(settings: Settings) -> Place:
    """Where the lake is: in a folder, or in a bucket.

    Raises:
        InputError: a URL that is no bucket's, or without the keys to it.
    """
    return Folder(settings.data_dir / "lake") if settings.lake is None else place_of(settings.lake)


def place_of(named: str) -> Place:
    """The folder or bucket of that name; raises as `lake_place`."""
    if named.startswith("s3://"):
        from olap.places.bucket import Bucket

        return Bucket.of(named)
    if "://" in named:
        scheme = named.split("://")[0]
        raise InputError(
            f"a lake on {scheme}:// was given; expected a folder or s3://bucket/prefix",
            given=scheme,
            expected="a folder or s3://bucket/prefix",
        )
    return Folder(Path(named).expanduser().absolute())
