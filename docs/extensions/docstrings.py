"""Docstrings are written for readers of the source, with fences and `Raises:`; Sphinx reads reStructuredText."""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_NAMES = re.compile(r"    (\w+(?:, \w+)*): (.*)")


def _fences_to_blocks(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Fenced text becomes a literal block, in place."""
    converted: list[str] = []
    is_inside = False
    for line in lines:
        if line.strip().startswith("```"):
            is_inside = not is_inside
            converted += ["::", ""] if is_inside else [""]
        else:
            converted.append(f"    {line}" if is_inside else line)
    lines[:] = converted


def _raises_to_fields(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """What stands below `Raises:` becomes a list of fields, in place; other text with a colon stays text."""
    converted: list[str] = []
    is_inside = False
    for line in lines:
        if re.fullmatch(r"Raises(, .*)?:", line):
            is_inside = True
            converted.append("" if line == "Raises:" else f"{line.removesuffix(':')}:")
            converted.append("")
        elif is_inside and line.startswith("    "):
            named = _NAMES.fullmatch(line)
            converted.append(f":raises {named[1].replace(', ', ' or ')}: {named[2]}" if named else line)
        else:
            is_inside = is_inside and not line
            converted.append(line)
    lines[:] = converted


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _fences_to_blocks)
    app.connect("autodoc-process-docstring", _raises_to_fields)
    return {"parallel_read_safe": True}
