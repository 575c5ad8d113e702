"""The command line for tests: run inside this process, or as one of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
from typer.testing import CliRunner, Result

from medalion.cli import app
from oltp.server import place

ROOT = Path(__file__).parents[2]
BARS = pl.DataFrame(
    {
        "symbol": ["AAPL"] * 30,
        "timeframe": ["1Day"] * 30,
        "ts": [datetime(2024, 1, 2, tzinfo=UTC) + timedelta(days=day) for day in range(30)],
        **{name: [Decimal(f"{100 + day}.12345678") for day in range(30)] for name in ("open", "high", "low", "close")},
        "volume": [Decimal(f"12345678901234567.{day:02d}") for day in range(30)],
    }
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "medalion", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def refused(result: Result, *, code: int = 2) -> str:
    """The one line of an error, which is all that is printed."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def looks_like_a_store(folder: Path) -> Path:
    """The folder, which is made to look like the data folder of a store."""
    (folder / place.CLUSTER).mkdir(parents=True)
    (folder / place.GATE).touch()
    return folder
