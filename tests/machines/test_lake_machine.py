"""Whatever is written, mirrored, compacted, pruned, removed and reopened in any order, every read is the oracle's.

400 steps over PostgreSQL and a lake of tiny files; MEDALION_LAKE_STEPS multiplies them, and the 30,000 of `make soak`
take an hour on two cores. Each 40 are a run, which its seed makes again:
`MEDALION_SEED=123 pytest tests/machines/test_lake_machine.py`.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.machines.lake_draws import DRIVEN, SYMBOLS, TIMES
from tests.machines.lake_ground import Ground, ground_of
from tests.machines.lake_machine import LakeMachine
from tests.machines.lake_seeds import FAILED
from tests.machines.seeds import LENGTH, Driver, Run, rules_of, runs
from tests.support.lengths import examples

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore::medalion.core.errors.MixedSourcesWarning")]

STEPS = 400

is_replay = pytest.mark.skipif("MEDALION_SEED" in os.environ, reason="one run is asked for, and no other")


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
    ground: Ground,
    driver: Driver,
    record_testsuite_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started = time.monotonic()
    for run in runs(max(1, examples(STEPS * TIMES) // LENGTH)):
        driver.take(run)
    seconds, steps = time.monotonic() - started, sum(driver.taken.values())
    told = {"steps": steps, "steps a second": round(steps / seconds)} | dict(sorted(ground.counts.items()))
    record_testsuite_property("machine of the lake", told)
    if TIMES > 1:
        with capsys.disabled():
            request.config.get_terminal_writer().line(f"\n{seconds:.0f} s of the lake's machine: {told}")


@is_replay
@pytest.mark.parametrize("run", FAILED)
def test_a_run_that_failed_once_fails_no_more(driver: Driver, run: str) -> None:
    driver.take(Run.parse(run))


@is_replay
def test_a_seed_makes_the_same_run_again(ground: Ground, driver: Driver) -> None:
    """Every step, and every row in its order of arrival."""
    told, books = [], []
    for _ in range(2):
        machines: list[LakeMachine] = []

        def make(machines: list[LakeMachine] = machines) -> LakeMachine:
            machines.append(LakeMachine(ground))
            return machines[0]

        driver.make = make
        driver.take(Run(7, tuple(range(15))))
        told.append(driver.told)
        # Numbers of writes may leave some out where the server was killed.
        rows = sorted(machines[0].book.rows, key=lambda row: row.arrival)
        books.append([(row.ordinal, row.values, row.is_mirrored, row.is_removed) for row in rows])
    assert told[0] == told[1]
    assert books[0] == books[1]
