"""The command line: what it prints, what it refuses, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import LiteralString

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.cli.output import cell_text, emit, one_line
from medalion.core.datasets import STOCK_BARS
from oltp.ledger import batches
from tests.support.commands import BARS, ROOT, process, refused, run
from tests.support.postgres import fresh_database
from tests.support.server import libpq

SECRET = "s3cr3t-pass"  # noqa: S105


@pytest.fixture(scope="module")
def place(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The options of a store with daily bars of AAPL, all in the lake; tests only read it."""
    folder = tmp_path_factory.mktemp("cli")
    with fresh_database() as url:
        with medalion.open(url, data_dir=folder, mirror_background=False) as store:
            store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
            store.write(STOCK_BARS, BARS)
            store.mirror.run(settle=True)
        yield "--url", url, "--data-dir", str(folder)


def test_help_names_every_command_and_loads_no_engine() -> None:
    shown = run("--help").stdout
    for command in ("demo", "doctor", "db", "load", "read", "sql", "mirror", "stats", "report", "audit"):
        assert f"  {command} " in shown
    heavy = {"polars", "duckdb", "pyarrow", "sqlalchemy", "psycopg", "deltalake", "pydantic", "alembic"}
    code = f"import sys, medalion.cli; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"medalion {medalion.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "stock_bars", "--symbol", "AAPLE"], "no stock symbol 'AAPLE'; did you mean 'AAPL'?"),
        (["read", "stock_barz"], "did you mean 'stock_bars'"),
        (["read", "stock_bars", "--start", "2024-01-01T10:00"], "has no time zone"),
        (["read", "stock_bars", "--start", "yesterday"], "not an ISO 8601 date or time"),
        (["read", "stock_bars", "--start", "2024-02-01", "--end", "2024-01-01"], "is before start"),
        (["read", "stock_bars", "--columns", "ts,closing"], "no column of stock_bars 'closing'"),
        (["read", "stock_bars", "--timeframe", "1Fortnight"], "timeframe '1Fortnight' is not known"),
        (["read", "stock_bars", "--as-of", "2999-01-01"], "2999-01-01"),
        (["read", "stock_bars", "--format", "parquet"], "pass --output FILE"),
        (["read", "stock_bars", "--output", "bars.xlsx"], "tells no format"),
        (["sql", "SELEC 1"], "syntax error"),
        (["sql", "DROP TABLE stock_bars"], "one SELECT and nothing else"),
        (["sql", "SELECT 1; SELECT 2"], "one SELECT and nothing else"),
        (["sql", "SELECT nothing FROM stock_bars"], "nothing"),
        (["sql", "SELECT * FROM no_such_table"], "no table 'no_such_table'"),
        (["sql", "SELECT CAST(symbol AS INTEGER) FROM stock_bars"], "Could not convert"),
        (["sql", "SELECT INTERVAL 1 DAY"], "INTERVAL"),
        (["stats", "run", "--account", "nobody"], "'nobody'"),
        (["stats", "show", "17"], "is no id"),
        (["audit", "history", "17"], "is no id"),
        (["report", "report.html"], "there is no account yet"),
        (["db", "upgrade", "no-such-revision"], "no-such-revision"),
    ],
)
def test_an_error_is_one_line_that_says_what_is_wrong(place: tuple[str, ...], arguments: list[str], said: str) -> None:
    assert said in refused(run(*place, *arguments))


def test_an_unreachable_database_is_an_error_of_one_line_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql://bot:{SECRET}@localhost:1/x"
    line = refused(run("--url", url, "--data-dir", str(tmp_path), "read", "stock_bars"), code=3)
    assert "is not reachable" in line
    assert "bot:***@localhost:1" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--verbose", "read", "stock_bars"],
        ["db", "current"],
        ["doctor"],
        ["mirror", "run"],
        ["--no-such-option"],
        [f"postgresql://bot:{SECRET}@elsewhere/x"],
        ["sql", f"postgresql://bot:{SECRET}@elsewhere/x"],
    ],
)
def test_a_password_is_never_printed(tmp_path: Path, arguments: list[str]) -> None:
    result = run("--url", f"postgresql://bot:{SECRET}@localhost:1/x", "--data-dir", str(tmp_path), *arguments)
    assert result.exit_code in (1, 2, 3)
    assert SECRET not in result.output


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.touch()
    inside = str(file / "data")
    assert "cannot make the data folder" in refused(
        run("--data-dir", inside, "load", str(file), "--dataset", "stock_bars")
    )


