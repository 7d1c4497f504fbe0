"""Reading one response from its socket: counted, limited, and seen by the call that it belongs to."""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING, Any

from urllib3.util.wait import wait_for_read

from resilient_requests._attempt import Attempt, Phase

if TYPE_CHECKING:
    import socket

__all__ = ["Exchange", "Tap"]


class Tap(io.RawIOBase):
    """The socket end of one response: counts bytes, re-arms the timeout before each read, checks the call after it.

    ``limit`` is the timeout of the next read in seconds (None: none). Unlike ``socket.SocketIO`` it can be read
    again after a timeout. Belongs to the thread that reads the response.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt, limit: float | None) -> None:
        self.attempt = attempt
        self.limit = limit
        self.until = deadline_of(attempt, limit)  # boot time by which the whole head must be there
        self.patience: float | None = None  # seconds to wait for something to read before readinto() gives None
        self.eof = False
        self._armed: float | None = -1.0
        self._early, attempt.early = attempt.early, b""
        self._sock = sock
        # Keeps the descriptor open after the connection was closed, as http.client does for close-delimited bodies.
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # http.client always asks for "rb"
        """Return the buffered reader that http.client asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._sock.fileno()

    def readinto(self, buffer: Any) -> int | None:
        """Read once; None where ``patience`` ended before anything came.

        Raises TimeoutError after the limit, and what has ended the call, also at a clean end.
        """
        call = self.attempt.call
        if self.patience is not None and not self._is_ready(call.clip(self.patience) or 0.0):
            call.check()
            return None
        if self._early:
            n = min(len(self._early), len(buffer))
            buffer[:n], self._early = self._early[:n], self._early[n:]
        else:
            self._arm()
            try:
                n = self._sock.recv_into(buffer)
            except (OSError, ValueError) as error:
                call.check()
                self.attempt.fault = error
                raise
        if call.is_ended:
            call.check()
        if not n:
            self.eof = True
        attempt = self.attempt
        if attempt.phase is Phase.WAIT:
            attempt.phase = Phase.HEAD
        attempt.bytes_received += n
        return n

    def _is_ready(self, seconds: float) -> bool:
        # OpenSSL may hold decrypted bytes of which the socket shows nothing.
        pending = getattr(self._sock, "pending", None)
        return bool(self._early or (pending and pending()) or wait_for_read(self._sock, timeout=seconds))

    def _arm(self) -> None:
        limit = self.limit
        if self.until is not None:
            limit = max(self.until - self.attempt.call.boot(), 0.001)
        limit = self.attempt.call.clip(limit)
        if limit != self._armed:
            self._sock.settimeout(limit)
            self._armed = limit

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            if self.attempt.phase is not Phase.HANDSHAKE:
                self.attempt.call.release()
        super().close()


class Exchange(http.client.HTTPResponse):
    """http.client's response, reading through a `Tap`; sees interim answers, cut heads and a proxy's status."""

    def __init__(self, tap: Tap, *args: Any, **kwargs: Any) -> None:
        self.tap = tap
        super().__init__(tap, *args, **kwargs)  # type: ignore[arg-type]  # of a socket it only uses makefile()

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        attempt = self.tap.attempt
        if attempt.phase is Phase.HANDSHAKE:
            attempt.proxy_status = status
        elif 102 <= status < 200:
            # http.client takes 102, 103 and their kin for the final answer; it skips only 100. (RFC 9110 15.2)
            status = http.client.CONTINUE
        if status == http.client.CONTINUE:
            # An interim answer is progress, and not yet the response: the limit on the head starts anew.
            self.tap.until = deadline_of(attempt, self.tap.limit)
            attempt.phase = Phase.WAIT
        return version, status, reason

    def begin(self, *args: Any, **kwargs: Any) -> None:
        super().begin(*args, **kwargs)
        if self.tap.eof:
            # http.client takes the end of the stream for the end of the head: a cut answer would be a 200 without body.
            raise http.client.IncompleteRead(b"")
        attempt = self.tap.attempt
        attempt.phase, attempt.status = Phase.BODY, self.status
        self.tap.until, self.tap.limit = None, attempt.limits.idle


def deadline_of(attempt: Attempt, limit: float | None) -> float | None:
    """Return the boot time at which ``limit`` seconds from now are over; None where there is no limit."""
    return None if limit is None else attempt.call.boot() + limit
