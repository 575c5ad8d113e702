"""What is wrong with a command's words is said before a server is started, and no folder is made for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import medalion
from medalion.cli.opening import nearest
from medalion.core.environment import DATA_DIR
from oltp.server import place
from oltp.server.embedded import EmbeddedPostgres
from tests.support.commands import BARS, ROOT, looks_like_a_store, refused, run

READ = ("read", "stock_bars", "--symbol", "AAPL")
SPAN = ("--timeframe", "1Day", "--start", "2024-01-01", "--end", "2024-02-01")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder that looks like the data folder of a store, in which no server can be started."""
    return looks_like_a_store(tmp_path / "made")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a server is started, and knows no other."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr(EmbeddedPostgres, "start", start)
    monkeypatch.setattr(EmbeddedPostgres, "begin", start)
    monkeypatch.delenv("MEDALION_DATABASE_URL", raising=False)
    monkeypatch.delenv("MEDALION_DATA_DIR", raising=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "stock_barz"), "no dataset 'stock_barz'; did you mean 'stock_bars'?"),
        ((*READ, "--timeframe", "1Dy"), "timeframe '1Dy' is not known"),
        (("read", "stock_quote_snapshots", "--timeframe", "1Day"), "stock_quote_snapshots has no timeframe"),
        ((*READ, "--start", "2024-02-01", "--end", "2024-01-01"), "is before start"),
        ((*READ, "--start", "yesterday"), "not an ISO 8601 date or time"),
        ((*READ, "--as-of", "2024-01-01T10:00"), "has no time zone"),
        ((*READ, "--columns", "ts,closing"), "no column of stock_bars 'closing'; did you mean 'close'?"),
        ((*READ, "--columns", "ts,ts"), "a column is asked for twice"),
        (("read", "stock_bars", "--symbol", ""), "symbol '' is not a name"),
        ((*READ, "--source", ""), "source '' is not a name"),
        ((*READ, "--format", "parquet"), "pass --output FILE"),
        (("sql", "SELEC 1"), "syntax error"),
        (("sql", "DROP TABLE stock_bars"), "one SELECT and nothing else"),
        (("sql", "SELECT 1", "--as-of", "soon"), "not an ISO 8601 date or time"),
        (("load", "bars.csv", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("load", "no-such.csv", "--dataset", "stock_bars"), "there is no file no-such.csv"),
        (("load", ".", "--dataset", "stock_bars", "--tz", "Mars/Olympus"), "time zone 'Mars/Olympus' is not known"),
        (("load", ".", "--dataset", "stock_bars", "--time-unit", "h"), "time_unit 'h' is not known"),
        (("load", ".", "--dataset", "stock_bars", "--rename", "Date"), "--rename takes OLD=NEW"),
        (("mirror", "verify", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("mirror", "compact", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("mirror", "rebind", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("mirror", "vacuum", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("mirror", "retain", "--dataset", "stock_barz"), "did you mean 'stock_bars'"),
        (("mirror", "retain", "-d", "stock_quote_snapshots", "--downsample", "7Min"), "cannot be downsampled to 7Min"),
        (("rollup", "keep", "stock_barz", "5Min"), "did you mean 'stock_bars'"),
        (("rollup", "keep", "stock_bars", "5Mn"), "timeframe '5Mn' is not known"),
        (("rollup", "refresh", "stock_bars", "--timeframe", "5Mn"), "timeframe '5Mn' is not known"),
        (("rollup", "drop", "stock_bars", "5Mn"), "timeframe '5Mn' is not known"),
        (("stats", "run", "--from", "2024-02-01", "--to", "2024-01-01"), "is before start"),
        (("journal", "metrics", "mirror_lag", "--start", "2024-02-01", "--end", "2024-01-01"), "is before start"),
        (("report", "page.html", "--start", "noon"), "not an ISO 8601 date or time"),
    ],
)
def test_a_wrong_name_or_time_starts_no_server(made: Path, arguments: tuple[str, ...], said: str) -> None:
    before = sorted(made.rglob("*"))
    assert said in refused(run("--data-dir", str(made), *arguments))
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("raed",), "No such command 'raed'. Did you mean 'read'?"),
        ((*READ, "--tiemframe", "1Day"), "No such option: --tiemframe"),
        ((*READ, "--limit", "few"), "Invalid value for '--limit'"),
        ((*READ, "--format", "xlsx"), "'xlsx' is not one of"),
        (("read",), "Missing argument 'DATASET'"),
    ],
)
def test_a_wrong_command_or_option_starts_no_server(made: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run("--data-dir", str(made), *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert {path.name for path in made.iterdir()} == {place.CLUSTER, place.GATE}


@pytest.mark.parametrize(
    "arguments",
    [
        READ,
        ("sql", "SELECT 1"),
        ("mirror", "status"),
        ("mirror", "watch"),
        ("rollup", "list"),
        ("stats", "list"),
        ("report", "page.html"),
        ("audit", "verify"),
        ("journal", "logs"),
        ("db", "current"),
        ("db", "check"),
        ("db", "downgrade", "base", "--yes"),
    ],
    ids=" ".join,
)
def test_a_command_that_only_asks_makes_no_store(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    folder = tmp_path / "empty" / "data"
    said = refused(run("--data-dir", str(folder), *arguments))
    assert said.startswith(f"error: no store in '{folder}'; ")
    assert not folder.parent.exists()


@pytest.mark.parametrize("arguments", [("db", "upgrade"), ("load", "bars.csv", "--dataset", "stock_bars")])
def test_a_command_that_makes_a_store_starts_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bars.csv").write_text("symbol,timeframe,ts,open,high,low,close,volume\n")
    result = run("--data-dir", "data", *arguments)
    assert isinstance(result.exception, AssertionError), result.output


def test_a_folder_without_a_store_is_told_of_the_nearest(tmp_path: Path, made: Path) -> None:
    said = refused(run("--data-dir", str(tmp_path / "mde"), *READ))
    assert said.endswith(f"the nearest is in {made}: give --data-dir {made}")


def test_where_no_store_is_near_the_commands_that_make_one_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medalion.cli.opening.nearest", lambda _: None)
    assert "`load`, `db upgrade` and `restore` make one" in refused(run("--data-dir", str(tmp_path), *READ))


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (".", DATA_DIR),  # the folder that holds it
        ("data", DATA_DIR),  # another name beside it
        (DATA_DIR, "data"),
        (f"notebooks/{DATA_DIR}", DATA_DIR),  # a folder below the one it is in
        (f"a/b/c/{DATA_DIR}", "."),  # inside it
        (f"a/b/c/{DATA_DIR}", f"a/b/c/d/../../../{DATA_DIR}"),
    ],
)
def test_the_nearest_store_is_in_the_folder_beside_it_or_above(tmp_path: Path, asked: str, there: str) -> None:
    project = tmp_path / "project"
    store = looks_like_a_store((project / there).resolve())
    assert nearest((project / asked).absolute()) == store


def test_a_folder_that_has_only_the_name_of_a_cluster_is_no_store_nearby(tmp_path: Path) -> None:
    (tmp_path / "project" / "services" / place.CLUSTER).mkdir(parents=True)
    assert nearest(tmp_path / "project") != tmp_path / "project" / "services"


def test_a_read_loads_neither_what_migrates_nor_what_it_does_not_use(database_url: str, data_dir: Path) -> None:
    with medalion.open(database_url, data_dir=data_dir, mirror_background=False) as store:
        store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
        store.write("stock_bars", BARS)
        store.mirror.run(settle=True)
    unused = ("alembic", "mako", "pandas", "duckdb", "sqlalchemy.orm", "oltp.entities", "medalion.trading")
    code = f"""
import atexit, json, sys
from medalion.cli import main
atexit.register(lambda: print(json.dumps(sorted(set({unused!r}) & set(sys.modules))), file=sys.stderr))
main()
"""
    options = ("--url", database_url, "--data-dir", str(data_dir))
    command = [sys.executable, "-c", code, *options, *READ, *SPAN, "--format", "csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 31
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_a_wrong_name_loads_no_engine(made: Path) -> None:
    engines = ("polars", "duckdb", "sqlalchemy", "psycopg", "deltalake", "alembic", "pydantic_settings")
    code = f"""
import atexit, json, sys
from medalion.cli import main
atexit.register(lambda: print(json.dumps(sorted(set({engines!r}) & set(sys.modules)))))
main()
"""
    command = [sys.executable, "-c", code, "--data-dir", str(made), "read", "stock_barz"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (2, [])
