"""Reads one body under its clocks, and reports its end exactly once."""

from __future__ import annotations

import enum
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast

import requests

from resilient_requests.call import boot, errno_of
from resilient_requests.exceptions import (
    Cancelled,
    DeadlineExceeded,
    StreamBroken,
    StreamIdle,
)
from resilient_requests.stream._body import BodyState
from resilient_requests.stream._clocks import HEARTBEAT, Clocks, Expiry, Heartbeat
from resilient_requests.stream._faults import BROKEN, LOOP_ERRORS, READER_ERRORS
from resilient_requests.stream._socket_body import body_of
from resilient_requests.transport import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilient_requests.call import Attempt


__all__ = ["Reader"]


class _State(enum.Enum):
    OPEN = "open"
    ENDED = "ended"
    CLOSED = "closed"  # for the thread that closed it an end, for others an error
    CANCELLED = "cancelled"


# Up to Python 3.11, looking up a member on its class takes as long as a call.
_OPEN, _BODY_OPEN = _State.OPEN, BodyState.OPEN


class _NoEvent(Exception):
    """The limit between events was reached."""


class Reader:
    """Reads a response, and ends once: with its end, an error, or a close.

    ``read`` belongs to one thread; ``cancel`` and ``close`` may come from any. Limits are in
    seconds, None is no limit, but for ``idle_timeout``: None is the limit of the call that made the
    response. ``legacy`` is for requests' own loops, where users expect requests' own errors.
    """

    bytes_received = events_received = 0
    _state = _State.OPEN
    _is_reading = False
    _tells_end = True
    _error: BaseException | None = None
    _closer: int | None = None  # id of the thread that closed the stream
    _before_event = (0.0, 0.0)  # the clocks of events, in seconds

    def __init__(
        self,
        response: requests.Response,
        *,
        idle_timeout: float | None = None,
        event_timeout: float | None = None,
        heartbeat: float | None = None,
        legacy: bool = False,
    ) -> None:
        self.response = response
        self.body = body = body_of(response)
        self._number = body.attach()
        self._errors = LOOP_ERRORS if legacy else READER_ERRORS
        self._since = boot()
        self._socket = sock = body.socket
        self._attempt = attempt = None if sock is None else sock.attempt
        hears_stalls = wants_timings = False
        if attempt is not None:
            idle_timeout = attempt.limits.idle if idle_timeout is None else idle_timeout
            hears_stalls = attempt.hears_stalls
            wants_timings = attempt.trace.wants_timings
        self.clocks = Clocks(idle_timeout, event_timeout, heartbeat, hears_stalls=hears_stalls)
        # The first timeout is a shorter one, after which the silence is reported.
        self._limit = self.clocks.idle if self.clocks.alarm is None else self.clocks.alarm
        # These need a clock reading per read. The idle limit alone is the socket's timeout.
        self._is_clocked = wants_timings or event_timeout is not None or heartbeat is not None
        if attempt is not None:
            attempt.read_by(self)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, take: Callable[[], bytes | None] | None = None) -> bytes | Heartbeat:
        """Return bytes as they arrive, b"" at the end, HEARTBEAT after a silent interval.

        ``take`` gets the bytes from the body; None takes all that have arrived. Raises the error of
        the stream, and the same one at each later call.
        """
        body = self.body
        if body.error is not None or self._state is not _OPEN:
            return self._when_over()
        try:
            self._is_reading = True
            if self._is_clocked:
                data = self._read_by_clocks(take or body.read)
                if data is HEARTBEAT:
                    return data
            else:
                # Under the socket's own timeout: reading a clock would cost more than the rest.
                if (sock := self._socket) is not None:
                    sock.limit = self._limit
                got = (take or body.read)()
                data = self._read_on(take or body.read) if got is None else got
            self._is_reading = False  # in here too: an interrupt would skip the other one
        except TimeoutError as error:
            data = self._after_timeout(error, take or body.read)
        except BaseException as error:  # noqa: BLE001  # fail() raises it again
            # KeyboardInterrupt, GreenletExit and their like leave unchanged, but the connection is
            # in mid-body.
            self.fail(self._named(error) if isinstance(error, Exception) else error, error)
        finally:
            self._is_reading = False
        self.bytes_received += len(data)
        if body.state is not _BODY_OPEN:
            self._state = _State.ENDED
            if self._tells_end and body.state is BodyState.ENDED:
                self._tell(None, complete=True)
        return data

    def read_all(self) -> bytes:
        """Read to the end; for readers without a heartbeat. Raises as `read`."""
        pieces = []
        while data := self.read():
            pieces.append(cast("bytes", data))
            if self._state is _State.ENDED:
                break  # one read less for most bodies
        return b"".join(pieces)

    def tell_end_late(self) -> None:
        """Let `close` report the end: the last bytes hold events that the consumer still gets."""
        self._tells_end = False

    def _when_over(self) -> bytes:
        """Return b"" if the stream has ended; raise its error, or for another thread's close."""
        if self.body.error is not None:
            raise self._known_error(self.body.error)
        if self._state is _State.CANCELLED:
            self.fail(Cancelled())
        if self._closer not in (None, threading.get_ident()):
            self.fail(Cancelled("another thread has closed the stream"))
        return b""

    def _after_timeout(self, error: TimeoutError, read: Callable[[], bytes | None]) -> bytes:
        try:
            return self._read_after_stall(error, read)
        except BaseException as later:  # noqa: BLE001  # fail() raises it again
            self.fail(self._named(later) if isinstance(later, Exception) else later, later)

    def _read_on(self, read: Callable[[], bytes | None]) -> bytes:
        """Read until there is content; bytes may come that give none."""
        while (data := read()) is None:
            pass
        return data

    def _read_after_stall(self, error: TimeoutError, read: Callable[[], bytes | None]) -> bytes:
        """Report a silence that has lasted for a part of its limit, and wait for the rest."""
        clocks, sock = self.clocks, self._socket
        if clocks.alarm is None or clocks.idle is None or sock is None or self._is_failure(error):
            raise error
        clocks.waited(clocks.alarm)
        self._tell_stall()
        sock.limit, self._limit = clocks.idle - clocks.silence, clocks.idle
        clocks.byte()
        return self._read_on(read)

    def _read_by_clocks(self, read: Callable[[], bytes | None]) -> bytes | Heartbeat:
        clocks, sock = self.clocks, self._socket
        while True:
            if sock is not None:
                if (theirs := sock.take_theirs()) is not UNSET:
                    clocks.obey(theirs)
                sock.limit = clocks.left()
            began = boot()
            try:
                data = read()
            except TimeoutError as error:
                self._wait(boot() - began)
                if self._is_failure(error):
                    raise
                if self._beats(error):
                    return HEARTBEAT
                continue
            self._wait(boot() - began)
            clocks.byte()
            if data:
                self._note_bytes()
            if data is not None:
                return data
            if self._beats(None):
                return HEARTBEAT

    def _is_failure(self, error: TimeoutError) -> bool:
        """Return False for the timeout of the socket, which may only be one of several limits.

        The system's ETIMEDOUT and a signal handler's own error are of the same class.
        """
        return errno_of(error) is not None or self._foreign(error) is not None

    def _note_bytes(self) -> None:
        if self._attempt is not None:
            self._attempt.body_begun()

    def _wait(self, seconds: float) -> None:
        self.clocks.waited(seconds)
        if self._attempt is not None:
            self._attempt.waited(self.clocks.silence)
            self._tell_stall()

    def _tell_stall(self) -> None:
        silence = self.clocks.take_stall()
        if silence is not None and self._attempt is not None and self.clocks.idle is not None:
            self._attempt.stalled(silence, self.clocks.idle)

    def _beats(self, timeout: TimeoutError | None) -> bool:
        """Return True if a heartbeat is due. Raises if another limit was reached."""
        expiry = self.clocks.expired()
        if expiry is Expiry.EVENT:
            raise _NoEvent
        if expiry is Expiry.IDLE:
            raise timeout or TimeoutError("timed out")
        if expiry is Expiry.HEARTBEAT:
            self.clocks.yielded()
        return expiry is Expiry.HEARTBEAT

    def bytes_without_event(self) -> Heartbeat | None:
        """Return HEARTBEAT if one is due after bytes without an event, else None.

        Raises the stream's error if a limit was reached.
        """
        try:
            return HEARTBEAT if self._beats(None) else None
        except (_NoEvent, TimeoutError) as error:
            self.fail(self._named(error))

    def hand_out_event(self) -> None:
        """The consumer gets an event: the clocks of events start anew."""
        self.events_received += 1
        if self._is_clocked:
            self._before_event = (self.clocks.eventless, self.clocks.unyielded)
            self.clocks.event_came()
            if self._attempt is not None:
                self._attempt.event_came()

    def disregard_event(self) -> None:
        """Let the clocks go on as if the last event had not come: it was no progress."""
        self.clocks.restore(*self._before_event)

    # -- the end ----------------------------------------------------------------------------------

    def fail(self, error: BaseException, cause: BaseException | None = None) -> NoReturn:
        """End with an error, which each later read raises too; the connection is closed."""
        if not getattr(error, "attempts", True):
            # The attempts of the call up to the response.
            error.attempts = getattr(self.response, "attempts", ())  # type: ignore[attr-defined]
        self._error = error
        with self._giving_up():
            self.body.fail(error, cause)
        self._tell(error, complete=False)
        if cause is None or cause is error:
            raise error
        raise error from cause

    def _known_error(self, error: BaseException) -> BaseException:
        """Return the error of the body under the name that this reader has for it."""
        if self._error is None:
            fault = self.body.fault
            named = self._named(fault) if isinstance(fault, Exception) else error
            self._error = error if type(named) is type(error) else named
        return self._error

    def _named(self, error: Exception) -> BaseException:
        """Return the error to raise for an error of a read."""
        if (foreign := self._foreign(error)) is not None:
            # In a loop it would look like the end of the body; in a generator Python does the same.
            is_end = isinstance(foreign, StopIteration)
            return RuntimeError("a read raised StopIteration") if is_end else foreign
        if (ended := self._ended()) is not None:
            return ended
        if isinstance(error, _NoEvent):
            return StreamIdle(clock="events", idle_timeout=self.clocks.event, **self.facts())
        return self._errors.named(error, self._idle_limit(), self.facts())

    def _foreign(self, error: Exception) -> BaseException | None:
        """Return the caller's own exception behind an error, such as a signal handler's."""
        if self._attempt is None:
            return None
        self._attempt.left_with(error)
        return self._attempt.foreign

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Inside, an error of the transport is dropped: nobody needs the connection any more."""
        try:
            yield
        except BROKEN as error:
            if self._foreign(error) is error:
                raise

    def _idle_limit(self) -> float | None:
        theirs = UNSET if self._socket is None else self._socket.theirs
        return self.clocks.idle if theirs is UNSET else theirs

    def _ended(self) -> BaseException | None:
        """Return the error of the call's end, None if it has not ended.

        The own state decides. The error of a read may only be that of a socket that was shut down.
        """
        if self._state is _State.CANCELLED:
            return Cancelled()
        if self._attempt is not None:
            try:
                self._attempt.token.check()
            except (Cancelled, DeadlineExceeded) as error:
                return error
            except requests.ConnectionError as error:  # shut down
                return StreamBroken(str(error), **self.facts())
        return None

    def facts(self) -> dict[str, Any]:
        """Return the facts that each error of this stream carries."""
        return {
            "bytes_received": self.bytes_received,
            "events_received": self.events_received,
            "elapsed": boot() - self._since,
            "response": self.response,
        }

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that brought the response; None for a body without a socket."""
        return self._attempt

    @property
    def is_reading(self) -> bool:
        """True if a thread is inside of a read."""
        return self._is_reading

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None."""
        return self.clocks.limit_in(silence, self._idle_limit())

    @property
    def is_open(self) -> bool:
        """True if the stream has not ended, failed or been closed."""
        return self._state is _State.OPEN and self.body.error is None

    def cancel(self) -> None:
        """End the stream from any thread: the reader raises `Cancelled`."""
        if self._state in (_State.OPEN, _State.ENDED):
            self._state = _State.CANCELLED
        if self._attempt is not None:
            self._attempt.token.cancel()

    def close(self) -> None:
        """Close the connection if the body has not ended; harmless if repeated.

        A read of another thread ends with `Cancelled`.
        """
        if self._is_reading:
            self.cancel()  # the reading thread closes the connection
            return
        if self._state in (_State.OPEN, _State.ENDED):
            self._state, self._closer = _State.CLOSED, threading.get_ident()
        if self.body.error is None:
            try:
                with self._giving_up():
                    self.body.close()
            finally:
                self._tell(None, complete=self.body.state is BodyState.ENDED)

    def drop(self) -> bool:
        """Close the socket, for ``__del__``; return True if this reader was open and last."""
        if not self.is_open or self.body.reader != self._number:
            return False
        self._state = _State.CLOSED
        with suppress(*BROKEN):
            self.body.drop()
        return True

    @contextmanager
    def waiting_only(self, seconds: float) -> Iterator[None]:
        """Inside, HEARTBEAT comes after ``seconds`` of silence, and no other limit applies."""
        before = self.clocks, self._is_clocked
        self.clocks, self._is_clocked = Clocks(None, None, seconds, hears_stalls=False), True
        try:
            yield
        finally:
            self.clocks, self._is_clocked = before

    def drain(self, most_bytes: int, seconds: float) -> None:
        """Read to the end within bounds, so that the connection can be reused, and close.

        ``most_bytes`` of content and ``seconds`` in total; a body that goes on loses its
        connection.
        """
        until = boot() + seconds
        if self._socket is not None:
            with suppress(requests.RequestException, Cancelled):
                while self.is_open and most_bytes > 0 and (left := until - boot()) > 0:
                    with self.waiting_only(left):
                        data = self.read()
                    if isinstance(data, Heartbeat):
                        break
                    most_bytes -= len(data)
        self.close()

    def _tell(self, error: BaseException | None, *, complete: bool) -> None:
        if self._attempt is not None and self._attempt.is_handed_out:
            self._attempt.stream_ended(error, events=self.events_received, complete=complete)
