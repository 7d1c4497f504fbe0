"""Reads one HTTP/1.1 request from a socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from resilient_requests.testing._socket import BLOCK, Ended, ServerSocket

if TYPE_CHECKING:
    from collections.abc import Iterable

# pytest prints the repr of a request if an assertion fails, and many people read CI logs.
_CREDENTIALS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"}
)


@dataclass
class ReceivedRequest:
    """A request with a complete head; ``body`` and ``complete`` grow while the rest is read.

    ``connection`` and ``number`` count from 1. ``at`` is the monotonic time at which the head was
    complete. The ``repr`` hides the query and the values of headers that hold credentials, such as
    ``Authorization``.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    number: int
    at: float
    complete: bool = False
    _body: bytearray = field(default_factory=bytearray)

    def __repr__(self) -> str:
        headers = tuple(
            (name, "***" if name.lower() in _CREDENTIALS else value) for name, value in self.headers
        )
        path, mark, _ = self.target.partition("?")
        target = path + "?***" if mark else path
        return (
            f"ReceivedRequest(method={self.method!r}, target={target!r}, headers={headers!r}, "
            f"connection={self.connection}, number={self.number}, at={self.at!r}, "
            f"complete={self.complete})"
        )

    @property
    def body(self) -> bytes:
        """The bytes of the body that were read so far, without chunk framing."""
        return bytes(self._body)

    @property
    def size(self) -> int:
        """The number of bytes of the body that were read so far."""
        return len(self._body)

    def _add(self, piece: bytes, *, complete: bool) -> None:
        self._body += piece
        self.complete = complete

    @property
    def path(self) -> str:
        """The target without scheme, host and query."""
        # RFC 9112 3.2.1. urlsplit() would take a path that begins with two slashes for a host.
        if self.target.startswith("/"):
            return self.target.partition("?")[0]
        return urlsplit(self.target).path if self.method != "CONNECT" else self.target

    def header(self, name: str) -> str | None:
        """Return the value of the first header of that name, in any case; None if there is none."""
        return _find(self.headers, name)


def _find(headers: tuple[tuple[str, str], ...], name: str) -> str | None:
    return next((value for key, value in headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class RequestHead:
    """The request line and the header fields."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of the first header of that name, in any case; None if there is none."""
        return _find(self.headers, name)

    @property
    def chunked(self) -> bool:
        """True if the body comes in chunks."""
        return (self.header("Transfer-Encoding") or "").lower() == "chunked"

    @property
    def length(self) -> int:
        """The announced length of the body, if it is not chunked."""
        return int(self.header("Content-Length") or 0)

    @property
    def has_body(self) -> bool:
        """True if anything is left to read after the head."""
        return self.chunked or self.length > 0

    @property
    def wants_close(self) -> bool:
        """True if this request is the last of its connection."""
        # RFC 9112 9.3: HTTP/1.1 keeps a connection by default, HTTP/1.0 only if asked.
        said = (self.header("Connection") or "").lower()
        return said == "close" or (self.version == "HTTP/1.0" and said != "keep-alive")


def read_head(sock: ServerSocket) -> RequestHead:
    """Return the head of the next request. Answers 400 to anything else, such as a handshake."""
    if not sock.buffer:
        sock.need()
    if not sock.buffer[:1].isalpha():
        _refuse(sock)
    first, *lines = sock.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        head = RequestHead(method, target, version, parse_fields(lines))
        _ = head.length
    except ValueError:
        _refuse(sock)
    return head


def parse_fields(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return names and values of header fields. Raises ValueError for a malformed line."""
    pairs = (line.split(":", 1) for line in lines if line)
    return tuple((name, value.strip()) for name, value in pairs)


def _refuse(sock: ServerSocket) -> NoReturn:
    sock.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    sock.fin(notify=True, unread=True)


class RequestBody:
    """The body of one request, of known length or chunked; read by one thread."""

    def __init__(self, sock: ServerSocket, head: RequestHead) -> None:
        self._socket = sock
        self._chunked = head.chunked
        self._left = 0 if head.chunked else head.length
        self.done = not head.has_body

    def read(self, most: int = BLOCK) -> bytes:
        """Return at most so many bytes; b"" at the end."""
        if self._chunked and not self._left:
            self._next_chunk()
        if self.done:
            return b""
        data = self._socket.take(min(most, self._left))
        self._left -= len(data)
        if self._chunked and not self._left:
            self._socket.take_until(b"\r\n")
        self.done = not self._chunked and not self._left
        return data

    def _next_chunk(self) -> None:
        line = self._socket.take_until(b"\r\n")
        try:
            self._left = int(line.split(b";")[0], 16)  # extensions follow: RFC 9112 7.1.1
        except ValueError:
            raise Ended("error", "server") from None
        if not self._left:
            while self._socket.take_until(b"\r\n") != b"\r\n":  # trailers: RFC 9112 7.1.2
                pass
            self.done = True
