"""Streams over one response: silence, breaks, cancelling and release, each exactly once."""

from __future__ import annotations

import enum
import http.client
import ssl
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import requests
import urllib3.exceptions

from resilient_requests import _checks, _clock
from resilient_requests._body import body_of, is_used
from resilient_requests._failures import errno_of
from resilient_requests._sse import EventTooLarge, ServerSentEvent, SSEDecoder
from resilient_requests.exceptions import Cancelled, DeadlineExceeded, StreamBroken, StreamIdle, StreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["HEARTBEAT", "ByteStream", "Decoder", "EventStream", "Heartbeat", "Reader", "iter_bytes", "iter_events"]

_EXCERPT = 200
_BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ssl.SSLError)


class Heartbeat(enum.Enum):
    """The type of `HEARTBEAT`."""

    HEARTBEAT = "heartbeat"

    def __repr__(self) -> str:
        return "HEARTBEAT"


HEARTBEAT = Heartbeat.HEARTBEAT
"""Yielded after ``heartbeat`` silent seconds, so that a web view can notice that its browser has left."""


class _NoEvent(Exception):
    """The event clock's limit was reached."""


class Reader:
    """Reads a response under its clocks, and ends once: with its end, an error, or a close.

    The clocks count time spent waiting, and no time of the consumer: ``silence`` since the last byte, ``eventless``
    since the last event, ``unyielded`` since something was handed out. ``read`` belongs to one thread; ``cancel`` and
    ``close`` may come from any.
    """

    def __init__(
        self,
        response: requests.Response,
        *,
        idle_timeout: float | None = None,
        event_timeout: float | None = None,
        heartbeat: float | None = None,
    ) -> None:
        self.response = response
        self.bytes_received = self.events_received = 0
        self.source = body_of(response)
        self.error, self.is_done = self.source.error, self.source.is_done
        self._tap = tap = self.source.tap
        self._call = tap.attempt.call if tap is not None else None
        self._idle = idle_timeout if idle_timeout is not None or tap is None else tap.attempt.limits.idle
        self._event_timeout = event_timeout
        self._heartbeat = heartbeat
        self.silence = self.eventless = self.unyielded = 0.0
        self._since = _clock.now().boot
        self._is_cancelled = self._is_reading = False

    def read(self) -> bytes | Heartbeat:
        """Return bytes as they arrive, b"" at the end, HEARTBEAT after a silent interval; raise the stream's errors."""
        if self.error is not None:
            raise self.error
        if self.is_done:
            return b""
        if self._is_cancelled:
            self.fail(Cancelled())
        self._is_reading = True
        try:
            data = self._read() if self._event_timeout is None and self._heartbeat is None else self._read_by_clocks()
        except BaseException as error:  # noqa: BLE001  # fail() raises it again
            # KeyboardInterrupt, GreenletExit and their kin pass untouched, but the connection is in mid-body.
            self.fail(self._translated(error) if isinstance(error, Exception) else error, error)
        finally:
            self._is_reading = False
        if isinstance(data, bytes):
            self.bytes_received += len(data)
        if self.source.is_done and not self.is_done:
            self.is_done = True
            self._tell(None)
        return data

    def _read(self) -> bytes:
        source, tap = self.source, self._tap
        if tap is not None:
            tap.limit = self._idle
        while True:
            data = source.read()
            if data or source.is_done:
                return data

    def _read_by_clocks(self) -> bytes | Heartbeat:
        source, tap = self.source, self._tap
        while True:
            waits = self._waits()
            if tap is not None:
                tap.limit = max(min((left for left in waits if left is not None), default=None) or 0.0, 0.001)
            began = _clock.now().boot
            try:
                data = source.read()
            except TimeoutError as error:
                if errno_of(error) is not None:
                    raise
                self._wait(_clock.now().boot - began)
                if (beat := self._expired(error)) is not None:
                    return beat
                continue
            self._wait(_clock.now().boot - began)
            self.silence = 0.0
            if data or source.is_done:
                return data
            if (beat := self._expired(None)) is not None:
                return beat

    def _waits(self) -> tuple[float | None, ...]:
        limits = (self._idle, self._event_timeout, self._heartbeat)
        spent = (self.silence, self.eventless, self.unyielded)
        return tuple(None if limit is None else limit - gone for limit, gone in zip(limits, spent, strict=True))

    def _wait(self, seconds: float) -> None:
        self.silence += seconds
        self.eventless += seconds
        self.unyielded += seconds

    def _expired(self, timeout: TimeoutError | None) -> Heartbeat | None:
        idle, event, beat = self._waits()
        if event is not None and event <= 0:
            raise _NoEvent
        if idle is not None and idle <= 0:
            raise timeout or TimeoutError("timed out")
        if beat is not None and beat <= 0:
            self.unyielded = 0.0
            return HEARTBEAT
        return None

    def eventless_read(self) -> Heartbeat | None:
        """Bytes came and no event: raise the stream's error, or return HEARTBEAT, where that goes on for too long."""
        try:
            return self._expired(None)
        except (_NoEvent, TimeoutError) as error:
            self.fail(self._translated(error))

    def yielded(self) -> None:
        """An event is handed out: its clocks start anew."""
        self.events_received += 1
        self.eventless = self.unyielded = 0.0

    def fail(self, error: BaseException, cause: BaseException | None = None) -> NoReturn:
        """End with an error, which every further read raises too; the connection is closed."""
        self.error = self.source.error = error
        self._release()
        self._tell(error)
        if cause is None or cause is error:
            raise error
        raise error from cause

    def _translated(self, error: Exception) -> BaseException:
        if (ended := self._what_ended()) is not None:
            return ended
        facts = self.facts()
        if isinstance(error, _NoEvent):
            return StreamIdle(clock="events", idle_timeout=self._event_timeout, **facts)
        if isinstance(error, (TimeoutError, urllib3.exceptions.ReadTimeoutError)) and errno_of(error) is None:
            return StreamIdle(clock="bytes", idle_timeout=self._idle, **facts)
        if isinstance(error, urllib3.exceptions.DecodeError):
            return StreamProtocolError("the body does not match its Content-Encoding", **facts)
        if isinstance(error, _BROKEN) and not isinstance(error, requests.RequestException):
            return StreamBroken(f"the connection was lost after {self.bytes_received} bytes of the body", **facts)
        return error

    def _what_ended(self) -> BaseException | None:
        """Return what ended the call: our own flag decides, not what the socket raised when it was shut down."""
        if self._is_cancelled:
            return Cancelled()
        if self._call is not None:
            try:
                self._call.check()
            except (Cancelled, DeadlineExceeded) as error:
                return error
            except requests.ConnectionError as error:  # shut down
                return StreamBroken(str(error), **self.facts())
        return None

    def facts(self) -> dict[str, Any]:
        """Return what every error of this stream carries."""
        return {
            "bytes_received": self.bytes_received,
            "events_received": self.events_received,
            "elapsed": _clock.now().boot - self._since,
            "response": self.response,
        }

    def cancel(self) -> None:
        """End the stream from any thread: the reader raises `Cancelled`."""
        self._is_cancelled = True
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """Close the connection where the body has not ended; harmless when repeated. Wakes another thread's read."""
        if self._is_reading:
            self.cancel()  # who reads lets go
        elif not self.is_done and self.error is None:
            self.is_done = True
            self._release()
            self._tell(None)

    def drain(self, most_bytes: int, seconds: float) -> None:
        """Read on to the end within bounds, so that the connection can be reused; close it where it does not end."""
        until = _clock.now().boot + seconds
        if self._tap is not None:
            self._idle = None
            with suppress(requests.RequestException, Cancelled):
                while self.error is None and not self.is_done and most_bytes > 0:
                    self._heartbeat = until - _clock.now().boot - self.unyielded
                    data = self.read() if self._heartbeat > 0 else HEARTBEAT
                    if isinstance(data, Heartbeat):
                        break
                    most_bytes -= len(data)
        self.close()

    def abandon(self) -> None:
        """For ``__del__``: close the socket, and leave the pool alone, whose lock this thread may hold."""
        if not self.is_done and self.error is None:
            self.is_done = self.source.is_done = True
            with suppress(*_BROKEN):
                self.response.raw.close()

    def _release(self) -> None:
        with suppress(*_BROKEN):
            self.source.close()

    def _tell(self, error: BaseException | None) -> None:
        if self._tap is not None and not self._tap.is_told:
            self._tap.is_told = True
            self._tap.attempt.call.stream_ended(self._tap.attempt, error)


