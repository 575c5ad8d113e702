"""Parts of no store, with everything that a face can have, and with what it cannot."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Literal, TypedDict, Unpack


class Extra(TypedDict, total=False):
    """What may be given by name."""

    note: str


class Inner:
    """A part of a part."""

    async def doubled(self, number: int) -> int:
        """Twice the number."""
        return 2 * number


class Outer:
    """A part."""

    def __init__(self, inner: Inner, limit: int = 3) -> None:
        self.inner = inner
        self.limit = limit
        self.further = Inner()
        self.entered: list[int] = []

    @property
    def itself(self) -> "Outer":
        return self

    def plain(self, *, word: "str" = "a") -> str:
        """The word."""
        return word

    async def given(
        self, first: int, /, second: int = 2, *rest: int, kind: Literal["a", "b"] = "a", **extra: Unpack[Extra]
    ) -> tuple[object, ...]:
        """Everything as it came: a path\\name."""
        return (first, second, rest, kind, extra)

    async def made(self) -> Inner:
        return Inner()

    @asynccontextmanager
    async def held(self, number: int) -> AsyncIterator[int]:
        """The number."""
        self.entered.append(number)
        yield number
        self.entered.remove(number)


class Yields:
    """Has an iterator."""

    async def items(self) -> AsyncIterator[int]:
        yield 1


class Mixes:
    """Gives a part or none."""

    async def work(self) -> Inner | None:
        return None


class Leaks:
    """Gives what is to be awaited."""

    async def work(self) -> None: ...

    def later(self) -> Awaitable[None]:
        return self.work()


class Untyped:
    """Has an attribute of which nobody says the type."""

    async def work(self) -> None: ...

    def __init__(self) -> None:
        self.size = len("abc")


class Static:
    """Has a method that belongs to no object."""

    async def work(self) -> None: ...

    @staticmethod
    def alone() -> int:
        return 1
