"""What breaks a rule of its column is a bad row at every door: refused, or set aside with its reason."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.datasets import (
    DATASETS,
    LEVELS,
    POLYMARKET_BOOKS,
    POLYMARKET_TRADES,
    STOCK_BARS,
    STOCK_QUOTES,
    Column,
    Dataset,
    Rule,
)
from medalion.core.errors import InputError
from medalion.core.frames import conform
from medalion.store.store import Store
from tests.support.observed import instruments, sample

RULED = [(dataset, column) for dataset in DATASETS.values() for column in dataset.columns if column.rule]
OUTSIDE = {Rule.PROBABILITY: ("-0.00000001", "1.00000001", "1.7"), Rule.NOT_NEGATIVE: ("-0.00000001", "-1")}
WITHIN = {Rule.PROBABILITY: ("0", "0.5", "1"), Rule.NOT_NEGATIVE: ("0", "0.00000001", "77")}


def with_value(dataset: Dataset, column: Column, value: object) -> pl.DataFrame:
    rows = sample(dataset, 3)
    return rows.with_columns(
        pl.Series(
            column.name,
            [rows[column.name][0], value, rows[column.name][2]],
            dtype=rows.schema[column.name],
            strict=False,
        )
    )


def number(column: Column, text: str) -> Any:
    if column.type == LEVELS:
        return [{"price": Decimal("0.5"), "size": Decimal(1)}, {"price": Decimal(text), "size": Decimal(1)}]
    return int(Decimal(text)) if str(column.type) == "int64" else Decimal(text)


@pytest.mark.parametrize(("dataset", "column"), RULED, ids=lambda each: each.name)
def test_values_are_within_what_is_declared(dataset: Dataset, column: Column) -> None:
    if column.rule in (None, Rule.SIDE):
        return
    for text in WITHIN[column.rule]:
        conform(dataset, with_value(dataset, column, number(column, text)), source="s")
    for text in OUTSIDE[column.rule]:
        if str(column.type) == "int64" and "." in text:
            continue
        with pytest.raises(InputError, match=rf"{dataset.name}\.{column.name} is .* in row 1; expected {column.rule}"):
            conform(dataset, with_value(dataset, column, number(column, text)), source="s")


def test_sizes_of_levels_are_not_negative() -> None:
    bids = next(column for column in POLYMARKET_BOOKS.columns if column.name == "bids")
    with pytest.raises(InputError, match="bids is"):
        conform(
            POLYMARKET_BOOKS,
            with_value(POLYMARKET_BOOKS, bids, [{"price": Decimal(0), "size": Decimal(-1)}]),
            source="s",
        )
    conform(POLYMARKET_BOOKS, with_value(POLYMARKET_BOOKS, bids, []), source="s")


@pytest.mark.parametrize("side", ["buy", "BUY", " Sell ", "sell", None])
def test_a_side_has_one_spelling(side: str | None) -> None:
    rows = sample(POLYMARKET_TRADES, 1).with_columns(side=pl.lit(side, pl.String)).drop("event_id")
    spelled = conform(POLYMARKET_TRADES, rows, source="s")
    plain = None if side is None else side.strip().lower()
    assert spelled["side"].to_list() == [plain]
    again = conform(POLYMARKET_TRADES, rows.with_columns(side=pl.lit(plain, pl.String)), source="s")
    assert spelled["event_id"].to_list() == again["event_id"].to_list()


@pytest.mark.parametrize("side", ["banana", "", "b", "bid"])
def test_what_is_no_side_is_refused(side: str) -> None:
    with pytest.raises(InputError, match=r"polymarket_trades\.side is .* in row 0; expected buy or sell"):
        conform(POLYMARKET_TRADES, sample(POLYMARKET_TRADES, 1).with_columns(side=pl.lit(side)), source="s")


prices = st.integers(-3, 3).map(Decimal)


@given(st.tuples(prices, prices, prices, prices))
def test_a_bar_lies_between_its_low_and_its_high(drawn: tuple[Decimal, Decimal, Decimal, Decimal]) -> None:
    """Whatever the sign: oil has been below nothing."""
    opened, high, low, close = drawn
    rows = sample(STOCK_BARS, 1).with_columns(
        open=pl.lit(opened), high=pl.lit(high), low=pl.lit(low), close=pl.lit(close)
    )
    if low <= min(opened, close) and max(opened, close) <= high:
        assert conform(STOCK_BARS, rows, source="s").height == 1
    else:
        with pytest.raises(InputError, match="expected no more than"):
            conform(STOCK_BARS, rows, source="s")


def test_a_crossed_quote_is_kept() -> None:
    rows = sample(STOCK_QUOTES, 1).with_columns(bid_price=pl.lit(Decimal(5)), ask_price=pl.lit(Decimal(-4)))
    assert conform(STOCK_QUOTES, rows, source="s").height == 1


def test_rows_that_break_a_rule_are_set_aside_with_the_reason(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS, 4)
    bad = rows.with_columns(
        volume=pl.when(pl.int_range(pl.len()) == 1).then(pl.lit(Decimal(-1))).otherwise("volume"),
        low=pl.when(pl.int_range(pl.len()) == 2).then(pl.lit(Decimal(2_000))).otherwise("low"),
    )
    with pytest.raises(InputError, match=r"stock_bars\.volume is -1"):
        store.write(STOCK_BARS, bad)
    with pytest.raises(InputError, match=r"row 2: stock_bars\.volume is -1.*; row 3: stock_bars\.low is 2000"):
        store.import_history(STOCK_BARS, bad)
    result = store.import_history(STOCK_BARS, bad, rejects=tmp_path / "rejects.csv")
    assert (result.rows, result.rejected) == (2, 2)
    reasons = pl.read_csv(tmp_path / "rejects.csv")["reason"].to_list()
    assert reasons == [
        "stock_bars.volume is -1.00000000; expected 0 or more",
        "stock_bars.low is 2000.00000000; expected no more than open",
    ]
