"""The one part of the metadata that is computed: the README, as the page of an index shows it.

Its links lead to files beside it, which an index does not have.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:|#)([^)]+)\)")


def for_index(readme: str, source: str | None) -> str:
    """Return a README whose links work anywhere.

    ``source`` is the address of the repository; without one, only the words of a link are left.
    """
    return _LINK.sub(r"\1" if source is None else rf"[\1]({source}/blob/HEAD/\2)", readme)


def _source() -> str | None:
    """Return the `Source` of `project_urls` in setup.cfg."""
    settings = ConfigParser()
    settings.read("setup.cfg", "utf-8")
    lines = settings.get("metadata", "project_urls", fallback="").splitlines()
    urls = {name.strip(): url.strip() for name, _, url in (line.partition("=") for line in lines)}
    return urls.get("Source")


if __name__ == "__main__":  # as a build does, which has setuptools
    import setuptools

    setuptools.setup(long_description=for_index(Path("README.md").read_text("utf-8"), _source()))
