"""One self-contained HTML page: title, key figures, charts and tables; no network, no other file.

The page carries its scripts, styles and data, and a content security policy that keeps it from fetching anything.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

import altair as alt
import jinja2
import vl_convert

from medalion.core.errors import InputError
from medalion.core.time import utc

_FIGURE = re.compile(r"[+-]?[$€£]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?\s*(%|×|[a-z]{1,5})?( \d+[a-z])?|—", re.IGNORECASE)


class Tone(StrEnum):
    """How a key figure is coloured."""

    NEUTRAL = "neutral"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure: `label` says what it is, `value` is its text, `note` the small print below."""

    label: str
    value: str
    note: str = ""
    tone: Tone = Tone.NEUTRAL


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header; numbers stand to the right, negative ones are red.

    `wide`: over the whole width of the page instead of half of it.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title; `wide` as for a table."""

    title: str
    chart: alt.LayerChart
    note: str = ""
    wide: bool = True


def write_tearsheet(
    path: Path | str,
    *,
    title: str,
    subtitle: str = "",
    cards: Sequence[Card] = (),
    tables: Sequence[Table] = (),
    charts: Sequence[Figure] = (),
    generated_at: datetime | None = None,
) -> Path:
    """The page's path; the file is replaced whole or not at all, and only its owner may read it.

    All texts are taken as text: markup in them is shown, never run. `generated_at` is by default now.

    Raises:
        InputError: the folder does not exist or cannot be written, or a row is not as long as its header.
    """
    target = Path(path).expanduser().absolute()
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent}; create it first", given=str(path), expected="a folder")
    page = render_tearsheet(
        title=title, subtitle=subtitle, cards=cards, tables=tables, charts=charts, generated_at=generated_at
    )
    try:
        _write(target, page)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}", given=str(path)) from error
    return target


def _write(target: Path, page: str) -> None:
    # A temporary file is created private, and renaming it is atomic because it lies in the same folder.
    with NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def render_tearsheet(
    *,
    title: str,
    subtitle: str = "",
    cards: Sequence[Card] = (),
    tables: Sequence[Table] = (),
    charts: Sequence[Figure] = (),
    generated_at: datetime | None = None,
) -> str:
    """The HTML that `write_tearsheet` writes."""
    for table in tables:
        for row in table.rows:
            if len(row) != len(table.header):
                raise InputError(
                    f"table {table.title!r} has {len(table.header)} columns and a row of {len(row)}",
                    given=row,
                    expected=table.header,
                )
    return _template().render(
        title=title,
        subtitle=subtitle,
        cards=cards,
        tables=tables,
        charts=charts,
        specs=[figure.chart.to_dict() for figure in charts],
        generated_at=utc(generated_at) if generated_at else datetime.now(UTC),
        scripts=_scripts() if charts else "",
    )


def _kind(cell: str) -> str:
    """The CSS class of a cell."""
    if not _FIGURE.fullmatch(cell.strip()):
        return "text"
    return "figure negative" if cell.strip().startswith("-") else "figure"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medalion.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    return environment.get_template("tearsheet.html.j2")


@cache
def _scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, in the version that the charts are written for."""
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
