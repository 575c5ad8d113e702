"""P&L identities, to the last digit."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medalion.core.enums import PositionSide, TradeSide
from medalion.core.errors import InputError
from medalion.core.money import cash, exact
from medalion.core.time import utc
from medalion.positions.holding import Holding, value_of
from medalion.positions.round_trips import Execution, RoundTrips, fold
from tests.support.real_data import real

BUY, SELL = TradeSide.BUY, TradeSide.SELL
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
CENT_OF_MICRO = Decimal("1E-8")


def places8(low: int, high: int) -> st.SearchStrategy[Decimal]:
    """Decimals with 8 places, by their last digit."""
    return st.integers(low, high).map(lambda units: Decimal(units).scaleb(-8))


quantities = st.one_of(
    st.integers(1, 9).map(Decimal),  # so that fills often close exactly
    places8(1, 10**9),
    places8(1, 10**17 - 1),  # eight of them still fit what one position can hold
)
prices = st.one_of(st.integers(0, 100).map(lambda cents: Decimal(cents) / 100), places8(0, 10**18 - 1))
commissions = st.one_of(st.just(Decimal(0)), places8(-5 * 10**8, 50 * 10**8))
multipliers = st.sampled_from([Decimal(1), Decimal(100), Decimal("0.001"), Decimal("9999999999.99999999")])


@st.composite
def executions(draw: st.DrawFn, max_size: int = 8) -> list[Execution]:
    """Fills of one instrument, several of them often at the same instant."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(TradeSide), quantities, prices, commissions), max_size=max_size
        )
    )
    return [
        Execution(NOON + timedelta(seconds=second), f"x{number}", side, quantity, price, commission)
        for number, (second, side, quantity, price, commission) in enumerate(rows)
    ]


def fill(number: int, side: TradeSide, quantity: str, price: str, commission: str = "0") -> Execution:
    at = NOON + timedelta(minutes=number)
    return Execution(at, f"x{number}", side, Decimal(quantity), Decimal(price), Decimal(commission))


def cash_change(fills: Sequence[Execution], multiplier: Decimal) -> Decimal:
    """What the fills moved in cash, before commission."""
    with exact():
        return -sum((value_of(f.quantity * f.side.sign, f.price, multiplier) for f in fills), Decimal(0))


def total(trips: RoundTrips, name: str) -> Decimal:
    with exact():
        return sum((getattr(trip, name) for trip in trips), Decimal(0))


@given(executions(), multipliers)
def test_cash_plus_cost_basis_less_realized_is_zero_to_the_last_digit(
    fills: list[Execution], multiplier: Decimal
) -> None:
    trips = fold(fills, multiplier=multiplier)
    held = trips.open.holding if trips.open else Holding()
    with exact():
        assert cash_change(fills, multiplier) + held.cost_basis - total(trips, "realized_pnl") == 0


@given(executions(), multipliers)
def test_signed_fills_add_up_to_the_quantity_held(fills: list[Execution], multiplier: Decimal) -> None:
    trips = fold(fills, multiplier=multiplier)
    held = trips.open.holding.quantity if trips.open else Decimal(0)
    assert held == sum((f.quantity * f.side.sign for f in fills), Decimal(0))


@given(executions())
def test_commissions_of_round_trips_add_up_to_those_of_the_fills(fills: list[Execution]) -> None:
    trips = fold(fills)
    assert total(trips, "commission") == sum((f.commission for f in fills), Decimal(0))
    for trip in trips:
        assert trip.commission == sum((part.commission for part in trip.executions), Decimal(0))
        assert trip.net_pnl == trip.realized_pnl - trip.commission


@given(executions(), st.randoms(use_true_random=False), multipliers)
def test_the_order_in_which_fills_are_given_does_not_matter(
    fills: list[Execution], random: Random, multiplier: Decimal
) -> None:
    shuffled = list(fills)
    random.shuffle(shuffled)
    assert fold(shuffled, multiplier=multiplier) == fold(fills, multiplier=multiplier)


@given(executions(), multipliers)
def test_holdings_stay_within_rounding_of_an_exact_rational_model(fills: list[Execution], multiplier: Decimal) -> None:
    """The model knows no rounding: it holds (signed quantity, average price) and realizes against the average."""
    quantity = average = realized = Fraction(0)
    steps = 0
    for f in sorted(fills, key=lambda f: (f.executed_at, f.execution_id)):
        signed, price = Fraction(f.quantity) * f.side.sign, Fraction(f.price)
        closing = Fraction(0)
        if quantity * signed < 0:
            closing = signed if abs(signed) <= abs(quantity) else -quantity
            realized += -closing * (price - average) * Fraction(multiplier)
        if closing != signed:
            opened = signed - closing
            held = quantity + closing
            average = (held * average + opened * price) / (held + opened)
        quantity += signed
        steps += 1
    trips = fold(fills, multiplier=multiplier)
    bound = Fraction(3, 10**8) * steps
    assert abs(Fraction(total(trips, "realized_pnl")) - realized) <= bound
    basis = Fraction(trips.open.holding.cost_basis) if trips.open else Fraction(0)
    assert abs(basis - quantity * average * Fraction(multiplier)) <= bound


