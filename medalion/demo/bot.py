"""A Polymarket bot's own trades, booked as if it had traded here: each at the price and time that it recorded.

The file states a P&L of its own for each trade. For the last eleven it is not what shares and prices make; the books
hold what the fills make, and `BotTrade.stated_pnl` keeps the other figure.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from medalion.demo.sources import BOT_SOURCE, BotTrade, token
from medalion.market import Instrument, Quote, Row
from medalion.types import TradeSide, TradeStatus

_AT_A_TIME = 4


class RecordedMarket:
    """Prices at the moments at which the bot traded, and at no other."""

    def __init__(self, trades: Sequence[BotTrade]) -> None:
        self._prices = {
            (token(trade.market_id, trade.outcome), at): price
            for trade in trades
            for at, price in ((trade.entered_at, trade.entry_price), (trade.exited_at, trade.exit_price))
        }

    async def quote(self, instrument: Instrument, at: datetime) -> Quote | None:
        price = self._prices.get((instrument.symbol, at))
        return None if price is None else Quote(price, price, at, BOT_SOURCE)

    async def snapshot(self, instrument: Instrument, at: datetime) -> Row | None:
        price = self._prices.get((instrument.symbol, at))
        return None if price is None else {"symbol": instrument.symbol, "ts": at, "price": price, "source": BOT_SOURCE}


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """One entry or exit of the bot."""

    at: datetime
    side: TradeSide
    trade: BotTrade

    @property
    def token_id(self) -> str:
        return token(self.trade.market_id, self.trade.outcome)

    @property
    def client_order_id(self) -> str:
        """The same in every run, so that a repeated order is the same order."""
        return f"bot-{self.trade.number}-{self.side}"


def recorded_orders(trades: Sequence[BotTrade]) -> list[list[RecordedOrder]]:
    """Entries and exits of each outcome in the order of time; outcomes have nothing to do with each other."""
    orders: dict[str, list[RecordedOrder]] = defaultdict(list)
    for trade in trades:
        for side, at in ((TradeSide.BUY, trade.entered_at), (TradeSide.SELL, trade.exited_at)):
            order = RecordedOrder(at, side, trade)
            orders[order.token_id].append(order)
    return [sorted(of_one, key=lambda order: order.at) for of_one in orders.values()]


def book_trades(
    store: Any, trading: Any, trades: Sequence[BotTrade], *, account: Any, strategy: Any, on_order: Callable[[], None]
) -> None:
    """Every entry and exit as an order, unless an earlier run booked it; several outcomes at a time."""
    known = store.trades.by_strategy(strategy, account=account)
    done = {trade.client_order_id for trade in known if trade.status is TradeStatus.FILLED}
    outcomes = {outcome.token_id: outcome for outcome in store.polymarket_outcomes.find()}

    def book(orders: list[RecordedOrder]) -> None:
        for order in orders:
            if order.client_order_id not in done:
                trading.execute_market_order(
                    account=account,
                    strategy=strategy,
                    symbol=outcomes[order.token_id],
                    side=order.side,
                    quantity=order.trade.shares,
                    client_order_id=order.client_order_id,
                    notes=f"exit: {order.trade.exit_reason}" if order.side is TradeSide.SELL else None,
                    at=order.at,
                )
            on_order()

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(book, recorded_orders(trades)):
            pass


def stated_pnl(trades: Sequence[BotTrade]) -> Decimal:
    """The sum of what the file states."""
    return sum((trade.stated_pnl for trade in trades), Decimal(0))
