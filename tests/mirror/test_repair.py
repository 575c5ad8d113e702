"""A repair brings back what can be proven, books the rest as lost by name, and leaves everything else as it was."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError
from medalion.store.store import Store
from olap.files.index import NO_FILES
from oltp.server.engine import Postgres
from tests.support.lake import pin_of, stored, table_of
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.programs import exit_code


@pytest.fixture
def filled(store: Store) -> Store:
    """Three writes in three files; their rows are still hot."""
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 10, 20):
        store.write(STOCK_QUOTES, rows_at(minute))
        store.mirror.run([STOCK_QUOTES])
    return store


def files_of(data_dir: Path) -> list[Path]:
    return sorted(data_dir.rglob("period=*/*.parquet"), key=lambda file: file.stat().st_mtime_ns)


def flip(file: Path, place: Callable[[bytes], int]) -> None:
    content = bytearray(file.read_bytes())
    content[place(bytes(content))] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)


def in_data(content: bytes) -> int:
    return len(content) // 3


def in_a_remark(content: bytes) -> int:
    """Within the name of the program that wrote the file: every row can still be read."""
    return content.rindex(b"parquet-cpp")


def execute(url: str, statement: str) -> None:
    with psycopg.connect(Postgres(url).libpq) as connection:
        connection.execute(statement.encode())


def outcomes(healed: pl.DataFrame) -> set[str]:
    return set(healed["outcome"])


def healed_to(store: Store, expected: pl.DataFrame, outcome: set[str]) -> pl.DataFrame:
    """Heal, and hold that reads and the stored rows are what they should be, and that nothing is left to do."""
    versions = stored(table_of(store, STOCK_QUOTES)) if not store.mirror.verify().height else None
    assert versions is None, "nothing was wrong"
    told = store.mirror.verify(heal=True)
    assert outcomes(told) == outcome
    assert_frame_equal(store.read(STOCK_QUOTES), expected)
    assert store.mirror.verify().is_empty()
    assert store.mirror.verify(heal=True).is_empty()
    store.mirror.run()
    store.mirror.compact()
    assert_frame_equal(store.read(STOCK_QUOTES), expected)
    assert store.mirror.verify().is_empty()
    return told


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut"])
def test_a_damaged_file_is_made_anew_from_hot_rows(filled: Store, data_dir: Path, damage: str) -> None:
    expected = filled.read(STOCK_QUOTES)
    file = files_of(data_dir)[1]
    if damage == "flipped":
        flip(file, in_data)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.unlink()
    told = healed_to(filled, expected, {"repaired"})
    assert told.filter(pl.col("subject").str.ends_with(file.name)).height == 1


def test_rows_that_a_damaged_file_still_proves_are_kept(filled: Store, data_dir: Path) -> None:
    expected = filled.read(STOCK_QUOTES)
    filled.mirror.prune()
    flip(files_of(data_dir)[1], in_a_remark)
    healed_to(filled, expected, {"repaired"})


@pytest.mark.parametrize("text", [b"AAA", b"bid_size"], ids=["a symbol", "the name of a column"])
def test_a_text_that_is_none_any_more_is_no_reason_to_repair_nothing(
    filled: Store, data_dir: Path, text: bytes
) -> None:
    expected = filled.read(STOCK_QUOTES)
    file = files_of(data_dir)[1]
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(content.replace(text, text[:1] + b"\xff" + text[2:]))
    healed_to(filled, expected, {"repaired"})


def test_partitions_that_retention_removed_do_not_come_back_from_the_hot_table(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, pl.concat([rows_at(0), rows_at(24 * 60)]))
    store.mirror.run([STOCK_QUOTES])
    store.mirror.retain([STOCK_QUOTES], rows_older_than=datetime.now(UTC) - START - timedelta(hours=20))
    expected = store.read(STOCK_QUOTES)
    assert expected.height == 4
    files_of(data_dir)[-1].unlink()
    healed_to(store, expected, {"repaired"})


def test_versions_that_retention_removed_do_not_come_back_from_the_hot_table(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 2):
        store.write(STOCK_QUOTES, rows_at(minute).with_columns(event_id=pl.lit(1)))
        store.mirror.run([STOCK_QUOTES])
    expected = store.read(STOCK_QUOTES)
    assert store.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta()).versions == 2
    files_of(data_dir)[-1].unlink()
    healed_to(store, expected, {"repaired"})
    assert stored(table_of(store, STOCK_QUOTES)).height == expected.height


def test_what_nothing_proves_is_lost_by_name_and_reads_go_on(filled: Store, data_dir: Path) -> None:
    expected = filled.read(STOCK_QUOTES).filter(~pl.col("ts").is_between(*minutes(10, 14)))
    filled.mirror.prune()
    files_of(data_dir)[1].unlink()
    with pytest.raises(CorruptLakeError, match="verify"):
        filled.read(STOCK_QUOTES)
    told = healed_to(filled, expected, {"repaired", "lost"})
    (lost,) = told.filter(outcome="lost")["problem"]
    assert lost.startswith("4 rows are lost, of 4 from 'manual', recorded at ")
    assert "2024-03-01T14:40:00+00:00 to 2024-03-01T14:43:00+00:00" in lost
    status = filled.mirror.status([STOCK_QUOTES]).row(0, named=True)
    assert (status["lost_rows"], status["lake_rows"]) == (4, 8)
    assert filled.latest(STOCK_QUOTES, "AAA") == expected.filter(symbol="AAA").row(-1, named=True)


def minutes(first: int, last: int) -> tuple[pl.Expr, pl.Expr]:
    return tuple(pl.lit(START + timedelta(minutes=minute)) for minute in (first, last))  # type: ignore[return-value]


def test_of_a_write_in_several_files_only_what_lay_in_the_damaged_one_is_lost(store: Store, data_dir: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    days = [sample(STOCK_QUOTES, 4, start=START + timedelta(days=day)) for day in range(3)]
    store.write(STOCK_QUOTES, pl.concat(days))
    store.mirror.run([STOCK_QUOTES])
    store.mirror.prune([STOCK_QUOTES])
    everything = store.read(STOCK_QUOTES)
    (file,) = data_dir.rglob("period=2024-03-02/*.parquet")
    file.unlink()
    healed_to(store, everything.filter(pl.col("ts").dt.day() != 2), {"repaired", "lost"})


def test_the_latest_value_that_was_lost_is_not_shown_any_more(filled: Store, data_dir: Path) -> None:
    filled.mirror.prune()
    files_of(data_dir)[2].unlink()
    filled.mirror.verify(heal=True)
    assert filled.latest(STOCK_QUOTES, "AAA") == filled.read(STOCK_QUOTES, symbols="AAA").row(-1, named=True)


def test_rows_that_are_in_the_lake_twice_are_there_once_again(filled: Store) -> None:
    expected = filled.read(STOCK_QUOTES)
    filled.mirror.prune()
    table = table_of(filled, STOCK_QUOTES)
    again = stored(table).filter(pl.col("write_id") == pl.col("write_id").max())
    assert table.replace(pin_of(filled), NO_FILES, table.stage(again, {})) is not None
    healed_to(filled, expected, {"repaired"})
    assert stored(table).height == 12


def test_a_row_that_the_lake_lacks_comes_back_from_the_hot_table(filled: Store) -> None:
    expected = filled.read(STOCK_QUOTES)
    table = table_of(filled, STOCK_QUOTES)
    pin = pin_of(filled)
    short = stored(table).filter(~((pl.col("write_id") == pl.col("write_id").max()) & (pl.col("ordinal") == 2)))
    assert table.replace(pin, pin.files, table.stage(short, {})) is not None
    healed_to(filled, expected, {"repaired"})


def test_a_row_that_was_changed_in_the_lake_is_as_it_was_entered(filled: Store) -> None:
    expected = filled.read(STOCK_QUOTES)
    table = table_of(filled, STOCK_QUOTES)
    pin = pin_of(filled)
    changed = stored(table).with_columns(bid_size=pl.col("bid_size") + 1)
    assert table.replace(pin, pin.files, table.stage(changed, {})) is not None
    healed_to(filled, expected, {"repaired"})


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM stock_quote_snapshots WHERE ordinal = 1",
        "UPDATE stock_quote_snapshots SET bid_price = bid_price + 1 WHERE ordinal = 2",
        "INSERT INTO stock_quote_snapshots SELECT * FROM stock_quote_snapshots WHERE ordinal = 3",
    ],
)
def test_hot_rows_that_differ_from_a_whole_lake_are_given_up(
    filled: Store, database_url: str, data_dir: Path, statement: str
) -> None:
    expected = filled.read(STOCK_QUOTES)
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as other:
        assert_frame_equal(other.read(STOCK_QUOTES), expected)  # and holds a pin from before
        execute(database_url, statement)
        healed_to(filled, expected, {"repaired"})
        assert_frame_equal(other.read(STOCK_QUOTES), expected)


def test_a_hot_row_that_is_nowhere_else_is_lost_and_mirroring_goes_on(filled: Store, database_url: str) -> None:
    filled.write(STOCK_QUOTES, rows_at(30))
    expected = filled.read(STOCK_QUOTES)
    execute(database_url, "DELETE FROM stock_quote_snapshots WHERE ordinal = 3 AND ts >= '2024-03-01 15:00+00'")
    with pytest.raises(CorruptLakeError, match="heal"):
        filled.mirror.run()
    told = healed_to(filled, expected.filter(pl.col("ts") != START + timedelta(minutes=33)), {"lost"})
    assert told["problem"][0].startswith("1 rows are lost, of 4")


def test_a_changed_row_that_is_nowhere_else_stays_and_is_told(filled: Store, database_url: str) -> None:
    filled.write(STOCK_QUOTES, rows_at(30))
    execute(database_url, "UPDATE stock_quote_snapshots SET bid_size = 5 WHERE ts = '2024-03-01 15:01+00'")
    healed_to(filled, filled.read(STOCK_QUOTES), {"changed"})


def test_an_entry_of_the_ledger_that_was_changed_is_told(filled: Store, database_url: str) -> None:
    expected = filled.read(STOCK_QUOTES)
    filled.mirror.prune()
    execute(database_url, "UPDATE writes SET checksum = checksum + 1 WHERE id = (SELECT min(id) FROM writes)")
    healed_to(filled, expected, {"changed"})


def test_a_lake_that_does_not_belong_to_the_ledger_is_left_alone(
    filled: Store, database_url: str, data_dir: Path
) -> None:
    execute(database_url, "UPDATE mirror_batches SET nonce = nonce + 1 WHERE number = 3")
    before = {file: file.read_bytes() for file in files_of(data_dir)}
    assert outcomes(filled.mirror.verify(heal=True)) == {"left"}
    assert {file: file.read_bytes() for file in files_of(data_dir)} == before


_DYING = """
import os, signal, sys
import medalion
from medalion.mirror import repair
from olap.delta.tables import LakeTable

