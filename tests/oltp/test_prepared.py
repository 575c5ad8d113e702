"""A prepared statement gives what SQLAlchemy's own execution of it gives, for every type of a column."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from medalion.core.enums import TradeSide
from medalion.core.errors import InputError
from oltp.entities.base import Base
from oltp.entities.columns import JSON, Exact, UtcDateTime
from oltp.entities.trading import Position, Trade
from oltp.repositories.unit_of_work import UnitOfWork, sessions
from oltp.server.engine import parse_url
from oltp.statements.base import table_of
from oltp.statements.prepared import Prepared, among

pytestmark = pytest.mark.anyio
VALUES: dict[str, tuple[Any, Any]] = {
    "text": (sa.String(10), "a%s $1 :x"),
    "exact": (Exact(), Decimal("-1234567890.12345678")),
    "whole": (sa.BigInteger(), 2**60),
    "truth": (sa.Boolean(), True),
    "day": (sa.Date(), date(2024, 2, 29)),
    "moment": (UtcDateTime(), datetime(2024, 3, 1, 12, tzinfo=UTC)),
    "json": (JSON, {"levels": [1, None, "2.50"]}),
    "bytes": (sa.LargeBinary(), b"\x00\xff"),
    "member": (table_of(Trade).c.side.type, TradeSide.SELL),
    "nothing": (Exact(), None),
}


@pytest.fixture
async def unit(url: str) -> Any:
    engine = create_async_engine(parse_url(url))
    async with UnitOfWork(sessions(engine)) as opened:
        yield opened
    await engine.dispose()


async def test_every_type_goes_in_and_comes_out_as_it_does_by_sqlalchemy(unit: UnitOfWork) -> None:
    statement = sa.select(
        *(sa.cast(sa.bindparam(name, type_=kind), kind).label(name) for name, (kind, _) in VALUES.items())
    )
    given = {name: value for name, (_, value) in VALUES.items()}
    row = await unit.run(Prepared(statement).row, given)
    assert row is not None
    by_sqlalchemy = (await unit.session.execute(statement, given)).one()
    assert [(value, type(value)) for value in row] == [(value, type(value)) for value in by_sqlalchemy]
    assert dict(zip(VALUES, row, strict=True)) == given


async def test_its_own_values_are_kept_and_what_is_needed_must_be_given(unit: UnitOfWork) -> None:
    wanted = sa.select(sa.literal("mine"), sa.bindparam("theirs", type_=sa.String()))
    assert await unit.run(Prepared(wanted).rows, {"theirs": "yours"}) == [("mine", "yours")]
    with pytest.raises(KeyError, match="theirs"):
        await unit.run(Prepared(wanted).rows, {})


async def test_members_to_choose_from_are_in_the_text(unit: UnitOfWork) -> None:
    sides = sa.values(sa.column("side", table_of(Trade).c.side.type), name="sides").data([("buy",), ("sell",)])
    statement = Prepared(sa.select(sides.c.side).where(sides.c.side.in_(among(TradeSide.SELL))))
    assert await unit.run(statement.rows, {}) == [(TradeSide.SELL,)]


@pytest.mark.parametrize("kind", [Trade, Position])
async def test_no_row_is_no_row(unit: UnitOfWork, kind: type[Base]) -> None:
    table = table_of(kind)
    none = Prepared(sa.select(table).where(sa.false()))
    assert (await unit.run(none.rows, {}), await unit.run(none.row, {})) == ([], None)
    assert await unit.run(Prepared(sa.delete(table).where(sa.false())).count, {}) == 0


async def test_an_error_of_the_server_is_ours(unit: UnitOfWork) -> None:
    quotient = Prepared(sa.select(sa.literal(1) / sa.bindparam("by", type_=sa.Integer())))
    with pytest.raises(InputError, match="division by zero"):
        await unit.run(quotient.rows, {"by": 0})
