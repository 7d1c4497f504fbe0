"""The chunks of a response, read under its clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.chat._forms import PAGE, Chunks
from resilient_requests.exceptions import StreamProtocolError
from resilient_requests.stream import (
    EVENT_STREAM,
    NDJSON,
    EventStream,
    Form,
    Heartbeat,
    Reader,
    ServerSentEvent,
    form_of,
    media_type,
)

if TYPE_CHECKING:
    from resilient_requests.chat._request import ChatRequest

__all__ = ["ChunkStream", "no_answer"]

_EXCERPT = 120
_HINTS = {
    EVENT_STREAM: Form.EVENTS,
    "application/json": Form.JSON,
    **dict.fromkeys(NDJSON, Form.JSON),
}


class ChunkStream(EventStream[ServerSentEvent | Heartbeat]):
    """The chunks of a chat response, as events; owned by one thread.

    Raises `StreamProtocolError` for a response that cannot be an answer.
    """

    def __init__(self, reader: Reader, request: ChatRequest) -> None:
        kind, is_ndjson = media_type(reader.response), request.dialect.is_ndjson
        chunks = Chunks(
            request.max_event_bytes, _HINTS.get(kind), is_lines=is_ndjson or kind in NDJSON
        )
        super().__init__(reader, request.max_event_bytes, chunks)
        expected = NDJSON if is_ndjson else (EVENT_STREAM,)
        if kind != "application/json" and kind not in expected:
            is_page, found = self._is_page(chunks), [*self._events]
            page = next((event.data for event in found if event.event == PAGE), None)
            if is_page or page is not None:
                reader.fail(no_answer(reader, request, page or ""))
            self._events = iter(found)

    def next_within(self, seconds: float) -> ServerSentEvent | Heartbeat:
        """Return the next event, or HEARTBEAT after so many seconds, even past the limits."""
        with self._reader.waiting_only(seconds):
            return next(self)

    def expect(self, event_timeout: float | None) -> None:
        """Set the seconds without a part of the answer until `StreamIdle`; None: no limit."""
        self._reader.clocks.expect(event_timeout)

    def disregard(self) -> None:
        """Let the clocks go on as if the last event had not come: it was no progress."""
        self._reader.disregard_event()


def no_answer(reader: Reader, request: ChatRequest, page: str) -> StreamProtocolError:
    """Return the error for a body that is no answer; ``page``: its beginning."""
    redactor = request.redactor(reader.response)
    given = redactor.line(reader.response.headers.get("Content-Type", ""), _EXCERPT) or "missing"
    start = redactor.line(page, _EXCERPT)
    is_page = form_of(page.encode("utf-8", "replace")) is Form.MARKUP
    if is_page and media_type(reader.response) in _HINTS:
        what = f"the body is HTML, though its Content-Type is {given!r}"
        message = f"{what}; the body begins {start!r}"
    else:
        message = f"Content-Type is {given!r}, which is no answer; the body begins {start!r}"
    return StreamProtocolError(message, **reader.facts())
