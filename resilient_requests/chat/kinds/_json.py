"""JSON with numbers of any size: Python's int() refuses thousands of digits."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["is_json", "loads"]


def _number(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:
        return float(digits)


_decode = json.JSONDecoder(parse_int=_number).decode


def loads(text: str) -> Any:
    """Return the value of a JSON text; an integer of thousands of digits is a float.

    Raises ``json.JSONDecodeError``, and RecursionError for a text that is nested too deeply.
    """
    return _decode(text)


def is_json(text: str) -> bool:
    """Return True if a text is JSON."""
    try:
        _decode(text)
    except (ValueError, RecursionError):
        return False
    return True
