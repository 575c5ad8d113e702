"""What there is of each series, without a look at its rows: kept batch by batch, beside the note that a batch is done.

A span is a series with the times between which its rows lie and how many there are at most. It is exact as long as no
row can have corrected another: all rows of a batch lie at times of their own, and after or before all that were known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from psycopg import RawCursor, sql

from medalion.core.datasets import Dataset
from oltp.server.engine import Connection, one

OF_SERIES = ("instrument_id", "source")
KEY = (*OF_SERIES, "timeframe")
SPANS = pl.Schema(
    {
        "instrument_id": pl.Int64(),
        "source": pl.String(),
        "timeframe": pl.String(),
        "symbol": pl.String(),
        "first_ts": pl.Datetime("us", "UTC"),
        "last_ts": pl.Datetime("us", "UTC"),
        "rows": pl.Int64(),
        "is_exact": pl.Boolean(),
        "is_stale": pl.Boolean(),
    }
)
UNCOUNTED = -1
"""What `counted` is of a dataset whose series have to be counted from the lake."""


@dataclass(frozen=True, slots=True)
class CountedSeries:
    """The spans of a dataset up to the batch `counted`, and those of the rows after it; `names` are those of today.

    They are whole unless a batch after `counted` was an import, or its hot rows are gone.
    """

    spans: pl.DataFrame
    unmirrored: pl.DataFrame
    names: pl.DataFrame
    counted: int
    is_whole: bool


def columns_of(dataset: Dataset) -> list[str]:
    """The stored columns that `spans_of` looks at."""
    event = ["event_id"] if "event_id" in dataset.key else []
    timeframe = ["timeframe"] if dataset.has_timeframe else []
    return ["instrument_id", "source", *timeframe, "symbol", "ts", *event, "is_deleted"]


def spans_of(dataset: Dataset, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The spans of stored rows."""
    moment = pl.col("ts").hash()
    if "event_id" in dataset.key:
        moment = moment ^ pl.col("event_id").hash(1)
    timeframe = pl.col("timeframe") if dataset.has_timeframe else pl.lit("").alias("timeframe")
    return (
        rows.select(timeframe, "instrument_id", "source", "symbol", "ts", "is_deleted", moment=moment)
        .group_by(KEY)
        .agg(
            symbol=pl.col("symbol").last(),
            first_ts=pl.col("ts").min(),
            last_ts=pl.col("ts").max(),
            rows=(~pl.col("is_deleted")).sum().cast(pl.Int64),
            is_exact=(pl.col("moment").n_unique() == pl.len()) & ~pl.col("is_deleted").any(),
            is_stale=pl.col("is_deleted").any(),
        )
        .select(SPANS.names())
    )


def joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The spans of what several parts hold together, later ones naming the symbol."""
    parts = [part for part in parts if part.height]
    if len(parts) < 2:
        return parts[0] if parts else pl.DataFrame(schema=SPANS)
    names = pl.concat(parts).group_by(KEY).agg(pl.col("symbol").last())
    before = pl.col("last_ts").cum_max().shift().over(KEY)
    ordered = pl.concat(parts).sort(*KEY, "first_ts")
    return (
        ordered.with_columns(is_apart=(pl.col("first_ts") > before).fill_null(True))
        .group_by(KEY)
        .agg(
            first_ts=pl.col("first_ts").min(),
            last_ts=pl.col("last_ts").max(),
            rows=pl.col("rows").sum(),
            is_exact=(pl.col("is_exact") & pl.col("is_apart")).all(),
            is_stale=pl.col("is_stale").any(),
        )
        .join(names, on=KEY)
        .select(SPANS.names())
    )


def count_batch(connection: Connection, dataset: Dataset, number: int, spans: pl.DataFrame | None) -> None:
    """Add the spans of a batch to what is known, in the transaction that notes it and before the note.

    Without `spans`, as after a crash, they come from its hot rows, and so do those of batches that were noted while
    another counted. Where these are gone nothing is known any more, and a look counts the lake.
    """
    row = connection.execute(
        "SELECT counted, floor, newest_import FROM mirror_state WHERE dataset = %s FOR UPDATE", (dataset.name,)
    ).fetchone()
    counted, floor, newest_import = one(row)
    before = number if spans is None else number - 1
    if not 0 <= counted <= before or (counted < before and not _is_whole(counted, floor, newest_import)):
        return
    if counted < before:
        _enter(connection, dataset, _hot_spans(connection, dataset, counted, before), sql.SQL(_ADDED))
    if spans is not None:
        _enter(connection, dataset, spans, sql.SQL(_ADDED))
    connection.execute("UPDATE mirror_state SET counted = %s WHERE dataset = %s", (number, dataset.name))


def _is_whole(counted: int, floor: int, newest_import: int) -> bool:
    """Whether all that is not counted lies in hot tables."""
    return counted >= max(floor, newest_import, 0)


def keep_counted(
    connection: Connection, dataset: Dataset, spans: pl.DataFrame, *, counted: int, of: pl.DataFrame | None = None
) -> None:
    """Keep spans that were counted from the lake's rows up to a batch, unless another has been counted meanwhile.

    They are the whole of what the instruments and sources `of` have; of the dataset where that is None.
    """
    with connection.transaction():
        row = connection.execute(
            "SELECT counted, floor, newest_import FROM mirror_state WHERE dataset = %s FOR UPDATE", (dataset.name,)
        ).fetchone()
        held, floor, newest_import = one(row)
        is_known = _is_whole(held, floor, newest_import)
        if (is_known if of is None else held != counted) or not _is_whole(counted, floor, newest_import):
            return
        if of is None:
            connection.execute("DELETE FROM series_coverage WHERE dataset = %s", (dataset.name,))
            connection.execute("UPDATE mirror_state SET counted = %s WHERE dataset = %s", (counted, dataset.name))
        else:
            _forget(connection, dataset, of)
        _enter(connection, dataset, spans, sql.SQL("NOTHING"))


def forget_counts(connection: Connection, dataset: Dataset) -> None:
    """Have every series counted from the lake when somebody asks."""
    connection.execute("DELETE FROM series_coverage WHERE dataset = %s", (dataset.name,))
    connection.execute("UPDATE mirror_state SET counted = %s WHERE dataset = %s", (UNCOUNTED, dataset.name))


def mark_removed(connection: Connection, dataset: Dataset) -> None:
    """What the removal at hand may have taken is counted when somebody asks, or begins where the rows are kept from."""
    connection.execute(
        """UPDATE series_coverage AS held SET
               is_stale = is_stale OR lost OR last_ts < kept_from OR timeframe ~ '(Day|Week|Month)$',
               first_ts = greatest(first_ts, CASE WHEN lost THEN first_ts ELSE least(kept_from, last_ts) END),
               is_exact = false
           FROM (SELECT dataset, kept_from, (removal->>'lost')::boolean AS lost, (removal->>'drops')::boolean AS drops
                 FROM mirror_state WHERE dataset = %s) AS state
           WHERE held.dataset = state.dataset AND (lost OR drops AND first_ts < kept_from)""",
        (dataset.name,),
    )


_ADDED = """UPDATE SET
    symbol = excluded.symbol,
    first_ts = least(held.first_ts, excluded.first_ts), last_ts = greatest(held.last_ts, excluded.last_ts),
    rows = held.rows + excluded.rows, is_stale = held.is_stale OR excluded.is_stale,
    is_exact = held.is_exact AND excluded.is_exact
        AND (excluded.first_ts > held.last_ts OR excluded.last_ts < held.first_ts)"""


def _enter(connection: Connection, dataset: Dataset, spans: pl.DataFrame, otherwise: sql.SQL) -> None:
    statement = sql.SQL(
        """INSERT INTO series_coverage AS held (dataset, instrument_id, source, timeframe, symbol, first_ts, last_ts,
                                                rows, is_exact, is_stale)
           SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
                                    %s::timestamptz[], %s::bigint[], %s::boolean[], %s::boolean[])
           ON CONFLICT (dataset, instrument_id, source, timeframe) DO {}"""
    ).format(otherwise)
    if spans.height:
        # In the order of the key, so that two that count never wait for each other in a ring.
        ordered = spans.sort(KEY)
        connection.execute(statement, (dataset.name, *(ordered[name].to_list() for name in SPANS)))


def _forget(connection: Connection, dataset: Dataset, series: pl.DataFrame) -> None:
    connection.execute(
        """DELETE FROM series_coverage AS held USING unnest(%s::bigint[], %s::text[]) AS counted (instrument_id, source)
           WHERE held.dataset = %s AND held.instrument_id = counted.instrument_id AND held.source = counted.source""",
        (*(series[name].to_list() for name in OF_SERIES), dataset.name),
    )


def counted_series(connection: Any, dataset: Dataset) -> CountedSeries:
    """What is known of a dataset's series, through an Arrow connection.

    One statement, alone and in READ COMMITTED: it locks the hot slots first and takes its snapshot then, so that rows
    are either counted or unmirrored, whatever is noted and emptied meanwhile.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, SPANS))
    statement = sql.SQL(
        """WITH state AS (SELECT counted, floor, newest_import FROM mirror_state WHERE dataset = $1::text),
                held AS (SELECT false AS is_hot, {names} FROM series_coverage WHERE dataset = $1::text
                         UNION ALL SELECT true, hot.* FROM ({hot}) AS hot)
           SELECT state.*, held.*, named.symbol AS name FROM state LEFT JOIN held ON true
                  LEFT JOIN instruments AS named ON named.instrument_id = held.instrument_id"""
    ).format(names=names, hot=_of_hot_rows(dataset, sql.SQL("(batch IS NULL OR batch > (SELECT counted FROM state))")))
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(None), (dataset.name,))
        rows = pl.DataFrame(cursor.fetch_arrow_table())
    counted, floor, newest_import = rows.select("counted", "floor", "newest_import").row(0)
    found = rows.filter(pl.col("instrument_id").is_not_null())
    spans = found.select("is_hot", *(pl.col(name).cast(kind) for name, kind in SPANS.items()))
    return CountedSeries(
        spans.filter(~pl.col("is_hot")).drop("is_hot"),
        spans.filter("is_hot").drop("is_hot"),
        found.select("instrument_id", "name").unique("instrument_id"),
        counted,
        _is_whole(counted, floor, newest_import),
    )


