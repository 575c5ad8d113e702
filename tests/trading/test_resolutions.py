"""A market that is resolved ends what is held of its outcomes, in every account and once for all."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from medalion.core.enums import PositionStatus, SettlementType, TradeStatus
from medalion.core.errors import ConflictError, InputError, NotFoundError
from tests.support.ledger import agreement, cash, hold, late_fill, rest, settlements
from tests.support.trading_floor import NOON, Floor, floor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        yield opened
        await agreement(opened)


async def market(desk: Floor) -> tuple[Any, str, str]:
    """A market and the tokens of its Yes and No."""
    async with desk.unit() as unit:
        event = await unit.polymarket_events.create(event_id=str(uuid4()), title="Will it rain?")
        made = await unit.polymarket_markets.create(
            polymarket_event_id=event.id, condition_id=f"0x{uuid4().hex}", question="Will it rain?"
        )
        tokens = []
        for index, outcome in enumerate(("Yes", "No")):
            token = str(uuid4().int)
            await unit.polymarket_outcomes.create(
                polymarket_market_id=made.id, token_id=token, outcome=outcome, outcome_index=index
            )
            tokens.append(token)
    return made, tokens[0], tokens[1]


@pytest.mark.parametrize(("yes", "no"), [(10, 20), (-10, 20), (-10, -20)])
async def test_the_winner_pays_one_and_the_loser_nothing(desk: Floor, yes: int, no: int) -> None:
    made, yes_token, no_token = await market(desk)
    held = [await hold(desk, yes_token, yes, "0.60"), await hold(desk, no_token, no, "0.35")]
    assert held[0].id != held[1].id
    before = await cash(desk)
    ended = await desk.service.resolve_market(made.condition_id, winner="Yes")
    assert {position.id for position in ended} == {position.id for position in held}
    assert {position.status for position in ended} == {PositionStatus.CLOSED}
    results = {position.symbol: position.realized_pnl for position in ended}
    assert results == {yes_token: yes * Decimal("0.40"), no_token: no * Decimal("-0.35")}
    assert await cash(desk) - before == yes
    assert sorted(await settlements(desk), key=lambda row: row[2] or 0, reverse=True) == [
        (SettlementType.RESOLUTION, Decimal(-yes), Decimal(1), Decimal(yes), yes * Decimal("0.40")),
        (SettlementType.RESOLUTION, Decimal(-no), Decimal(0), Decimal(0), no * Decimal("-0.35")),
    ]
    async with desk.unit() as unit:
        stored = await unit.polymarket_markets.with_outcomes(made.id)
        rows = await unit.settlements.find(account_id=desk.account.id)
    assert stored.resolved_at is not None
    assert [(outcome.winner, outcome.price) for outcome in stored.outcomes] == [(True, Decimal(1)), (False, Decimal(0))]
    assert {row.event for row in rows} == {f"resolution/{made.id}"}


async def test_a_resolution_ends_the_positions_of_all_accounts(desk: Floor, url: str) -> None:
    made, yes, _ = await market(desk)
    await hold(desk, yes, 10, "0.60")
    async with floor(url) as other:
        await hold(other, yes, -4, "0.70")
        ended = await desk.service.resolve_market(made, winner=yes)
        assert {(position.account_id, position.realized_pnl) for position in ended} == {
            (desk.account.id, Decimal(4)),
            (other.account.id, Decimal("-1.2")),
        }
        await agreement(other)


async def test_a_market_may_pay_in_parts(desk: Floor) -> None:
    made, yes, no = await market(desk)
    await hold(desk, yes, 10, "0.60")
    halves = {"Yes": Decimal("0.5"), no: Decimal("0.5")}
    (ended,) = await desk.service.resolve_market(made.id, payouts=halves)
    assert ended.realized_pnl == Decimal(-1)
    same = {"Yes": Decimal("0.50"), "No": Decimal("0.5")}
    assert await desk.service.resolve_market(made.id, payouts=same) == []


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"winner": "Maybe"}, NotFoundError, "Maybe"),
        ({"winner": "Yess"}, NotFoundError, "did you mean Yes|Yes"),
        ({"payouts": {"Yes": Decimal("0.5")}}, InputError, "add up to 0.5"),
        ({"payouts": {"Yes": Decimal(2), "No": Decimal(-1)}}, InputError, "add up"),
        ({"payouts": {"Yes": 1.0}}, InputError, "float"),
        ({}, InputError, "winner"),
        ({"winner": "Yes", "payouts": {"Yes": Decimal(1)}}, InputError, "winner"),
    ],
)
async def test_what_no_market_can_pay_is_refused(
    desk: Floor, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    made, yes, _ = await market(desk)
    position = await hold(desk, yes, 10, "0.60")
    order = await rest(desk, yes)
    with pytest.raises(error, match=said):
        await desk.service.resolve_market(made.id, **given)
    assert await desk.service.get_position(position.id) == position
    assert (await desk.service.get_trade(order.id)).status is TradeStatus.SUBMITTED


async def test_a_market_is_resolved_once_and_for_all(desk: Floor) -> None:
    made, yes, _ = await market(desk)
    await hold(desk, yes, 10, "0.60")
    await desk.service.resolve_market(made.id, winner="Yes")
    balance = await cash(desk)
    assert await desk.service.resolve_market(made.id, winner=yes) == []
    assert await desk.service.resolve_market(made.id, payouts={"Yes": Decimal("1.0")}) == []
    with pytest.raises(ConflictError, match="resolved otherwise"):
        await desk.service.resolve_market(made.id, winner="No")
    assert await cash(desk) == balance


async def test_what_the_feed_said_of_the_winner_must_agree(desk: Floor) -> None:
    made, yes, no = await market(desk)
    await hold(desk, yes, 10, "0.60")
    async with desk.unit() as unit:
        for token in (yes, no):
            outcome = await unit.polymarket_outcomes.by_token(token)
            await unit.polymarket_outcomes.update(outcome.id, winner=token == yes)
        await unit.polymarket_markets.update(made.id, resolved_at=NOON + timedelta(days=1))
    with pytest.raises(ConflictError, match="resolved otherwise"):
        await desk.service.resolve_market(made.id, winner="No")
    (ended,) = await desk.service.resolve_market(made.id, winner="Yes")
    assert (ended.realized_pnl, ended.closed_at) == (Decimal(4), NOON + timedelta(days=1))


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("resolved", [NOON + timedelta(minutes=30), NOON + timedelta(days=1)], ids=["before", "after"])
async def test_a_fill_that_is_reported_after_the_resolution_is_settled_too(
    desk: Floor, holds: bool, resolved: datetime
) -> None:
    made, yes, _ = await market(desk)
    trade = await rest(desk, yes, 5)
    if holds:
        await hold(desk, yes, 10, "0.60")
    await desk.service.resolve_market(made.id, winner="Yes", at=resolved)
    assert (await desk.service.get_trade(trade.id)).status is TradeStatus.CANCELLED
    await desk.service.record_fill(late_fill(trade))
    await desk.service.resolve_market(made.id, winner="Yes")
    assert await desk.service.get_open_positions(account=desk.account) == []
    summary = await desk.service.get_portfolio_summary(desk.account)
    assert summary.realized_pnl == Decimal("4.95") + (4 if holds else 0)
    assert await desk.service.resolve_market(made.id, winner="Yes") == []
