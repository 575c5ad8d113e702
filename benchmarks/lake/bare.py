"""The engines without the store: the least that the same work costs on the same files, tables and driver."""

import time
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import duckdb
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi
from anyio import to_thread
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.lake.ours import MINUTE_BARS, bid, bids, closes, extremes
from benchmarks.lake.processes import Contender, forget_peak, memory_mb, serve
from benchmarks.lake.sizes import Sizes, quotes_of

_PIECE = 1 << 20
_AS_CSV = "COPY (SELECT {} FROM crypto_quote_snapshots) TO STDOUT (FORMAT csv, HEADER)"
_SCALED = ("bid_price", "bid_size", "ask_price", "ask_size")


class Bare(Contender):
    packages = ("polars", "duckdb", "psycopg", "adbc-driver-postgresql")

    def open(self, folder: str, source: str, libpq: str) -> None:
        self._folder, self._source, self._libpq = Path(folder), Path(source), libpq
        self._folder.mkdir(exist_ok=True)
        self._pool = ConnectionPool(libpq, min_size=1, kwargs={"autocommit": True}, open=True)

    def sink(self, day: int) -> float:
        """Seconds to write a day of quotes in memory to one Parquet file."""
        frame = pl.read_parquet(quotes_of(self._source, day))
        target = self._folder / f"{day:03}.parquet"
        started = time.perf_counter()
        frame.lazy().sink_parquet(target, compression="zstd", compression_level=1)
        return time.perf_counter() - started

    def load(self, questions: dict[str, dict[str, Any]], files: list[str], sizes: dict[str, int]) -> None:
        """Ready for reads: narrow ones of the lake's files, wide ones of them and of one ideal file."""
        given = Sizes(**sizes)
        ideal = str(self._folder / "ideal.parquet")
        everything = [str(quotes_of(self._source, day)) for day in range(given.days)]
        self._duckdb = connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        connection.read_parquet(everything).create_view("source")
        connection.execute(
            "COPY (FROM source ORDER BY symbol, ts) TO $target (FORMAT parquet, COMPRESSION zstd)", {"target": ideal}
        )
        connection.read_parquet(ideal).create_view("stock_quote_snapshots")
        connection.read_parquet(files).create_view("quotes")
        connection.read_parquet(str(self._source / "trades.parquet")).to_table("trades")
        joined = """SELECT trades.*, quotes.* EXCLUDE (symbol, ts) FROM trades ASOF LEFT JOIN quotes
                    ON trades.symbol = quotes.symbol AND trades.ts >= quotes.ts"""
        for work, question in questions.items():
            self.works[work] = (_scan(question), closes if question["timeframe"] else bids)
        self._key = {
            "instrument_id": questions["symbol_day"]["instrument"],
            "source": questions["symbol_day"]["source"],
        }
        self.works |= {
            "minute_bars": (lambda: connection.sql(MINUTE_BARS).pl(), extremes),
            "asof": (lambda: connection.sql(joined).pl(), bids),
            "latest": (self._latest, bid),
        }

    def _latest(self) -> dict[str, Any] | None:
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(_BY_KEY, self._key).fetchone()

    def latest_async(self, times: int) -> list[float]:
        """Seconds of each look-up awaited as the store does it: the blocking driver in a thread."""

        async def run() -> list[float]:
            return await _timed(lambda: to_thread.run_sync(self._latest), times)

        return anyio.run(run)

    def latest_native(self, times: int) -> list[float]:
        """The same through the driver's own async connections."""

        async def run() -> list[float]:
            async with AsyncConnectionPool(self._libpq, min_size=1, kwargs={"autocommit": True}, open=False) as pool:

                async def look() -> None:
                    async with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
                        await (await cursor.execute(_BY_KEY, self._key)).fetchone()

                return await _timed(look, times)

        return anyio.run(run)

    def copy(self, write_id: int) -> float:
        """Seconds to COPY a write's rows, made ready as text in the order of the table, into an empty twin of it."""
        with psycopg.connect(self._libpq, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS twin")
            connection.execute("CREATE TABLE twin (LIKE crypto_quote_snapshots INCLUDING ALL) PARTITION BY LIST (slot)")
            for slot in range(8):
                name = sql.Identifier(f"twin_{slot}")
                connection.execute(sql.SQL("CREATE TABLE {} PARTITION OF twin FOR VALUES IN ({})").format(name, slot))
            rows = sql.SQL("COPY (SELECT * FROM crypto_quote_snapshots WHERE write_id = {}) TO STDOUT").format(write_id)
            with connection.cursor() as cursor, cursor.copy(rows) as out:
                text = memoryview(b"".join(out))
            connection.execute("CHECKPOINT")
            started = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy("COPY twin FROM STDIN") as copy:
                for start in range(0, len(text), _PIECE):
                    copy.write(text[start : start + _PIECE])
            seconds = time.perf_counter() - started
            connection.execute("DROP TABLE twin")
        return seconds

    def export(self) -> dict[str, float]:
        """Seconds to write every unmirrored quote of coins to one Parquet file, in the faster of two ways."""
        taken = {}
        for name, way in (("ADBC", self._through_adbc), ("CSV", self._through_csv)):
            idle = memory_mb("VmRSS")
            forget_peak()
            started = time.perf_counter()
            rows = way(self._folder / f"{name}.parquet")
            taken[name] = (time.perf_counter() - started, rows, memory_mb("VmHWM") - idle)
        seconds, rows, peak = min(taken.values())
        return {"seconds": seconds, "rows": rows, "peak_mb": peak, **{name: each[0] for name, each in taken.items()}}

    def _through_adbc(self, target: Path) -> int:
        """COPY as Arrow, decimals as whole numbers of 64 bits: the driver reads `numeric` as text."""
        scaled = ", ".join(f"({name} * 100000000)::int8 AS {name}" for name in _SCALED)
        query = f"SELECT {_OTHERS}, {scaled} FROM crypto_quote_snapshots"  # noqa: S608 - constants of this module
        rows = 0
        with dbapi.connect(self._libpq) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            writer = None
            for batch in cursor.fetch_record_batch():
                frame = pl.DataFrame(pa.Table.from_batches([batch])).with_columns(
                    pl.col(*_SCALED).cast(pl.Int128).reinterpret(dtype=pl.Decimal(18, 8))
                )
                table = frame.to_arrow()
                writer = writer or pq.ParquetWriter(
                    target, table.schema, compression="zstd", compression_level=1, store_decimal_as_integer=True
                )
                writer.write_table(table)
                rows += table.num_rows
            if writer:
                writer.close()
        return rows

    def _through_csv(self, target: Path) -> int:
        query = _AS_CSV.format(f"{_OTHERS}, {', '.join(_SCALED)}")
        with psycopg.connect(self._libpq) as connection, connection.cursor() as cursor, cursor.copy(query) as out:
            text = BytesIO(b"".join(out))
        prices = dict.fromkeys(_SCALED, pl.Decimal(18, 8))
        frame = pl.read_csv(text, schema_overrides=prices | {"ts": pl.String})
        frame = frame.with_columns(pl.col("ts").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", time_unit="us"))
        frame.write_parquet(target, compression="zstd", compression_level=1)
        return frame.height


_OTHERS = "symbol, ts, event_id, source, instrument_id, write_id, ordinal, is_deleted"
_BY_KEY = """
    SELECT symbol, ts, bid_price, bid_size, ask_price, ask_size, event_id, available_at, source, instrument_id,
           write_id, ordinal, recorded_at
    FROM stock_quote_snapshots_last WHERE instrument_id = %(instrument_id)s AND source = %(source)s
"""


def _scan(question: dict[str, Any]) -> Callable[[], pl.DataFrame]:
    """The same files and the same filter."""
    start, end = (datetime.fromisoformat(question[name]) for name in ("start", "end"))
    paths = question["paths"]
    wanted = (
        (pl.col("source") == question["source"])
        & (pl.col("instrument_id") == question["instrument"])
        & (pl.col("ts") >= start)
        & (pl.col("ts") < end)
    )
    if question["timeframe"]:
        wanted &= pl.col("timeframe") == question["timeframe"]
    return lambda: pl.scan_parquet(paths, hive_partitioning=False, glob=False).filter(wanted).collect()


async def _timed(work: Callable[[], Any], times: int) -> list[float]:
    taken = []
    for _ in range(times + 5):
        started = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - started)
    return taken[5:]


if __name__ == "__main__":
    serve(Bare())
