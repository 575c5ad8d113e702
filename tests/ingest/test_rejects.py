"""Bad rows of an import: all is refused, or they are set aside, each with its place and reason."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import POLYMARKET_BOOKS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import InputError, StoreError
from medalion.ingest import sources
from medalion.store.store import Store
from tests.support.commands import run
from tests.support.observed import as_read, instruments, sample
from tests.support.programs import exit_code

ROOT = Path(__file__).parents[2]
HEADER = "symbol,timeframe,ts,open,high,low,close,volume,trade_count"
GOOD = [f"AAA,1d,2024-01-{day:02d},1,2,1,2,{day},7" for day in range(1, 9)]
BAD = {
    ",1d,2024-02-01,1,2,1,2,3,7": "stock_bars.symbol is null; every row needs one",
    "ZZZ,1d,2024-02-01,1,2,1,2,3,7": "symbol is ZZZ; no such symbol is known",
    "AAA,often,2024-02-01,1,2,1,2,3,7": "stock_bars.timeframe is often; give a count and a unit",
    "AAA,1d,2024-02-31,1,2,1,2,3,7": "stock_bars.ts is 2024-02-31; that is not in the calendar",
    "AAA,1d,soon,1,2,1,2,3,7": "stock_bars.ts is soon; it is no ISO 8601",
    "AAA,1d,0999-01-01,1,2,1,2,3,7": "expected a time from 1000 to before 3000",
    "AAA,1d,2024-02-01,,2,1,2,3,7": "stock_bars.open is null; every row needs one",
    "AAA,1d,2024-02-01,1.123456789,2,1,2,3,7": "stock_bars.open is 1.123456789; expected at most 10 digits",
    "AAA,1d,2024-02-01,1,many,1,2,3,7": "stock_bars.high is many; expected at most",
    "AAA,1d,2024-02-01,1,2,12345678901,2,3,7": "stock_bars.low is 12345678901; expected at most",
    "AAA,1d,2024-02-01,1,2,1,nan,3,7": "stock_bars.close is nan; expected at most",
    "AAA,1d,2024-02-01,1,2,1,2,3,1.5": "stock_bars.trade_count is 1.5; expected a whole number",
    "AAA,1d,2024-02-01,1,2,1,2,3,7,,8": "what follows the last column is ,8; expected as many cells as the header has",
    "AAA,1d,2024-02-01,1,2,1,2,3,7,": "what follows the last column is ; expected as many cells as the header has",
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Good rows with a bad one after each, then the rest."""
    path = tmp_path / "mixed.csv"
    lines = [line for pair in zip(GOOD, BAD, strict=False) for line in pair] + list(BAD)[len(GOOD) :]
    path.write_text("\n".join([HEADER, *lines, ""]))
    return path


def refused(path: Path) -> dict[int, str]:
    """Reasons of a rejects file by row."""
    read = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    return {int(row): reason for row, reason in read.select("row", "reason").iter_rows()}


@pytest.mark.parametrize("piece", [1, 3, 100])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_bad_rows_are_set_aside_and_the_others_imported(
    store: Store, mixed: Path, tmp_path: Path, suffix: str, piece: int
) -> None:
    ids = instruments(store, STOCK_BARS.kind)
    aside = tmp_path / f"rejects.{suffix}"
    with patch.multiple(sources, PIECE_ROWS=piece, _BLOCK_BYTES=150):
        result = store.import_history(STOCK_BARS, mixed, rejects=aside, max_rejects=len(BAD))
    assert (result.rows, result.rejected, result.rejects) == (len(GOOD), len(BAD), aside)
    texts = mixed.read_text().splitlines()[1:]
    reasons = refused(aside)
    assert {texts[row - 1] for row in reasons} == set(BAD)
    for row, reason in reasons.items():
        assert BAD[texts[row - 1]] in reason
    assert aside.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.glob(".rejects*")) == []
    good = tmp_path / "good.csv"
    good.write_text("\n".join([HEADER, *GOOD, ""]))
    assert store.import_history(STOCK_BARS, good).unchanged == result.stored
    rows = pl.DataFrame(
        {
            "ts": [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 9)],
            "volume": [Decimal(day) for day in range(1, 9)],
        }
    ).with_columns(symbol=pl.lit("AAA"), timeframe=pl.lit("1Day"), open=1, high=2, low=1, close=2, trade_count=7)
    assert_frame_equal(store.read(STOCK_BARS), as_read(STOCK_BARS, rows, ids, source="manual"))


