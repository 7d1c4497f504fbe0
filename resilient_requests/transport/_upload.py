"""Sending one request: in slices that each have the write limit, with an ear for an early answer."""

from __future__ import annotations

import _socket
import re
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from urllib3.util.wait import wait_for_read, wait_for_socket

if TYPE_CHECKING:
    from resilient_requests.call import Attempt

__all__ = ["Upload"]

_SLICE = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r\n]")
_BLANK_LINE = re.compile(rb"\n\r?\n")


class Upload:
    """Sends the pieces of one request on one connection; belongs to the thread that sends.

    An error status of the server ends the sending (RFC 9112 9.5). Any other early answer is kept
    for the reader of the response.
    """

    def __init__(self, sock: Any, attempt: Attempt) -> None:
        self._sock = sock
        self._attempt = attempt
        self._slices = self._listens = _can_wait(sock)
        self._at = 0  # where the next head begins in what has come early

    def send(self, data: Any) -> None:
        """Send a piece. Raises BrokenPipeError as soon as the server refuses the rest."""
        attempt, sock = self._attempt, self._sock
        size = len(data) if isinstance(data, (bytes, bytearray, str)) else memoryview(data).nbytes
        attempt.sending()
        if attempt.sends > 1 and self._listens:
            self._listen()
        if size <= _SLICE or not self._slices:
            sock.sendall(data)
            attempt.sent(size)
        else:
            self._send_sliced(data)

    def _send_sliced(self, data: Any) -> None:
        sock, attempt = self._sock, self._attempt
        sock.settimeout(0)
        try:
            # Released at once, also after an error: the caller may want to resize its bytearray.
            with memoryview(data) as given, given.cast("B") as view:
                at = 0
                while at < len(view):
                    at += self._send_slice(view, at)
                    attempt.token.check()
                    if self._listens and at < len(view):
                        self._listen()
        finally:
            sock.settimeout(attempt.limits.write)

    def _send_slice(self, view: memoryview, at: int) -> int:
        sock, attempt = self._sock, self._attempt
        sent = 0
        with view[at : at + _SLICE] as piece:
            try:
                sent = sock.send(piece)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                limit = attempt.token.clip(attempt.limits.write)
                if not wait_for_socket(sock, read=self._listens, write=True, timeout=limit):
                    raise TimeoutError("timed out") from None
        attempt.sent(sent)
        return sent

    def _listen(self) -> None:
        """Read, without waiting, what the server says meanwhile; stop listening when it is too much to keep."""
        sock, attempt = self._sock, self._attempt
        if not wait_for_read(sock, timeout=0):
            return
        limit = sock.gettimeout()
        sock.settimeout(0)
        try:
            data = sock.recv(_SLICE) or b""  # 0 is said by urllib3's TLS inside TLS
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # a TLS record without application data, such as a session ticket
        finally:
            sock.settimeout(limit)
        attempt.heard(data)
        if not data or (self._final_status() or 0) >= 400:
            raise BrokenPipeError("the server has ended the request")
        self._listens = len(attempt.early) < _SLICE

    def has_whole_answer(self) -> bool:
        """Look once, without waiting, whether the head of a final answer has come: it stands then."""
        if self._listens:
            with suppress(OSError):
                self._listen()
        is_final = (self._final_status() or 0) >= 200
        return is_final and _BLANK_LINE.search(self._attempt.early, self._at) is not None

    def _final_status(self) -> int | None:
        """Return the status of the first final head that has begun; None while none has.

        Only that one decides: a status line in the body of an answer is the caller's own text, echoed.
        """
        early = self._attempt.early
        while (status := _STATUS.match(early, self._at)) is not None:
            if not 100 <= int(status[1]) < 200 or status[1] == b"101":
                return int(status[1])
            end = _BLANK_LINE.search(early, self._at)
            if end is None:
                return None
            self._at = end.end()
        return None


def _can_wait(sock: Any) -> bool:
    """Whether a socket can send without blocking, and be read meanwhile: urllib3's TLS in TLS and pyOpenSSL cannot.

    Not by ``socket.socket``: that may have been replaced, by a function too.
    """
    return isinstance(sock, _socket.socket) or type(sock).__module__.startswith(
        ("gevent", "eventlet")
    )
