"""Lists of corpus entries that fail at present."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SINCE = re.compile(r"(.*) \[Python 3\.(\d+)\]")


def read(path: Path) -> frozenset[str]:
    """Return the names in a list, one a line.

    "[Python 3.13]" behind a name: it is a fault since that version only.
    """
    names = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        since = _SINCE.fullmatch(line)
        if since is not None and sys.version_info < (3, int(since[2])):
            continue
        if line and not line.startswith("#"):
            names.add(line if since is None else since[1])
    return frozenset(names)
