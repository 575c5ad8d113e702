"""The data store of a trading bot, and of the people who study what it did.

>>> import medalion
>>> store = medalion.open()  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medalion.core.errors import (
        ConflictError,
        CorruptLakeError,
        InputError,
        MedalionError,
        NotFoundError,
        StoreError,
        StoreUnavailableError,
        VenueError,
    )
    from medalion.store.store import AsyncStore, Store, open, open_async
    from oltp.repositories.unit_of_work import acting_as

__version__ = "0.1.0"

_ERRORS = "medalion.core.errors"
_HOMES = {
    "AsyncStore": "medalion.store.store",
    "ConflictError": _ERRORS,
    "CorruptLakeError": _ERRORS,
    "InputError": _ERRORS,
    "MedalionError": _ERRORS,
    "NotFoundError": _ERRORS,
    "Store": "medalion.store.store",
    "StoreError": _ERRORS,
    "StoreUnavailableError": _ERRORS,
    "VenueError": _ERRORS,
    "acting_as": "oltp.repositories.unit_of_work",
    "open": "medalion.store.store",
    "open_async": "medalion.store.store",
}

__all__ = [
    "AsyncStore",
    "ConflictError",
    "CorruptLakeError",
    "InputError",
    "MedalionError",
    "NotFoundError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "VenueError",
    "acting_as",
    "open",
    "open_async",
]


def __getattr__(name: str) -> Any:
    """Public names are bound on first use, so that importing the package loads no engine."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
