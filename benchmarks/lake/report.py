"""Figures beside their goals, as a table to look at and as a document to keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

_UNITS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "bytes": (1.0, "B"), "MB": (1.0, "MB")}


@dataclass(frozen=True, slots=True)
class Figure:
    """Ours beside theirs, in seconds or bytes; what is `None` has not been measured, and `note` says why.

    `factor` is the goal: ours is at most so many times theirs. `most` is a goal for ours alone, or, with `is_extra`,
    for what ours takes beyond theirs.
    """

    work: str
    against: str
    ours: float | None
    theirs: float | None = None
    unit: str = "ms"
    factor: float | None = None
    most: float | None = None
    is_extra: bool = False
    note: str = ""
    peaks: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def is_met(self) -> bool | None:
        """None where there is no goal, or nothing was measured."""
        if self.ours is None or (self.theirs is None and (self.factor is not None or self.is_extra)):
            return None
        if self.factor is not None:
            return self.ratio is not None and self.ratio <= self.factor
        if self.most is not None:
            return self.ours - (self.theirs or 0) * self.is_extra <= self.most
        return None

    @property
    def goal(self) -> str:
        if self.factor is not None:
            return f"≤ {self.factor:.2g}×" if self.factor > 0.5 else f"{1 / self.factor:.0f}× better"
        if self.most is not None:
            return f"≤ {'theirs + ' * self.is_extra}{self._shown(self.most)}"
        return ""

    def cells(self) -> list[str]:
        ratio = self.ratio
        compared = "" if ratio is None else f"{ratio:.2f}×" if ratio > 0.1 else f"1/{1 / ratio:.0f}"
        said = {True: "met", False: "MISSED", None: ""}[self.is_met]
        peaks = "" if self.peaks is None else f"{self.peaks[0]:,.0f} / {self.peaks[1]:,.0f}"
        given = [self._shown(self.ours), self._shown(self.theirs)]
        return [self.work, self.against, *given, compared, self.goal, said, peaks, self.note]

    def _shown(self, value: float | None) -> str:
        if value is None:
            return ""
        scale, unit = _UNITS[self.unit]
        digits = 1 if value * scale >= 100 else 2
        return f"{value * scale:,.{digits}f} {unit}"


HEADINGS = ("work", "against", "medalion", "theirs", "ratio", "goal", "", "peak MB", "")


def show(console: Console, title: str, figures: Sequence[Figure]) -> None:
    table = Table(*HEADINGS, title=title)
    for figure in figures:
        table.add_row(*figure.cells())
    console.print(table)


def document(facts: Mapping[str, str], sections: Mapping[str, Sequence[Figure]]) -> str:
    """The figures as Markdown."""
    every = [figure for figures in sections.values() for figure in figures]
    met, missed = (sum(figure.is_met is wanted for figure in every) for wanted in (True, False))
    lines = [
        "# Benchmarks of the lake",
        "",
        "Written by the run itself; do not edit. To repeat it, with 100 million rows as well:",
        "",
        "```sh",
        "make bench-lake",
        "MEDALION_BENCH_ROWS=100000000 make bench-lake",
        "```",
        "",
        f"Goals met: {met}; missed: {missed}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        _RULES,
    ]
    for title, figures in sections.items():
        lines += [f"## {title}", "", f"| {' | '.join(HEADINGS)} |", "|---|---|--:|--:|--:|---|---|--:|---|"]
        lines += [f"| {' | '.join(figure.cells())} |" for figure in figures]
        lines.append("")
    return "\n".join([*lines, _LIMITS])


_RULES = """Every contender runs in a process of its own on the same rows, set up as its documentation advises, and is
asked in turn with the others. Rows are counted and summed first: where a contender's answer differs, no time is given.
Narrow reads show the median of 20 warm runs, five where one takes longer than 0.3 s; what takes seconds shows the best
of three. A ratio below one means that medalion is faster or smaller. Peak memory is what the process grew by during its
first run: ours, then theirs; PostgreSQL's own processes are not in it.

- **medalion** is compacted. It answers with exact decimals and, unless a row says otherwise, every column. The columns
  it has decoded last stay in memory, 128 MiB of them (`MEDALION_CACHE_MB`), so that a warm read finds them there;
  *decoded anew* is a store that keeps none. The growth below is measured without them, too.
- **ArcticDB** has a symbol a series on LMDB, each written at once, with times and values as floats; its size is that of
  its keys and segments.
- **NautilusTrader** has a catalog of five symbols, a file each; it answers with Python objects of fixed-point numbers.
- **SQLAlchemy, PostgreSQL** has the quotes of ten symbols and the bars of 250 in order of time, with an index over
  symbol and time made after loading; a smaller table favours it. It answers with rows, not entities.
- **chDB** and the bare engines read the lake's own files.
"""
_LIMITS = """## What stands in the way

- **Ten years of daily bars.** Where they were decoded before, half of the time goes to PostgreSQL, which is asked in
  four statements whose series it is, what the lake lacks and whether bars have to be made, and a third to Polars, for
  which a query of 2,500 rows costs what it starts with; `store.read` needs two statements.
- **The same, decoded anew.** A series shares a row group of some 9,000 rows with its neighbours, and ten years lie in
  two decades, so that 18,000 rows are decoded for an answer of 2,500. A group for each series made decoding a fifth
  faster, but wide queries through DuckDB two and a half times slower and files a tenth larger.
- **Ten days of quotes, decoded anew.** Ten files are opened, and 200,000 rows become decimals of 128 bits; ArcticDB
  hands out floats of 64 bits as they lie, in one piece. Two threads need two thirds of the time of one.
- **Latest quote.** The same statement looks up the instrument, its primary source and an import that is being
  finished; then the row is made one of Python's decimals. Without these it would not always be the newest row.
- **Minute bars beside ArcticDB.** More than half of the query is DuckDB's `time_bucket` over times with a zone. Runs
  of sorted rows added up with NumPy took half as long in a prototype, but answer this one question only.
- **Bulk import.** Each row is checked, numbered, sorted, hashed twice (as given and as stored) and encoded with
  statistics of every column. Encoding alone takes as long as all of `sink_parquet`.
"""
