"""What can be wrong with a chunk, and the guards that find it."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "BadChunkError",
    "ProviderError",
    "as_json",
    "count",
    "error_of",
    "is_transient",
    "items",
    "position",
    "table",
    "text",
]

_TRANSIENT = frozenset(
    {"server_error", "internal_error", "overloaded_error", "api_error", "rate_limit_error"}
)
_MOST = 1024
"""Of choices, and of tool calls of one choice: an answer must not let a table grow as it likes."""


class BadChunkError(ValueError):
    """A chunk is not what its dialect allows."""


class ProviderError(Exception):
    """A chunk says that the provider failed; ``message`` is None where it does not say how."""

    def __init__(
        self,
        *,
        message: str | None,
        type: str | None = None,  # noqa: A002  # the provider's word
        code: str | int | None = None,
    ) -> None:
        super().__init__(message or "the provider reported an error without a message")
        self.message = message
        self.type = type
        self.code = code


def is_transient(kind: str | None, code: str | int | None) -> bool:
    """Whether a repetition may succeed: by the error's type, else by its code."""
    if kind is not None:
        return kind in _TRANSIENT
    if isinstance(code, str):
        # A status has three digits, and int() refuses thousands of them.
        if not (len(code) == 3 and code.isascii() and code.isdigit()):
            return code in _TRANSIENT
        code = int(code)
    return code in (408, 409, 429) or 500 <= (code or 0) <= 599


def error_of(error: object) -> ProviderError:
    """Return what an ``error`` member says, whatever its form, or a chunk that is one."""
    if not isinstance(error, dict):
        return ProviderError(message=str(error).strip() or None)
    message, kind, code = error.get("message"), error.get("type"), error.get("code")
    if isinstance(code, bool) or not isinstance(code, (str, int)):
        code = None
    return ProviderError(
        message=message if isinstance(message, str) and message else None,
        type=kind if isinstance(kind, str) and kind not in ("", "error") else None,
        code=code,
    )


def text(value: object) -> str:
    """Return a text, "" for anything else."""
    return value if isinstance(value, str) else ""


def as_json(value: object) -> str:
    """Return the arguments of a call as text, "" for None; some servers send the object itself."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def table(value: object) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list, nothing for anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def count(value: object) -> int | None:
    """Return a number of tokens, None for anything else, and for more than 64 bits hold."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    # Python cannot write the sum of two numbers of 4,300 digits, which JSON may hold.
    return value if value.bit_length() < 64 else None


def position(value: object, what: str) -> int:
    """Return an index. Raises `BadChunkError` for what is none, or could not be one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise BadChunkError(f"{what} index {str(value)[:40]} is not one of 0 to {_MOST - 1}")
    return value
