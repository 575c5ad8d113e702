"""What an open store offers, part by part; both faces are generated from here."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import polars as pl
from anyio import to_thread

from medalion.core.datasets import DATASETS, Dataset
from medalion.core.frames import as_floats
from medalion.core.time import Instant
from medalion.market.quotes import Market, Row, StoredMarket
from medalion.observations.arguments import Symbols
from medalion.services.audit import Audit
from medalion.services.ingestion import Ingestion
from medalion.services.jobs import Jobs
from medalion.services.journal import Journal
from medalion.services.market_data import MarketDataService
from medalion.services.mirror import Mirror
from medalion.services.observations import Observations
from medalion.services.rollups import Rollups
from medalion.services.sources import Sources
from medalion.services.statistics import Statistics
from medalion.services.trading import TradingService
from medalion.store.backups import Backup, back_up
from medalion.store.parts import Parts
from medalion.venues.base import Venue
from medalion.venues.paper.venue import CommissionSchedule, PaperVenue
from oltp.repositories.unit_of_work import UnitOfWork


class StoreRows:
    """The store's rows as a market asks for them, looked up in a worker thread."""

    def __init__(self, observations: Observations) -> None:
        self._observations = observations

    async def latest(self, dataset: str, symbol: str, /, *, timeframe: str | None = None) -> Row | None:
        """The newest."""
        return await to_thread.run_sync(partial(self._observations.latest, dataset, symbol, timeframe=timeframe))

    async def latest_at(self, dataset: str, symbol: str, t: datetime, /, *, timeframe: str | None = None) -> Row | None:
        """The newest that was available at `t`."""
        return await to_thread.run_sync(partial(self._observations.latest_at, dataset, symbol, t, timeframe=timeframe))


class Services:
    """Each part as it is written, once: it blocks, or it is awaited.

    `Store` and `AsyncStore` have these, the methods of `observations` as their own, and every repository of a unit of
    work. After a change of what a part offers, `make faces` writes their faces anew.
    """

    def __init__(self, parts: Callable[[], Parts]) -> None:
        self._parts = parts

    @property
    def observations(self) -> Observations:
        """Reads of every dataset."""
        return self._parts().observations

    @property
    def ingestion(self) -> Ingestion:
        """Writes to every dataset."""
        return self._parts().ingestion

    def units(self) -> UnitOfWork:
        """A new unit of work over the books."""
        return self._parts().units()

    @property
    def mirror(self) -> Mirror:
        """The mirror: `run()`, `status()`, `verify()`, `prune()`, `compact()`, `vacuum()`, `retain()`, `move()`."""
        return self._parts().mirror

    def backup(self, folder: str | Path) -> Backup:
        """Books, ledger and lake of one moment in a new private folder, while bots write and the lake is looked after.

        `medalion restore` makes a store of it, here or elsewhere. The folder appears whole or not at all. It holds the
        books in PostgreSQL's own format and links to the files of the lake, or copies where it lies on another disk.

        >>> store.backup("/backups/monday").lake_rows  # doctest: +SKIP
        1204000

        Raises:
            InputError: the folder is not empty, or cannot be made.
            CorruptLakeError: lake and ledger do not belong together, or a file is damaged.
            StoreError: there is no pg_dump for the server, it failed, or the server is a read replica.
        """
        parts = self._parts()
        return back_up(parts.postgres, parts.lake, folder)

    @property
    def sources(self) -> Sources:
        """Which feeds have rows, and which of them answers first: `list()`, `prefer()`."""
        return self._parts().sources

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets, whether they hold rows or not.

        >>> store.datasets[:3]
        ['stock_quote_snapshots', 'crypto_quote_snapshots', 'stock_bars']
        """
        return list(DATASETS)

    def symbols(self, dataset: str | Dataset | None = None) -> list[str]:
        """What there are rows of, in one dataset or in any, sorted; an instrument without rows is in `assets` alone.

        >>> store.symbols("stock_bars")
        ['AAPL']

        Raises:
            NotFoundError: the dataset is not known.
        """
        return self._parts().coverage.symbols(dataset)

    def coverage(
        self,
        dataset: str | Dataset | None = None,
        *,
        symbols: Symbols = None,
        start: Instant | None = None,
        end: Instant | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """What is here, a row a series: dataset, symbol, timeframe, source, first and last `ts`, and how many rows.

        Nothing is read for it. Where `is_exact` is false the rows lie within first and last, and there are no more of
        them than `rows`: an hour that was corrected is counted twice. `is_made` are bars that the store keeps of
        others, `unmirrored_rows` those of the rows that wait for the mirror. Of `[start, end)` are the series that may
        have rows in it, with the figures of the whole series.

        >>> store.coverage("stock_bars").select("symbol", "timeframe", "source").row(0)
        ('AAPL', '1Day', 'manual')

        Raises:
            NotFoundError: the dataset or a symbol is not known.
            InputError: a naive time, or `end` before `start`.
        """
        found = self._parts().coverage.frame(dataset, symbols=symbols, start=start, end=end)
        return as_floats(found) if floats else found

    @property
    def rollups(self) -> Rollups:
        """Bars that are made beforehand: `keep()`, `list()`, `drop()`, `refresh()`."""
        return self._parts().rollups

    @property
    def market_data(self) -> MarketDataService:
        """Observations one by one or in lists, the instruments they belong to, and the newest of each."""
        parts = self._parts()
        return MarketDataService(parts.observations, parts.ingestion, parts.units)

    @property
    def journal(self) -> Journal:
        """Logs, errors and measurements of the system."""
        parts = self._parts()
        return Journal(parts.units, parts.postgres, parts.handlers.append)

    @property
    def audit(self) -> Audit:
        """Who changed what and when, and whether the record is whole."""
        parts = self._parts()
        return Audit(parts.units, parts.anchors)

    @property
    def trading(self) -> TradingService:
        """Orders and positions, on the simulated venue at the stored market; see `live` and `backtest` for others."""
        return self.backtest(StoredMarket(StoreRows(self.observations)))

    def live(self, venue: Venue) -> TradingService:
        """Orders and positions at that venue, such as `medalion.venues.alpaca.AlpacaVenue`, at the stored market."""
        return self.backtest(StoredMarket(StoreRows(self.observations)), venue=venue)

    def backtest(
        self,
        market: Market,
        *,
        venue: Venue | None = None,
        commission: CommissionSchedule = CommissionSchedule(),  # noqa: B008 - it is frozen
        slippage_bps: Decimal = Decimal(0),
        respect_size: bool = False,
        latency: timedelta | None = None,
        max_quote_age: timedelta | None = None,
    ) -> TradingService:
        """Trading in the same books on a market of the past: orders fill at its quotes of their `at`.

        Without `venue` they go to a simulated one, for which the other arguments are: see `PaperVenue`.
        """
        parts = self._parts()
        if venue is None:
            venue = PaperVenue(
                parts.sessions,
                market,
                commission=commission,
                slippage_bps=slippage_bps,
                respect_size=respect_size,
                latency=latency,
                max_quote_age=max_quote_age,
            )
        return TradingService(parts.units, venue, market, record=parts.metrics.record)

    @property
    def stats(self) -> Statistics:
        """Value by session, performance and closed trades of accounts."""
        parts = self._parts()
        return Statistics(parts.observations, parts.units)

    @property
    def jobs(self) -> Jobs:
        """Batch jobs and their runs."""
        parts = self._parts()
        return Jobs(parts.units, self.stats, parts.postgres, parts.lake)
