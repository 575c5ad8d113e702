"""The examples of what a store offers run like any doctest: `store` in them is one with a few rows in it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import medalion
from medalion.store.store import Store
from tests.support.postgres import fresh_database

_OFFERING = ("medalion.services.", "medalion.store.", "medalion.trading.")
_DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in (2, 3, 4, 5)]


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with four days of Apple, quotes of a coin and an account; every example leaves it as it may be found."""
    folder: Path = tmp_path_factory.mktemp("examples")
    with fresh_database() as url, medalion.open(url, data_dir=folder, mirror_background=False) as store:
        store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
        store.assets.create(symbol="BTC/USD", name="Bitcoin", asset_type="crypto", is_fractionable=True)
        bars = pl.DataFrame({"ts": _DAYS, "close": [184.0, 182.5, 181.5, 181.0], "volume": [82, 58, 71, 62]})
        bars = bars.with_columns(symbol=pl.lit("AAPL"), timeframe=pl.lit("1Day"))
        store.write("stock_bars", bars.with_columns(open="close", high="close", low="close"))
        _quote(store, datetime(2024, 1, 5, 15, tzinfo=UTC), bid=43_999, ask=44_000)
        store.mirror.run(settle=True)
        account = store.accounts.create(name="paper")
        store.trading.deposit(account, Decimal(1_000_000))
        yield store


def _quote(store: Store, ts: datetime, *, bid: int, ask: int) -> None:
    prices = {"bid_price": [bid], "bid_size": [3], "ask_price": [ask], "ask_size": [3]}
    store.write("crypto_quote_snapshots", pl.DataFrame({"symbol": ["BTC/USD"], "ts": [ts], **prices}))


def shows_a_store(item: pytest.Item) -> bool:
    """Whether a doctest is an example of what a store offers."""
    example: Any = getattr(item, "dtest", None)
    return example is not None and example.name.startswith(_OFFERING) and "store." in example.docstring


def pytest_itemcollected(item: pytest.Item) -> None:
    """Examples need the server of the tests."""
    if shows_a_store(item):
        item.add_marker("server")


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest) -> None:
    """Names for the examples of the modules that show a store; of no other test, so that no other waits for it."""
    if shows_a_store(request.node):
        store = request.node.dtest.globs["store"] = request.getfixturevalue("example_store")
        _quote(store, datetime.now(UTC), bid=67_250, ask=67_251)  # orders fill at a quote of now
