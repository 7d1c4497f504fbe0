"""Streams over one response: silence, breaks, cancelling and release, each exactly once."""

from __future__ import annotations

import enum
import http.client
import ssl
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions

from resilient_requests import _checks, _clock
from resilient_requests._body import body_of
from resilient_requests._failures import errno_of
from resilient_requests._sse import EventTooLarge, ServerSentEvent, SSEDecoder
from resilient_requests.exceptions import Cancelled, DeadlineExceeded, StreamBroken, StreamIdle, StreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["HEARTBEAT", "ByteStream", "EventStream", "Heartbeat", "Reader", "iter_bytes", "iter_events"]

_EXCERPT = 200


class Heartbeat(enum.Enum):
    """The type of `HEARTBEAT`."""

    HEARTBEAT = "heartbeat"

    def __repr__(self) -> str:
        return "HEARTBEAT"


HEARTBEAT = Heartbeat.HEARTBEAT
"""Yielded after ``heartbeat`` silent seconds, so that a web view can notice that its browser has left."""


class Reader:
    """Reads a response under two clocks, and ends once: with its end, an error, or a close.

    ``read`` and ``close`` belong to one thread; ``cancel`` may come from any.
    """

    def __init__(self, response: requests.Response, idle_timeout: float | None, heartbeat: float | None) -> None:
        self.response = response
        self.error: BaseException | None = None
        self.is_done = False
        self.bytes_received = self.events_received = 0
        self._source = body_of(response)
        tap = self._source.tap
        self._call = tap.attempt.call if tap is not None else None
        self._idle = idle_timeout if idle_timeout is not None or tap is None else tap.limit
        self._heartbeat = heartbeat
        self._since = _clock.now().boot
        self._cancelled = False
        self._told = False

    def read(self, event_left: float | None = None) -> bytes | Heartbeat:
        """Return bytes as they arrive, b"" at the end, HEARTBEAT after a silent interval. Raises the stream's errors.

        ``event_left``: seconds until the event clock is up.
        """
        if self.error is not None:
            raise self.error
        if self.is_done:
            return b""
        try:
            data = self._read(event_left)
        except BaseException as error:  # noqa: BLE001  # fail() raises it again
            # KeyboardInterrupt, GreenletExit and the like pass untouched, but the connection is in mid-body.
            self.fail(self._translated(error) if isinstance(error, Exception) else error, error)
        if data == b"":
            self.finish()
        return data

    def _read(self, event_left: float | None) -> bytes | Heartbeat:
        if self._cancelled:
            raise Cancelled
        tap = self._source.tap
        if tap is None:
            return self._source.read() or b""
        silent_since = _clock.now().boot if self._heartbeat is not None or event_left is not None else 0.0
        beat_at = self._heartbeat
        while True:
            silent = _clock.now().boot - silent_since if silent_since else 0.0
            waits = [left for left in (event_left, beat_at, self._idle) if left is not None]
            tap.limit = self._idle
            # Waiting for readability first: a read that times out in the middle of a TLS record loses its place.
            tap.patience = max(min(waits) - silent, 0.0) if silent_since and waits else None
            data = self._source.read()
            tap.patience = None
            if data is not None:
                return data
            silent = _clock.now().boot - silent_since
            if event_left is not None and silent >= event_left:
                raise _EventSilence
            if self._idle is not None and silent >= self._idle:
                raise TimeoutError("timed out")
            if beat_at is not None and silent >= beat_at:
                return HEARTBEAT

    def finish(self) -> None:
        """The response has ended as it should."""
        self.is_done = True
        self._tell(None)

    def fail(self, error: BaseException, cause: BaseException | None = None) -> Any:
        """End with an error, which every further read raises too; the connection is closed."""
        self.error = error
        self._release()
        self._tell(error)
        if error is cause or cause is None:
            raise error
        raise error from cause

    def _translated(self, error: Exception) -> BaseException:
        ended = self._what_ended()
        if ended is not None:
            return ended
        facts = self.facts()
        if isinstance(error, _EventSilence):
            return StreamIdle(clock="events", idle_timeout=self._event_timeout, **facts)
        if isinstance(error, (TimeoutError, urllib3.exceptions.ReadTimeoutError)) and errno_of(error) is None:
            return StreamIdle(clock="bytes", idle_timeout=self._idle, **facts)
        if isinstance(error, urllib3.exceptions.DecodeError):
            return StreamProtocolError("the body does not match its Content-Encoding", **facts)
        broken = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ssl.SSLError)
        if isinstance(error, broken) and not isinstance(error, requests.RequestException):
            return StreamBroken(f"the connection was lost after {self.bytes_received} bytes of the body", **facts)
        return error

    _event_timeout: float | None = None

    def _what_ended(self) -> BaseException | None:
        """Return what ended the call: our own flag decides, not the exception that the socket raised."""
        if self._cancelled:
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
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """Close the connection where the body has not ended; harmless when repeated."""
        if not self.is_done and self.error is None:
            self.is_done = True
            self._release()
            self._tell(None)

    def drain(self, most_bytes: int, seconds: float) -> None:
        """Read on to the end within bounds, so that the connection can be reused; close it where it does not end."""
        until = _clock.now().boot + seconds
        if self.error is None and not self.is_done and self._source.tap is not None:
            with suppress(requests.RequestException, Cancelled):
                while not self.is_done and most_bytes > 0 and (left := until - _clock.now().boot) > 0:
                    self._heartbeat, self._idle = left, None
                    data = self.read()
                    if data is HEARTBEAT:
                        break
                    most_bytes -= len(data)
        self.close()

    def abandon(self) -> None:
        """For ``__del__``: close the socket, do not touch the pool, whose lock this thread may hold."""
        if not self.is_done and self.error is None:
            self.is_done = True
            self.response.raw.close()

    def _release(self) -> None:
        with suppress(OSError, http.client.HTTPException, urllib3.exceptions.HTTPError):
            self._source.close()

    def _tell(self, error: BaseException | None) -> None:
        tap = self._source.tap
        if tap is not None and not self._told:
            self._told = True
            tap.attempt.call.stream_ended(tap.attempt, error)


