"""Addresses on loopback that answer, refuse or swallow, as a resolver lists them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from resilient_requests.transport.dial._addresses import AddressInfo


def info(host: str, port: int) -> AddressInfo:
    """One item of ``socket.getaddrinfo()``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address: tuple[Any, ...] = (host, port, 0, 0) if ":" in host else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


@contextlib.contextmanager
def _bound(host: str) -> Iterator[tuple[socket.socket, AddressInfo]]:
    with socket.socket(info(host, 0)[0]) as sock:
        sock.bind((host, 0))
        yield sock, info(*sock.getsockname()[:2])


@contextlib.contextmanager
def answering(host: str = "127.0.0.1") -> Iterator[AddressInfo]:
    """A port on which somebody listens."""
    with _bound(host) as (sock, found):
        sock.listen(1024)  # without an accept, closed connections stay in the queue
        yield found


@contextlib.contextmanager
def refusing(host: str = "127.0.0.1") -> Iterator[AddressInfo]:
    """A port on which nobody listens, and nobody will."""
    with _bound(host) as (_, found):
        yield found


class Swallowing:
    """A port that does not answer, since the queue of its listener is full; until it is drained."""

    def __init__(self, sock: socket.socket, found: AddressInfo) -> None:
        self._sock = sock
        self._fillers: list[socket.socket] = []
        self.info = found

    def fill(self) -> None:
        """Take all places in the queue."""
        self._sock.listen(0)
        with contextlib.suppress(TimeoutError):
            for _ in range(16):
                self._fillers.append(filler := socket.socket(self.info[0]))
                filler.settimeout(0.05)
                filler.connect(self.info[4])

    def empty(self) -> None:
        """Close the connections that fill the queue."""
        while self._fillers:
            self._fillers.pop().close()

    def drain(self) -> None:
        """Make room: the next SYN, which the client repeats after a second, is answered."""
        self.empty()
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sock.accept()[0].close()


@contextlib.contextmanager
def swallowing(host: str = "127.0.0.1") -> Iterator[Swallowing]:
    """A port at which dials hang, as on a path that drops packets."""
    with _bound(host) as (sock, found):
        made = Swallowing(sock, found)
        try:
            made.fill()
            yield made
        finally:
            made.empty()


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[AddressInfo]) -> list[str]:
    """Have ``<name>.test`` resolve so; returns the names that are asked for, one by one."""
    asked: list[str] = []
    stock = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if not host.endswith(".test"):
            return stock(host, *args, **kwargs)
        asked.append(host)
        return names[host.removesuffix(".test")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked
