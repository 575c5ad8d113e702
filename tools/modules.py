"""A module that is being written: its imports, its classes, and their methods with the signatures of others."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.bodies import Member, RefusedError, type_arguments
from tools.sources import Carrier, Imports, Origin

ROOT = Path(__file__).resolve().parents[1]
HOME = "medalion.store"


class Module:
    """A module of `medalion.store`; classes stand in it in the order in which they are added."""

    def __init__(self, name: str, doc: str) -> None:
        self.imports = Imports()
        self.path = ROOT / HOME.replace(".", "/") / f"{name}.py"
        self._doc = doc
        self._classes: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._classes

    def add(self, name: str, bases: str, doc: str | None, lines: Iterable[str] = ()) -> None:
        self._classes[name] = "\n".join([f"class {name}({bases}):", *documented(doc, 1), *lines])

    def text(self) -> str:
        """The module, formatted as the project is."""
        head = [
            *documented(self._doc, 0),
            "",
            "# Generated from the bodies by tools/faces.py: do not edit, run `make faces`.",
            "from __future__ import annotations",
        ]
        text = "\n".join([*head, *self.imports.lines(), *self._classes.values(), ""])
        return _ruff(_ruff(text, self.path, "check", "--select", "I", "--fix"), self.path, "format")


def documented(doc: str | None, depth: int) -> list[str]:
    """The lines of a docstring; none without one."""
    if doc is None:
        return []
    if '"""' in doc:
        raise RefusedError(f"a docstring has three quotes in it: {doc[:60]!r}")
    indent, prefix = "    " * depth, "r" if "\\" in doc else ""
    lines = f'{prefix}"""{doc}'.split("\n")
    lines = [f'{lines[0]}"""'] if len(lines) == 1 else [*lines, '"""']
    return [f"{indent}{line}".rstrip() for line in lines]


def doc_of(kind: type) -> str | None:
    return None if kind.__doc__ is None else inspect.cleandoc(kind.__doc__)


def property_lines(name: str, returns: str, doc: str | None, value: str) -> list[str]:
    return ["", "    @property", f"    def {name}(self) -> {returns}:", *documented(doc, 2), f"        return {value}"]


def _ruff(text: str, path: Path, *command: str) -> str:
    ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(path), "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - our own text
    if done.returncode or not done.stdout:
        raise RefusedError(f"ruff does not take {path.name}: {done.stderr or done.stdout}")
    return done.stdout


class Signature:
    """How a member of a body is declared and called in the module that is being written."""

    def __init__(self, module: Module, member: Member, body: type) -> None:
        given = type_arguments(body)
        self._imports = module.imports
        self._member = member
        self._entity = given.get("T")
        instead = {name: module.imports.of(kind) for name, kind in given.items()}
        self._carrier = Carrier(member.module, module.imports, instead)

    @property
    def returns(self) -> str:
        """The type of what a caller gets, as its source says."""
        return self._carrier.text(self._member.returns)

    @property
    def given(self) -> str:
        """A call's arguments that hand every parameter on."""
        arguments = self._member.arguments
        if arguments is None:
            return ""
        given = [each.arg for each in (*arguments.posonlyargs, *arguments.args)][1:]
        given += [] if arguments.vararg is None else [f"*{arguments.vararg.arg}"]
        given += [f"{each.arg}={each.arg}" for each in arguments.kwonlyargs]
        given += [] if arguments.kwarg is None else [f"**{arguments.kwarg.arg}"]
        return ", ".join(given)

    def passed_to(self, helper: str, target: str) -> str:
        """A call of `helper` with the member and its arguments."""
        return f"{helper}({', '.join(filter(None, (f'{target}.{self._member.name}', self.given)))})"

    def lines(self, body: Iterable[str], *, returns: str | None = None, is_async: bool = False) -> list[str]:
        """The member with that body; `returns` is what it gives a caller, if not what its source says."""
        member, returned = self._member, returns or self.returns
        inside = [*documented(member.doc, 2), *(f"        {line}" for line in body)]
        if member.arguments is None:
            return ["", "    @property", f"    def {member.name}(self) -> {returned}:", *inside]
        arguments = ast.unparse(self._arguments(member.arguments))
        return ["", f"    {'async ' if is_async else ''}def {member.name}({arguments}) -> {returned}:", *inside]

    def _arguments(self, arguments: ast.arguments) -> ast.arguments:
        carried = self._carrier.arguments(arguments)
        if self._entity is not None and self._member.has_fields and carried.kwarg is not None:
            fields = f"{self._entity.__name__}Fields"
            self._imports.use(Origin(f"{HOME}.fields", fields), fields)
            carried.kwarg.annotation = ast.Name(f"{self._imports.use(Origin('typing', 'Unpack'), 'Unpack')}[{fields}]")
        return carried
