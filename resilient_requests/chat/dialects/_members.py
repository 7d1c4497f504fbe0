"""Guards that read the members of JSON objects from outside."""

from __future__ import annotations

import json
from typing import Any

from resilient_requests.chat.dialects._errors import BadChunkError

__all__ = ["as_json", "count", "items", "position", "table", "text"]

_MOST = 1024
"""Choices, and tool calls of one choice: an index is a place in a table that an answer must not let grow."""


def text(value: object) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def as_json(value: object) -> str:
    """Return the arguments of a call as text, which some servers send as the object itself; "" for None."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def table(value: object) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list, nothing for anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def count(value: object) -> int | None:
    """Return a number of tokens, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def position(value: object, what: str) -> int:
    """Return an index. Raises `BadChunkError` for what is none, or could not be one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise BadChunkError(f"{what} index {str(value)[:40]} is not one of 0 to {_MOST - 1}")
    return value
