"""The socket end of one response: counted, limited, and ended with the call that it belongs to."""

from __future__ import annotations

import enum
import io
import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilient_requests.call import Phase

if TYPE_CHECKING:
    from resilient_requests.call import Attempt

__all__ = ["UNSET", "ResponseBuffer", "SocketReader"]

# Seconds below which a new timeout is not worth the system call that sets it.
_MOMENT = 0.01
# More than any reader has read ahead: http.client's buffers hold 8 KiB.
_MOST_BUFFERED = 1 << 20


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET = _Unset.UNSET
"""Says that no other code has set the timeout of a socket; None would mean no timeout."""


class SocketReader(io.RawIOBase):
    """Reads a socket for one response: sets the timeout before each read, checks the call after it.

    ``limit`` is the timeout of the next read in seconds, None is no limit. ``until`` is the boot
    time by which the whole head must be there. ``held``: bytes that came early, or were taken back,
    and are read next. A read after a timeout works, unlike with ``socket.SocketIO``. Belongs to the
    thread that reads the response, except for `wake`.
    """

    has_surplus = False  # True: bytes were read that belong to no response
    has_ended = False  # True: the peer sends nothing more
    # A timeout that other code has set on the socket; it wins over ``limit``.
    theirs: float | _Unset | None = UNSET
    _sees_death = _is_dry = _is_filled = _is_waiting = _is_closing = False
    _file: Any = None  # until its constructor is through: a finalizer closes it before that, too

    def __init__(self, sock: socket.socket, attempt: Attempt, limit: float | None) -> None:
        self.attempt = attempt
        self.limit = limit
        # A total, unlike requests' read timeout: a head that drips byte by byte must end.
        self.until = None if limit is None else attempt.token.boot() + limit
        # Asked for, and read back: the socket may round.
        self._asked = self._armed = sock.gettimeout()
        self.held = attempt.take_early() if attempt.early else b""
        self._sock = sock
        # It keeps the descriptor open after the connection is closed: http.client closes the
        # connection at the head of a close-delimited body.
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # always "rb"
        """Return the buffered reader that http.client asks of a socket."""
        return ResponseBuffer(self)

    def readable(self) -> bool:
        """Return True, as io.BufferedReader requires."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._sock.fileno()

    def readinto(self, buffer: Any) -> int | None:
        """Read once into ``buffer``, as `recv`; None while only buffered bytes may be taken."""
        if self._is_dry:
            return None
        self._is_filled = True
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int) -> bytes:
        """Read once and return the bytes, b"" at the end.

        Raises TimeoutError after the limit, and the error of the call if that has ended, even at
        the end of the body.
        """
        attempt = self.attempt
        token = attempt.token
        if self.held:
            data, self.held = self.held[:size], self.held[size:]
            if attempt.status is None:
                attempt.heads()
        else:
            sock = self._sock
            # Most reads have the limit that the socket has already, so this test saves a call in
            # each. While the call sends it is in its own process: only later reads may be a forked
            # child's.
            if (
                self.limit != self._asked
                or sock.gettimeout() != self._armed
                or self.until is not None
                or token.deadline is not None
                or self.theirs is not UNSET
                or not (token.is_sending or token.pid == os.getpid())
            ):
                self._arm()
            try:
                # In this order: `wake` finds the read waiting, or its flag is found here.
                self._is_waiting = True
                if self._is_closing:
                    token.cancel()
                if self._sees_death:
                    _see_death(sock)
                # urllib3's TLS inside TLS returns 0 if the peer leaves without close_notify.
                data = sock.recv(size) or b""
            except BaseException as error:
                # A socket that was shut down fails with any error: the end of the call goes first.
                if isinstance(error, (OSError, ValueError)):
                    token.check()
                attempt.failed(error)
                raise
            finally:
                self._is_waiting = False
            attempt.received(len(data))
        # After each read: a shutdown ends a close-delimited body without an error, and bytes that
        # had arrived still come out after it.
        if token.end is not None:
            token.check()
        if not data:
            # Behind a close_notify the peer may keep the TCP connection open.
            self.has_ended, self._sees_death = True, False
        return data

    def _arm(self) -> None:
        """Set the timeout of the next read; a timeout that other code has set is obeyed."""
        sock, token = self._sock, self.attempt.token
        if (current := sock.gettimeout()) != self._armed:
            self.theirs = self._asked = self._armed = current
        limit = self.limit
        if self.until is not None and limit is not None:
            left = self.until - token.boot()
            # The first read has the whole limit, and urllib3 has just set that: setting it again
            # costs a system call.
            limit = limit if limit - left < _MOMENT else max(left, 0.001)
        elif self.theirs is not UNSET:
            limit = self.theirs
        limit = token.clip(limit)
        if limit != self._asked:
            sock.settimeout(limit)
            self._asked, self._armed = limit, sock.gettimeout()

    @property
    def is_reading(self) -> bool:
        """True if a thread waits in a read."""
        return self._is_waiting

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None."""
        limit = self.limit if self.theirs is UNSET else self.theirs
        return None if limit is None else ("idle", limit - silence)

    def take_theirs(self) -> float | _Unset | None:
        """Return the timeout that other code has set since the last call of this, else `UNSET`.

        The caller then obeys it.
        """
        if (current := self._sock.gettimeout()) != self._armed:
            self.theirs = self._asked = self._armed = current
        theirs, self.theirs = self.theirs, UNSET
        return theirs

    def unread(self, data: bytes) -> None:
        """Take back bytes that `recv` has returned; the next `recv` returns them again."""
        self.held = data + self.held

    def leave(self, surplus: bytes) -> None:
        """Record bytes, if there are any, that were read and belong to no response."""
        self.has_surplus |= bool(surplus)

    def begin_body(self, limit: float | None, *, ends_with_connection: bool) -> None:
        """Begin the body; each read has ``limit`` seconds from here on, None is no limit.

        ``ends_with_connection``: True if the body has no framing, so that only a FIN ends it.
        """
        self.until, self.limit, self._sees_death = None, limit, ends_with_connection

    def buffered(self, reader: io.BufferedReader) -> bytes:
        """Return a reader's buffered bytes without waiting. Raises the error of an ended call."""
        if self.attempt.token.end is not None:
            self.attempt.token.check()
        if reader.raw is not self:  # http.client's own: another adapter has sent the request
            # Parent and child of a fork share a socket's blocking mode: clip() refuses a child.
            self.attempt.token.clip(None)
            self._sock.settimeout(0)
            self._asked = self._armed = 0.0
            with suppress(ssl.SSLWantReadError):
                return reader.read1(_MOST_BUFFERED) or b""
            return b""
        self._is_dry = True
        try:
            return reader.read1(_MOST_BUFFERED)
        finally:
            self._is_dry = False

    def is_buffered(self, reader: io.BufferedReader) -> bool:
        """True if a reader may hold bytes: it has read from here, or it is http.client's own."""
        return self._is_filled or reader.raw is not self

    def peek(self, reader: io.BufferedReader) -> bytes:
        """Return a reader's buffered bytes without waiting, and leave them in it."""
        self._is_dry = True
        try:
            return reader.peek()
        finally:
            self._is_dry = False

    def wake(self) -> None:
        """End a call that another thread reads: a read that waits, or the next one."""
        self._is_closing = True
        if self._is_waiting:
            self.attempt.token.cancel()

    def close(self) -> None:
        """Let go of the socket, which its call then no longer watches.

        A read of another thread ends, as by `wake`.
        """
        if not self.closed and self._file is not None:
            self.has_surplus = self.has_surplus or bool(self.held)
            self.wake()  # before the close: closing a socket does not wake its reader
            self._file.close()
            if self.attempt.phase is not Phase.HANDSHAKE:  # that phase: the answer to CONNECT
                self.attempt.token.release()
        super().close()


class ResponseBuffer(io.BufferedReader):
    """The buffer through which http.client reads; at its close it reports the bytes left in it."""

    raw: SocketReader

    def close(self) -> None:
        """Close the reader below as well."""
        if not self.closed and self.raw.is_buffered(self):
            self.raw.leave(self.raw.peek(self))
        super().close()


def _see_death(sock: socket.socket) -> None:
    """Raise the error of a dead TCP connection, which TLS would report as the end of the body.

    TLS does so in Python 3.10 to 3.12.1.
    """
    if isinstance(sock, ssl.SSLSocket) and not sock.pending():
        # A peek at the TCP connection below: it waits as long as a read would, and takes no byte.
        socket.socket.recv(sock, 1, socket.MSG_PEEK)
