"""Sending one request in slices, each with the write limit, while an early answer may come."""

from __future__ import annotations

import _socket
import http.client
import re
import ssl
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import urllib3.connection
from urllib3.util.wait import wait_for_read, wait_for_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient_requests.call import Attempt

__all__ = ["Upload", "are_stock"]

_HTTP_CLIENT, _URLLIB3 = vars(http.client), vars(urllib3.connection)
# The unit of the write limit: `Timeouts.write` bounds the wait for room for each slice.
_SLICE = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r\n]")
# An end without close_notify, with it, and an error of the TCP socket below.
_TLS_ENDS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_BLANK_LINE = re.compile(rb"\n\r?\n")


class Upload:
    """Sends the pieces of one request on one connection; belongs to the thread that sends.

    An error status of the server ends the sending (RFC 9112 9.5). Any other early answer is kept
    for the reader of the response, if ``listens``. ``send`` is other code's, which then gets each
    piece whole; None sends on the socket.
    """

    def __init__(
        self,
        sock: Any,
        attempt: Attempt,
        send: Callable[[Any], object] | None = None,
        *,
        listens: bool = False,
    ) -> None:
        self._sock = sock
        self._attempt = attempt
        self._send_whole = send
        self._slices = send is None and _can_wait(sock)
        self._listens = listens and self._slices
        self._at = 0  # start of the next head in the early bytes

    def send(self, data: Any) -> None:
        """Send a piece.

        Raises BrokenPipeError as soon as the server refuses the rest, or if it has answered and
        stops reading: on that error urllib3 reads the answer.
        """
        try:
            self._send(data)
        except BaseException as error:
            attempt = self._attempt
            attempt.send_broke(error)
            if isinstance(error, _TLS_ENDS):
                # Python 3.10 to 3.12.1 report a reset over TLS as one of these. urllib3 reads an
                # early answer only after a BrokenPipeError.
                raise BrokenPipeError("the TLS connection ended") from error
            is_timeout = isinstance(error, TimeoutError) and attempt.foreign is None
            if is_timeout and self._has_whole_answer():
                message = "the server has answered, and does not read the rest"
                raise BrokenPipeError(message) from error
            raise

    def _send(self, data: Any) -> None:
        attempt = self._attempt
        size = len(data) if isinstance(data, (bytes, bytearray, str)) else memoryview(data).nbytes
        attempt.sending()
        # Not before the head is out: there is nothing to answer yet.
        if attempt.sends > 1 and self._listens:
            self._listen()
        # sendall() takes the timeout for all of its data, so only one slice is left to it.
        if self._send_whole is not None:
            self._send_by_other_code(data, size)
        elif size <= _SLICE or not self._slices:
            self._sock.sendall(data)
            attempt.sent(size)
        else:
            self._send_sliced(data)

    def _send_by_other_code(self, data: Any, size: int) -> None:
        assert self._send_whole is not None
        limit = self._sock.gettimeout()
        if limit is not None:
            self._sock.settimeout(limit * (1 + size // _SLICE))
        self._send_whole(data)
        self._sock.settimeout(limit)
        self._attempt.sent(size)

    def _send_sliced(self, data: Any) -> None:
        sock, attempt = self._sock, self._attempt
        sock.settimeout(0)
        try:
            # Released at once, even after an error: an exported bytearray cannot be resized.
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
        """Read the server's early bytes without waiting.

        It stops listening at 64 KiB: the response is then left on the socket for its reader.
        """
        sock, attempt = self._sock, self._attempt
        if not wait_for_read(sock, timeout=0):
            return
        limit = sock.gettimeout()
        sock.settimeout(0)
        try:
            data = sock.recv(_SLICE) or b""  # urllib3's TLS inside TLS returns 0 at an end
        except (BlockingIOError, ssl.SSLWantReadError):
            return  # a TLS record without application data, such as a session ticket
        finally:
            sock.settimeout(limit)
        attempt.heard(data)
        if not data or (self._final_status() or 0) >= 400:
            raise BrokenPipeError("the server has ended the request")
        self._listens = len(attempt.early) < _SLICE

    def _has_whole_answer(self) -> bool:
        """True if the head of a final answer has come whole; reads once, without waiting."""
        if self._listens:
            with suppress(OSError):
                self._listen()
        is_final = (self._final_status() or 0) >= 200
        return is_final and _BLANK_LINE.search(self._attempt.early, self._at) is not None

    def _final_status(self) -> int | None:
        """Return the status of the first final head that has begun; None if none has.

        Only the first counts: a status line after it may be the caller's own text, echoed in a
        body.
        """
        early = self._attempt.early
        while (status := _STATUS.match(early, self._at)) is not None:
            # 101 is final: another protocol follows it (RFC 9110 15.2.2).
            if not 100 <= int(status[1]) < 200 or status[1] == b"101":
                return int(status[1])
            end = _BLANK_LINE.search(early, self._at)
            if end is None:
                return None
            self._at = end.end()
        return None


def _can_wait(sock: Any) -> bool:
    """True if a socket can send without blocking and be read meanwhile.

    urllib3's TLS in TLS and pyOpenSSL cannot. ``socket.socket`` is no criterion: another package
    may have replaced it, even by a function.
    """
    return isinstance(sock, _socket.socket) or type(sock).__module__.startswith(
        ("gevent", "eventlet")
    )


def are_stock(*methods: Any) -> bool:
    """Return True if these methods of a connection are urllib3's and http.client's own."""
    for method in methods:
        if type(method) is not types.MethodType:  # a mock, or a wrapper that looks like one
            return False
        module = getattr(method, "__globals__", None)
        if module is not _HTTP_CLIENT and module is not _URLLIB3:
            return False
    return True
