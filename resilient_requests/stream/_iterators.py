"""Streams over one response: objects that iterate over its bytes, or over its events."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

import requests

from resilient_requests import _checks
from resilient_requests.exceptions import StreamProtocolError
from resilient_requests.stream._clocks import HEARTBEAT, Heartbeat
from resilient_requests.stream._reader import Reader
from resilient_requests.stream._socket_body import is_used
from resilient_requests.stream._sse import (
    MAX_EVENT_BYTES,
    EventTooLarge,
    ServerSentEvent,
    SSEDecoder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    # The default makes a plain ``EventStream`` in an annotation a stream of either kind.
    Data_co = TypeVar("Data_co", bound=bytes | Heartbeat, default=bytes | Heartbeat, covariant=True)
    Event_co = TypeVar(
        "Event_co",
        bound=ServerSentEvent | Heartbeat,
        default=ServerSentEvent | Heartbeat,
        covariant=True,
    )
else:
    from typing import TypeVar

    Data_co = TypeVar("Data_co", covariant=True)
    Event_co = TypeVar("Event_co", covariant=True)

__all__ = [
    "EVENT_STREAM",
    "HEARTBEAT",
    "NDJSON",
    "ByteStream",
    "Decoder",
    "EventStream",
    "Heartbeat",
    "Reader",
    "iter_bytes",
    "iter_events",
    "media_type",
]

EVENT_STREAM = "text/event-stream"
NDJSON = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# Bytes of a refused body for the error's text, and the seconds to wait for them.
_EXCERPT, _EXCERPT_WAIT = 200, 1.0


def media_type(response: requests.Response) -> str:
    """Return the media type of a response, in lower case and without parameters.

    "" if the response has none.
    """
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


class _Stream:
    """The parts common to both kinds of stream.

    An object and no generator, so that each exit gives the connection back.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def response(self) -> requests.Response:
        """The response that is read."""
        return self._reader.response

    def cancel(self) -> None:
        """End the stream from any thread: its reader raises `Cancelled` at once. Never blocks."""
        self._reader.cancel()

    def close(self) -> None:
        """Give the connection back, or close it if the body has not ended; harmless if repeated."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)  # absent if the constructor failed
        if reader is not None and reader.drop():
            warnings.warn(
                f"{type(self).__name__} was dropped without close()", ResourceWarning, stacklevel=2
            )


class ByteStream(_Stream, Generic[Data_co]):
    """Iterates over the bytes of a body as they arrive, in any framing; see `iter_bytes`.

    For type checkers, a ``ByteStream[bytes]`` has no heartbeats, a ``ByteStream`` may have some.
    """

    def __next__(self) -> Data_co:
        data = self._reader.read()
        if data == b"":
            raise StopIteration
        self._reader.clocks.yielded()
        # A heartbeat comes only if `iter_bytes` was given ``heartbeat``, as its overloads say.
        return data  # type: ignore[return-value]


class Decoder(Protocol):
    """Bytes in, events out, no I/O; raises EventTooLarge."""

    @property
    def is_pending(self) -> bool: ...
    def feed(self, data: bytes) -> list[ServerSentEvent]: ...
    def flush(self) -> list[ServerSentEvent]: ...


class EventStream(_Stream, Generic[Event_co]):
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
        self._clocks = (0.0, 0.0)

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
                self._clocks = (reader.clocks.eventless, reader.clocks.unyielded)
                reader.hand_out_event()
                return event  # type: ignore[return-value]  # a heartbeat comes only if asked for
            # The events before the oversized one were handed out first.
            if self._is_too_large and reader.body.error is None:
                limit = f"an event exceeds max_event_bytes={self._max_event_bytes}"
                reader.fail(StreamProtocolError(limit, **reader.facts()))
            data = reader.read()
            if isinstance(data, Heartbeat):
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
            if data and not events and (beat := reader.bytes_without_event()) is not None:
                return beat  # type: ignore[return-value]
            self._events = iter(events)


@overload
def iter_bytes(
    response: requests.Response, *, idle_timeout: float | None = ..., heartbeat: None = ...
) -> ByteStream[bytes]: ...
@overload
def iter_bytes(
    response: requests.Response, *, idle_timeout: float | None = ..., heartbeat: float | None
) -> ByteStream[bytes | Heartbeat]: ...
def iter_bytes(
    response: requests.Response,
    *,
    idle_timeout: float | None = None,
    heartbeat: float | None = None,
) -> ByteStream[Any]:
    """Return a stream of the bytes of a ``stream=True`` response as they arrive, decoded.

    ``idle_timeout``: seconds without a byte until `StreamIdle`; None is the limit of the call that
    made the response. ``heartbeat``: seconds of silence after which `HEARTBEAT` is yielded; None is
    never. Iterating raises `StreamIdle`, `StreamBroken`, `StreamProtocolError`, `DeadlineExceeded`
    and `Cancelled`, and the same error at each further step. One thread iterates; ``cancel()`` may
    come from any.

    Raises TypeError or ValueError naming the parameter; ValueError if the body has been read.
    """
    _check(response, idle_timeout, heartbeat)
    return ByteStream(Reader(response, idle_timeout=idle_timeout, heartbeat=heartbeat))


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

    Raises StreamProtocolError if the response is no ``text/event-stream``; TypeError or ValueError
    naming the parameter.
    """
    _check(response, idle_timeout, heartbeat)
    _checks.duration("event_timeout", event_timeout)
    _checks.count("max_event_bytes", max_event_bytes, least=1)
    reader = Reader(
        response, idle_timeout=idle_timeout, event_timeout=event_timeout, heartbeat=heartbeat
    )
    if media_type(response) != EVENT_STREAM:
        with reader.waiting_only(_EXCERPT_WAIT):
            data = reader.read()
        excerpt = data[:_EXCERPT] if isinstance(data, bytes) else b""
        reader.fail(StreamProtocolError(_refusal(response, excerpt), **reader.facts()))
    return EventStream(reader, max_event_bytes)


def _refusal(response: requests.Response, excerpt: bytes) -> str:
    kind = response.headers.get("Content-Type")
    return (
        (
            f"Content-Type is {kind!r}, not {EVENT_STREAM!r}"
            if kind
            else f"no Content-Type, so not {EVENT_STREAM!r}"
        )
        + f"; the body begins {excerpt!r} (iter_bytes reads any body; "
        "if these are events all the same,"
        f" set response.headers['Content-Type'] first)"
    )


def _check(response: requests.Response, idle_timeout: object, heartbeat: object) -> None:
    _checks.instance("response", response, requests.Response)
    _checks.duration("idle_timeout", idle_timeout)
    _checks.duration("heartbeat", heartbeat)
    if is_used(response):
        raise ValueError(
            "response has been read or closed already: "
            "use response.content, or send with stream=True"
        )
