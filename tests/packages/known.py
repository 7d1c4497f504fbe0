"""Reads a list of tests that must fail: ``name: reason`` a line, and ``#`` begins a comment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> dict[str, str]:
    """Return the reasons by the names; a name ends with ``: ``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: reason for name, _, reason in pairs}
