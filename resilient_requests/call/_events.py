"""The events of calls and connections, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "ConnectionOpened",
    "ConnectionRecycled",
    "Event",
    "PoolRotated",
    "RetryDenied",
    "RetryScheduled",
    "StreamEnded",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """The base of all events; immutable.

    ``call_id`` names the call within this process. It is None where no call is the cause, as in a
    rotation by hand. ``origin`` is "scheme://host:port" of the request, through a proxy as well. A
    forwarding proxy is named only where its connections are meant and no single call: connections
    retired, or recycled without a call. Durations are seconds. No event holds a path, a query, a
    header or a body.
    """

    call_id: str | None
    origin: str


@dataclass(frozen=True, kw_only=True)
class AttemptStarted(Event):
    """An attempt of a call begins; ``attempt`` counts from 1."""

    attempt: int
    method: str


@dataclass(frozen=True, kw_only=True)
class AttemptSucceeded(Event):
    """An attempt brought a response, with any ``status``.

    ``idle_for`` is the seconds that the connection was idle, None on a fresh one. ``elapsed`` is
    the seconds from the start of the attempt to the response.
    """

    attempt: int
    method: str
    status: int
    reused: bool
    idle_for: float | None
    bytes_sent: int
    bytes_received: int
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class AttemptFailed(Event):
    """An attempt brought no response.

    ``phase`` is a value of `Phase`, ``error`` the class and errno as text. ``errno`` is None if the
    system gave none, as for a timeout or a FIN. ``idle_for`` is None on a fresh connection.
    """

    attempt: int
    method: str
    reused: bool
    idle_for: float | None
    phase: str
    bytes_sent: int
    bytes_received: int
    error: str
    errno: int | None
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class RetryScheduled(Event):
    """``attempt`` failed and another follows after ``wait`` seconds; told before the wait.

    ``reason`` is the error's class and errno, or "status 503". The other facts are those of the
    `AttemptRecord`; ``errno`` is None without one.
    """

    attempt: int
    wait: float
    reason: str
    reused: bool
    idle_for: float | None
    phase: str
    errno: int | None


@dataclass(frozen=True, kw_only=True)
class RetryDenied(Event):
    """``attempt`` failed and none follows; ``reason`` is as in ``AttemptRecord.stopped_by``."""

    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConnectionOpened(Event):
    """A connection was dialled in ``elapsed`` seconds.

    ``connect`` is the part for name resolution and TCP, ``handshake`` the part for TLS and a
    proxy's CONNECT. ``tls`` is the version, None without TLS. ``family`` is "IPv4" or "IPv6", of
    the proxy if there is one. ``tries`` is the number of addresses tried, 1 if the first answered
    in time. Both are None if other code dialled, such as PySocks.
    """

    attempt: int
    elapsed: float
    connect: float
    handshake: float
    tls: str | None
    family: str | None = None
    tries: int | None = None


@dataclass(frozen=True, kw_only=True)
class ConnectionRecycled(Event):
    """A connection was closed, at its return or later, instead of being used again.

    ``reason`` is "idle window", "max_age", "retired", "shut down" or another of the list in
    docs/observability.md. ``idle_for`` is in seconds, None if it was never idle.
    """

    reason: str
    idle_for: float | None


@dataclass(frozen=True, kw_only=True)
class PoolRotated(Event):
    """Connections of ``origin`` were retired, or all of them if it is "*".

    ``reason`` is the failure that retired them, or "rotate()". ``closed`` is the number that were
    idle; the others close when their responses end.
    """

    generation: int
    reason: str
    closed: int


@dataclass(frozen=True, kw_only=True)
class StreamEnded(Event):
    """A streamed response ended; ``error`` is the class of its error, None without one.

    ``complete`` is True if it was read to its end, False if it was closed or failed before.
    ``first_byte`` (of the body) and ``first_event`` are in seconds since the attempt began, None
    without one. ``longest_gap`` is the longest wait for a byte in seconds; time that the consumer
    took does not count.
    """

    attempt: int
    bytes_received: int
    events_received: int
    elapsed: float
    first_byte: float | None
    first_event: float | None
    longest_gap: float
    complete: bool
    error: str | None