class _Stream:
    """What both kinds of stream share: an object, not a generator, whose every exit gives the connection back."""

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
        """Give the connection back, or close it where the body has not ended; harmless when repeated."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)  # absent where the constructor has failed
        if reader is not None and not reader.is_done and reader.error is None:
            reader.abandon()
            warnings.warn(f"{type(self).__name__} was dropped without close()", ResourceWarning, stacklevel=2)


class ByteStream(_Stream):
    """Iterates over the bytes of a body as they arrive, in any framing; see `iter_bytes`."""

    def __next__(self) -> bytes | Heartbeat:
        data = self._reader.read()
        if data == b"":
            raise StopIteration
        self._reader.unyielded = 0.0
        return data


class Decoder(Protocol):
    """Bytes in, events out, no I/O; raises EventTooLarge."""

    @property
    def is_pending(self) -> bool: ...
    def feed(self, data: bytes) -> list[ServerSentEvent]: ...
    def flush(self) -> list[ServerSentEvent]: ...


class EventStream(_Stream):
    """Iterates over the server-sent events of a body; see `iter_events`."""

    def __init__(self, reader: Reader, max_event_bytes: int, decoder: Decoder | None = None) -> None:
        super().__init__(reader)
        self.is_flushed = False  # the last event had no end of its own: it may have been cut
        self._decoder: Decoder = decoder or SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._events: Iterator[ServerSentEvent] = iter(())
        self._clocks = (0.0, 0.0)

    def __next__(self) -> ServerSentEvent | Heartbeat:
        reader = self._reader
        while True:
            for event in self._events:
                self._clocks = (reader.eventless, reader.unyielded)
                reader.yielded()
                return event
            data = reader.read()
            if isinstance(data, Heartbeat):
                return data
            if not data:
                if not self._decoder.is_pending:
                    raise StopIteration
                self.is_flushed = True
            try:
                events = self._decoder.feed(data) if data else self._decoder.flush()
            except EventTooLarge:
                limit = f"an event exceeds max_event_bytes={self._max_event_bytes}"
                reader.fail(StreamProtocolError(limit, **reader.facts()))
            if data and not events and (beat := reader.eventless_read()) is not None:
                return beat
            self._events = iter(events)


def iter_bytes(
    response: requests.Response, *, idle_timeout: float | None = None, heartbeat: float | None = None
) -> ByteStream:
    """Return a stream of the bytes of a ``stream=True`` response as they arrive, decoded, in any framing.

    ``idle_timeout``: seconds without a byte until `StreamIdle`; None: the limit of the call that made the response.
    ``heartbeat``: yield `HEARTBEAT` after so many silent seconds; None: never. Iterating raises `StreamIdle`,
    `StreamBroken`, `StreamProtocolError`, `DeadlineExceeded` and `Cancelled`, the same again at every further step.
    One thread iterates; ``cancel()`` may come from any. Raises TypeError or ValueError naming the parameter, and
    ValueError for a response whose body has been read.
    """
    _check(response, idle_timeout, heartbeat)
    return ByteStream(Reader(response, idle_timeout=idle_timeout, heartbeat=heartbeat))


def iter_events(
    response: requests.Response,
    *,
    idle_timeout: float | None = None,
    event_timeout: float | None = None,
    heartbeat: float | None = None,
    max_event_bytes: int = 16 * 1024 * 1024,
) -> EventStream:
    """Return a stream of the `ServerSentEvent` objects of a ``stream=True`` response.

    ``event_timeout``: seconds without an event until `StreamIdle` (comments and pings do not count); None: no
    limit. ``max_event_bytes``: a larger event is a `StreamProtocolError`. The rest as in `iter_bytes`; a response
    that is no ``text/event-stream`` raises `StreamProtocolError` here.
    """
    _check(response, idle_timeout, heartbeat)
    _checks.duration("event_timeout", event_timeout)
    _checks.count("max_event_bytes", max_event_bytes, least=1)
    reader = Reader(response, idle_timeout=idle_timeout, event_timeout=event_timeout, heartbeat=heartbeat)
    kind = response.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "text/event-stream":
        data = reader.read()
        excerpt = data[:_EXCERPT] if isinstance(data, bytes) else b""
        message = f"Content-Type is {kind or 'missing'!r}, not 'text/event-stream'; the body begins {excerpt!r}"
        reader.fail(StreamProtocolError(message, **reader.facts()))
    return EventStream(reader, max_event_bytes)


def _check(response: requests.Response, idle_timeout: object, heartbeat: object) -> None:
    _checks.instance("response", response, requests.Response)
    _checks.duration("idle_timeout", idle_timeout)
    _checks.duration("heartbeat", heartbeat)
    if is_used(response):
        raise ValueError("response has been read or closed already: use response.content, or send with stream=True")
