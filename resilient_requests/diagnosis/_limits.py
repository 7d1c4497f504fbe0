"""What will end a call first: its limits, its deadline, or the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_requests.call import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilient_requests.call import Attempt
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["first_limit"]

Limit = tuple[str, float]
"""What ends it, and in how many seconds."""


def first_limit(
    attempt: Attempt,
    phase: str,
    silence: float | None,
    tcp: TCPView | None,
    *,
    is_held: bool,
) -> tuple[str, float] | tuple[None, None]:
    """Return what ends a call first, and in how many seconds, at least 0; None twice where nothing does.

    ``silence``: seconds without a byte, None where nobody knows.
    """
    found = [*_deadline(attempt)]
    if not is_held:
        found += _own(attempt, phase, silence)
    if tcp is not None:
        found += _kernels(tcp)
    name, left = min(found, key=lambda limit: limit[1], default=(None, 0.0))
    return (None, None) if name is None else (name, max(left, 0.0))


def _deadline(attempt: Attempt) -> Iterator[Limit]:
    left = attempt.token.remaining()
    if left is not None:
        yield attempt.token.limit_name, left


def _own(attempt: Attempt, phase: str, silence: float | None) -> Iterator[Limit]:
    """Of the limits of the attempt that of its phase."""
    now, limits = attempt.token.boot(), attempt.limits
    if phase in (Phase.CONNECT, Phase.HANDSHAKE):
        if limits.connect is not None and attempt.dialled_at is not None:
            yield "connect", attempt.dialled_at + limits.connect - now
    elif phase == Phase.SEND:
        if limits.write is not None and silence is not None:
            yield "write", limits.write - silence
    elif phase in (Phase.WAIT, Phase.HEAD):
        if limits.response is not None and attempt.sent_at is not None:
            yield "response", attempt.sent_at + limits.response - now
    elif phase == Phase.BODY and silence is not None:
        reader = attempt.reader
        limit = None if reader is None else reader.limit_in(silence)
        if limit is not None:
            yield limit


def _kernels(tcp: TCPView) -> Iterator[Limit]:
    """Of a path that the kernel takes for dead already, or whose peer takes nothing."""
    timeout, keepalive = tcp.user_timeout, tcp.keepalive
    if tcp.unacknowledged or tcp.unsent:
        # Of a full window the timeout counts, too, though the peer answers probes (tcp_probe_timer).
        is_stuck = tcp.retransmits if tcp.unacknowledged else (tcp.probes or tcp.window == 0)
        if timeout is not None and is_stuck and tcp.silence is not None:
            yield "user_timeout", timeout - tcp.silence
    elif tcp.probes and keepalive is not None and tcp.last_received is not None:
        heard = min(tcp.last_received, tcp.last_acknowledged or 0.0)
        if timeout is not None:  # it stands in place of the count (tcp_keepalive_timer)
            yield "user_timeout", timeout - heard
        else:
            yield "keepalive", keepalive.idle + keepalive.interval * keepalive.count - heard
