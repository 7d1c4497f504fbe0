"""The chunks of a response, whatever form they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import requests

from resilient_requests._sse import EventTooLarge, ServerSentEvent, SSEDecoder
from resilient_requests._stream import Decoder, EventStream, Heartbeat, Reader
from resilient_requests.chat._refusal import Censor
from resilient_requests.exceptions import StreamProtocolError

if TYPE_CHECKING:
    from resilient_requests._attempt import Attempt
    from resilient_requests.chat._request import ChatRequest

__all__ = ["ChunkStream", "JSONDocument", "JSONLines"]

_MOST = 16 * 1024 * 1024
_EXCERPT = 120
_SSE = frozenset({"text/event-stream"})
_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


class JSONDocument:
    """A body that is one JSON document: one event at its end, whatever white space was sent to keep it alive."""

    def __init__(self, most: int = _MOST) -> None:
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

    def __init__(self, most: int = _MOST) -> None:
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


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


def _start(reader: Reader) -> str:
    try:
        data = reader.read()
    except requests.RequestException:
        return ""
    return data[:_EXCERPT].decode("utf-8", "replace") if isinstance(data, bytes) else ""


class ChunkStream(EventStream):
    """The events of a chat response; owned by one thread, but for ``cancel``.

    Raises `StreamProtocolError` for a response that can be no answer.
    """

    def __init__(self, request: ChatRequest, response: requests.Response) -> None:
        reader = Reader(
            response,
            idle_timeout=request.idle_timeout,
            event_timeout=request.event_timeout,
            heartbeat=request.heartbeat,
        )
        given = response.headers.get("Content-Type", "")
        kind = given.partition(";")[0].strip().lower()
        self.is_document = kind == "application/json"  # that of a server which does not stream
        decoder: Decoder
        if self.is_document:
            decoder = JSONDocument()
        elif request.dialect.is_ndjson and kind in _NDJSON:
            decoder = JSONLines()
        elif not request.dialect.is_ndjson and kind in _SSE:
            decoder = SSEDecoder(_MOST, error_field=True)
        else:
            start = Censor(response.request, request.body).line(_start(reader))
            message = f"Content-Type is {given or 'missing'!r}, which is no answer; the body begins {start!r}"
            reader.fail(StreamProtocolError(message, **reader.facts()))
        super().__init__(reader, _MOST, decoder)

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that brought the response; None where no adapter of ours did."""
        tap = self._reader._tap
        return None if tap is None else tap.attempt

    @property
    def bytes_received(self) -> int:
        """The bytes of the body so far."""
        return self._reader.bytes_received

    def next_within(self, seconds: float) -> ServerSentEvent | Heartbeat:
        """Return the next event, or HEARTBEAT where none comes for so long; the stream's own clocks stand still."""
        reader = self._reader
        limits = reader._idle, reader._event_timeout, reader._heartbeat
        reader._idle, reader._event_timeout, reader._heartbeat = None, None, seconds
        reader.unyielded = 0.0
        try:
            return next(self)
        finally:
            reader._idle, reader._event_timeout, reader._heartbeat = limits

    def disregard(self) -> None:
        """The last event was no progress: the clocks go on as if it had not come."""
        self._reader.eventless, self._reader.unyielded = self._clocks

    def drain(self, most_bytes: int, seconds: float) -> None:
        """Read on to the end within bounds, so that the connection can be reused; close it where it does not end."""
        self._reader.drain(most_bytes, seconds)

    def fail(self, error: BaseException) -> NoReturn:
        """End the stream with an error of its reader's."""
        self._reader.fail(error)

    def facts(self) -> dict[str, Any]:
        """Return what every error of this stream carries."""
        return self._reader.facts()

    def abandon(self) -> None:
        """For ``__del__``: close the socket without a word, and leave the pool alone."""
        self._reader.abandon()
