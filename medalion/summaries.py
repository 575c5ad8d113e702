"""An account as a whole: what it holds and is worth now, and what it did in a range; a few statements each."""

from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from medalion.dtos import PortfolioPerformanceDto, PortfolioSummaryDto, PositionDto
from medalion.portfolio import ZERO
from medalion.types import CashMovementType, PositionStatus, TimeRange, cash, exact
from olap.trade_stats import TradeStatistics, trade_statistics
from oltp.repositories import OPEN
from oltp.trading import Account, CashMovement, Position
from oltp.translation import translated
from oltp.unit_of_work import UnitOfWork

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
    """The account at the last marks, from one statement, so that cash and positions are of the same moment."""
    totals = (
        sa.select(
            sa.func.count().label("positions"),
            sa.func.count().filter(Position.status.in_(OPEN)).label("open"),
            sa.func.coalesce(sa.func.sum(Position.realized_pnl), 0).label("realized"),
            sa.func.coalesce(sa.func.sum(Position.commissions), 0).label("commissions"),
        )
        .where(Position.account_id == account.id, sa.not_(Position.is_deleted), _STANDS)
        .subquery()
    )
    money = (
        sa.select(
            sa.func.coalesce(sa.func.sum(CashMovement.amount), 0).label("cash"),
            sa.func.coalesce(sa.func.sum(CashMovement.amount).filter(_DEPOSITED), 0).label("deposits"),
        )
        .where(CashMovement.account_id == account.id, CashMovement.currency == account.base_currency)
        .subquery()
    )
    is_open = sa.and_(Position.account_id == account.id, Position.status.in_(OPEN), sa.not_(Position.is_deleted))
    everything = (
        sa.select(totals, money, Position)
        .select_from(totals.join(money, sa.true()).outerjoin(Position, is_open))
        .order_by(Position.symbol, Position.id)
    )
    with translated():
        # Deleted ones are left out above: left out of the whole, an account without positions would have no row at all.
        rows = (await unit.session.execute(everything, execution_options={"include_deleted": True})).all()
    held = [row.Position for row in rows if row.Position is not None]
    return _summary(account, rows[0], tuple(PositionDto.of(position) for position in held))


def _summary(account: Account, totals: Any, held: tuple[PositionDto, ...]) -> PortfolioSummaryDto:
    with exact():
        market_value = _sum([position.market_value for position in held])
        unrealized = _sum([position.unrealized_pnl for position in held])
        balance, deposits, realized, commissions = (
            cash(Decimal(amount)) for amount in (totals.cash, totals.deposits, totals.realized, totals.commissions)
        )
        total = None if unrealized is None else realized + unrealized
        net = None if total is None else total - commissions
        return PortfolioSummaryDto(
            account_id=account.id,
            account=account.name,
            currency=account.base_currency,
            total_positions=totals.positions,
            open_positions_count=totals.open,
            closed_positions_count=totals.positions - totals.open,
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
    closed = sa.select(Position.opened_at, Position.closed_at, Position.realized_pnl, Position.commissions).where(
        Position.account_id == account.id,
        Position.status == PositionStatus.CLOSED,
        *_within(Position.closed_at, during),
    )
    with translated():
        rows = (await unit.session.execute(closed.order_by(Position.closed_at, Position.id))).all()
    return trade_statistics(pl.DataFrame([tuple(row) for row in rows], schema=_CLOSED_TRADES, orient="row"))


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
