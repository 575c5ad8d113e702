"""The mutants of the protocol can be applied, each rule has one, and the tests that they name exist."""

import ast
from functools import cache

import pytest

from tests.machines.mutants import MUTANTS, RULES
from tests.machines.mutants.base import ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule}: {mutant.off}")
def test_what_a_mutant_changes_is_there_exactly_once_and_its_tests_exist(mutant: Mutant) -> None:
    assert mutant.stale() == []
    ast.parse(mutant.applied(ROOT))
    assert mutant.applied(ROOT) != (ROOT / mutant.file).read_text("utf-8")
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in declared_in(file)


def test_every_rule_of_the_protocol_has_a_mutant() -> None:
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)
    assert len({mutant.off for mutant in MUTANTS}) == len(MUTANTS)


@cache
def declared_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
