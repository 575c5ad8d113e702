"""The public names of the package: told alike to type checkers and to the interpreter, and bound on first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import medalion
from medalion.stats import ratios


def run(program: str) -> list[str]:
    """The words that a program prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_type_checkers_and_the_interpreter_are_told_the_same_names() -> None:
    tree = ast.parse(Path(medalion.__file__).read_text("utf-8"))
    (told,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    shown = {}
    for node in told.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "only what is imported as itself is public to a type checker"
            shown[alias.name] = node.module
    assert shown == medalion._HOMES
    assert set(shown) - set(medalion.__all__) == medalion._WITH_EXTRAS


@pytest.mark.parametrize("name", sorted(medalion._HOMES))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(medalion, name).__name__.removeprefix("medalion.") == name
    assert name in dir(medalion)


def test_the_figures_are_reached_through_the_package() -> None:
    assert medalion.stats.ratios is ratios


def test_importing_the_package_loads_next_to_nothing() -> None:
    # Less than any library takes: what a program that only may use the store pays for it.
    listing = "import sys; before = set(sys.modules); import medalion; print(*sorted(set(sys.modules) - before))"
    assert set(run(listing)) <= {
        "medalion",
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "warnings",
    }


def test_a_name_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        _ = medalion.opne  # type: ignore[attr-defined]  # which is what it says


def test_everything_can_be_imported_without_the_extras() -> None:
    program = "import sys; sys.modules['alpaca'] = sys.modules['altair'] = None; from medalion import *; print(Store)"
    assert run(program) == ["<class", "'medalion.store.store.Store'>"]
