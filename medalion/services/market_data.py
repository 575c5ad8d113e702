"""MarketDataService: observations one by one or in lists, the instruments they belong to, and the newest of each."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import polars as pl
import sqlalchemy as sa
from anyio import to_thread

from medalion.core.datasets import (
    CRYPTO_BARS,
    CRYPTO_QUOTES,
    OPTION_QUOTES,
    POLYMARKET_BOOKS,
    POLYMARKET_SNAPSHOTS,
    POLYMARKET_TRADES,
    STOCK_BARS,
    STOCK_QUOTES,
    Dataset,
)
from medalion.core.datasets import dataset as dataset_named
from medalion.core.enums import AssetType, InstrumentKind
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.core.frames import as_floats
from medalion.core.time import Instant
from medalion.ingest.records import Record, Records, frame, given, records, with_totals
from medalion.observations.selection import BACKWARDS
from medalion.services.ingestion import Ingestion
from medalion.services.observations import Observations
from oltp.entities.base import Entity
from oltp.entities.reference import Asset, OptionContract, PolymarketEvent, PolymarketMarket, PolymarketOutcome
from oltp.hot.writes import WriteResult
from oltp.repositories.base import Repository
from oltp.repositories.unit_of_work import UnitOfWork

Values: TypeAlias = Mapping[str, Any]
E = TypeVar("E", bound=Entity)
P = ParamSpec("P")
T = TypeVar("T")


def _of(
    dataset: Dataset,
    work: Callable[Concatenate["MarketDataService", Dataset, P], Coroutine[Any, Any, T]],
    says: str,
) -> Callable[Concatenate["MarketDataService", P], Coroutine[Any, Any, T]]:
    """The method that does the work for one dataset, and what `help` says of it."""

    @wraps(work)
    async def method(service: "MarketDataService", /, *arguments: P.args, **named: P.kwargs) -> T:
        return await work(service, dataset, *arguments, **named)

    method.__doc__ = says
    method.__dict__["not_given"] = 2  # of the work's parameters: service and dataset
    return method


async def _store(
    service: "MarketDataService",
    dataset: Dataset,
    rows: Records | None = None,
    /,
    *,
    source: str = "manual",
    **values: Any,
) -> WriteResult:
    return await service.store(dataset, given(rows, values), source=source)


async def _store_all(
    service: "MarketDataService", dataset: Dataset, rows: Records, /, *, source: str = "manual"
) -> WriteResult:
    return await service.store(dataset, rows, source=source)


async def _newest(service: "MarketDataService", dataset: Dataset, symbol: str) -> dict[str, Any] | None:
    return await service.newest(dataset, symbol)


async def _newest_of_token(service: "MarketDataService", dataset: Dataset, token: str) -> dict[str, Any] | None:
    return await service.newest(dataset, token)


async def _bars(
    service: "MarketDataService",
    dataset: Dataset,
    symbol: str,
    timeframe: str,
    start: Instant | None = None,
    end: Instant | None = None,
    *,
    floats: bool = False,
) -> pl.DataFrame:
    return await service.between(dataset, symbol, start, end, timeframe=timeframe, floats=floats)


async def _snapshots(
    service: "MarketDataService",
    dataset: Dataset,
    token: str,
    start: Instant | None = None,
    end: Instant | None = None,
    *,
    floats: bool = False,
) -> pl.DataFrame:
    return await service.between(dataset, token, start, end, floats=floats)


async def _last_bars(
    service: "MarketDataService", dataset: Dataset, symbol: str, timeframe: str, count: int = 1, *, floats: bool = False
) -> pl.DataFrame:
    return await service.last(dataset, symbol, count, timeframe=timeframe, floats=floats)


async def _last_snapshots(
    service: "MarketDataService", dataset: Dataset, token: str, count: int = 1, *, floats: bool = False
) -> pl.DataFrame:
    return await service.last(dataset, token, count, floats=floats)


class MarketDataService:
    """Stores observations and finds them again; each call is durable when it returns.

    What `store_…` takes is one row or many, each a mapping or a dataclass, or the values of one row by name: `symbol`
    (ticker, contract symbol or token id), `ts` (aware; for bars the opening edge) and the dataset's columns. Numbers
    are Decimals, ints, floats or text, and never rounded. Many rows are one write: all or nothing, and far faster.

    Raises, from every `store_…` of observations:
        NotFoundError: a symbol, or the market that a row names, is not known.
        InputError: a column is missing or unknown, or a value does not fit.
    """

    def __init__(self, observations: Observations, ingestion: Ingestion, units: Callable[[], UnitOfWork]) -> None:
        self._observations = observations
        self._ingestion = ingestion
        self._units = units

    async def store(
        self,
        dataset: str | Dataset,
        rows: Records,
        *,
        source: str = "manual",
        idempotency_key: str | None = None,
    ) -> WriteResult:
        """One write of all rows into any dataset; rows of prediction markets get their market and outcome."""
        declared = dataset_named(dataset)
        found = records(rows)
        if declared.kind is InstrumentKind.OUTCOME:
            found = await self._with_markets(found)
        if declared is POLYMARKET_BOOKS:
            found = [with_totals(record) for record in found]
        made = frame(declared, found)
        return await to_thread.run_sync(
            partial(self._ingestion.write, declared, made, source=source, idempotency_key=idempotency_key)
        )

    store_stock_quote = _of(STOCK_QUOTES, _store, "Store quotes of stocks.")
    store_stock_bar = _of(STOCK_BARS, _store, "Store bars of stocks.")
    store_stock_bars = _of(STOCK_BARS, _store_all, "Store bars of stocks as one write.")
    store_crypto_quote = _of(CRYPTO_QUOTES, _store, "Store quotes of coins.")
    store_crypto_bar = _of(CRYPTO_BARS, _store, "Store bars of coins.")
    store_crypto_bars = _of(CRYPTO_BARS, _store_all, "Store bars of coins as one write.")
    store_option_quote = _of(
        OPTION_QUOTES,
        _store,
        "Store quotes of option contracts, with implied volatility and Greeks where a feed has them.",
    )
    store_polymarket_snapshot = _of(POLYMARKET_SNAPSHOTS, _store, "Store snapshots of outcomes, named by their token.")
    store_polymarket_trade = _of(POLYMARKET_TRADES, _store, "Store public prints, which are no trades of ours.")
    store_polymarket_order_book = _of(
        POLYMARKET_BOOKS,
        _store,
        "Store books: `bids` and `asks` are lists of (price, size), best first; total sizes not given are added up.",
    )

    get_latest_stock_quote = _of(STOCK_QUOTES, _newest, "The newest quote of a stock, or None.")
    get_latest_crypto_quote = _of(CRYPTO_QUOTES, _newest, "The newest quote of a coin, or None.")
    get_latest_option_quote = _of(OPTION_QUOTES, _newest, "The newest quote of a contract, with its Greeks, or None.")
    get_latest_polymarket_snapshot = _of(
        POLYMARKET_SNAPSHOTS, _newest_of_token, "The newest snapshot of an outcome, named by its token, or None."
    )
    get_stock_bars = _of(STOCK_BARS, _bars, "The stored bars of a stock that open in `[start, end)`, oldest first.")
    get_crypto_bars = _of(CRYPTO_BARS, _bars, "The stored bars of a coin that open in `[start, end)`, oldest first.")
    get_polymarket_snapshots = _of(
        POLYMARKET_SNAPSHOTS, _snapshots, "The snapshots of an outcome in `[start, end)`, oldest first."
    )
    get_latest_stock_bars = _of(STOCK_BARS, _last_bars, "The last `count` stored bars of a stock, oldest first.")
    get_latest_crypto_bars = _of(CRYPTO_BARS, _last_bars, "The last `count` stored bars of a coin, oldest first.")
    get_latest_polymarket_snapshots = _of(
        POLYMARKET_SNAPSHOTS, _last_snapshots, "The last `count` snapshots of an outcome, oldest first."
    )

    async def create_or_update_asset(
        self, symbol: str, *, asset_type: AssetType | str = AssetType.STOCK, **fields: Any
    ) -> Asset:
        """The asset of that symbol and type, with these fields; named by its symbol if it is new and has no name."""

        async def upsert(unit: UnitOfWork) -> Asset:
            key = {"symbol": symbol, "asset_type": asset_type}
            return await _upsert(unit.assets, key, fields, {"name": symbol})

        return await self._saving(upsert)

    async def get_asset_by_symbol(self, symbol: str, asset_type: AssetType | None = None) -> Asset:
        """The asset; raises NotFoundError without one, InputError where several types share the symbol."""
        async with self._units() as unit:
            return await unit.assets.by_symbol(symbol, asset_type)

    async def get_active_assets(self) -> list[Asset]:
        """The assets that are followed, by symbol."""
        async with self._units() as unit:
            return await unit.assets.active()

    async def store_option_contract(self, contract: Record | None = None, /, **values: Any) -> OptionContract:
        """The contract of that `symbol`, new or with these fields; a new one names its `underlying_symbol`.

        Raises:
            NotFoundError: the underlying is not known.
            InputError: a field is missing, unknown or does not fit.
        """
        (row,) = records(given(contract, values))
        symbol = _key(row, "symbol")

        async def upsert(unit: UnitOfWork) -> OptionContract:
            found: Values = {}
            if "asset_id" not in row and "underlying_symbol" in row:
                found = {"asset_id": (await unit.assets.by_symbol(row["underlying_symbol"])).id}
            return await _upsert(unit.option_contracts, {"symbol": symbol}, {**row, **found})

        return await self._saving(upsert)

    async def store_polymarket_event(self, event: Record | None = None, /, **values: Any) -> PolymarketEvent:
        """The event of that `event_id`, new or with these fields, with `markets` and their `outcomes` loaded.

        `markets` may be a list of rows with `condition_id`, each with `outcomes`, a list of rows with `token_id` in the
        venue's order. Markets and outcomes that are not listed stay as they are.

        Raises:
            InputError: a field is missing, unknown or does not fit.
        """
        (row,) = records(given(event, values))
        own = {name: value for name, value in row.items() if name != "markets"}
        key = {"event_id": _key(own, "event_id")}
        markets = records(row.get("markets", ()))

        async def upsert(unit: UnitOfWork) -> PolymarketEvent:
            stored = await _upsert(unit.polymarket_events, key, own)
            for market in markets:
                await _store_market(unit, stored, market)
            return await unit.polymarket_events.with_markets(stored.id)

        return await self._saving(upsert)

    async def _saving(self, upsert: Callable[[UnitOfWork], Awaitable[E]]) -> E:
        """In a unit of work; again if another process created the same meanwhile, for then there is one to update."""
        try:
            async with self._units() as unit:
                return await upsert(unit)
        except ConflictError:
            async with self._units() as unit:
                return await upsert(unit)

    async def newest(self, dataset: str | Dataset, symbol: str) -> dict[str, Any] | None:
        """The newest row of a symbol in any dataset without timeframes, or None; raises NotFoundError if unknown."""
        return await to_thread.run_sync(self._observations.latest, dataset, symbol)

    async def between(
        self,
        dataset: str | Dataset,
        symbol: str,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        timeframe: str | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """The stored rows of a symbol in `[start, end)`, oldest first; with `floats` no decimals."""
        read = partial(self._observations.read, dataset, symbols=symbol, start=start, end=end, timeframe=timeframe)
        return await to_thread.run_sync(partial(read, floats=floats))

    async def last(
        self,
        dataset: str | Dataset,
        symbol: str,
        count: int = 1,
        *,
        timeframe: str | None = None,
        floats: bool = False,
    ) -> pl.DataFrame:
        """The last `count` stored rows of a symbol, oldest first; raises InputError for less than one."""
        rows = await to_thread.run_sync(self._read_last, dataset_named(dataset), symbol, count, timeframe)
        return as_floats(rows) if floats else rows

    def _read_last(self, dataset: Dataset, symbol: str, count: int, timeframe: str | None) -> pl.DataFrame:
        if count < 1:
            raise InputError(f"the last {count} were asked", given=count, expected="at least 1")
        newest = self._observations.latest(dataset, symbol, timeframe=timeframe)
        spans = (None,) if newest is None else (*BACKWARDS, None)
        for span in spans:
            start = None if span is None or newest is None else newest["ts"] - span
            rows = self._observations.read(dataset, symbols=symbol, start=start, timeframe=timeframe)
            if rows.height >= count:
                break
        return rows.tail(count)

    async def _with_markets(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows with the market and outcome of their token, where they do not say them."""
        tokens = {row.get("symbol") for row in rows}
        statement = (
            sa.select(
                PolymarketOutcome.token_id,
                PolymarketOutcome.outcome,
                PolymarketMarket.condition_id,
                PolymarketMarket.market_id,
            )
            .join(PolymarketMarket)
            .where(PolymarketOutcome.token_id.in_(tokens), sa.not_(PolymarketOutcome.is_deleted))
        )
        async with self._units() as unit:
            known = {token: found for token, *found in await unit.session.execute(statement)}
        return [_of_market(row, known) for row in rows]


