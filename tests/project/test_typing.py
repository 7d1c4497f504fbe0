"""Every public name in a program with types, which ``nox -s types`` has two checkers read."""

from __future__ import annotations

import ast
from pathlib import Path

import resilient_requests

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "typed_program.py"


def test_the_typed_program_uses_every_public_name() -> None:
    """A name that is imported and not used would be found by the linter."""
    imported = {
        alias.name
        for node in ast.walk(ast.parse(PROGRAM.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "resilient_requests"
        for alias in node.names
    }

    assert imported == set(resilient_requests.__all__)
