"""Whatever is written, mirrored, compacted, pruned, removed and reopened in any order, every read is the oracle's.

400 steps over PostgreSQL and a lake of tiny files; MEDALION_LAKE_STEPS multiplies them. Each 40 are a run, which its
seed makes again: `MEDALION_SEED=123 pytest tests/machines/test_lake_machine.py`.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.machines.lake_draws import DRIVEN, SYMBOLS, TIMES
from tests.machines.lake_ground import Ground, ground_of
from tests.machines.lake_reads import Reads as LakeMachine
from tests.machines.seeds import LENGTH, Driver, Run, rules_of, runs
from tests.support.lengths import examples

pytestmark = pytest.mark.server

STEPS = 400


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    place: Path = tmp_path_factory.mktemp("machine")
    with ground_of(place, DRIVEN, SYMBOLS) as ground:
        yield ground


@pytest.fixture
def driver(ground: Ground) -> Driver:
    return Driver(partial(LakeMachine, ground), rules_of(LakeMachine))


@pytest.mark.long
@pytest.mark.timeout(28_800)  # of the whole history; each of its calls is short
def test_every_read_is_that_of_the_oracle_after_every_step(
    driver: Driver, record_testsuite_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    for run in runs(examples(STEPS * TIMES) // LENGTH):
        driver.take(run)
    steps = sum(driver.taken.values())
    record_testsuite_property("steps of the lake", steps)
    record_testsuite_property("steps of the lake a second", round(steps / (time.monotonic() - started)))