def _of_market(record: dict[str, Any], known: Mapping[str, list[str | None]]) -> dict[str, Any]:
    if record.get("symbol") not in known:
        return record  # the write refuses it, and names the nearest
    outcome, *market_ids = known[record["symbol"]]
    market_id = record.get("market_id")
    if market_id is not None and market_id not in market_ids:
        raise NotFoundError(f"market of token {record['symbol']}", market_id, known=[m for m in market_ids if m])
    return {**record, "market_id": market_id or market_ids[0], "outcome": record.get("outcome") or outcome}


async def _store_market(unit: UnitOfWork, event: PolymarketEvent, market: dict[str, Any]) -> None:
    own = {name: value for name, value in market.items() if name != "outcomes"}
    key = {"condition_id": _key(own, "condition_id")}
    stored = await _upsert(unit.polymarket_markets, key, {**own, "polymarket_event_id": event.id})
    for place, outcome in enumerate(records(market.get("outcomes", ()))):
        token = {"token_id": _key(outcome, "token_id")}
        of_market = {"outcome_index": place, **outcome, "polymarket_market_id": stored.id}
        await _upsert(unit.polymarket_outcomes, token, of_market)


async def _upsert(repository: Repository[E], key: Values, fields: Values, defaults: Values | None = None) -> E:
    held = await repository.first(lock=True, **key)
    changes = {name: value for name, value in fields.items() if name not in key}
    if held is None:
        return await repository.create(**{**(defaults or {}), **changes, **key})
    return await repository.update(held, **changes)


def _key(record: Values, name: str) -> Any:
    if record.get(name) is None:
        raise InputError(f"{name} is missing; given were {', '.join(record)}", given=list(record), expected=name)
    return record[name]
