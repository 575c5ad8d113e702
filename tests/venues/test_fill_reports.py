"""A report of an execution is made of an id, an aware time, a side and exact numbers, or not at all."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from medalion.core.enums import TradeSide
from medalion.core.errors import InputError
from medalion.venues.base import FillReport

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
FILL = FillReport("paper", uuid4(), "order", "x0", TradeSide.BUY, Decimal(4), Decimal(100), Decimal(0), NOON)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("executed_at", NOON.replace(tzinfo=None), "no time zone"),
        ("quantity", 1.5, "quantity is 1.5; give a Decimal"),
        ("price", "10", "price is '10'; give a Decimal"),
        ("commission", True, "commission is True; give a Decimal"),
        ("side", "BUY", "side is 'BUY'; give buy or sell"),
        ("execution_id", "", "execution_id is empty"),
    ],
)
def test_what_says_nothing_sensible_is_refused_when_it_is_made(field: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(FILL, **{field: value})


def test_a_side_by_its_name_and_a_whole_number_are_understood() -> None:
    given: dict[str, Any] = {"side": "buy", "quantity": 4}
    assert replace(FILL, **given) == FILL
    assert type(replace(FILL, **given).quantity) is Decimal
