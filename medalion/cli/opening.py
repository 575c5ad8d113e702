"""Which store a command means, and opening it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from typer import Context

from medalion.core.environment import DATA_DIR, setting
from medalion.core.errors import NotFoundError

if TYPE_CHECKING:
    from medalion.core.settings import Settings
    from medalion.store.parts import Parts
    from medalion.store.store import Store

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """The options that every command has; what is None comes from the environment.

    A store is made where `make` says so. Whoever only asks, and has perhaps named the wrong folder, is told that there
    is none.
    """

    url: str | None = None
    data_dir: Path | None = None
    lake: str | None = None
    verbose: bool = False

    def __repr__(self) -> str:
        return f"Place(data_dir={self.data_dir}, lake={self.lake})"

    def settings(self) -> Settings:
        """The options over the environment.

        Raises:
            InputError: a setting has no sensible value.
        """
        from medalion.core.settings import settings_of

        return settings_of(self.url, self.lake, self.data_dir, {"mirror_background": False})

    def check(self) -> None:
        """Raises NotFoundError where the data folder holds no store, before anything is loaded that takes long."""
        if self.url is None and setting("database_url") is None:
            _check_made(Path(self.data_dir or setting("data_dir") or DATA_DIR).expanduser().absolute())

    def open(self, *, make: bool = False) -> Store:
        """The store, without a background mirror: a command does what it says and no more.

        Raises:
            NotFoundError: the data folder holds none, and `make` is False.
        """
        settings = self._settled(make=make)
        with self._server(settings):
            from medalion.store.store import Store

            return Store(settings)

    @contextmanager
    def parts(self, *, is_rebinding: bool = False) -> Iterator[Parts]:
        """The same for what needs datasets alone: to load the services of the books takes as long as a read."""
        settings = self._settled(make=False)
        with self._server(settings):
            from medalion.store.parts import Parts

            parts = Parts(settings, is_rebinding=is_rebinding)
        with closing(parts):
            yield parts

    @contextmanager
    def database(self, *, make: bool = False) -> Iterator[str]:
        """The database's URL, whether it has a schema or not; an embedded server runs meanwhile."""
        settings = self._settled(make=make)
        if settings.database_url is not None:
            yield settings.database_url.get_secret_value()
            return
        from oltp.server.embedded import EmbeddedPostgres

        with EmbeddedPostgres.start(settings.data_dir, timeout=settings.start_timeout) as server:
            yield server.url

    def _server(self, settings: Settings) -> AbstractContextManager[object]:
        """A share in the embedded server, which starts while the block loads engines, and takes a share of its own.

        The server is mostly waited for, loading is mostly the processor's work: side by side they take as long as one.
        """
        if settings.database_url is not None:
            return nullcontext()
        from oltp.server.embedded import EmbeddedPostgres

        return EmbeddedPostgres.begin(settings.data_dir, timeout=settings.start_timeout)

    def _settled(self, *, make: bool) -> Settings:
        """The settings of a store that is there, or may be made."""
        settings = self.settings()
        if not make and settings.database_url is None:
            _check_made(settings.data_dir)
        return settings


def _check_made(data_dir: Path) -> None:
    from oltp.server.place import is_made

    if not is_made(data_dir):
        near = nearest(data_dir)
        hint = (
            "`medalion demo`, `load`, `db upgrade` and `restore` make one; or give --data-dir or --url"
            if near is None
            else f"the nearest is in {near}: give --data-dir {shlex.quote(str(near))}"
        )
        raise NotFoundError("store in", data_dir, hint=hint)


def in_a_store(command: Callable[P, R]) -> Callable[P, R]:
    """The command, which in a folder without a store says so first, whatever else is wrong with its words."""

    @wraps(command)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        cast(Context, named["ctx"]).obj.check()
        return command(*arguments, **named)

    return run


def nearest(folder: Path) -> Path | None:
    """The data folder of a store near `folder`: in it, beside it, below what lies beside it, or above."""
    from oltp.server.place import is_used

    beside = _folders_in(folder.parent)
    around = [*_folders_in(folder), folder.parent, *beside, *(place / DATA_DIR for place in beside)]
    above = (place for parent in folder.parent.parents for place in (parent, parent / DATA_DIR))
    return next((place for place in (*around, *above) if is_used(place)), None)


def _folders_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(place for place in folder.iterdir() if place.is_dir())
    return []
