"""A failure says by which seed it comes again, and by how few of the steps."""

import random

import pytest

from tests.machines.seeds import LENGTH, Driver, Run, rule, rules_of, runs, whole


class Counting:
    """Fails once it has added up three numbers above 50."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.is_closed = False

    @rule(number=whole(0, 99))
    def add(self, number: int) -> None:
        self.numbers.append(number)

    @rule(when=lambda machine: machine.numbers)
    def forget(self) -> None:
        self.numbers.pop()

    def begin(self, chance: random.Random) -> None:
        self.numbers.append(chance.randrange(2))

    def agrees(self) -> None:
        assert sum(number > 50 for number in self.numbers) < 3

    def end(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def failing() -> tuple[Run, pytest.ExceptionInfo[AssertionError]]:
    """The first seed that fails, and how."""
    for seed in range(1_000):
        driver = Driver(Counting, rules_of(Counting))
        try:
            driver.take(Run(seed))
        except AssertionError:
            with pytest.raises(AssertionError) as raised:
                driver.take(Run(seed))
            return Run(seed), raised
    raise AssertionError("no seed fails")


def test_a_failure_names_its_seed_and_the_fewest_steps() -> None:
    run, raised = failing()
    first, last = raised.value.__notes__
    assert first.startswith(f"MEDALION_SEED={run} replays this:\n  0: ")
    smallest = Run.parse(last.removeprefix("MEDALION_SEED=").removesuffix(" fails alike"))
    assert smallest.seed == run.seed
    assert len(smallest.steps) == 3
    with pytest.raises(AssertionError):
        Driver(Counting, rules_of(Counting)).take(smallest)


def test_the_run_that_is_asked_for_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({run.seed for run in runs(5)}) == 5
    monkeypatch.setenv("MEDALION_SEED", "12:3,5-7")
    assert list(runs(5)) == [Run(12, (3, 5, 6, 7))]


def test_a_step_draws_the_same_whatever_is_left_out() -> None:
    driver = Driver(Counting, rules_of(Counting))
    driver.take(Run(5, (0, 1)))
    both = driver.told
    driver.take(Run(5, (1,)))
    assert driver.told == both[1:]


def test_a_run_is_written_as_it_is_read() -> None:
    for run in (Run(1), Run(2, (0,)), Run(3, (1, 2, 3, 9)), Run(4).without(range(2, 9))):
        assert Run.parse(str(run)) == run
    assert str(Run(1, tuple(range(LENGTH)))) == "1"
