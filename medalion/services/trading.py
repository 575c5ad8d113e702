"""store.trading: from a decision to an order, its fills, the position they add up to and the cash that moves.

What is done is in `medalion.trading`, as functions of a `Desk`; this offers them flat, under one name.
"""

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from medalion.core.enums import AccountType
from medalion.journal.metrics import Record, ignore
from medalion.market.quotes import Market
from medalion.trading import orders, portfolio, reconciliation, settlements
from medalion.trading.desk import Desk
from medalion.venues.base import Venue
from oltp.entities.base import now
from oltp.repositories.unit_of_work import UnitOfWork

P = ParamSpec("P")
T = TypeVar("T")


def _at_desk(
    work: Callable[Concatenate[Desk, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["TradingService", P], Coroutine[Any, Any, T]]:
    @wraps(work)
    async def method(service: "TradingService", /, *arguments: P.args, **named: P.kwargs) -> T:
        return await work(service._desk, *arguments, **named)

    return method


class TradingService:
    """Orders, positions and portfolios of all accounts.

    `venue` takes the orders of every account, or is a mapping that has one for each type of account. Every method is a
    unit of work of its own; where `account=` may be left out, every account is meant.
    """

    def __init__(
        self,
        units: Callable[[], UnitOfWork],
        venue: Venue | Mapping[AccountType, Venue],
        market: Market,
        clock: Callable[[], datetime] = now,
        *,
        record: Record = ignore,
    ) -> None:
        self._desk = Desk.of(units, venue, market, clock, record)

    execute_market_order = _at_desk(orders.execute_market_order)
    execute_limit_order = _at_desk(orders.execute_limit_order)
    execute_stop_order = _at_desk(orders.execute_stop_order)
    execute_stop_limit_order = _at_desk(orders.execute_stop_limit_order)
    execute_trailing_stop_order = _at_desk(orders.execute_trailing_stop_order)
    create_trade = _at_desk(orders.create_trade)
    cancel_trade = _at_desk(orders.cancel_trade)
    advance = _at_desk(orders.advance)
    reconcile = _at_desk(reconciliation.reconcile)

    record_fill = _at_desk(orders.record_fill)
    bust_fill = _at_desk(orders.bust_fill)
    correct_fill = _at_desk(orders.correct_fill)

    open_position = _at_desk(orders.open_position)
    close_position = _at_desk(orders.close_position)
    partially_close_position = _at_desk(orders.partially_close_position)

    settle_corporate_action = _at_desk(settlements.settle_corporate_action)
    exercise_option = _at_desk(settlements.exercise_option)
    assign_option = _at_desk(settlements.assign_option)
    settle_expired_options = _at_desk(settlements.settle_expired_options)
    resolve_market = _at_desk(settlements.resolve_market)

    get_trade = _at_desk(portfolio.get_trade)
    get_trades_by_position = _at_desk(portfolio.get_trades_by_position)
    get_trades_by_date_range = _at_desk(portfolio.get_trades_by_date_range)
    get_position = _at_desk(portfolio.get_position)
    get_open_positions = _at_desk(portfolio.get_open_positions)
    get_positions_by_asset = _at_desk(portfolio.get_positions_by_asset)
    update_position_risk_parameters = _at_desk(portfolio.update_position_risk_parameters)
    update_position_market_data = _at_desk(portfolio.update_position_market_data)
    mark_to_market = _at_desk(portfolio.mark_to_market)
    deposit = _at_desk(portfolio.deposit)
    withdraw = _at_desk(portfolio.withdraw)
    get_portfolio_summary = _at_desk(portfolio.get_portfolio_summary)
    get_portfolio_performance = _at_desk(portfolio.get_portfolio_performance)
    get_trade_statistics = _at_desk(portfolio.get_trade_statistics)