class _EventSilence(Exception):
    """No event within the event clock's limit."""


class _Stream:
    """What both kinds of stream share: an object, not a generator, whose every exit gives the connection back."""

    _reader: Reader

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

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)
        if reader is not None and not reader.is_done and reader.error is None:
            warnings.warn(
                f"{type(self).__name__} was dropped without close()", ResourceWarning, stacklevel=2, source=self
            )
            reader.abandon()


class ByteStream(_Stream):
    """Iterates over the bytes of a body as they arrive, in any framing; see `iter_bytes`."""

    def __init__(self, response: requests.Response, idle_timeout: float | None, heartbeat: float | None) -> None:
        self._reader = Reader(response, idle_timeout, heartbeat)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes | Heartbeat:
        data = self._reader.read()
        if data == b"":
            raise StopIteration
        if isinstance(data, bytes):
            self._reader.bytes_received += len(data)
        return data


class EventStream(_Stream):
    """Iterates over the server-sent events of a body; see `iter_events`."""

    def __init__(
        self,
        response: requests.Response,
        idle_timeout: float | None,
        event_timeout: float | None,
        heartbeat: float | None,
        max_event_bytes: int,
    ) -> None:
        self._reader = Reader(response, idle_timeout, heartbeat)
        self._reader._event_timeout = event_timeout
        self._event_timeout = event_timeout
        self._decoder = SSEDecoder(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._events: Iterator[ServerSentEvent] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ServerSentEvent | Heartbeat:
        reader = self._reader
        # Starts when the consumer comes back: its own time counts for neither clock.
        left, since = self._event_timeout, 0.0 if self._event_timeout is None else _clock.now().boot
        while True:
            for event in self._events:
                reader.events_received += 1
                return event
            data = reader.read(left)
            if isinstance(data, Heartbeat):
                return data
            if not data and reader.is_done and not self._decoder.is_pending:
                raise StopIteration
            reader.bytes_received += len(data)
            try:
                self._events = iter(self._decoder.feed(data) if data else self._decoder.flush())
            except EventTooLarge:
                limit = f"an event exceeds max_event_bytes={self._max_event_bytes}"
                reader.fail(StreamProtocolError(limit, **reader.facts()))
            if self._event_timeout is not None:
                left = max(self._event_timeout - (_clock.now().boot - since), 0.0)


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
    return ByteStream(response, idle_timeout, heartbeat)


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
    stream = EventStream(response, idle_timeout, event_timeout, heartbeat, max_event_bytes)
    kind = response.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "text/event-stream":
        reader = stream._reader
        data = reader.read()
        excerpt = data[:_EXCERPT] if isinstance(data, bytes) else b""
        message = f"Content-Type is {kind or 'missing'!r}, not 'text/event-stream'; the body begins {excerpt!r}"
        if reader.is_done:
            raise StreamProtocolError(message, **reader.facts())
        reader.fail(StreamProtocolError(message, **reader.facts()))
    return stream


def _check(response: object, idle_timeout: object, heartbeat: object) -> None:
    _checks.instance("response", response, requests.Response)
    _checks.duration("idle_timeout", idle_timeout)
    _checks.duration("heartbeat", heartbeat)
    if getattr(response, "_content_consumed", False):
        raise ValueError("response has been read already: iterate over response.content, or send with stream=True")