def _hot_spans(connection: Connection, dataset: Dataset, after: int, until: int) -> pl.DataFrame:
    """The spans of the batches after one and until another, whose rows lie in the hot table."""
    statement = _of_hot_rows(dataset, sql.SQL("batch > $2::bigint AND batch <= $3::bigint"))
    with RawCursor(connection) as cursor:
        rows = cursor.execute(statement, (dataset.name, after, until)).fetchall()
    return pl.DataFrame(rows, schema=SPANS, orient="row")


def _of_hot_rows(dataset: Dataset, batches: sql.Composable) -> sql.Composed:
    return sql.SQL(
        """SELECT instrument_id, source, {timeframe} AS timeframe, max(symbol) AS symbol,
                  min(ts) AS first_ts, max(ts) AS last_ts, count(*) FILTER (WHERE NOT is_deleted) AS rows,
                  count(DISTINCT ts) = count(*) AND NOT bool_or(is_deleted) AS is_exact, bool_or(is_deleted) AS is_stale
           FROM {table} WHERE write_id = ANY(ARRAY(
               SELECT id FROM writes WHERE dataset = $1::text AND kind = 'hot' AND {batches}))
           GROUP BY 1, 2, 3"""
    ).format(
        timeframe=sql.SQL("timeframe" if dataset.has_timeframe else "''::text"),
        table=sql.Identifier(dataset.name),
        batches=batches,
    )
