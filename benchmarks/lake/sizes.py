"""How much of what is compared, and the questions that every contender is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.quotes import FIRST_DAY, day_of_quotes, symbols, trades, year_of_bars

SYMBOL = "Q0042"
"""The instrument of every narrow read."""
FIRST_YEAR = 2014


@dataclass(frozen=True, slots=True)
class Sizes:
    """`each` quotes a day of each of `quoted` instruments; `barred` instruments have daily bars."""

    quoted: int = 100
    each: int = 20_000
    days: int = 10
    barred: int = 5_000
    years: int = 10
    trades: int = 100_000
    written: int = 1_000_000
    mirrored: int = 4
    """Writes that one run of the mirror copies."""
    huge: int = 10_000_000
    """Rows of the one write during whose mirroring memory is measured."""
    files: int = 10_000
    repeats: int = 3
    """Of what takes seconds; the best counts."""

    @property
    def day_rows(self) -> int:
        return self.quoted * self.each

    @property
    def quotes(self) -> int:
        return self.day_rows * self.days

    @property
    def bars(self) -> int:
        return self.barred * self.years * 250


FULL = Sizes()
SMALL = Sizes(each=1_000, barred=200, trades=5_000, written=50_000, huge=500_000, files=500, repeats=1)


def one_day(sizes: Sizes) -> tuple[datetime, datetime]:
    """The day of the narrow read, in the middle of the range."""
    start = FIRST_DAY.replace(hour=0, minute=0) + timedelta(days=min(4, sizes.days - 1))
    return start, start + timedelta(days=1)


def all_days(sizes: Sizes) -> tuple[datetime, datetime]:
    start = FIRST_DAY.replace(hour=0, minute=0)
    return start, start + timedelta(days=sizes.days)


def all_years(sizes: Sizes) -> tuple[datetime, datetime]:
    return datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(FIRST_YEAR + sizes.years, 1, 1, tzinfo=UTC)


def neighbours(count: int, *, among: int) -> list[str]:
    """So many symbols around the one that is read, for contenders that hold a part only."""
    place = symbols(among).index(SYMBOL)
    start = max(0, min(place - count // 2, among - count))
    return symbols(among)[start : start + count]


def make_source(folder: Path, sizes: Sizes) -> None:
    """The rows as plain Parquet in order of time, from which every contender loads."""
    for kind in ("quotes", "bars"):
        (folder / kind).mkdir(parents=True)
    for day in range(sizes.days):
        frame = day_of_quotes(day, instruments=sizes.quoted, each=sizes.each)
        frame.write_parquet(quotes_of(folder, day), compression="zstd", compression_level=1)
    for year in range(FIRST_YEAR, FIRST_YEAR + sizes.years):
        frame = year_of_bars(year, instruments=sizes.barred)
        frame.write_parquet(folder / "bars" / f"{year}.parquet", compression="zstd", compression_level=1)
    trades(sizes.trades, instruments=sizes.quoted, days=sizes.days).write_parquet(folder / "trades.parquet")


def quotes_of(folder: Path, day: int) -> Path:
    return folder / "quotes" / f"{day:03}.parquet"


def bars_files(folder: Path) -> Iterator[Path]:
    yield from sorted((folder / "bars").glob("*.parquet"))
