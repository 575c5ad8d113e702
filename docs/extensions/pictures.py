"""Draws the Mermaid pictures of the guides as SVG inside the page, while the site is built."""

from itertools import count

import mmdr
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_numbers = count(1)


class Mermaid(Directive):
    """A fence of `mermaid`: the host of the source draws it itself; here it becomes a picture."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture in a frame of its own, which scrolls where a page is too narrow."""
        source = "\n".join(self.content)
        # Two pictures on a page would share the ids of their arrowheads, and the second lose its own.
        picture = mmdr.render(source).svg().replace("merman", f"picture-{next(_numbers)}")
        return [nodes.raw("", f'<div class="picture">{picture}</div>', format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": False}
