"""What an account was worth at the end of each session, from its cash, what it held and the prices known by then."""

from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from medalion.core.time import TimeRange

DAY = timedelta(days=1)

MONEY = pl.Decimal(38, 8)
TIME = pl.Datetime("us", "UTC")

CASH = pl.Schema({"at": TIME, "amount": MONEY, "flow": MONEY})
"""Money in (positive) or out; `flow` is the part that was deposited or withdrawn."""
CHANGES = pl.Schema({"instrument_id": pl.Int64(), "at": TIME, "units": MONEY, "price": MONEY})
"""Units (quantity × multiplier, signed) that a fill or settlement added to what is held, and its price if any."""
CLOSES = pl.Schema({"instrument_id": pl.Int64(), "at": TIME, "price": MONEY})
"""A price and since when it was known."""
SESSIONS = pl.Schema({"ts": TIME, "end": TIME})
"""The day of each session and its closing edge, both ascending."""
EQUITY = pl.Schema({"ts": TIME, "value": MONEY, "cash": MONEY, "flow": MONEY})


def day_of(moment: datetime) -> datetime:
    """The midnight that began its day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def sessions_of(bars: pl.DataFrame) -> pl.DataFrame:
    """The days (`ts`) on which there is a bar; each ends when the last of its bars was known (`at`)."""
    ends = bars.group_by("ts").agg(end=pl.col("at").max()).sort("ts").with_columns(pl.col("end").cum_max())
    return ends.unique("end", keep="first", maintain_order=True).cast(SESSIONS)


def every_day(first: datetime, last: datetime) -> pl.DataFrame:
    """Every UTC day from that of `first` to that of `last`; each ends at midnight."""
    days = pl.datetime_range(day_of(first), day_of(last), interval="1d", eager=True, time_unit="us").alias("ts")
    return days.to_frame().with_columns(end=pl.col("ts") + DAY).cast(SESSIONS)


def with_opening(sessions: pl.DataFrame, during: TimeRange) -> pl.DataFrame:
    """The sessions whose day is in the range, after the one before them: a day before where there is none.

    Empty if no session is in the range.
    """
    chosen = sessions
    if during.end is not None:
        chosen = chosen.filter(pl.col("ts") < during.end)
    if during.start is not None:
        chosen = chosen.filter(pl.col("ts") >= during.start)
    if chosen.is_empty():
        return chosen
    before = sessions.filter(pl.col("ts") < chosen["ts"][0]).tail(1)
    if before.is_empty():
        before = chosen.head(1).select(pl.col("ts") - DAY, end=pl.col("ts"))
    return pl.concat([before, chosen])


def funded(equity: pl.DataFrame) -> pl.DataFrame:
    """The equity without a flow in its first row; if the account was empty then, its first deposits stand there.

    So the first session's result counts: what was deposited in it was there from its beginning.
    """
    flows = equity["flow"].to_list()
    first = {"flow": Decimal(0)}
    if equity.height > 1 and equity["value"][0] == 0:
        first |= {"value": flows[1], "cash": flows[1]}
        flows[1] = Decimal(0)
    rows = equity.with_columns(pl.Series("flow", flows, dtype=MONEY))
    head = rows.head(1).with_columns(**{name: pl.lit(value, dtype=MONEY) for name, value in first.items()})
    return pl.concat([head, rows.slice(1)])


def equity_by_session(
    sessions: pl.DataFrame, *, cash: pl.DataFrame, changes: pl.DataFrame, closes: pl.DataFrame
) -> pl.DataFrame:
    """`ts`, `value`, `cash` and `flow` of each session; the frames have the schemas above and any order of rows.

    What happens before the closing edge counts, what happens on it belongs to the next session; a price known on the
    edge counts. Holdings are marked with the last price known, of the market or of an own fill; the market's wins
    where both are of one time. Amounts are exact, each holding's worth half-even to 8 places. `flow` is what was
    deposited, less what was withdrawn, since the session before; of the first session, since ever.
    """
    ends = sessions["end"]
    settled = _by_place(cash, ends).group_by("place").agg(pl.col("amount", "flow").sum())
    rows = (
        sessions.select("ts")
        .with_row_index("place")
        .join(settled, on="place", how="left", maintain_order="left")
        .with_columns(pl.col("amount", "flow").fill_null(0))
        .join(_held_values(ends, changes, closes), on="place", how="left", maintain_order="left")
        .with_columns(cash=pl.col("amount").cum_sum(), held=pl.col("held").fill_null(0))
    )
    return rows.select("ts", value=pl.col("cash") + pl.col("held"), cash="cash", flow="flow").cast(EQUITY)


def _held_values(ends: pl.Series, changes: pl.DataFrame, closes: pl.DataFrame) -> pl.DataFrame:
    """`place` of a session and `held`, what everything held at its end is worth; absent where nothing is held."""
    moved = _by_place(changes, ends)
    marks = (
        pl.concat(
            [
                moved.filter(pl.col("price").is_not_null()).select("instrument_id", "place", "at", "price"),
                _by_place(closes, ends, known=True).select("instrument_id", "place", "at", "price"),
            ]
        )
        # Of one time the market's price stays, also where the fill on an edge belongs to the next session.
        .unique(["instrument_id", "at"], keep="last", maintain_order=True)
        .sort("at", maintain_order=True)
        .group_by("instrument_id", "place", maintain_order=True)
        .agg(pl.col("price").last())
    )
    held = moved.group_by("instrument_id", "place").agg(pl.col("units").sum())
    grid = (
        held.select("instrument_id")
        .unique()
        .join(pl.DataFrame({"place": pl.int_range(len(ends), dtype=pl.UInt32, eager=True)}), how="cross")
    )
    return (
        grid.join(held, on=["instrument_id", "place"], how="left")
        .join(marks, on=["instrument_id", "place"], how="left")
        .sort("instrument_id", "place")
        .with_columns(
            pl.col("units").fill_null(0).cum_sum().over("instrument_id"),
            pl.col("price").forward_fill().over("instrument_id"),
        )
        .filter(pl.col("units") != 0)
        .group_by("place")
        .agg((pl.col("units") * pl.col("price")).sum().alias("held"))
    )


def _by_place(rows: pl.DataFrame, ends: pl.Series, *, known: bool = False) -> pl.DataFrame:
    """The rows with the `place` of the session they fall in, without those after the last."""
    place = ends.search_sorted(rows["at"], side="left" if known else "right")
    return rows.with_columns(pl.Series("place", place, dtype=pl.UInt32)).filter(pl.col("place") < len(ends))
