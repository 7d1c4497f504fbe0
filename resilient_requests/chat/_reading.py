"""Reads one chunk as deltas, a failure, the end, or nothing; no I/O."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any

from resilient_requests.chat._forms import BARE, DOCUMENT, PAGE
from resilient_requests.chat._types import ChatDelta
from resilient_requests.chat.kinds import (
    BadChunkError,
    ProviderError,
    likely_error,
    loads,
    reported_error,
)

if TYPE_CHECKING:
    from resilient_requests.chat.dialects import Parser
    from resilient_requests.stream import ServerSentEvent

__all__ = ["ChunkReader", "NoJSONError", "Sign"]

_MARKERS = frozenset({"[DONE]", "DONE", '"[DONE]"', '"DONE"'})
# A chunk with one of these members, or of one of these names, is checked for an error first.
_SIGNS = frozenset({"base_resp", "error", "errors", "x_groq"})
_ERRORS = ("error", "exception")
_NAMES = frozenset({BARE, DOCUMENT, *_ERRORS})


class Sign(enum.Enum):
    """The meaning of a chunk that adds no delta."""

    MARKER = "marker"  # the answer is complete
    CUT = "cut"  # the body ended in the middle of it
    PAGE = "page"  # the body is no answer at all


class NoJSONError(BadChunkError):
    """A chunk is not JSON; ``at`` is the position of the fault."""

    def __init__(self, at: int) -> None:
        super().__init__(f"no JSON at position {at}")
        self.at = at


class ChunkReader:
    """Reads the chunks of one answer, in any form; owned by one thread.

    ``has_understood``: at least one chunk was part of an answer. Raises `BadChunkError` and
    `ProviderError`, and RecursionError for a chunk that is nested too deeply.
    """

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self.has_understood = False

    def read(self, event: ServerSentEvent, *, is_flushed: bool) -> list[ChatDelta] | Sign:
        """Return the deltas of a chunk; ``is_flushed``: the body ended inside it, it may be cut."""
        name = event.event
        try:
            chunk = event.json()
        except ValueError:
            chunk, at = _parsed(event.data)
            if at is not None:
                return self._without_json(event, at, is_flushed=is_flushed)
        if (
            chunk.__class__ is dict
            and name not in _NAMES
            and _SIGNS.isdisjoint(chunk)
            and chunk.get("type") != "error" != chunk.get("object")
        ):
            deltas = self.parser.chunk(name, chunk)
        elif event.data.strip() in _MARKERS:
            return Sign.MARKER
        else:
            deltas = self._of_any_form(name, chunk)
        if deltas is None:
            return self._unknown(name, chunk, is_alone=name == DOCUMENT and is_flushed)
        self.has_understood = True
        return deltas

    def _of_any_form(self, name: str, chunk: Any) -> list[ChatDelta] | None:
        """Return the deltas of a chunk that may be an error, a document, or no chunk at all."""
        if isinstance(chunk, dict):
            if (error := reported_error(name, chunk)) is not None:
                raise error
            return self.parser.whole(chunk) if name == DOCUMENT else self.parser.chunk(name, chunk)
        if name == DOCUMENT and isinstance(chunk, list):
            parts = [part for each in chunk if (part := self._of_any_form(name, each)) is not None]
            return [delta for part in parts for delta in part] if parts else None
        if name in _ERRORS:
            raise ProviderError(message=str(chunk))
        if name == BARE:
            return None
        raise BadChunkError(f"a JSON object is expected, not {type(chunk).__name__}")

    def _unknown(self, name: str, chunk: Any, *, is_alone: bool) -> list[ChatDelta]:
        """Return a chunk that the dialect does not know, unread, or raise the error that it may be.

        ``is_alone``: it is the whole body.
        """
        facts: dict[str, Any] = chunk if isinstance(chunk, dict) else {}
        if (error := likely_error(facts, is_alone=is_alone)) is not None:
            raise error
        if is_alone:
            raise BadChunkError("the body is JSON, but no answer")
        event = None if name in ("message", BARE, DOCUMENT) else name
        names = (facts.get("type"), event, facts.get("object"), ",".join(facts))
        known = (each for each in names if each and isinstance(each, str))
        self.parser.note_unknown(next(known, "chunk"))
        return [ChatDelta(raw=facts)]

    def _without_json(
        self, event: ServerSentEvent, at: int, *, is_flushed: bool
    ) -> list[ChatDelta] | Sign:
        """Read a text that is not JSON: empty, a marker, or a chunk with a marker behind it."""
        text, name = event.data.strip(), event.event
        if name == PAGE:
            return Sign.PAGE
        if text in _MARKERS:
            return Sign.MARKER
        if not text or name == BARE:
            return []
        chunk = _before_markers(text)
        if chunk != text:
            found = self.read(event._replace(data=chunk), is_flushed=is_flushed)
            self.parser.is_done = True
            return found if chunk else Sign.MARKER
        if is_flushed and (name != DOCUMENT or text[0] in "[{"):
            return Sign.CUT
        if name in _ERRORS:
            raise ProviderError(message=text)
        raise NoJSONError(at)


def _parsed(text: str) -> tuple[Any, int | None]:
    """Return the value of a text that ``json.loads`` refuses, or the position of its fault."""
    try:
        return loads(text), None
    except json.JSONDecodeError as error:
        return None, error.pos


def _before_markers(text: str) -> str:
    """Return a text without the markers in its last lines."""
    lines = text.split("\n")
    while lines and lines[-1].strip() in _MARKERS | {""}:
        lines.pop()
    return "\n".join(lines)
