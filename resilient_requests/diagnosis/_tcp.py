"""The kernel's view of one TCP connection, on Linux: what is unacknowledged, unanswered, unread."""

from __future__ import annotations

import _socket
import os
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from resilient_requests.call import Wakeable

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["Probing", "TCPView", "look"]

# Of the kernel's include/net/tcp_states.h, from 1.
_STATES = (
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
)
# Where the fields of `struct tcp_info` (include/uapi/linux/tcp.h) begin: it only ever grows at its
# end, and a kernel hands out as much as it has.
_UNACKNOWLEDGED, _LAST_SENT, _LAST_RECEIVED, _LAST_ACKNOWLEDGED, _RTT = 24, 44, 52, 56, 68
_UNSENT, _WINDOW = 144, 228  # Linux 4.6 and 5.4
_LEAST, _MOST = _RTT + 4, 512


class Probing(NamedTuple):
    """When the kernel sends keep-alive probes: after ``idle`` seconds, every ``interval``, ``count`` times."""

    idle: int
    interval: int
    count: int


@dataclass(frozen=True, kw_only=True)
class TCPView:
    """What the kernel knows of a connection; immutable, pickles.

    ``state``: as in ``ss``. ``unacknowledged``: segments that were sent, and which nobody has
    acknowledged; ``retransmits``: how often in a row the first of them was sent again. ``unsent``:
    bytes that wait to be sent; ``window``: bytes that the peer is ready to take. ``unread``: bytes
    that have come, and which nobody has read; with TLS, of its records. ``probes``: keep-alive or
    window probes that nobody has answered. ``last_sent``, ``last_received``: seconds since data was
    sent, or sent again, and received; ``last_acknowledged``: since anything at all came from the
    peer's kernel; all three None while it dials. ``rtt``: seconds. ``keepalive``: None where it is
    off. ``user_timeout``: seconds; None where it is off. Any other None: this kernel does not tell.
    """

    state: str
    unacknowledged: int
    retransmits: int
    unsent: int | None
    window: int | None
    unread: int | None
    probes: int
    last_sent: float | None
    last_received: float | None
    last_acknowledged: float | None
    rtt: float
    keepalive: Probing | None
    user_timeout: float | None

    @classmethod
    def parse(
        cls,
        info: bytes,
        *,
        unread: int | None = None,
        keepalive: Probing | None = None,
        user_timeout: float | None = None,
    ) -> TCPView | None:
        """Return what a ``struct tcp_info`` says, however short; None where it says nothing."""
        if len(info) < _LEAST or not 0 < info[0] <= len(_STATES):
            return None
        state = _STATES[info[0] - 1]
        # Before the connection stands, these count from the start of the machine.
        stands = state != "SYN_SENT"
        return cls(
            state=state,
            unacknowledged=_u32(info, _UNACKNOWLEDGED) or 0,
            retransmits=info[2],
            unsent=_u32(info, _UNSENT),
            window=_u32(info, _WINDOW),
            unread=unread,
            probes=info[3],
            last_sent=_u32(info, _LAST_SENT, 1e3) if stands else None,
            last_received=_u32(info, _LAST_RECEIVED, 1e3) if stands else None,
            last_acknowledged=_u32(info, _LAST_ACKNOWLEDGED, 1e3) if stands else None,
            rtt=_u32(info, _RTT, 1e6) or 0.0,
            keepalive=keepalive,
            user_timeout=user_timeout,
        )

    @property
    def silence(self) -> float | None:
        """Seconds since a byte was acknowledged, or came; None while it dials.

        Each time that the kernel sends the same bytes again it takes that for the last sending.
        """
        sent = self.last_acknowledged if self.unacknowledged else self.last_sent
        if sent is None or self.last_received is None:
            return None
        return min(sent, self.last_received)


def _u32(info: bytes, at: int, unit: float = 0.0) -> int | float | None:
    if len(info) < at + 4:
        return None
    value: int = struct.unpack_from("=I", info, at)[0]
    return value / unit if unit else value


def look(sock: Wakeable | None) -> TCPView | None:
    """Return the kernel's view of a socket; None where there is none, or it is no TCP on Linux.

    From any thread, and in a signal handler: nothing is waited for, and the socket's own error is
    left for its reader.
    """
    if sys.platform != "linux" or sock is None:
        return None
    with suppress(OSError, ValueError):
        if isinstance(sock, _socket.socket):
            return _view(sock)
        # gevent's sockets and urllib3's TLS in TLS are no stdlib sockets: ask a twin of their descriptor.
        twin = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            return _view(twin)
        finally:
            twin.close()
    return None


def _view(sock: _socket.socket) -> TCPView | None:
    # Each call holds the GIL from the descriptor to the answer: a close in between is an OSError, and
    # never a look at the next socket of that number. SO_ERROR is not asked for: that would clear it.
    info = _socket.socket.getsockopt(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _MOST)
    keepalive = None
    if _option(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        keepalive = Probing(*(_option(sock, socket.IPPROTO_TCP, name) for name in names))
    milliseconds = _option(sock, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    return TCPView.parse(
        info,
        unread=_unread(sock),
        keepalive=keepalive,
        user_timeout=milliseconds / 1e3 if milliseconds else None,
    )


def _option(sock: _socket.socket, level: int, name: int) -> int:
    with suppress(OSError):  # gVisor lacks some
        return _socket.socket.getsockopt(sock, level, name)
    return 0


def _unread(sock: _socket.socket) -> int | None:
    with suppress(OSError, ValueError):
        waiting = fcntl.ioctl(_socket.socket.fileno(sock), termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)
    return None