url, data_dir, step = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if step == "before entering":
    repair.enter_removal = die
elif step == "before the commit":
    LakeTable.replace = die
else:
    repair.note_removal = die
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.verify(heal=True)
"""


@pytest.mark.parametrize("step", ["before entering", "before the commit", "before noting"])
def test_a_repair_that_died_at_any_step_is_taken_up(
    filled: Store, database_url: str, data_dir: Path, step: str
) -> None:
    everything = filled.read(STOCK_QUOTES)
    filled.mirror.prune()
    files = files_of(data_dir)
    files[0].unlink()
    flip(files[2], in_a_remark)
    died = exit_code(_DYING, database_url, str(data_dir), step)
    assert died == -signal.SIGKILL
    filled.mirror.verify(heal=True)
    assert_frame_equal(filled.read(STOCK_QUOTES), everything.filter(pl.col("ts") >= START + timedelta(minutes=10)))
    assert filled.mirror.verify().is_empty()
    assert filled.mirror.status([STOCK_QUOTES])["lost_rows"].item() == 4


def test_a_batch_that_a_dead_process_left_is_no_problem(store: Store, database_url: str) -> None:
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    store.mirror.run([STOCK_QUOTES])
    execute(database_url, "UPDATE mirror_batches SET status = 'claimed', done_at = NULL")
    assert store.mirror.verify().is_empty()
