"""What the values of a row have to obey, checked over all rows at once; `Dataset` and `Column` declare it."""

import polars as pl

from medalion.core.datasets import LEVELS, Column, Dataset, Rule
from medalion.core.decimals import OnBad
from medalion.core.enums import TradeSide

_SIDES = {side.value: side.value for side in TradeSide}


def spelled_side(series: pl.Series, where: str, on_bad: OnBad) -> pl.Series:
    """Each side as it is spelled here, whatever its case; null where it is none."""
    known = series.str.strip_chars().str.to_lowercase().replace_strict(_SIDES, default=None, return_dtype=pl.String)
    on_bad(known.is_null() & series.is_not_null(), where, series, f"expected {Rule.SIDE}")
    return known


def check_rules(dataset: Dataset, rows: pl.DataFrame, on_bad: OnBad) -> None:
    """Tell `on_bad` of the rows whose values break a rule of the dataset, a rule at a time; a null breaks none."""
    broken = {
        (column.name, f"expected {column.rule}"): _breaks(column, column.rule)
        for column in dataset.columns
        if column.rule not in (None, Rule.SIDE)
    }
    broken |= {
        (lower, f"expected no more than {upper}"): pl.col(lower) > pl.col(upper) for lower, upper in dataset.bounds
    }
    if not broken or rows.is_empty():
        return
    # Nearly always none is: that is found out in one pass, by all cores.
    found = rows.select(expression.any().alias(str(place)) for place, expression in enumerate(broken.values())).row(0)
    for (name, expected), expression, is_broken in zip(broken, broken.values(), found, strict=True):
        if is_broken:
            bad = rows.select(expression.fill_null(False).alias(name)).to_series()
            on_bad(bad, f"{dataset.name}.{name}", rows[name], expected)


def _breaks(column: Column, rule: Rule | None) -> pl.Expr:
    value = pl.col(column.name)
    if column.type == LEVELS:
        price, size = (pl.element().struct.field(name) for name in ("price", "size"))
        return value.list.eval(_outside(price, rule) | _outside(size, Rule.NOT_NEGATIVE)).list.any()
    return _outside(value, rule)


def _outside(value: pl.Expr, rule: Rule | None) -> pl.Expr:
    is_negative = value < 0
    return is_negative | (value > 1) if rule is Rule.PROBABILITY else is_negative
