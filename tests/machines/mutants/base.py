"""What a mutant is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One part of a rule left out: in `file`, each old text becomes the new one, and one of the `tests` fails.

    `tests` are pytest's names of them, below `tests/`. With `hangs` a test that does not end has noticed it too.
    """

    rule: int
    off: str
    file: str
    changes: Mapping[str, str]
    tests: tuple[str, ...]
    hangs: bool = False

    def stale(self, root: Path = ROOT) -> list[str]:
        """The old texts that do not occur exactly once."""
        content = (root / self.file).read_text("utf-8")
        return [old for old in self.changes if content.count(old) != 1]

    def applied(self, root: Path) -> str:
        """The file's content with the part left out.

        Raises:
            ValueError: an old text does not occur exactly once.
        """
        if stale := self.stale(root):
            raise ValueError(f"{self.file} has changed: {stale[0]!r} does not occur in it exactly once")
        content = (root / self.file).read_text("utf-8")
        for old, new in self.changes.items():
            content = content.replace(old, new)
        return content
