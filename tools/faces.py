"""Writes the typed faces of the store, `medalion/store/{blocking,awaited,fields}.py`, from the bodies of its parts.

Every body is written once, either to be awaited or to block. From its source this writes a class with the same
signatures and docstrings for callers of the other way. `make faces` runs it; a test holds the files to what it writes.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypedDict

from medalion.store.faces import BlockingFace, ThreadedFace, UnitFace
from medalion.store.services import Services
from oltp.repositories.base import Repository, T
from oltp.repositories.unit_of_work import UnitOfWork
from tools.bodies import Kind, Member, RefusedError, members, needs_loop, part_of
from tools.fields import field_classes, settings_classes
from tools.modules import HOME, ROOT, Module, Signature, doc_of, property_lines
from tools.sources import Origin

OWN = ("observations", "ingestion")
"""The parts whose methods are the store's own."""
OF_ALL = ("backup", "datasets", "symbols", "coverage")
"""What is of the whole store, and of no part."""
UNITS = "units"
BODY = "self._body"


def parts() -> Iterator[Member]:
    """What the store has beside its own methods and the repositories."""
    for member in members(Services):
        if member.name not in (*OWN, UNITS, *OF_ALL):
            if part_of(member) is None or member.kind is Kind.COROUTINE:
                raise RefusedError(f"{member.where} gives no part at once")
            yield member


def own_methods() -> Iterator[tuple[str, Member]]:
    """The store's own, each with the body that has it."""
    for given in (member for member in members(Services) if member.name in OWN):
        part = part_of(given) or Services
        yield from ((f"{BODY}.{given.name}", member) for member in members(part) if member.kind is Kind.CALL)
    yield from ((BODY, member) for member in members(Services) if member.name in OF_ALL)


def shared_methods() -> list[Member]:
    """The methods of every repository, but for those whose arguments are the fields of its entity."""
    return [member for member in members(Repository) if member.kind is Kind.COROUTINE and not member.has_fields]


def repositories() -> Iterator[tuple[str, type[Repository[Any]], list[Member]]]:
    """Every repository by its name in a unit of work, with the methods that are declared for it alone."""
    with_fields = [member for member in members(Repository) if member.has_fields]
    for name, kind in UnitOfWork.repositories().items():
        own = [member for member in members(kind) if member.kind is Kind.COROUTINE]
        yield name, kind, [*with_fields, *own]


class BlockingModule:
    """`blocking.py`: what is awaited blocks its caller."""

    def __init__(self) -> None:
        self.module = Module("blocking", "The store for callers that block, and every part of it that is awaited.")
        self._imports = self.module.imports
        lines: list[str] = []
        for member in parts():
            lines += self._member(member, Services, member.name)
        for body, member in own_methods():
            lines += self._own(body, member)
        self._add_repositories()
        for name, kind, _ in repositories():
            face, made = f"Blocking{kind.__name__}", f"{self._awaited(kind)}({BODY}.{UNITS})"
            lines += property_lines(name, face, doc_of(kind), f"{face}({made}, self._portal)")
        bases = f"{self._imports.of(BlockingFace)}[{self._imports.of(Services)}]"
        self.module.add("BlockingServices", bases, "Every part of the store, for callers that block.", lines)

    def _own(self, body: str, member: Member) -> list[str]:
        signature = Signature(self.module, member, member.owner)
        call = "" if member.kind is Kind.ATTRIBUTE else f"({signature.given})"
        return signature.lines([f"return {body}.{member.name}{call}"])

    def _member(self, member: Member, body: type, called: str) -> list[str]:
        part, signature, returns = part_of(member), Signature(self.module, member, body), None
        value = f"{BODY}.{member.name}"
        if member.kind is Kind.COROUTINE:
            value = signature.passed_to("self._wait", BODY)
        elif member.kind is not Kind.ATTRIBUTE:
            value = f"{value}({signature.given})"
        if member.kind is Kind.CONTEXT:
            if part is not None:
                raise RefusedError(f"{member.where} holds a part")
            value = f"self._within({value})"
            returns = f"{self._imports.of(AbstractContextManager)}[{signature.returns}]"
        elif part is not None and needs_loop(part):
            returns = self.face(part, called)
            value = f"{returns}({value}, self._portal)"
        return signature.lines([f"return {value}"], returns=returns)

    def face(self, part: type, called: str) -> str:
        """The name of the face of a part, which is written where it is needed first."""
        name = f"Blocking{part.__name__}"
        if name not in self.module:
            bases = f"{self._imports.of(BlockingFace)}[{self._imports.of(part)}]"
            self.module.add(name, bases, doc_of(part))  # so that a part may lead back to itself
            lines = ["", f"    _called = {called!r}"]
            for member in members(part):
                lines += self._member(member, part, f"{called}.{member.name}")
            self.module.add(name, bases, doc_of(part), lines)
        return name

    def _awaited(self, kind: type) -> str:
        name = f"Awaited{kind.__name__}"
        return self._imports.use(Origin(f"{HOME}.awaited", name), name)

    def _add_repositories(self) -> None:
        of = self._imports.of
        lines = [line for member in shared_methods() for line in self._member(member, Repository, "")]
        bases = f"{of(BlockingFace)}[{self._awaited(Repository)}[{of(T)}]], {of(Generic)}[{of(T)}]"
        self.module.add("BlockingRepository", bases, doc_of(Repository), lines)
        for name, kind, own in repositories():
            lines = ["", f"    _called = {name!r}", f"    _body: {self._awaited(kind)}"]
            for member in own:
                lines += self._member(member, kind, "")
            self.module.add(f"Blocking{kind.__name__}", f"BlockingRepository[{of(kind.model)}]", doc_of(kind), lines)


