"""Reads one response under its clocks: silence, breaks, cancelling and release, each exactly once."""

from __future__ import annotations

import enum
import http.client
import ssl
import sys
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import requests
import urllib3.exceptions

from resilient_requests.call import _clock
from resilient_requests.call._causes import errno_of
from resilient_requests.call._story import Pace, Story
from resilient_requests.exceptions import (
    Cancelled,
    DeadlineExceeded,
    StreamBroken,
    StreamIdle,
    StreamProtocolError,
)
from resilient_requests.stream._body import Turn, body_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HEARTBEAT", "Heartbeat", "Reader"]

_BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ssl.SSLError)
_STALLED = 3  # a stream has stalled after this part of its limit


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
    ``close`` may come from any. ``turn``: of who hands out what is read here, and gives back what it holds when another
    reads; this reader itself where it is None.
    """

    def __init__(
        self,
        response: requests.Response,
        *,
        idle_timeout: float | None = None,
        event_timeout: float | None = None,
        heartbeat: float | None = None,
        turn: Turn | None = None,
    ) -> None:
        self.response = response
        self.bytes_received = 0
        self.source = body_of(response)
        self.error: BaseException | None = None
        self._turn: Turn = turn or weakref.ref(self)
        self._take_turn()
        self.is_done = self.source.is_done and self.error is None
        self._tap = tap = self.source.tap
        self._call = tap.attempt.call if tap is not None else None
        self._idle = (
            idle_timeout if idle_timeout is not None or tap is None else tap.attempt.limits.idle
        )
        self._event_timeout = event_timeout
        self._heartbeat = heartbeat
        self.silence = self.eventless = self.unyielded = 0.0
        self._since = _clock.boot()
        self._is_cancelled = self._is_reading = False
        self._handled: BaseException | None = None  # by who reads, while it reads
        self.tells_late = False  # its last bytes may hold events: the end is told by `close`, when they are handed out
        # A response may be read by several loops, one after the other: it is one story.
        self.pace: Pace = (None if tap is None else tap.pace) or Pace()
        self._story: Story | None = None if self._call is None else self._call.story
        self._is_timed = False
        # With a shorter timeout first it costs no clock and no thread to tell that nothing comes.
        self._alarm: float | None = None
        if tap is not None and self._story is not None:
            tap.pace, self._is_timed = self.pace, self._story.is_of_pace
            if self._idle is not None and not self.pace.has_stalled and self._story.is_of_stalls:
                self._alarm = self._idle / _STALLED

    @property
    def events_received(self) -> int:
        """The events handed out so far."""
        return self.pace.events_received

    def _take_turn(self) -> None:
        """Go on where another has stopped."""
        self.source.take_turn(self._turn)
        self.error = self.error or self.source.error
        if not self.source.is_closed:  # else the source tells what has ended it
            self.is_done = self.source.is_done and self.error is None

    def give_back(self) -> None:
        """Hold nothing: what was read was handed out."""

    def read(self) -> bytes | Heartbeat:
        """Return bytes as they arrive, b"" at the end, HEARTBEAT after a silent interval; raise the stream's errors."""
        if self.source.turn is not self._turn:
            self._take_turn()
        if self.error is not None:
            raise self.error
        if self._is_cancelled:
            self.fail(Cancelled())
        if self.is_done:
            return b""
        self._is_reading, self._handled = True, sys.exc_info()[1]
        try:
            is_plain = (
                self._event_timeout is None and self._heartbeat is None and not self._is_timed
            )
            data = self._read() if is_plain else self._read_by_clocks()
        except BaseException as error:  # noqa: BLE001  # fail() raises it again
            # KeyboardInterrupt, GreenletExit and their kin pass untouched, but the connection is in mid-body.
            self.fail(self._translated(error) if isinstance(error, Exception) else error, error)
        finally:
            self._is_reading, self._handled = False, None
        if isinstance(data, bytes):
            if not self.bytes_received and data and self.pace.first_byte is None:
                self.pace.first_byte = self._age()
            self.bytes_received += len(data)
        if self.source.is_done and not self.is_done:
            self.is_done = True
            if not self.tells_late:
                self._tell(None, complete=True)
        return data

    def _read(self) -> bytes:
        source, tap = self.source, self._tap
        if tap is not None:
            tap.limit = self._idle if self._alarm is None else self._alarm
        while True:
            try:
                data = source.read()
            except TimeoutError as error:
                if self._alarm is None or errno_of(error, self._handled) is not None:
                    raise
                data = self._read_alarmed(self._alarm)
            if data or source.is_done:
                return data

    def _read_alarmed(self, silence: float) -> bytes:
        """Tell that nothing comes, and wait for the rest of the limit."""
        tap, idle = self._tap, self._idle
        assert tap is not None
        assert idle is not None
        self._ring(silence)
        tap.limit = idle - silence
        data = self.source.read()
        tap.limit = idle
        return data

    def _ring(self, silence: float) -> None:
        self._alarm = None
        if self._story is not None and self._tap is not None and self._idle is not None:
            self.pace.has_stalled = True
            self._story.stalled(self._tap.attempt, silence, self._idle)

    def _read_by_clocks(self) -> bytes | Heartbeat:
        source, tap = self.source, self._tap
        while True:
            waits, alarm = self._waits(), None if self._idle is None else self._alarm
            if alarm is not None:
                waits += (alarm - self.silence,)
            if tap is not None:
                tap.limit = max(
                    min((left for left in waits if left is not None), default=None) or 0.0, 0.001
                )
            began = _clock.boot()
            try:
                data = source.read()
            except TimeoutError as error:
                if errno_of(error, self._handled) is not None:
                    raise
                self._wait(_clock.boot() - began)
                if alarm is not None and self.silence >= alarm:
                    self._ring(self.silence)
                if (beat := self._expired(error)) is not None:
                    return beat
                continue
            self._wait(_clock.boot() - began)
            self.silence = 0.0
            if data or source.is_done:
                return data
            if (beat := self._expired(None)) is not None:
                return beat

    def _waits(self) -> tuple[float | None, ...]:
        limits = (self._idle, self._event_timeout, self._heartbeat)
        spent = (self.silence, self.eventless, self.unyielded)
        return tuple(
            None if limit is None else limit - gone
            for limit, gone in zip(limits, spent, strict=True)
        )

    def _wait(self, seconds: float) -> None:
        self.silence += seconds
        self.eventless += seconds
        self.unyielded += seconds
        self.pace.longest_gap = max(self.pace.longest_gap, self.silence)

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
        except _NoEvent as error:
            self.fail(self._translated(error))

    def yielded(self) -> None:
        """An event is handed out: its clocks start anew."""
        pace = self.pace
        if not pace.events_received:
            pace.first_event = self._age()
        pace.events_received += 1
        self.eventless = self.unyielded = 0.0

    def fail(self, error: BaseException, cause: BaseException | None = None) -> NoReturn:
        """End with an error, which every further read raises too; the connection is closed."""
        self.error = self.source.error = error
        if not getattr(error, "attempts", True):
            # What the call took until its response began.
            error.attempts = getattr(self.response, "attempts", ())  # type: ignore[attr-defined]
        self._release()
        self._tell(error, complete=False)
        if cause is None or cause is error:
            raise error
        raise error from cause

    def _translated(self, error: Exception) -> BaseException:
        if (ended := self._what_ended()) is not None:
            return ended
        facts = self.facts()
        if isinstance(error, _NoEvent):
            return StreamIdle(clock="events", idle_timeout=self._event_timeout, **facts)
        is_timeout = isinstance(error, (TimeoutError, urllib3.exceptions.ReadTimeoutError))
        if is_timeout and errno_of(error, self._handled) is None:
            return StreamIdle(clock="bytes", idle_timeout=self._idle, **facts)
        if isinstance(error, urllib3.exceptions.DecodeError):
            return StreamProtocolError("the body does not match its Content-Encoding", **facts)
        if isinstance(error, _BROKEN) and not isinstance(error, requests.RequestException):
            received = f"{self.bytes_received} byte{'' if self.bytes_received == 1 else 's'}"
            return StreamBroken(f"the connection was lost after {received} of the body", **facts)
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
            "elapsed": _clock.boot() - self._since,
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
            self.source.take_turn(self._turn)  # what a loop holds is dropped, too
            self.is_done = True
            self._release()
            self._tell(None, complete=False)
        elif self.error is None:
            self._tell(None, complete=not (self.source.is_closed or self.source.is_dropped))

    @contextmanager
    def waiting_only(self, seconds: float) -> Iterator[None]:
        """Inside, HEARTBEAT comes after so many silent seconds, and no other limit holds."""
        limits = self._idle, self._event_timeout, self._heartbeat
        self._idle, self._event_timeout, self._heartbeat, self.unyielded = None, None, seconds, 0.0
        try:
            yield
        finally:
            self._idle, self._event_timeout, self._heartbeat = limits

    def drain(self, most_bytes: int, seconds: float) -> None:
        """Read on to the end within bounds, so that the connection can be reused; close it where it does not end."""
        until = _clock.boot() + seconds
        if self._tap is not None:
            self._idle = None
            with suppress(requests.RequestException, Cancelled):
                while self.error is None and not self.is_done and most_bytes > 0:
                    self.unyielded, self._heartbeat = 0.0, until - _clock.boot()
                    data = self.read() if self._heartbeat > 0 else HEARTBEAT
                    if isinstance(data, Heartbeat):
                        break
                    most_bytes -= len(data)
        self.close()

    def abandon(self) -> None:
        """For ``__del__``: close the socket, and leave the pool alone, whose lock this thread may hold."""
        if not self.is_done and self.error is None:
            self.is_done = self.source.is_done = self.source.is_dropped = True
            with suppress(*_BROKEN):
                self.response.raw.close()

    def _release(self) -> None:
        with suppress(*_BROKEN):
            self.source.close()

    def _age(self) -> float:
        """Return the seconds since the attempt began; since reading began where it was not ours."""
        since = self._since if self._story is None or self._tap is None else self._tap.attempt.since
        return _clock.boot() - since

    def _tell(self, error: BaseException | None, *, complete: bool) -> None:
        if self._tap is not None and not self._tap.is_told:
            self._tap.is_told = True
            self._tap.attempt.call.stream_ended(
                self._tap.attempt, error, self.pace, complete=complete
            )
