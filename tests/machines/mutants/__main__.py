"""`python -m tests.machines.mutants [rule …]`: run the mutants of all rules or some, and say which test notices each.

Exit code 1 if one survives, cannot be applied any more, or breaks more than the rule that it is about.
"""

import argparse
import compileall
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.machines.mutants import MUTANTS, RULES
from tests.machines.mutants.base import ROOT, Mutant
from tests.support.server import started_server

_COPIED = ("medalion", "oltp", "olap", "migrations", "tests", "pyproject.toml", "Makefile", "README.md")
_SECONDS = 150
_REASON = 70
_tell = partial(Console(markup=False, highlight=False).print, soft_wrap=True)
_WHERE = "import medalion, oltp, olap; print(*(p.__file__ or p.__path__[0] for p in (medalion, oltp, olap)), sep='\\n')"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which test noticed a mutant, or why none did."""

    is_killed: bool
    by: str


class Copy:
    """A copy of the tree, in which tests run against one server."""

    def __init__(self, place: Path, url: str) -> None:
        self.place = place
        for name in _COPIED:
            source, target = ROOT / name, place / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, target)
        # Compiled files that are known by the content of their source are never taken for those of another mutant.
        by_content = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(place, quiet=1, invalidation_mode=by_content)
        given = {name: value for name, value in os.environ.items() if name != "MEDALION_TEST_DIR"}
        self._environment = given | {
            "MEDALION_TEST_URL": url,
            "PYTHONPATH": str(place),
            "MEDALION_EXAMPLES": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "300",
        }
        imported = self._python("-c", _WHERE, seconds=60).stdout.split()
        if not imported or not all(path.startswith(str(place)) for path in imported):
            raise RuntimeError(f"the copy in {place} is not what is imported, but {imported}")

    def _python(self, *arguments: str, seconds: float) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )

    def run(self, tests: Iterable[str], *, seconds: float) -> "subprocess.CompletedProcess[str]":
        """Run tests until one fails."""
        names = [f"tests/{test}" for test in tests]
        plain = (
            "-q",
            "-x",
            "-p",
            "no:randomly",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            "--tb=line",
            "-o",
            "timeout=60",
        )
        return self._python("-m", "pytest", *plain, *names, seconds=seconds)

    def judged(self, mutant: Mutant) -> Verdict:
        file = self.place / mutant.file
        original = file.read_text("utf-8")
        try:
            file.write_text(mutant.applied(self.place), "utf-8")
            done = self.run(mutant.tests, seconds=_SECONDS)
        except ValueError as error:
            return Verdict(False, f"STALE: {error}")
        except subprocess.TimeoutExpired:
            return Verdict(mutant.hangs, f"hangs for {_SECONDS} s")
        finally:
            file.write_text(original, "utf-8")
        return _verdict(mutant, done)


def _verdict(mutant: Mutant, done: "subprocess.CompletedProcess[str]") -> Verdict:
    if done.returncode == 0:
        return Verdict(False, "SURVIVES")
    failed = re.search(r"^FAILED tests/(.+?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        return Verdict(False, f"BROKEN: {done.stdout.strip()[-300:]}")
    if "Timeout" in (failed[2] or "") and not mutant.hangs:
        return Verdict(False, f"HANGS: {failed[1]}")
    return Verdict(True, f"{failed[1]}: {(failed[2] or '')[:_REASON]}")


def _chosen(arguments: Sequence[str] | None) -> tuple[list[Mutant], bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.machines.mutants", description=__doc__)
    parser.add_argument("rule", nargs="*", type=int, help="rules of the protocol; all by default")
    parser.add_argument("--only", default="", metavar="TEXT", help="mutants whose description has this text")
    parser.add_argument("--unchecked", action="store_true", help="do not run the tests on the tree as it is before")
    given = parser.parse_args(arguments)
    rules = given.rule or RULES
    return [m for m in MUTANTS if m.rule in rules and given.only in m.off], not given.unchecked


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen mutants; the exit code."""
    mutants, is_checked = _chosen(arguments)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="medalion-mutants-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user when root starts it
        server = started_server(Path(folder) / "server")
        try:
            copy = Copy(Path(folder).resolve() / "tree", server.url)
            if is_checked:
                unchanged = copy.run(sorted({test for mutant in mutants for test in mutant.tests}), seconds=1_800)
                if unchanged.returncode:
                    _tell(unchanged.stdout, "The tests fail without a mutant.", sep="\n")
                    return 1
                _tell(f"Without a mutant all tests pass ({time.monotonic() - started:.0f} s).")
            left = [mutant for mutant in mutants if not _told(copy, mutant)]
        finally:
            server.stop()
    _tell(f"{len(mutants) - len(left)} of {len(mutants)} mutants are noticed ({time.monotonic() - started:.0f} s).")
    for mutant in left:
        _tell(f"  rule {mutant.rule}, {mutant.file}: {mutant.off}")
    return 1 if left else 0


def _told(copy: Copy, mutant: Mutant) -> bool:
    started = time.monotonic()
    verdict = copy.judged(mutant)
    seconds = time.monotonic() - started
    _tell(f"{mutant.rule:2}  {mutant.off:<72}  {seconds:4.0f} s  {verdict.by}")
    return verdict.is_killed


if __name__ == "__main__":
    sys.exit(main())
