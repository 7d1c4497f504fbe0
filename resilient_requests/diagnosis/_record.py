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
    run last. ``phase``: "start", "pool" (the call waits for a place in a blocking pool), "connect",
    "handshake", "send", "wait" (for the first byte), "head", "body" or "backoff" (the call waits
    before the next attempt). ``since``: seconds since the call began. ``idle_for``: seconds since a
    byte of this attempt moved, in either direction; None before one could, and where the system
    does not tell. ``bytes_sent``, ``bytes_received``: of this attempt.

    ``limit``: what will end the call first if nothing else happens. "connect", "write", "response",
    "idle" and "total" are limits of `Timeouts`, or of the call's own ``timeout=``; "event" is
    ``event_timeout=``; "scope" is a `CancelScope`; "keepalive" and "user_timeout" are the kernel's,
    which takes the path for dead. None: nothing will. ``ends_in``: seconds until then; of a body at
    least so many, since the time of the consumer does not count; None where nobody knows.
    ``next_in``: seconds until the next attempt begins; None unless the call waits for that.

    ``is_held``: nobody reads the body at this moment, the consumer is busy elsewhere. ``thread``,
    ``thread_id``: name and `threading.get_ident()` of the thread that sends, or has begun to read
    the body. ``tcp``: the kernel's view of the connection (to the proxy, where there is one); None
    where there is no connection, and on other systems than Linux. ``judgement``: what all of this
    means, in one line.
    """

    call_id: str
    origin: str
    attempt: int
    phase: str
    since: float
    idle_for: float | None
    bytes_sent: int
    bytes_received: int
    limit: str | None
    ends_in: float | None
    next_in: float | None
    is_held: bool
    thread: str
    thread_id: int
    tcp: TCPView | None
    judgement: str = ""
