"""The project's own files, its modules and what each of them imports, as the tests of the tree read them."""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medalion", "oltp", "olap")


def files(*suffixes: str) -> Iterator[Path]:
    """The project's own files below its root, but for what `.gitignore` leaves out."""
    left_out = {".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split())}
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if name not in left_out]
        yield from (Path(folder, name) for name in names if not suffixes or Path(name).suffix in suffixes)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in files(".py") if path.relative_to(ROOT).parts[0] in PACKAGES}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@cache
def imports(path: Path, *, for_types: bool = True) -> set[str]:
    """Every module that `path` imports anywhere, functions included; a name that is a module counts as one.

    Without `for_types`, imports that only a type checker follows are left out.
    """
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(inner) for node in ast.walk(tree) if is_for_types(node) and not for_types for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path.relative_to(ROOT)}:{node.lineno} imports relatively"
            modules = {name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES}
            found.update(modules or {node.module})
    return found
