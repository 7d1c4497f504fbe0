"""What happens to calls and connections, as frozen events."""

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
    """Something happened. ``call_id`` names the call within this process, ``origin`` is "scheme://host:port".

    ``origin`` is the request's, also through a proxy; a proxy that forwards is named where its connections are meant
    and not one call: when they are retired, or recycled without a call. ``call_id`` is None where no call is the
    cause (a rotation by hand). Durations are seconds. No event holds a path, a query, a header or a body.
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
    """An attempt brought a response, whatever its ``status``."""

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
    """An attempt brought no response. ``errno`` is None where the system gave none (an end, a timeout)."""

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
    """``attempt`` failed and another will follow after ``wait`` seconds; comes before the wait."""

    attempt: int
    wait: float
    reason: str
    reused: bool
    idle_for: float | None
    phase: str
    errno: int | None


@dataclass(frozen=True, kw_only=True)
class RetryDenied(Event):
    """``attempt`` failed and none will follow; ``reason`` as ``AttemptRecord.stopped_by``."""

    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConnectionOpened(Event):
    """A connection was dialled, in ``elapsed`` seconds: name resolution and TCP took ``connect`` of them.

    ``handshake``: the rest, for TLS and for a proxy's CONNECT; ``tls``: the version, None without TLS.
    ``family``: "IPv4" or "IPv6", of the proxy where there is one; ``tries``: how many addresses of the name were
    tried, 1 where the first has answered in time. Both None where somebody else has dialled, as PySocks does.
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
    """A pooled connection was closed instead of being used; ``reason`` says why."""

    reason: str
    idle_for: float | None


@dataclass(frozen=True, kw_only=True)
class PoolRotated(Event):
    """Connections were retired: those of ``origin``, or all where it is "*"; ``closed`` of them lay idle."""

    generation: int
    reason: str
    closed: int


@dataclass(frozen=True, kw_only=True)
class StreamEnded(Event):
    """A streamed response ended; ``error`` is the error's class, None where there was none.

    ``complete``: it was read to its end, not closed before. ``first_byte`` of the body and ``first_event`` in seconds
    since the attempt began, None where there was none; ``longest_gap``: the longest wait for a byte, without the
    time that the consumer took.
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
