"""`medalion demo`: a tour on real data, from three packages' files to a report; see `run`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def run(data_dir: Path | str | None = None, console: "Console | None" = None) -> Path:
    """The path of the report that the demo writes, `reports/demo.html` in the data folder.

    It loads stock bars and Polymarket books, mirrors them, trades a moving-average cross on the bars, books a
    prediction-market bot's trades, and prints what each step did. The store stays, for queries and notebooks. Run
    again, it finds what is there and adds nothing; stopped half-way, it goes on.

    Raises:
        MedalionError: a package of the extra `demo` is not installed; says what to install.
    """
    from medalion.demo.tour import Tour

    return Tour(data_dir, console).run()
