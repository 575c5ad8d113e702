"""What a store holds, on one card: a line a dataset, for notebooks and the command line."""

from html import escape

import polars as pl

_NAMED = 4
_STYLE = "text-align:left;padding:2px 12px 2px 0"


def card(coverage: pl.DataFrame) -> pl.DataFrame:
    """A row a dataset that has rows: how many symbols and which, first and last date, rows, sources, timeframes.

    A number of rows with `≤` is an upper bound, as `coverage` says of its series.

    >>> from medalion.observations.coverage import COVERAGE
    >>> card(pl.DataFrame(schema=COVERAGE)).columns
    ['dataset', 'symbols', 'first', 'last', 'rows', 'sources', 'timeframes']
    """
    by_dataset = coverage.group_by("dataset", maintain_order=True).agg(
        symbols=pl.col("symbol").unique().sort(),
        first=pl.col("first").min().dt.date(),
        last=pl.col("last").max().dt.date(),
        rows=pl.col("rows").sum(),
        is_exact=pl.col("is_exact").all(),
        sources=pl.col("source").unique().sort(),
        timeframes=pl.col("timeframe").drop_nulls().unique(maintain_order=True),
    )
    lines = [
        row
        | {
            "symbols": _some(row["symbols"]),
            "rows": f"{'' if row['is_exact'] else '≤ '}{row['rows']:,}",
            "sources": _some(row["sources"]),
            "timeframes": ", ".join(row["timeframes"]) or None,
        }
        for row in by_dataset.iter_rows(named=True)
    ]
    return pl.DataFrame([{name: line[name] for name in _CARD} for line in lines], schema=_CARD)


_CARD = {
    "dataset": pl.String(),
    "symbols": pl.String(),
    "first": pl.Date(),
    "last": pl.Date(),
    "rows": pl.String(),
    "sources": pl.String(),
    "timeframes": pl.String(),
}


def _some(names: list[str]) -> str:
    """The first few, and how many there are if they are more."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} … {len(names):,} in all"


def html(title: str, lines: pl.DataFrame | None) -> str:
    """The card as a notebook shows it; without lines only its title."""
    shown = "" if lines is None else _table(lines) if lines.height else "<p>no rows yet</p>"
    return f"<div><b>{escape(title)}</b>{shown}</div>"


def _table(lines: pl.DataFrame) -> str:
    head = "".join(f'<th style="{_STYLE}">{escape(name)}</th>' for name in lines.columns)
    rows = (
        "".join(f'<td style="{_STYLE}">{escape("" if cell is None else str(cell))}</td>' for cell in row)
        for row in lines.iter_rows()
    )
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
