"""`make bench-lake`: reads, writes, size and growth of the lake beside its peers, in one run, against its goals."""

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.lake.comparing import Answer, compare
from benchmarks.lake.machine import facts
from benchmarks.lake.processes import FailedError, Process
from benchmarks.lake.report import Figure, document, show
from benchmarks.lake.sizes import FULL, SMALL, Sizes, make_source

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / ".venv-bench" / "bin" / "python"
NARROW = {
    "symbol_day": "a symbol-day of quotes",
    "symbol_bars": "ten years of a symbol's daily bars",
    "symbol_days": "ten days of a symbol's quotes",
}
BARE_READ = "Polars on the same files"
SECTIONS = ("Narrow reads", "Wide reads", "Writes", "Size", "Growth")


class Run:
    """One run: the contenders, and what was measured so far."""

    def __init__(self, folder: Path, sizes: Sizes, console: Console, *, most: int) -> None:
        self.folder, self.sizes, self.console, self.most = folder, sizes, console, most
        self.given = asdict(sizes)
        self.source = folder / "source"
        self.sections: dict[str, list[Figure]] = {title: [] for title in SECTIONS}
        self.processes: list[Process] = []
        self.missing: dict[str, str] = {}
        self.grown: dict[int, float] = {}
        self.versions: dict[str, str] = {}
        self.libpq = ""

    def start(self, name: str, module: str, **python: Path) -> Process:
        process = Process(name, module, log=self.folder / f"{module}.log", **python)
        self.processes.append(process)
        return process

    def medalion(self) -> Process:
        """A process with the store open."""
        process = self.start("medalion", "ours")
        opened = process.ask("open", folder=str(self.folder / "store"), source=str(self.source), sizes=self.given)
        self.libpq = opened["libpq"]
        self.versions |= process.ask("versions")
        return process

    def bare(self) -> Process:
        """A process for the engines without the store, on the same server."""
        process = self.start("bare", "bare")
        process.ask("open", folder=str(self.folder / "bare"), source=str(self.source), libpq=self.libpq)
        self.versions |= process.ask("versions")
        return process

    def peer(self, name: str, module: str, library: str) -> Process | None:
        """A contender of the other environment; None where it is not installed."""
        if not PEERS.exists() or subprocess.run([PEERS, "-c", f"import {library}"], capture_output=True).returncode:  # noqa: S603 - names of this module
            self.missing[name] = "not installed"
            return None
        return self.start(name, module, python=PEERS)

    def prepared(self, process: Process | None, **arguments: Any) -> Process | None:
        """The contender with its rows loaded; None where it could not."""
        if process is None:
            return None
        self.console.print(f"  loading {process.name}")
        try:
            process.ask("load", **arguments)
            self.versions |= process.ask("versions")
        except FailedError as error:
            self.missing[process.name] = str(error)[:100]
            return None
        return process

    def attempt(self, section: str, work: Callable[..., None], *arguments: Any) -> None:
        """Do a part of the run; a contender that fails in it costs the part, not the run."""
        try:
            work(self, *arguments)
        except FailedError as error:
            self.add(section, Figure(work.__name__.replace("_", " "), "", None, note=str(error)[:200]))

    def add(self, section: str, *figures: Figure) -> None:
        self.sections[section].extend(figures)
        for figure in figures:
            self.console.print("  " + ", ".join(filter(None, figure.cells())), highlight=False)


def fill(run: Run, ours: Process, bare: Process) -> None:
    sizes = run.sizes
    ours.ask("register")
    imported = sunk = 0.0
    for day in range(sizes.days):
        imported += ours.ask("import_quotes", day=day)
        sunk += bare.ask("sink", day=day)
        if day == 0:
            ours.ask("compact")
            run.grown[sizes.day_rows] = grown(ours)
    run.add(
        "Writes",
        Figure(
            f"bulk import of {sizes.quotes / 1e6:g} M quotes, a day at a time",
            "Polars sink_parquet, zstd 1",
            imported,
            sunk,
            unit="s",
            factor=1.3,
        ),
    )
    run.console.print("  importing bars, compacting")
    seconds = ours.ask("import_bars")
    run.add(
        "Writes", Figure(f"bulk import of {sizes.bars / 1e6:g} M daily bars, a year at a time", "", seconds, unit="s")
    )
    run.add("Writes", Figure("compaction of all of it", "", ours.ask("compact"), unit="s"))


