"""What the kernel's view says of a path: one word. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["Path", "path_of"]

# One lost packet in ten is a bad path, and not a dead one: three in a row are lost once in a
# thousand times. The third is sent again 1.4 s after the first on a short path, later on a long one.
_RETRANSMITS = 3
# Keep-alive probes are seconds apart.
_PROBES = 2
# A peer answers window probes at most twice a second (tcp_invalid_ratelimit), and the first few
# come faster than that.
_WINDOW_PROBES, _WINDOW_SILENCE = 3, 1.5
# An acknowledgement may be delayed for half a second (RFC 9293 3.8.6.3), and one that comes later
# than this was for no data of ours.
_MOMENT = 1.0


class Path(enum.Enum):
    """How a path looks from here."""

    UNSEEN = "the system does not tell"
    DIALLING = "no connection stands yet"
    GONE = "the connection is gone: reset, or given up"
    LEFT = "the peer sends nothing more"
    STUCK = "nothing leaves this machine"
    DEAD = "what was sent is not acknowledged"
    SILENT = "probes are not answered"
    LOSSY = "something was lost"
    FULL = "the peer does not read"
    ANSWERS = "probes are answered"
    UNASKED = "nothing was sent that wants an answer"


def path_of(tcp: TCPView | None) -> Path:
    """Return how the path looks."""
    if tcp is None:
        return Path.UNSEEN
    if tcp.state == "SYN_SENT":
        return Path.DIALLING
    if tcp.state == "CLOSE":
        return Path.GONE
    if tcp.state != "ESTABLISHED":
        return Path.LEFT
    if tcp.unacknowledged:
        if tcp.retransmits >= _RETRANSMITS:
            return Path.DEAD
        return Path.LOSSY if tcp.retransmits else Path.UNASKED
    if tcp.unsent:
        return _of_waiting_data(tcp)
    if tcp.probes:
        return _of_probes(tcp)
    return Path.ANSWERS if _was_asked(tcp) else Path.UNASKED


def _of_waiting_data(tcp: TCPView) -> Path:
    """Of bytes that wait to be sent, while none is under way."""
    if tcp.window != 0:
        # The kernel tries again what it could not hand to an interface, and counts that as probes.
        return Path.STUCK if tcp.probes >= _PROBES else Path.UNASKED
    answered = tcp.last_acknowledged or 0.0
    is_dead = tcp.probes >= _WINDOW_PROBES and answered >= _WINDOW_SILENCE
    return Path.SILENT if is_dead else Path.FULL


def _of_probes(tcp: TCPView) -> Path:
    """Of keep-alive probes that are not answered, or not yet."""
    if tcp.probes >= _PROBES:
        return Path.SILENT
    heard = min(tcp.last_acknowledged or 0.0, tcp.last_received or 0.0)
    asked = heard - (tcp.keepalive.idle if tcp.keepalive else 0.0)  # seconds ago
    if asked > _MOMENT / 2 + 3 * tcp.rtt:
        return Path.LOSSY
    return Path.ANSWERS if _was_asked(tcp) else Path.UNASKED


def _was_asked(tcp: TCPView) -> bool:
    """Whether the peer's kernel has answered something since data was sent or came: a probe."""
    if tcp.last_acknowledged is None or tcp.silence is None:
        return False
    return tcp.last_acknowledged + _MOMENT + 2 * tcp.rtt < tcp.silence
