"""An account as a whole: what it holds and is worth now, and what it did in a range; a few statements each."""

from collections.abc import Mapping
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
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.translation import translated
from oltp.statements import accounts

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


async def summary(unit: UnitOfWork, account: Account) -> PortfolioSummaryDto:
    """The account at the last marks."""
    totals, held = await unit.run(accounts.summary, account)
    return _summary(account, totals, tuple(PositionDto.of(position) for position in held))


def _summary(account: Account, totals: Mapping[str, Any], held: tuple[PositionDto, ...]) -> PortfolioSummaryDto:
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


async def statistics(unit: UnitOfWork, account: Account, during: TimeRange) -> TradeStatistics:
    """Of the account's positions that were closed in the range."""
    packed = await unit.run(accounts.closed_positions, account, during.start, during.end)
    numbers = {name: np.frombuffer(column, dtype=">i8").astype("=i8") for name, column in packed.items()}
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
