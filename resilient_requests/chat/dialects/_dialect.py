"""What a dialect is: how a provider wants to be asked, and how its answer is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resilient_requests.chat.dialects._errors import BadChunkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilient_requests.chat._types import ChatDelta

__all__ = ["Dialect", "Parser"]


class Parser:
    """Reads the chunks of one answer; no I/O.

    Errors that a provider reports are noticed before: a parser sees chunks without one. Both methods raise
    `BadChunkError`, and `ProviderError` where a dialect hides it elsewhere; what they do not know they ignore.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.linger = 0.1  # seconds for which more is awaited after the finish reason
        self.is_done = False  # the dialect's own terminal marker has come
        self.choices: set[int] = (
            set()
        )  # choices that have been announced, if by a role only: each has to finish
        self.refused: set[int] = set()  # choices that were refused: their tool calls are void

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta]:
        """Return what a chunk adds; ``event`` is the name of the server-sent event."""
        raise NotImplementedError

    def whole(self, data: dict[str, Any]) -> list[ChatDelta]:  # noqa: ARG002
        """Return what a whole answer says, that of a server which does not stream."""
        raise BadChunkError("the body is JSON, but no answer")


def _as_given(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": messages, **more, "stream": True}


def _same_url(url: str, model: str) -> str:  # noqa: ARG001  # other dialects need it
    return url


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One provider's way; immutable.

    ``body``: model, messages and the caller's other members in, the JSON object to be sent out. ``takes_text``: a plain
    str will do for messages. ``asks_usage``: whether a body asks for usage after the finish reason. ``choices``: how
    many choices a body asks for.
    """

    name: str
    parser: Callable[[], Parser]
    body: Callable[[str, Any, dict[str, Any]], dict[str, Any]] = _as_given
    is_ndjson: bool = False
    takes_text: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    url: Callable[[str, str], str] = _same_url
    asks_usage: Callable[[Mapping[str, Any]], bool] = lambda body: False  # noqa: ARG005
    choices: Callable[[Mapping[str, Any]], int] = lambda body: 1  # noqa: ARG005
