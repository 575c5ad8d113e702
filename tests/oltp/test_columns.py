"""What mapped classes hold: values in one form, exact, and refused when they are set."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.enums import AssetType, PositionSide
from medalion.core.errors import InputError
from oltp.entities.base import Base, uuid7
from oltp.entities.columns import checked
from oltp.entities.reference import Asset, CorporateAction
from oltp.entities.trading import CashMovement, Position, Strategy, Trade, TradingSignal


@pytest.mark.parametrize(
    ("entity", "field", "value", "message"),
    [
        (Asset, "min_order_quantity", 1.0, "Decimal made from text"),
        (Asset, "min_order_quantity", Decimal("0.000000001"), "8 after"),
        (Asset, "min_order_quantity", Decimal(10) ** 10, "10 digits before"),
        (Asset, "min_order_quantity", Decimal("NaN"), "digits"),
        (Asset, "min_order_quantity", Decimal("1E+999999"), "digits"),
        (Asset, "symbol", "A" * 51, "at most 50 characters"),
        (Asset, "symbol", "A\x00", "NUL"),
        (Asset, "symbol", None.__class__, "text"),
        (Asset, "asset_type", "bond", "one of stock, crypto"),
        (Asset, "is_active", "no", "True or False"),
        (Asset, "extra", {"price": float("inf")}, "JSON"),
        (CorporateAction, "ex_date", datetime(2024, 1, 1, tzinfo=UTC), "a date"),
        (TradingSignal, "signal_timestamp", datetime(2024, 1, 1), "no time zone"),  # noqa: DTZ001
        (TradingSignal, "instrument_id", 2**63, "64 bits"),
        (TradingSignal, "strategy_id", "momentum", "a UUID"),
    ],
)
def test_a_value_the_column_cannot_hold_is_refused_when_it_is_set(
    entity: type[Base], field: str, value: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        entity(**{field: value})


def test_values_are_kept_in_one_form() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))
    asset = Asset(
        asset_type="crypto", extra={"price": Decimal("0.10"), "levels": ({"at": datetime(2024, 1, 1, tzinfo=UTC)},)}
    )
    movement = CashMovement(occurred_at=datetime(2024, 1, 1, 5, 30, tzinfo=kolkata), amount=5)
    assert asset.asset_type is AssetType.CRYPTO
    assert asset.extra == {"price": "0.10", "levels": [{"at": "2024-01-01T00:00:00+00:00"}]}
    assert movement.occurred_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert movement.occurred_at.tzinfo is UTC
    assert movement.amount == Decimal(5)


@given(st.decimals(min_value=Decimal(-(10**10)), max_value=Decimal(10**10), places=8, allow_nan=False))
def test_decimals_are_accepted_unchanged_up_to_18_digits(number: Decimal) -> None:
    if abs(number) < 10**10:
        assert checked(Trade.__table__.c.quantity, number) is number
    else:
        with pytest.raises(InputError):
            checked(Trade.__table__.c.quantity, number)


@given(st.integers(1, 3000))
def test_ids_grow_and_are_version_7(count: int) -> None:
    ids = [uuid7() for _ in range(count)]
    assert ids == sorted(set(ids))
    assert {(found.version, found.variant) for found in ids} == {(7, "specified in RFC 4122")}
    age = datetime.now(UTC).timestamp() - (ids[0].int >> 80) / 1000
    assert abs(age) < 60


@pytest.mark.parametrize(("side", "value", "pnl"), [(PositionSide.LONG, 66, 4), (PositionSide.SHORT, -66, -4)])
def test_a_position_is_valued_at_its_mark_with_the_sign_of_its_side(side: PositionSide, value: int, pnl: int) -> None:
    sign = 1 if side is PositionSide.LONG else -1
    position = Position(
        side=side, remaining_quantity=3, cost_basis=62 * sign, multiplier=2, current_price=11, realized_pnl=0
    )
    assert (position.market_value, position.unrealized_pnl) == (Decimal(value), Decimal(pnl))
    assert position.average_entry_price == Decimal("10.33333333")


def test_versioned_entities_are_those_that_several_change() -> None:
    versioned = {mapper.class_.__name__ for mapper in Base.registry.mappers if mapper.version_id_col is not None}
    assert versioned == {Strategy.__name__, Trade.__name__, Position.__name__}
