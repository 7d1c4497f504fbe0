"""Whether somebody watches a stream, and with what to draw there."""

from __future__ import annotations

from typing import Any, TextIO

__all__ = ["rich_console"]


def rich_console(stream: TextIO) -> Any:
    """Return a rich console for a stream; None where rich is not installed or nobody watches."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console  # optional: the extra `cli`
    except ImportError:
        return None
    return Console(file=stream, highlight=False)
