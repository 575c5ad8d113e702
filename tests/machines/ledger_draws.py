"""What the machines that drive the ledger draw from."""

import os
from decimal import Decimal

import hypothesis.strategies as st

TIMES = int(os.environ.get("MEDALION_LEDGER_STEPS", "1"))
"""By which the steps of both machines are multiplied."""


def decimals(low: str, high: str) -> st.SearchStrategy[Decimal]:
    """Decimals with 8 places."""
    first, last = (int(Decimal(bound).scaleb(8)) for bound in (low, high))
    return st.integers(first, last).map(lambda units: Decimal(units).scaleb(-8))


# Whole numbers close positions exactly, multiples of 4 can be split 1 for 4.
quantities = st.one_of(st.integers(1, 4).map(lambda n: Decimal(4 * n)), decimals("0.00000001", "20"))
prices = st.one_of(st.integers(100, 50_000).map(lambda cents: Decimal(cents) / 100), decimals("1", "500"))
commissions = st.one_of(st.just(Decimal(0)), decimals("0", "3"))
