"""Orders from intent to audit: one client's round trips, and what eight clients get through together."""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import anyio
import polars as pl
import psycopg

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.store.store import Store

CLIENTS = 8


def prepare(store: Store) -> None:
    """An account with money and quoted stocks, one for each client."""
    store.accounts.create(name="bench")
    store.trading.deposit("bench", 1_000_000_000)
    for client in range(CLIENTS):
        store.assets.create(symbol=f"B{client}", name=f"B{client}")
        quote = {"symbol": [f"B{client}"], "ts": [datetime.now(UTC)]}
        prices = {"bid_price": ["99.99"], "bid_size": ["100"], "ask_price": ["100.01"], "ask_size": ["100"]}
        store.write(STOCK_QUOTES, pl.DataFrame(quote | prices))


def trade(folder: Path, client: int, *, times: int, seconds: float | None = None) -> list[float]:
    """Milliseconds of each market order, buys and sells in turn, each booked and audited when it returns."""

    async def run() -> list[float]:
        taken: list[float] = []
        async with medalion.open_async(data_dir=folder, mirror_background=False) as store:
            trading = store.trading
            for _ in range(6):
                await trading.execute_market_order(account="bench", symbol=f"B{client}", side="buy", quantity=1)
            until = None if seconds is None else time.perf_counter() + seconds
            while len(taken) < times if until is None else time.perf_counter() < until:
                side = "sell" if len(taken) % 3 == 2 else "buy"
                started = time.perf_counter()
                filled = await trading.execute_market_order(account="bench", symbol=f"B{client}", side=side, quantity=1)
                taken.append((time.perf_counter() - started) * 1e3)
                if filled.status != "filled":
                    raise RuntimeError(f"an order is {filled.status}: {filled.status_reason}")
        return taken

    return anyio.run(run)


def alone(folder: Path, *, times: int = 500) -> tuple[float, float]:
    """Median and 99th percentile of one client's orders, in milliseconds; it is a process of its own, as a bot is."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        taken = pool.submit(_timed, folder, times).result()
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


def together(folder: Path, *, seconds: float = 10) -> float:
    """Orders a second of eight processes, each with a symbol of its own in one account."""
    with ProcessPoolExecutor(CLIENTS, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_count, folder, client, seconds) for client in range(CLIENTS)]
        return sum(future.result() for future in running) / seconds


def _timed(folder: Path, times: int) -> list[float]:
    return trade(folder, 0, times=times)


def _count(folder: Path, client: int, seconds: float) -> int:
    return len(trade(folder, client, times=0, seconds=seconds))


def books(store: Store, *, positions: int, account: str, is_open: bool) -> None:
    """So many positions in an account, each in an instrument of its own; put there behind the audit's back."""
    held = next(iter(store.accounts.find(name=account)), None) or store.accounts.create(name=account)
    with psycopg.connect(store._parts.postgres.libpq, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            """INSERT INTO positions (id, account_id, instrument_id, symbol, asset_id, side, status, quantity,
                    remaining_quantity, cost_basis, multiplier, realized_pnl, commissions, current_price, marked_at,
                    opened_at, closed_at)
               SELECT gen_random_uuid(), %(account)s, 1000000 + n, 'S' || n, assets.id, 'long',
                      CASE WHEN %(open)s THEN 'open' ELSE 'closed' END, 10, CASE WHEN %(open)s THEN 10 ELSE 0 END,
                      CASE WHEN %(open)s THEN 1000 + n %% 97 ELSE 0 END, 1, n %% 211 - 100, 1, 101.5, now(),
                      timestamptz '2020-01-01 UTC' + n * interval '1 minute',
                      CASE WHEN NOT %(open)s THEN timestamptz '2020-01-02 UTC' + n * interval '1 minute' END
               FROM generate_series(1, %(positions)s) AS n, (SELECT id FROM assets LIMIT 1) AS assets""",
            {"account": held.id, "open": is_open, "positions": positions},
        )
        connection.execute("ANALYZE positions")
