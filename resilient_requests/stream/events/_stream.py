"""A stream of the events of one response, which its first bytes tell from other bodies."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

import requests

from resilient_requests import _checks
from resilient_requests.call import boot
from resilient_requests.exceptions import StreamProtocolError
from resilient_requests.stream._clocks import HEARTBEAT, Heartbeat
from resilient_requests.stream._iterators import EVENT_STREAM, Stream, check_arguments, media_type
from resilient_requests.stream._reader import Reader
from resilient_requests.stream.events._sniff import Form, NoEventsError, SniffedEvents
from resilient_requests.stream.events._sse import (
    MAX_EVENT_BYTES,
    EventTooLarge,
    ServerSentEvent,
    SSEDecoder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import TypeVar

    # The default makes a plain ``EventStream`` in an annotation a stream of either kind.
    Event_co = TypeVar(
        "Event_co",
        bound=ServerSentEvent | Heartbeat,
        default=ServerSentEvent | Heartbeat,
        covariant=True,
    )
else:
    from typing import TypeVar

    Event_co = TypeVar("Event_co", covariant=True)

__all__ = ["Decoder", "EventStream", "Sniffer", "iter_events"]

_EXCERPT = 200  # bytes of a body that is refused
_FIRST_BYTES = 1.0  # seconds to wait for the first bytes of a body with another Content-Type
_PAGES = ("text/html", "image/")
_FORMS = {Form.JSON: "JSON", Form.MARKUP: "HTML"}


class Decoder(Protocol):
    """Bytes in, events out, no I/O; raises EventTooLarge."""

    @property
    def is_pending(self) -> bool: ...
    def feed(self, data: bytes) -> list[ServerSentEvent]: ...
    def flush(self) -> list[ServerSentEvent]: ...


class Sniffer(Decoder, Protocol):
    """A decoder that finds out from the first bytes what it decodes."""

    @property
    def is_told(self) -> bool: ...


class EventStream(Stream, Generic[Event_co]):
    """Iterates over the server-sent events of a body; see `iter_events`.

    For type checkers, an ``EventStream[ServerSentEvent]`` has no heartbeats, an ``EventStream`` may
    have some.
    """

    def __init__(
        self, reader: Reader, max_event_bytes: int, decoder: Decoder | None = None
    ) -> None:
        super().__init__(reader)
        reader.tell_end_late()
        self.is_flushed = False  # True: the last event lacked its blank line, and may have been cut
        self._decoder: Decoder = decoder or SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._events: Iterator[ServerSentEvent] = iter(())
        self._is_too_large = False

    def cancel(self) -> None:
        """As for every stream; events that arrived and were not handed out are dropped."""
        super().cancel()
        self._events = iter(())

    def close(self) -> None:
        """As for every stream; events that arrived and were not handed out are dropped."""
        super().close()
        self._events, self._decoder = iter(()), SSEDecoder()

    def __next__(self) -> Event_co:
        reader = self._reader
        while True:
            for event in self._events:
                reader.hand_out_event()
                return event  # type: ignore[return-value]  # a heartbeat comes only if asked for
            # The events before the oversized one were handed out first.
            if self._is_too_large and reader.body.error is None:
                limit = f"an event exceeds max_event_bytes={self._max_event_bytes}"
                reader.fail(StreamProtocolError(limit, **reader.facts()))
            data = reader.read()
            if data is HEARTBEAT:
                return data  # type: ignore[return-value]
            if not data:
                if not self._decoder.is_pending:
                    reader.close()
                    raise StopIteration
                self.is_flushed = True
            try:
                events = self._decoder.feed(data) if data else self._decoder.flush()
            except EventTooLarge as error:
                self._is_too_large, self._events = True, iter(error.events)
                continue
            except NoEventsError as error:
                reader.fail(_refusal(reader, error), error)
            if not events and data and (beat := reader.bytes_without_event()) is not None:
                return beat  # type: ignore[return-value]
            self._events = iter(events)

    def _is_page(self, sniffer: Sniffer) -> bool:
        """Look at the first bytes; return True if the body counts as a page."""
        found = self._peek(sniffer)
        is_page = found is not None or media_type(self.response).startswith(_PAGES)
        return is_page and not sniffer.is_told and self._reader.body.error is None

    def _peek(self, sniffer: Sniffer) -> list[ServerSentEvent] | None:
        """Read on until the form of the body is known; return the first events.

        None if the form is not known in time. An error of the network waits for the first step.
        """
        reader, until = self._reader, boot() + _FIRST_BYTES
        found: list[ServerSentEvent] | None = None
        with suppress(requests.RequestException):
            while not sniffer.is_told and found is None and (left := until - boot()) > 0:
                with reader.waiting_only(left):
                    data = reader.read()
                if isinstance(data, Heartbeat):
                    break
                try:
                    events = sniffer.feed(data) if data else sniffer.flush()
                except EventTooLarge as error:
                    self._is_too_large, events = True, [*error.events]
                if events or not data or sniffer.is_told:
                    found = events
        self._events = iter(found or ())
        return found


@overload
def iter_events(
    response: requests.Response,
    *,
    idle_timeout: float | None = ...,
    event_timeout: float | None = ...,
    heartbeat: None = ...,
    max_event_bytes: int = ...,
) -> EventStream[ServerSentEvent]: ...
@overload
def iter_events(
    response: requests.Response,
    *,
    idle_timeout: float | None = ...,
    event_timeout: float | None = ...,
    heartbeat: float | None,
    max_event_bytes: int = ...,
) -> EventStream[ServerSentEvent | Heartbeat]: ...
def iter_events(
    response: requests.Response,
    *,
    idle_timeout: float | None = None,
    event_timeout: float | None = None,
    heartbeat: float | None = None,
    max_event_bytes: int = MAX_EVENT_BYTES,
) -> EventStream[Any]:
    """Return a stream of the `ServerSentEvent` objects of a ``stream=True`` response.

    ``event_timeout``: seconds without an event until `StreamIdle`, where comments and pings do not
    count; None is no limit. ``max_event_bytes``: a larger event raises `StreamProtocolError`. The
    rest is as in `iter_bytes`.

    The first bytes of a body say whether it is events; its Content-Type is only a hint. For another
    body the first step raises StreamProtocolError, or this call, if the Content-Type is another too
    and the bytes come within a second. Raises TypeError or ValueError naming the parameter.
    """
    check_arguments(response, idle_timeout, heartbeat)
    _checks.duration("event_timeout", event_timeout)
    _checks.count("max_event_bytes", max_event_bytes, least=1)
    reader = Reader(
        response, idle_timeout=idle_timeout, event_timeout=event_timeout, heartbeat=heartbeat
    )
    kind = media_type(response)
    decoder = SniffedEvents(max_event_bytes, is_hinted=kind == EVENT_STREAM)
    stream: EventStream[Any] = EventStream(reader, max_event_bytes, decoder)
    if kind != EVENT_STREAM:
        _refuse_page(reader, stream, decoder)
    return stream


def _refuse_page(reader: Reader, stream: EventStream[Any], decoder: SniffedEvents) -> None:
    """Fail where the first bytes, or none in time, say that a body is no stream of events."""
    try:
        is_page = stream._is_page(decoder)
    except NoEventsError as error:
        reader.fail(_refusal(reader, error), error)
    if is_page:
        reader.fail(_refusal(reader, NoEventsError(b"", Form.TEXT)))


def _refusal(reader: Reader, fault: NoEventsError) -> StreamProtocolError:
    """Return the error for a body that is no stream of events."""
    kind = reader.response.headers.get("Content-Type")
    what = f"Content-Type is {kind!r}, not {EVENT_STREAM!r}"
    if media_type(reader.response) == EVENT_STREAM:
        what = f"Content-Type is {kind!r}, but the body is {_FORMS[fault.form]}"
    elif not kind:
        what = f"no Content-Type, so not {EVENT_STREAM!r}"
    advice = "iter_bytes reads any body"
    if fault.form is Form.TEXT:
        advice += "; if these are events all the same, set response.headers['Content-Type'] first"
    message = f"{what}; the body begins {fault.start[:_EXCERPT]!r} ({advice})"
    return StreamProtocolError(message, **reader.facts())