@given(executions())
def test_round_trips_alternate_between_flat_and_flat(fills: list[Execution]) -> None:
    trips = fold(fills)
    for trip in trips.closed:
        assert trip.holding.is_flat
        assert trip.holding.cost_basis == 0
        assert trip.closed_at is not None
        assert trip.opened_at <= trip.closed_at
    if trips.open:
        assert not trips.open.holding.is_flat
        assert trips.open.holding.side is trips.open.side
    edges = [(trip.opened_at, trip.closed_at) for trip in trips]
    assert all(before[1] is not None and before[1] <= after[0] for before, after in pairwise(edges))


@given(quantities, prices, multipliers)
def test_unrealized_pnl_at_the_entry_price_is_zero_and_closing_there_realizes_it(
    quantity: Decimal, price: Decimal, multiplier: Decimal
) -> None:
    (opened,) = Holding(multiplier=multiplier).apply(BUY, quantity, price)
    assert opened.holding.unrealized_pnl(price) == 0
    (closed,) = opened.holding.apply(SELL, quantity, price)
    assert closed.holding == Holding(multiplier=multiplier)


@given(executions(), prices, multipliers)
def test_unrealized_pnl_is_what_closing_at_the_mark_realizes(
    fills: list[Execution], mark: Decimal, multiplier: Decimal
) -> None:
    trips = fold(fills, multiplier=multiplier)
    assume(trips.open is not None)
    assert trips.open is not None
    held = trips.open.holding
    (step,) = held.apply(SELL if held.quantity > 0 else BUY, abs(held.quantity), mark)
    assert step.closes
    assert step.realized_pnl == held.unrealized_pnl(mark)
    assert step.cost.copy_negate() == held.market_value(mark)


def test_thirty_one_for_three_units_stays_thirty_one() -> None:
    """The rounded average is 10.33333333, three times which is 30.99999999."""
    trips = fold([fill(0, BUY, "1", "10"), fill(1, BUY, "2", "10.5"), *(fill(n, SELL, "1", "11") for n in (2, 3, 4))])
    (trip,) = trips.closed
    assert trip.average_entry_price == Decimal("10.33333333")
    assert trip.cost == 31
    assert trip.realized_pnl == 2


def test_the_last_close_releases_exactly_what_is_left() -> None:
    holding = Holding(Decimal(3), Decimal(31))
    released = []
    for _ in range(3):
        (step,) = holding.apply(SELL, Decimal(1), Decimal(0))
        holding = step.holding
        released.append(-step.realized_pnl)
    assert released == [Decimal("10.33333333"), Decimal("10.33333334"), Decimal("10.33333333")]
    assert holding == Holding(realized_pnl=Decimal(-31))


def test_a_short_gains_when_bought_back_cheaper() -> None:
    trips = fold([fill(0, SELL, "10", "50", "1"), fill(1, BUY, "4", "45", "0.5"), fill(2, BUY, "6", "55", "0.5")])
    (trip,) = trips.closed
    assert trip.side is PositionSide.SHORT
    assert trip.quantity == 10
    assert trip.cost == 500
    assert trip.realized_pnl == 4 * 5 - 6 * 5
    assert trip.net_pnl == -12
    (opened,) = Holding().apply(SELL, Decimal(10), Decimal(50))
    assert opened.holding.cost_basis == -500
    assert opened.holding.average_entry_price == 50
    assert opened.holding.unrealized_pnl(Decimal(40)) == 100


def test_crossing_zero_closes_one_position_and_opens_the_other_side() -> None:
    crossing = fill(1, SELL, "5", "12", "1")
    trips = fold([fill(0, BUY, "3", "10", "0.3"), crossing])
    (long,) = trips.closed
    short = trips.open
    assert short is not None
    assert (long.side, long.closed_at) == (PositionSide.LONG, crossing.executed_at)
    assert long.realized_pnl == 6
    assert short.side is PositionSide.SHORT
    assert short.holding.quantity == -2
    assert short.holding.cost_basis == -24
    assert short.realized_pnl == 0
    assert (long.commission, short.commission) == (Decimal("0.9"), Decimal("0.4"))
    assert long.executions[-1] == replace(crossing, quantity=Decimal(3), commission=Decimal("0.6"))
    assert short.executions == (replace(crossing, quantity=Decimal(2), commission=Decimal("0.4")),)


def test_an_indivisible_commission_is_split_without_loss() -> None:
    first, second = Holding(Decimal(1), Decimal(1)).apply(SELL, Decimal(3), Decimal(1), commission=Decimal(1))
    assert (first.commission, second.commission) == (Decimal("0.33333333"), Decimal("0.66666667"))


