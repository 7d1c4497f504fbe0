"""Settings of Sphinx. Nothing is fetched while building: no intersphinx, no fonts, no scripts."""

from __future__ import annotations

import inspect
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

project = "resilient_requests"
author = "The resilient_requests authors"
copyright = f"2026, {author}"
release = metadata.version("resilient_requests")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"
html_theme = "furo"
html_title = f"resilient_requests {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_js_files = ["pages.js"]
html_use_index = False  # the reference is grouped by task, and the search knows each name

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True}

# In our docstrings a parameter is told as "``name``: text", several as "``one``, ``two``: text".
TOLD = re.compile(r"((?:``\w+``, )*``\w+``): ")
# A sentence behind the last of them is about the whole again, unless it says what None means.
SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z`])(?!None)")
# A default that was made with arguments, which may have parentheses in parentheses.
MADE = re.compile(r"(=[A-Z]\w*)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))+\)")


def shorten(*event: Any) -> tuple[str | None, str | None]:
    """Show a default that is an object by its class: its fields have a signature of their own."""
    signature, returns = event[5:]
    return signature and MADE.sub(r"\1()", signature), returns


def parameters(paragraph: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the parameters that a paragraph tells of, each with its text; "" is what is left."""
    before, *told = TOLD.split(paragraph)
    after: list[str] = []
    if told:
        told[-1], *after = SENTENCE.split(told[-1], maxsplit=1)
    yield "", before
    for head, text in zip(told[::2], told[1::2], strict=True):
        known = [name for name in re.findall(r"\w+", head) if name in names]
        yield from ((name, text) for name in known)
        if not known:
            yield "", f"{head}: {text}"
    yield from (("", each) for each in after)


def list_parameters(_app: Sphinx, _what: str, _name: str, what: Any, *rest: Any) -> None:
    """Move what a docstring tells of parameters to their list, where their types are."""
    lines: list[str] = rest[-1]
    try:
        names = set(inspect.signature(what).parameters)
    except (TypeError, ValueError):  # of an attribute
        return
    kept, fields = [], []
    for paragraph in "\n".join(lines).split("\n\n"):
        left = []
        for name, text in parameters(" ".join(paragraph.split("\n")), names):
            if name:
                fields.append(f":param {name}: {text}")
            elif text.strip():
                left.append(text.strip())
        kept.append(" ".join(left) if fields and TOLD.search(paragraph) else paragraph)
    if fields:
        lines[:] = [*"\n\n".join(each for each in kept if each).split("\n"), "", *fields, ""]


def setup(app: Sphinx) -> None:
    """Shorten signatures, and give each parameter its text."""
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", list_parameters)
