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

Warnings are no errors. `EmptyResultWarning`: a read was answered with no rows, and it says what there is instead.
`MixedSourcesWarning`: it shows what several sources say of one instrument side by side.
"""

import re
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches

_OURS = frozenset(("medalion", "oltp", "olap"))
_MOST = 2_000
_TAIL = 400
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FRAMES = re.compile(r"\n\s*\n?(Stack Trace|stack backtrace|Traceback|Resolved plan until failure)\b.*", re.DOTALL)
_BACKTRACE = re.compile(r"\n\s*0: \S.*", re.DOTALL)
_CARETS = re.compile(r"\n[ \t]*\^+(?=\s|$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def one_line(message: str) -> str:
    """A message in one line of bounded length, whatever a library, a file or a caller has put into it.

    >>> one_line("no such\\x1b[31m column\\x1b[0m:\\n  LINE 1: SELECT x\\n                 ^")
    'no such column: LINE 1: SELECT x'
    >>> one_line("the log cannot be read\\n\\n   0: <unknown>\\n   1: start_thread\\n             at ./nptl")
    'the log cannot be read'
    """
    # Cut first: of a cell of a gigabyte nothing below should make copies.
    if len(message) > 2 * _MOST:
        message = f"{message[:_MOST]}…{message[-_MOST:]}"
    message = _CARETS.sub("", _BACKTRACE.sub("", _FRAMES.sub("", _COLOURS.sub("", message))))
    message = " ".join(re.split(r"[ \t]*[\r\n]+\s*", message.strip()))
    message = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", message)
    return message if len(message) <= _MOST else f"{message[: _MOST - _TAIL - 1]}…{message[-_TAIL:]}"


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Those of the known names that may be meant, nearest first: the same in other case, else such as look alike.

    >>> near_names("aapl", ["MSFT", "AAPL"])
    ['AAPL']
    """
    same = [each for each in known if each != name and each.casefold() == name.casefold()]
    return same or [each for each in get_close_matches(name, known) if each != name]


class EmptyResultWarning(UserWarning):
    """A read has no rows to give, and says what is there instead."""


class MedalionError(Exception):
    """Base of every error raised on purpose here; its message is one line of 2,000 characters at most."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class InputError(MedalionError, ValueError):
    """What was given cannot be accepted; nothing was written.

    `given` and `expected` keep the values, for code that builds its own message.
    """

    def __init__(self, message: str, *, given: object = None, expected: object = None) -> None:
        super().__init__(message)
        self.given, self.expected = given, expected


class MixedSourcesWarning(UserWarning):
    """A read shows what several sources say of one instrument side by side."""


class NotFoundError(MedalionError, LookupError):
    """Nothing is stored under `key`."""

    def __init__(self, kind: str, key: object, *, known: Sequence[str] = (), hint: str = "") -> None:
        near = " or ".join(map(repr, near_names(str(key), known)))
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


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the first line that is not ours: who asked is to see where."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_back.f_globals.get("__name__", "").split(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(one_line(message), category, stacklevel=level + 1)