def grown(ours: Process) -> float:
    answer = compare({"medalion": (ours, "first_day")})["medalion"]
    if answer.seconds is None:
        raise FailedError(answer.note)
    return answer.seconds


def narrow_reads(run: Run, ours: Process, bare: Process, peers: dict[str, Process | None]) -> None:
    goals = {"ArcticDB": 1.5, "SQLAlchemy, PostgreSQL": 1 / 30, "NautilusTrader": 1 / 3}
    for work, title in NARROW.items():
        asked = {"medalion": (ours, work), BARE_READ: (bare, work)}
        asked |= {
            name: (peer, work) for name, peer in peers.items() if peer and (name in goals or work == "symbol_day")
        }
        variant = f"{work}_values" if work != "symbol_bars" else f"{work}_read"
        asked |= {"anew": (ours, f"{work}_anew"), "variant": (ours, variant)}
        if peers["ArcticDB"]:
            asked["ArcticDB as Arrow"] = (peers["ArcticDB"], f"{work}_arrow")
        found = compare(asked)
        mine = found["medalion"]
        for each, answer in ((title, mine), (f"{title}, decoded anew", found["anew"])):
            run.add("Narrow reads", _figure(each, BARE_READ, answer, found[BARE_READ], most=0.0015, is_extra=True))
            for name, factor in goals.items():
                run.add("Narrow reads", _figure(each, name, answer, _theirs(run, found, name), factor=factor))
        for name in ("chDB", "ArcticDB as Arrow"):
            if name in found:
                run.add("Narrow reads", _figure(title, name, mine, found[name]))
        said = "the times and values alone" if work != "symbol_bars" else "store.read instead of store.bars"
        theirs = _theirs(run, found, "ArcticDB")
        run.add("Narrow reads", _figure(f"{title}, {said}", "ArcticDB", found["variant"], theirs, factor=1.5))


def _theirs(run: Run, found: dict[str, Answer], name: str) -> Answer:
    """What a contender answered, or why it is not there."""
    return found.get(name) or Answer(note=run.missing.get(name, ""))


def wide_reads(run: Run, ours: Process, bare: Process, peers: dict[str, Process | None]) -> None:
    title = f"minute bars of {run.sizes.quotes / 1e6:g} M quotes"
    asked = {"medalion": (ours, "minute_bars"), "DuckDB, one ideal file": (bare, "minute_bars")}
    asked |= {name: (peer, "minute_bars") for name in ("ArcticDB", "chDB") if (peer := peers[name])}
    found = compare(asked, rounds=run.sizes.repeats, times=1, best=True)
    goals: dict[str, float | None] = {"DuckDB, one ideal file": 1.1, "ArcticDB": 1.0, "chDB": None}
    for name, factor in goals.items():
        theirs = _theirs(run, found, name)
        run.add("Wide reads", _figure(title, name, found["medalion"], theirs, unit="s", factor=factor, has_peaks=True))
    title = f"{run.sizes.trades:,} trades ASOF {run.sizes.quotes / 1e6:g} M quotes"
    found = compare(
        {"medalion": (ours, "asof"), "DuckDB": (bare, "asof")}, rounds=run.sizes.repeats, times=1, best=True
    )
    figure = _figure(
        title, "DuckDB, same files", found["medalion"], found["DuckDB"], unit="s", factor=0.6, has_peaks=True
    )
    run.add("Wide reads", figure)


