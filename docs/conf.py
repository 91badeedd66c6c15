"""How the pages become HTML: `make docs`."""

from __future__ import annotations

project = "cimrobust"
extensions = ["myst_parser"]
root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["generator"]

# Links to headings, as GitHub addresses them; a link that leads nowhere is an error in `make docs`.
myst_heading_anchors = 4

html_theme = "alabaster"
html_theme_options = {"page_width": "1200px", "body_max_width": "none", "fixed_sidebar": True}
html_title = "cimrobust"
html_show_sphinx = False
html_show_copyright = False
