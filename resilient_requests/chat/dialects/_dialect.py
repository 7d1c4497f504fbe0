"""The base of the dialects: how to ask a provider, and how to read its answer."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit, urlunsplit

from resilient_requests.chat.kinds import Tokens, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilient_requests.chat._types import ChatCompletion, ChatDelta, Usage

__all__ = ["Dialect", "Parser", "with_query"]

_MOST_UNKNOWN = 32
_MOST_MEMBERS = 64  # of a usage: each chunk with a usage copies all of them
_NAME = re.compile(r"[\w./:-]{1,64}")


class Parser:
    """Reads the chunks of one answer; no I/O.

    It sees no chunk that reports an error by a common sign: the reader has raised that one. It
    raises `BadChunkError`, and `ProviderError` for an error that only its dialect can recognize.
    """

    tokens: ClassVar[Tokens] = Tokens(("prompt_tokens",), ("completion_tokens",))

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.is_done = False  # the dialect's own terminal marker has come
        # Choices that were announced, even by a role alone: each has to finish.
        self.choices: set[int] = set()
        self.refused: set[int] = set()  # choices that were refused: their tool calls are void
        self.other_output = 0  # pieces of output for which a delta has no member
        self.contradiction: str | None = None  # why a complete body cannot be the whole answer
        self.unknown: dict[str, int] = {}
        self._usage: dict[str, Any] = {}

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:
        """Return the deltas of a chunk, None if it understood no part of it.

        ``event`` is the name of the server-sent event, "message" where it has none.
        """
        raise NotImplementedError

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        """Return the deltas of a document that is the whole answer, None if it is not one."""
        return None

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        """Return the provider's own message of a choice; ``completion`` is the choice's answer."""
        return None

    def begin(self, facts: dict[str, Any], id_name: str = "id", model_name: str = "model") -> None:
        """Note the answer's id and model if an object has them and no earlier one had."""
        self.id = self.id or text(facts.get(id_name)) or None
        self.model = self.model or text(facts.get(model_name)) or None

    def usage(self, raw: object) -> Usage | None:
        """Return the usage with an object's counts added, None if it adds nothing.

        A null does not erase a known count.
        """
        if not isinstance(raw, dict) or not raw:
            return None
        if None in raw.values() or not self._usage.keys() <= raw.keys():
            known = {name: value for name, value in raw.items() if value is not None}
            raw = dict(itertools.islice({**self._usage, **known}.items(), _MOST_MEMBERS))
        self._usage = raw
        return self.known_usage

    @property
    def known_usage(self) -> Usage | None:
        """The usage so far."""
        return self.tokens.usage(self._usage)

    def note_unknown(self, name: str) -> None:
        """Count the name of an event or member that the dialect does not understand."""
        shown = name if _NAME.fullmatch(name) else "?"
        if shown in self.unknown or len(self.unknown) < _MOST_UNKNOWN:
            self.unknown[shown] = self.unknown.get(shown, 0) + 1


def _as_given(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": messages, **more, "stream": True}


def _same_url(url: str, model: str) -> str:  # noqa: ARG001  # other dialects need it
    return url


def with_query(url: str, name: str, value: str) -> str:
    """Return a URL with a parameter in its query, unless it has one of that name."""
    parts = urlsplit(url)
    if name in parse_qs(parts.query):
        return url
    query = "&".join(each for each in (parts.query, f"{name}={value}") if each)
    return urlunsplit(parts._replace(query=query))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The rules of one provider; immutable.

    ``body`` takes the model, the messages and the caller's other members, and returns the JSON
    object to send. ``takes_text``: ``messages`` may be a plain str. ``is_ndjson``: the answer comes
    as one JSON object per line. ``asks_usage``: whether a body asks for usage after the finish
    reason. ``choices``: the number of choices that a body asks for.
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
