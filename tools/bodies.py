"""What a class of the project offers its callers: its public methods, properties and attributes, as its source says."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache
from textwrap import dedent
from typing import Protocol, TypeVar, get_args, get_origin

from tools.sources import OURS, class_source, named_in

Function = ast.FunctionDef | ast.AsyncFunctionDef
_LEAKS = {
    "AsyncGenerator",
    "AsyncIterable",
    "AsyncIterator",
    "Awaitable",
    "Coroutine",
    "AbstractAsyncContextManager",
}
"""What a caller that blocks could do nothing with."""


class RefusedError(TypeError):
    """A body has something for which no face can be written; says what to change."""


class Kind(Enum):
    """How a member of a body is used."""

    ATTRIBUTE = auto()
    CALL = auto()
    COROUTINE = auto()
    CONTEXT = auto()


@dataclass(frozen=True)
class Member:
    """One public member; `owner` is the class that defines it, `returns` the type of what a caller gets."""

    name: str
    kind: Kind
    owner: type
    returns: ast.expr
    doc: str | None = None
    arguments: ast.arguments | None = None
    written_in: str | None = None
    """The module whose names its types are, where that is another than its owner's."""

    @property
    def module(self) -> str:
        """The module whose names its types are."""
        return self.written_in or self.owner.__module__

    @property
    def where(self) -> str:
        return f"{self.owner.__module__}.{self.owner.__name__}.{self.name}"

    @property
    def has_fields(self) -> bool:
        """Whether its named arguments are the fields of an entity."""
        if self.arguments is None or self.arguments.kwarg is None or self.arguments.kwarg.annotation is None:
            return False
        rest = self.arguments.kwarg
        return rest.arg in ("fields", "changes") and ast.unparse(self.arguments.kwarg.annotation) == "Any"


def is_part(kind: type) -> bool:
    """Whether a class is a part of the store: a service, or anything of ours whose methods are awaited."""
    if kind.__module__.split(".")[0] not in OURS or Protocol in kind.__mro__:
        return False
    return is_awaited(kind) or (kind.__module__.startswith("medalion.services.") and _is_plain(kind))


@cache
def is_awaited(kind: type) -> bool:
    """Whether any of its public methods is awaited."""
    return any(name[0] != "_" for name, _ in inspect.getmembers(kind, inspect.iscoroutinefunction))


def _is_plain(kind: type) -> bool:
    """Neither a value nor an error."""
    return not hasattr(kind, "__dataclass_fields__") and not issubclass(kind, BaseException | Enum)


def type_arguments(kind: type) -> dict[str, type]:
    """What stands for the type variables of a class's generic bases, by their names."""
    found: dict[str, type] = {}
    for base in getattr(kind, "__orig_bases__", ()):
        generic = get_origin(base)
        for variable, given in zip(getattr(generic, "__parameters__", ()), get_args(base), strict=False):
            if not isinstance(given, TypeVar):
                found[variable.__name__] = given
    for base in kind.__bases__:
        found = type_arguments(base) | found
    return found


def is_generic(kind: type) -> bool:
    return bool(getattr(kind, "__parameters__", ()))


def part_of(member: Member) -> type | None:
    """The part that a caller gets from a member; None where it is a value.

    Raises:
        RefusedError: it gives a part among other things.
    """
    module = member.module
    if ast.unparse(member.returns) in ("Self", "'Self'"):
        return member.owner if is_part(member.owner) else None
    found = named_in(member.returns, module, is_part)
    if not found:
        return None
    if not isinstance(member.returns, ast.Name | ast.Attribute | ast.Constant):
        raise RefusedError(f"{member.where} gives {ast.unparse(member.returns)}; give the part alone")
    return found[0]


def needs_loop(part: type, beside: frozenset[type] = frozenset()) -> bool:
    """Whether anything of a part, or of the parts that it has, is awaited."""
    if is_awaited(part):
        return True
    inner = {each for member in members(part) if (each := part_of(member)) is not None} - beside - {part}
    return any(needs_loop(each, beside | {part}) for each in inner)


def members(kind: type) -> Iterator[Member]:
    """The public members of a class, in the order of its source, its own before those of its bases.

    What a generic base has is not among them.

    Raises:
        RefusedError: one of them is nothing that a face could have.
    """
    seen: set[str] = set()
    for owner in kind.__mro__:
        if owner.__module__.split(".")[0] in OURS and (owner is kind or not is_generic(owner)):
            for member in _own_members(owner):
                if member.name not in seen:
                    seen.add(member.name)
                    yield member