def test_set_aside_rows_are_as_the_source_had_them(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    paths[0].write_text(f"{HEADER}\n{GOOD[0]}\nAAA,1d, 2024-02-01 ,007.50,many,1,2,3,7\n")
    paths[1].write_text("Close,High,Low,Open,Volume,Symbol,Date\n2,2,1,x,3,AAA,2024-02-02\n")
    aside = tmp_path / "rejects.csv"
    with pytest.raises(InputError, match="'timeframe' is missing"):
        store.import_history(STOCK_BARS, paths, rejects=aside)
    paths[1].write_text("Close,High,Low,Open,Volume,Symbol,Date,TimeFrame\n2,2,1,x,3,AAA,2024-02-02,1h\n")
    store.import_history(STOCK_BARS, paths, rejects=aside)
    first, second = pl.read_csv(aside, infer_schema=False).to_dicts()
    assert (first["file"], first["row"], first["ts"], first["open"]) == (str(paths[0]), "2", " 2024-02-01 ", "007.50")
    assert (second["file"], second["row"], second["ts"], second["timeframe"]) == (
        str(paths[1]),
        "1",
        "2024-02-02",
        "1h",
    )
    assert (second["open"], second["trade_count"], second["available_at"]) == ("x", None, None)


def test_frames_have_their_bad_rows_set_aside_too(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 6).with_columns(
        bid_price=pl.Series([1.0, float("nan"), 0.1, 1e300, None, 2.5]),
        mid_price=pl.lit(None, pl.Float64),
        instrument_id=pl.Series([None, None, 999, None, None, None], dtype=pl.Int64),
        symbol=pl.Series(["AAA", "AAA", "AAA", "AAA", "A\0", "BBB"]),
    )
    rows = rows.with_columns(ask_price=None)
    result = store.import_history(STOCK_QUOTES, iter([rows[:3], rows[3:]]), rejects=tmp_path / "rejects.parquet")
    assert result.rows == 2
    reasons = refused(tmp_path / "rejects.parquet")
    assert list(reasons) == [2, 3, 4, 5]
    said = ["bid_price is nan; give a number", "instrument_id is 999", "bid_price is 1e+300", "NUL character"]
    assert all(text in reason for text, reason in zip(said, reasons.values(), strict=True))


def test_a_book_with_a_bad_level_is_set_aside_whole(store: Store, tmp_path: Path) -> None:
    ids = instruments(store, POLYMARKET_BOOKS.kind)
    rows = sample(POLYMARKET_BOOKS, 4).with_columns(
        bids=pl.Series(
            [
                [{"price": p, "size": 1.0}, {"price": 0.5, "size": s}]
                for p, s in [(0.1, 1.0), (float("nan"), 1.0), (0.2, 2.0), (0.3, None)]
            ]
        )
    )
    result = store.import_history(POLYMARKET_BOOKS, rows, rejects=tmp_path / "rejects.csv")
    assert (result.rows, list(refused(tmp_path / "rejects.csv"))) == (2, [2, 4])
    assert_frame_equal(store.read(POLYMARKET_BOOKS), as_read(POLYMARKET_BOOKS, rows[::2], ids, source="manual"))
    with pytest.raises(InputError, match=r"row 2: polymarket_order_book_snapshots\.bids\.price"):
        store.import_history(POLYMARKET_BOOKS, rows)


def test_without_rejects_the_first_bad_rows_are_named_and_nothing_is_there(
    store: Store, mixed: Path, data_dir: Path
) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = mixed.read_text().replace("ZZZ", "AAA").splitlines()
    mixed.write_text("\n".join(rows))
    with pytest.raises(InputError, match=f"row 2 of {mixed}: .*; row 6 of .*; row 8 of .*; nothing was imported"):
        store.import_history(STOCK_BARS, mixed)
    assert list(data_dir.glob("lake/**/*.parquet")) == []


def test_too_many_rejects_refuse_all(store: Store, mixed: Path, tmp_path: Path, data_dir: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    aside = tmp_path / "rejects.csv"
    with pytest.raises(InputError, match=f"max_rejects={len(BAD) - 1}"):
        store.import_history(STOCK_BARS, mixed, rejects=aside, max_rejects=len(BAD) - 1)
    assert [path.name for path in tmp_path.glob("*rejects*")] == []
    assert list(data_dir.glob("lake/**/*.parquet")) == []


def test_nothing_is_set_aside_where_nothing_is_bad(store: Store, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    result = store.import_history(STOCK_BARS, sample(STOCK_BARS), rejects=tmp_path / "rejects.csv", max_rejects=0)
    assert (result.rejected, result.rejects, list(tmp_path.glob("*rejects*"))) == (0, None, [])


def test_a_file_that_is_there_is_never_overwritten(store: Store, mixed: Path, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    aside = tmp_path / "rejects.csv"
    aside.write_text("mine")
    with pytest.raises(InputError, match="already"):
        store.import_history(STOCK_BARS, mixed, rejects=aside)
    aside.unlink()

    def taken(_: object) -> None:
        aside.write_text("meanwhile")

    with pytest.raises(
        StoreError, match=rf"the import is done, but its {len(BAD)} rejected rows stay in .*\.rejects\.csv"
    ):
        store.import_history(STOCK_BARS, mixed, rejects=aside, progress=taken)
    assert aside.read_text() == "meanwhile"
    (hidden,) = tmp_path.glob(".rejects.csv.*")
    assert len(refused_rows := hidden.read_text().splitlines()) == len(BAD) + 1, refused_rows
    assert store.read(STOCK_BARS).height == len(GOOD)


def test_the_same_rows_again_give_the_same_rejects(store: Store, mixed: Path, tmp_path: Path) -> None:
    instruments(store, STOCK_BARS.kind)
    store.import_history(STOCK_BARS, mixed, rejects=tmp_path / "1.csv")
    again = store.import_history(STOCK_BARS, mixed, rejects=tmp_path / "2.csv")
    assert (again.is_duplicate, again.write_id, again.rejected) == (True, None, len(BAD))
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


_DYING = """
import os, signal, sys
import medalion
from medalion.ingest import history, staging
from medalion.core.datasets import STOCK_BARS

url, data_dir, source, rejects, where = sys.argv[1:]
kill = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if where == "staging":
    staging.write_file = kill
elif where == "claiming":
    history.batches.enter_batch = kill
else:
    history.RejectsFile.publish = kill
with medalion.open(url, data_dir=data_dir, mirror_background=False) as store:
    store.import_history(STOCK_BARS, source, rejects=rejects)
"""


@pytest.mark.parametrize("where", ["staging", "claiming", "publishing"])
def test_a_killed_import_is_there_whole_or_not_at_all_and_can_be_repeated(
    store: Store, database_url: str, data_dir: Path, mixed: Path, tmp_path: Path, where: str
) -> None:
    instruments(store, STOCK_BARS.kind)
    aside = tmp_path / "rejects.csv"
    arguments = [database_url, str(data_dir), str(mixed), str(aside), where]
    died = exit_code(_DYING, *arguments)
    assert died == -signal.SIGKILL
    assert not aside.exists()
    assert store.read(STOCK_BARS).height == (len(GOOD) if where == "publishing" else 0)
    result = store.import_history(STOCK_BARS, mixed, rejects=aside)
    assert (result.rows, result.rejected, result.is_duplicate) == (len(GOOD), len(BAD), where == "publishing")
    assert store.mirror.vacuum([STOCK_BARS], older_than=timedelta()).files or where != "claiming"
    assert store.read(STOCK_BARS).height == len(GOOD)
    assert store.mirror.verify([STOCK_BARS]).is_empty()


def test_the_command_line_sets_bad_rows_aside(own_place: tuple[str, ...], mixed: Path, tmp_path: Path) -> None:
    aside = tmp_path / "rejects.csv"
    options: tuple[Any, ...] = ("--dataset", "stock_bars", "--create-assets", "--rejects", str(aside))
    loaded = run(*own_place, "load", str(mixed), *options)
    assert loaded.exit_code == 1, loaded.output  # bad rows were set aside
    assert "9 rows" in loaded.stdout  # --create-assets made the unknown symbol's asset
    assert f"{len(BAD) - 1} bad rows are in {aside}" in loaded.stderr
    assert run(*own_place, "load", str(mixed), *options, "--max-rejects", "1").exit_code == 2


def test_progress_is_shown_on_a_terminal_only(own_place: tuple[str, ...], mixed: Path, tmp_path: Path) -> None:
    mixed.write_text("\n".join([HEADER, *GOOD]))
    command = [sys.executable, "-m", "medalion", *own_place, "load", str(mixed), "--dataset", "stock_bars"]
    piped = subprocess.run([*command, "--create-assets"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert piped.stderr.splitlines() == ["created 1 assets: AAA"]
    main, terminal = os.openpty()
    shown = subprocess.Popen(command, cwd=ROOT, stderr=terminal, stdout=subprocess.PIPE)
    os.close(terminal)
    seen = b""
    try:
        while more := os.read(main, 1 << 16):
            seen += more
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(main)
    printed, _ = shown.communicate()
    assert shown.returncode == 0
    assert b"8 rows" in seen
    assert printed.startswith(b"stock_bars: the store already holds these rows")