def test_an_option_counts_its_multiplier() -> None:
    trips = fold([fill(0, BUY, "2", "1.25"), fill(1, SELL, "1", "2.00")], multiplier=Decimal(100))
    assert trips.open is not None
    assert trips.open.realized_pnl == 75
    assert trips.open.cost == 250
    held = trips.open.holding
    assert held.cost_basis == 125
    assert held.market_value(Decimal(3)) == 300
    assert held.average_entry_price == Decimal("1.25")
    assert held.unrealized_pnl(Decimal(3)) == 175


def test_an_outcome_token_pays_one_or_nothing() -> None:
    bought = fill(0, BUY, "63.6943", "0.0785")
    won = fold([bought, fill(1, SELL, "63.6943", "1")]).closed[0]
    lost = fold([bought, fill(1, SELL, "63.6943", "0")]).closed[0]
    assert won.cost == lost.cost == Decimal("5.00000255")
    assert won.realized_pnl == Decimal("58.69429745")
    assert lost.realized_pnl == Decimal("-5.00000255")


def test_coins_are_exact_to_eight_places() -> None:
    fills = [fill(0, BUY, "0.00000003", "61837.63000001"), fill(1, SELL, "0.00000001", "70000")]
    trip = fold(fills).open
    assert trip is not None
    assert trip.holding.quantity == Decimal("0.00000002")
    assert trip.cost == Decimal("0.00185513")
    assert trip.realized_pnl == Decimal("0.0007") - Decimal("0.00061838")


def test_products_of_full_width_numbers_are_exact() -> None:
    """54 digits, of which the default decimal context keeps 28."""
    widest = Decimal("9999999999.99999999")
    scaled = int(widest * 10**8) ** 3
    expected = Fraction(scaled, 10**24)
    assert abs(Fraction(value_of(widest, widest, widest)) - expected) <= Fraction(1, 2 * 10**8)


def test_cash_is_rounded_half_even() -> None:
    halves = [Decimal("0.000000005"), Decimal("0.000000015"), Decimal("-0.000000025")]
    assert [cash(half) for half in halves] == [0, Decimal("0.00000002"), Decimal("-0.00000002")]
    assert cash(Decimal("0.0000000050000000000000000000000000000001")) == CENT_OF_MICRO


def test_a_flat_holding_has_neither_side_nor_entry_price() -> None:
    assert Holding().side is None
    assert Holding().average_entry_price is None
    assert Holding().market_value(Decimal(7)) == 0


def test_no_fills_make_no_round_trip() -> None:
    assert fold([]) == RoundTrips()
    assert list(fold([])) == []


@pytest.mark.parametrize(
    ("quantity", "price"),
    [
        (1.0, Decimal(1)),
        (Decimal(1), 1.0),
        (1, Decimal(1)),
        (Decimal("0.000000001"), Decimal(1)),
        (Decimal(1), Decimal("0.123456789")),
        (Decimal(10) ** 10, Decimal(1)),
        (Decimal("NaN"), Decimal(1)),
        (Decimal(1), Decimal("Infinity")),
        (Decimal(0), Decimal(1)),
        (Decimal(-1), Decimal(1)),
        (Decimal(1), Decimal("-0.01")),
    ],
)
def test_numbers_that_do_not_fit_are_refused_by_value(quantity: Decimal, price: Decimal) -> None:
    with pytest.raises(InputError) as caught:
        Holding().apply(BUY, quantity, price)
    assert str(caught.value.given) in str(caught.value)


def test_a_position_too_large_for_its_column_is_refused() -> None:
    (half,) = Holding().apply(BUY, Decimal(5 * 10**9), Decimal(1))
    with pytest.raises(InputError, match="does not fit"):
        half.holding.apply(BUY, Decimal(5 * 10**9), Decimal(1))


def test_the_same_execution_is_not_counted_twice() -> None:
    with pytest.raises(InputError, match="'x0' is given twice"):
        fold([fill(0, BUY, "1", "1"), fill(0, BUY, "1", "1")])


def test_a_naive_execution_time_is_refused() -> None:
    with pytest.raises(InputError, match="time zone"):
        Execution(datetime(2024, 3, 1), "x", BUY, Decimal(1), Decimal(1))  # noqa: DTZ001


def test_real_fills_of_six_years_add_up() -> None:
    """9,367 fills in 7 stocks; prices carry float noise, cut to 8 places before they are money."""
    by_symbol: dict[str, list[Execution]] = {}
    with gzip.open(real("F11-pyfolio", "test_txn.csv.gz"), "rt") as text:
        for number, row in enumerate(csv.DictReader(text)):
            amount = int(row["amount"])
            execution = Execution(
                utc(row[""].replace(" ", "T")),
                f"{number:05}",
                BUY if amount > 0 else SELL,
                Decimal(abs(amount)),
                cash(Decimal(row["price"])),
            )
            by_symbol.setdefault(row["symbol"], []).append(execution)
    assert sum(map(len, by_symbol.values())) == 9367
    for fills in by_symbol.values():
        trips = fold(fills)
        held = trips.open.holding if trips.open else Holding()
        assert cash_change(fills, Decimal(1)) + held.cost_basis == total(trips, "realized_pnl")
        assert held.quantity == sum(fill.quantity * fill.side.sign for fill in fills)
