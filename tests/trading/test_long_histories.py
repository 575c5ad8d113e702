"""What an order's booking reads does not grow with what its instrument and position have been through."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.trading.views import PositionDto
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import parse_url
from oltp.statements import positions
from oltp.statements.lines import LineKey
from tests.support.trading_floor import floor

pytestmark = pytest.mark.anyio
ORDERS = 40
_READ = sa.text("""
    SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int FROM pg_stat_xact_user_tables
    WHERE relname = ANY(:tables)
""")


@dataclass
class Held:
    """A position after so many orders, and the database it is in."""

    url: str
    position: PositionDto

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[UnitOfWork]:
        """On a connection of its own, whose plans are made now, as for tables that are large."""
        engine = create_async_engine(parse_url(self.url))
        async with UnitOfWork(sessions(engine)) as unit:
            await unit.session.execute(sa.text("SET LOCAL enable_seqscan = off"))
            yield unit
        await engine.dispose()


@pytest.fixture
async def held(url: str) -> AsyncIterator[Held]:
    async with floor(url) as opened:
        opened.board.show("AAPL", "10")
        for _ in range(ORDERS):
            await opened.service.execute_market_order(account=opened.account, symbol="AAPL", side="buy", quantity=1)
        (position,) = await opened.service.get_open_positions(account=opened.account)
        yield Held(url, position)


async def read(unit: UnitOfWork, *tables: str) -> int:
    """The rows of the tables that this transaction has read so far."""
    return int((await unit.session.execute(_READ, {"tables": list(tables)})).scalar_one())


async def test_the_end_of_a_line_is_found_without_reading_all_of_it(held: Held) -> None:
    position = held.position
    async with held.unit() as unit:
        end = await unit.run(
            positions.line_end, LineKey(position.account_id, position.strategy_id, position.instrument_id)
        )
        count = await read(unit, "fills", "trades")
    assert end.position is not None
    assert end.position.id == position.id
    assert 0 < count <= 8, f"{count} fills and trades were read to find the last of {ORDERS}"


async def test_the_last_entry_of_the_audit_is_found_without_reading_all_of_them(held: Held) -> None:
    async with held.unit() as unit:
        await unit.positions.update(held.position.id, notes="held for long")
        count = await read(unit, "audit_logs")
        assert await unit.audit_logs.count(entity_type="positions", entity_id=held.position.id) == ORDERS + 1
    assert 0 < count <= 2, f"{count} entries were read to find the last of {ORDERS}"