def test_a_setting_of_the_environment_counts_and_is_checked(
    place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, _, folder = place
    monkeypatch.setenv("MEDALION_DATABASE_URL", url)
    monkeypatch.setenv("MEDALION_DATA_DIR", folder)
    assert "AAPL" in run("read", "stock_bars").stdout
    monkeypatch.setenv("MEDALION_BATCH_ROWS", "many")
    assert "batch_rows" in refused(run("read", "stock_bars"))


def test_csv_and_json_keep_every_digit_and_say_utc(place: tuple[str, ...]) -> None:
    csv = run(*place, "read", "stock_bars", "--symbol", "AAPL", "--format", "csv").stdout.splitlines()
    names = csv[0].split(",")
    assert len(csv) == 1 + BARS.height
    assert dict(zip(names, csv[2].split(","), strict=True))["volume"] == "12345678901234567.01000000"
    assert dict(zip(names, csv[2].split(","), strict=True))["ts"] == "2024-01-03T00:00:00Z"
    rows = json.loads(run(*place, "read", "stock_bars", "--format", "json", "--limit", "2").stdout)
    assert [(row["ts"], row["close"]) for row in rows] == [
        ("2024-01-02T00:00:00Z", "100.12345678"),
        ("2024-01-03T00:00:00Z", "101.12345678"),
    ]


def test_a_table_shows_some_rows_and_says_that_there_are_more(place: tuple[str, ...]) -> None:
    cut = run(*place, "read", "stock_bars", "--columns", "ts,volume")
    assert len(cut.stdout.splitlines()) == 2 + 20
    assert "12345678901234567.1\n" in cut.stdout
    assert "the first 20 rows" in cut.stderr
    whole = run(*place, "read", "stock_bars", "--columns", "ts,volume", "--limit", "0")
    assert len(whole.stdout.splitlines()) == 2 + BARS.height
    assert whole.stderr == ""


def test_a_file_gets_every_row_in_the_format_of_its_name(place: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "bars.parquet"
    result = run(*place, "read", "stock_bars", "--start", "2024-01-05", "--end", "2024-01-30", "--output", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    with medalion.open(place[1], data_dir=place[3], mirror_background=False) as store:
        expected = store.read("stock_bars", start="2024-01-05", end="2024-01-30")
    assert expected.height == 25
    assert_frame_equal(pl.read_parquet(target), expected)


def test_a_file_that_cannot_be_written_is_an_error(place: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("bars.csv", "bars.parquet"):
        target = tmp_path / "no-folder" / name
        assert "cannot be written" in refused(run(*place, "read", "stock_bars", "--output", str(target)))


def test_explain_shows_how_a_read_is_answered_and_no_rows(place: tuple[str, ...]) -> None:
    shown = run(*place, "read", "stock_bars", "--symbol", "AAPL", "--explain").stdout
    assert shown.startswith("stock_bars: lake through ")
    assert shown.count("\n") == 1


def test_sql_joins_datasets_and_entities(place: tuple[str, ...]) -> None:
    query = "SELECT a.name, max(b.ts) AS last FROM stock_bars b JOIN assets a USING (symbol) GROUP BY ALL"
    assert run(*place, "sql", query, "--format", "csv").stdout == "name,last\nApple,2024-01-31T00:00:00Z\n"


def test_options_of_every_command_may_stand_after_it(place: tuple[str, ...]) -> None:
    before = run(*place, "read", "stock_bars", "--limit", "3")
    after = run("read", "stock_bars", "--limit", "3", f"--url={place[1]}", *place[2:])
    assert before.stdout == after.stdout != ""


def test_wrong_usage_ends_with_2() -> None:
    for arguments in (["no-such-command"], ["read"], ["read", "stock_bars", "--limit", "-1"], ["mirror"]):
        assert run(*arguments).exit_code == 2


def test_an_entity_table_shows_what_a_frame_cannot_print(place: tuple[str, ...]) -> None:
    query = "SELECT hash, changes, entity_id FROM audit_logs"
    (row,) = json.loads(run(*place, "sql", query, "--format", "json").stdout)
    assert len(bytes.fromhex(row["hash"])) == 32
    assert row["changes"] is None
    assert row["entity_id"] in run(*place, "sql", query).stdout
    assert row["hash"] in run(*place, "sql", query, "--wide").stdout


def test_text_that_would_steer_a_terminal_is_shown_as_what_it_is() -> None:
    assert cell_text("\x1b[31mred\nline [bold]") == "\\x1b[31mred\\nline [bold]"
    assert one_line("two\n  lines\x07") == "two lines\\x07"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("100.00000000"), "100"),
        (Decimal(1200), "1200"),
        (datetime(2024, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))), "2024-01-02T02:00:00Z"),
        (b"\x00\xff", "00ff"),
        ([{"price": Decimal("0.50"), "size": None}], '[{"price":"0.5","size":null}]'),
    ],
)
def test_a_cell_shows_the_whole_value(value: object, shown: str) -> None:
    assert cell_text(value) == shown