class AwaitedModule:
    """`awaited.py`: what blocks runs in a thread, and a repository's call is a unit of work."""

    def __init__(self) -> None:
        self.module = Module("awaited", "The store on an event loop, and every part of it that would block the loop.")
        self._imports = self.module.imports
        lines: list[str] = []
        for member in parts():
            lines += self._member(member, Services, BODY, member.name)
        for body, member in own_methods():
            lines += self._member(member, member.owner, body, "")
        self._add_repositories()
        for name, kind, _ in repositories():
            face = f"Awaited{kind.__name__}"
            lines += property_lines(name, face, doc_of(kind), f"{face}({BODY}.{UNITS})")
        bases = f"{self._imports.of(ThreadedFace)}[{self._imports.of(Services)}]"
        self.module.add("AwaitedServices", bases, "Every part of the store, to be awaited.", lines)

    def _member(self, member: Member, body: type, target: str, called: str) -> list[str]:
        part, signature = part_of(member), Signature(self.module, member, body)
        value = f"{target}.{member.name}"
        if part is None and member.kind is Kind.CALL:
            return signature.lines([f"return await {signature.passed_to('self._run', target)}"], is_async=True)
        if member.kind is Kind.CALL:
            value = f"{value}({signature.given})"
        if part is None or needs_loop(part):
            return signature.lines([f"return {value}"])
        face = self.face(part, called)
        return signature.lines([f"return {face}({value})"], returns=face)

    def face(self, part: type, called: str) -> str:
        name = f"Awaited{part.__name__}"
        if name not in self.module:
            bases = f"{self._imports.of(ThreadedFace)}[{self._imports.of(part)}]"
            self.module.add(name, bases, doc_of(part))
            lines = ["", f"    _called = {called!r}"]
            for member in members(part):
                lines += self._member(member, part, BODY, f"{called}.{member.name}")
            self.module.add(name, bases, doc_of(part), lines)
        return name

    def _add_repositories(self) -> None:
        of = self._imports.of
        lines = self._in(f"{of(Repository)}[{of(T)}]", "raise NotImplementedError")
        lines += [line for member in shared_methods() for line in self._in_unit(member, Repository)]
        self.module.add("AwaitedRepository", f"{of(UnitFace)}, {of(Generic)}[{of(T)}]", doc_of(Repository), lines)
        for name, kind, own in repositories():
            lines = ["", f"    _called = {name!r}", *self._in(of(kind), f"return unit.{name}")]
            lines += [line for member in own for line in self._in_unit(member, kind)]
            self.module.add(f"Awaited{kind.__name__}", f"AwaitedRepository[{of(kind.model)}]", doc_of(kind), lines)

    def _in(self, repository: str, body: str) -> list[str]:
        """Which repository of a unit of work it is."""
        unit = self._imports.of(UnitOfWork)
        return ["", f"    def _in(self, unit: {unit}) -> {repository}:", f"        {body}"]

    def _in_unit(self, member: Member, body: type) -> list[str]:
        signature = Signature(self.module, member, body)
        call = f"self._in(unit).{member.name}({signature.given})"
        work = ["async with self._units() as unit:", f"    return await {call}"]
        return signature.lines(work, is_async=True)


def generated() -> dict[Path, str]:
    """The text of every generated file, by its path."""
    fields = Module("fields", "What callers give by name: fields of entities, and settings.")
    typed = fields.imports.of(TypedDict)
    of_entities = field_classes(UnitOfWork.repositories().values(), fields.imports)
    for name, doc, lines in (*of_entities, *settings_classes(fields.imports)):
        fields.add(name, f"{typed}, total=False", doc, lines)
    modules = (fields, AwaitedModule().module, BlockingModule().module)
    return {module.path: module.text() for module in modules}


if __name__ == "__main__":
    for path, text in generated().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - its output
