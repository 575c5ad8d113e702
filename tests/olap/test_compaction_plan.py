"""Which files of a partition are worth rewriting: few at a time, and nothing twice."""

import random

import polars as pl
import pytest

from olap.delta import compaction
from olap.files import layout
from olap.files.index import Files


def files_of(*rows: tuple[int, int, int, int, int, bool]) -> Files:
    """Files of one partition from (rows, first and last instrument, first and last ts, compact)."""
    names = ("rows", "first_instrument", "last_instrument", "first_ts", "last_ts", "is_compact")
    frame = pl.DataFrame(rows, schema=names, orient="row").with_row_index("path")
    given = {"period": pl.lit("2024-03-01"), "bytes": pl.lit(1), "added_at": pl.lit(0), "is_clean": pl.lit(True)}
    return Files.of(frame.with_columns(**given))


def test_what_is_large_and_apart_is_left_alone() -> None:
    large = compaction.FILE_ROWS
    apart = files_of((large, 1, 9, 0, 9, True), (large, 1, 9, 10, 19, True), (5, 1, 9, 20, 29, False))
    assert compaction.worthwhile(apart) is None
    two_small = files_of((large, 1, 9, 0, 9, True), (5, 1, 9, 20, 24, False), (5, 1, 9, 25, 29, True))
    chosen = compaction.worthwhile(two_small)
    assert chosen is not None
    assert chosen.path.tolist() == [1, 2]
    late = files_of((large, 1, 4, 0, 9, True), (large, 5, 9, 0, 9, True), (5, 6, 6, 3, 3, False))
    chosen = compaction.worthwhile(late)
    assert chosen is not None
    assert chosen.path.tolist() == [1, 2]
    between = files_of((5, 1, 1, 0, 9, False), (large, 4, 5, 0, 9, True), (5, 9, 9, 0, 9, False))
    chosen = compaction.worthwhile(between)
    assert chosen is not None
    assert chosen.path.tolist() == [0, 1, 2]


def test_a_partition_still_written_to_is_rewritten_by_files_of_similar_size() -> None:
    fewest = compaction.FEWEST_FILES
    news = [(10, 1, 9, 10 * n, 10 * n + 9, False) for n in range(fewest)]
    assert compaction.worthwhile_meanwhile(files_of(*news[1:])) is None
    chosen = compaction.worthwhile_meanwhile(files_of(*news, (1_000, 1, 9, -9, -1, True)))
    assert chosen is not None
    assert set(chosen.rows.tolist()) == {10}
    chosen = compaction.worthwhile_meanwhile(files_of(*news, (80, 1, 9, -9, -1, True)))
    assert chosen is not None
    assert set(chosen.rows.tolist()) == {10, 80}


def test_rows_are_rewritten_few_times_while_a_day_grows() -> None:
    held: list[tuple[int, int, int, int, int, bool]] = []
    rewritten = 0
    for n in range(400):
        held.append((10, 1, 9, n, n, False))
        chosen = compaction.worthwhile_meanwhile(files_of(*held))
        if chosen is not None:
            taken = set(chosen.path.tolist())
            rows, first, last = int(chosen.rows.sum()), min(chosen.first_ts), max(chosen.last_ts)
            held = [file for place, file in enumerate(held) if place not in taken] + [(rows, 1, 9, first, last, True)]
            rewritten += rows
    assert sum(file[0] for file in held) == 4_000
    assert len(held) < 2 * compaction.FEWEST_FILES
    assert rewritten < 6 * 4_000


def test_slices_of_time_that_hold_many_instruments_each_are_put_in_order_of_instruments() -> None:
    large = compaction.FILE_ROWS
    news = [(large, 1, 9, 10 * n, 10 * n + 9, False) for n in range(3)]
    chosen = compaction.worthwhile(files_of(*news))
    assert chosen is not None
    assert len(chosen) == 3
    slices = [(large, 1, 9, 10 * n, 10 * n + 9, True) for n in range(compaction.FEWEST_FILES)]
    assert compaction.worthwhile(files_of(*slices[1:])) is None
    chosen = compaction.worthwhile(files_of(*slices))
    assert chosen is not None
    assert len(chosen) == compaction.FEWEST_FILES
    of_one = [(large, 4, 4, 10 * n, 10 * n + 9, True) for n in range(20)]
    assert compaction.worthwhile(files_of(*of_one, *((large, n, n, 0, 9, True) for n in (5, 6)))) is None
    assert compaction.depth(files_of(*slices, *of_one)) == compaction.FEWEST_FILES


def test_boxes_are_tangled_where_each_is_compared_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    drawn = [sorted(chance.choices(range(60), k=2)) + sorted(chance.choices(range(60), k=2)) for _ in range(80)]
    files = files_of(*((1, one[0], one[1], one[2], one[3], True) for one in drawn))
    expected = [
        any(
            a[0] <= b[1] and b[0] <= a[1] and a[2] <= b[3] and b[2] <= a[3]
            for other, b in enumerate(drawn)
            if other != place
        )
        for place, a in enumerate(drawn)
    ]
    assert layout.tangled(files.boxes()).tolist() == expected
    monkeypatch.setattr(layout, "_AT_ONCE", 1)
    assert layout.tangled(files.boxes()).tolist() == expected
