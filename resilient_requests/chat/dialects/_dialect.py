"""What a dialect is: how a provider wants to be asked, and how its answer is read."""

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
_MOST_MEMBERS = 64  # of a usage, which is copied with each chunk that has one
_NAME = re.compile(r"[\w./:-]{1,64}")


class Parser:
    """Reads the chunks of one answer; no I/O.

    Errors that a provider reports are noticed before: a parser sees chunks without one. It raises
    `BadChunkError`, and `ProviderError` where a dialect hides an error elsewhere.
    """

    tokens: ClassVar[Tokens] = Tokens(("prompt_tokens",), ("completion_tokens",))

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.is_done = False  # the dialect's own terminal marker has come
        # Choices that have been announced, if by a role only: each has to finish.
        self.choices: set[int] = set()
        self.refused: set[int] = set()  # choices that were refused: their tool calls are void
        self.other_output = 0  # pieces of output for which a delta has no member
        self.contradiction: str | None = None  # why what came cannot be the whole answer
        self.unknown: dict[str, int] = {}
        self._usage: dict[str, Any] = {}

    def chunk(self, event: str, data: dict[str, Any]) -> list[ChatDelta] | None:
        """Return what a chunk adds, None where nothing of it was understood.

        ``event`` is the name of the server-sent event, "message" where it has none.
        """
        raise NotImplementedError

    def whole(self, data: dict[str, Any]) -> list[ChatDelta] | None:  # noqa: ARG002
        """Return what a document says that is the whole answer, None where it is none."""
        return None

    def message(self, index: int, completion: ChatCompletion) -> Any:  # noqa: ARG002
        """Return the provider's own message of a choice, whose answer is ``completion``."""
        return None

    def begin(self, facts: dict[str, Any], id_name: str = "id", model_name: str = "model") -> None:
        """Take the answer's id and model, where an object has them and none had before."""
        self.id = self.id or text(facts.get(id_name)) or None
        self.model = self.model or text(facts.get(model_name)) or None

    def usage(self, raw: object) -> Usage | None:
        """Return the usage with what an object adds to it, None where it adds nothing.

        Members that are null do not take away what was known.
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
        """Count the name of an event, or of a member, that nobody here understands."""
        shown = name if _NAME.fullmatch(name) else "?"
        if shown in self.unknown or len(self.unknown) < _MOST_UNKNOWN:
            self.unknown[shown] = self.unknown.get(shown, 0) + 1


def _as_given(model: str, messages: Any, more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": messages, **more, "stream": True}


def _same_url(url: str, model: str) -> str:  # noqa: ARG001  # other dialects need it
    return url


def with_query(url: str, name: str, value: str) -> str:
    """Return a URL with a member of its query, unless it has one of that name."""
    parts = urlsplit(url)
    if name in parse_qs(parts.query):
        return url
    query = "&".join(each for each in (parts.query, f"{name}={value}") if each)
    return urlunsplit(parts._replace(query=query))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One provider's way; immutable.

    ``body``: model, messages and the caller's other members in, the JSON object to be sent out.
    ``takes_text``: a plain str will do for messages. ``is_ndjson``: the answer is asked for as one
    JSON object per line. ``asks_usage``: whether a body asks for usage after the finish reason.
    ``choices``: how many choices a body asks for.
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
