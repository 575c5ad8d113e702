"""Made-up quotes of fixed seed: whole cents and round lots, as feeds send them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

FIRST_DAY = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
SESSION = timedelta(hours=6.5)


def symbols(count: int) -> list[str]:
    return [f"Q{number:04d}" for number in range(count)]


def day_of_quotes(day: int, *, instruments: int, each: int) -> pl.DataFrame:
    """`each` quotes of every instrument, spread over the session of the day, in order of time."""
    chance = np.random.default_rng(day)
    rows = instruments * each
    number = np.tile(np.arange(instruments), each)
    offset = np.sort(chance.integers(0, int(SESSION.total_seconds() * 1e6), rows))
    cents = 5_000 + 350 * number + np.cumsum(chance.integers(-1, 2, rows)) % 500
    spread = chance.integers(1, 4, rows)
    price = pl.Decimal(18, 8)
    return pl.DataFrame(
        {
            "symbol": pl.Series(symbols(instruments)).gather(number),
            "ts": pl.Series(offset + int((FIRST_DAY + timedelta(days=day)).timestamp() * 1e6)).cast(
                pl.Datetime("us", "UTC")
            ),
            "bid_price": pl.Series(cents * 10**6).cast(pl.Int128).reinterpret(dtype=price),
            "bid_size": pl.Series(chance.integers(1, 20, rows) * 100 * 10**8).cast(pl.Int128).reinterpret(dtype=price),
            "ask_price": pl.Series((cents + spread) * 10**6).cast(pl.Int128).reinterpret(dtype=price),
            "ask_size": pl.Series(chance.integers(1, 20, rows) * 100 * 10**8).cast(pl.Int128).reinterpret(dtype=price),
            "event_id": np.arange(rows),
        }
    )
