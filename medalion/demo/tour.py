"""The steps of the demo and what they print."""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import medalion
from medalion.corporate import CorporateActions
from medalion.demo import bot, loading, sources
from medalion.demo.replay import Broker, Replayed, ReplayMarket, replay
from medalion.demo.tearsheet import write_report
from medalion.dtos import PortfolioSummaryDto
from medalion.faces import Blocking
from medalion.market import Market
from medalion.report.tables import duration, money, percent, ratio
from medalion.store import Store, settings_of
from medalion.trading import TradingService
from medalion.types import AccountType, AssetType, CashMovementType, utc
from medalion.venues.paper import CommissionSchedule, PaperVenue
from olap.performance import PerformanceStatistics, performance
from olap.trade_stats import TradeStatistics
from oltp.unit_of_work import acting_as, sessions

ACCOUNT, BOT_ACCOUNT = "demo", "polymarket-bot"
DEPOSIT, BOT_DEPOSIT = Decimal(100_000), Decimal(100)
BEGINS = utc("2000-03-01")
FAST, SLOW = 20, 50
FRACTION = Decimal("0.2")
COMMISSION = CommissionSchedule(bps=Decimal(1), minimum=Decimal(1))
SESSIONS_A_YEAR = 252


class Tour:
    """One run of the demo."""

    def __init__(self, data_dir: Path | str | None, console: Console | None) -> None:
        self._data_dir = settings_of(None, None, data_dir, {}).data_dir
        self._console = console or Console()

    def run(self) -> Path:
        for package in (sources.STOCKS_SOURCE, sources.BOOKS_SOURCE, sources.BOT_SOURCE):
            sources.data_file(package)
        self._say(f"Opening the store in {self._data_dir}; the first time, PostgreSQL is set up in it.")
        # The mirror runs when told to, so that both sides of it can be shown.
        with medalion.open(data_dir=self._data_dir, mirror_background=False) as store, acting_as("demo"):
            return self._tour(store)

    def _tour(self, store: Store) -> Path:
        self._load(store)
        self._mirror(store)
        replayed = self._replay(store)
        self._book_bot_trades(store)
        found = performance(replayed.equity, periods_per_year=SESSIONS_A_YEAR)
        self._show(store, found)
        return self._report(store, replayed, found)

    def _load(self, store: Store) -> None:
        with self._progress() as progress:
            task = progress.add_task("instruments", total=4)

            def step(what: str) -> None:
                progress.update(task, advance=1, description=what)

            loading.make_stocks(store)
            loading.make_markets(store, sources.polymarket_markets())
            loading.make_bot_markets(store, sources.bot_trades())
            loaded = loading.load_observations(store, step)
            progress.update(task, advance=1, description="loaded")
        table = _table("Loaded", "dataset", "from", right=("instruments", "rows"), last=("",))
        for one in loaded:
            there = "was there" if one.was_there else "new"
            table.add_row(one.dataset, one.source, f"{one.instruments:,}", f"{one.rows:,}", there)
        self._console.print(table)

    def _mirror(self, store: Store) -> None:
        self._explain(store, "Before the mirror")
        with self._console.status("Mirroring to the lake"):
            run = store.mirror.run()
        self._say(f"Mirrored {run.rows:,} rows into {run.files:,} files in {run.seconds:.1f} s.")
        self._explain(store, "After the mirror")

    def _explain(self, store: Store, title: str) -> None:
        """How three reads are answered, as the router tells it."""
        table = _table(title, "read", "store", "engine", right=("files", "rows"), last=("why",))
        reads: tuple[tuple[str, str, dict[str, str]], ...] = (
            ("AAPL's daily bars", "stock_bars", {"symbols": "AAPL", "timeframe": "1Day"}),
            ("all order books", "polymarket_order_book_snapshots", {}),
            ("all snapshots", "polymarket_snapshots", {}),
        )
        for name, dataset, asked in reads:
            plan = store.explain(dataset, **asked)
            rows = plan.rows + plan.hot_rows
            table.add_row(name, plan.store, plan.engine, f"{plan.files:,}", f"{rows:,}", plan.reason)
        self._console.print(table)

    def _replay(self, store: Store) -> Replayed:
        account = self._account(store, ACCOUNT, AccountType.BACKTEST, DEPOSIT, BEGINS, "Replay of daily stock bars.")
        strategy = self._strategy(
            store,
            "sma-cross",
            strategy_type="trend",
            description=f"Long while the average of {FAST} closes is above that of {SLOW}.",
            is_backtesting=True,
            configuration={"fast": FAST, "slow": SLOW, "timeframe": "1Day"},
            risk_parameters={"fraction_of_equity": FRACTION},
        )
        market = ReplayMarket(store.read("stock_bars", timeframe="1Day"))
        trading = _trading(store, market, COMMISSION)
        corporate = Blocking(CorporateActions(store._parts.units), store._loop)
        symbols = {asset.id: asset.symbol for asset in store.assets.by_type(AssetType.STOCK)}
        actions = [(symbols[action.asset_id], action) for action in store.corporate_actions.find()]
        with self._progress() as progress:
            task = progress.add_task("trading", total=len(market.sessions()))
            replayed = replay(
                market,
                Broker(store=store, trading=trading, corporate=corporate, account=account, strategy=strategy),
                deposit=DEPOSIT,
                fraction=FRACTION,
                windows=(FAST, SLOW),
                actions=actions,
                on_day=lambda day: progress.update(task, advance=1, description=f"trading {day}"),
            )
        trading.mark_to_market(account=account, at=market.ends_at)
        return replayed

    def _book_bot_trades(self, store: Store) -> None:
        trades = sources.bot_trades()
        first = min(trade.entered_at for trade in trades)
        account = self._account(
            store, BOT_ACCOUNT, AccountType.LIVE, BOT_DEPOSIT, first, "A Polymarket bot's trades as it recorded them."
        )
        strategy = self._strategy(
            store,
            "crash-recovery",
            strategy_type="mean reversion",
            description="Buys an outcome whose price has fallen fast, and waits for it to recover.",
        )
        trading = _trading(store, bot.RecordedMarket(trades), CommissionSchedule())
        with self._progress() as progress:
            task = progress.add_task("booking the bot's trades", total=2 * len(trades))
            bot.book_trades(
                store, trading, trades, account=account, strategy=strategy, on_order=lambda: progress.advance(task)
            )
        made = trading.get_portfolio_summary(account).realized_pnl
        self._say(
            f"The bot's fills make ${made:.4f}; its file states ${bot.stated_pnl(trades)}: the P&L of its last eleven "
            "trades is not what their shares and prices give."
        )

    def _show(self, store: Store, found: PerformanceStatistics) -> None:
        service = _trading(store, ReplayMarket(store.read("stock_bars", timeframe="1Day")), COMMISSION)
        accounts = [store.accounts.by_name(name) for name in (ACCOUNT, BOT_ACCOUNT)]
        self._console.print(_summaries([service.get_portfolio_summary(account) for account in accounts]))
        self._console.print(
            _statistics([(account.name, service.get_trade_statistics(account)) for account in accounts])
        )
        self._console.print(_performance(found))

    def _report(self, store: Store, replayed: Replayed, found: PerformanceStatistics) -> Path:
        folder = self._data_dir / "reports"
        folder.mkdir(mode=0o700, exist_ok=True)
        account = store.accounts.by_name(ACCOUNT)
        service = _trading(store, bot.RecordedMarket(()), COMMISSION)
        with self._console.status("Writing the report"):
            path = write_report(
                store,
                folder / "demo.html",
                equity=replayed.equity,
                found=found,
                trades=service.get_trade_statistics(account),
                account=account,
                strategy=f"SMA {FAST}/{SLOW}, long only, {FRACTION:.0%} of equity each",
            )
        self._say(f"The report: [link={path.as_uri()}]{path}[/link]")
        self._say("Go on with:")
        for command in (
            "medalion read stock_bars -s AAPL --timeframe 1Day --start 2013-02-01",
            'medalion sql "SELECT symbol, count(*), sum(realized_pnl) FROM positions GROUP BY symbol LIMIT 9"',
        ):
            self._say(f"  {command}")
        return path

    def _account(
        self, store: Store, name: str, kind: AccountType, deposit: Decimal, at: datetime, description: str
    ) -> Any:
        """The account of that name with its deposit, made where it is not there."""
        account = store.accounts.first(name=name) or store.accounts.create(
            name=name, account_type=kind, description=description
        )
        if not store.cash_movements.any(account_id=account.id, movement_type=CashMovementType.DEPOSIT):
            _trading(store, bot.RecordedMarket(()), COMMISSION).deposit(account, deposit, at=at)
        return account

    def _strategy(self, store: Store, name: str, **fields: Any) -> Any:
        return store.strategies.first(name=name) or store.strategies.create(name=name, **fields)

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )


