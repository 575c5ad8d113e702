"""What the life of an order promises: no end is undone, and no fill is hidden."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medalion.core.enums import TradeStatus
from medalion.core.errors import ConflictError
from medalion.venues.states import TRANSITIONS, after_report, transition


def test_an_order_that_is_over_becomes_nothing_else() -> None:
    for status in (TradeStatus.FILLED, TradeStatus.REJECTED):
        assert TRANSITIONS[status] == frozenset()
    assert set(TRANSITIONS) == set(TradeStatus)
    with pytest.raises(ConflictError, match="filled cannot become cancelled"):
        transition(TradeStatus.FILLED, TradeStatus.CANCELLED)
    with pytest.raises(ConflictError, match="cancelled cannot become submitted"):
        transition(TradeStatus.CANCELLED, TradeStatus.SUBMITTED)


@given(status=st.sampled_from(TradeStatus), reported=st.sampled_from(TradeStatus), filled=st.integers(0, 4))
def test_a_report_never_undoes_an_end_nor_hides_a_fill(status: TradeStatus, reported: TradeStatus, filled: int) -> None:
    assume(filled >= {TradeStatus.PARTIALLY_FILLED: 1, TradeStatus.FILLED: 3}.get(status, 0))
    try:
        after = after_report(status, reported, ordered=Decimal(3), filled=Decimal(filled))
    except ConflictError:
        assert filled > 0
        return
    assert after is status or after in TRANSITIONS[status]
    assert (after is TradeStatus.FILLED) == (filled == 3)
    assert filled == 0 or after not in (TradeStatus.SUBMITTED, TradeStatus.PENDING)
