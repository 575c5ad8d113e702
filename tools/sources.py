"""Source text of the project's modules, and what the names in it mean, so that a signature can be written elsewhere."""

import ast
import builtins
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

OURS = ("medalion", "oltp", "olap")


class Origin(NamedTuple):
    """Where a name comes from: `from module import name`, or `import module` without a name."""

    module: str
    name: str | None


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


@cache
def class_source(kind: type) -> ast.ClassDef:
    """The definition of a class.

    Raises:
        LookupError: it does not stand at the top of its module.
    """
    for node in tree_of(kind.__module__).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            return node
    raise LookupError(f"{kind.__qualname__} does not stand at the top of {kind.__module__}")


@cache
def _imports(module: str) -> dict[str, Origin]:
    found: dict[str, Origin] = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                found[name] = Origin(alias.name if alias.asname else name, None)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                found[alias.asname or alias.name] = Origin(node.module, alias.name)
    return found


def origin(module: str, name: str) -> Origin | None:
    """Where `name`, as it stands in `module`, was defined; None for what is built in.

    Raises:
        LookupError: the module does not know the name.
    """
    imported = _imports(module).get(name)
    if imported is None:
        if hasattr(import_module(module), name):
            return Origin(module, name)
        if hasattr(builtins, name):
            return None
        raise LookupError(f"{module} does not know {name!r}")
    if imported.name is not None and imported.module.split(".")[0] in OURS:
        if not hasattr(import_module(imported.module), imported.name):
            return imported  # a module of a package
        return origin(imported.module, imported.name)
    return imported


class Imports:
    """The imports of a module that is being written; two things of one name get one name each."""

    def __init__(self) -> None:
        self._names: dict[str, Origin] = {}

    def use(self, found: Origin, known_as: str) -> str:
        """What `found` is called in the module; `known_as` is what it was called where it stood."""
        if found.name is not None and found.module.split(".")[0] in OURS:
            known_as = found.name
        if self._names.setdefault(known_as, found) != found:
            owner = found.module.split(".")[-1].replace("_", " ").title().replace(" ", "")
            known_as = f"{owner}{known_as}"
            if self._names.setdefault(known_as, found) != found:
                raise LookupError(f"{known_as} is {self._names[known_as]} and {found}")
        return known_as

    def of(self, kind: Any) -> str:
        """What a class, or what else knows its own name, is called in the module."""
        if kind.__module__ == "builtins":
            return str(kind.__name__)
        return self.use(Origin(kind.__module__, kind.__name__), kind.__name__)

    def lines(self) -> list[str]:
        return [_line(name, found) for name, found in sorted(self._names.items())]


def _line(name: str, found: Origin) -> str:
    if found.name is None:
        return f"import {found.module}" if found.module == name else f"import {found.module} as {name}"
    given = found.name if found.name == name else f"{found.name} as {name}"
    return f"from {found.module} import {given}"


class Carrier(ast.NodeTransformer):
    """Carries expressions of one module into another, where its names may be called otherwise.

    `instead` has what stands in place of a name, such as the entity in place of a type variable.
    """

    def __init__(self, module: str, imports: Imports, instead: Mapping[str, str]) -> None:
        self._module = module
        self._imports = imports
        self._instead = instead
        self._own: set[str] = set()

    def annotation(self, node: ast.expr) -> ast.expr:
        """A type, also one that is written as text."""
        changed: ast.expr = self.visit(_unquoted(deepcopy(node)))
        return changed

    def text(self, node: ast.expr) -> str:
        return ast.unparse(self.annotation(node))

    def arguments(self, node: ast.arguments) -> ast.arguments:
        """The parameters with their types and defaults."""
        carried = deepcopy(node)
        for argument in [*carried.posonlyargs, *carried.args, *carried.kwonlyargs, carried.vararg, carried.kwarg]:
            if argument is not None and argument.annotation is not None:
                argument.annotation = self.annotation(argument.annotation)
        carried.defaults = [self.visit(default) for default in carried.defaults]
        carried.kw_defaults = [None if default is None else self.visit(default) for default in carried.kw_defaults]
        return carried

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        given = node.args
        own = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        self._own |= own
        node.body = self.visit(node.body)
        self._own -= own
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self._own:
            return node
        if node.id in self._instead:
            return ast.parse(self._instead[node.id], mode="eval").body
        found = origin(self._module, node.id)
        return node if found is None else ast.Name(self._imports.use(found, node.id))


class _Unquoting(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.parse(node.value, mode="eval").body if isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if ast.unparse(node.value).split(".")[-1] != "Literal":
            self.generic_visit(node)
        return node


def _unquoted(node: ast.expr) -> ast.expr:
    changed: ast.expr = _Unquoting().visit(node)
    return changed


def named_in(node: ast.expr, module: str, holds: Callable[[type], bool]) -> list[type]:
    """The classes that a type names in `module` and of which `holds` is true."""
    found: list[type] = []
    for part in ast.walk(_unquoted(deepcopy(node))):
        if isinstance(part, ast.Name | ast.Attribute):
            try:
                value = eval(ast.unparse(part), vars(import_module(module)))  # noqa: S307 - our own source
            except (NameError, AttributeError):
                continue  # imported for types alone
            if isinstance(value, type) and holds(value):
                found.append(value)
    return found
