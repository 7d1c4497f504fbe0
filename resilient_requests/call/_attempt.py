"""What one attempt of a call has done so far, written down where it happens."""

from __future__ import annotations

import enum
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from resilient_requests.call._cancel import Call

__all__ = ["Attempt", "AttemptRecord", "Limits", "Phase", "Sent", "current"]


class Phase(str, enum.Enum):
    """How far an attempt came."""

    START = "start"  # no connection was asked for: a mock answered, or the argument was wrong
    CONNECT = "connect"
    HANDSHAKE = "handshake"  # TLS, or CONNECT at a proxy
    SEND = "send"
    WAIT = "wait"  # the request is out, no byte of the response has come
    HEAD = "head"
    BODY = "body"

    # Python 3.11 changed how a mixed-in Enum formats; messages and logs must not depend on it.
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]  # a str is what it formats


class Sent(enum.Enum):
    """How much of the request was handed to the kernel."""

    NONE = "none"
    PART = "part"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The time limits of one attempt, in seconds; None: no limit."""

    connect: float | None
    write: float | None
    response: float | None
    idle: float | None


class AttemptRecord(NamedTuple):
    """What one attempt of a call did: an item of ``error.attempts``; immutable, pickles.

    ``number`` counts from 1; ``reused`` says whether the connection came from the pool, idle for ``idle_for``
    seconds (None on a fresh one); ``phase`` is how far it came; ``status`` the HTTP status (None without one);
    ``error`` is text, the class and the errno's name, never the exception, which would keep frames and prompts
    alive; ``elapsed`` seconds; ``stopped_by`` says why no further attempt followed ("not replayable", "policy",
    "budget", "deadline", "cancelled", "shut down", "exhausted"; None where one did follow, or on success). A tuple,
    because each call makes one, and a frozen dataclass takes four times as long.
    """

    number: int
    reused: bool
    idle_for: float | None
    phase: str
    bytes_sent: int
    bytes_received: int
    status: int | None
    error: str | None
    elapsed: float
    stopped_by: str | None = None


class Attempt:
    """The facts of one attempt; belongs to the thread that sends, and then to the reader of its response."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "call",
        "early",
        "fault",
        "fresh",
        "generation",
        "idle_for",
        "limits",
        "number",
        "own",
        "phase",
        "place",
        "proxy_status",
        "reused",
        "send_failed",
        "sends",
        "sent_at",
        "since",
        "status",
    )

    def __init__(
        self, call: Call, number: int, limits: Limits, *, fresh: bool, since: float
    ) -> None:
        self.call = call
        self.number = number
        self.limits = limits
        self.fresh = fresh  # must dial: a retry never takes another pooled connection
        self.since = since  # boot time
        self.phase = Phase.START
        self.place: object = (
            None  # whose connections a failure retires: the pool's key for its origin
        )
        self.generation = -1
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
        self.fault: BaseException | None = (
            None  # what the transport itself raised, as opposed to the caller's code
        )
        self.own: Exception | None = None  # what the caller's body raised while it was sent

    @classmethod
    def unobserved(cls, timeout: float | None) -> Attempt:
        """Return the attempt of a request that no adapter of ours sends; ``timeout`` bounds each of its reads."""
        limits = Limits(connect=timeout, write=timeout, response=None, idle=timeout)
        call = Call()
        call.is_sending = False
        return cls(call, 1, limits, fresh=False, since=call.boot())

    @property
    def sent(self) -> Sent:
        """How much of the request went out.

        Only a failing send call proves that the tail did not: the kernel may hold, and deliver, all that it took.
        """
        if self.send_failed:
            return Sent.PART if self.bytes_sent else Sent.NONE
        return (
            Sent.ALL
            if self.phase in (Phase.WAIT, Phase.HEAD, Phase.BODY) or self.sends
            else Sent.NONE
        )

    @property
    def body_touched(self) -> bool:
        """Whether a block of the body has been taken: the head is one send call of its own, before all blocks."""
        return self.sends > 1 or (self.sends == 1 and not self.send_failed)

    def record(self, elapsed: float, error: str | None = None) -> AttemptRecord:
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
            elapsed,
        )


_CURRENT: ContextVar[Attempt | None] = ContextVar("resilient_requests_attempt", default=None)


class current:  # noqa: N801  # reads as a statement: ``with current(attempt)``
    """Make ``attempt`` the one that connections of this thread (or greenlet) write to."""

    __slots__ = ("_attempt", "_outer")

    get = staticmethod(_CURRENT.get)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        # A body iterator may send a request of its own in the middle of ours: restore, do not clear.
        self._outer = _CURRENT.get()
        _CURRENT.set(self._attempt)

    def __exit__(self, *exc_info: object) -> None:
        _CURRENT.set(self._outer)
