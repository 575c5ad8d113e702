"""The fold agrees with an independent model after every step, whatever comes late, is undone or settled: 10,000 steps.

MEDALION_LEDGER_STEPS multiplies them.
"""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from medalion.core.enums import TradeSide
from medalion.core.errors import ConflictError
from medalion.positions.events import Dividend, SettlementEvent, Split
from medalion.positions.round_trips import Execution, RoundTrip, fold
from tests.machines import ledger_model as model
from tests.machines.ledger_draws import TIMES, commissions, decimals, prices, quantities
from tests.support.lengths import examples
from tests.support.trading_floor import NOON

sides = st.sampled_from(TradeSide)


@pytest.mark.long
def test_the_fold_agrees_with_the_model_whatever_comes_late_is_undone_or_settled(
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    FoldMachine.steps = 0
    length = settings(max_examples=examples(10_000 * TIMES) // 35, stateful_step_count=40, database=None)
    run_state_machine_as_test(FoldMachine, settings=length)
    record_testsuite_property("steps of the fold", FoldMachine.steps)
    assert FoldMachine.steps >= examples(7_000 * TIMES)  # how many a history has is drawn, too


class FoldMachine(RuleBasedStateMachine):
    """Entries of one line come and go in any order."""

    steps = 0
    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, Execution | SettlementEvent] = {}
        self.mirrored: dict[str, model.Entry] = {}
        self.numbers = count()

    @rule(target=names, side=sides, quantity=quantities, price=prices, commission=commissions, hour=st.integers(0, 48))
    def execute(self, side: TradeSide, quantity: Decimal, price: Decimal, commission: Decimal, hour: int) -> str:
        at, name = NOON + timedelta(hours=hour), f"x{next(self.numbers)}"
        self.entries[name] = Execution(at, name, side, quantity, price, commission)
        self.mirrored[name] = model.ExecutionEntry(
            at, name, Fraction(quantity) * side.sign, Fraction(price), Fraction(commission)
        )
        return name

    @rule(target=names, new=st.integers(1, 4), old=st.sampled_from((1, 2, 4)), hour=st.integers(0, 48))
    def split(self, new: int, old: int, hour: int) -> str:
        at, name, ratio = NOON + timedelta(hours=hour), f"s{next(self.numbers)}", Fraction(new, old)
        self.entries[name] = Split(at=at, event=name, ratio=ratio)
        self.mirrored[name] = model.EventEntry(at, name, ratio=ratio)
        return name

    @rule(target=names, each=decimals("0.00000001", "2"), hour=st.integers(0, 48))
    def pay_dividend(self, each: Decimal, hour: int) -> str:
        at, name = NOON + timedelta(hours=hour), f"d{next(self.numbers)}"
        self.entries[name] = Dividend(at=at, event=name, each=each)
        self.mirrored[name] = model.EventEntry(at, name, each=Fraction(each))
        return name

    @rule(name=consumes(names))
    def undo(self, name: str) -> None:
        del self.entries[name], self.mirrored[name]

    @invariant()
    def agrees(self) -> None:
        type(self).steps += 1
        try:
            expected = model.folded(self.mirrored.values()).positions
        except model.FractionalUnitError:
            with pytest.raises(ConflictError, match="fraction"):
                fold(self.entries.values())
            return
        found = list(fold(self.entries.values()))
        assert [(trip.opened_at, trip.closed_at, *map(Fraction, _amounts(trip))) for trip in found] == [
            (held.opened_at, held.closed_at, held.quantity, held.basis, held.entered, held.realized, held.commissions)
            for held in expected
        ]


def _amounts(trip: RoundTrip) -> tuple[Decimal, ...]:
    return trip.holding.quantity, trip.holding.cost_basis, trip.entered, trip.realized_pnl, trip.commission
