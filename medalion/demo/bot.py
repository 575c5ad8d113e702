"""A Polymarket bot's own trades, booked as if it had traded here: each at the price and time that it recorded.

The file states a P&L of its own for each trade. For the last eleven it is not what shares and prices make; the books
hold what the fills make, and `BotTrade.stated_pnl` keeps the other figure.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from medalion.core.enums import TradeSide, TradeStatus
from medalion.core.errors import NotFoundError
from medalion.demo.sources import BOT_SOURCE, BotTrade, token
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote, Row
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from medalion.venues.base import FillReport, Order, OrderReport
from oltp.entities.trading import Account, Strategy

_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """One entry or exit of the bot."""

    trade: BotTrade
    side: TradeSide
    at: datetime
    price: Decimal

    @property
    def token_id(self) -> str:
        """The token of the outcome that was traded."""
        return token(self.trade.market_id, self.trade.outcome)

    @property
    def client_order_id(self) -> str:
        """The same in every run, so that a repeated order is the same order."""
        return f"bot-{self.trade.number}-{self.side}"


def recorded_orders(trades: Sequence[BotTrade]) -> list[list[RecordedOrder]]:
    """Entries and exits of each outcome in the order of time; outcomes have nothing to do with each other."""
    orders: dict[str, list[RecordedOrder]] = defaultdict(list)
    for trade in trades:
        for order in (
            RecordedOrder(trade, TradeSide.BUY, trade.entered_at, trade.entry_price),
            RecordedOrder(trade, TradeSide.SELL, trade.exited_at, trade.exit_price),
        ):
            orders[order.token_id].append(order)
    return [sorted(of_one, key=lambda order: order.at) for of_one in orders.values()]


class Record:
    """The recorded trades as a market that shows their prices, and as a venue at which they have all been filled."""

    name = BOT_SOURCE

    def __init__(self, trades: Sequence[BotTrade]) -> None:
        orders = [order for of_one in recorded_orders(trades) for order in of_one]
        self._orders = {order.client_order_id: order for order in orders}
        self._prices = {(order.token_id, order.at): order.price for order in orders}

    async def now(self, instrument: Instrument) -> Quote | None:
        """None: all of it is of the past."""
        return None

    async def at(self, instrument: Instrument, t: datetime) -> Quote | None:
        """The price of that moment; None at every other."""
        price = self._prices.get((instrument.symbol, t))
        return None if price is None else Quote(price, price, t, self.name)

    async def snapshot(self, instrument: Instrument, t: datetime) -> Row | None:
        """The same as a row."""
        price = self._prices.get((instrument.symbol, t))
        return None if price is None else {"symbol": instrument.symbol, "ts": t, "price": price, "source": self.name}

    async def submit(self, order: Order) -> OrderReport:
        """The order, filled.

        Raises:
            NotFoundError: the bot never made it.
        """
        report = await self.find_order(order.account_id, order.client_order_id)
        if report is None:
            raise NotFoundError("recorded order", order.client_order_id, known=list(self._orders))
        return report

    async def cancel(self, account_id: UUID, client_order_id: str, at: datetime) -> OrderReport:
        """The order, filled: it is too late."""
        report = await self.find_order(account_id, client_order_id)
        if report is None:
            raise NotFoundError("recorded order", client_order_id, known=list(self._orders))
        return report

    async def find_order(self, account_id: UUID, client_order_id: str) -> OrderReport | None:
        """The order as the bot's record has it; None if it has none."""
        order = self._orders.get(client_order_id)
        if order is None:
            return None
        fill = self._fill(order, account_id)
        return OrderReport(account_id, client_order_id, client_order_id, TradeStatus.FILLED, order.at, fills=(fill,))

    async def executions(self, account_id: UUID, since: datetime) -> list[FillReport]:
        """The fills that the bot recorded since then, by time."""
        fills = [self._fill(order, account_id) for order in self._orders.values() if order.at >= since]
        return sorted(fills, key=lambda fill: (fill.executed_at, fill.execution_id))

    async def advance(self, at: datetime) -> list[OrderReport]:
        """Nothing: no order rests."""
        return []

    def _fill(self, order: RecordedOrder, account_id: UUID) -> FillReport:
        return FillReport(
            venue=self.name,
            account_id=account_id,
            client_order_id=order.client_order_id,
            execution_id=order.client_order_id,
            side=order.side,
            quantity=order.trade.shares,
            price=order.price,
            commission=Decimal(0),
            executed_at=order.at,
        )


def book_trades(
    store: Store,
    trading: BlockingTradingService,
    trades: Sequence[BotTrade],
    *,
    account: Account,
    strategy: Strategy,
    on_order: Callable[[], None],
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
        # Each in the caller's context, which says on whose behalf the books are changed.
        booked = [pool.submit(copy_context().run, book, orders) for orders in recorded_orders(trades)]
        for one in booked:
            one.result()


def stated_pnl(trades: Sequence[BotTrade]) -> Decimal:
    """The sum of what the file states."""
    return sum((trade.stated_pnl for trade in trades), Decimal(0))
