"""What can go wrong, as a tree; catch the branch you can act on.

```
MedalionError
├── InputError (ValueError)          what was given cannot be accepted; nothing was written
├── NotFoundError (LookupError)      nothing is stored under that key
├── ConflictError                    the stored state forbids it: read again, then decide
└── StoreError                       a store failed
    ├── StoreUnavailableError        not reachable now; the same call may succeed later
    ├── CorruptLakeError             lake and ledger disagree, or a file is damaged; do not retry
    └── VenueError                   a trading venue refused or did not answer
```
"""

from collections.abc import Sequence
from difflib import get_close_matches


class MedalionError(Exception):
    """Base of every error raised on purpose here."""


class InputError(MedalionError, ValueError):
    """What was given cannot be accepted; nothing was written.

    `given` and `expected` keep the values, for code that builds its own message.
    """

    def __init__(self, message: str, *, given: object = None, expected: object = None) -> None:
        super().__init__(message)
        self.given, self.expected = given, expected


class NotFoundError(MedalionError, LookupError):
    """Nothing is stored under `key`."""

    def __init__(self, kind: str, key: object, *, known: Sequence[str] = (), hint: str = "") -> None:
        near = " or ".join(repr(name) for name in get_close_matches(str(key), known))
        message = f"no {kind} {str(key)!r}" + (f"; did you mean {near}?" if near else "")
        super().__init__(message + (f"; {hint}" if hint else ""))
        self.kind, self.key = kind, key


class ConflictError(MedalionError):
    """The stored state forbids the change; if `retryable`, the same call made again as it is may succeed."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StoreError(MedalionError):
    """A store (PostgreSQL, the lake, a venue) failed."""


class StoreUnavailableError(StoreError):
    """A store is not reachable now; the same call may succeed later."""


class CorruptLakeError(StoreError):
    """Lake and ledger disagree or a file is damaged; retrying cannot help."""


class VenueError(StoreError):
    """A trading venue refused or did not answer."""