def _trading(store: Store, market: Market, commission: CommissionSchedule) -> Any:
    """The trading service of the store's books on another market than the store's newest rows."""
    parts = store._parts
    venue = PaperVenue(sessions(parts.postgres.engine), market, commission=commission)
    return Blocking(TradingService(parts.units, venue, market), store._loop)


def _table(title: str, *left: str, right: Sequence[str] = (), last: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    for name in last:
        table.add_column(name)
    return table


def _summaries(found: Sequence[PortfolioSummaryDto]) -> Table:
    table = _table("Portfolios", "", right=[one.account for one in found])
    rows: dict[str, Callable[[PortfolioSummaryDto], str]] = {
        "Deposits": lambda one: money(one.deposits),
        "Cash": lambda one: money(one.cash),
        "Market value": lambda one: money(one.market_value),
        "Equity": lambda one: money(one.equity),
        "Realized P&L": lambda one: money(one.realized_pnl, sign=True),
        "Unrealized P&L": lambda one: money(one.unrealized_pnl, sign=True),
        "Commissions": lambda one: money(one.total_commissions),
        "Net P&L": lambda one: money(one.net_pnl, sign=True),
        "Return on deposits": lambda one: percent(
            None if one.return_on_deposits is None else float(one.return_on_deposits), sign=True
        ),
        "Positions, open": lambda one: f"{one.total_positions:,}, {one.open_positions_count:,}",
    }
    for name, value in rows.items():
        table.add_row(name, *(value(one) for one in found))
    return table


def _statistics(found: Sequence[tuple[str, TradeStatistics]]) -> Table:
    table = _table("Closed trades", "", right=[name for name, _ in found])
    rows: dict[str, Callable[[TradeStatistics], str]] = {
        "Trades": lambda one: f"{one.total_trades:,}",
        "Win rate": lambda one: percent(one.win_rate),
        "Profit factor": lambda one: ratio(one.profit_factor),
        "Payoff ratio": lambda one: ratio(one.payoff_ratio),
        "Expectancy": lambda one: money(one.expectancy, sign=True),
        "Best, worst": lambda one: f"{money(one.best, sign=True)}, {money(one.worst, sign=True)}",
        "Average holding time": lambda one: duration(one.average_holding_time),
    }
    for name, value in rows.items():
        table.add_row(name, *(value(one) for _, one in found))
    return table


def _performance(found: PerformanceStatistics) -> Table:
    table = _table("Performance", "", right=(f"{ACCOUNT}, {found.start} to {found.end}",))
    for name, value in (
        ("Total return", percent(found.total_return, sign=True)),
        ("CAGR (by calendar)", percent(found.cagr, sign=True)),
        ("Volatility, annual", percent(found.annual_volatility)),
        ("Sharpe ratio", ratio(found.sharpe_ratio)),
        ("Sortino ratio", ratio(found.sortino_ratio)),
        ("Calmar ratio", ratio(found.calmar_ratio)),
        ("Largest drawdown", percent(found.max_drawdown)),
    ):
        table.add_row(name, value)
    return table
