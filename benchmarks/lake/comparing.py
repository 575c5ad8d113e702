"""The same question to several contenders in turn."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.lake.processes import FailedError, Process

_ROUNDS, _TIMES = 5, 4
_SLOW = 0.3


@dataclass(frozen=True, slots=True)
class Answer:
    """How long a contender took, and by how many MB it grew; or why it has no time."""

    seconds: float | None = None
    peak_mb: float = 0.0
    note: str = ""


def compare(
    asked: Mapping[str, tuple[Process, str]], *, rounds: int = _ROUNDS, times: int = _TIMES, best: bool = False
) -> dict[str, Answer]:
    """Each contender's time by its name here, after its answer was found equal to that of the first.

    The median of all rounds, or the best; what is slow is asked once a round.
    """
    checked: dict[str, dict[str, float]] = {}
    answers: dict[str, Answer] = {}
    for name, (process, work) in asked.items():
        try:
            found = process.ask("check", work=work)
        except FailedError as error:
            answers[name] = Answer(note=str(error).replace("|", "/")[:100])
            continue
        first = next(iter(checked.values()), found)
        if found["rows"] != first["rows"] or not math.isclose(found["sum"], first["sum"], rel_tol=1e-9):
            answers[name] = Answer(
                note=f"differs: {found['rows']:,} rows, sum {found['sum']}; {first['rows']:,}, {first['sum']}"
            )
            continue
        checked[name] = found
    taken: dict[str, list[float]] = {name: [] for name in checked}
    for _ in range(rounds):
        for name, found in checked.items():
            process, work = asked[name]
            is_slow = found["seconds"] > _SLOW
            taken[name] += process.ask("measure", work=work, times=1 if is_slow else times, warm=not is_slow)
    choose = min if best else statistics.median
    return answers | {name: Answer(choose(taken[name]), found["peak_mb"]) for name, found in checked.items()}
