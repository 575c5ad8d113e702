"""What the environment says, for who cannot wait until all settings are read and checked."""

import os

DATA_DIR = "medalion-data"
"""Where a store is kept if nothing else is said, in the folder one is in."""

DEBUG = "MEDALION_DEBUG"
"""Where it is 1, errors show the whole way that they came."""


def setting(name: str) -> str | None:
    """The variable of a setting, whatever its case; None where there is none.

    >>> setting("no_such_setting") is None
    True
    """
    wanted = f"medalion_{name}"
    return next((value for key, value in os.environ.items() if key.lower() == wanted), None)
