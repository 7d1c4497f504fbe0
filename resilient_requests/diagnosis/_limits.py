"""The limit that will end a call first: its own, its deadline, or the kernel's."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from resilient_requests.call import Phase

if TYPE_CHECKING:
    from resilient_requests.call import Attempt
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["first_limit"]

# Of two limits at nearly the same time ours wins: it is exact, while the kernel's awaits a timer.
_TIE = 0.5

Limit = tuple[str, float]
"""The name of a limit, and the seconds until then."""


def first_limit(
    attempt: Attempt, phase: str, silence: float | None, tcp: TCPView | None, *, is_held: bool
) -> tuple[str, float | None] | tuple[None, None]:
    """Return the limit that ends a call first, and the seconds until then; None twice for none.

    ``silence``: seconds without a byte, None if unknown: then the end of a limit on such silence
    is unknown too.
    """
    left = attempt.token.remaining()
    deadline = None if left is None else (attempt.token.limit_name, left)
    own = None if is_held else _own(attempt, phase, silence or 0.0)
    kernels = None if tcp is None else _kernels(tcp, silence)
    first = min(filter(None, (deadline, own)), key=itemgetter(1), default=None)
    if kernels is not None and (first is None or kernels[1] < first[1] - _TIE):
        first = kernels
    if first is None:
        return None, None
    name, left = first
    is_unknown = silence is None and name in ("write", "idle", "event")
    return name, None if is_unknown else max(left, 0.0)


def _own(attempt: Attempt, phase: str, silence: float) -> Limit | None:
    """Return the limit of the attempt that counts in its phase."""
    if phase == Phase.BODY:
        return None if attempt.reader is None else attempt.reader.limit_in(silence)
    limits, now = attempt.limits, attempt.token.boot()
    limit = since = None
    if phase in (Phase.CONNECT, Phase.HANDSHAKE):
        name, limit, since = "connect", limits.connect, attempt.dialled_at
    elif phase == Phase.SEND:
        name, limit, since = "write", limits.write, now - silence
    elif phase in (Phase.WAIT, Phase.HEAD):
        name, limit, since = "response", limits.response, attempt.sent_at
    if limit is None or since is None:
        return None
    return name, since + limit - now


def _kernels(tcp: TCPView, silence: float | None) -> Limit | None:
    """Return the kernel's limit for a path that looks dead, or for a peer that takes nothing."""
    timeout, keepalive = tcp.user_timeout, tcp.keepalive
    if tcp.unacknowledged or tcp.unsent:
        # It counts for a full window too, even if the peer answers probes (tcp_probe_timer).
        is_stuck = tcp.retransmits if tcp.unacknowledged else (tcp.probes or tcp.window == 0)
        if timeout is not None and is_stuck and silence is not None:
            return "user_timeout", timeout - silence
    elif tcp.probes and keepalive is not None:
        if timeout is not None:  # it replaces the count (tcp_keepalive_timer)
            return "user_timeout", timeout - tcp.heard
        idle, interval, count = keepalive
        return "keepalive", idle + interval * count - tcp.heard
    return None
