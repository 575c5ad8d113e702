"""The lake moves to another place, and the old one is not gone on with by anybody."""

import signal
from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, InputError, MedalionError
from medalion.store.store import Store
from tests.support.commands import refused, run
from tests.support.lake import stored, table_of, working, written
from tests.support.observed import instruments, rows_at, sample
from tests.support.programs import exit_code
from tests.support.server_processes import await_that


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with files that were compacted, an import, hot rows and an anchored audit."""
    written(store, STOCK_BARS)
    instruments(store, STOCK_QUOTES.kind)
    store.write(STOCK_QUOTES, rows_at(0))
    store.mirror.run()
    store.mirror.compact()
    store.import_history(STOCK_QUOTES, rows_at(100), source="manual")
    store.mirror.vacuum(older_than=timedelta())  # the log begins with a checkpoint
    store.write(STOCK_QUOTES, rows_at(200))
    store.audit.anchor()
    return store


def opened(url: str, data_dir: Path, lake: str | Path) -> Store:
    return medalion.open(url, data_dir=data_dir, lake=lake, mirror_background=False)


def test_all_is_there_and_goes_on_in_the_new_place_alone(
    filled: Store, database_url: str, data_dir: Path, tmp_path: Path
) -> None:
    expected = [filled.read(dataset) for dataset in (STOCK_QUOTES, STOCK_BARS)]
    rows = stored(table_of(filled, STOCK_BARS))
    done = filled.mirror.move(tmp_path / "new")
    assert (done.lake, done.before) == (str(tmp_path / "new"), str(data_dir / "lake"))
    before = sorted(path for path in (data_dir / "lake").rglob("*") if path.is_file())
    for refusing in (
        lambda: filled.read(STOCK_QUOTES),
        lambda: filled.mirror.run(),
        lambda: filled.audit.anchor(),
        lambda: filled.mirror.vacuum(older_than=timedelta()),
        lambda: filled.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 3)),
        lambda: filled.backup(tmp_path / "backup"),
    ):
        with pytest.raises(CorruptLakeError):
            refusing()
    filled.write(STOCK_QUOTES, rows_at(300))  # to the books, which are one; the new lake gets it
    assert sorted(path for path in (data_dir / "lake").rglob("*") if path.is_file()) == before
    with opened(database_url, data_dir, done.lake) as store:
        assert store.read(STOCK_QUOTES).height == expected[0].height + 4
        assert_frame_equal(store.read(STOCK_BARS), expected[1])
        assert_frame_equal(stored(table_of(store, STOCK_BARS)), rows)
        store.mirror.run()
        store.mirror.prune()
        store.audit.anchor()
        store.mirror.compact()
        store.mirror.vacuum(older_than=timedelta())
        assert store.read(STOCK_QUOTES).height == expected[0].height + 4
        assert store.mirror.verify().is_empty()
        assert store.audit.verify() == []
        assert store.mirror.rebind().is_empty()


def test_bots_write_and_the_mirror_runs_meanwhile(
    filled: Store, database_url: str, data_dir: Path, tmp_path: Path
) -> None:
    minutes = iter(range(1_000, 100_000, 4))

    def write() -> None:
        filled.write(STOCK_QUOTES, rows_at(next(minutes)))

    def mirror() -> None:
        with opened(database_url, data_dir, data_dir / "lake") as other:
            while True:
                other.mirror.run()
                other.mirror.compact_meanwhile(STOCK_QUOTES)

    with working(write) as wrong, working(mirror) as refused_one:
        filled.mirror.move(tmp_path / "new")
        await_that(lambda: refused_one)
    assert wrong == []
    assert [type(error) for error in refused_one] == [CorruptLakeError]
    with opened(database_url, data_dir, tmp_path / "new") as store:
        store.mirror.run()
        assert store.mirror.verify().is_empty()
        assert store.read(STOCK_QUOTES).height == 12 + next(minutes) - 1_000


_DYING = """
import sys
import medalion
from tests.support.backups import dying

url, data_dir, to, module, name, when = sys.argv[1:]
dying(module, name, when)
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.mirror.move(to)
"""


def test_killed_anywhere_one_of_the_two_is_the_lake(
    filled: Store, database_url: str, data_dir: Path, tmp_path: Path
) -> None:
    expected, new = filled.read(STOCK_QUOTES), tmp_path / "new"
    steps: list[tuple[str, str, str]] = [
        ("medalion.mirror.relocation", "carry", "after"),
        ("olap.delta.tables", "LakeTable.append", "after"),
        ("olap.places.draft", "Draft.publish", "before"),
        ("medalion.mirror.relocation", "note_move", "before"),
        ("medalion.mirror.relocation", "note_move", "after"),
    ]
    for step in steps:
        assert exit_code(_DYING, database_url, str(data_dir), str(new), *step) == -signal.SIGKILL
        is_moved = step[1:] == ("note_move", "after")
        assert new.exists() == (step[1] == "note_move")
        lake, other = (new, data_dir / "lake") if is_moved else (data_dir / "lake", new)
        with opened(database_url, data_dir, lake) as store:
            assert_frame_equal(store.read(STOCK_QUOTES), expected)
            if step[1] == "note_move":
                assert store.mirror.verify().is_empty()
                assert store.audit.verify() == []
        if step[1] == "note_move":
            with opened(database_url, data_dir, other) as store, pytest.raises(CorruptLakeError):
                store.mirror.run()
        if new.exists() and not is_moved:
            with opened(database_url, data_dir, lake) as store, pytest.raises(InputError, match="not an empty folder"):
                store.mirror.move(new)
            new.rename(tmp_path / "left")
    assert list(tmp_path.glob("new.partial-*")) == []


def test_a_place_that_will_not_do_is_refused_and_damage_is_not_carried(
    filled: Store, data_dir: Path, tmp_path: Path, own_place: tuple[str, ...]
) -> None:
    lake = data_dir / "lake"
    (tmp_path / "file").touch()
    for wrong in (lake, lake / "below", data_dir, tmp_path / "file", tmp_path / "file" / "below", "ftp://there/lake"):
        with pytest.raises(InputError):
            filled.mirror.move(wrong)
    assert "not an empty folder" in refused(run("mirror", "move", str(tmp_path / "file"), *own_place))
    path = next((lake / STOCK_QUOTES.name).rglob("*.parquet"))
    content = path.read_bytes()
    path.write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])
    with pytest.raises(MedalionError, match="is damaged"):
        filled.mirror.move(tmp_path / "new")
    path.write_bytes(content)
    assert [each.name for each in tmp_path.glob("new*")] == []
    said = run("mirror", "move", str(tmp_path / "a new one"), *own_place)
    assert said.exit_code == 0, said.output
    assert f"MEDALION_LAKE='{tmp_path}/a new one'" in said.stderr
