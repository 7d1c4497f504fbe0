"""Settings of Sphinx. Nothing is fetched while building: no intersphinx, no fonts, no scripts."""

from __future__ import annotations

from importlib import metadata

project = "resilient_requests"
author = "The resilient_requests authors"
copyright = f"2026, {author}"
release = metadata.version("resilient_requests")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"resilient_requests {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}
