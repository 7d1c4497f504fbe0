"""A proxy for CONNECT and plain HTTP that forgets connections.

It forgets silently, with a FIN or with a reset.

`lab.network` runs it with the standard library alone: ``forgetful_proxy.py LISTENER_FD MEMORY
MANNER``.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

PATIENCE = 60.0
"""Seconds that any wait may last."""
BLOCK = 65536
HEAD_LIMIT = 65536


class Forgotten(Exception):
    """The connection was idle for longer than the proxy remembers."""


def serve(client: socket.socket, memory: float, manner: str) -> None:
    """Carry one client's connection; a second target on it is not supported."""
    client.settimeout(PATIENCE)
    with client, suppress(OSError, ValueError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(BLOCK)
            if not data or len(head) > HEAD_LIMIT:
                return
            head += data
        method, target, rest = head.split(b" ", 2)
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            server = socket.create_connection((host, int(port)), timeout=PATIENCE)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            first = head.partition(b"\r\n\r\n")[2]
        else:
            url = urlsplit(target.decode())
            server = socket.create_connection(
                (url.hostname or "", url.port or 80), timeout=PATIENCE
            )
            # Origins must accept the absolute form (RFC 9112 3.2.2), so later requests need no
            # rewriting.
            first = b" ".join((method, target, rest))
        with server:
            server.sendall(first)
            try:
                _carry(client, server, memory, manner)
            except Forgotten:
                _swallow(client)


def _carry(client: socket.socket, server: socket.socket, memory: float, manner: str) -> None:
    used = time.monotonic()
    while True:
        left = PATIENCE if manner == "silence" else max(used + memory - time.monotonic(), 0.0)
        ready, _, _ = select.select([client, server], [], [], left)
        if not ready:
            if manner == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if time.monotonic() - used > memory:
            raise Forgotten
        for one in ready:
            data = one.recv(BLOCK)
            if not data:
                return
            (server if one is client else client).sendall(data)
        used = time.monotonic()


def _swallow(client: socket.socket) -> None:
    """Read and answer nothing.

    The client's kernel sees acknowledgements, so no socket option notices.
    """
    while client.recv(BLOCK):
        pass


def main() -> None:
    """Accept until killed."""
    fd, memory, manner = sys.argv[1:]
    listener = socket.socket(fileno=int(fd))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, float(memory), manner), daemon=True).start()


if __name__ == "__main__":
    main()
