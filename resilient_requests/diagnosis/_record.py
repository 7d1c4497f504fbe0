"""InFlight: one call that is under way, as a frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["BACKOFF", "POOL", "InFlight"]

POOL, BACKOFF = "pool", "backoff"


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One call that is being sent, or whose response has not ended; immutable, pickles.

    ``call_id`` and ``origin``: as in events. ``attempt``: the number of the one that runs, or has
    run last. ``phase``: how far it has come, one of "start", "pool" (it waits for a place in a
    blocking pool), "connect", "handshake", "send", "wait" (for the first byte), "head", "body" and
    "backoff" (it waits before the next attempt). ``since``: seconds since the call began.
    ``idle_for``: seconds since the last byte moved, in either direction; None before any could, and
    where the system does not tell. ``bytes_sent``, ``bytes_received``: of this attempt.

    ``ends_by``: what will end it first if nothing else happens; None: nothing. "connect", "write",
    "response", "idle" and "total": that limit of `Timeouts`, or of the call's own ``timeout=``;
    "event": ``event_timeout=``; "scope": a `CancelScope`; "keepalive" and "user_timeout": the
    kernel, as `TCPKeepAlive` has it, where it takes the path for dead. ``ends_in``: seconds until
    then, of a body at least so many: its limit does not count the time of the consumer.
    ``next_in``: seconds until the next attempt begins; None unless it waits for that.

    ``is_held``: nobody reads the body at this moment: the consumer is busy elsewhere. ``thread``,
    ``thread_id``: the name and `threading.get_ident()` of the one that sends, or has begun to read
    the body. ``tcp``: the kernel's view of the connection, on Linux: that to the proxy, where there
    is one. ``judgement``: what all of this means, in one line.
    """

    call_id: str
    origin: str
    attempt: int
    phase: str
    since: float
    idle_for: float | None
    bytes_sent: int
    bytes_received: int
    ends_by: str | None
    ends_in: float | None
    next_in: float | None
    is_held: bool
    thread: str
    thread_id: int
    tcp: TCPView | None
    judgement: str = ""
