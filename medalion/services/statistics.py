"""Statistics of accounts: value by session, performance by the conventions of `medalion.stats`, round trips."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import polars as pl
from anyio import to_thread

from medalion.core.datasets import CRYPTO_BARS, OPTION_QUOTES, POLYMARKET_SNAPSHOTS, STOCK_BARS, Dataset
from medalion.core.enums import InstrumentKind
from medalion.core.errors import InputError
from medalion.core.frames import as_floats
from medalion.core.money import exact
from medalion.core.time import MICROSECOND, Instant, TimeRange, utc
from medalion.market.lookup import account_of
from medalion.market.names import AccountLike
from medalion.positions.bookings import Bookings, bookings_of
from medalion.services.observations import Observations
from medalion.stats.curve import PERIODS_PER_YEAR
from medalion.stats.equity import (
    CLOSES,
    DAY,
    EQUITY,
    SESSIONS,
    day_of,
    equity_by_session,
    every_day,
    funded,
    sessions_of,
    with_opening,
)
from medalion.stats.performance import PerformanceStatistics
from medalion.stats.performance import performance as performance_of
from medalion.stats.returns import time_weighted
from medalion.stats.trades import TradeStatistics
from medalion.trading import summary as summaries
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.statements import fills

_EVERY_DAY = (InstrumentKind.CRYPTO, InstrumentKind.OUTCOME)
DATASETS = (STOCK_BARS, CRYPTO_BARS, OPTION_QUOTES, POLYMARKET_SNAPSHOTS)
"""What the statistics read."""
_MONEY = pl.Decimal(38, 8)
_FILLS: dict[str, pl.DataType | type[pl.DataType]] = {
    "executed_at": pl.Datetime("us", "UTC"),
    "symbol": pl.String,
    "side": pl.String,
    "quantity": _MONEY,
    "price": _MONEY,
    "commission": _MONEY,
}


@dataclass(frozen=True, slots=True)
class PortfolioStatistics:
    """What an account did in a range. Money is exact, in its base currency.

    `opening_value` is what it was worth before the first session, or the first deposits of an account that was empty
    then; `net_flow` is what was deposited since, less what was withdrawn; `profit` is the rest of the change. `books`
    is a digest of all that ever happened to the account.
    """

    account: str
    currency: str
    books: str
    periods_per_year: int
    sessions: int
    opening_value: Decimal | None
    closing_value: Decimal | None
    net_flow: Decimal
    profit: Decimal | None
    performance: PerformanceStatistics
    trades: TradeStatistics


class Statistics:
    """Statistics of one account each; `account` is the account, its id or its name.

    Raises, from every method:
        NotFoundError: there is no such account.
        InputError: a naive time, `end` before `start`, an `as_of` that is not settled, or cash in several currencies.
    """

    def __init__(self, observations: Observations, units: Callable[[], UnitOfWork]) -> None:
        self._observations = observations
        self._units = units

    async def equity(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """Account value by session: `ts`, `value`, `cash`, `flow`, oldest first; exact decimals, or Float64.

        `ts` is midnight UTC of the session's day, as the `ts` of its daily bar, and `value` is cash and holdings at its
        end; the sessions are those of `[start, end)`. The first row stands before them: the session before, or the day
        before with the first deposits of an account that was empty until then. `flow` is what was deposited, less
        what was withdrawn, between the row before and this.

        Sessions are the days on which what was traded has a bar (for options, their underlyings), and every UTC day for
        an account that traded coins or prediction markets, or where there are no bars; `calendar` decides otherwise. A
        holding is marked with the last price known: a bar's close, an option quote's middle, a snapshot, or an own
        fill. Prices are taken as stored, and so have to be of the shares of their day, not adjusted for later splits.
        """
        found = (await self._valued(account, start, end, calendar, as_of)).equity
        return as_floats(found) if floats else found

    async def performance(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        risk_free: float = 0.0,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
    ) -> PerformanceStatistics:
        """Statistics of the time-weighted growth of `equity`: deposits and withdrawals are no result.

        Annualised with 252 or 365 periods a year, by the calendar. All are None where the account was worth nothing at
        some time, for then there is no growth.
        """
        return _performance(await self._valued(account, start, end, calendar, as_of), risk_free)

    async def trades(
        self, account: AccountLike, start: Instant | None = None, end: Instant | None = None
    ) -> TradeStatistics:
        """Of the positions that were closed in `[start, end)`."""
        async with self._units() as unit:
            return await summaries.statistics(unit, await account_of(unit, account), TimeRange.of(start, end))

    async def summary(
        self,
        account: AccountLike,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        risk_free: float = 0.0,
        calendar: InstrumentKind | str | None = None,
        as_of: Instant | None = None,
    ) -> PortfolioStatistics:
        """Value, flows, performance and closed trades of the account at once."""
        valued = await self._valued(account, start, end, calendar, as_of)
        values, flows = valued.equity["value"].to_list(), valued.equity["flow"].to_list()
        with exact():
            net_flow = sum(flows[1:], Decimal(0))
            profit = values[-1] - values[0] - net_flow if values else None
        return PortfolioStatistics(
            account=valued.account,
            currency=valued.currency,
            books=valued.books,
            periods_per_year=valued.periods_per_year,
            sessions=max(len(values) - 1, 0),
            opening_value=values[0] if values else None,
            closing_value=values[-1] if values else None,
            net_flow=net_flow,
            profit=profit,
            performance=_performance(valued, risk_free),
            trades=await self.trades(account, start, end),
        )

    async def report(
        self, account: AccountLike, path: Path | str, start: Instant | None = None, end: Instant | None = None
    ) -> Path:
        """The path of the account's tearsheet over the sessions of `[start, end)`: one HTML page that needs no network.

        Raises, besides:
            MedalionError: the extra `report` is not installed.
            InputError: the folder does not exist.
        """
        # Charts and templates are loaded by whoever asks for a page.
        from medalion.report.account import AccountFigures, write_account_report

        found = await self.summary(account, start, end)
        equity = await self.equity(account, start, end)
        async with self._units() as unit:
            owner = await account_of(unit, account)
            executed = await unit.run(fills.of_account, owner.id, TimeRange.of(start, end))
        figures = AccountFigures(
            account=found.account,
            currency=found.currency,
            sessions=found.sessions,
            closing_value=found.closing_value,
            profit=found.profit,
            performance=found.performance,
            trades=found.trades,
            equity=equity,
            fills=pl.DataFrame(executed, schema=_FILLS, orient="row"),
        )
        return await to_thread.run_sync(write_account_report, path, figures)

    async def _valued(
        self,
        which: AccountLike,
        start: Instant | None,
        end: Instant | None,
        calendar: InstrumentKind | str | None,
        as_of: Instant | None,
    ) -> "_Valued":
        during = TimeRange.of(start, end)
        moment = None if as_of is None else utc(as_of, name="as_of")
        async with self._units() as unit:
            account = await account_of(unit, which)
            bookings = await bookings_of(unit, account)
        kinds = [InstrumentKind(kind) for kind in bookings.instruments["kind"]]
        if calendar is not None:
            kinds = [_kind(calendar)]
        is_daily = any(kind in _EVERY_DAY for kind in kinds)
        equity, is_daily = await to_thread.run_sync(partial(self._value, bookings, during, is_daily, moment))
        periods = PERIODS_PER_YEAR[InstrumentKind.CRYPTO if is_daily else InstrumentKind.STOCK]
        return _Valued(account.name, account.base_currency, bookings.digest, periods, equity)

    def _value(
        self, bookings: Bookings, during: TimeRange, is_daily: bool, as_of: datetime | None
    ) -> tuple[pl.DataFrame, bool]:
        """The equity, and whether its sessions are every day."""
        if bookings.first is None or bookings.last is None:
            return pl.DataFrame(schema=EQUITY), is_daily
        span = TimeRange(day_of(bookings.first) - DAY, None if during.end is None else day_of(during.end) + DAY)
        bars = self._stock_bars(bookings, span, as_of)
        held = bookings.held_since(during.start)
        closes = pl.concat([bars, *self._other_closes(held, span, as_of)]).select(CLOSES.names())
        is_daily = is_daily or bars.is_empty()
        if is_daily:
            sessions = every_day(bookings.first, _last(bookings.last, closes, during, as_of))
        else:
            sessions = sessions_of(bars).filter(pl.col("end") > bookings.first)
        sessions = with_opening(sessions, during)
        if sessions.is_empty():
            return pl.DataFrame(schema=EQUITY), is_daily
        rows = equity_by_session(sessions, cash=bookings.cash, changes=bookings.changes, closes=closes)
        return funded(rows), is_daily

    def _stock_bars(self, bookings: Bookings, span: TimeRange, as_of: datetime | None) -> pl.DataFrame:
        """Closes of the stocks and underlyings that have bars: of one day, else the last of each day."""
        symbols = bookings.instruments["calendar"].drop_nulls().unique().sort().to_list()
        return self._bars(STOCK_BARS, symbols, span, as_of)

    def _other_closes(self, held: pl.DataFrame, span: TimeRange, as_of: datetime | None) -> list[pl.DataFrame]:
        symbols = {kind: part["symbol"].to_list() for (kind,), part in held.group_by("kind")}
        return [
            self._bars(CRYPTO_BARS, symbols.get("crypto", []), span, as_of),
            self._closes(OPTION_QUOTES, "mid_price", symbols.get("option", []), span, as_of),
            self._closes(POLYMARKET_SNAPSHOTS, "price", symbols.get("outcome", []), span, as_of),
        ]

    def _bars(self, dataset: Dataset, symbols: list[str], span: TimeRange, as_of: datetime | None) -> pl.DataFrame:
        daily = self._closes(dataset, "close", symbols, span, as_of, timeframe="1Day")
        missing = sorted(set(symbols).difference(daily["symbol"]))
        return pl.concat([daily, self._closes(dataset, "close", missing, span, as_of)])

    def _closes(
        self,
        dataset: Dataset,
        price: str,
        symbols: list[str],
        span: TimeRange,
        as_of: datetime | None,
        *,
        timeframe: str | None = None,
    ) -> pl.DataFrame:
        """`symbol`, `instrument_id`, `ts` (its day), `at` (when it was known) and the last price of each day."""
        if not symbols:
            return pl.DataFrame(schema={"symbol": pl.String, "ts": SESSIONS["ts"], **CLOSES})
        rows = self._observations.scan(
            dataset,
            symbols=symbols,
            start=span.start,
            end=span.end,
            as_of=as_of,
            timeframe=timeframe,
            columns=["symbol", "instrument_id", "ts", "available_at", price],
        )
        last = (
            rows.filter(pl.col(price).is_not_null())
            .sort("available_at", "ts")
            .group_by("instrument_id", pl.col("ts").dt.truncate("1d").alias("day"))
            .agg(pl.col("symbol").last(), at=pl.col("available_at").last(), price=pl.col(price).last())
            .sort("at", "instrument_id")
        )
        return last.select("symbol", pl.col("day").alias("ts"), *CLOSES.names()).cast(CLOSES).collect()


@dataclass(frozen=True, slots=True)
class _Valued:
    account: str
    currency: str
    books: str
    periods_per_year: int
    equity: pl.DataFrame


def _kind(calendar: InstrumentKind | str) -> InstrumentKind:
    try:
        return InstrumentKind(calendar)
    except ValueError as error:
        known = ", ".join(InstrumentKind)
        raise InputError(f"calendar {calendar!r} is not known; known: {known}", given=calendar) from error


def _last(last: datetime, closes: pl.DataFrame, during: TimeRange, as_of: datetime | None) -> datetime:
    """When the last session opens: before `end`, and not after all that is known; without `end`, when prices end."""
    if during.end is not None:
        return min(during.end - MICROSECOND, max(last, as_of or datetime.now(UTC)))
    newest = closes["at"].max()
    return max(last, newest - MICROSECOND) if isinstance(newest, datetime) else last


def _performance(valued: _Valued, risk_free: float) -> PerformanceStatistics:
    growth = time_weighted(valued.equity["value"], valued.equity["flow"])
    frame = pl.DataFrame([valued.equity["ts"], growth.alias("value")])
    periods = valued.periods_per_year
    if growth.null_count():
        nothing = performance_of(equity=frame.clear(), periods=periods, risk_free=risk_free)
        return replace(nothing, start=frame["ts"][0], end=frame["ts"][-1], periods=frame.height - 1)
    return performance_of(equity=frame, periods=periods, risk_free=risk_free)
