"""Reading one response from its socket: counted, limited, and seen by the call that it belongs to."""

from __future__ import annotations

import http.client
import io
import math
import os
import socket
import ssl
import struct
import sys
import threading
from contextlib import suppress
from typing import Any

from resilient_requests.call._attempt import Attempt, Phase
from resilient_requests.transport._head import Head, is_chunked, parse_head

__all__ = ["Exchange", "Tap", "is_bodiless"]

_MOMENT = 0.01
_MOST_BUFFERED = 1 << 20
_HEAD_SIZE = 16 * 1024
_Ordinary = (
    socket.socket if socket.socket.__module__ == "socket" else None
)  # gevent's never block the thread
_BODILESS = (http.client.NO_CONTENT, http.client.NOT_MODIFIED)


class Tap(io.RawIOBase):
    """The socket end of one response: counts bytes, re-arms the timeout before each read, checks the call after it.

    ``limit`` is the timeout of the next read in seconds (None: none). Can be read again after a timeout, unlike
    ``socket.SocketIO``. Belongs to the thread that reads the response.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt, limit: float | None) -> None:
        self.attempt = attempt
        self.limit = limit
        self.until = deadline_of(attempt, limit)  # boot time by which the whole head must be there
        self.eof = False
        self.ends_with_the_connection = False  # the body has no framing that tells its end
        self.is_before_body = False  # the head is there: the next read is the first of the body
        self.is_told = False  # the end of the response: it is told once
        self.pace: Any = None  # how the body comes, over all loops that read it
        self._armed: float | None = sock.gettimeout()
        self._is_dry = self._is_waiting = self._is_closing = self._is_kernel_timed = False
        self._pid = -1  # of who has left the time to the kernel
        self._early, attempt.early = attempt.early, b""
        self._sock = sock
        # Keeps the descriptor open after the connection was closed, as http.client does for close-delimited bodies.
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # http.client always asks for "rb"
        """Return the buffered reader that http.client asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Return True, as io.BufferedReader requires."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._sock.fileno()

    def readinto(self, buffer: Any) -> int | None:
        """Read once into ``buffer``; as `recv`."""
        if self._is_dry:
            return None
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int) -> bytes:
        """Read once; b"" at the end. Raises TimeoutError after the limit, and, at an end too, what ended the call."""
        attempt = self.attempt
        call = attempt.call
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
        else:
            self._arm()
            self._is_waiting = True
            try:
                if self._is_closing:
                    call.cancel()
                if self.ends_with_the_connection:
                    _see_death(self._sock)
                # urllib3's TLS inside TLS says 0 where the peer has left without a word.
                data = self._sock.recv(size) or b""
            except BlockingIOError:
                call.check()
                attempt.fault = TimeoutError("timed out")  # as a socket with a timeout
                raise attempt.fault from None
            except (OSError, ValueError) as error:
                call.check()
                attempt.fault = error
                raise
            finally:
                self._is_waiting = False
            attempt.bytes_received += len(data)
        if call.is_ended:
            call.check()
        if not data:
            self.eof = True
        elif attempt.phase in (Phase.SEND, Phase.WAIT):
            attempt.phase = Phase.HEAD
        return data

    def unread(self, data: bytes) -> None:
        """Take back bytes that `recv` has returned: the next one returns them."""
        self._early = data + self._early

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes that nobody has taken."""
        return bool(self._early)

    def buffered(self, reader: io.BufferedReader) -> bytes:
        """Return, without waiting, what the reader of the response has read ahead. Raises what ended the call."""
        if self.attempt.call.is_ended:
            self.attempt.call.check()
        if reader.raw is not self:  # http.client's own, of a response that another adapter has sent
            self.attempt.call.clip(
                None
            )  # a forked child shares with its parent whether the socket blocks
            self._sock.settimeout(0)
            self._armed = -1.0
            with suppress(ssl.SSLWantReadError):
                return reader.read1(_MOST_BUFFERED) or b""
            return b""
        self._is_dry = True
        try:
            return reader.read1(_MOST_BUFFERED)
        finally:
            self._is_dry = False

    def _arm(self) -> None:
        limit = self.limit
        if self.until is not None and limit is not None:
            left = self.until - self.attempt.call.boot()
            # The first read has the whole limit, which urllib3 has just set: to set it again is a system call.
            limit = limit if limit - left < _MOMENT else max(left, 0.001)
        limit = self.attempt.call.clip(limit)
        if self.is_before_body:
            self.is_before_body = False
            if _may_leave_time_to_the_kernel(self._sock):
                self._is_kernel_timed, self._armed, self._pid = True, None, os.getpid()
                self._sock.settimeout(None)
        if limit != self._armed:
            if self._is_kernel_timed:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(limit or 0))
            else:
                self._sock.settimeout(limit)
            self._armed = limit

    def wake(self) -> None:
        """End a call that another thread reads: the read that waits, and the one that is about to."""
        self._is_closing = True
        if self._is_waiting:
            self.attempt.call.cancel()

    def close(self) -> None:
        """Let go of the socket; the call then watches it no longer. Ends a call that another thread reads."""
        if not self.closed:
            self.wake()  # closing a socket wakes nobody, and now nobody could
            # A forked child shares the socket's options with a parent that may be reading.
            if self._is_kernel_timed and self._pid == os.getpid():
                with suppress(OSError):  # closed already, as this is
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(0))
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
            # http.client takes 200 alone for a success. (RFC 9110, 9.3.6: any 2xx)
            return version, 200 if 200 <= status < 300 else status, reason
        if 102 <= status < 200:
            # http.client takes 102, 103 and their kin for the final answer; it skips only 100. (RFC 9110 15.2)
            status = http.client.CONTINUE
        if status == http.client.CONTINUE:
            # An interim answer is progress, and not yet the response: the limit on the head starts anew.
            self.tap.until = deadline_of(attempt, self.tap.limit)
            attempt.phase = Phase.WAIT
        return version, status, reason

    def begin(self, *args: Any, **kwargs: Any) -> None:
        """Read the head. Raises IncompleteRead where the peer leaves inside it."""
        data = self.tap.recv(_HEAD_SIZE)
        head = parse_head(data) if not (args or kwargs) else None
        self.tap.unread(data if head is None else data[head.size :])
        if head is None:
            super().begin(*args, **kwargs)
            self._look_for_chunks()
        else:
            self._take(head)
        if self.tap.eof:
            # http.client takes an end inside the head for its end: a cut answer would be a 200 without a body.
            raise http.client.IncompleteRead(b"")
        attempt = self.tap.attempt
        self.tap.ends_with_the_connection = self.length is None and not self.chunked
        attempt.phase, attempt.status = Phase.BODY, self.status
        self.tap.until, self.tap.limit, self.tap.is_before_body = None, attempt.limits.idle, True

    def close(self) -> None:
        """Close it, after another thread's read: that one holds the lock of the file that is closed here."""
        self.tap.wake()
        try:  # noqa: SIM105  # on each call, and `suppress` would take 1 µs
            super().close()
        except (
            RuntimeError
        ):  # a greenlet of this thread holds it, or what a signal has interrupted: it lets go
            pass

    def _take(self, head: Head) -> None:
        """Have read this head, as http.client would have."""
        self.code = self.status = head.status
        self.reason, self.version = head.reason, 11
        self.headers = self.msg = head.fields
        self.chunked, self.length = head.is_chunked, head.length
        if self.chunked:
            self.chunk_left = self.length = None
        if is_bodiless(self):
            self.length = 0
        self.will_close = head.closes or not (self.chunked or self.length is not None)

    def _look_for_chunks(self) -> None:
        """Find the chunks that http.client has not seen in the head."""
        fields: list[str] = self.headers.get_all("Transfer-Encoding", [])
        if not self.chunked and is_chunked(",".join(fields)):
            self.chunked = True
            self.chunk_left = None
            self.length = 0 if is_bodiless(self) else None
            self.will_close = self._check_close()  # type: ignore[attr-defined]


