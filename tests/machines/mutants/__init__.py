"""The store's protocol, rule by rule, with each rule switched off in turn: a test has to notice.

A mutant is a small change of the product that leaves out one part of one rule. `python -m tests.machines.mutants`
applies each to a copy of the tree and runs the tests that are to fail; a mutant that none of them notices survives.
"""

from tests.machines.mutants.base import Mutant
from tests.machines.mutants.files import FILES
from tests.machines.mutants.reading import READING
from tests.machines.mutants.writing import WRITING

RULES = range(1, 23)
MUTANTS: tuple[Mutant, ...] = (*WRITING, *READING, *FILES)