def test_a_table_fits_the_terminal_and_takes_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"[red]": ["x" * 500, "[/red]"], "n": [1, 22], "rest": [10**70, 1]}, strict=False)
    emit(frame.with_columns(rest=pl.lit(Decimal(10) ** 37)))
    out, err = capsys.readouterr()
    assert out.startswith("[red]")
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("x") == 500
    assert out.splitlines()[-1].split()[:2] == ["[/red]", "22"]
    assert err == ""
    emit(pl.DataFrame({f"column {place}": [10**15] for place in range(9)}))
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert err == "left out for want of room: column 4, column 5, column 6, column 7, column 8; --wide shows all\n"


def test_wide_tables_are_as_wide_as_they_are(place: tuple[str, ...]) -> None:
    narrow = run(*place, "read", "stock_bars")
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert "--wide shows all" in narrow.stderr
    wide = run(*place, "--wide", "read", "stock_bars")
    assert "instrument_id" in wide.stdout.splitlines()[0]
    assert "--wide" not in wide.stderr


def test_a_reader_that_goes_away_is_no_error(place: tuple[str, ...]) -> None:
    with process(*place, "sql", "SELECT range AS n FROM range(1000000)", "--format", "csv") as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == "n\n"
        writer.stdout.close()
        assert writer.stderr.read() == ""
        assert writer.wait() == 128 + signal.SIGPIPE


WAITING = (
    "SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE NOT granted AND datname = current_database()"
)


OTHERS = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


ENDLESS = (
    "SELECT count(*) FROM range(10000000000) AS a, range(10) AS b "
    "WHERE a.range * b.range % 7 = 8 OR EXISTS (FROM assets WHERE symbol = 'X')"
)


@pytest.mark.parametrize(
    ("arguments", "sign", "seconds"), [(["mirror", "run"], WAITING, 0.0), (["sql", ENDLESS], OTHERS, 1.0)]
)
def test_an_interrupt_ends_with_130(
    place: tuple[str, ...], arguments: list[str], sign: LiteralString, seconds: float
) -> None:
    with (
        psycopg.connect(libpq(place[1]), autocommit=True) as connection,
        batches.leading(connection, STOCK_BARS),
        process(*place, *arguments) as running,
    ):
        while not connection.execute(sign).fetchall():
            assert running.poll() is None
            time.sleep(0.05)
        time.sleep(seconds)
        running.send_signal(signal.SIGINT)
        out, rest = running.communicate(timeout=30)
    assert (running.returncode, out, rest) == (130, "", "")
