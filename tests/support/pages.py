"""Figures that a runner writes into a page of the documentation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def fill_cases(page: Path, cases: Mapping[str, int]) -> None:
    """Write numbers of cases into the table of promises: by the first cell into the third one.

    Raises ValueError for a promise that is not in the table.
    """
    text = page.read_text(encoding="utf-8")
    for promise, number in cases.items():
        row = re.compile(rf"^(\| {re.escape(promise)} \|[^|\n]*\|)[^|\n]*\|", re.MULTILINE)
        text, count = row.subn(rf"\g<1> {number:,} |", text)
        if count != 1:
            raise ValueError(f"{page} has {count} rows for {promise!r}")
    page.write_text(text, encoding="utf-8")
