"""The upstream: a process of its own with a thread per connection.

It sends bytes rendered beforehand.
"""

from __future__ import annotations

import functools
import json
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["event", "main"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
_BLOCK = 64 * 1024
_CHUNKED = b"Transfer-Encoding: chunked\r\n"

_COMPLETION = json.dumps(
    {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion",
        "created": 1741569952,
        "model": "some-model-2025",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello! How can I assist you today?",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
    }
).encode()


def event(created: int, word: str = " hello") -> bytes:
    """Return one event of some 300 bytes, like those of chat APIs.

    ``created`` may be a time stamp.
    """
    return (
        b'data: {"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",'
        b'"object":"chat.completion.chunk","created":%d,'
        b'"model":"some-model-2025","service_tier":"default","system_fingerprint":"fp_44709d6fcb",'
        b'"choices":[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}],'
        b'"usage":null}\n\n' % (created, word.encode())
    )


def _head(*lines: bytes, kind: bytes = b"text/event-stream; charset=utf-8") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: upstream\r\n"
        b"Cache-Control: no-cache\r\nX-Request-Id: req_0123456789abcdef\r\nContent-Type: "
        + kind
        + b"\r\n"
        + b"".join(lines)
        + b"\r\n"
    )


def _answer(*lines: bytes) -> bytes:
    return (
        _head(b"Content-Length: %d\r\n" % len(_COMPLETION), *lines, kind=b"application/json")
        + _COMPLETION
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Framing:
    """The form of a stream's bytes on the wire; one per response, since compression has a state."""

    def __init__(self, name: str) -> None:
        self.is_chunked = name != "close"
        self.keeps_open = self.is_chunked
        self._gzip = zlib.compressobj(6, zlib.DEFLATED, 31) if name == "gzip" else None

    def head(self) -> bytes:
        lines = [_CHUNKED if self.is_chunked else b"Connection: close\r\n"]
        if self._gzip:
            lines.append(b"Content-Encoding: gzip\r\n")
        return _head(*lines)

    def piece(self, data: bytes) -> bytes:
        if self._gzip:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        return _chunk(data) if self.is_chunked else data

    def end(self) -> bytes:
        data = self._gzip.flush() if self._gzip else b""
        return (_chunk(data) if data else b"") + (b"0\r\n\r\n" if self.is_chunked else b"")


@functools.cache
def _burst(framing: str, events: int) -> bytes:
    """Return a whole response.

    It has chunks of 64 KiB that cut events anywhere, or a chunk per event ("each").
    """
    how = _Framing(framing)
    parts = [event(1741569952, f" word{n}") for n in range(events)] + [b"data: [DONE]\n\n"]
    if framing != "each":
        body = b"".join(parts)
        parts = [body[at : at + _BLOCK] for at in range(0, len(body), _BLOCK)]
    return how.head() + b"".join(how.piece(part) for part in parts) + how.end()


def _repeat(sock: socket.socket, times: int, events: int) -> None:
    """Send the same events again and again."""
    how = _Framing("chunked")
    block = how.piece(b"".join(event(1741569952, f" word{n}") for n in range(events)))
    sock.sendall(how.head())
    for _ in range(times):
        sock.sendall(block)
    sock.sendall(how.piece(b"data: [DONE]\n\n") + how.end())


def _drip(sock: socket.socket, framing: str, events: int, gap: float, burst: int = 1) -> None:
    """Send events that carry the time at which they were written, ``gap`` seconds apart."""
    how = _Framing(framing)
    sock.sendall(how.head())
    due = time.perf_counter()
    for _ in range(events // burst):
        due += gap
        time.sleep(max(due - time.perf_counter(), 0.0))
        for _ in range(burst):
            sock.sendall(how.piece(event(time.perf_counter_ns())))
    time.sleep(gap)
    sock.sendall(how.piece(b"data: [DONE]\n\n") + how.end())


def _chat(sock: socket.socket, events: int, gap: float) -> None:
    """Send an answer as it is made, ``gap`` seconds before each event.

    The end mark follows, and then the end of the body.
    """
    how = _Framing("each")
    sock.sendall(how.head())
    for _ in range(events):
        time.sleep(gap)
        sock.sendall(how.piece(event(1741569952)))
    sock.sendall(how.piece(b"data: [DONE]\n\n"))
    sock.sendall(how.end())


def _line(sock: socket.socket, size: int) -> None:
    """Send one event whose data is a single line."""
    how = _Framing("chunked")
    block = how.piece(b"x" * _BLOCK)
    sock.sendall(how.head() + how.piece(b"data: "))
    for _ in range(size // _BLOCK):
        sock.sendall(block)
    sock.sendall(how.piece(b"\n\n") + how.end())


class _Upstream:
    """Answers requests by their path; counts the connections it was asked for."""

    def __init__(self) -> None:
        self.accepted = 0

    def answer(self, sock: socket.socket, path: str) -> bool:
        """Answer one request; return whether the connection stays open."""
        _, kind, *rest = path.split("/")
        if kind == "post":
            sock.sendall(_answer())
        elif kind == "fresh":
            sock.sendall(_answer(b"Connection: close\r\n"))
            return False
        elif kind == "accepted":
            body = b"%d" % self.accepted
            sock.sendall(_head(b"Content-Length: %d\r\n" % len(body), kind=b"text/plain") + body)
        elif kind == "burst":
            sock.sendall(_burst(rest[0], int(rest[1])))
        elif kind == "repeat":
            _repeat(sock, int(rest[0]), int(rest[1]))
        elif kind == "drip":
            _drip(sock, rest[0], int(rest[1]), float(rest[2]), int(rest[3]))
        elif kind == "chat":
            _chat(sock, int(rest[0]), float(rest[1]))
        elif kind == "line":
            _line(sock, int(rest[1]))
        return rest[:1] != ["close"]

    def serve(self, sock: socket.socket, wrap: Callable[[socket.socket], socket.socket]) -> None:
        """Answer the requests of one connection until it ends."""
        self.accepted += 1
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with wrap(sock) as wire:
                for path in _requests(wire):
                    if not self.answer(wire, path):
                        return
        except OSError:
            return  # a client that leaves, or that does not trust us
        finally:
            sock.close()

    def listen(self, wrap: Callable[[socket.socket], socket.socket]) -> int:
        """Accept connections in a thread; return the port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=self.serve, args=(sock, wrap), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port


def _requests(sock: socket.socket) -> Iterator[str]:
    """Read requests; yield the path of each."""
    buffer = b""
    while True:
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            data = sock.recv(_BLOCK)
            if not data:
                return
            buffer += data
        head = buffer[:end].lower()
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        while len(buffer) < whole:
            buffer += sock.recv(_BLOCK)
        buffer = buffer[whole:]
        yield head.split(b" ", 2)[1].decode()


def _tls(directory: str) -> tuple[ssl.SSLContext, str] | None:
    """Return a context, and a bundle of usual size that trusts it.

    Return None if certifi or trustme is not installed.
    """
    try:
        import certifi
        import trustme
    except ImportError:
        return None
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    bundle = Path(directory, "bundle.pem")
    bundle.write_bytes(certifi.contents().encode() + b"\n" + ca.cert_pem.bytes())
    return context, str(bundle)


def main() -> None:
    """Print where it listens, as JSON, and serve until standard input ends."""
    sys.setswitchinterval(0.001)
    upstream = _Upstream()
    with tempfile.TemporaryDirectory() as directory:
        where: dict[str, Any] = {
            "http": upstream.listen(lambda sock: sock),
            "https": None,
            "bundle": None,
        }
        tls = _tls(directory)
        if tls is not None:
            context, where["bundle"] = tls
            where["https"] = upstream.listen(
                lambda sock: context.wrap_socket(sock, server_side=True)
            )
        print(json.dumps(where), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
