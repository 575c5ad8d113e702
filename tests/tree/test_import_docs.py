"""docs/importing.md says what is so."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
import typer

from medalion.cli import app
from medalion.core.datasets import STOCK_BARS
from medalion.store.store import Store
from tests.support.observed import instruments

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text("utf-8")


def test_the_examples_of_importing_give_what_they_print(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    instruments(store, STOCK_BARS.kind, ("AAPL",))
    examples = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    parsed = doctest.DocTestParser().get_doctest(examples, {"store": store}, "importing.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(parsed, out=said.append)
    assert not result.failed, "".join(said)
    assert result.attempted > 15


@pytest.mark.parametrize("line", [line for line in PAGE.splitlines() if line.startswith("medalion load")])
def test_the_commands_of_importing_name_options_that_exist(line: str) -> None:
    load = typer.main.get_command(app).commands["load"]  # type: ignore[attr-defined]  # it is a group
    parsed = load.make_context("load", shlex.split(line)[2:], resilient_parsing=True)
    assert parsed.params["files"]
    assert parsed.params["dataset"]
