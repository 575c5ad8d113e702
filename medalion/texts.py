"""Texts as PostgreSQL can keep them, and what an exception says."""

import traceback


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
    return f"{type(exception).__module__}.{type(exception).__qualname__}"
