"""Made-up quotes of fixed seed: whole cents and round lots, as feeds send them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

FIRST_DAY = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
SESSION = timedelta(hours=6.5)


def symbols(count: int, *, letter: str = "Q") -> list[str]:
    return [f"{letter}{number:04d}" for number in range(count)]


def day_of_quotes(day: int, *, instruments: int, each: int, letter: str = "Q") -> pl.DataFrame:
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
            "symbol": pl.Series(symbols(instruments, letter=letter)).gather(number),
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


def year_of_bars(year: int, *, instruments: int, sessions: int = 250) -> pl.DataFrame:
    """A daily bar of every instrument for each of the first `sessions` weekdays of the year, in order of time."""
    chance = np.random.default_rng(year)
    day = np.busday_offset(f"{year}-01-01", np.arange(sessions), roll="forward")
    rows = instruments * sessions
    number = np.tile(np.arange(instruments), sessions)
    walk = np.cumsum(chance.integers(-40, 41, (sessions, instruments)), axis=0) % 4_000
    close = 2_000 + 35 * number + walk.reshape(rows)
    opening = close + chance.integers(-50, 51, rows)
    high = np.maximum(opening, close) + chance.integers(0, 80, rows)
    low = np.minimum(opening, close) - chance.integers(0, 80, rows)
    volume = chance.integers(1_000, 5_000_000, rows)
    price, cents = pl.Decimal(18, 8), 10**6
    prices = {"open": opening, "high": high, "low": low, "close": close}
    return pl.DataFrame(
        {
            "symbol": pl.Series(symbols(instruments)).gather(number),
            "timeframe": pl.Series(["1Day"]).new_from_index(0, rows),
            "ts": pl.Series(np.repeat(day, instruments)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            **{
                name: pl.Series(value * cents).cast(pl.Int128).reinterpret(dtype=price)
                for name, value in prices.items()
            },
            "volume": pl.Series(volume).cast(pl.Int128).cast(pl.Decimal(28, 8)),
            "trade_count": volume // 120 + 1,
            "vwap": pl.Series((high + low + close) * 333_300).cast(pl.Int128).reinterpret(dtype=price),
        }
    )


def trades(count: int, *, instruments: int, days: int) -> pl.DataFrame:
    """So many trades of random instruments at random times of the sessions, in order of time."""
    chance = np.random.default_rng(7)
    length = int(SESSION.total_seconds() * 1e6)
    day = chance.integers(0, days, count) * 86_400_000_000
    ts = np.sort(day + chance.integers(0, length, count)) + int(FIRST_DAY.timestamp() * 1e6)
    return pl.DataFrame(
        {
            "symbol": pl.Series(symbols(instruments)).gather(chance.integers(0, instruments, count)),
            "ts": pl.Series(ts).cast(pl.Datetime("us", "UTC")),
            "trade": np.arange(count),
        }
    )
