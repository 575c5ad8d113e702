"""Frames of at most as many points as a chart can show."""

import polars as pl

MAX_POINTS = 5_000


def thinned(frame: pl.DataFrame, column: str, *, max_points: int = MAX_POINTS) -> pl.DataFrame:
    """At most `max_points` rows: first, and of each run of rows the last, and the lowest and highest of `column`."""
    if frame.height <= max_points:
        return frame
    size = -(-frame.height // ((max_points - 1) // 3))
    row = pl.int_range(pl.len())
    kept = (
        frame.select(row.alias("row"), (row // size).alias("run"), pl.col(column).alias("value"))
        .group_by("run")
        .agg(
            pl.col("row").last().alias("last"),
            pl.col("row").gather(pl.col("value").arg_min()).first().alias("lowest"),
            pl.col("row").gather(pl.col("value").arg_max()).first().alias("highest"),
        )
    )
    rows = pl.concat([pl.Series([0]), *(kept[name].drop_nulls() for name in ("last", "lowest", "highest"))])
    return frame[rows.unique().sort()]


def merged_bars(bars: pl.DataFrame, *, max_points: int = MAX_POINTS) -> pl.DataFrame:
    """`bars` with runs of neighbours merged, so that at most `max_points` are left; other columns are the first's."""
    size = max(1, -(-bars.height // max_points))
    return (
        bars.group_by((pl.int_range(pl.len()) // size).alias("run"), maintain_order=True)
        .agg(
            pl.exclude("high", "low", "close", "volume").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        .drop("run")
    )
