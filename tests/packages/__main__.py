"""Plays all clients and writes the page: ``python -m packages --page ../docs/packages.md``.

Runs in ``tests``. Exits with 1 where a cell of ours is worse than the plain one. Takes minutes.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packages.board import outcomes
from packages.clients import CLIENTS
from packages.table import BEGIN, END, problems, text_of

AT_ONCE = 2


def main() -> int:
    """Do all, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="write the table between its marks in this page")
    parser.add_argument("clients", nargs="*", choices=[[], *CLIENTS], help="all by default")
    given = parser.parse_args()
    names = given.clients or list(CLIENTS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(names, pool.map(outcomes, names), strict=True))
    text = text_of(found)
    sys.stdout.write(text)
    if given.page is not None:
        page = given.page.read_text(encoding="utf-8")
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        given.page.write_text(before + text.rstrip("\n") + after, encoding="utf-8")
    bad = problems(found)
    sys.stderr.writelines(f"{each}\n" for each in bad)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
