"""chDB, ClickHouse in a process, over the lake's own Parquet files."""

from datetime import datetime
from pathlib import Path
from typing import Any

import chdb  # type: ignore[import-not-found]  # lives in the benchmark's own environment

from benchmarks.lake.processes import Contender, serve


class ClickHouse(Contender):
    packages = ("chdb",)

    def load(self, day: dict[str, Any], files: list[str]) -> None:
        start, end = (datetime.fromisoformat(day[name]).strftime("%Y-%m-%d %H:%M:%S") for name in ("start", "end"))
        one_day = f"""
            SELECT * FROM {_files(day["paths"])}
            WHERE instrument_id = {int(day["instrument"])} AND source = '{day["source"]}'
              AND ts >= toDateTime64('{start}', 6, 'UTC') AND ts < toDateTime64('{end}', 6, 'UTC')
        """  # noqa: S608 - numbers and paths of this run's own lake
        minutes = f"""
            SELECT symbol, toStartOfMinute(ts) AS minute, argMin(bid_price, ts) AS open, max(bid_price) AS high,
                   min(bid_price) AS low, argMax(bid_price, ts) AS close, count() AS quotes
            FROM {_files(files)} GROUP BY symbol, minute
        """  # noqa: S608 - paths of this run's own lake
        session = chdb.connect()
        self.works = {
            "symbol_day": (lambda: session.query(one_day, "ArrowTable"), _bids),
            "minute_bars": (lambda: session.query(minutes, "ArrowTable"), _extremes),
        }


def _files(paths: list[str]) -> str:
    """The files by name, whatever day they are of: a list of alternatives must not hold a slash."""
    root = Path(paths[0]).parent.parent
    return f"file('{root}/period=*/{{{','.join(Path(path).name for path in paths)}}}', Parquet)"


def _sum(table: Any, name: str) -> float:
    return float(sum(value for value in table.column(name).to_pylist()))


def _bids(table: Any) -> tuple[int, float]:
    return table.num_rows, _sum(table, "bid_price")


def _extremes(table: Any) -> tuple[int, float]:
    return table.num_rows, _sum(table, "high") + _sum(table, "low")


if __name__ == "__main__":
    serve(ClickHouse())
