"""Guards for reading members of JSON objects that come from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._types import Usage
from resilient_requests.chat.kinds._errors import BadChunkError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Tokens", "as_json", "count", "items", "position", "reason", "table", "text"]

_MOST = 1024
"""Limit of choices, and of calls of one choice: an answer must not set our tables' length."""

_NO_REASON = ("", "null", "FINISH_REASON_UNSPECIFIED")


def text(value: object) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def reason(value: object) -> str | None:
    """Return a finish reason; None for any value that means that there is none."""
    return value if isinstance(value, str) and value not in _NO_REASON else None


def as_json(value: object) -> str:
    """Return the input of a call as text, "" for None. Some servers send an object, not text."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def table(value: object) -> dict[str, Any]:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list, or the only object of a value without a list."""
    if isinstance(value, dict):
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def count(value: object) -> int | None:
    """Return a number of tokens; None for anything else, and for a number over 64 bits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # JSON may hold numbers of 4,300 digits. Python cannot write the sum of two of them.
    return value if value.__class__ is int and value.bit_length() < 64 else None


def position(value: object, what: str) -> int:
    """Return an index from a number or its text. Raises `BadChunkError` for anything else."""
    if value.__class__ is int and 0 <= value < _MOST:  # nearly always
        return value
    number = count(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 5:
        number = int(value)
    if number is None or not 0 <= number < _MOST:
        raise BadChunkError(f"{what} index {str(value)[:40]} is not one of 0 to {_MOST - 1}")
    return number


@dataclass(frozen=True)
class Tokens:
    """The names of the members of a dialect's usage; immutable.

    The counts of several names of ``read``, or of ``written``, are added up.
    """

    read: tuple[str, ...]
    written: tuple[str, ...]
    total: str = "total_tokens"

    def usage(self, raw: Mapping[str, Any]) -> Usage | None:
        """Return the usage in an object, None where there is none."""
        read, written = _sum(raw, self.read), _sum(raw, self.written)
        total = count(raw.get(self.total))
        if total is None and read is not None and written is not None:
            total = read + written
        return Usage(read, written, total, raw) if raw else None


def _sum(raw: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    total = None
    for name in names:
        if (number := count(raw.get(name))) is not None:
            total = number + (total or 0)
    return total
