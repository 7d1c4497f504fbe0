"""One attempt of a call: what it has done so far, written down where it happens."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from resilient_requests.call import _causes
from resilient_requests.call._facts import NEXT, AttemptRecord, Phase
from resilient_requests.call._timeouts import Limits
from resilient_requests.call._token import CancelToken
from resilient_requests.exceptions import StreamBroken, StreamIdle

if TYPE_CHECKING:
    from resilient_requests.call._facts import BodyReader, Lease

__all__ = ["Attempt", "Trace"]


class Trace(Protocol):
    """Who is told of a call while it runs."""

    @property
    def origin(self) -> str:
        """The origin of the request, whatever proxy it goes through."""

    @property
    def wants_timings(self) -> bool:
        """Whether anybody wants to know how a body comes: to measure it takes a look at the clock per read."""

    @property
    def hears_stalls(self) -> bool:
        """Whether anybody wants to know of a silence while it lasts."""

    def stalled(self, attempt: Attempt, silence: float, idle_timeout: float) -> None:
        """No byte of a body has come for a part of its limit."""

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


class Attempt:
    """The facts of one attempt; belongs to the thread that sends, and then to the reader of its response.

    Its own methods write it: each is called by the place where the fact comes about.
    """

    __slots__ = (
        "__weakref__",
        "_has_stalled",
        "_is_ours",
        "_place",
        "_reader",
        "_roots",
        "bytes_received",
        "bytes_sent",
        "dialled_at",
        "early",
        "events_received",
        "fault",
        "first_byte",
        "first_event",
        "foreign",
        "idle_for",
        "is_handed_out",
        "lease",
        "limits",
        "longest_gap",
        "must_dial",
        "number",
        "phase",
        "proxy_status",
        "reused",
        "send_failed",
        "sends",
        "sent_at",
        "since",
        "status",
        "thread",
        "token",
        "trace",
    )

    def __init__(
        self,
        token: CancelToken,
        number: int,
        limits: Limits,
        *,
        must_dial: bool = False,
        trace: Trace = _NO_TRACE,
    ) -> None:
        self.token = token
        self.number = number
        self.limits = limits
        self.must_dial = must_dial  # a retry never takes another pooled connection
        self.trace = trace
        self.since = token.boot()
        self.thread = threading.get_ident()  # in which it, or the reading of its body, has begun
        self.phase = Phase.START
        self.dialled_at: float | None = None  # boot time at which this step of a dial has begun
        self.lease: Lease | None = None
        self.reused = False
        self.idle_for: float | None = None
        self.sends = 0
        self.bytes_sent = 0
        self.send_failed = False
        self.sent_at: float | None = None  # boot time of the last byte
        self.bytes_received = 0
        self.early = b""
        self.status: int | None = None
        self.proxy_status: int | None = None
        self.fault: BaseException | None = None  # raised by the transport, as it was raised
        self.foreign: BaseException | None = None  # raised by the caller's code while we waited
        # How the body comes, over all loops that read it: seconds since the attempt began. Kept where
        # somebody wants to know.
        self.first_byte: float | None = None
        self.first_event: float | None = None
        self.longest_gap = 0.0
        self.events_received = 0
        self.is_handed_out = False
        self._has_stalled = False
        self._reader: weakref.ref[BodyReader] | None = None  # it refers to the attempt
        self._place: bool | None = None  # in a pool: None where none was asked for
        self._is_ours = False  # a pool of ours sends it
        self._roots: frozenset[str] = frozenset()

    @classmethod
    def unobserved(cls, timeout: float | None, phase: Phase = Phase.WAIT) -> Attempt:
        """Return the attempt of a request that no adapter of ours sends; ``timeout`` bounds each read."""
        token = CancelToken()
        token.sent()
        attempt = cls(token, 1, Limits(connect=None, write=None, response=timeout, idle=timeout))
        attempt.phase = phase
        attempt.has_pool()
        return attempt

    # -- what the transport tells -----------------------------------------------------------------

    def begin(self, phase: Phase) -> None:
        """Go on to a phase."""
        assert phase in NEXT[self.phase], f"{phase!r} cannot follow {self.phase!r}"
        self.phase = phase

    def dials(self, phase: Phase) -> None:
        """Go on to a step of a dial: each has the whole connect limit."""
        self.begin(phase)
        self.dialled_at = self.token.boot()

    def has_pool(self) -> None:
        """A pool of ours is about to send it."""
        self._is_ours = True

    def waits_for_place(self) -> None:
        """A place of a pool of ours is waited for."""
        self._is_ours, self._place = True, False

    def has_place(self) -> None:
        """A place of a pool is there."""
        self._place = True

    def may_return_place(self) -> bool:
        """Whether a place that urllib3 gives back was ever had: not where the wait for it was broken off."""
        return self._place is not False

    def take(self, lease: Lease, idle_for: float | None = None) -> None:
        """Have a connection: one that lay idle for so long, or one that is about to be dialled (None)."""
        self.lease, self.idle_for, self.reused = lease, idle_for, idle_for is not None

    def connected(self) -> None:
        """The connection stands: a proxy's answer to CONNECT is no part of the response."""
        self.bytes_sent = self.bytes_received = 0
        self.early = b""

    def sending(self) -> None:
        """A piece of the request is about to be sent."""
        self.sends += 1

    def sent(self, size: int) -> None:
        """So many bytes were handed to the kernel."""
        self.bytes_sent += size

    def heard(self, data: bytes) -> None:
        """Bytes came while the request was still being sent."""
        self.early += data
        self.bytes_received += len(data)

    def take_early(self) -> bytes:
        """Return the bytes that came while the request was being sent, once."""
        early, self.early = self.early, b""
        return early

    def waiting(self) -> None:
        """The request is out; after a failed send only a last look follows, and it remains one of sending."""
        self.sent_at = self.token.boot()
        if not self.send_failed:
            self.begin(Phase.WAIT)

    def received(self, size: int) -> None:
        """So many bytes of the response came."""
        self.bytes_received += size
        if size and (self.phase is Phase.WAIT or self.phase is Phase.SEND):
            self.phase = Phase.HEAD

    def heads(self) -> None:
        """The head is being read, of bytes that have been counted."""
        if self.phase is Phase.WAIT or self.phase is Phase.SEND:
            self.begin(Phase.HEAD)

    def interim(self) -> None:
        """An interim answer came: progress, and not yet the response."""
        self.begin(Phase.WAIT)

    def tunnelled(self, status: int) -> None:
        """A proxy has answered CONNECT."""
        self.proxy_status = status

    def headed(self, status: int, reader: BodyReader) -> None:
        """The head of the response is there, and what reads its body."""
        self.status = status
        self._reader = weakref.ref(reader)
        self.heads()  # behind an interim answer all of it may have been there already
        self.begin(Phase.BODY)

    def trusts(self, *owners: object) -> None:
        """Take errors that the modules of these objects raise for the transport's: a socket of another class."""
        modules = (getattr(each, "__module__", None) or "" for each in owners)
        self._roots |= {name.partition(".")[0] for name in modules}

    def failed(self, error: BaseException) -> None:
        """Note what ended a step of the transport: its own failure, or the caller's exception."""
        foreign = _causes.foreign_in(error, self._roots)
        if foreign is None:
            self.fault = error
        elif self.foreign is None:
            self.foreign = foreign

    def left_with(self, error: BaseException) -> None:
        """Look for an exception of the caller's behind an error, which may come up between steps.

        Not where another package's pool has sent it, whose errors are raised in its own modules.
        """
        if self.foreign is None and self._is_ours:
            self.foreign = _causes.foreign_in(error, self._roots)

    def send_broke(self, error: BaseException) -> None:
        """A send call failed: the tail of the request was never handed to the kernel."""
        self.failed(error)
        self.send_failed = self.fault is error

    def raised(self, error: BaseException) -> None:
        """The caller's body raised while it was sent."""
        if self.phase is Phase.SEND and self.fault is None and self.foreign is None:
            self.foreign = error

    def answered(self, status: int) -> None:
        """A response was made of it, by a mock too."""
        self.status = status

    # -- what follows the response ----------------------------------------------------------------

    def hand_out(self) -> None:
        """The response is handed out before the end of its body, which will be told."""
        self.is_handed_out = True

    def read_by(self, reader: BodyReader) -> None:
        """Another reader reads the body from now on, in this thread."""
        self._reader, self.thread = weakref.ref(reader), threading.get_ident()

    def waited(self, silence: float) -> None:
        """No byte of the body has come for so long."""
        self.longest_gap = max(self.longest_gap, silence)

    def body_begun(self) -> None:
        """Bytes of the body came."""
        if self.first_byte is None:
            self.first_byte = self.age

    def event_came(self) -> None:
        """An event came."""
        if self.first_event is None:
            self.first_event = self.age

    @property
    def hears_stalls(self) -> bool:
        """Whether a silence is to be told while it lasts, which is done once."""
        return not self._has_stalled and self.trace.hears_stalls

    def stalled(self, silence: float, idle_timeout: float) -> None:
        """Nothing has come for a part of the limit."""
        self._has_stalled = True
        self.trace.stalled(self, silence, idle_timeout)

    def stream_ended(self, error: BaseException | None, *, events: int, complete: bool) -> None:
        """The body of the response has ended. A silent or broken one implicates its generation."""
        self.is_handed_out = False  # it is told once
        self.events_received += events
        silent = isinstance(error, StreamIdle) and error.clock == "bytes"
        if self.lease is not None and (silent or isinstance(error, StreamBroken)):
            self.lease.retire("StreamIdle" if silent else "StreamBroken", self.token.id)
        self.trace.stream_ended(self, error, complete=complete)

    # -- what others ask --------------------------------------------------------------------------

    @property
    def age(self) -> float:
        """Seconds since the attempt began."""
        return self.token.boot() - self.since

    @property
    def reader(self) -> BodyReader | None:
        """What reads the body of the response; None before it, and where nobody can any more."""
        return None if self._reader is None else self._reader()

    def errno_of(self, error: BaseException) -> int | None:
        """Return the system's error number behind an error of it, else behind the fault that was recorded.

        After a failed send urllib3 raises the end that its last look met, which has none.
        """
        number = _causes.errno_of(error)
        return number if number or self.fault is None else _causes.errno_of(self.fault)

    @property
    def body_touched(self) -> bool:
        """Whether a block of the body has been taken: the head is a send call of its own, before all blocks."""
        return self.sends > 1 or (self.sends == 1 and not self.send_failed)

    def record(self, error: str | None = None) -> AttemptRecord:
        """Return what is told of it."""
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
