"""A Polymarket bot's own trades, booked as if it had traded here: each at the price and time that it recorded.

The file states a P&L of its own for each trade. For the last eleven it is not what shares and prices make; the books
hold what the fills make, and `BotTrade.stated_pnl` keeps the other figure.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from medalion.demo.sources import BOT_SOURCE, BotTrade, token
from medalion.market import Instrument, Quote, Row
from medalion.types import TradeSide, TradeStatus


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


def book_trades(
    store: Any, trading: Any, trades: Sequence[BotTrade], *, account: Any, strategy: Any, on_order: Callable[[], None]
) -> int:
    """Every entry and exit as an order, in the order of time; the number of orders that were not booked yet."""
    done = {
        trade.client_order_id
        for trade in store.trades.by_strategy(strategy, account=account)
        if trade.status is TradeStatus.FILLED
    }
    orders = sorted(
        (
            (at, f"bot-{trade.number}-{side}", side, trade)
            for trade in trades
            for side, at in ((TradeSide.BUY, trade.entered_at), (TradeSide.SELL, trade.exited_at))
        ),
        key=lambda order: order[:2],
    )
    outcomes = {outcome.token_id: outcome for outcome in store.polymarket_outcomes.find()}
    booked = 0
    for at, client_order_id, side, trade in orders:
        if client_order_id not in done:
            trading.execute_market_order(
                account=account,
                strategy=strategy,
                symbol=outcomes[token(trade.market_id, trade.outcome)],
                side=side,
                quantity=trade.shares,
                client_order_id=client_order_id,
                notes=f"exit: {trade.exit_reason}" if side is TradeSide.SELL else None,
                at=at,
            )
            booked += 1
        on_order()
    return booked


def stated_pnl(trades: Sequence[BotTrade]) -> Decimal:
    """The sum of what the file states."""
    return sum((trade.stated_pnl for trade in trades), Decimal(0))
