"""Sockets, split and json.loads: a floor that no client can undercut by much."""

from __future__ import annotations

import json
import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Any

from benchmarks.contenders._contender import BODY, HEADERS
from benchmarks.contenders._contender import Contender as _Contender

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Contender"]

_READ = 64 * 1024


class Contender(_Contender):
    """Expects exactly the bytes that the upstream sends, and handles nothing else."""

    _kept: socket.socket | None = None

    def post(self, path: str) -> None:
        sock = self._kept or self._dial(path)
        sock.sendall(_request(path))
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += sock.recv(_READ)
        at = data.index(b"Content-Length: ") + 16
        whole = end + 4 + int(data[at : data.index(b"\r", at)])
        while len(data) < whole:
            data += sock.recv(_READ)
        if b"Connection: close" in data[:end]:
            sock.close()
            return
        self._kept = sock

    def events(self, path: str) -> Iterator[Any]:
        for data in self._data(path):
            if data != b"[DONE]":
                yield json.loads(data)

    def _data(self, path: str) -> Iterator[bytes]:
        held = b""
        for block in self._blocks(path):
            *whole, held = (held + block).split(b"\n\n") if held else block.split(b"\n\n")
            for each in whole:
                yield each[6:]

    def lines(self, path: str) -> Iterator[bytes]:
        held: list[bytes] = []
        for block in self._blocks(path):
            first, *rest = block.split(b"\n")
            held.append(first)
            for each in rest:
                yield b"".join(held)
                held = [each]

    def _blocks(self, path: str) -> Iterator[bytes]:
        with self._dial(path) as sock:
            sock.sendall(_request(path))
            data = b""
            while (end := data.find(b"\r\n\r\n")) < 0:
                data += sock.recv(_READ)
            blocks = _received(sock, data[end + 4 :])
            if b"chunked" in data[:end]:
                blocks = _unchunked(blocks)
            if b"gzip" in data[:end]:
                blocks = map(zlib.decompressobj(31).decompress, blocks)
            yield from blocks

    def _dial(self, path: str) -> socket.socket:
        if not path.startswith("tls:"):
            return self._nodelay(socket.create_connection(("127.0.0.1", self.upstream.http)))
        sock = self._nodelay(socket.create_connection(("127.0.0.1", self.upstream.https)))
        return self._context().wrap_socket(sock, server_hostname="127.0.0.1")

    _made: ssl.SSLContext | None = None

    def _context(self) -> ssl.SSLContext:
        if self._made is None:
            self._made = ssl.create_default_context(cafile=self.upstream.bundle)
        return self._made

    @staticmethod
    def _nodelay(sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _request(path: str) -> bytes:
    body = json.dumps(BODY).encode()
    head = (
        f"POST {path.removeprefix('tls:')} HTTP/1.1\r\n"
        f"Host: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    )
    return (
        head.encode()
        + b"".join(f"{k}: {v}\r\n".encode() for k, v in HEADERS.items())
        + b"\r\n"
        + body
    )


def _received(sock: socket.socket, data: bytes) -> Iterator[bytes]:
    while True:
        if data:
            yield data
        data = sock.recv(_READ)
        if not data:
            return


def _unchunked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Take the chunks' frames away; pieces of a chunk are passed on as they come."""
    data, left = b"", 0
    for block in blocks:
        data, at, parts = data + block, 0, []
        while True:
            if left > 2:
                part = data[at : at + left - 2]
                parts.append(part)
                at += len(part)
                left -= len(part)
                if left > 2:
                    break
            if len(data) < at + left:
                break
            at += left
            left = 0
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            left = int(data[at:end], 16) + 2
            at = end + 2
            if left == 2:
                yield b"".join(parts)
                return
        data = data[at:]
        yield b"".join(parts)
