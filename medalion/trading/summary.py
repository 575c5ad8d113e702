"""An account as a whole: what it holds and is worth now, and what it did in a range; a few statements each."""

from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from medalion.core.enums import CashMovementType, PositionStatus
from medalion.core.money import ZERO, cash, exact
from medalion.core.time import TimeRange
from medalion.stats.trades import TradeStatistics, trade_statistics
from medalion.trading.views import PortfolioPerformanceDto, PortfolioSummaryDto, PositionDto
from oltp.entities.trading import Account, CashMovement, Position
from oltp.repositories.rows import Row, Statement, rows_of, run
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated

_DEPOSITED = CashMovement.movement_type.in_((CashMovementType.DEPOSIT, CashMovementType.WITHDRAWAL))
_STANDS = Position.status != PositionStatus.CANCELLED
_CLOSED_TRADES = pl.Schema(
    {
        "opened_at": pl.Datetime("us", "UTC"),
        "closed_at": pl.Datetime("us", "UTC"),
        "realized_pnl": pl.Decimal(38, 8),
        "commission": pl.Decimal(38, 8),
    }
)


# One statement, so that cash and positions are of the same moment.
_SUMMARY = """
    SELECT totals.*, money.*, held.*
    FROM (
        SELECT count(*) AS positions, count(*) FILTER (WHERE status IN ('open', 'partially_closed')) AS open,
               coalesce(sum(realized_pnl), 0) AS realized, coalesce(sum(positions.commissions), 0) AS paid
        FROM positions WHERE account_id = %(account)s AND status <> 'cancelled' AND NOT is_deleted
    ) AS totals
    CROSS JOIN (
        SELECT coalesce(sum(amount), 0) AS cash,
               coalesce(sum(amount) FILTER (WHERE movement_type IN ('deposit', 'withdrawal')), 0) AS deposits
        FROM cash_movements WHERE account_id = %(account)s AND currency = %(currency)s AND NOT is_deleted
    ) AS money
    LEFT JOIN positions AS held
        ON held.account_id = %(account)s AND held.status IN ('open', 'partially_closed') AND NOT held.is_deleted
    ORDER BY held.symbol, held.id
"""


async def summary(unit: UnitOfWork, account: Account) -> PortfolioSummaryDto:
    """The account at the last marks."""
    given = {"account": account.id, "currency": account.base_currency}
    (rows,) = await run(unit.session, Statement(_SUMMARY, given))
    held = (rows_of(Position).made(row) for row in rows if row["id"] is not None)
    return _summary(account, rows[0], tuple(PositionDto.of(position) for position in held))


def _summary(account: Account, totals: Row, held: tuple[PositionDto, ...]) -> PortfolioSummaryDto:
    with exact():
        market_value = _sum([position.market_value for position in held])
        unrealized = _sum([position.unrealized_pnl for position in held])
        balance, deposits, realized, commissions = (
            cash(totals[name]) for name in ("cash", "deposits", "realized", "paid")
        )
        total = None if unrealized is None else realized + unrealized
        net = None if total is None else total - commissions
        return PortfolioSummaryDto(
            account_id=account.id,
            account=account.name,
            currency=account.base_currency,
            total_positions=totals["positions"],
            open_positions_count=totals["open"],
            closed_positions_count=totals["positions"] - totals["open"],
            deposits=deposits,
            cash=balance,
            market_value=market_value,
            equity=None if market_value is None else balance + market_value,
            cost_basis=sum((position.cost_basis for position in held), ZERO),
            realized_pnl=realized,
            unrealized_pnl=unrealized,
            total_pnl=total,
            total_commissions=commissions,
            net_pnl=net,
            return_on_deposits=_fraction(net, deposits),
            open_positions=held,
        )


# Whole microseconds and units of the 8th place, as packed 64-bit integers: a million positions are one row.
_PACKED = """
    SELECT string_agg(int8send((extract(epoch FROM opened_at) * 1000000)::bigint), ''::bytea) AS opened_at,
           string_agg(int8send((extract(epoch FROM closed_at) * 1000000)::bigint), ''::bytea) AS closed_at,
           string_agg(int8send((realized_pnl * 100000000)::bigint), ''::bytea) AS realized_pnl,
           string_agg(int8send((commissions * 100000000)::bigint), ''::bytea) AS commission
    FROM positions
    WHERE account_id = %(account)s AND status = 'closed' AND NOT is_deleted
      AND (%(start)s::timestamptz IS NULL OR closed_at >= %(start)s)
      AND (%(end)s::timestamptz IS NULL OR closed_at < %(end)s)
"""


async def statistics(unit: UnitOfWork, account: Account, during: TimeRange) -> TradeStatistics:
    """Of the account's positions that were closed in the range."""
    given = {"account": account.id, "start": during.start, "end": during.end}
    ((packed,),) = await run(unit.session, Statement(_PACKED, given))
    numbers = {name: np.frombuffer(column or b"", dtype=">i8").astype("=i8") for name, column in packed.items()}
    closed = pl.DataFrame(
        {
            name: pl.Series(numbers[name], dtype=pl.Int64).cast(kind)
            if isinstance(kind, pl.Datetime)
            else pl.Series(numbers[name], dtype=pl.Int64).cast(pl.Int128).reinterpret(dtype=kind)
            for name, kind in _CLOSED_TRADES.items()
        }
    )
    return trade_statistics(closed.sort("closed_at", "opened_at"))


async def performance(unit: UnitOfWork, account: Account, during: TimeRange) -> PortfolioPerformanceDto:
    """What the account did in the range."""
    closed = await statistics(unit, account, during)
    opened = sa.select(sa.func.count()).where(
        Position.account_id == account.id, sa.not_(Position.is_deleted), _STANDS, *_within(Position.opened_at, during)
    )
    deposited = sa.select(sa.func.coalesce(sa.func.sum(CashMovement.amount), 0)).where(
        CashMovement.account_id == account.id,
        CashMovement.currency == account.base_currency,
        _DEPOSITED,
        *_within(CashMovement.occurred_at, TimeRange(None, during.end)),
    )
    with translated():
        counted = sa.select(opened.scalar_subquery(), deposited.scalar_subquery())
        opened_positions, deposits = (await unit.session.execute(counted)).one()
    with exact():
        return PortfolioPerformanceDto(
            account_id=account.id,
            start=during.start,
            end=during.end,
            statistics=closed,
            opened_positions=opened_positions,
            closed_positions=closed.total_trades,
            realized_pnl=closed.net_profit + closed.total_commissions,
            total_commissions=closed.total_commissions,
            net_pnl=closed.net_profit,
            win_rate=closed.win_rate,
            profit_factor=closed.profit_factor,
            return_on_deposits=_fraction(closed.net_profit, Decimal(deposits)),
        )


def _sum(amounts: list[Decimal | None]) -> Decimal | None:
    """None if any amount is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, ZERO) if len(known) == len(amounts) else None


def _fraction(part: Decimal | None, whole: Decimal) -> Decimal | None:
    """Half-even to 8 places; None of nothing."""
    return None if part is None or whole <= 0 else cash(part / whole)


def _within(column: Any, during: TimeRange) -> list[sa.ColumnElement[bool]]:
    bounds = []
    if during.start is not None:
        bounds.append(column >= during.start)
    if during.end is not None:
        bounds.append(column < during.end)
    return bounds
