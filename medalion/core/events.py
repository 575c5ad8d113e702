"""The id of an event whose vendor gives none: a hash of its values, by which a re-delivery is the same event.

Equal prints are told apart: three fills of one size at one price in one moment are three rows. The first of them keeps
the plain hash, the others have one of their place among equals too, so that the same file gives the same ids again.
"""

from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa

from medalion.core.checksum import Words, row_hashes
from medalion.core.datasets import EVENT_ID, Dataset


def with_event_ids(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, each with an id; equal prints among them have different ones."""
    is_missing = rows[EVENT_ID.name].is_null()
    if not is_missing.any():
        return rows
    words = _words(dataset, rows)
    if dataset.print_id is not None:
        words = _of_place(words, _places(dataset, rows, words, is_missing))
    own = pl.Series(EVENT_ID.name, words.view("int64"))
    return rows.with_columns(pl.coalesce(pl.col(EVENT_ID.name), own).alias(EVENT_ID.name))


class RepeatedPrints:
    """Tells equal prints of one file apart whose rows come in pieces, each of which has ids of its own."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._seen: list[tuple[datetime, datetime, pl.Series]] = []

    def told_apart(self, rows: pl.DataFrame, *, begins: bool) -> pl.DataFrame:
        """The next rows of a file, or the first of another, with ids that none of the rows before them has."""
        if self._dataset.print_id is None or rows.is_empty():
            return rows
        if begins:
            self._seen = []
        words = _words(self._dataset, rows)
        places = _places(self._dataset, rows, words, pl.repeat(True, rows.height, eager=True))
        has_own = rows[EVENT_ID.name] == pl.Series(_of_place(words, places).view("int64"))
        has_own &= rows[self._dataset.print_id].is_null()
        named = pa.table({name: rows[name].to_arrow() for name in ("symbol", "ts")})
        keys = pl.Series("key", row_hashes(named, ["symbol", "ts"], after=words))
        first, last = rows.select(first=pl.col("ts").min(), last=pl.col("ts").max()).row(0)
        near = [held for start, end, held in self._seen if start <= last and first <= end]
        self._seen.append((first, last, keys.filter(has_own)))
        if not near:
            return rows
        counts = pl.concat(near).to_frame("key").join(keys.to_frame(), on="key", how="semi").group_by("key").len()
        before = keys.to_frame().join(counts, on="key", how="left", maintain_order="left")["len"].fill_null(0)
        again = has_own & (before > 0)
        if not again.any():
            return rows
        told = pl.Series(_of_place(words, places + before.cast(pl.Int64)).view("int64"))
        return rows.with_columns(told.zip_with(again, rows[EVENT_ID.name]).alias(EVENT_ID.name))


def _words(dataset: Dataset, rows: pl.DataFrame) -> Words:
    names = [column.name for column in dataset.values]
    return row_hashes(rows.select(names).to_arrow(), names)


def _places(dataset: Dataset, rows: pl.DataFrame, words: Words, is_missing: pl.Series) -> pl.Series:
    """The place of each print among those that are equal to it; 0 of what has an id."""
    has_id = ~is_missing | rows[str(dataset.print_id)].is_not_null()
    equal = rows.select("symbol", "ts", word=pl.Series(words), has_id=has_id)
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("symbol", "ts", "word", "has_id")
    return equal.select(pl.when(has_id).then(0).otherwise(place).alias("place")).to_series()


def _of_place(words: Words, places: pl.Series) -> Words:
    if not (places > 0).any():
        return words
    table = pa.table({"place": places.cast(pl.Int64).to_arrow()})
    return np.where(places.to_numpy() > 0, row_hashes(table, ["place"], after=words), words)
