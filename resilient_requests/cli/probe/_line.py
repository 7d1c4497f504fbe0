"""One connection of a probe: opened, left idle by its owner, looked at, and used once more."""

from __future__ import annotations

import enum
import http.client
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3.exceptions
from urllib3.util.wait import wait_for_read

from resilient_requests.call import describe, now
from resilient_requests.transport import parse_hint, socket_options

if TYPE_CHECKING:
    from resilient_requests.cli.probe._target import Target
    from resilient_requests.transport import TCPKeepAlive

__all__ = ["BROKEN", "Facts", "Finding", "Line", "Result"]

BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
_CONNECT = 10.0
_FIRST_ANSWER = 15.0
_MOST = 1 << 20  # of a body that has to be read before the connection can be used again
_NOW = getattr(socket, "MSG_DONTWAIT", 0)


class Result(str, enum.Enum):
    """What became of an idle connection; the values are for people and for JSON."""

    REUSED = "reused"
    CLOSED = "closed by the peer"  # a FIN, seen before use
    RESET_IDLE = "reset while idle"  # seen before use, too
    RESET = "reset on reuse"
    BLACK_HOLE = "black hole"
    CONTROL_FAILED = "control failed"  # a fresh connection failed as well
    NOT_KEPT = "not kept"  # the server ends each connection after one answer
    NOT_OPENED = "not opened"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a fresh connection and its first answer tell; durations in seconds."""

    address: str
    tls: str | None
    http: str
    connect: float
    request: float
    status: int
    hint: float | None
    is_kept: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of an idle connection, ``after`` seconds of waiting, and the error in the words of a log."""

    result: Result
    after: float = 0.0
    error: str | None = None


class Line:
    """One keep-alive connection; used by one thread, but for ``abandon``."""

    def __init__(self, target: Target, probes: TCPKeepAlive | None = None) -> None:
        self._target = target
        self._options = None if probes is None else socket_options(probes)
        self._conn: Any = None
        self._twin: socket.socket | None = None

    def open(self) -> Facts:
        """Dial, and make the first request. Raises any of ``BROKEN``."""
        since = now()
        self._conn = conn = self._target.dial(_CONNECT, self._options)
        connect = since.age(now())
        # TLS hides what the TCP connection itself has to say: a FIN, a reset, nothing.
        self._twin = socket.fromfd(conn.sock.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        tls = getattr(conn.sock, "version", lambda: None)()
        address = conn.sock.getpeername()[0]
        conn.timeout = _FIRST_ANSWER
        conn.sock.settimeout(_FIRST_ANSWER)
        since = now()
        self._target.ask(conn)
        response = self._read(_FIRST_ANSWER)
        return Facts(
            address=address,
            tls=tls,
            http={10: "HTTP/1.0", 11: "HTTP/1.1"}.get(response.version, f"HTTP {response.version}"),
            connect=connect,
            request=since.age(now()),
            status=response.status,
            hint=parse_hint(response.headers.get("Keep-Alive")),
            is_kept=conn.sock is not None,
        )

    def _read(self, limit: float) -> Any:
        """Read an answer; one that does not end within limits ends the connection, as an endless stream would."""
        response, left, since = self._conn.getresponse(), _MOST, now()
        while data := response.read1(65536, decode_content=False):
            left -= len(data)
            if left <= 0 or since.age(now()) > limit:
                self._conn.close()
                break
        response.close()
        return response

    def look(self) -> Finding | None:
        """Return what has happened while it was idle; None where nothing has."""
        assert self._twin is not None
        if not wait_for_read(self._twin, timeout=0):
            return None
        try:
            is_end = not self._twin.recv(1, socket.MSG_PEEK | _NOW) or self._is_farewell()
            return Finding(result=Result.CLOSED, error=None if is_end else "unsolicited bytes")
        except (BlockingIOError, ssl.SSLWantReadError):
            return None  # TLS records without content, such as session tickets
        except OSError as error:
            return Finding(result=Result.RESET_IDLE, error=describe(error))

    def _is_farewell(self) -> bool:
        """Whether the bytes that have arrived are only TLS's way to end. Raises SSLWantReadError for lesser records."""
        sock = self._conn.sock
        if not isinstance(sock, ssl.SSLSocket):
            return False
        sock.settimeout(0)
        return not sock.recv(1)

    def reuse(self, limit: float) -> Finding:
        """Make the second request, and wait at most ``limit`` seconds for its answer."""
        conn, since = self._conn, now()
        conn.timeout = limit
        conn.sock.settimeout(limit)
        try:
            self._target.ask(conn)
            self._await_byte(limit)
            self._read(limit)
        except (_Left, http.client.RemoteDisconnected):
            # The FIN was on its way when the request was sent: not the path, a policy of the peer's.
            finding = Finding(result=Result.CLOSED, error="while the request was sent")
        except BROKEN as error:
            result = Result.BLACK_HOLE if _is_silence(error) else Result.RESET
            finding = Finding(result=result, error=describe(error))
        else:
            finding = Finding(result=Result.REUSED)
        return Finding(result=finding.result, error=finding.error, after=since.age(now()))

    def _await_byte(self, limit: float) -> None:
        """Wait for the answer's first byte beneath TLS, which reports a reset as an end on some versions."""
        assert self._twin is not None
        if not wait_for_read(self._twin, timeout=limit):
            raise TimeoutError("timed out")
        # A reset behind a FIN reads as an end: the peer had closed before it rejected the request.
        if not self._twin.recv(1, socket.MSG_PEEK | _NOW):
            raise _Left

    def abandon(self) -> None:
        """Wake whoever waits for this connection; from any thread."""
        if self._twin is not None:
            with suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        if self._conn is not None:
            self._conn.close()
        if self._twin is not None:
            self._twin.close()


class _Left(Exception):
    """The peer had closed the connection before it saw the request."""


def _is_silence(error: BaseException) -> bool:
    # ETIMEDOUT is the kernel's word for the same silence: keep-alive probes, or data, were not acknowledged.
    return isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))
