"""Texts as PostgreSQL can keep them, and what an exception says."""

import traceback
from typing import TypeGuard

from medalion.core.errors import InputError


def storable(text: str) -> str:
    """The text with what PostgreSQL cannot store (NUL, half a surrogate pair) replaced by `�` or `?`."""
    return text.replace("\x00", "�").encode(errors="replace").decode() if "\x00" in text or not text.isascii() else text


def said(exception: BaseException) -> str:
    """Type and message, as the last line of a traceback has them."""
    return storable("".join(traceback.format_exception_only(exception)).strip())


def stack_trace(exception: BaseException | None) -> str | None:
    """With the exceptions it came from; None for one that was never raised."""
    if exception is None or exception.__traceback__ is None:
        return None
    return storable("".join(traceback.format_exception(exception)))


def type_name(exception: BaseException) -> str:
    """Module and name of the exception's class, as a traceback has it."""
    return f"{type(exception).__module__}.{type(exception).__qualname__}"


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is text that every store can hold: without a NUL or half a surrogate pair."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def checked_name(value: object, what: str, *, longest: int = 500) -> str:
    """`value`, if it is a name that every store can hold.

    Raises:
        InputError: not text, empty, too long, or with a NUL or half a surrogate pair in it.
    """
    if is_text(value) and 0 < len(value) <= longest:
        return value
    raise InputError(f"{what} {value!r} is not a name of 1 to {longest} characters", given=value, expected="a name")
