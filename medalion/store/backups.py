"""A store taken away: books, ledger and lake of one moment in a folder, while everything goes on.

The folder appears whole or not at all. Files of the lake are linked where folder and lake lie on one file system, so
that a backup of any size takes moments and no room: they are never written to again. What is to outlive that disk is
copied from there to another, at leisure.
"""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from medalion.core.errors import CorruptLakeError, InputError, StoreError
from medalion.mirror.basis import Basis, standing
from medalion.store.manifests import BOOKS, LAKE, MANIFEST, Manifest, book_entry, entry_of
from olap.delta.contents import carry
from olap.delta.lake import Lake
from olap.places.draft import Draft, drafted
from olap.places.folder import Folder, sync
from oltp.schema.revision import current
from oltp.server.dump import client_programs, dump
from oltp.server.engine import Postgres

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is whole: its folder, the moment it is of, what is in it, and its size.

    `writes` are those of the ledger, `lake_rows` the rows in files; those that were not mirrored yet are in the books.
    """

    folder: Path
    created_at: datetime
    writes: int
    lake_rows: int
    files: int
    bytes: int


def back_up(postgres: Postgres, lake: Lake, folder: str | Path) -> Backup:
    """Books, ledger and lake of one moment, in a new folder; see `Store.backup`."""
    target = Path(folder).expanduser().absolute()
    if isinstance(lake.place, Folder) and target.is_relative_to(lake.place.path):
        raise InputError(f"{target} lies in the lake; give a folder outside of {lake.place}", given=str(target))
    if postgres.is_replica:
        raise StoreError(f"{postgres!r} is a read replica, beside which nothing holds the lake; open the primary")
    for attempt in range(_ATTEMPTS):
        with drafted(target) as draft:
            try:
                with standing(postgres, lake) as basis:
                    manifest = _filled(postgres, lake, draft, basis)
            except FileNotFoundError as error:
                # Delta expires its log by itself when it sums it up; a newer pin does not need what is gone.
                if attempt + 1 == _ATTEMPTS:
                    raise CorruptLakeError(f"the lake lacks a file: {error}; run `medalion mirror verify`") from error
                continue
            _write_manifest(draft.path, manifest)
            draft.publish()
            break
    return Backup(target, manifest.created_at, manifest.writes, manifest.lake_rows, manifest.files, manifest.bytes)


def _filled(postgres: Postgres, lake: Lake, draft: Draft, basis: Basis) -> Manifest:
    """Lake first, so that its upkeep waits no longer than it must; the snapshot holds nobody up."""
    programs = client_programs(basis.server)
    place = Folder(draft.path / LAKE)
    place.make()
    for table in basis.tables:
        carry(table.contents, lake.place, place, link=True)
    basis.release()
    with postgres.connection() as connection:
        revision = current(connection)
    dump(postgres.libpq, draft.path / BOOKS, snapshot=basis.snapshot, programs=programs)
    (draft.path / BOOKS).chmod(0o600)
    sync(draft.path / BOOKS)
    return Manifest(
        release=version("medalion"),
        revision=str(revision),
        server=basis.server,
        created_at=basis.moment,
        writes=basis.writes,
        rows=basis.rows,
        books=book_entry(draft.path),
        tables=tuple(entry_of(table, place.path) for table in basis.tables),
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """Last of all: a folder without it is no backup."""
    path = folder / MANIFEST
    path.touch(mode=0o600)
    path.write_text(manifest.text(), encoding="utf-8")
    sync(path)
