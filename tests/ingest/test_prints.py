"""Equal prints are several, in one file as in one frame, and the same file again is the same prints."""

import itertools
from pathlib import Path
from unittest.mock import patch

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from medalion.core.datasets import POLYMARKET_TRADES, STOCK_QUOTES
from medalion.core.events import RepeatedPrints
from medalion.core.frames import conform
from medalion.ingest import sources
from medalion.store.store import Store
from tests.support.observed import instruments, sample

ONE = sample(POLYMARKET_TRADES, 1).with_columns(trade_id=pl.lit(None, pl.String)).drop("event_id")


def test_three_equal_prints_are_three_however_often_they_come(store: Store, tmp_path: Path) -> None:
    instruments(store, POLYMARKET_TRADES.kind, ("AAA",))
    path = tmp_path / "prints.parquet"
    pl.concat([ONE] * 3).write_parquet(path)
    for number, piece in enumerate((100, 2, 1)):
        with patch.object(sources, "PIECE_ROWS", piece):
            result = store.import_history(POLYMARKET_TRADES, path)
        assert (result.rows, result.stored, result.unchanged) == (3, 0 if number else 3, 3 if number else 0)
    store.write(POLYMARKET_TRADES, pl.concat([ONE] * 2))
    store.import_history(POLYMARKET_TRADES, [path, path])  # of two files each says the same
    assert store.read(POLYMARKET_TRADES).height == 3
    assert store.import_history(POLYMARKET_TRADES, pl.concat([ONE] * 4)).stored == 1


def test_the_first_keeps_the_plain_hash_and_what_has_an_id_is_one() -> None:
    plain = conform(POLYMARKET_TRADES, ONE, source="s")["event_id"]
    assert conform(POLYMARKET_TRADES, pl.concat([ONE] * 3), source="s")["event_id"][0] == plain[0]
    with_id = ONE.with_columns(trade_id=pl.lit("t1"))
    assert conform(POLYMARKET_TRADES, pl.concat([with_id] * 2), source="s")["event_id"].n_unique() == 1
    given_id = ONE.with_columns(event_id=pl.lit(7))
    assert conform(POLYMARKET_TRADES, pl.concat([given_id] * 2), source="s")["event_id"].to_list() == [7, 7]
    quote = sample(STOCK_QUOTES, 1).drop("event_id")
    assert conform(STOCK_QUOTES, pl.concat([quote] * 2), source="s")["event_id"].n_unique() == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=12), st.data())
def test_pieces_of_a_file_give_the_ids_of_the_whole(drawn: list[tuple[int, bool]], data: st.DataObject) -> None:
    rows = pl.concat([ONE] * len(drawn)).with_columns(
        ts=pl.Series([ONE["ts"][0]] * len(drawn)) + pl.Series([place for place, _ in drawn]) * pl.duration(seconds=1),
        trade_id=pl.Series(["t" if has_id else None for _, has_id in drawn], dtype=pl.String),
    )
    whole = conform(POLYMARKET_TRADES, rows, source="s")["event_id"].to_list()
    cut = data.draw(st.lists(st.integers(0, len(drawn)), max_size=4))
    places, prints, found = sorted({0, *cut, len(drawn)}), RepeatedPrints(POLYMARKET_TRADES), []
    for start, end in itertools.pairwise(places):
        piece = conform(POLYMARKET_TRADES, rows[start:end], source="s")
        found += prints.told_apart(piece, begins=start == 0)["event_id"].to_list()
    assert found == whole
