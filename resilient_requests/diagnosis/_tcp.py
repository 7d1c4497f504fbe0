"""The kernel's view of one TCP connection, on Linux: unacknowledged, unanswered and unread data."""

from __future__ import annotations

import _socket
import os
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_requests.call import Wakeable

if sys.platform == "linux":
    import fcntl
    import termios

    _OPTIONS = (
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_KEEPCNT,
        socket.TCP_USER_TIMEOUT,
    )

__all__ = ["TCPView", "look", "parse"]

# The states of the kernel's include/net/tcp_states.h that a client's connection can be in.
_STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    11: "CLOSING",
}
# Numbers of 32-bit words in `struct tcp_info` (include/uapi/linux/tcp.h). It grows only at its end,
# and a kernel returns as much of it as it knows.
_UNACKNOWLEDGED, _LAST_SENT, _LAST_RECEIVED, _LAST_ACKNOWLEDGED, _RTT = 6, 11, 13, 14, 17
_UNSENT, _WINDOW = 36, 57  # Linux 4.6 and 5.4
_MOST = 512


@dataclass(frozen=True, kw_only=True)
class TCPView:
    """The kernel's facts about a connection; immutable, pickles.

    ``state``: as in ``ss``. ``unacknowledged``: segments sent and not acknowledged;
    ``retransmits``: the number of times in a row that the first of them was sent again.
    ``unsent``: bytes that wait to be sent; ``window``: bytes that the peer is ready to take.
    ``unread``: bytes that have come and that nobody has read; with TLS, of its records.
    ``probes``: keep-alive or window probes without an answer. ``last_sent``, ``last_received``:
    seconds since data was sent (again), and received; ``last_acknowledged``: seconds since any
    packet came from the peer's kernel; None while it dials. ``rtt``: seconds. ``keepalive``: the
    kernel probes a silent peer after so many seconds, every so many seconds, so many times.
    ``user_timeout``: seconds. Both are None if off; any other None: this kernel does not tell.
    """

    state: str
    unacknowledged: int
    retransmits: int
    unsent: int | None
    window: int | None
    probes: int
    last_sent: float | None
    last_received: float | None
    last_acknowledged: float | None
    rtt: float
    unread: int | None = None
    keepalive: tuple[int, int, int] | None = None
    user_timeout: float | None = None

    @property
    def silence(self) -> float | None:
        """Seconds since a byte was acknowledged, or came; None while it dials.

        The kernel counts each retransmission as the last sending, so that ``last_sent`` cannot
        tell. For a shut window only ``last_sent`` counts, since window probes are acknowledged.
        """
        is_retried = self.unacknowledged or (self.unsent and self.window != 0)
        sent = self.last_acknowledged if is_retried else self.last_sent
        if sent is None or self.last_received is None:
            return None
        return min(sent, self.last_received)

    @property
    def heard(self) -> float:
        """Seconds since the last sign of life from the peer's kernel; 0 while it dials."""
        return min(self.last_acknowledged or 0.0, self.last_received or 0.0)


def look(sock: Wakeable | None) -> TCPView | None:
    """Return the kernel's view of a socket; None without a socket, and if it is no TCP on Linux.

    Safe from any thread and in a signal handler: it waits for nothing, and leaves the socket's own
    error to its reader.
    """
    if sys.platform != "linux" or sock is None:
        return None
    with suppress(OSError, ValueError):
        if isinstance(sock, _socket.socket):
            return _view(sock)
        # gevent's sockets and urllib3's TLS in TLS are not sockets of the standard library. A
        # duplicate of their descriptor is one.
        twin = _socket.socket(fileno=os.dup(sock.fileno()))
        try:
            return _view(twin)
        finally:
            twin.close()
    return None


def _view(sock: _socket.socket) -> TCPView | None:
    # Each call holds the GIL from the descriptor to the answer. A close in between is an OSError,
    # never a look at the next socket of that number. Asking for SO_ERROR would clear it.
    view = parse(_socket.socket.getsockopt(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _MOST))
    if view is None:
        return None
    unread = fcntl.ioctl(_socket.socket.fileno(sock), termios.FIONREAD, bytes(4))
    idle, interval, count, milliseconds = (_option(sock, name) for name in _OPTIONS)
    is_probed = _option(sock, socket.SO_KEEPALIVE, socket.SOL_SOCKET)
    return replace(
        view,
        unread=int.from_bytes(unread, sys.byteorder),
        keepalive=(idle, interval, count) if is_probed else None,
        user_timeout=milliseconds / 1e3 or None,
    )


def parse(info: bytes) -> TCPView | None:
    """Return the view in a ``struct tcp_info`` of any length; None if it is too short."""
    words: tuple[int, ...] = struct.unpack(f"={len(info) // 4}I", info[: len(info) // 4 * 4])
    if len(words) <= _RTT or info[0] not in _STATES:
        return None
    state = _STATES[info[0]]
    ages = [words[each] / 1e3 for each in (_LAST_SENT, _LAST_RECEIVED, _LAST_ACKNOWLEDGED)]
    # While a connection is dialled, these count from the start of the machine.
    sent, received, acknowledged = [None] * 3 if state == "SYN_SENT" else ages
    return TCPView(
        state=state,
        unacknowledged=words[_UNACKNOWLEDGED],
        retransmits=info[2],
        unsent=words[_UNSENT] if len(words) > _UNSENT else None,
        window=words[_WINDOW] if len(words) > _WINDOW else None,
        probes=info[3],
        last_sent=sent,
        last_received=received,
        last_acknowledged=acknowledged,
        rtt=words[_RTT] / 1e6,
    )


def _option(sock: _socket.socket, name: int, level: int = socket.IPPROTO_TCP) -> int:
    with suppress(OSError):  # gVisor lacks some of them
        return _socket.socket.getsockopt(sock, level, name)
    return 0
