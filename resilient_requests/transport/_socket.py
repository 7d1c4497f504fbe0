"""The socket end of one response: counted, limited, and seen by the call that it belongs to."""

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

_MOMENT = 0.01
_MOST_BUFFERED = 1 << 20


class _Unset(enum.Enum):
    UNSET = "unset"


UNSET = _Unset.UNSET
"""Nobody else has set the timeout of a socket."""


class SocketReader(io.RawIOBase):
    """Reads a socket for one response: re-arms the timeout before each read, checks the call after it.

    ``limit`` is the timeout of the next read in seconds (None: none); ``until`` the boot time by which
    the whole head must have come. Can be read again after a timeout, unlike ``socket.SocketIO``.
    Belongs to the thread that reads the response, but for `wake`.
    """

    def __init__(self, sock: socket.socket, attempt: Attempt, limit: float | None) -> None:
        self.attempt = attempt
        self.limit = limit
        self.until = None if limit is None else attempt.token.boot() + limit
        self.has_surplus = False  # bytes were read that belong to no response
        self.has_ended = False  # the peer sends nothing more
        # The timeout that somebody else has set on the socket: it wins.
        self.theirs: float | _Unset | None = UNSET
        self._asked = self._armed = sock.gettimeout()  # asked for, and what the socket made of it
        self._sees_death = False
        self._is_dry = self._is_filled = self._is_waiting = self._is_closing = False
        self._early = attempt.take_early() if attempt.early else b""
        self._sock = sock
        # Keeps the descriptor open after the connection was closed, as http.client does for close-delimited bodies.
        self._file = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # http.client always asks for "rb"
        """Return the buffered reader that http.client asks a socket for."""
        return ResponseBuffer(self)

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
        self._is_filled = True
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recv(self, size: int) -> bytes:
        """Read once; b"" at the end. Raises TimeoutError after the limit, and, at an end too, the end of the call."""
        attempt = self.attempt
        token = attempt.token
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            if attempt.status is None:
                attempt.heads()
        else:
            sock = self._sock
            # Most reads have the limit that the socket has already, and a call more in each of them
            # would show. A sender knows its process: only later reads may be a forked child's.
            is_armed = self.limit == self._asked and sock.gettimeout() == self._armed
            is_bounded = self.until is not None or token.deadline is not None
            is_inherited = not token.is_sending and token.pid != os.getpid()
            if not is_armed or is_bounded or is_inherited or self.theirs is not UNSET:
                self._arm()
            try:
                self._is_waiting = True
                if self._is_closing:
                    token.cancel()
                if self._sees_death:
                    _see_death(sock)
                # urllib3's TLS inside TLS says 0 where the peer has left without a word.
                data = sock.recv(size) or b""
            except BaseException as error:
                if isinstance(error, (OSError, ValueError)):
                    token.check()
                attempt.failed(error)
                raise
            finally:
                self._is_waiting = False
            attempt.received(len(data))
        if token.end is not None:
            token.check()
        if not data:
            self.has_ended = True
        return data

    def _arm(self) -> None:
        """Set the time that the next read has; a timeout that somebody else has set is obeyed."""
        sock, token = self._sock, self.attempt.token
        if (current := sock.gettimeout()) != self._armed:
            self.theirs = self._asked = self._armed = current
        limit = self.limit
        if self.until is not None and limit is not None:
            left = self.until - token.boot()
            # The first read has the whole limit, which urllib3 has just set: to set it again is a
            # system call.
            limit = limit if limit - left < _MOMENT else max(left, 0.001)
        elif self.theirs is not UNSET:
            limit = self.theirs
        limit = token.clip(limit)
        if limit != self._asked:
            sock.settimeout(limit)
            self._asked, self._armed = limit, sock.gettimeout()

    @property
    def is_reading(self) -> bool:
        """Whether a thread waits in a read."""
        return self._is_waiting

    def limit_in(self, silence: float) -> tuple[str, float] | None:
        """Return the limit that ends a silence of so many seconds, and in how many; or None."""
        limit = self.limit if self.theirs is UNSET else self.theirs
        return None if limit is None else ("idle", limit - silence)

    def take_theirs(self) -> float | _Unset | None:
        """Return the timeout that somebody else has set since this was asked last; the caller obeys it then."""
        if (current := self._sock.gettimeout()) != self._armed:
            self.theirs = self._asked = self._armed = current
        theirs, self.theirs = self.theirs, UNSET
        return theirs

    def unread(self, data: bytes) -> None:
        """Take back bytes that `recv` has returned: the next one returns them."""
        self._early = data + self._early

    @property
    def has_unread(self) -> bool:
        """Whether there are bytes that nobody has taken."""
        return bool(self._early)

    def leave(self, surplus: bytes) -> None:
        """Note bytes that were read from the socket and belong to no response, if there are any."""
        self.has_surplus |= bool(surplus)

    def begin_body(self, limit: float | None, *, ends_with_connection: bool) -> None:
        """The head is there: from now on each read has this limit.

        ``ends_with_connection``: the body has no framing that tells its end.
        """
        self.until, self.limit, self._sees_death = None, limit, ends_with_connection

    def buffered(self, reader: io.BufferedReader) -> bytes:
        """Return, without waiting, the bytes that a reader has read ahead. Raises the end of the call."""
        if self.attempt.token.end is not None:
            self.attempt.token.check()
        if reader.raw is not self:  # http.client's own, of a response that another adapter has sent
            self.attempt.token.clip(
                None
            )  # a forked child shares with its parent whether the socket blocks
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
        """Whether a reader may have read ahead: http.client's, where that has read the head."""
        return self._is_filled or reader.raw is not self

    def peek(self, reader: io.BufferedReader) -> bytes:
        """Return, without taking them or waiting, the bytes that a reader over this has read ahead."""
        self._is_dry = True
        try:
            return reader.peek()
        finally:
            self._is_dry = False

    def wake(self) -> None:
        """End a call that another thread reads: the read that waits, and the one that is about to."""
        self._is_closing = True
        if self._is_waiting:
            self.attempt.token.cancel()

    def close(self) -> None:
        """Let go of the socket; the call then watches it no longer. Ends a call that another thread reads."""
        if not self.closed:
            self.has_surplus = self.has_surplus or bool(self._early)
            self.wake()  # closing a socket wakes nobody, and now nobody could
            self._file.close()
            if self.attempt.phase is not Phase.HANDSHAKE:  # else it was a proxy's answer to CONNECT
                self.attempt.token.release()
        super().close()


class ResponseBuffer(io.BufferedReader):
    """The buffer that http.client reads a response through; it tells, when it is closed, what is left in it."""

    raw: SocketReader

    def close(self) -> None:
        """Close the reader below, too."""
        if not self.closed and self.raw.is_buffered(self):
            self.raw.leave(self.raw.peek(self))
        super().close()


def _see_death(sock: socket.socket) -> None:
    """Raise where TLS would turn a reset, or a dead path, into an end, as Python 3.10 to 3.12.1 have it."""
    if isinstance(sock, ssl.SSLSocket) and not sock.pending():
        # Of the TCP connection below: it waits as long as a read would, and takes nothing away.
        socket.socket.recv(sock, 1, socket.MSG_PEEK)
