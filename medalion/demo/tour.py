"""The steps of the demo, and what they print."""

import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import medalion
from medalion.core.enums import AccountType, AssetType, CashMovementType
from medalion.core.settings import settings_of
from medalion.core.time import utc
from medalion.demo import bot, loading, sources, tables
from medalion.demo.replay import Broker, ReplayMarket, replay
from medalion.demo.tearsheet import write_report
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from medalion.venues.paper.venue import CommissionSchedule
from oltp.entities.trading import Account, Strategy
from oltp.repositories.unit_of_work import acting_as

ACCOUNT, BOT_ACCOUNT = "demo", "polymarket-bot"
STRATEGY, BOT_STRATEGY = "sma-cross", "crash-recovery"
BEGINS = utc("2000-03-01")
DEPOSIT = Decimal(100_000)
BOT_DEPOSIT = Decimal(100)
"""The bot's data does not say what it had; it never had more than $29 in the market."""
FAST, SLOW = 20, 50
FRACTION = Decimal("0.2")
COMMISSION = CommissionSchedule(bps=Decimal(1), minimum=Decimal(1))


class Tour:
    """One run of the demo in one data folder."""

    def __init__(self, data_dir: Path | str | None = None, console: Console | None = None) -> None:
        self._data_dir = settings_of(None, None, data_dir, {}).data_dir
        self._console = console or Console()

    def run(self) -> Path:
        """The path of the report."""
        for package in (sources.STOCKS_SOURCE, sources.BOOKS_SOURCE, sources.BOT_SOURCE):
            sources.data_file(package)
        self._say(f"Opening the store in {escape(str(self._data_dir))}; the first time PostgreSQL is set up there.")
        # The mirror runs when told to, so that both sides of it can be shown.
        with medalion.open(data_dir=self._data_dir, mirror_background=False) as store, acting_as("demo"):
            self._load(store)
            self._mirror(store)
            self._trade(store)
            self._book_bot_trades(store)
            self._show(store)
            path = self._report(store)
        self._say(f"\nThe report is [link={path.as_uri()}]{escape(str(path))}[/link]. Go on with:\n")
        is_default = self._data_dir == settings_of(None, None, None, {}).data_dir
        chosen = "" if is_default else f" --data-dir {quote(str(self._data_dir))}"
        for command in (
            "read stock_bars --symbol AAPL --timeframe 1Day --start 2013-02-01",
            'sql "SELECT symbol, sum(realized_pnl) AS pnl FROM positions WHERE asset_id IS NOT NULL GROUP BY symbol"',
            "mirror status",
        ):
            self._say(escape(f"  {_typed_as()}{chosen} {command}"))
        return path

    def _load(self, store: Store) -> None:
        trades = sources.bot_trades()
        with self._progress() as progress:
            task = progress.add_task("instruments", total=4)
            loading.make_stocks(store)
            loading.make_markets(store, sources.polymarket_markets())
            loading.make_bot_markets(store, trades)
            loaded = loading.load_observations(
                store, lambda what: progress.update(task, advance=1, description=f"loading {what}")
            )
            progress.update(task, advance=1, description="loaded")
        self._console.print(tables.loaded_table(loaded))

    def _mirror(self, store: Store) -> None:
        self._explain(store, "How reads are answered before the mirror has run")
        with self._console.status("Mirroring into the lake"):
            run = store.mirror.run()
        self._say(f"Mirrored {run.rows:,} rows into {run.files:,} files of the lake in {run.seconds:.1f} s.\n")
        self._explain(store, "The same reads now")

    def _explain(self, store: Store, title: str) -> None:
        plans = {
            "AAPL's daily bars": store.explain("stock_bars", symbols="AAPL", timeframe="1Day"),
            "all order books": store.explain("polymarket_order_book_snapshots"),
            "all snapshots": store.explain("polymarket_snapshots"),
        }
        self._console.print(tables.plans_table(title, plans))

    def _trade(self, store: Store) -> None:
        market = ReplayMarket(store.read("stock_bars", timeframe="1Day", source=sources.STOCKS_SOURCE))
        trading = store.backtest(market, commission=COMMISSION)
        account = _account(
            store,
            trading,
            ACCOUNT,
            AccountType.BACKTEST,
            deposit=DEPOSIT,
            at=BEGINS,
            description="A moving-average cross, replayed on daily bars.",
        )
        strategy = _strategy(
            store,
            STRATEGY,
            strategy_type="trend",
            description=f"Long while the average of {FAST} closes is above that of {SLOW}.",
            is_backtesting=True,
            configuration={"fast": FAST, "slow": SLOW, "timeframe": "1Day"},
            risk_parameters={"fraction_of_equity": FRACTION},
        )
        symbols = {asset.id: asset.symbol for asset in store.assets.by_type(AssetType.STOCK)}
        with self._progress() as progress:
            task = progress.add_task("trading", total=len(market.sessions()))
            done = replay(
                market,
                Broker(store=store, trading=trading, account=account, strategy=strategy),
                deposit=DEPOSIT,
                fraction=FRACTION,
                windows=(FAST, SLOW),
                actions=[(symbols[action.asset_id], action) for action in store.corporate_actions.find()],
                on_day=lambda day: progress.update(task, advance=1, description=f"trading {day}"),
            )
        trading.mark_to_market(account=account, at=market.ends_at)
        self._say(f"{done.signals:,} signals, {done.trades:,} trades.\n")

    def _book_bot_trades(self, store: Store) -> None:
        trades = sources.bot_trades()
        record = bot.Record(trades)
        trading = store.backtest(record, venue=record)
        account = _account(
            store,
            trading,
            BOT_ACCOUNT,
            AccountType.LIVE,
            deposit=BOT_DEPOSIT,
            at=trades[0].entered_at,
            description="A Polymarket bot's trades, as it recorded them.",
        )
        strategy = _strategy(
            store,
            BOT_STRATEGY,
            strategy_type="mean reversion",
            description="Buys an outcome whose price fell fast and waits for it to recover.",
        )
        with self._progress() as progress:
            task = progress.add_task("booking the bot's trades", total=2 * len(trades))
            bot.book_trades(
                store, trading, trades, account=account, strategy=strategy, on_order=lambda: progress.advance(task)
            )
        made = trading.get_portfolio_summary(account).realized_pnl
        self._say(
            f"The bot's fills make ${made:.4f}. Its file states ${bot.stated_pnl(trades)}: the P&L of its last eleven "
            "trades is not what their shares and prices give.\n"
        )

    def _show(self, store: Store) -> None:
        trading = store.backtest(bot.Record(()))
        names = (ACCOUNT, BOT_ACCOUNT)
        self._console.print(tables.portfolios_table({name: trading.get_portfolio_summary(name) for name in names}))
        self._console.print(tables.trades_table({name: store.stats.trades(name) for name in names}))
        self._console.print(tables.performance_table({ACCOUNT: store.stats.performance(ACCOUNT)}))

    def _report(self, store: Store) -> Path:
        folder = self._data_dir / "reports"
        folder.mkdir(mode=0o700, exist_ok=True)
        with self._console.status("Writing the report"):
            return write_report(
                store,
                folder / "demo.html",
                account=store.accounts.by_name(ACCOUNT),
                rule=f"SMA {FAST}/{SLOW}, long only, {FRACTION:.0%} of equity each",
            )

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )


def _account(
    store: Store,
    trading: BlockingTradingService,
    name: str,
    kind: AccountType,
    *,
    deposit: Decimal,
    at: datetime,
    description: str,
) -> Account:
    """The account of that name with its deposit, each made where it is not there."""
    account = store.accounts.first(name=name)
    if account is None:
        account = store.accounts.create(name=name, account_type=kind, description=description)
    if not store.cash_movements.any(account_id=account.id, movement_type=CashMovementType.DEPOSIT):
        trading.deposit(account, deposit, at=at)
    return account


def _strategy(store: Store, name: str, **fields: Any) -> Strategy:
    return store.strategies.first(name=name) or store.strategies.create(name=name, **fields)


def _typed_as() -> str:
    """The command as it was typed, so that what is printed can be typed too."""
    return sys.argv[0] if Path(sys.argv[0]).name == "medalion" else "medalion"
