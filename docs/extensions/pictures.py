"""Draws the Mermaid pictures of the guides as SVG inside the page, while the site is built."""

from itertools import count

import mmdr
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_numbers = count(1)
_SMALLEST = 0.7
"""How far a picture may shrink."""


class Mermaid(Directive):
    """A fence of `mermaid`: the host of the source draws it itself; here it becomes a picture."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture in a frame of its own, which scrolls where a page is too narrow."""
        source = "\n".join(self.content)
        # Two pictures on a page would share the ids of their arrowheads, and the second lose its own.
        picture = mmdr.render(source).svg().replace("merman", f"picture-{next(_numbers)}")
        # A wide picture would shrink with the page until nobody can read it: below this it scrolls instead.
        width = float(picture.partition('viewBox="')[2].split()[2]) * _SMALLEST
        frame = f'<div class="picture"><div style="min-width: {width:.0f}px">{picture}</div></div>'
        return [nodes.raw("", frame, format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": False}
