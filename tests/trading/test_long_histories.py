"""What an order's booking reads does not grow with what its instrument and position have been through."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from oltp.statements import positions
from oltp.statements.lines import LineKey
from tests.support.trading_floor import Floor, floor

pytestmark = pytest.mark.anyio
ORDERS = 40
_READ = sa.text("""
    SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int FROM pg_stat_xact_user_tables
    WHERE relname = ANY(:tables)
""")


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Floor]:
    async with floor(url) as opened:
        opened.board.show("AAPL", "10")
        for _ in range(ORDERS):
            await opened.service.execute_market_order(account=opened.account, symbol="AAPL", side="buy", quantity=1)
        yield opened


async def test_the_end_of_a_line_is_found_without_reading_all_of_it(desk: Floor) -> None:
    (held,) = await desk.service.get_open_positions(account=desk.account)
    line = LineKey(held.account_id, held.strategy_id, held.instrument_id)
    async with desk.unit() as unit:
        before = (await unit.session.execute(_READ, {"tables": ["fills", "trades"]})).scalar_one()
        end = await unit.run(positions.line_end, line)
        read = (await unit.session.execute(_READ, {"tables": ["fills", "trades"]})).scalar_one() - before
    assert end.position is not None
    assert end.position.id == held.id
    assert 0 < read <= 8, f"{read} fills and trades were read to find the last of {ORDERS}"


async def test_the_last_entry_of_the_audit_is_found_without_reading_all_of_them(desk: Floor) -> None:
    (held,) = await desk.service.get_open_positions(account=desk.account)
    async with desk.unit() as unit:
        assert await unit.audit_logs.count(entity_type="positions", entity_id=held.id) == ORDERS
        before = (await unit.session.execute(_READ, {"tables": ["audit_logs"]})).scalar_one()
        await unit.positions.update(held.id, notes="held for long")
        read = (await unit.session.execute(_READ, {"tables": ["audit_logs"]})).scalar_one() - before
    assert 0 < read <= 2, f"{read} entries were read to find the last of {ORDERS}"
