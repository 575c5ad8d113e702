"""A letter of the log that changes by itself: reads are right or refused."""

import re
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError
from medalion.store.store import Store
from tests.support.lake import folder_of, table_of
from tests.support.observed import START, instruments, rows_at

# What stands before the letter, in a commit that adds a file with the rows of 14:30 to 14:33, and the other letter.
_CHANGES = {
    "the newest time of a file": (rb"maxValues.*?T14:3", b"2"),
    "the highest instrument of a file": (rb"maxValues.*?instrument_id\\\":\s", b"1"),
    "the action": (rb'{"a(?=dd":{"path)', b"e"),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_letter_of_the_log_that_changed_is_noticed(
    store: Store, database_url: str, data_dir: Path, change: str
) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    store.mirror.run([STOCK_QUOTES])
    store.mirror.prune([STOCK_QUOTES])
    start = START.replace(minute=33)
    expected = store.read(STOCK_QUOTES, symbols="BBB", start=start)
    assert expected.height == 1
    commit = max(folder_of(table_of(store, STOCK_QUOTES)).glob("_delta_log/*.json"))
    before, other = _CHANGES[change]
    content = commit.read_bytes()
    at = re.search(before, content)
    assert at is not None
    commit.write_bytes(content[: at.end()] + other + content[at.end() + 1 :])
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other_store:
        try:
            found = other_store.read(STOCK_QUOTES, symbols="BBB", start=start)
        except CorruptLakeError:
            return
        assert_frame_equal(found, expected)
