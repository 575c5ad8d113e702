"""The bars of the store as a market that only moves forward, and the strategy trading on it.

A day goes like this. When it begins, splits and dividends of that ex-date reach the books. At 09:30 in New York the
orders decided after the last close are filled at the open. At the midnight after, when the day's bars are known, the
strategy sees their closes and decides about the next open.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import polars as pl

from medalion.core.enums import CorporateActionType, TradeSide, TradeStatus
from medalion.core.money import ZERO, cash, exact
from medalion.core.time import EXCHANGE_ZONE
from medalion.demo.strategy import Cross, MovingAverageCross, shares_for
from medalion.market.calendar import open_of
from medalion.market.instrument import Instrument
from medalion.market.quotes import Quote, Row
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from medalion.trading.views import TradeDto
from oltp.entities.reference import CorporateAction
from oltp.entities.trading import Account, Strategy, TradingSignal


def session_open(midnight: datetime) -> datetime:
    """When New York's session opens on the day that begins then."""
    return open_of(midnight.astimezone(EXCHANGE_ZONE).date())


class ReplayMarket:
    """Daily bars as a market at any time of the past: the open of the day once it has opened, the close once it ended.

    `bars` are rows of `stock_bars` as a read returns them. A snapshot is the newest bar that had closed by then.
    """

    def __init__(self, bars: pl.DataFrame) -> None:
        self._rows: dict[str, list[Row]] = defaultdict(list)
        for row in bars.sort("symbol", "ts").iter_rows(named=True):
            self._rows[row["symbol"]].append(row)
        self._begins = {symbol: [row["ts"] for row in rows] for symbol, rows in self._rows.items()}
        self._known = {symbol: [row["available_at"] for row in rows] for symbol, rows in self._rows.items()}

    async def now(self, instrument: Instrument) -> Quote | None:
        """The close of the last bar of all."""
        return await self.at(instrument, self.ends_at)

    async def at(self, instrument: Instrument, t: datetime) -> Quote | None:
        """The open of the day for both sides from 09:30 on, else the close of the last one; None before the first."""
        today = self._newest(self._begins, instrument.symbol, t)
        if today is not None and session_open(today["ts"]) <= t < today["available_at"]:
            return Quote(today["open"], today["open"], session_open(today["ts"]), today["source"])
        last = await self.snapshot(instrument, t)
        return None if last is None else Quote(last["close"], last["close"], last["available_at"], last["source"])

    async def snapshot(self, instrument: Instrument, t: datetime) -> Row | None:
        """The last bar that had closed; None before the first."""
        return self._newest(self._known, instrument.symbol, t)

    @property
    def ends_at(self) -> datetime:
        """When the last bar was known."""
        last: datetime = max(times[-1] for times in self._known.values())
        return last

    def sessions(self) -> list[list[Row]]:
        """The bars of each day, days in order."""
        days: dict[datetime, list[Row]] = defaultdict(list)
        for rows in self._rows.values():
            for row in rows:
                days[row["ts"]].append(row)
        return [days[ts] for ts in sorted(days)]

    def _newest(self, times: Mapping[str, list[datetime]], symbol: str, at: datetime) -> Row | None:
        place = bisect_right(times.get(symbol, []), at)
        return self._rows[symbol][place - 1] if place else None