def _own_members(owner: type) -> Iterator[Member]:
    for node in class_source(owner).body:
        match node:
            case ast.FunctionDef(name="__init__"):
                yield from _attributes_set(owner, node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name[0] != "_":
                if (found := _method(owner, node)) is not None:
                    yield found
            case ast.AnnAssign(target=ast.Name(id=name)) if name[0] != "_":
                yield Member(name, Kind.ATTRIBUTE, owner, _without_class_variable(node.annotation))
            case ast.Assign(targets=[ast.Name(id=name)]) if name[0] != "_" and _is_function(owner, name):
                yield _made_method(owner, name)
            case ast.Assign(targets=[ast.Name(id=name)]) if name[0] != "_" and not _is_annotated(owner, name):
                raise RefusedError(f"{owner.__module__}.{owner.__name__}.{name} has no type; annotate it")


def _is_function(owner: type, name: str) -> bool:
    """Whether a class's attribute is a method, as of what a factory has made."""
    return inspect.isfunction(vars(owner).get(name))


def _made_method(owner: type, name: str) -> Member:
    """The member that a factory made of a function, whose first parameter is what the method is called on.

    Where the factory gives more than that itself, the method says how many, as `not_given`.
    """
    made = vars(owner)[name]
    function = inspect.unwrap(made)
    (node,) = ast.parse(dedent(inspect.getsource(function))).body
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        raise RefusedError(f"{owner.__module__}.{owner.__name__}.{name} is made of no function")
    for _ in range(vars(made).get("not_given", 1) - 1):
        (node.args.posonlyargs or node.args.args).pop(0)
    first = (node.args.posonlyargs or node.args.args)[0]
    first.arg, first.annotation = "self", None
    node.name = name
    found = _method(owner, node)
    if found is None:
        raise RefusedError(f"{owner.__module__}.{owner.__name__}.{name} is made of a setter")
    return replace(found, doc=inspect.getdoc(made), written_in=function.__module__)


def _is_annotated(owner: type, name: str) -> bool:
    """Whether a base says what type the attribute has."""
    return any(name in vars(base).get("__annotations__", {}) for base in owner.__mro__[1:])


def _without_class_variable(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).split(".")[-1] in ("ClassVar", "Final"):
        return annotation.slice
    return annotation


def _attributes_set(owner: type, init: ast.FunctionDef) -> Iterator[Member]:
    """The public attributes that `__init__` sets: annotated, parameters with a type, or objects of a class."""
    given = {each.arg: each.annotation for each in (*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs)}
    for node in ast.walk(init):
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)) if name[0] != "_":
                yield Member(name, Kind.ATTRIBUTE, owner, node.annotation)
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]) if name[0] != "_":
                match node.value:
                    case ast.Name(id=parameter) if (annotation := given.get(parameter)) is not None:
                        yield Member(name, Kind.ATTRIBUTE, owner, annotation)
                    case ast.Call(func=ast.Name(id=called)) if called[0].isupper():
                        yield Member(name, Kind.ATTRIBUTE, owner, node.value.func)
                    case _:
                        raise RefusedError(f"{owner.__module__}.{owner.__name__}.{name} has no type; annotate it")


def _method(owner: type, node: Function) -> Member | None:
    """The member that a method is; None for the setter of a property."""
    decorators = {ast.unparse(each).split(".")[-1] for each in node.decorator_list}
    where = f"{owner.__module__}.{owner.__name__}.{node.name}"
    if decorators & {"setter", "deleter"}:
        return None
    if refused := decorators & {"staticmethod", "classmethod", "overload", "contextmanager"}:
        raise RefusedError(f"{where} is a {refused.pop()}, of which no face can be written")
    if node.returns is None:
        raise RefusedError(f"{where} does not say what it returns")
    doc = ast.get_docstring(node)
    if decorators & {"property", "cached_property"}:
        return Member(node.name, Kind.ATTRIBUTE, owner, node.returns, doc)
    if "asynccontextmanager" in decorators:
        if not isinstance(node.returns, ast.Subscript):
            raise RefusedError(f"{where} does not say what it is a context of")
        held = node.returns.slice.elts[0] if isinstance(node.returns.slice, ast.Tuple) else node.returns.slice
        return Member(node.name, Kind.CONTEXT, owner, held, doc, node.args)
    is_coroutine = isinstance(node, ast.AsyncFunctionDef)
    if is_coroutine and any(isinstance(inner, ast.Yield) for inner in ast.walk(node)):
        raise RefusedError(f"{where} yields to `async for`; give a list, or a context manager")
    leaked = {each.split(".")[-1] for each in map(ast.unparse, ast.walk(node.returns))} & _LEAKS
    if leaked:
        raise RefusedError(f"{where} returns {leaked.pop()}; make it `async def`")
    return Member(node.name, Kind.COROUTINE if is_coroutine else Kind.CALL, owner, node.returns, doc, node.args)
