"""Guards that read the members of JSON objects from outside."""

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
"""Choices, and calls of one choice: an answer must not decide how long our tables get."""

_NO_REASON = ("", "null", "FINISH_REASON_UNSPECIFIED")


def text(value: object) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def reason(value: object) -> str | None:
    """Return a finish reason; None for what is none, whatever the text for that is."""
    return value if isinstance(value, str) and value not in _NO_REASON else None


def as_json(value: object) -> str:
    """Return the input of a call as text, "" for None; some servers send the object itself."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def table(value: object) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list, or the only one where there is no list around it."""
    if isinstance(value, dict):
        return [value]
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def count(value: object) -> int | None:
    """Return a number of tokens, None for anything else, and for more than 64 bits hold."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Python cannot write the sum of two numbers of 4,300 digits, which JSON may hold.
    return value if value.__class__ is int and value.bit_length() < 64 else None


def position(value: object, what: str) -> int:
    """Return an index, which may be the text of one. Raises `BadChunkError` for anything else."""
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
    """The names that a dialect gives to the members of its usage; immutable.

    What several names of ``read``, or of ``written``, count is added up.
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
