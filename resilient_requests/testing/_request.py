"""Reads one HTTP/1.1 request from a wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from resilient_requests.testing._wire import BLOCK, Ended, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

# Their values stay out of what a failed assertion prints into the log of somebody's CI.
_CREDENTIALS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"}
)


@dataclass
class ReceivedRequest:
    """A request whose head was read; ``body`` and ``complete`` grow while the rest is read.

    ``connection`` and ``number`` count from 1; ``at`` is the monotonic time at which the head was complete. Its
    ``repr`` shows neither the query nor the values of headers that hold credentials, such as ``Authorization``.
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
        shown = tuple(
            (name, "***" if name.lower() in _CREDENTIALS else value) for name, value in self.headers
        )
        path, mark, _ = self.target.partition("?")
        return (
            f"ReceivedRequest(method={self.method!r}, target={path + (mark and '?***')!r}, headers={shown!r}, "
            f"connection={self.connection}, number={self.number}, at={self.at!r}, complete={self.complete})"
        )

    @property
    def body(self) -> bytes:
        """The bytes of the body that were read so far, without the framing of chunks."""
        return bytes(self._body)

    @property
    def size(self) -> int:
        """How many bytes of the body were read so far."""
        return len(self._body)

    def add(self, piece: bytes, *, complete: bool) -> None:
        """Note more of the body."""
        self._body += piece
        self.complete = complete

    @property
    def path(self) -> str:
        """The target without scheme, host and query."""
        if self.target.startswith(
            "/"
        ):  # RFC 9112, 3.2.1; urlsplit() takes what follows two slashes for a host
            return self.target.partition("?")[0]
        return urlsplit(self.target).path if self.method != "CONNECT" else self.target

    def header(self, name: str) -> str | None:
        """The value of the first header of that name, in any case."""
        return find(self.headers, name)


def find(headers: tuple[tuple[str, str], ...], name: str) -> str | None:
    """The value of the first header of that name, in any case."""
    return next((value for key, value in headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Head:
    """The request line and the header fields."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def header(self, name: str) -> str | None:
        """The value of the first header of that name, in any case."""
        return find(self.headers, name)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return (self.header("Transfer-Encoding") or "").lower() == "chunked"

    @property
    def length(self) -> int:
        """The announced length of the body, if it is not chunked."""
        return int(self.header("Content-Length") or 0)

    @property
    def has_body(self) -> bool:
        """Whether anything is to be read after the head."""
        return self.chunked or self.length > 0

    @property
    def wants_close(self) -> bool:
        """Whether no further request may follow on this connection."""
        said = (self.header("Connection") or "").lower()
        return said == "close" or (self.version == "HTTP/1.0" and said != "keep-alive")


def read_head(wire: Wire) -> Head:
    """The head of the next request; answers 400 to what cannot be one, such as a TLS handshake."""
    if not wire.buffer:
        wire.need()
    if not wire.buffer[:1].isalpha():
        _refuse(wire)
    first, *lines = wire.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        head = Head(method, target, version, parse_fields(lines))
        _ = head.length
    except ValueError:
        _refuse(wire)
    return head


def parse_fields(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Names and values of header fields; raises ValueError for a line that is none."""
    pairs = (line.split(":", 1) for line in lines if line)
    return tuple((name, value.strip()) for name, value in pairs)


def _refuse(wire: Wire) -> NoReturn:
    wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    wire.fin(notify=True, unread=True)


class Body:
    """The body of one request, of known length or chunked; read by one thread."""

    def __init__(self, wire: Wire, head: Head) -> None:
        self._wire = wire
        self._chunked = head.chunked
        self._left = 0 if head.chunked else head.length
        self.done = not head.has_body

    def read(self, most: int = BLOCK) -> bytes:
        """At most so many bytes; b"" at the end."""
        if self._chunked and not self._left:
            self._next_chunk()
        if self.done:
            return b""
        data = self._wire.take(min(most, self._left))
        self._left -= len(data)
        if self._chunked and not self._left:
            self._wire.take_until(b"\r\n")
        self.done = not self._chunked and not self._left
        return data

    def _next_chunk(self) -> None:
        line = self._wire.take_until(b"\r\n")
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise Ended("error", "server") from None
        if not self._left:
            while self._wire.take_until(b"\r\n") != b"\r\n":  # trailers
                pass
            self.done = True
