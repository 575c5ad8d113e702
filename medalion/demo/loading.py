"""The demo's instruments and observations into a store; what is there already stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import polars as pl

from medalion.core.datasets import POLYMARKET_BOOKS, POLYMARKET_SNAPSHOTS, STOCK_BARS, Dataset
from medalion.core.enums import AssetType, CorporateActionType
from medalion.demo import sources
from medalion.store.fields import CorporateActionFields
from medalion.store.store import Store
from oltp.entities.reference import PolymarketEvent, PolymarketMarket, PolymarketOutcome

STOCKS = {
    "AAPL": ("Apple Inc.", "NASDAQ"),
    "FB": ("Facebook, Inc.", "NASDAQ"),
    "GOOG": ("Google Inc.", "NASDAQ"),
    "IBM": ("International Business Machines", "NYSE"),
    "MSFT": ("Microsoft Corporation", "NASDAQ"),
}
SPLITS = (("AAPL", date(2000, 6, 21)), ("AAPL", date(2005, 2, 28)), ("MSFT", date(2003, 2, 18)))
"""Two new shares for one old, effective at the open of the day: the prices of the data halve there."""
SPECIAL_DIVIDENDS = (("MSFT", date(2004, 11, 15), Decimal(3)),)


@dataclass(frozen=True, slots=True)
class LoadedHistory:
    """One dataset in the store: how many rows, from whom, and whether an earlier run had written them."""

    dataset: str
    source: str
    instruments: int
    rows: int
    was_there: bool


def make_stocks(store: Store) -> None:
    """The five stocks, with the splits and the special dividend that their prices show."""
    known = {asset.symbol: asset.id for asset in store.assets.by_type(AssetType.STOCK)}
    for symbol, (name, exchange) in STOCKS.items():
        if symbol not in known:
            known[symbol] = store.assets.create(
                symbol=symbol, name=name, asset_type=AssetType.STOCK, asset_class="us_equity", exchange=exchange
            ).id
    split, dividend = CorporateActionType.SPLIT, CorporateActionType.DIVIDEND
    actions: list[tuple[str, date, CorporateActionType, CorporateActionFields]] = [
        *((symbol, day, split, CorporateActionFields(new_shares=2, old_shares=1)) for symbol, day in SPLITS),
        *((symbol, day, dividend, CorporateActionFields(amount=each)) for symbol, day, each in SPECIAL_DIVIDENDS),
    ]
    for symbol, day, kind, terms in actions:
        if not store.corporate_actions.any(asset_id=known[symbol], action_type=kind, ex_date=day):
            terms |= {"asset_id": known[symbol], "action_type": kind, "ex_date": day, "source": "demo"}
            store.corporate_actions.create(**terms)


def make_markets(store: Store, markets: pl.DataFrame) -> None:
    """The settled markets, one event each, with both outcomes and the one that won."""
    events = [
        PolymarketEvent(
            event_id=row["slug"],
            slug=row["slug"],
            title=row["question"],
            category=row["category"],
            is_active=False,
            is_closed=True,
            end_date=row["end"],
            markets=[
                PolymarketMarket(
                    condition_id=row["market_id"],
                    slug=row["slug"],
                    question=row["question"],
                    start_date=row["start"],
                    end_date=row["end"],
                    is_active=False,
                    is_closed=True,
                    resolved_at=row["end"],
                    outcomes=[
                        _outcome(row["market_id"], name.title(), index, winner=row["winner"] == name)
                        for index, name in enumerate(sources.OUTCOMES)
                    ],
                )
            ],
        )
        for row in markets.iter_rows(named=True)
    ]
    _add_new(store, events)


def make_bot_markets(store: Store, trades: tuple[sources.BotTrade, ...]) -> None:
    """The markets that the bot traded, with Yes and No; the data names them by number and question alone."""
    questions = {trade.market_id: trade.question for trade in trades}
    events = [
        PolymarketEvent(
            event_id=number,
            title=question,
            markets=[
                PolymarketMarket(
                    market_id=number,
                    condition_id=number,
                    question=question,
                    outcomes=[_outcome(number, name, index) for index, name in enumerate(("Yes", "No"))],
                )
            ],
        )
        for number, question in questions.items()
    ]
    _add_new(store, events)


def _outcome(market_id: str, name: str, index: int, *, winner: bool | None = None) -> PolymarketOutcome:
    return PolymarketOutcome(token_id=sources.token(market_id, name), outcome=name, outcome_index=index, winner=winner)


def _add_new(store: Store, events: list[PolymarketEvent]) -> None:
    """Those of the events whose id is not known yet, all or none."""
    ids = [event.event_id for event in events]
    known = {event.event_id for event in store.polymarket_events.find(PolymarketEvent.event_id.in_(ids))}
    store.polymarket_events.add_many([event for event in events if event.event_id not in known])


def load_observations(store: Store, step: Callable[[str], None]) -> list[LoadedHistory]:
    """Bars, books and snapshots, each in one write that is known by its package's version; `step` names the next."""
    step("stock bars")
    bars = sources.stock_bars()
    loaded = [_write(store, STOCK_BARS, bars, sources.STOCKS_SOURCE)]
    step("order books")
    books = sources.polymarket_books()
    loaded.append(_write(store, POLYMARKET_BOOKS, books, sources.BOOKS_SOURCE))
    step("snapshots of the books")
    loaded.append(_write(store, POLYMARKET_SNAPSHOTS, sources.polymarket_snapshots(books), sources.BOOKS_SOURCE))
    return loaded


def _write(store: Store, dataset: Dataset, rows: pl.DataFrame, package: str) -> LoadedHistory:
    key = f"demo: {sources.edition(package)}"
    result = store.write(dataset, rows, source=package, idempotency_key=key)
    return LoadedHistory(dataset.name, package, rows["symbol"].n_unique(), result.rows, result.is_duplicate)
