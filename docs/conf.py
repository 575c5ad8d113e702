"""The site of the guides and of the public names: `make docs` builds it, and a warning is an error.

Nothing comes from a network, neither while building nor while reading: the theme brings its own scripts and no fonts,
pictures are drawn while building (`docs/extensions/pictures.py`), and no page links a script or a style of elsewhere.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

import medalion  # noqa: E402 - found only now

project = "medalion"
author = "medalion contributors"
version = release = medalion.__version__
html_title = f"medalion {release}"
html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "pictures", "docstrings"]
exclude_patterns = ["extensions", "static"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
# Docstrings say code in single backticks, which is what a reader of the source sees.
default_role = "literal"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
