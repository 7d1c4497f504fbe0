"""Errors that a provider reports inside a stream, in whatever form."""

from __future__ import annotations

__all__ = ["BadChunkError", "ProviderError", "error_of", "is_transient"]

_TRANSIENT = frozenset(
    {"server_error", "internal_error", "overloaded_error", "api_error", "rate_limit_error"}
)


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
    if isinstance(code, str) and not (code.isascii() and code.isdigit()):
        return code in _TRANSIENT
    number = int(code or 0)
    return number in (408, 409, 429) or 500 <= number <= 599


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
