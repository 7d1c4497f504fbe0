"""InFlight: one call under way, as a frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["BACKOFF", "POOL", "InFlight"]

POOL, BACKOFF = "pool", "backoff"


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """One call that is being sent, or has a response that has not ended; immutable, pickles.

    ``call_id`` and ``origin``: as in events. ``attempt``: the number of the present attempt, or
    else of the last one. ``phase``: "start", "pool" (the call waits for a place in a blocking
    pool), "connect", "handshake", "send", "wait" (for the first byte), "head", "body" or "backoff"
    (the call waits before the next attempt). ``since``: seconds since the call began.
    ``idle_for``: seconds since a byte of this attempt moved, in either direction; None before the
    first, and if the system does not tell. ``bytes_sent``, ``bytes_received``: of this attempt.

    ``limit``: the limit that will end the call first if nothing else happens. "connect", "write",
    "response", "idle" and "total" are limits of `Timeouts`, or of the call's own ``timeout=``;
    "event" is ``event_timeout=``; "scope" is a `CancelScope`; "keepalive" and "user_timeout" belong
    to the kernel, which then considers the path dead. None: there is no limit. ``ends_in``: seconds
    until then, None if unknown; for a body it may take longer, since the consumer's time does not
    count. ``next_in``: seconds until the next attempt begins; None unless the call waits for that.

    ``is_held``: nobody reads the body now, because the consumer is busy elsewhere. ``thread``,
    ``thread_id``: name and `threading.get_ident()` of the thread that sends, or that has begun to
    read the body. ``tcp``: the kernel's view of the connection (to the proxy, if there is one);
    None without a connection, and on systems other than Linux. ``judgement``: the meaning of all
    this, in one line.
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
