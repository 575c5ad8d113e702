"""What another process needs to open the same store: small, and without a secret in it."""

import os
from dataclasses import dataclass
from typing import Any, Self

from medalion.core.settings import Settings, settings_of

_ENVIRONMENT = "MEDALION_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """The settings of a store, to be sent to a process that opens its own; `url` has no password.

    There a password comes from where libpq finds one (PGPASSWORD, ~/.pgpass), or from MEDALION_DATABASE_URL if that is
    the same address with one: what is pickled may end up in a file, a queue or a log.
    """

    url: str | None
    given: dict[str, Any]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The spec of a store with these settings; what it opens leaves the mirror to who sends it."""
        given = settings.model_dump(exclude={"database_url"}) | {"mirror_background": False}
        secret = settings.database_url
        return cls(None if secret is None else _public(secret.get_secret_value()), given)

    def settings(self) -> Settings:
        """The settings in this process.

        Raises:
            InputError: one has no sensible value here.
        """
        return settings_of(self._url(), None, None, self.given)

    def _url(self) -> str | None:
        here = os.environ.get(_ENVIRONMENT)
        return here if self.url is not None and here is not None and _public(here) == self.url else self.url


def _public(url: str) -> str:
    """The address without passwords."""
    from oltp.server.engine import parse_url

    parsed = parse_url(url).set(drivername="postgresql")
    secret = [name for name in parsed.query if "pass" in name]
    return parsed._replace(password=None).difference_update_query(secret).render_as_string(hide_password=False)