def is_bodiless(response: http.client.HTTPResponse) -> bool:
    """Whether a response has no body, whatever framing its head announces (RFC 9112 6.3)."""
    status = response.status
    return status in _BODILESS or status < 200 or response._method == "HEAD"  # type: ignore[attr-defined]


def _may_leave_time_to_the_kernel(sock: socket.socket) -> bool:
    """Whether reads may block, within a limit that the kernel keeps: a system call less for each.

    Not on the main thread: it gets the signals, and Python begins an interrupted read anew with the whole limit.
    """
    return (
        sys.platform == "linux"
        and type(sock) is _Ordinary
        and threading.current_thread() is not threading.main_thread()
    )


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", *divmod(math.ceil(seconds * 1e6), 1_000_000))


def deadline_of(attempt: Attempt, limit: float | None) -> float | None:
    """Return the boot time at which ``limit`` seconds from now are over; None where there is no limit."""
    return None if limit is None else attempt.call.boot() + limit


def _see_death(sock: socket.socket) -> None:
    """Raise where TLS would turn a reset, or a dead path, into an end, as Python 3.10 to 3.12.1 have it."""
    if isinstance(sock, ssl.SSLSocket) and not sock.pending():
        # Of the TCP connection below: it waits as long as a read would, and takes nothing away.
        socket.socket.recv(sock, 1, socket.MSG_PEEK)
