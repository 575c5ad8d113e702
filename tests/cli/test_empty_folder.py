"""In a folder without a store every command says so and makes none, but for those that are there to make one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from medalion.cli import app
from medalion.core.environment import DATA_DIR
from oltp.server.embedded import EmbeddedPostgres
from tests.support.commands import ROOT, looks_like_a_store, run

MAKERS = {("demo",), ("load",), ("restore",), ("db", "upgrade")}
NEED_NONE = {("doctor",), ("db", "script")}
GIVEN = {
    "dataset": "stock_bars",
    "timeframe": "5Min",
    "query": "SELECT count(*) FROM stock_bars",
    "file": "page.html",
    "folder": "backup",
    "to": "elsewhere",
    "entity": "0190b2c4-0000-7000-8000-000000000000",
    "run_id": "0190b2c4-0000-7000-8000-000000000000",
    "name": "mirror_lag",
    "revision": "head",
    "rows_older_than_days": "30",
}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command there is, by the words that name it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def needed(path: tuple[str, ...], command: Any) -> list[str]:
    """The words without which it would not run."""
    words: list[str] = list(path)
    for parameter in command.params:
        if parameter.required:
            is_option = parameter.param_type_name == "option"
            words += [parameter.opts[0], GIVEN[parameter.name]] if is_option else [GIVEN[parameter.name]]
    return [*words, "--yes"] if path == ("db", "downgrade") else words


ASKING = [
    pytest.param(needed(path, command), id=" ".join(path))
    for path, command in commands(typer.main.get_command(app))
    if path not in MAKERS | NEED_NONE
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one is: an empty folder, in which no server can be started."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a server was started")

    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("start", "begin"):
        monkeypatch.setattr(EmbeddedPostgres, name, start)
    for name in ("DATABASE_URL", "DATA_DIR", "LAKE"):
        monkeypatch.delenv(f"MEDALION_{name}", raising=False)
    return place


@pytest.mark.parametrize("words", ASKING)
def test_it_says_that_there_is_no_store_and_makes_none(folder: Path, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: no store in '{folder / DATA_DIR}'; `medalion demo`")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("place", ["../medalion-data", "inner", "inner/medalion-data"])
def test_it_names_the_nearest(folder: Path, place: str) -> None:
    near = looks_like_a_store((folder / place).resolve())
    assert f"the nearest is in {near}" in run("mirror", "status").stderr


def test_it_says_so_before_anything_is_loaded_that_takes_long(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDALION_")}
    asked = json.dumps([case.values[0] for case in ASKING])
    done = subprocess.run(
        [sys.executable, "-c", _ALL_OF_THEM, asked],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("no store in") == len(ASKING)
    loaded = set(done.stdout.split())
    assert not loaded & {"polars", "duckdb", "pyarrow", "pandas", "deltalake"}
    assert not loaded & {"sqlalchemy", "psycopg", "alembic", "pydantic_settings"}


_ALL_OF_THEM = """
import json, sys
from medalion.cli import app
for words in json.loads(sys.argv[1]):
    try:
        app(words)
    except SystemExit as end:
        assert end.code == 2, (words, end.code)
print(*(name for name in sys.modules if "." not in name))
"""
