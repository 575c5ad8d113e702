"""Runs of a machine whose every choice follows from one seed: what is done, with what, which faults, and the clock.

`MEDALION_SEED=123 pytest tests/machines/test_lake_machine.py` takes the run of that seed again, and nothing else;
`MEDALION_SEED=123:4,7-9` takes only these steps of it. A run that fails says both for itself.

Hypothesis draws from a seed as well, but a whole history of examples of it: the hundredth comes with the ninety-nine
before it, and another release of Hypothesis makes others of the same number. Here a run is a seed. Each of its steps
draws from the seed and its own number alone, so that leaving out a step changes no other: that is how a run is made
small, without a shrinker.
"""

import inspect
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Draw: TypeAlias = Callable[[random.Random], T]
Method = TypeVar("Method", bound=Callable[..., None])

LENGTH = 40
"""Steps of a run."""

_SHRINK_SECONDS = 60.0


def constant(value: T) -> Draw[T]:
    return lambda _: value


def among(*options: T) -> Draw[T]:
    """One of these; who is to come more often is named more often."""
    return lambda chance: chance.choice(options)


def whole(first: int, last: int) -> Draw[int]:
    """Both ends included."""
    return lambda chance: chance.randint(first, last)


def either(*draws: Draw[Any]) -> Draw[Any]:
    return lambda chance: chance.choice(draws)(chance)


def tuple_of(*draws: Draw[Any]) -> Draw[Any]:
    return lambda chance: tuple(draw(chance) for draw in draws)


def list_of(draw: Draw[T], least: int, most: int) -> Draw[list[T]]:
    return lambda chance: [draw(chance) for _ in range(chance.randint(least, most))]


class Machine(Protocol):
    """What a run drives."""

    def begin(self, chance: random.Random) -> None:
        """The first step, which every run has."""
        ...

    def agrees(self) -> None:
        """What holds after every step."""
        ...

    def end(self) -> None:
        """What holds at the end."""
        ...

    def close(self) -> None:
        """Leave nothing behind, whatever has failed."""
        ...


@dataclass(frozen=True)
class Rule:
    """A step that may be taken `when` a machine is in such a state, `weight` times as often as another."""

    take: Callable[..., None]
    draws: Mapping[str, Draw[Any]]
    weight: float
    when: Callable[[Any], bool]


_ALWAYS: Callable[[Any], bool] = constant(True)
_RULES: dict[Any, Rule] = {}


def rule(
    *, weight: float = 1.0, when: Callable[[Any], bool] = _ALWAYS, **draws: Draw[Any]
) -> Callable[[Method], Method]:
    """Declare a method a step of its machine, with what draws its arguments."""

    def declared(method: Method) -> Method:
        _RULES[method] = Rule(method, draws, weight, when)
        return method

    return declared


def rules_of(kind: type) -> dict[str, Rule]:
    """The rules of a machine by name, in the order of the names."""
    return {name: _RULES[method] for name, method in inspect.getmembers(kind, inspect.isfunction) if method in _RULES}


@dataclass(frozen=True)
class Run:
    """A seed, and which of its steps are taken.

    >>> str(Run.parse("123:7-9,4"))
    '123:4,7-9'
    """

    seed: int
    steps: tuple[int, ...] = tuple(range(LENGTH))

    @classmethod
    def parse(cls, text: str) -> "Run":
        seed, _, chosen = text.partition(":")
        if not chosen:
            return cls(int(seed))
        ends = [part.partition("-") for part in chosen.split(",")]
        return cls(int(seed), tuple(sorted({n for a, _, z in ends for n in range(int(a), int(z or a) + 1)})))

    def __str__(self) -> str:
        if self.steps == tuple(range(LENGTH)):
            return str(self.seed)
        first = [step for step in self.steps if step - 1 not in self.steps]
        last = [step for step in self.steps if step + 1 not in self.steps]
        return f"{self.seed}:{','.join(str(a) if a == z else f'{a}-{z}' for a, z in zip(first, last, strict=True))}"

    def without(self, steps: Iterable[int]) -> "Run":
        left = set(steps)
        return replace(self, steps=tuple(step for step in self.steps if step not in left))


def runs(count: int) -> Iterator[Run]:
    """The run that MEDALION_SEED names, or so many new ones."""
    if named := os.environ.get("MEDALION_SEED"):
        yield Run.parse(named)
        return
    for _ in range(count):
        yield Run(secrets.randbits(48))


@dataclass
class Driver:
    """Takes runs of machines of a kind, each with a machine of its own, and counts the steps by name."""

    make: Callable[[], Machine]
    rules: Mapping[str, Rule]
    taken: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def take(self, run: Run) -> None:
        """One run; what fails in it comes with the seed, and with the fewest steps that were found to fail alike."""
        try:
            self._take(run)
        except BaseException as error:  # a panic of Polars is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            told, smallest = self.told, self._smallest(run, type(error))
            error.add_note("\n".join([f"MEDALION_SEED={run} replays this:", *told]))
            if smallest != run:
                error.add_note(f"MEDALION_SEED={smallest} fails alike")
            raise

    def _take(self, run: Run) -> None:
        self.told = []
        weights = self._weights(run)
        machine = self.make()
        try:
            machine.begin(random.Random(f"{run.seed} begins"))
            machine.agrees()
            for number in run.steps:
                chance = random.Random(f"{run.seed} {number}")
                name = self._chosen(machine, weights, chance)
                rule = self.rules[name]
                given = {argument: draw(chance) for argument, draw in rule.draws.items()}
                self.taken[name] = self.taken.get(name, 0) + 1
                self.told.append(f"  {number}: {name}({', '.join(f'{of}={value!r}' for of, value in given.items())})")
                rule.take(machine, **given)
                machine.agrees()
            machine.end()
        finally:
            machine.close()

    def _weights(self, run: Run) -> dict[str, float]:
        """Each run has rules that it takes often and others that it leaves out: what all do is seldom done by few."""
        chance = random.Random(f"{run.seed} weighs")
        return {name: rule.weight * chance.choice((0.1, 1, 1, 3)) for name, rule in self.rules.items()}

    def _chosen(self, machine: Machine, weights: Mapping[str, float], chance: random.Random) -> str:
        """Each rule draws, and of those that may be taken the highest is: a rule that may not leaves the rest alone."""
        lots = {name: chance.random() ** (1 / weight) for name, weight in weights.items()}
        return max((name for name in lots if self.rules[name].when(machine)), key=lots.__getitem__)

    def _smallest(self, run: Run, kind: type[BaseException]) -> Run:
        """Left out are parts of the run without which it still fails so, first halves and at last single steps."""
        until, taken = time.monotonic() + _SHRINK_SECONDS, dict(self.taken)
        size = len(run.steps)
        while size := size // 2:
            edges = [*range(0, len(run.steps), size), len(run.steps)]
            for first, last in reversed([*pairwise(edges)]):
                smaller = run.without(run.steps[first:last])
                if time.monotonic() < until and self._fails(smaller, kind):
                    run = smaller
        self.taken = taken
        return run

    def _fails(self, run: Run, kind: type[BaseException]) -> bool:
        try:
            self._take(run)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return type(error) is kind
        return False