@dataclass
class Book:
    """What the strategy believes it holds, from its fills and the corporate actions; the store's books must agree."""

    cash: Decimal
    shares: dict[str, Decimal]
    closes: dict[str, Decimal]

    @property
    def equity(self) -> Decimal:
        """Cash and shares at the last closes."""
        with exact():
            return self.cash + sum((held * self.closes[symbol] for symbol, held in self.shares.items()), ZERO)

    def fill(self, trade: TradeDto) -> None:
        """Take the shares and the cash of a trade's fills in or out."""
        with exact():
            self.shares[trade.symbol] = self.shares.get(trade.symbol, ZERO) + trade.side.sign * trade.filled_quantity
            self.cash -= trade.side.sign * trade.total_value + trade.commission

    def settle(self, symbol: str, action: CorporateAction) -> None:
        """A split of the shares and of the last close, or a dividend on the shares."""
        held = self.shares.get(symbol, ZERO)
        with exact():
            if action.action_type is CorporateActionType.SPLIT and action.ratio is not None:
                new, old = action.ratio.as_integer_ratio()
                self.shares[symbol] = held * new / old
                self.closes[symbol] = cash(self.closes[symbol] * old / new)
            elif action.amount is not None:
                self.cash += cash(held * action.amount)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cross after a close leads to at the next open; no shares if there is nothing to sell or no cash."""

    symbol: str
    cross: Cross
    shares: Decimal
    bar: Row

    @property
    def at(self) -> datetime:
        """When the bar was known."""
        known: datetime = self.bar["available_at"]
        return known

    @property
    def client_order_id(self) -> str:
        """The same in every run, so that a repeated order is the same order."""
        return f"demo-{self.symbol}-{self.bar['ts'].date()}-{self.cross.side}"


class Broker:
    """How the replay reaches the books; what an earlier run did there is not done again."""

    def __init__(self, *, store: Store, trading: BlockingTradingService, account: Account, strategy: Strategy) -> None:
        self._store, self._trading, self._account, self._strategy = store, trading, account, strategy
        done = store.trades.by_strategy(strategy, account=account)
        self._trades = {trade.client_order_id: trade for trade in done if trade.status is TradeStatus.FILLED}
        signals = store.signals.by_strategy(strategy)
        self._signals = {(signal.symbol, signal.signal_timestamp): signal for signal in signals}
        self._assets = {asset.symbol: asset for asset in store.assets.active()}

    def signal(self, decision: Decision, windows: tuple[int, int]) -> TradingSignal:
        """The signal of a decision, stored with the bar and the averages that it was derived from."""
        known = self._signals.get((decision.symbol, decision.at))
        if known is not None:
            return known
        asset = self._assets[decision.symbol]
        return self._store.signals.create(
            strategy_id=self._strategy.id,
            asset_id=asset.id,
            instrument_id=asset.instrument_id,
            symbol=asset.symbol,
            signal_type=decision.cross.side.value,
            confidence=decision.cross.strength,
            signal_timestamp=decision.at,
            suggested_quantity=decision.shares or None,
            source_data={
                "bar": {name: decision.bar[name] for name in ("ts", "timeframe", "source", "close", "volume")},
                "averages": {"fast": decision.cross.fast, "slow": decision.cross.slow, "bars": windows},
            },
        )

    def execute(self, decision: Decision, signal: TradingSignal, at: datetime) -> TradeDto:
        """The trade of a decision; the one of an earlier run where there is one."""
        known = self._trades.get(decision.client_order_id)
        if known is not None:
            return TradeDto.of(known)
        return self._trading.execute_market_order(
            account=self._account,
            strategy=self._strategy,
            signal=signal,
            symbol=self._assets[decision.symbol],
            side=decision.cross.side,
            quantity=decision.shares,
            client_order_id=decision.client_order_id,
            at=at,
        )

    def settle(self, action: CorporateAction) -> None:
        """The action in the store's books; a second time it does nothing."""
        self._trading.settle_corporate_action(action.id, account=self._account)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay did: the account's value after every close, and the numbers of signals and orders."""

    equity: pl.DataFrame
    signals: int
    trades: int
    book: Book


def replay(
    market: ReplayMarket,
    broker: Broker,
    *,
    deposit: Decimal,
    fraction: Decimal,
    windows: tuple[int, int],
    actions: Iterable[tuple[str, CorporateAction]],
    on_day: Callable[[date], None],
) -> ReplayResult:
    """Trade every symbol of the market from its first day to its last, each with a `fraction` of the equity.

    Run again, it makes the same decisions and finds them in the books; stopped half-way, it goes on from there.
    """
    book = Book(deposit, {}, {})
    averages: dict[str, MovingAverageCross] = defaultdict(lambda: MovingAverageCross(*windows))
    coming = sorted(actions, key=lambda named: named[1].ex_date)
    decided: list[tuple[Decision, TradingSignal]] = []
    equity: list[tuple[date, Decimal]] = []
    signals = trades = 0
    for bars in market.sessions():
        begins = bars[0]["ts"]
        day = begins.astimezone(EXCHANGE_ZONE).date()
        while coming and coming[0][1].ex_date <= day:
            symbol, action = coming.pop(0)
            _take_effect(symbol, action, averages[symbol], book, broker)
        for decision, signal in decided:
            book.fill(broker.execute(decision, signal, session_open(begins)))
            trades += 1
        decided = []
        book.closes |= {bar["symbol"]: bar["close"] for bar in bars}
        for bar in bars:
            cross = averages[bar["symbol"]].close(bar["close"])
            if cross is not None:
                decision = _decision(cross, bar, book, fraction, [waiting for waiting, _ in decided])
                signal = broker.signal(decision, windows)
                signals += 1
                if decision.shares:
                    decided.append((decision, signal))
        equity.append((day, book.equity))
        on_day(day)
    frame = pl.DataFrame(equity, schema={"ts": pl.Date, "value": pl.Decimal(38, 8)}, orient="row")
    return ReplayResult(frame, signals, trades, book)


def _take_effect(symbol: str, action: CorporateAction, average: MovingAverageCross, book: Book, broker: Broker) -> None:
    if action.ratio is not None:
        average.split(Fraction(action.ratio))
    if book.shares.get(symbol):
        broker.settle(action)
        book.settle(symbol, action)


def _decision(cross: Cross, bar: Row, book: Book, fraction: Decimal, waiting: list[Decision]) -> Decision:
    """Sell what is held, or buy with a fraction of the equity from the cash that no waiting order needs."""
    symbol = bar["symbol"]
    held = book.shares.get(symbol, ZERO)
    if cross.side is TradeSide.SELL:
        return Decision(symbol, cross, held, bar)
    with exact():
        bought = (other for other in waiting if other.cross.side is TradeSide.BUY)
        free = book.cash - sum((other.shares * other.bar["close"] for other in bought), ZERO)
    wanted = shares_for(equity=book.equity, cash_held=free, fraction=fraction, price=bar["close"])
    return Decision(symbol, cross, ZERO if held else wanted, bar)
