"""What an error shows of the way it came: the caller's frames and the public call, unless somebody debugs."""

import os
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction, isfunction
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from medalion.core.environment import DEBUG
from medalion.core.errors import MedalionError

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


def told_shortly(public: Callable[P, R]) -> Callable[P, R]:
    """The function, whose errors of ours show the caller's frames and it alone, without the errors that they came from.

    What a bot or a notebook has to know is in the message; the rest of the chain, up to sixty frames of drivers and
    event loops, is shown with MEDALION_DEBUG=1 in the environment.
    """
    if iscoroutinefunction(public):

        @wraps(public)
        async def awaited(*arguments: P.args, **named: P.kwargs) -> Any:
            try:
                return await public(*arguments, **named)
            except MedalionError as error:
                if _shows_all():
                    raise
                raise _cut(error) from None

        return cast(Callable[P, R], awaited)

    @wraps(public)
    def called(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return public(*arguments, **named)
        except MedalionError as error:
            if _shows_all():
                raise
            raise _cut(error) from None

    return called


def _shows_all() -> bool:
    return os.environ.get(DEBUG, "") not in ("", "0")


def _cut(error: MedalionError) -> MedalionError:
    """The error as it shows its caller: of its traceback the public call is left, which comes after our own frame."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    error.__context__ = None
    left = None if trace is None else TracebackType(None, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    return error.with_traceback(left)


def all_told_shortly(kind: type[C]) -> type[C]:
    """The class, of which every public method and property is `told_shortly`."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isfunction(member):
            setattr(kind, name, told_shortly(member))
        elif isinstance(member, property) and member.fget is not None:
            setattr(kind, name, property(told_shortly(member.fget), member.fset, member.fdel, member.__doc__))
    return kind
