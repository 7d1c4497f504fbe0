"""The chunks of a response, whatever form they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from resilient_requests.exceptions import StreamProtocolError
from resilient_requests.stream import (
    EVENT_STREAM,
    MAX_EVENT_BYTES,
    NDJSON,
    EventStream,
    EventTooLarge,
    Heartbeat,
    Reader,
    ServerSentEvent,
    SSEDecoder,
    media_type,
)

if TYPE_CHECKING:
    from resilient_requests.chat._request import ChatRequest

__all__ = ["ChunkStream", "EventsOrDocument", "JSONDocument", "JSONLines"]

_EXCERPT = 120
_EXCERPT_WAIT = 1.0
_JSON_BEGINS = (
    b"",
    b"{",
    b"[",
)  # as no event stream does, whose lines begin with the names of fields


class JSONDocument:
    """A body that is one JSON document: one event at its end, whatever white space was sent to keep it alive."""

    is_document = True

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        self._held = bytearray()
        self._most = most

    @property
    def is_pending(self) -> bool:
        """Whether anything but white space is held."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take bytes. Raises `EventTooLarge`."""
        self._held += data if self._held else data.lstrip()
        if len(self._held) > self._most:
            raise EventTooLarge
        return []

    def flush(self) -> list[ServerSentEvent]:
        """Return the document."""
        held, self._held = self._held, bytearray()
        return [ServerSentEvent(data=_text(held))]


class JSONLines:
    """A body of JSON documents, one per line; blank lines are skipped."""

    is_document = False

    def __init__(self, most: int = MAX_EVENT_BYTES) -> None:
        self._held = bytearray()
        self._most = most

    @property
    def is_pending(self) -> bool:
        """Whether an unfinished line is held."""
        return bool(self._held.strip())

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the lines that ``data`` completes. Raises `EventTooLarge`."""
        first, *lines = data.split(b"\n")
        self._held += first
        if len(self._held) > self._most:
            raise EventTooLarge
        if not lines:
            return []
        found = [bytes(self._held), *lines[:-1]]
        self._held = bytearray(lines[-1])
        return [ServerSentEvent(data=_text(line)) for line in found if line.strip()]

    def flush(self) -> list[ServerSentEvent]:
        """Return the unfinished line."""
        return self.feed(b"\n")


class EventsOrDocument:
    """A body of server-sent events; or, where it holds none, the JSON document that it begins as."""

    def __init__(self) -> None:
        self.is_document = False
        self._events = SSEDecoder(MAX_EVENT_BYTES, error_field=True)
        self._document: JSONDocument | None = JSONDocument()

    @property
    def is_pending(self) -> bool:
        """Whether an unfinished event, or a document, is held."""
        return self._events.is_pending or (self._document is not None and self._document.is_pending)

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that ``data`` completes. Raises `EventTooLarge`."""
        events = self._events.feed(data)
        if self._document is not None:
            if events or not (self._document.is_pending or data.lstrip()[:1] in _JSON_BEGINS):
                self._document = None
            else:
                self._document.feed(data)
        return events

    def flush(self) -> list[ServerSentEvent]:
        """Return the event of an unfinished block, or the document."""
        events = self._events.flush()
        document, self._document = self._document, None
        self.is_document = not events and document is not None and document.is_pending
        return document.flush() if document is not None and self.is_document else events


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


class ChunkStream(EventStream):
    """The events of a chat response; owned by one thread.

    Raises `StreamProtocolError` for a response that can be no answer.
    """

    def __init__(self, reader: Reader, request: ChatRequest) -> None:
        kind = media_type(reader.response)
        decoder: JSONDocument | JSONLines | EventsOrDocument
        if kind == "application/json":
            decoder = JSONDocument()
        elif request.dialect.is_ndjson and kind in NDJSON:
            decoder = JSONLines()
        elif not request.dialect.is_ndjson and kind == EVENT_STREAM:
            decoder = EventsOrDocument()
        else:
            reader.fail(_no_answer(reader, request))
        self._form = decoder
        super().__init__(reader, MAX_EVENT_BYTES, decoder)

    @property
    def is_document(self) -> bool:
        """Whether the body is one JSON document, that of a server which does not stream."""
        return self._form.is_document

    def next_within(self, seconds: float) -> ServerSentEvent | Heartbeat:
        """Return the next event, or HEARTBEAT where none comes for so long, whatever the limits of the stream."""
        with self._reader.waiting_only(seconds):
            return next(self)

    def disregard(self) -> None:
        """The last event was no progress: the clocks go on as if it had not come."""
        self._reader.clocks.restore(*self._clocks)


def _no_answer(reader: Reader, request: ChatRequest) -> StreamProtocolError:
    try:
        with reader.waiting_only(_EXCERPT_WAIT):
            data = reader.read()
    except requests.RequestException:
        data = b""
    censor = request.censor(reader.response)
    start = censor.line(
        "" if isinstance(data, Heartbeat) else data.decode("utf-8", "replace"), _EXCERPT
    )
    given = censor.line(reader.response.headers.get("Content-Type", ""), _EXCERPT)
    message = (
        f"Content-Type is {given or 'missing'!r}, which is no answer; the body begins {start!r}"
    )
    return StreamProtocolError(message, **reader.facts())
