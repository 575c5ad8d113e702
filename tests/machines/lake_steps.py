"""Named steps of the store's work, at which something else happens: a kill, a stop, the server's end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from typing import Any


@contextmanager
def at_step(step: str, act: Callable[[], object]) -> Iterator[list[str]]:
    """Within, `act` is called at a step, `module:attribute`, before it is taken or once it is `done`.

    The first time only. The list then holds the step.
    """
    where, _, when = step.partition(" ")
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner: Any = reduce(getattr, owners, import_module(module))
    take = getattr(owner, name)
    reached: list[str] = []

    def taken(*given: Any, **named: Any) -> Any:
        if reached:
            return take(*given, **named)
        if when != "done":
            reached.append(step)
            act()
            return take(*given, **named)
        result = take(*given, **named)
        reached.append(step)
        act()
        return result

    setattr(owner, name, taken)
    try:
        yield reached
    finally:
        setattr(owner, name, take)
