"""A backup made into a store again: whole and proven, or not there at all.

Everything is read and proven before anything is made. Then the lake is carried to its place under another name, the
books are brought into the database in one transaction that is not committed yet, the lake gets its name, and the
transaction ends. An embedded server's data folder is made under another name altogether, lake and all, checked there,
and renamed. So whatever is killed leaves no store: at most a lake without books, which is refused by every other.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from medalion.core.datasets import DATASETS
from medalion.core.errors import CorruptLakeError, InputError, MedalionError, StoreError
from medalion.core.settings import Settings
from medalion.mirror.binding import is_bound
from medalion.store.manifests import BOOKS, LAKE, Manifest, TableEntry, prove, read
from olap.delta.contents import carry
from olap.delta.lake import Lake
from olap.places.draft import drafted
from olap.places.folder import Folder
from olap.places.open import Place, lake_place
from oltp.schema.fingerprint import checked_revision, sealed
from oltp.schema.revision import head
from oltp.server.dump import client_programs, restoring
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import Connection, Postgres, one
from oltp.server.place import POINTER, is_made


@dataclass(frozen=True, slots=True)
class Restoration:
    """A store that was made of a backup: where its books and its lake are, of which moment, and what is in it."""

    books: str
    lake: str
    created_at: datetime
    writes: int
    lake_rows: int


def restore(folder: str | Path, settings: Settings, *, link: bool = False) -> Restoration:
    """Make a store of a backup where the settings say: data folder or database by URL, and lake.

    With `link` files of the lake are linked to those of the backup where they lie on one file system, and share its
    damage from then on; else they are copied.

    Raises:
        InputError: the folder is no backup, or something lies where the store is to be.
        StoreError: the backup is damaged, of a newer release, or the server does not take it.
    """
    source = Path(folder).expanduser().absolute()
    manifest = read(source)
    if manifest.revision not in sealed():
        raise StoreError(
            f"{source} is of revision {manifest.revision}, which this release does not know: it has those up to "
            f"{head()}; use release {manifest.release} or a newer one"
        )
    if settings.database_url is None:
        _refuse_store(settings.data_dir)
    else:
        _refuse_schema(settings)
    prove(source, manifest)
    made = _embedded if settings.database_url is None else _on_server
    books, lake = made(source, manifest, settings, link)
    return Restoration(books, str(lake), manifest.created_at, manifest.writes, manifest.lake_rows)


def _embedded(source: Path, manifest: Manifest, settings: Settings, link: bool) -> tuple[str, Place]:
    lake = lake_place(settings)
    with ExitStack() as made:
        draft = made.enter_context(drafted(settings.data_dir, abandon=_abandon))
        inner: Place = lake
        publish: Callable[[], None] = _nothing
        if isinstance(lake, Folder) and lake.path.is_relative_to(settings.data_dir):
            inner = Folder(draft.path / lake.path.relative_to(settings.data_dir))
            _fill(source, manifest, inner, link)
        else:
            inner, publish = made.enter_context(_lake_filled(source, manifest, lake, link))
        with EmbeddedPostgres.start(draft.path, timeout=settings.start_timeout) as server:
            postgres = Postgres(server.url, keeper=server)
            with _opened(postgres), _books(source, postgres) as commit:
                commit()
            with _opened(postgres := Postgres(server.url, keeper=server)):
                _check(postgres, Lake(inner), manifest)
            _upgrade(server.url, manifest)
        publish()
        draft.publish()
    return str(settings.data_dir), lake


def _on_server(source: Path, manifest: Manifest, settings: Settings, link: bool) -> tuple[str, Place]:
    given = settings.database_url
    assert given is not None  # noqa: S101 - the caller has looked
    url, lake = given.get_secret_value(), lake_place(settings)
    postgres = Postgres(url)
    with _lake_filled(source, manifest, lake, link) as (_, publish), _opened(postgres):
        with _books(source, postgres) as commit:
            publish()
            commit()
        _check(postgres, Lake(lake), manifest)
    _upgrade(url, manifest)
    return repr(postgres), lake


@contextmanager
def _lake_filled(
    source: Path, manifest: Manifest, lake: Place, link: bool
) -> Iterator[tuple[Place, Callable[[], None]]]:
    """The lake's files in place, and what gives them their name; a bucket has no renaming, and is emptied again where
    the block fails before that.
    """
    if isinstance(lake, Folder):
        with drafted(lake.path) as draft:
            _fill(source, manifest, Folder(draft.path), link)
            yield Folder(draft.path), draft.publish
        return
    lake.open()
    if not lake.is_empty():
        raise InputError(f"{lake} is not empty; give another prefix, or remove what lies there", given=str(lake))
    published: list[bool] = []
    try:
        _fill(source, manifest, lake, link)
        yield lake, lambda: published.append(True)
    except BaseException:
        # Afterwards the answer to a commit may only be lost, and the books need the lake.
        with suppress(MedalionError):
            if not published:
                lake.remove(f"{table.name}/{file.path}" for table in manifest.tables for file in table.files)
        raise


def _nothing() -> None:
    """A lake within the data folder gets its name with it."""


def _fill(source: Path, manifest: Manifest, lake: Place, link: bool) -> None:
    lake.make()
    for table in manifest.tables:
        carry(table.contents(), Folder(source / LAKE), lake, link=link)


@contextmanager
def _books(source: Path, postgres: Postgres) -> Iterator[Callable[[], None]]:
    """Within, the books are in the database, and stay there once what is given was called."""
    with postgres.connection() as connection:
        server = connection.info.server_version // 10_000
    with restoring(postgres.libpq, source / BOOKS, programs=client_programs(server)) as commit:
        yield commit


@contextmanager
def _opened(postgres: Postgres) -> Iterator[None]:
    postgres.open()
    try:
        yield
    finally:
        postgres.close()


def _check(postgres: Postgres, lake: Lake, manifest: Manifest) -> None:
    """Schema, ledger and every table of the lake are those of the backup, and belong together."""
    with postgres.connection() as connection:
        revision = checked_revision(connection)
        held = one(connection.execute("SELECT count(*), coalesce(sum(rows), 0)::bigint FROM writes").fetchone())
        if (revision, *held) != (manifest.revision, manifest.writes, manifest.rows):
            raise StoreError(f"{postgres!r} holds other books than the backup: {held[0]:,} writes, {revision}")
        for entry in manifest.tables:
            if entry.name in DATASETS:
                _check_table(connection, lake, entry)


def _check_table(connection: Connection, lake: Lake, entry: TableEntry) -> None:
    table = lake.table(DATASETS[entry.name])
    pin = table.refresh()
    found = (pin.version, *pin.mark, int(pin.files.rows.sum()))
    if found != (entry.version, entry.batch, entry.nonce, entry.rows) or not is_bound(connection, table):
        raise CorruptLakeError(f"{table.place} is not the table of the backup")


def _upgrade(url: str, manifest: Manifest) -> None:
    if manifest.revision != head():
        from oltp.schema import migrate  # loads Alembic

        migrate.upgrade(url)


def _refuse_store(data_dir: Path) -> None:
    if is_made(data_dir):
        raise InputError(
            f"there is a store in {data_dir}; give another folder with --data-dir, or an empty database with --url",
            given=str(data_dir),
            expected="a folder without a store",
        )


def _refuse_schema(settings: Settings) -> None:
    assert settings.database_url is not None  # noqa: S101 - the caller has looked
    postgres = Postgres(settings.database_url.get_secret_value())
    ours = sorted({"alembic_version"}.union(*(made.tables for made in sealed().values())))
    with _opened(postgres), postgres.connection() as connection:
        rows = connection.execute(
            """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname = ANY(%s)
               AND relnamespace = ANY(ARRAY(SELECT oid FROM pg_namespace WHERE nspname = ANY(current_schemas(false))))
               ORDER BY relname LIMIT 1""",
            (ours,),
        ).fetchall()
    if rows:
        raise InputError(
            f"{postgres!r} has a table {rows[0][0]} already; give the URL of an empty database",
            expected="a database without a schema",
        )


def _abandon(data_dir: Path) -> None:
    """End the server of a data folder that was never finished, and remove what root keeps of it elsewhere."""
    if not is_made(data_dir):
        return
    with suppress(MedalionError):
        EmbeddedPostgres.start(data_dir, report=lambda _: None).stop()
    pointer = data_dir / POINTER
    if pointer.exists():
        shutil.rmtree(Path(pointer.read_text(encoding="utf-8").strip()), ignore_errors=True)
