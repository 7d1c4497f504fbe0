"""One attempt of a call: its facts so far, each written by the code that learns it first."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from resilient_requests.call import _causes
from resilient_requests.call._facts import NEXT, AttemptRecord, Phase
from resilient_requests.call._timeouts import Limits
from resilient_requests.call._token import CancelToken
from resilient_requests.exceptions import (
    Cancelled,
    DeadlineExceeded,
    StreamBroken,
    StreamError,
    StreamIdle,
)

if TYPE_CHECKING:
    from requests import PreparedRequest

    from resilient_requests.call._facts import BodyReader, Lease

__all__ = ["Attempt", "Trace"]


class Trace(Protocol):
    """The listener that an attempt reports to while its call runs."""

    @property
    def origin(self) -> str:
        """The origin of the request, not of a proxy that it goes through."""

    @property
    def wants_timings(self) -> bool:
        """True if an observer wants the timings of a body: these cost a clock reading per read."""

    @property
    def hears_stalls(self) -> bool:
        """True if an operator would see the report of a silence while it lasts."""

    def stalled(self, attempt: Attempt, silence: float, idle_timeout: float) -> None:
        """No byte of a body came for ``silence`` seconds, a part of ``idle_timeout``."""

    def stream_ended(
        self, attempt: Attempt, error: BaseException | None, *, complete: bool
    ) -> None:
        """A streamed response has ended."""


class _NoTrace:
    origin = ""
    wants_timings = hears_stalls = False

    def stalled(self, attempt: Attempt, silence: float, idle_timeout: float) -> None:
        pass

    def stream_ended(
        self, attempt: Attempt, error: BaseException | None, *, complete: bool
    ) -> None:
        pass


_NO_TRACE = _NoTrace()
# Up to Python 3.11, looking up a member on its class takes as long as a call.
_BODY = Phase.BODY
# The facts that stay if a class below the adapter tries the request twice.
_OF_ALL_TRIES = {
    "token",
    "request",
    "number",
    "limits",
    "must_dial",
    "trace",
    "since",
    "thread",
    "_is_ours",
    "_is_in_pool",
}
_OF_STREAMS = (StreamError, Cancelled, DeadlineExceeded)


class Attempt:
    """The facts of one attempt; used by one thread at a time: the sender, then the body's reader.

    Only its own methods write it. The code that learns a fact calls the method for that fact.
    """

    phase = Phase.START
    dialled_at: float | None = None  # boot time at which this step of a dial has begun
    lease: Lease | None = None
    reused = False
    idle_for: float | None = None
    sends = 0
    bytes_sent = 0
    send_failed = False
    sent_at: float | None = None  # boot time at which the last byte was sent
    bytes_received = 0
    early = b""
    status: int | None = None
    proxy_status: int | None = None
    fault: BaseException | None = None  # the transport's error, as it was raised
    foreign: BaseException | None = None  # an error of the caller's code, raised in a wait
    # Timings of the body, in seconds since the attempt began, over all loops that read it. They are
    # kept only if `Trace.wants_timings`.
    first_byte: float | None = None
    first_event: float | None = None
    longest_gap = 0.0
    events_received = 0
    is_handed_out = False
    _has_stalled = False
    _reader: weakref.ref[BodyReader] | None = None  # it refers to the attempt
    _waits_for_place = False  # in a pool
    _is_ours = False  # True if a pool of ours sends the request
    _is_in_pool = False  # True once that pool was asked to
    _roots: frozenset[str] = frozenset()

    def __init__(
        self,
        token: CancelToken,
        number: int,
        limits: Limits,
        *,
        must_dial: bool = False,
        trace: Trace = _NO_TRACE,
        request: PreparedRequest | None = None,
    ) -> None:
        self.token = token
        self.request = request  # None: nobody knows it
        self.number = number
        self.limits = limits
        self.must_dial = must_dial  # for a retry: other pooled connections may be dead as well
        self.trace = trace
        self.since = token.boot()
        self.thread = threading.get_ident()  # in which it, or the reading of its body, has begun

    @classmethod
    def unobserved(cls, timeout: float | None, phase: Phase = Phase.WAIT) -> Attempt:
        """Return the attempt of a request that another adapter sends; ``timeout`` bounds a read."""
        token = CancelToken()
        token.sent()
        attempt = cls(token, 1, Limits(connect=None, write=None, response=timeout, idle=timeout))
        attempt.phase = phase
        attempt.pooled()
        return attempt

    def begin_again(self) -> bool:
        """Begin anew if the call's request has failed; else return False.

        A class below the adapter may try it twice in one attempt, and the last try counts. A hook
        may also send the headers of the call once more, for a request of its own.
        """
        if self.fault is None:
            return False
        kept = {name: value for name, value in vars(self).items() if name in _OF_ALL_TRIES}
        vars(self).clear()
        vars(self).update(kept)
        return True

    # -- reports of the transport ------------------------------------------------------------------

    def begin(self, phase: Phase) -> None:
        """Enter a phase; `NEXT` says which phase may follow which."""
        assert phase in NEXT[self.phase], f"{phase!r} cannot follow {self.phase!r}"
        self.phase = phase

    def dials(self, phase: Phase) -> None:
        """Go on to a step of a dial: each has the whole connect limit."""
        self.begin(phase)
        self.dialled_at = self.token.boot()

    def pooled(self) -> None:
        """A pool of ours is about to send the request."""
        self._is_ours = True

    def enters_pool(self, headers: object) -> bool:
        """A pool is asked to send a request; return True if these are the headers of the call's.

        Hooks, bodies and signal handlers send others meanwhile, which no attempt observes.
        """
        is_own = self.request is not None and headers is self.request.headers
        self._is_in_pool = self._is_in_pool or is_own
        return is_own

    def waits_for_place(self) -> None:
        """The attempt waits for a place in a pool of ours."""
        self._is_ours = self._waits_for_place = True

    def placed(self) -> None:
        """The attempt has a place in a pool."""
        self._waits_for_place = False

    def may_return_place(self) -> bool:
        """Return False if the wait for a place was broken off.

        urllib3 gives a place back in either case: one that nobody took would make the pool grow.
        """
        return not self._waits_for_place

    def take(self, lease: Lease, idle_for: float | None = None) -> None:
        """The attempt has a connection, ``idle_for`` seconds idle; None: not dialled yet."""
        self.lease, self.idle_for, self.reused = lease, idle_for, idle_for is not None

    def connected(self) -> None:
        """The connection stands. Bytes counted so far are not the response's.

        They belong to the CONNECT request and to the proxy's answer.
        """
        self.bytes_sent = self.bytes_received = 0
        self.early = b""

    def sending(self) -> None:
        """A send call is about to begin, with the head or with a block of the body."""
        self.sends += 1

    def sent(self, size: int) -> None:
        """The kernel has taken ``size`` bytes."""
        self.bytes_sent += size

    def heard(self, data: bytes) -> None:
        """Bytes of the response came while the request was still being sent."""
        self.early += data
        self.bytes_received += len(data)

    def take_early(self) -> bytes:
        """Return the bytes that came while the request was being sent, and forget them."""
        early, self.early = self.early, b""
        return early

    def waiting(self) -> None:
        """The request is out.

        After a failed send the phase stays SEND: the transport only looks once more for an answer.
        """
        self.sent_at = self.token.boot()
        if not self.send_failed:
            self.begin(Phase.WAIT)

    def received(self, size: int) -> None:
        """``size`` bytes of the response came."""
        self.bytes_received += size
        # In SEND too: a server may answer before it has read the whole request (RFC 9112 9.5).
        # The first test is for speed: most reads are of a body.
        if self.phase is not _BODY and size and self.phase in (Phase.WAIT, Phase.SEND):
            self.phase = Phase.HEAD

    def heads(self) -> None:
        """The parser reads the head, from bytes that are counted already."""
        if self.phase is Phase.WAIT or self.phase is Phase.SEND:
            self.begin(Phase.HEAD)

    def interim(self) -> None:
        """An interim answer (1xx) came: a sign of progress, but not the response."""
        self.begin(Phase.WAIT)

    def tunnelled(self, status: int) -> None:
        """A proxy answered CONNECT with this status."""
        self.proxy_status = status

    def headed(self, status: int, reader: BodyReader) -> None:
        """The head of the response is complete; ``reader`` reads the body."""
        self.status = status
        self._reader = weakref.ref(reader)
        if self.phase is not Phase.HEAD:
            self.heads()  # the read of an interim answer has brought this head as well
        self.begin(Phase.BODY)

    def trusts(self, *owners: object) -> None:
        """Count errors from the modules of these objects as the transport's.

        For sockets of other classes, such as pyOpenSSL's.
        """
        modules = (getattr(each, "__module__", None) or "" for each in owners)
        self._roots |= {name.partition(".")[0] for name in modules}

    def failed(self, error: BaseException) -> None:
        """Record the error that ended a step: the transport's own, or the caller's exception."""
        foreign = _causes.foreign_in(error, self._roots)
        if foreign is None:
            self.fault = error
        elif self.foreign is None:
            self.foreign = foreign

    def left_with(self, error: BaseException) -> None:
        """Record the caller's exception if one stands behind an error that is about to leave.

        A signal handler may raise between two steps of the transport, where `failed` sees nothing.
        Another package's pool raises errors from modules that are unknown here, so those are left
        alone.
        """
        if self.foreign is None and self._is_ours:
            self.foreign = _causes.foreign_in(error, self._roots)

    def left_send(self, error: BaseException) -> None:
        """``HTTPAdapter.send`` has raised an error: record it if it is that of a subclass's hook.

        Hooks run before a pool of ours is asked, and behind the head of the response. There they
        may also read the body: an error of this attempt's stream has no attempts on it yet.
        """
        self.left_with(error)
        is_before = self._is_ours and not self._is_in_pool
        is_of_stream = isinstance(error, _OF_STREAMS) and not getattr(error, "attempts", ())
        is_behind = self.phase is Phase.BODY and not is_of_stream
        if self.fault is None and self.foreign is None and (is_before or is_behind):
            self.foreign = error

    def forget_foreign(self) -> None:
        """Forget the caller's exception: its frames refer to this attempt."""
        self.foreign = None

    def send_broke(self, error: BaseException) -> None:
        """A send call failed, so the kernel never had the tail of the request."""
        self.failed(error)
        self.send_failed = self.fault is error

    def raised(self, error: BaseException) -> None:
        """The caller's body raised an error while it was being sent."""
        if self.phase is Phase.SEND and self.fault is None and self.foreign is None:
            self.foreign = error

    def failed_in(self, owner: object, error: BaseException) -> None:
        """Other code has failed while it sent the request by itself.

        It may also have read from the server, which then has had the whole request.
        """
        if self.phase is Phase.SEND:
            self.waiting()
        self.trusts(owner)
        self.failed(error)

    def answered(self, status: int) -> None:
        """The attempt has a response; a mock makes one without any head."""
        self.status = status

    # -- after the response ------------------------------------------------------------------------

    def hand_out(self) -> None:
        """The response leaves before the end of its body; `stream_ended` will report that end."""
        self.is_handed_out = True

    def read_by(self, reader: BodyReader) -> None:
        """Another reader reads the body from now on, in this thread."""
        self._reader, self.thread = weakref.ref(reader), threading.get_ident()

    def waited(self, silence: float) -> None:
        """A wait for bytes of the body lasted ``silence`` seconds."""
        self.longest_gap = max(self.longest_gap, silence)

    def body_begun(self) -> None:
        """Bytes of the body came; the first time counts."""
        if self.first_byte is None:
            self.first_byte = self.age

    def event_came(self) -> None:
        """An event came; the first time counts."""
        if self.first_event is None:
            self.first_event = self.age

    @property
    def hears_stalls(self) -> bool:
        """True if a silence should be reported while it lasts; each attempt reports one at most."""
        return not self._has_stalled and self.trace.hears_stalls

    def stalled(self, silence: float, idle_timeout: float) -> None:
        """Report a silence of ``silence`` seconds, a part of ``idle_timeout``."""
        self._has_stalled = True
        self.trace.stalled(self, silence, idle_timeout)

    def stream_ended(self, error: BaseException | None, *, events: int, complete: bool) -> None:
        """The body of the response has ended.

        A silent or broken body says that the path is dead, so the connections of its origin retire.
        """
        self.is_handed_out = False  # the end is reported once
        self.events_received += events
        silent = isinstance(error, StreamIdle) and error.clock == "bytes"
        if self.lease is not None and (silent or isinstance(error, StreamBroken)):
            self.lease.retire("StreamIdle" if silent else "StreamBroken", self.token.id)
        self.trace.stream_ended(self, error, complete=complete)

    # -- questions ---------------------------------------------------------------------------------

    @property
    def age(self) -> float:
        """Seconds since the attempt began."""
        return self.token.boot() - self.since

    @property
    def reader(self) -> BodyReader | None:
        """The reader of the body; None before the head, and once the reader is gone."""
        return None if self._reader is None else self._reader()

    def errno_of(self, error: BaseException) -> int | None:
        """Return the system's error number behind an error of this attempt; None without one.

        The recorded fault is the second choice. After a failed send urllib3 raises the error of its
        last look for an answer, and that error has no number.
        """
        number = _causes.errno_of(error)
        return number if number or self.fault is None else _causes.errno_of(self.fault)

    @property
    def body_touched(self) -> bool:
        """True if a block of the body has been taken from the caller.

        The head is a send call of its own and comes before all blocks.
        """
        return self.sends > 1 or (self.sends == 1 and not self.send_failed)

    def record(self, error: str | None = None) -> AttemptRecord:
        """Return the facts for ``error.attempts``; ``error`` is a text, None on success."""
        return AttemptRecord(
            self.number,
            self.reused,
            self.idle_for,
            self.phase.value,
            self.bytes_sent,
            self.bytes_received,
            self.status,
            error,
            self.age,
        )
