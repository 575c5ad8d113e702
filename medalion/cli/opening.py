"""Which store a command means, and opening it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medalion.core.settings import Settings
    from medalion.store.parts import Parts
    from medalion.store.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """The options that every command has; what is None comes from the environment."""

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

    def open(self) -> Store:
        """The store, without a background mirror: a command does what it says and no more."""
        from medalion.store.store import Store

        return Store(self.settings())

    @contextmanager
    def parts(self) -> Iterator[Parts]:
        """The same for what needs datasets alone: loading the services of the books takes as long as a read."""
        from medalion.store.parts import Parts

        with closing(Parts(self.settings())) as parts:
            yield parts

    @contextmanager
    def database(self) -> Iterator[str]:
        """The database's URL, whether it has a schema or not; an embedded server runs meanwhile."""
        from oltp.server.embedded import EmbeddedPostgres

        settings = self.settings()
        if settings.database_url is not None:
            yield settings.database_url.get_secret_value()
            return
        with EmbeddedPostgres.start(settings.data_dir, timeout=settings.start_timeout) as server:
            yield server.url
