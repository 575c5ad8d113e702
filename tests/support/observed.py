"""Rows of every dataset for tests, and the instruments they name."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from medalion.core.datasets import LEVELS, STOCK_QUOTES, Column, Dataset, Rule
from medalion.core.enums import InstrumentKind
from medalion.core.frames import conform, derive
from medalion.store.store import Store
from oltp.entities.reference import OptionContract, PolymarketOutcome

START = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)
SYMBOLS = ("AAA", "BBB")


def instruments(store: Store, kind: InstrumentKind, symbols: tuple[str, ...] = SYMBOLS) -> dict[str, int]:
    """Make what the symbols name; symbol → instrument_id."""
    made = {}
    for symbol in symbols:
        if kind in (InstrumentKind.STOCK, InstrumentKind.CRYPTO):
            made[symbol] = store.assets.create(symbol=symbol, name=symbol, asset_type=kind.value).instrument_id
        elif kind is InstrumentKind.OPTION:
            made[symbol] = _option(store, symbol).instrument_id
        else:
            made[symbol] = _outcome(store, symbol).instrument_id
    return made


def _option(store: Store, symbol: str) -> OptionContract:
    underlying = store.assets.first(symbol="UND") or store.assets.create(symbol="UND", name="U", asset_type="stock")
    return store.option_contracts.create(
        asset_id=underlying.id,
        contract_id=symbol,
        symbol=symbol,
        underlying_symbol="UND",
        expiration_date=datetime(2030, 1, 18, tzinfo=UTC).date(),
        option_type="call",
        strike_price=Decimal(100),
    )


def _outcome(store: Store, token: str) -> PolymarketOutcome:
    event = store.polymarket_events.first(event_id="e1") or store.polymarket_events.create(event_id="e1", title="Event")
    market = store.polymarket_markets.first(market_id="m1") or store.polymarket_markets.create(
        polymarket_event_id=event.id, market_id="m1", condition_id="0x1", question="?"
    )
    return store.polymarket_outcomes.create(
        polymarket_market_id=market.id, token_id=token, outcome=token, outcome_index=store.polymarket_outcomes.count()
    )


def sample(
    dataset: Dataset, n: int = 5, *, symbols: tuple[str, ...] = SYMBOLS, start: datetime = START
) -> pl.DataFrame:
    """`n` rows, spread over the symbols, a minute apart; the columns a caller gives."""
    given = [column for column in dataset.columns if column.name not in ("available_at", "source", "instrument_id")]
    rows = [{column.name: _value(column, row, symbols, start) for column in given} for row in range(n)]
    return pl.DataFrame(rows, schema=conform_schema(dataset, given))


def rows_at(minute: int, n: int = 4) -> pl.DataFrame:
    """Quotes of a stock from so many minutes after the start on."""
    return sample(STOCK_QUOTES, n, start=START + timedelta(minutes=minute))


def conform_schema(dataset: Dataset, columns: list[Column]) -> dict[str, pl.DataType]:
    names = {column.name for column in columns}
    return {name: kind for name, kind in pl.DataFrame(dataset.stored.empty_table()).schema.items() if name in names}


def _value(column: Column, row: int, symbols: tuple[str, ...], start: datetime) -> object:
    special: dict[str, Callable[[], object]] = {
        "symbol": lambda: symbols[row % len(symbols)],
        "timeframe": lambda: "1Min",
        "ts": lambda: start + timedelta(minutes=row),
        "event_id": lambda: 1000 + row,
        "high": lambda: Decimal(row + 1_000),
        "low": lambda: Decimal(0),
        "side": lambda: ("buy", "sell")[row % 2],
    }
    if column.name in special:
        return special[column.name]()
    if column.type == LEVELS:
        return [{"price": Decimal(row + 1) / 100, "size": Decimal(7)}, {"price": Decimal("0.5"), "size": Decimal(row)}]
    if column.nullable and row % 5 == 4:
        return None
    if column.rule is Rule.PROBABILITY:
        return Decimal(f"0.{row % 100:02d}{len(column.name):06d}")
    return Decimal(f"{row}.{len(column.name):08d}") if str(column.type).startswith("decimal") else _plain(column, row)


def _plain(column: Column, row: int) -> object:
    return row * 3 if "int" in str(column.type) else f"{column.name}-{row}"


def as_read(dataset: Dataset, rows: pl.DataFrame, ids: dict[str, int], *, source: str = "manual") -> pl.DataFrame:
    """What a read of `rows` must give: the dataset's schema, in order."""
    full = conform(dataset, rows, source=source).with_columns(
        instrument_id=pl.col("symbol").replace_strict(ids or {"": 0}, return_dtype=pl.Int64)
    )
    ordered = full.with_columns(derive(dataset)).sort(*dataset.order, maintain_order=True)
    return ordered.select(dataset.schema.names)
