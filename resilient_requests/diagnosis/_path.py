"""The state of a path, from the kernel's view. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_requests.diagnosis._tcp import TCPView

__all__ = ["Path", "path_of"]

# Even a bad path that loses one packet in ten loses three in a row only once in a thousand times.
# The third is sent again 1.4 s after the first, later on a long path.
_RETRANSMITS = 3
# Keep-alive probes are seconds apart.
_PROBES = 2
# A peer answers window probes at most twice a second (tcp_invalid_ratelimit), but the first few
# probes come faster than that.
_WINDOW_PROBES, _WINDOW_SILENCE = 3, 1.5
# An acknowledgement may be delayed for half a second (RFC 9293 3.8.6.3). Beyond this time it is
# not for data of ours.
_MOMENT = 1.0


class Path(enum.Enum):
    """The look of a path from here, in words for people; empty if it shows nothing."""

    UNSEEN = ""
    DIALLING = "no connection stands yet"
    GONE = "the connection is gone: the next read or write fails"
    LEFT = "the peer has closed its side"
    STUCK = "nothing left this machine at the last try, {sent} ago: no route, or no link"
    DEAD = "{idle} unacknowledged: the path is dead"
    SILENT = "{probes} probes unanswered, {heard} since a sign of life: the path is dead"
    LOSSY = "{heard} since a sign of life: the path loses packets, or is dead"
    FULL = "the peer does not read, its kernel answers window probes"
    ANSWERS = "the path answers keep-alive probes, {heard} ago"
    UNASKED = "{heard} since a sign of life"
    UNPROBED = "{heard} since a sign of life, and no keep-alive probe asks for one"

    @property
    def is_stopped(self) -> bool:
        """True if no sent byte arrives, or none is read."""
        return self in (Path.STUCK, Path.DEAD, Path.SILENT, Path.FULL)


def path_of(tcp: TCPView | None) -> Path:
    """Return the look of the path."""
    if tcp is None:
        return Path.UNSEEN
    if tcp.state != "ESTABLISHED":
        return {"SYN_SENT": Path.DIALLING, "CLOSE": Path.GONE}.get(tcp.state, Path.LEFT)
    if tcp.unacknowledged:
        lost = Path.DEAD if tcp.retransmits >= _RETRANSMITS else Path.LOSSY
        return lost if tcp.retransmits else Path.UNASKED
    return _of_waiting_data(tcp) if tcp.unsent else _of_probes(tcp)


def _of_waiting_data(tcp: TCPView) -> Path:
    """Return the look of a path while bytes wait to be sent, and none is under way."""
    if tcp.window != 0:
        # The kernel retries bytes that no interface took, and counts that as probes.
        return Path.STUCK if tcp.probes >= _PROBES else Path.UNASKED
    answered = tcp.last_acknowledged or 0.0
    is_dead = tcp.probes >= _WINDOW_PROBES and answered >= _WINDOW_SILENCE
    return Path.SILENT if is_dead else Path.FULL


def _of_probes(tcp: TCPView) -> Path:
    """Return the look of a path with nothing but keep-alive probes under way."""
    if tcp.probes >= _PROBES:
        return Path.SILENT
    since_probe = tcp.heard - (tcp.keepalive[0] if tcp.keepalive else 0.0)
    if tcp.probes and since_probe > _MOMENT / 2 + 3 * tcp.rtt:
        return Path.LOSSY
    # The peer's kernel has answered since the last data went either way: it answered a probe.
    if tcp.silence is not None and tcp.heard + _MOMENT + 2 * tcp.rtt < tcp.silence:
        return Path.ANSWERS
    return Path.UNPROBED if tcp.keepalive is None else Path.UNASKED