def latest(run: Run, ours: Process, bare: Process) -> None:
    found = compare({"medalion": (ours, "latest"), "bare": (bare, "latest")}, times=100)
    title, look_up = "latest quote", "a look-up by primary key"
    run.add("Narrow reads", _figure(title, look_up, found["medalion"], found["bare"], factor=1.3))
    taken: dict[str, list[float]] = {"ours": [], "bare": [], "native": []}
    for _ in range(5):
        taken["ours"] += ours.ask("latest_async", times=100)
        taken["bare"] += bare.ask("latest_async", times=100)
        taken["native"] += bare.ask("latest_native", times=100)
    mine, theirs, native = (sorted(each)[len(each) // 2] for each in taken.values())
    run.add(
        "Narrow reads",
        Figure(f"{title}, awaited", f"{look_up}, in a thread too", mine, theirs, factor=1.3),
        Figure(f"{title}, awaited", f"{look_up}, psycopg's async connections", mine, native, factor=1.3),
    )


def size_and_growth(run: Run, ours: Process, peers: dict[str, Process | None]) -> None:
    mine = ours.ask("bytes_per_quote")
    for name, factor in (("SQLAlchemy, PostgreSQL", 0.1), ("ArcticDB", 0.5)):
        peer = peers[name]
        theirs = peer.ask("bytes_per_quote") if peer else None
        against = {"SQLAlchemy, PostgreSQL": "PostgreSQL, table and indexes"}.get(name, name)
        note = run.missing.get(name, "")
        run.add("Size", Figure("bytes per quote", against, mine, theirs, unit="bytes", factor=factor, note=note))
    run.grown[run.sizes.quotes] = grown(ours)


def growth(run: Run, ours: Process) -> None:
    """Up to the rows asked for, a day at a time."""
    for day in range(run.sizes.days, max(run.sizes.days, run.most // run.sizes.day_rows)):
        ours.ask("import_quotes", day=day)
    if run.most > run.sizes.quotes:
        ours.ask("compact")
        run.grown[run.most] = grown(ours)
    least, *more = run.grown.items()
    for rows, seconds in more:
        title = f"a symbol-day among {rows / 1e6:g} M quotes"
        run.add("Growth", Figure(title, f"the same among {least[0] / 1e6:g} M", seconds, least[1], factor=1.5))


def planning(run: Run) -> None:
    process = run.start("planning", "planning")
    process.ask("load", folder=str(run.folder / "planned"), files=run.sizes.files)
    said = f"{run.sizes.files:,} files in the log"
    cold = min(process.ask("cold") for _ in range(3))
    planned, looked = process.ask("plan"), process.ask("refresh")
    run.add(
        "Growth",
        Figure(f"{said}: plan a symbol-day", "", planned["narrow"], most=0.02),
        Figure(f"{said}: plan a read of everything", "", planned["wide"], most=0.02),
        Figure(f"{said}: look for news, none", "", looked["unchanged"], most=0.02),
        Figure(f"{said}: look for news, one commit", "", looked["changed"], most=0.02),
        Figure(f"{said}: open cold", "", cold),
    )
    process.close()


def writes(run: Run, ours: Process, bare: Process) -> None:
    sizes, number = run.sizes, 0
    written, copied, peak = [], [], 0.0
    for _ in range(sizes.repeats):
        done = ours.ask("write", number=number, rows=sizes.written)
        copied.append(bare.ask("copy", write_id=done["write_id"]))
        written.append(done["seconds"])
        peak, number = peak or done["peak_mb"], number + 1
    figure = Figure(
        f"durable write of {sizes.written / 1e6:g} M quotes",
        "COPY of ready text into a twin of the table",
        min(written),
        min(copied),
        unit="s",
        factor=1.2,
        peaks=(peak, 0.0),
    )
    run.add("Writes", figure)
    mirrored, exported = [], []
    for _ in range(sizes.repeats):
        ours.ask("mirror")
        ours.ask("prune")
        for _ in range(sizes.mirrored):
            ours.ask("write", number=number, rows=sizes.written)
            number += 1
        exported.append(bare.ask("export"))
        mirrored.append(ours.ask("mirror"))
        if exported[-1]["rows"] != mirrored[-1]["rows"]:
            raise FailedError(f"{mirrored[-1]['rows']} rows were mirrored, {exported[-1]['rows']} exported")
    mine, theirs = (min(found, key=lambda each: each["seconds"]) for found in (mirrored, exported))
    title = f"mirror of {sizes.mirrored * sizes.written / 1e6:g} M rows"
    way = f"export to one Parquet file; ADBC {theirs['ADBC']:.1f} s, CSV {theirs['CSV']:.1f} s"
    peaks = (mirrored[0]["peak_mb"], exported[0]["peak_mb"])
    run.add("Writes", Figure(title, way, mine["seconds"], theirs["seconds"], unit="s", factor=1.3, peaks=peaks))
    ours.ask("prune")
    ours.ask("write", number=number, rows=sizes.huge)
    other = run.medalion()
    found = other.ask("mirror")
    title = f"memory of mirroring a write of {sizes.huge / 1e6:g} M rows by another process"
    note = f"took {found['seconds']:.1f} s"
    run.add("Writes", Figure(title, "", found["peak_mb"], unit="MB", most=512, note=note))
    other.close()


def _figure(work: str, against: str, ours: Answer, theirs: Answer, *, has_peaks: bool = False, **goal: Any) -> Figure:
    note = ours.note or theirs.note
    peaks = (ours.peak_mb, theirs.peak_mb) if has_peaks else None
    return Figure(work, against, ours.seconds, theirs.seconds, note=note, peaks=peaks, **goal)


def measure(run: Run) -> None:
    run.console.print(f"  making {run.sizes.quotes:,} quotes and {run.sizes.bars:,} bars")
    make_source(run.source, run.sizes)
    ours, bare = run.medalion(), run.bare()
    fill(run, ours, bare)
    run.attempt("Growth", planning)
    arguments = {"source": str(run.source), "sizes": run.given}
    folders = {name: str(run.folder / name) for name in ("arctic", "nautilus")}
    questions = {work: ours.ask("question", work=work) for work in NARROW}
    files = ours.ask("files")
    bare.ask("load", questions=questions, files=files, sizes=run.given)
    peers: dict[str, Process | None] = {
        "ArcticDB": run.prepared(run.peer("ArcticDB", "arctic", "arcticdb"), folder=folders["arctic"], **arguments),
        "NautilusTrader": run.prepared(
            run.peer("NautilusTrader", "nautilus", "nautilus_trader"), folder=folders["nautilus"], **arguments
        ),
        "chDB": run.prepared(run.peer("chDB", "clickhouse", "chdb"), day=questions["symbol_day"], files=files),
        "SQLAlchemy, PostgreSQL": run.prepared(
            run.start("SQLAlchemy, PostgreSQL", "rows"), libpq=run.libpq, **arguments
        ),
    }
    run.attempt("Narrow reads", narrow_reads, ours, bare, peers)
    run.attempt("Narrow reads", latest, ours, bare)
    run.attempt("Size", size_and_growth, ours, peers)
    run.attempt("Wide reads", wide_reads, ours, bare, peers)
    for peer in peers.values():
        if peer:
            peer.close()
    # New processes: what the reads have left in memory would hide what writes take.
    writer, plain = run.medalion(), run.bare()
    for process in (ours, bare):
        process.close()
    run.attempt("Writes", writes, writer, plain)
    run.attempt("Growth", growth, writer)
    plain.close()
    writer.close()


@contextmanager
def scratch(keep: Path | None) -> Iterator[Path]:
    """A folder that a server of another user can reach; removed afterwards, unless it was named."""
    folder = keep or Path(tempfile.mkdtemp(prefix="medalion-bench-"))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-lake", description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="a twentieth of the rows, to try the run; keeps no figures"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for everything that is stored, which then stays")
    given = parser.parse_args()
    sizes = SMALL if given.small else FULL
    console = Console(width=200)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch(given.keep))
        run = Run(folder, sizes, console, most=int(os.environ.get("MEDALION_BENCH_ROWS", "0")))
        try:
            measure(run)
        finally:
            for process in run.processes:
                process.stop()
    said = facts(sizes, run.versions)
    for title, figures in run.sections.items():
        show(console, title, figures)
    for name, value in said.items():
        console.print(f"{name}: {value}")
    if not given.small:
        (ROOT / "docs" / "benchmarks.md").write_text(document(said, run.sections), "utf-8")


if __name__ == "__main__":
    main()
